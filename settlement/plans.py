"""The legs of one payment with something unusual: a quote, a fee, a refund, or the issuer as payer or payee.

What is planned here is posted by ``settlement.payments`` together with all the others. ``docs/accounts.md`` shows
every flow with its accounts and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ledger.errors import InvariantViolation
from ledger.transfers import Result, id_of
from settlement.book import Book, Participant, Quote
from settlement.chart import AccountCode
from settlement.fx import check_quote, convert
from settlement.legs import Leg

__all__ = ["Plan", "Step", "plan_incoming", "plan_payment", "reason_of"]

_LIMITS = {Result.DEBIT_LIMIT, Result.CREDIT_LIMIT}
_LIMIT_REASONS = {
    Leg.PROVIDER_PAYS: Result.PROVIDER_LIMIT,
    Leg.SETTLE_BOUGHT: Result.PROVIDER_LIMIT,
    Leg.QUOTE: Result.QUOTE_EXHAUSTED,
    Leg.SETTLE: Result.PARTICIPANT_LIMIT,
}
"""Whose limit it was, by leg: only the payer's own reads as the payer lacking money."""


@dataclass(frozen=True, slots=True)
class Step:
    """One leg to be posted or held."""

    leg: Leg
    debit: int
    credit: int
    amount: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All legs of one payment, and what its payee receives: zero if only the payee's ledger can know it."""

    legs: tuple[Step, ...]
    creditor_amount: int


def plan_payment(book: Book, row: np.void, *, fee: int, across: bool, timestamp_ns: int) -> Plan | Result:
    """Plan a payment on its payer's ledger, or say why it is refused."""
    debtor, creditor, amount = int(row["debtor"]), int(row["creditor"]), int(row["amount"])
    asset = int(row["asset"])
    fees = []
    if fee:
        payer = book.participant(int(book.participant_of[debtor]))
        account = payer.accounts.get((AccountCode.FEES, asset))
        if account is None:
            return Result.FEE_ACCOUNT
        fees.append(Step(Leg.FEE, debtor, account, fee))
    quote_id = id_of(row["quote_hi"], row["quote_lo"])
    quote = book.quotes.get(quote_id)
    payer_leg = Step(Leg.PAYER, debtor, int(book.clearing_of[debtor]), amount)
    if quote is None:
        if not across:
            steps = _gross(book, debtor, creditor, amount, legs=(Leg.PAYER, Leg.SETTLE, Leg.PAYEE))
            return Result.QUOTE_NOT_FOUND if quote_id else Plan((*steps, *fees), amount)
        return Plan((payer_leg, *fees), 0 if quote_id else amount)
    sell = int(row["creditor_asset"])
    result = check_quote(quote, buy=asset, sell=sell, amount=amount, timestamp_ns=timestamp_ns)
    if result is not Result.OK:
        return result
    received = convert(amount, quote.rate_e8)
    provider = book.participant(quote.provider)
    if across:
        conversion = _conversion(provider, quote, amount=amount, received=received)
        return Plan((payer_leg, *conversion, _quote_step(quote, received), *fees), received)
    bought, sold = (provider.account(AccountCode.POSITION, number) for number in (asset, sell))
    steps = (
        *_gross(book, debtor, bought, amount, legs=(Leg.PAYER, Leg.SETTLE, Leg.PROVIDER_RECEIVES)),
        *_gross(book, sold, creditor, received, legs=(Leg.PROVIDER_PAYS, Leg.SETTLE_BOUGHT, Leg.PAYEE)),
        _quote_step(quote, received),
    )
    return Plan((*steps, *fees), received)


def plan_incoming(book: Book, row: np.void, *, timestamp_ns: int) -> Plan | Result:
    """Plan the payee's side of a payment that is converted here, or say why it is rejected."""
    quote = book.quotes.get(id_of(row["quote_hi"], row["quote_lo"]))
    if quote is None:
        return Result.QUOTE_NOT_FOUND
    amount, payee = int(row["amount"]), int(row["creditor"])
    result = check_quote(
        quote, buy=int(row["asset"]), sell=int(row["creditor_asset"]), amount=amount, timestamp_ns=timestamp_ns
    )
    if result is not Result.OK:
        return result
    received = convert(amount, quote.rate_e8)
    steps = (
        *_conversion(book.participant(quote.provider), quote, amount=amount, received=received),
        Step(Leg.PAYEE, int(book.clearing_of[payee]), payee, received),
        _quote_step(quote, received),
    )
    return Plan(steps, received)


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
        return _LIMIT_REASONS.get(Leg(int(leg)), result) if result in _LIMITS else result
    raise InvariantViolation("a chain failed without a reason")


def _gross(book: Book, debit: int, credit: int, amount: int, *, legs: tuple[Leg, Leg, Leg]) -> tuple[Step, ...]:
    """Move money between two accounts of one ledger, through the settlement accounts if their books differ."""
    first, middle, last = legs
    if book.participant_of[debit] == book.participant_of[credit]:
        return (Step(first, debit, credit, amount),)
    payer, payee = int(book.settle_of[debit]), int(book.settle_of[credit])
    if payer == debit:
        return Step(first, debit, payee, amount), Step(last, int(book.funds_of[credit]), credit, amount)
    if payee == credit:
        return Step(first, debit, int(book.funds_of[debit]), amount), Step(middle, payer, credit, amount)
    return (
        Step(first, debit, int(book.funds_of[debit]), amount),
        Step(middle, payer, payee, amount),
        Step(last, int(book.funds_of[credit]), credit, amount),
    )


def _conversion(provider: Participant, quote: Quote, *, amount: int, received: int) -> tuple[Step, Step]:
    """Let the provider receive the bought asset and pay the sold one, through its clearing accounts."""
    clearing, position = AccountCode.CLEARING, AccountCode.POSITION
    return (
        Step(
            Leg.PROVIDER_RECEIVES, provider.account(clearing, quote.buy), provider.account(position, quote.buy), amount
        ),
        Step(
            Leg.PROVIDER_PAYS, provider.account(position, quote.sell), provider.account(clearing, quote.sell), received
        ),
    )


def _quote_step(quote: Quote, received: int) -> Step:
    """Take from what is left of a quote."""
    return Step(Leg.QUOTE, quote.account, quote.source, received)
