"""Quotes and conversion: a provider pays one asset for another, at its signed rate, up to its signed total.

The payer pays the asset that the provider *buys*; the payee receives the asset that it *sells*. The rate is the number
of sold minor units for one bought minor unit, with exactly eight decimals, held as ``rate_e8 = rate · 10^8``::

    received = paid · rate_e8 // 10^8        rounded down: never more than the rate gives

>>> convert(1_000_00, 108_430_000)
108430
>>> convert(1, 99_999_999)
0

What is left of a quote is the balance of its memo account, so that the limit is the kernel's own and no two payments
can spend it twice; the memo amount of a payment is what its payee receives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger.assets import AMOUNT_MAX
from ledger.errors import Conflict, Rejected
from ledger.machine import Admitted, Context, Machine
from ledger.parties import Role
from ledger.transfers import Result, id_halves, transfers
from settlement.bodies import RATE_UNIT, Offer
from settlement.book import Book, Payments, Quote
from settlement.chart import AccountCode
from settlement.legs import Leg, TransferCode, leg_id
from settlement.opening import open_account, require_role, signing_participant

__all__ = ["Amounts", "assess", "authorise_quote", "convert", "convert_columns", "execute_quote", "look_up"]

Amounts = npt.NDArray[np.int64]
"""Shape (n,), minor units."""
Reasons = npt.NDArray[np.uint16]


def convert(amount: int, rate_e8: int) -> int:
    """Give what the payee receives, in sold minor units, for an amount of bought minor units; rounded down."""
    return amount * rate_e8 // RATE_UNIT


def convert_columns(amounts: Amounts, rates_e8: Amounts) -> Amounts:
    """Do the same in columns; -1 where it is more than any amount can be.

    With ``amount = a · 10^8 + b`` the result is ``a · rate + b · rate // 10^8``, which fits 64 bits for every rate and
    amount that people use. The others go the slow way.
    """
    whole, rest = np.divmod(amounts, RATE_UNIT)
    fits = (rates_e8 <= AMOUNT_MAX // RATE_UNIT) & (whole < AMOUNT_MAX // rates_e8)
    rates = np.where(fits, rates_e8, 0)
    received: Amounts = whole * rates + rest * rates // RATE_UNIT
    for index in np.flatnonzero(~fits):
        exact = convert(int(amounts[index]), int(rates_e8[index]))
        received[index] = exact if exact <= AMOUNT_MAX else -1
    return received


def look_up(book: Book, rows: Payments) -> npt.NDArray[np.intp]:
    """Give the row in ``Book.quote_terms`` of the quote that each payment names; -1 if there is none here."""
    halves = zip(rows["quote_hi"].tolist(), rows["quote_lo"].tolist(), strict=True)
    found = (book.quotes.get(high << 64 | low) for high, low in halves)
    return np.array([-1 if quote is None else quote.row for quote in found], np.intp)


def assess(book: Book, rows: Payments, quotes: npt.NDArray[np.intp], *, timestamp_ns: int) -> tuple[Reasons, Amounts]:
    """Say for each payment whether its quote serves it now, and what its payee receives.

    What refuses is, in this order: the pair, the time, nothing to receive, more than the whole quote. What is left of
    the quote is the kernel's to say. Where a reason is given, the amount means nothing.
    """
    terms = book.quote_terms
    received = convert_columns(rows["amount"], terms["rate_e8"][quotes])
    mismatch = (terms["buy"][quotes] != rows["asset"]) | (terms["sell"][quotes] != rows["creditor_asset"])
    reasons = np.zeros(len(rows), np.uint16)
    reasons[(received < 0) | (received > terms["maximum"][quotes])] = Result.QUOTE_EXHAUSTED
    reasons[received == 0] = Result.CONVERTED_TO_ZERO
    reasons[terms["expires_ns"][quotes] <= timestamp_ns] = Result.QUOTE_EXPIRED
    reasons[mismatch] = Result.QUOTE_MISMATCH
    return reasons, received


def authorise_quote(book: Book, admitted: Admitted, machine: Machine, timestamp_ns: int) -> None:
    """Let an FX provider with accounts in both assets publish a quote that has not run out.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``NOT_PARTICIPANT``.
        NotFound: ``PARTICIPANT_ASSET``.
        Conflict: ``QUOTE_EXISTS``.
        Rejected: ``QUOTE_EXPIRED``.
    """
    offer: Offer = admitted.content
    require_role(machine.directory, admitted.party, Role.FX_PROVIDER)
    participant = signing_participant(book, admitted.party)
    for asset in (offer.sell, offer.buy):
        participant.account(AccountCode.POSITION, asset)
    if offer.quote in book.quotes:
        raise Conflict("QUOTE_EXISTS", "A quote with this id is already published.")
    if timestamp_ns >= offer.expires_ns:
        raise Rejected("QUOTE_EXPIRED", "The quote has run out before it was published.")


def execute_quote(book: Book, admitted: Admitted, context: Context) -> None:
    """Open the quote's memo account and post QUOTES → QUOTE for the maximum."""
    offer: Offer = admitted.content
    participant = book.by_party[admitted.party]
    first = context.state.account_count + 1
    quotes = participant.accounts.get((AccountCode.QUOTES, offer.memo))
    if quotes is None:
        quotes = open_account(book, context.state, AccountCode.QUOTES, asset=offer.memo, owner=admitted.party)
        participant.accounts[AccountCode.QUOTES, offer.memo] = quotes
        book.set_participant(quotes, participant.number)
    account = open_account(book, context.state, AccountCode.QUOTE, asset=offer.memo, owner=admitted.party)
    book.set_participant(account, participant.number)
    book.openings[context.position] = range(first, account + 1)
    command = transfers(1)
    command["id_hi"], command["id_lo"] = id_halves(leg_id(offer.quote, Leg.QUOTE_OPEN))
    command["amount"] = offer.maximum
    command["debit"] = quotes
    command["credit"] = account
    command["party"] = admitted.party
    command["code"] = TransferCode.QUOTE
    command["leg"] = Leg.QUOTE_OPEN
    if context.post(command)["result"][0] != Result.OK:
        return  # all of a provider's quotes together would overflow a counter (I3)
    clearing, position = AccountCode.CLEARING, AccountCode.POSITION
    row = book.quote_terms.append(
        rate_e8=[offer.rate_e8],
        maximum=[offer.maximum],
        expires_ns=[min(offer.expires_ns, AMOUNT_MAX)],
        buy=[offer.buy],
        sell=[offer.sell],
        bought_clearing=[participant.account(clearing, offer.buy)],
        bought_position=[participant.account(position, offer.buy)],
        sold_position=[participant.account(position, offer.sell)],
        sold_clearing=[participant.account(clearing, offer.sell)],
        account=[account],
        source=[quotes],
    )
    book.quotes[offer.quote] = Quote(
        quote=offer.quote,
        provider=participant.number,
        sell=offer.sell,
        buy=offer.buy,
        rate_e8=offer.rate_e8,
        maximum=offer.maximum,
        expires_ns=offer.expires_ns,
        account=account,
        row=row,
    )
