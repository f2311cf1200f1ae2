"""Book transfers in the making: many commands, written one by one and sent as one message in columns.

::

    moves = client.book_transfers()
    moves.transfer(debit=money, credit=wallet, amount=500)
    hold = moves.hold(debit=money, credit=wallet, amount=300, timeout_s=3600)
    with moves.chain():
        moves.post(hold, amount=200)
        moves.transfer(debit=money, credit=fees, amount=1, min_available=10_000)
    client.transfer_columns(moves.encode())

Every method gives the id of its command, a new UUID unless one is given; by it the results name it, and later messages
end or reverse it. What commands mean, and with which results they end, is in ``docs/results.md``.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ledger.accounts import parse_address
from ledger.errors import MalformedInput

__all__ = ["Balancing", "BookTransfers"]

Balancing = Literal["debit", "credit", "both"]
"""Whose room bounds the amount of a balancing command."""

GROUP_COUNT_MAX = 256
"""Holds of one hold group."""
_EPOCH = dt.date(1970, 1, 1)
_BALANCING: dict[str | None, tuple[str, ...]] = {
    None: (),
    "debit": ("BALANCING_DEBIT",),
    "credit": ("BALANCING_CREDIT",),
    "both": ("BALANCING_DEBIT", "BALANCING_CREDIT"),
}
_Row = dict[str, Any]


class BookTransfers:
    """Commands for ``POST /v1/transfers``, in order. Accounts are addresses, amounts minor units, ids UUIDs.

    Every method may raise ``MalformedInput``: ``ADDRESS_INVALID``, ``ID_INVALID``, ``LEDGER_UNKNOWN`` for accounts of
    two ledgers, ``VALUE_DATE_INVALID``. All else is the node's to judge.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        """Have no command yet; ``new_id`` gives UUIDs."""
        self._new_id = new_id
        self._rows: list[_Row] = []
        self._ledger = ""
        self._is_chained = False
        self._is_grouped = False
        self._group_end = -1
        self.identifiers: list[str] = []
        """The commands' ids, in order."""

    def __len__(self) -> int:
        return len(self._rows)

    def transfer(
        self,
        *,
        debit: str,
        credit: str,
        amount: int,
        balancing: Balancing | None = None,
        min_available: int | None = None,
        value_date: dt.date | str | None = None,
        identifier: str | None = None,
    ) -> str:
        """Move an amount at once.

        Args:
            debit: the account to be debited.
            credit: the account to be credited.
            amount: minor units; of a balancing transfer at most so many, 0 for as much as there is room for.
            balancing: which account's room bounds the amount.
            min_available: what must stay available on the debited account, else the command is refused.
            value_date: from when the amount bears value, as ``2026-11-30`` or a date.
            identifier: the command's id.
        """
        row = self._moving(debit, credit, amount, balancing=balancing, min_available=min_available)
        return self._add(row, value_date, identifier)

    def hold(
        self,
        *,
        debit: str,
        credit: str,
        amount: int,
        timeout_s: int = 0,
        balancing: Balancing | None = None,
        min_available: int | None = None,
        value_date: dt.date | str | None = None,
        identifier: str | None = None,
    ) -> str:
        """Reserve an amount until it is posted or voided, or for ``timeout_s`` seconds; else as ``transfer``."""
        row = self._moving(debit, credit, amount, balancing=balancing, min_available=min_available)
        row["timeout_s"] = timeout_s
        row["flags"] += ("PENDING", "GROUP") if self._is_grouped else ("PENDING",)
        return self._add(row, value_date, identifier)

    def post(
        self,
        hold: str,
        *,
        amount: int = 0,
        group: bool = False,
        value_date: dt.date | str | None = None,
        identifier: str | None = None,
    ) -> str:
        """Post a hold: ``amount`` of it, the rest is released; 0 for all. ``group`` posts its hold group whole."""
        row = {"amount": amount, "flags": ("POST", "GROUP") if group else ("POST",)}
        return self._add(row, value_date, identifier, related=hold)

    def void(self, hold: str, *, group: bool = False, identifier: str | None = None) -> str:
        """Release a hold; ``group`` releases its hold group whole."""
        row = {"amount": 0, "flags": ("VOID", "GROUP") if group else ("VOID",)}
        return self._add(row, None, identifier, related=hold)

    def reverse(
        self,
        original: str,
        *,
        debit: str,
        credit: str,
        amount: int = 0,
        value_date: dt.date | str | None = None,
        identifier: str | None = None,
    ) -> str:
        """Take back ``amount`` of an earlier transfer, or of a post by its own id; 0 for all that is left.

        ``debit`` is the account that the original credited, and ``credit`` the one that it debited.
        """
        row = self._moving(debit, credit, amount)
        row["flags"] += ("REVERSAL",)
        return self._add(row, value_date, identifier, related=original)

    @contextmanager
    def chain(self) -> Iterator[None]:
        """Let all commands inside be applied together or not at all; chains do not nest.

        Raises:
            MalformedInput: ``COLUMNS_CHAIN``, one inside another.
        """
        if self._is_chained:
            raise MalformedInput("COLUMNS_CHAIN", "A chain stands in no other chain.")
        first, self._is_chained = len(self), True
        try:
            yield
        finally:
            self._is_chained, self._group_end = False, -1
            for row in self._rows[first:-1]:
                row["flags"] += ("LINKED",)

    @contextmanager
    def hold_group(self) -> Iterator[None]:
        """Let the holds inside, from 2 to 256 and nothing else, live and end together; outside of a chain it is one.

        Raises:
            MalformedInput: ``COLUMNS_GROUP``: something else, or inside or right behind another group of the same
                chain, with which it would be one.
        """
        if not self._is_chained:
            with self.chain(), self.hold_group():
                yield
            return
        first = len(self)
        if self._is_grouped or self._group_end == first:
            raise MalformedInput("COLUMNS_GROUP", "A hold group stands apart from every other of its chain.")
        self._is_grouped = True
        try:
            yield
        finally:
            self._is_grouped = False
        self._group_end = len(self)
        rows = self._rows[first:]
        if not 2 <= len(rows) <= GROUP_COUNT_MAX or not all("PENDING" in row["flags"] for row in rows):
            raise MalformedInput("COLUMNS_GROUP", "A hold group has 2 to 256 holds and nothing else.", count=len(rows))

    def encode(self) -> bytes:
        """Give the message's body, for ``Client.transfer_columns``.

        Raises:
            MalformedInput: ``COLUMNS_COUNT``, none or more than 65,536; ``AMOUNT_INVALID``, a number that does not fit
                its column.
        """
        # Imported late: this brings numpy and numba, and a client that sends no columns needs neither.
        from ledger import columns
        from ledger.transfers import Flag, transfers

        if not 1 <= len(self) <= columns.COUNT_MAX:
            raise MalformedInput("COLUMNS_COUNT", "A message holds 1 to 65,536 transfers.", count=len(self))
        commands = transfers(len(self))
        for index, row in enumerate(self._rows):
            values = row | {"flags": sum(Flag[flag] for flag in row["flags"])}
            try:
                for name, value in values.items():
                    commands[name][index] = value
            except OverflowError as error:
                raise MalformedInput("AMOUNT_INVALID", "A number does not fit its column.", item=index) from error
        return columns.encode(commands)

    def _moving(
        self,
        debit: str,
        credit: str,
        amount: int,
        *,
        balancing: Balancing | None = None,
        min_available: int | None = None,
    ) -> _Row:
        """Begin a command that names its accounts."""
        flags = _BALANCING[balancing]
        row = {"debit": self._account(debit), "credit": self._account(credit), "amount": amount, "flags": flags}
        if min_available is not None:
            row |= {"minimum": min_available, "flags": (*flags, "MIN_AVAILABLE")}
        return row

    def _account(self, text: str) -> int:
        """Read an address; all are on one ledger, since a command says numbers only."""
        ledger, number = parse_address(text)
        if ledger != (self._ledger or ledger):
            raise MalformedInput("LEDGER_UNKNOWN", "Book transfers stay on one ledger.", address=text)
        self._ledger = ledger
        return number

    def _add(self, row: _Row, value_date: dt.date | str | None, identifier: str | None, *, related: str = "") -> str:
        """Complete a command and put it behind the others; gives its id."""
        name = identifier or self._new_id()
        row["id_hi"], row["id_lo"] = _halves(name)
        if related:
            row["related_hi"], row["related_lo"] = _halves(related)
        if value_date is not None:
            row["value_day"] = _day(value_date)
        self._rows.append(row)
        self.identifiers.append(name)
        return name


def _halves(text: str) -> tuple[int, int]:
    """Read a UUID of any version as its two halves."""
    try:
        number = uuid.UUID(text).int
    except ValueError as error:
        raise MalformedInput("ID_INVALID", "An id is a UUID.", id=text) from error
    return number >> 64, number & (2**64 - 1)


def _day(date: dt.date | str) -> int:
    """Count days since 1970."""
    try:
        day = ((dt.date.fromisoformat(date) if isinstance(date, str) else date) - _EPOCH).days
    except ValueError as error:
        raise MalformedInput("VALUE_DATE_INVALID", "A value date is a day like 2026-11-30.", date=str(date)) from error
    if day < 1:
        raise MalformedInput("VALUE_DATE_INVALID", "A value date lies after 1970-01-01.", date=str(date))
    return day
