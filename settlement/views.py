"""Read models: what a payment, an account, a quote, a participant or the whole ledger looks like now.

Nothing here changes anything or knows HTTP. Every function is called in the writer's turn, and what it gives is frozen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.accounts import address
from ledger.errors import NotFound
from ledger.machine import Machine
from ledger.meters import UNLIMITED
from ledger.state import State
from ledger.transfers import Result
from settlement.book import Book, PaymentState, RulesVersion
from settlement.chart import AccountCode
from settlement.places import Place, incoming_place, is_withdrawn, outgoing_place, peer_party

__all__ = [
    "INSTITUTION",
    "ISO_REASON",
    "ISO_STATUS",
    "AccountView",
    "LimitsView",
    "ParticipantView",
    "PaymentStatus",
    "PaymentView",
    "QuoteView",
    "RulesView",
    "TrialRow",
    "account_view",
    "accounts_of",
    "opened_accounts",
    "participants_view",
    "payment_view",
    "quote_view",
    "rules_view",
    "trial_balance",
]

INSTITUTION = "INSTITUTION"
"""What the settlement institution's book is called beside the participants' codes."""
_INSTITUTION_CODES = (
    AccountCode.ISSUE,
    AccountCode.SETTLE,
    AccountCode.OMNIBUS,
    AccountCode.MIRROR,
    AccountCode.NETTING,
)


class PaymentStatus(enum.StrEnum):
    """Where a payment stands. Only ACCEPTED changes again."""

    ACCEPTED = "ACCEPTED"
    """Held, waiting for its window."""
    SETTLED = "SETTLED"
    """Final."""
    REFUSED = "REFUSED"
    """Never held anything: the payer's ledger refused it."""
    CANCELLED = "CANCELLED"
    """Ended by its payer before its window closed."""
    REJECTED = "REJECTED"
    """Ended by the payee's ledger."""


ISO_STATUS: dict[PaymentStatus, str] = {
    PaymentStatus.ACCEPTED: "ACSP",
    PaymentStatus.SETTLED: "ACSC",
    PaymentStatus.REFUSED: "RJCT",
    PaymentStatus.CANCELLED: "CANC",
    PaymentStatus.REJECTED: "RJCT",
}
"""ISO 20022 ExternalPaymentTransactionStatus1Code."""

ISO_REASON: dict[Result, str] = {
    Result.OK: "",
    Result.LINKED_FAILED: "AG03",
    Result.CHAIN_OPEN: "AG03",
    Result.ID_EXISTS: "DU03",
    Result.FLAGS_INVALID: "FF01",
    Result.AMOUNT_INVALID: "AM12",
    Result.SAME_ACCOUNT: "AC03",
    Result.DEBIT_NOT_FOUND: "AC02",
    Result.CREDIT_NOT_FOUND: "AC03",
    Result.ASSET_MISMATCH: "AM11",
    Result.DEBIT_CLOSED: "AC05",
    Result.CREDIT_CLOSED: "AC07",
    Result.HOLD_NOT_FOUND: "AG03",
    Result.HOLD_POSTED: "AG03",
    Result.HOLD_VOIDED: "AG03",
    Result.HOLD_EXPIRED: "AB03",
    Result.HOLD_BOUND: "TM01",
    Result.HOLD_EXCEEDED: "AM02",
    Result.OVERFLOW: "AM13",
    Result.DEBIT_LIMIT: "AM04",
    Result.CREDIT_LIMIT: "AM04",
    Result.REVERSAL_NOT_FOUND: "AG09",
    Result.REVERSAL_MISMATCH: "AG03",
    Result.REVERSAL_EXCEEDED: "AM02",
    Result.NOTHING_AVAILABLE: "AM04",
    Result.MIN_AVAILABLE: "AM04",
    Result.DEBIT_MAXIMUM: "AM13",
    Result.CREDIT_MAXIMUM: "AM13",
    Result.ITEM_LIMIT: "AM02",
    Result.DAY_LIMIT: "AM14",
    Result.YEAR_LIMIT: "AM14",
    Result.HOLD_IN_WINDOW: "AG03",
    Result.HOLD_GROUPED: "AG03",
    Result.HOLD_NOT_GROUPED: "AG03",
    Result.VALUE_DAY_INVALID: "DT01",
    Result.QUOTE_NOT_FOUND: "AG03",
    Result.QUOTE_EXPIRED: "AB03",
    Result.QUOTE_MISMATCH: "AM11",
    Result.PAYEE_NOT_FOUND: "AC03",
    Result.PAYEE_ASSET: "AC11",
    Result.PAYEE_CLOSED: "AC07",
    Result.REFUND_NOT_FOUND: "AG09",
    Result.REFUND_EXCEEDED: "AM02",
    Result.CONVERTED_TO_ZERO: "AM01",
    Result.DEBTOR_ASSET: "AC10",
    Result.QUOTE_EXHAUSTED: "AM14",
    Result.FEE_ACCOUNT: "AG03",
    Result.PROVIDER_LIMIT: "ED05",
    Result.PARTICIPANT_LIMIT: "AM04",
}
"""ISO 20022 ExternalStatusReason1Code of every reason."""

