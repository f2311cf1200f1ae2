"""Commands in the making: the legs of many payments as one array, filled in by columns and posted at once.

A draft reserves a run of commands for each payment. Whoever knows some legs writes them for all payments that have
them; names, holds and chains follow from the layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.errors import InvariantViolation
from ledger.transfers import Flag, Result, Transfers, transfers
from settlement.book import Book, Payments
from settlement.fx import Amounts, Reasons
from settlement.legs import Halves, Leg, leg_halves

__all__ = ["Accounts", "Draft", "Indices", "Mask", "gross_counts", "reason_of"]

Indices = npt.NDArray[np.intp]
"""Shape (k,): which payments, or which commands."""
Mask = npt.NDArray[np.bool_]
Accounts = npt.NDArray[np.uint32]
"""Shape (k,): account numbers."""

_LIMITS = {Result.DEBIT_LIMIT, Result.CREDIT_LIMIT}
_MAXIMUMS = {Result.DEBIT_MAXIMUM, Result.CREDIT_MAXIMUM}
_CLOSED = {Result.DEBIT_CLOSED, Result.CREDIT_CLOSED}
_LIMIT_REASONS = {
    Leg.PROVIDER_PAYS: Result.PROVIDER_LIMIT,
    Leg.SETTLE_BOUGHT: Result.PROVIDER_LIMIT,
    Leg.QUOTE: Result.QUOTE_EXHAUSTED,
    Leg.SETTLE: Result.PARTICIPANT_LIMIT,
}
"""Whose limit it was, by leg: only the payer's own reads as the payer lacking money."""
_CLOSED_REASONS = {
    Leg.PROVIDER_RECEIVES: Result.PROVIDER_LIMIT,
    Leg.PROVIDER_PAYS: Result.PROVIDER_LIMIT,
    Leg.FEE: Result.FEE_ACCOUNT,
}
"""Whose account was closed, by leg: what is no business of payer or payee does not read as theirs."""


