"""What settlement remembers: participants, whose book each account is on, quotes, windows and their payments.

A fold like the ledger's own state: nothing here is stored, everything is derived by executing journaled messages in
order. Ledger codes (``SH``, ``HK``) name the two sides; ``PEER`` of one is the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.errors import NotFound
from ledger.genesis import Genesis
from ledger.messages import Message
from settlement.chart import AccountCode
from settlement.table import Table

__all__ = [
    "PAYMENT",
    "PEER",
    "Book",
    "ClassRule",
    "Group",
    "Participant",
    "PaymentState",
    "PaymentTable",
    "Payments",
    "Quote",
    "RulesVersion",
    "Window",
    "WindowState",
    "group_of",
    "window_of",
]

PEER = {"SH": "HK", "HK": "SH"}

PAYMENT = np.dtype(
    [
        ("uetr_hi", "<u8"),
        ("uetr_lo", "<u8"),
        ("quote_hi", "<u8"),
        ("quote_lo", "<u8"),
        ("refund_hi", "<u8"),
        ("refund_lo", "<u8"),
        ("amount", "<i8"),
        ("creditor_amount", "<i8"),
        ("position", "<u8"),
        ("debtor", "<u4"),
        ("creditor", "<u4"),
        ("debtor_participant", "<u4"),
        ("creditor_participant", "<u4"),
        ("asset", "<u2"),
        ("creditor_asset", "<u2"),
        ("purpose", "S4"),
        ("value_day", "<u4"),
    ]
)
"""One cross-border payment as both nodes see it.

``uetr`` halves; ``quote`` and ``refund`` halves or zero; ``amount`` in ``asset`` leaves the debtor; ``creditor_amount``
in ``creditor_asset`` reaches the creditor (zero on the payer's side when only the payee's node can know it);
``position`` of the payer's leg on the payer's ledger; ``debtor`` is an account number on the payer's ledger and
``creditor`` one on the payee's; the two participants are numbers on their own side's ledger (zero while unknown);
``purpose`` is an ISO 20022 external purpose code or empty; ``value_day`` counts days since 1970-01-01, zero for the day
of booking.
"""

Payments = npt.NDArray[np.void]
"""Shape (n,), dtype ``PAYMENT``."""


class Group(enum.IntEnum):
    """The hold groups of one window."""

    OUTGOING = 0
    INCOMING = 1
    NET = 2


def group_of(window: int, kind: Group) -> int:
    """Number a window's hold group for the ledger (never zero: windows count from 1)."""
    return 4 * window + kind


def window_of(group: int) -> tuple[int, Group]:
    """Undo ``group_of``."""
    return group // 4, Group(group % 4)


class PaymentState(enum.IntEnum):
    """Where one member of a window stands."""

    PENDING = 0
    CANCELLED = 1
    REJECTED = 2
    SETTLED = 3
    CARRIED = 4
    """Left this window undecided; for outgoing ones ``moved_to`` of the table says where it is now."""
    REFUSED = 5
    """Never held money: the kernel refused it, and its number stays a gap. No list, count or total includes it."""


class WindowState(enum.StrEnum):
    """The settlement cycle's state of one window at one node."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    ACCEPTED = "ACCEPTED"
    """Both acceptances are journaled here."""
    NETTED = "NETTED"
    """A proposal is journaled here."""
    VOTED = "VOTED"
    """This node's yes is journaled, the outcome is not known here."""
    SETTLED = "SETTLED"