_STATUS = {
    PaymentState.PENDING: PaymentStatus.ACCEPTED,
    PaymentState.CANCELLED: PaymentStatus.CANCELLED,
    PaymentState.REJECTED: PaymentStatus.REJECTED,
    PaymentState.SETTLED: PaymentStatus.SETTLED,
    PaymentState.CARRIED: PaymentStatus.ACCEPTED,
    PaymentState.REFUSED: PaymentStatus.REFUSED,
}


@dataclass(frozen=True, slots=True)
class PaymentView:
    """One payment as one ledger knows it; amounts in minor units.

    ``creditor_amount`` is ``None`` while only the other ledger knows it. ``record_position`` is that of the payer's
    record, in the payer's ledger's journal. ``window`` is ``None`` for a payment that was decided at once;
    ``settled_position`` and ``settled_ns`` are those of the decision that made it final here.
    """

    uetr: int
    incoming: bool
    status: PaymentStatus
    reason: Result
    debtor: str
    creditor: str
    asset: str
    amount: int
    creditor_asset: str
    creditor_amount: int | None
    record_position: int
    window: int | None = None
    settled_position: int | None = None
    settled_ns: int | None = None
    value_day: int = 0
    """Days since 1970-01-01, zero for the day of booking."""

    @property
    def iso_status(self) -> str:
        """The status as ISO 20022 writes it."""
        return ISO_STATUS[self.status]

    @property
    def iso_reason(self) -> str:
        """The reason as ISO 20022 writes it, empty if there is none."""
        return ISO_REASON[self.reason]


@dataclass(frozen=True, slots=True)
class LimitsView:
    """What bounds an account and how much of it is used, in minor units; ``None`` where nothing does.

    ``balance`` is the lower of its own maximum and its class's; ``day_used`` and ``year_used`` count what has left it
    up to the business day ``day_counted``, in days since 1970-01-01.
    """

    klass: str | None
    balance: int | None
    balance_used: int
    payment: int | None
    day: int | None
    day_used: int
    year: int | None
    year_used: int
    day_counted: int


@dataclass(frozen=True, slots=True)
class RulesView:
    """One version of a rule set; ``state`` is PAST, IN_FORCE or WAITING."""

    version: RulesVersion
    asset: str
    state: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account with its balances on its normal side, in minor units."""

    number: int
    address: str
    owner: str
    asset: str
    code: str
    book: str
    closed: bool
    posted: int
    pending_out: int
    pending_in: int
    available: int
    limits: LimitsView


@dataclass(frozen=True, slots=True)
class QuoteView:
    """One quote and what is left of it, in sold minor units."""

    quote: int
    provider: str
    sell: str
    buy: str
    rate_e8: int
    maximum: int
    left: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class ParticipantView:
    """One participant and its accounts: (code, asset, number), in order of number."""

    number: int
    code: str
    accounts: tuple[tuple[str, str, int], ...]
    caps: tuple[tuple[str, int], ...]
    """Net debit caps: (asset, minor units), in order of account."""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The sums over the accounts of one code and asset on one book."""

    book: str
    code: str
    asset: str
    accounts: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


# --- payments ---------------------------------------------------------------------------------------------------------


