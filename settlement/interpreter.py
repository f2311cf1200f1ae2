"""What messages mean: one table from a message's topic to the functions that decode, authorise and execute it.

``Settlement`` is the interpreter of ``ledger.machine``. It keeps nothing but its ``Book``, which is a fold over what it
has executed: the same messages at the same instants give the same book on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger.errors import InvariantViolation
from ledger.genesis import Genesis
from ledger.machine import Admitted, Context, Machine
from ledger.messages import Envelope, Kind
from ledger.transfers import Transfers
from settlement import bodies, caps, classes, clock, closing, columns, fx, opening, payments, windows
from settlement.book import Book
from settlement.keeping import dump_book, load_book

__all__ = ["COLUMNS_TOPIC", "HANDLERS", "Handler", "Settlement"]


COLUMNS_TOPIC = "/v1/transfers"
"""The one topic whose body is binary."""


@dataclass(frozen=True, slots=True)
class Handler:
    """How one topic is carried out: may it be journaled now, and what does it do."""

    authorise: Callable[[Book, Admitted, Machine, int], None]
    execute: Callable[[Book, Admitted, Context], None]


HANDLERS: dict[str, Handler] = {
    "/v1/parties": Handler(opening.authorise_parties, opening.execute_parties),
    "/v1/keys": Handler(opening.authorise_key, opening.execute_key),
    "/v1/keys/revocations": Handler(opening.authorise_revocation, opening.execute_revocation),
    "/v1/keys/rotations": Handler(opening.authorise_rotation, opening.execute_rotation),
    "/v1/participants": Handler(opening.authorise_participant, opening.execute_participant),
    "/v1/accounts": Handler(opening.authorise_accounts, opening.execute_accounts),
    "/v1/accounts/closings": Handler(closing.authorise_closings, closing.execute_closings),
    "/v1/accounts/reopenings": Handler(closing.authorise_reopenings, closing.execute_reopenings),
    "/v1/accounts/classes": Handler(classes.authorise_classes, classes.execute_classes),
    "/v1/rules": Handler(classes.authorise_rules, classes.execute_rules),
    "/v1/issuances": Handler(opening.authorise_issuances, opening.execute_issuances),
    "/v1/caps": Handler(caps.authorise_caps, caps.execute_caps),
    "/v1/clock": Handler(clock.authorise_clock, clock.execute_clock),
    "/v1/quotes": Handler(fx.authorise_quote, fx.execute_quote),
    "/v1/payments": Handler(payments.authorise, payments.execute),
    "/v1/batches": Handler(payments.authorise, payments.execute),
    "/v1/cancellations": Handler(payments.authorise_cancellation, payments.execute_cancellation),
    COLUMNS_TOPIC: Handler(columns.authorise, columns.execute),
}
"""Every topic of ``settlement.bodies.TOPICS`` and the one in columns; statements go to ``settlement.windows``."""


class Settlement:
    """The interpreter of one ledger."""

    def __init__(self, genesis: Genesis) -> None:
        """Remember nothing but the genesis."""
        self.book = Book(genesis)

    def begin(self, machine: Machine) -> None:
        """Open the accounts of the settlement institution and the issuers."""
        opening.begin(self.book, machine)

    def decode(self, envelope: Envelope, body: bytes) -> Any:
        """Decode a body by its envelope's topic.

        Raises:
            MalformedInput: not of the topic's form, or no such topic.
        """
        if envelope.kind is Kind.STATEMENT:
            return windows.decode(envelope, body)
        if envelope.topic == COLUMNS_TOPIC:
            return columns.decode(body)
        return bodies.decode(envelope.topic, body, self.book.genesis)

    def authorise(self, admitted: Admitted, machine: Machine, timestamp_ns: int) -> None:
        """Say whether this may be journaled now; changes nothing.

        Raises:
            LedgerError: it may not.
        """
        if admitted.envelope.kind is Kind.STATEMENT:
            windows.authorise(self.book, admitted, machine, timestamp_ns)
        else:
            HANDLERS[admitted.envelope.topic].authorise(self.book, admitted, machine, timestamp_ns)

    def execute(self, admitted: Admitted, context: Context) -> None:
        """Carry an authorised message out."""
        if admitted.envelope.kind is Kind.STATEMENT:
            windows.execute(self.book, admitted, context)
        else:
            HANDLERS[admitted.envelope.topic].execute(self.book, admitted, context)

    @property
    def clock_offset_ns(self) -> int:
        """By how much the test clock has been moved on."""
        return self.book.clock_offset_ns

    def begin_day(self, machine: Machine, day: int) -> None:
        """Let the rules take effect that hold from this day on."""
        classes.begin_day(self.book, machine.state, day)

    def dump(self) -> Sequence[bytes | memoryview]:
        """Give what is remembered, for a snapshot."""
        return dump_book(self.book)

    def load(self, data: memoryview) -> None:
        """Remember what another did, and nothing else.

        Raises:
            MalformedInput: ``VALUE_MALFORMED``.
        """
        load_book(self.book, data)

    def expired(self, machine: Machine, records: Transfers) -> None:
        """Take note of expired holds: only book transfers have a deadline, and nothing here remembers those.

        Raises:
            InvariantViolation: a hold of a window did expire.
        """
        if np.any(records["group"] != 0):
            raise InvariantViolation(
                f"a hold of a window expired on {machine.genesis.ledger}, where none has a deadline"
            )