@dataclass(slots=True)
class Draft:
    """Commands while they are being filled in; ``first`` and ``counts`` (n,) say which belong to which payment."""

    commands: Transfers
    first: Indices
    counts: Indices

    @classmethod
    def of(cls, rows: Payments, counts: Indices) -> Draft:
        """Make commands with what all legs of a payment share: its item, amount and value day, and being linked."""
        commands = transfers(int(counts.sum()))
        first = np.cumsum(counts) - counts
        commands["item"] = np.repeat(np.arange(len(rows)), counts)
        commands["amount"] = np.repeat(rows["amount"], counts)
        commands["value_day"] = np.repeat(rows["value_day"], counts)
        commands["flags"] = Flag.LINKED
        commands["flags"][first + counts - 1] = Flag.NONE
        return cls(commands, first, counts)

    def put(
        self,
        at: Indices,
        leg: Leg,
        debit: npt.ArrayLike,
        credit: npt.ArrayLike,
        amount: npt.ArrayLike | None = None,
    ) -> None:
        """Write one leg into each of the commands ``at``; the amount is the payment's unless another is given."""
        self.commands["leg"][at] = leg
        self.commands["debit"][at] = debit
        self.commands["credit"][at] = credit
        if amount is not None:
            self.commands["amount"][at] = amount

    def put_gross(
        self,
        book: Book,
        at: Indices,
        debtors: Accounts,
        creditors: Accounts,
        amounts: Amounts,
        *,
        legs: tuple[Leg, Leg, Leg],
    ) -> None:
        """Write the legs between two accounts of one ledger: from ``at`` on, as many as ``gross_counts`` says."""
        first, middle, last = legs
        same, issues, redeems = _relations(book, debtors, creditors)
        through = np.where(issues, book.settle_of[creditors], book.funds_of[debtors])
        self.put(at, first, debtors, np.where(same, creditors, through), amounts)
        inner = ~same & ~issues
        settles = book.settle_of[debtors[inner]], book.settle_of[creditors[inner]]
        self.put(at[inner] + 1, middle, *settles, amounts[inner])
        outer = ~same & ~redeems
        end = at + gross_counts(book, debtors, creditors) - 1
        self.put(end[outer], last, book.funds_of[creditors[outer]], creditors[outer], amounts[outer])

    def put_conversion(self, book: Book, at: Indices, quotes: Indices, *, received: Amounts) -> None:
        """Write the provider's two legs, at ``at`` and behind: it receives what it buys and pays what it sells."""
        terms = book.quote_terms
        self.put(at, Leg.PROVIDER_RECEIVES, terms["bought_clearing"][quotes], terms["bought_position"][quotes])
        self.put(at + 1, Leg.PROVIDER_PAYS, terms["sold_position"][quotes], terms["sold_clearing"][quotes], received)

    def put_quote(self, book: Book, at: Indices, quotes: Indices, *, received: Amounts) -> None:
        """Write the leg that takes from what is left of a quote."""
        terms = book.quote_terms
        self.put(at, Leg.QUOTE, terms["account"][quotes], terms["source"][quotes], received)

    def name(self, high: Halves, low: Halves, *, shift: npt.ArrayLike = 0) -> None:
        """Give every leg its id: its payment's halves (n,) with the leg's number, plus a shift, in the fixed bits."""
        commands = self.commands
        highs, lows = np.repeat(high, self.counts), np.repeat(low, self.counts)
        shifts = np.repeat(np.broadcast_to(np.asarray(shift, np.uint16), len(high)), self.counts)
        commands["id_hi"], commands["id_lo"] = leg_halves(highs, lows, commands["leg"] + shifts)

    def hold(self, pending: Mask, members: npt.NDArray[np.uint32], *, group: int, flags: Flag) -> None:
        """Turn the legs of the ``pending`` payments into holds of a group, member by payment."""
        chosen = np.repeat(pending, self.counts)
        self.commands["flags"][chosen] |= np.uint16(flags)
        self.commands["group"][chosen] = group
        self.commands["member"][chosen] = np.repeat(members, self.counts)[chosen]

    def outcomes(self) -> Reasons:
        """Give each payment's reason once the commands are posted, zero where all its legs were applied."""
        results = self.commands["result"]
        outcomes: Reasons = results[self.first].copy()
        for index in np.flatnonzero((outcomes != 0) & (self.counts > 1)):
            part = self.commands[self.first[index] : self.first[index] + self.counts[index]]
            outcomes[index] = reason_of(part["leg"].tolist(), part["result"].tolist())
        return outcomes


def gross_counts(book: Book, debtors: Accounts, creditors: Accounts) -> Indices:
    """Count the legs between two accounts of one ledger.

    One inside one book, three between two books, two if the issuer pays or is paid: its settlement account is ISSUE
    itself.
    """
    same, issues, redeems = _relations(book, debtors, creditors)
    return np.where(same, 1, np.where(issues | redeems, 2, 3)).astype(np.intp)


def _relations(book: Book, debtors: Accounts, creditors: Accounts) -> tuple[Mask, Mask, Mask]:
    """Say where both accounts are on one book, where the issuer pays another book, and where another book pays it."""
    same = book.participant_of[debtors] == book.participant_of[creditors]
    issues = ~same & (book.settle_of[debtors] == debtors)
    redeems = ~same & (book.settle_of[creditors] == creditors)
    return same, issues, redeems


def reason_of(legs: Iterable[int], results: Iterable[int]) -> Result:
    """Name the reason of a refused payment from its legs' results: the one that was not another's fault.

    Raises:
        InvariantViolation: no leg has a reason of its own.
    """
    for leg, number in zip(legs, results, strict=True):
        result = Result(int(number))
        if result in (Result.OK, Result.LINKED_FAILED):
            continue
        if leg == Leg.PAYER and result is Result.CREDIT_LIMIT:
            return Result.PARTICIPANT_LIMIT
        if result in _CLOSED or (result in _MAXIMUMS and leg == Leg.PROVIDER_PAYS):
            return _CLOSED_REASONS.get(Leg(int(leg)), result)
        return _LIMIT_REASONS.get(Leg(int(leg)), result) if result in _LIMITS else result
    raise InvariantViolation("a chain failed without a reason")