def payment_view(machine: Machine, book: Book, party: int, uetr: int, *, payer: int | None = None) -> PaymentView:
    """Show a payment to a party that takes part in it.

    Args:
        machine: this ledger's.
        book: this ledger's.
        party: who asks: the signer, or the owner of the account that is paid.
        uetr: which payment.
        payer: who signed it, where the payee of a payment inside this ledger asks.

    Raises:
        NotFound: ``PAYMENT_NOT_FOUND``; also where it is somebody else's.
    """
    place = outgoing_place(book, machine.state, party, uetr)
    if place is not None:
        return _outgoing_view(book, place, uetr)
    place = incoming_place(book, machine.state, peer_party(machine), uetr)
    if place is not None:
        table = book.windows[place.window].incoming
        if _owner(machine.state, int(table.rows["creditor"][place.index])) == party:
            return _window_view(book, place, uetr, incoming=True)
    place = None if payer is None else outgoing_place(book, machine.state, payer, uetr)
    inside = place is not None and place.window == 0 and not book.gross["across"][place.index]
    if place is not None and inside and _owner(machine.state, int(book.gross["creditor"][place.index])) == party:
        return _outgoing_view(book, place, uetr)
    raise NotFound("PAYMENT_NOT_FOUND", "There is no payment with this UETR that concerns the signer.")


def _owner(state: State, account: int) -> int:
    """Give the party that owns an account, zero if there is no such account."""
    return int(state.accounts["owner"][account]) if account <= state.account_count else 0


def _outgoing_view(book: Book, place: Place, uetr: int) -> PaymentView:
    if place.window:
        return _window_view(book, place, uetr, incoming=False)
    row = {name: int(book.gross[name][place.index]) for name in ("asset", "creditor_asset", "debtor", "creditor")}
    result = Result(int(book.gross["result"][place.index]))
    position = int(book.gross["position"][place.index])
    settled = result is Result.OK
    return PaymentView(
        uetr=uetr,
        incoming=False,
        status=PaymentStatus.SETTLED if settled else PaymentStatus.REFUSED,
        reason=result,
        debtor=address(book.ledger, row["debtor"]),
        creditor=address(book.peer if book.gross["across"][place.index] else book.ledger, row["creditor"]),
        asset=_asset(book, row["asset"]),
        amount=int(book.gross["amount"][place.index]),
        creditor_asset=_asset(book, row["creditor_asset"]),
        creditor_amount=int(book.gross["creditor_amount"][place.index]) or None,
        record_position=position,
        settled_position=position if settled else None,
        value_day=int(book.gross["value_day"][place.index]),
    )


def _window_view(book: Book, place: Place, uetr: int, *, incoming: bool) -> PaymentView:
    window = book.windows[place.window]
    table = window.incoming if incoming else window.outgoing
    row = table.rows[place.index]
    status = _STATUS[PaymentState(int(table.states[place.index]))]
    if incoming and is_withdrawn(book, place, uetr):
        status = PaymentStatus.CANCELLED
    settled = status is PaymentStatus.SETTLED
    payer, payee = (book.peer, book.ledger) if incoming else (book.ledger, book.peer)
    return PaymentView(
        uetr=uetr,
        incoming=incoming,
        status=status,
        reason=Result(int(table.reasons[place.index])),
        debtor=address(payer, int(row["debtor"])),
        creditor=address(payee, int(row["creditor"])),
        asset=_asset(book, int(row["asset"])),
        amount=int(row["amount"]),
        creditor_asset=_asset(book, int(row["creditor_asset"])),
        creditor_amount=int(row["creditor_amount"]) or None,
        record_position=int(row["position"]),
        window=place.window,
        settled_position=window.settled_position if settled else None,
        settled_ns=window.settled_ns if settled else None,
        value_day=int(row["value_day"]),
    )


def _asset(book: Book, number: int) -> str:
    """Give an asset's code."""
    return next((asset.code for asset in book.genesis.assets if asset.number == number), "")


# --- accounts ---------------------------------------------------------------------------------------------------------


def account_view(machine: Machine, book: Book, number: int) -> AccountView:
    """Show an account.

    Raises:
        NotFound: ``ACCOUNT_NOT_FOUND``.
    """
    account = machine.state.account(number)
    sides = (account.debits_pending, account.credits_pending)
    pending_out, pending_in = sides if account.is_credit_normal else sides[::-1]
    return AccountView(
        number=number,
        address=address(book.ledger, number),
        owner=machine.directory.party(account.owner).code,
        asset=_asset(book, account.asset),
        code=AccountCode(account.code).name,
        book=_book_name(book, int(_books(machine.state, book, np.array([number]))[0])),
        closed=account.is_closed,
        posted=account.balance,
        pending_out=pending_out,
        pending_in=pending_in,
        available=account.available,
        limits=_limits_view(machine, book, account.balance + pending_in, number),
    )


