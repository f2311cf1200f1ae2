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

from ledger.assets import AMOUNT_MAX
from ledger.errors import Conflict, Rejected
from ledger.machine import Admitted, Context, Machine
from ledger.parties import Role
from ledger.transfers import Result, id_halves, transfers
from settlement.bodies import RATE_UNIT, Offer
from settlement.book import Book, Quote
from settlement.chart import AccountCode
from settlement.legs import Leg, TransferCode, leg_id
from settlement.opening import open_account, require_role, signing_participant

__all__ = ["authorise_quote", "check_quote", "convert", "execute_quote"]


def convert(amount: int, rate_e8: int) -> int:
    """Give what the payee receives, in sold minor units, for an amount of bought minor units; rounded down."""
    return amount * rate_e8 // RATE_UNIT


def check_quote(quote: Quote, *, buy: int, sell: int, amount: int, timestamp_ns: int) -> Result:
    """Say whether a quote serves a payment of ``amount`` in the asset ``buy`` now; the kernel knows what is left."""
    if (quote.buy, quote.sell) != (buy, sell):
        return Result.QUOTE_MISMATCH
    if timestamp_ns >= quote.expires_ns:
        return Result.QUOTE_EXPIRED
    received = convert(amount, quote.rate_e8)
    if received == 0:
        return Result.CONVERTED_TO_ZERO
    return Result.QUOTE_EXHAUSTED if received > min(quote.maximum, AMOUNT_MAX) else Result.OK


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
    book.quotes[offer.quote] = Quote(
        quote=offer.quote,
        provider=participant.number,
        sell=offer.sell,
        buy=offer.buy,
        rate_e8=offer.rate_e8,
        maximum=offer.maximum,
        expires_ns=offer.expires_ns,
        account=account,
        source=quotes,
    )