class PaymentTable:
    """The payments of one direction of one window: columns that grow by doubling.

    ``rows`` is the filled part, dtype ``PAYMENT``; ``states`` (u1, ``PaymentState``), ``reasons`` (u2,
    ``ledger.Result``) and ``moved_to`` (u4, member index in the next window, 0 unless CARRIED) run beside it.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.count = 0
        self._rows = np.zeros(16, PAYMENT)
        self._states = np.zeros(16, np.uint8)
        self._reasons = np.zeros(16, np.uint16)
        self._moved_to = np.zeros(16, np.uint32)

    def append(self, rows: Payments) -> int:
        """Add rows at the end; gives the first one's member index."""
        first = self.count
        needed = first + len(rows)
        if needed > len(self._rows):
            size = max(needed, 2 * len(self._rows))
            self._rows = _grown(self._rows, size)
            self._states = _grown(self._states, size)
            self._reasons = _grown(self._reasons, size)
            self._moved_to = _grown(self._moved_to, size)
        self._rows[first:needed] = rows
        self.count = needed
        return first

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Give the filled part of every column, by name."""
        return {"rows": self.rows, "states": self.states, "reasons": self.reasons, "moved_to": self.moved_to}

    @classmethod
    def restore(cls, kept: dict[str, npt.NDArray[Any]]) -> PaymentTable:
        """Make a table of its columns.

        Raises:
            ValueError: they are not those of a table, or not all as long.
        """
        table = cls()
        if {name: column.dtype for name, column in kept.items()} != {
            name: column.dtype for name, column in table.dump().items()
        }:
            raise ValueError("these are not the columns of payments")
        if len({len(column) for column in kept.values()}) != 1:
            raise ValueError("the columns of payments differ in length")
        table.append(kept["rows"])
        for name, column in table.dump().items():
            column[:] = kept[name]
        return table

    @property
    def rows(self) -> Payments:
        """The payments, by member."""
        return self._rows[: self.count]

    @property
    def states(self) -> npt.NDArray[np.uint8]:
        """Their ``PaymentState``."""
        return self._states[: self.count]

    @property
    def reasons(self) -> npt.NDArray[np.uint16]:
        """Why rejected (``ledger.transfers.Result``), else zero."""
        return self._reasons[: self.count]

    @property
    def moved_to(self) -> npt.NDArray[np.uint32]:
        """Member index in the next window of those CARRIED."""
        return self._moved_to[: self.count]


def _grown(column: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    bigger = np.zeros(size, column.dtype)
    bigger[: len(column)] = column
    return bigger


@dataclass(slots=True)
class Window:
    """One window at one node.

    ``statements`` holds what was journaled, by ``kind`` or ``kind/ledger`` or ``kind/ledger/attempt``.
    """

    number: int
    state: WindowState = WindowState.OPEN
    attempt: int = 0
    """The last attempt proposed here; 0 before the first."""
    outgoing: PaymentTable = field(default_factory=PaymentTable)
    incoming: PaymentTable = field(default_factory=PaymentTable)
    carried_in: int = 0
    """How many of ``outgoing`` came from the window before."""
    statements: dict[str, Message] = field(default_factory=dict)
    opened_ns: int = 0
    closed_ns: int = 0
    settled_ns: int = 0
    settled_position: int = 0
    """Position of the decision on this ledger: the moment of finality here."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A provider's signed offer: it pays ``sell`` for ``buy`` at a rate, up to a total.

    The rate is ``rate_e8 / 10^8`` sold minor units for each bought one. ``account`` is the memo account whose balance
    is what is left of ``maximum`` (sold minor units).
    """

    quote: int
    provider: int
    """Participant number."""
    sell: int
    buy: int
    rate_e8: int
    maximum: int
    expires_ns: int
    account: int
    row: int
    """Its row in ``Book.quote_terms``."""


@dataclass(frozen=True, slots=True)
class ClassRule:
    """What wallets of one class may hold, and pay at once, on a business day and in a year; ``None`` is no limit."""

    name: str
    balance: int | None
    payment: int | None
    day: int | None
    year: int | None


@dataclass(frozen=True, slots=True)
class RulesVersion:
    """One version of a rule set: what its classes are allowed from a business day on.

    ``valid_from`` counts days since 1970-01-01; ``position`` is that of the message which brought it.
    """

    rules: str
    asset: int
    valid_from: int
    classes: tuple[ClassRule, ...]
    position: int = 0


@dataclass(slots=True)
class Participant:
    """An institution with accounts here, numbered from 1 in the order of joining; ``accounts`` by code and asset."""

    number: int
    party: int
    code: str
    accounts: dict[tuple[AccountCode, int], int] = field(default_factory=dict)

    def account(self, code: AccountCode, asset: int) -> int:
        """Give its account of a code and asset.

        Raises:
            NotFound: it has none.
        """
        number = self.accounts.get((code, asset))
        if number is None:
            raise NotFound("PARTICIPANT_ASSET", "The participant has no accounts in this asset.", participant=self.code)
        return number


def _quote_terms() -> Table:
    return Table(
        rate_e8=np.int64,
        maximum=np.int64,
        expires_ns=np.int64,
        buy=np.uint16,
        sell=np.uint16,
        bought_clearing=np.uint32,
        bought_position=np.uint32,
        sold_position=np.uint32,
        sold_clearing=np.uint32,
        account=np.uint32,
        source=np.uint32,
    )


class Book:
    """The whole of settlement's memory at one node."""

    def __init__(self, genesis: Genesis) -> None:
        """Start as of genesis, with window 1 open."""
        self.genesis = genesis
        self.ledger = genesis.ledger
        self.peer = PEER[genesis.ledger]
        self.participants: list[Participant] = []
        self.by_party: dict[int, Participant] = {}
        self.institution: dict[tuple[AccountCode, int], int] = {}
        """The settlement institution's own accounts: ISSUE, OMNIBUS or MIRROR, NETTING, by asset number."""
        self.quotes: dict[int, Quote] = {}
        self.quote_terms = _quote_terms()
        """The same in columns, with the provider's accounts; ``source`` is the QUOTES account behind ``account``."""
        self.caps: dict[int, int] = {}
        """Net debit caps in minor units, by CLEARING account."""
        self.cap_rooms: dict[int, int] = {}
        """By CLEARING account, what a reserved net position adds to its cap until the window is decided."""
        self.rules: dict[str, list[RulesVersion]] = {}
        """The versions of each rule set, as they were journaled: each holds from no earlier day than those before."""
        self.rules_begun: dict[str, int] = {}
        """How many versions of each rule set have begun; the last of them is in force."""
        self.classes: dict[tuple[int, str], int] = {}
        """The number of each class, by asset and name; it keeps it for ever."""
        self.class_owners: dict[int, tuple[str, str]] = {}
        """The rule set and the name of each class, by number."""
        self.clock_offset_ns = 0
        """By how much the test clock has been moved on."""
        self.windows: dict[int, Window] = {1: Window(1, opened_ns=genesis.created_ns)}
        self.current = 1
        self.refunded: dict[tuple[int, int, bool], int] = {}
        """What refunds have taken of a payment, in minor units of what its payee received.

        By the original's UETR, the account that paid it, and whether that is on the other ledger.
        """
        self.gross = Table(
            position=np.uint64,
            amount=np.int64,
            creditor_amount=np.int64,
            debtor=np.uint32,
            creditor=np.uint32,
            asset=np.uint16,
            creditor_asset=np.uint16,
            value_day=np.uint32,
            result=np.uint16,
            across=np.bool_,
        )
        """Payments that were decided at once: settled, or refused for ``result``; ``position`` is the payer's leg.

        ``across`` says that the creditor is on the other ledger; such a payment is here only if it was refused.
        """
        self.outgoing_places = Table(position=np.uint64, window=np.uint32, member=np.uint32)
        """Where each cross-border payment was first accepted here, by position of its payer's leg."""
        self.incoming_places = Table(position=np.uint64, window=np.uint32, member=np.uint32)
        """Where each incoming payment was accepted or rejected, by position of its payee's leg."""
        self.incoming_waiting: set[int] = set()
        """UETRs of incoming payments that a window carried out and that have not been listed again."""
        self.openings: dict[int, range] = {}
        """The numbers of the accounts that a message opened, by the message's position."""
        self._participant_of = np.zeros(64, np.uint32)
        self._clearing_of = np.zeros(64, np.uint32)
        self._funds_of = np.zeros(64, np.uint32)
        self._settle_of = np.zeros(64, np.uint32)
        self._fees_of = np.zeros(64, np.uint32)

    @property
    def open_window(self) -> Window:
        """The window that accepts payments now."""
        return self.windows[self.current]

    @property
    def participant_of(self) -> npt.NDArray[np.uint32]:
        """Participant number by account number; zero for the settlement institution's own and unknown accounts."""
        return self._participant_of

    @property
    def clearing_of(self) -> npt.NDArray[np.uint32]:
        """CLEARING account by the number of an account that can pay or be paid, zero for others."""
        return self._clearing_of

    @property
    def funds_of(self) -> npt.NDArray[np.uint32]:
        """FUNDS account by the number of an account that can pay or be paid, zero for others and an issuer's."""
        return self._funds_of

    @property
    def settle_of(self) -> npt.NDArray[np.uint32]:
        """SETTLE account by the number of an account that can pay or be paid, zero for others."""
        return self._settle_of

    @property
    def fees_of(self) -> npt.NDArray[np.uint32]:
        """FEES account by the number of an account that can pay, zero for others and an issuer's."""
        return self._fees_of

    def set_participant(
        self, account: int, participant: int, *, clearing: int = 0, funds: int = 0, settle: int = 0, fees: int = 0
    ) -> None:
        """Say whose book an account is on, and through which accounts of that book it pays and is paid."""
        if account >= len(self._participant_of):
            size = 2 * account
            self._participant_of = _grown(self._participant_of, size)
            self._clearing_of = _grown(self._clearing_of, size)
            self._funds_of = _grown(self._funds_of, size)
            self._settle_of = _grown(self._settle_of, size)
            self._fees_of = _grown(self._fees_of, size)
        self._participant_of[account] = participant
        self._clearing_of[account] = clearing
        self._funds_of[account] = funds
        self._settle_of[account] = settle
        self._fees_of[account] = fees

    def version_in_force(self, rules: str) -> RulesVersion | None:
        """Give the version of a rule set that holds today, if any has begun."""
        count = self.rules_begun.get(rules, 0)
        return self.rules[rules][count - 1] if count else None

    def class_in_force(self, asset: int, name: str) -> int:
        """Give the number of a class of an asset for which limits hold today.

        Raises:
            NotFound: ``CLASS_NOT_FOUND``.
        """
        number = self.classes.get((asset, name), 0)
        version = self.version_in_force(self.class_owners[number][0]) if number else None
        if version is None or all(rule.name != name for rule in version.classes):
            raise NotFound("CLASS_NOT_FOUND", "No class of this name is in force for the asset.", klass=name)
        return number

    def participant(self, number: int) -> Participant:
        """Give the participant with this number (from 1)."""
        return self.participants[number - 1]

    def participant_by_code(self, code: str) -> Participant:
        """Give the participant whose party has this code.

        Raises:
            NotFound: there is none.
        """
        for participant in self.participants:
            if participant.code == code:
                return participant
        raise NotFound("PARTICIPANT_NOT_FOUND", "No participant with this code on this ledger.", participant=code)

    def window(self, number: int) -> Window:
        """Give a window.

        Raises:
            NotFound: it was never opened here.
        """
        window = self.windows.get(number)
        if window is None:
            raise NotFound("WINDOW_NOT_FOUND", "This window was never opened here.", window=number)
        return window