def _limits_view(machine: Machine, book: Book, held: int, number: int) -> LimitsView:
    state = machine.state
    limits = state.limits(number)
    rule = state.class_limits(limits.klass)
    maximums = [limit for limit in (limits.maximum, _or_none(rule.maximum)) if limit is not None]
    return LimitsView(
        klass=book.class_owners[limits.klass][1] if limits.klass else None,
        balance=min(maximums, default=None),
        balance_used=held,
        payment=_or_none(rule.item_max),
        day=_or_none(rule.day_max),
        day_used=limits.day_used,
        year=_or_none(rule.year_max),
        year_used=limits.year_used,
        day_counted=state.business_day,
    )


def _or_none(limit: int) -> int | None:
    return None if limit == UNLIMITED else limit


def rules_view(book: Book) -> list[RulesView]:
    """Show all versions of all rule sets, in order of their names and as they were journaled."""
    shown = []
    for rules, versions in sorted(book.rules.items()):
        begun = book.rules_begun.get(rules, 0)
        for index, version in enumerate(versions, 1):
            state = "WAITING" if index > begun else "IN_FORCE" if index == begun else "PAST"
            shown.append(RulesView(version, _asset(book, version.asset), state))
    return shown


def accounts_of(machine: Machine, party: int) -> list[int]:
    """Give the numbers of the accounts that a party owns, ascending."""
    owned: list[int] = np.flatnonzero(machine.state.accounts["owner"] == party).tolist()
    return owned


def opened_accounts(book: Book, position: int) -> list[str]:
    """Give the addresses of the accounts that the message at a position opened."""
    return [address(book.ledger, number) for number in book.openings.get(position, ())]


def participants_view(book: Book) -> list[ParticipantView]:
    """Show all participants, in the order of joining."""
    return [
        ParticipantView(
            number=participant.number,
            code=participant.code,
            accounts=tuple(
                (code.name, _asset(book, asset), number)
                for (code, asset), number in sorted(participant.accounts.items(), key=lambda entry: entry[1])
            ),
            caps=tuple(
                (_asset(book, asset), book.caps[number])
                for (_, asset), number in sorted(participant.accounts.items(), key=lambda entry: entry[1])
                if number in book.caps
            ),
        )
        for participant in book.participants
    ]


def quote_view(machine: Machine, book: Book, identifier: int) -> QuoteView:
    """Show a quote and what is left of it.

    Raises:
        NotFound: ``QUOTE_NOT_FOUND``.
    """
    quote = book.quotes.get(identifier)
    if quote is None:
        raise NotFound("QUOTE_NOT_FOUND", "There is no such quote on this ledger.")
    return QuoteView(
        quote=identifier,
        provider=book.participant(quote.provider).code,
        sell=_asset(book, quote.sell),
        buy=_asset(book, quote.buy),
        rate_e8=quote.rate_e8,
        maximum=quote.maximum,
        left=machine.state.account(quote.account).available,
        expires_ns=quote.expires_ns,
    )


# --- the whole --------------------------------------------------------------------------------------------------------


def trial_balance(machine: Machine, book: Book) -> list[TrialRow]:
    """Add up all accounts by book, asset and code; each book balances by itself in each asset.

    The institution's book comes first, then the participants' in the order of joining.
    """
    accounts = machine.state.accounts[1:]
    books = _books(machine.state, book, np.arange(1, machine.state.account_count + 1))
    keys = np.stack((books, accounts["asset"], accounts["code"]), axis=1)
    groups, members = np.unique(keys, axis=0, return_inverse=True)
    rows = []
    for index, (number, asset, code) in enumerate(groups.tolist()):
        mine = accounts[members.reshape(-1) == index]
        rows.append(
            TrialRow(
                book=_book_name(book, number),
                code=AccountCode(code).name,
                asset=_asset(book, asset),
                accounts=len(mine),
                debits_posted=sum(mine["debits_posted"].tolist()),
                credits_posted=sum(mine["credits_posted"].tolist()),
                debits_pending=sum(mine["debits_pending"].tolist()),
                credits_pending=sum(mine["credits_pending"].tolist()),
            )
        )
    return rows


def _books(state: State, book: Book, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give the participant on whose book each account is, zero for the institution's.

    An issuer clears on the institution's own book: what it has issued is the institution's debt.
    """
    codes = state.accounts["code"][numbers]
    books = book.participant_of[numbers].astype(np.int64)
    books[np.isin(codes, _INSTITUTION_CODES)] = 0
    clearing = codes == AccountCode.CLEARING
    books[clearing & (book.funds_of[numbers] == 0)] = 0
    return books


def _book_name(book: Book, participant: int) -> str:
    return book.participant(participant).code if participant else INSTITUTION
