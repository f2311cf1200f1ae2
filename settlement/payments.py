"""What a payment means: the legs that its signature derives, on the payer's ledger and on the payee's.

Whole batches are interpreted in columns; only refunds are looked up one by one. Refusals are results of the records, in
this order: a UETR that is used up, the debtor's asset, the payee, the refund, the fee, the quote, then whatever the
kernel says; the refusal of one item changes nothing for the next.

A payment inside one ledger is posted at once, gross. A payment across the border becomes a hold, *member* of the open
window's outgoing group; on the payee's ledger its legs are made, bound, when the other node's list is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.errors import Conflict, Forbidden, NotFound, Rejected
from ledger.holds import OPEN
from ledger.machine import Admitted, Context, Machine
from ledger.state import State
from ledger.transfers import Flag, Result, id_halves, id_of, transfers
from settlement import fx, refunds
from settlement.bodies import CancellationBody, PaymentItems
from settlement.book import Book, Group, Payments, PaymentState, Window, group_of, window_of
from settlement.chart import AccountCode
from settlement.drafts import Draft, Indices, Mask, gross_counts
from settlement.fx import Reasons
from settlement.incoming import accept_incoming, check_payees
from settlement.legs import Leg, TransferCode, leg_id, parse_uetr

__all__ = [
    "PART_COUNT_MAX",
    "VALUE_DISTANCE_MAX",
    "accept_incoming",
    "authorise",
    "authorise_cancellation",
    "execute",
    "execute_cancellation",
]

PART_COUNT_MAX = 100
"""Parts into which repeated refunds may cut a batch: each costs as much as a small batch."""
VALUE_DISTANCE_MAX = 366
"""Days between a payment's value date and the business day on which it is made, either way."""
_DEBTORS = np.array(
    [AccountCode.WALLET, AccountCode.POSITION, AccountCode.ISSUE, AccountCode.FEES, AccountCode.SUSPENSE]
)
"""What its owner's signature may debit; all else moves only as a consequence."""
_GROSS = (Leg.PAYER, Leg.SETTLE, Leg.PAYEE)
_BOUGHT = (Leg.PAYER, Leg.SETTLE, Leg.PROVIDER_RECEIVES)
_SOLD = (Leg.PROVIDER_PAYS, Leg.SETTLE_BOUGHT, Leg.PAYEE)
"""The legs from payer to payee, and with FX from payer to provider and from provider to payee."""
_CANCELLABLE = (Leg.PAYER, Leg.PROVIDER_RECEIVES, Leg.PROVIDER_PAYS, Leg.QUOTE, Leg.FEE)


def authorise(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party debit its own accounts; one foreign account among many refuses the whole message.

    Raises:
        Forbidden: ``NOT_OWNER``; also where there is no such account, so that nothing is learnt by asking.
        Rejected: ``VALUE_DATE_RANGE``; one payment among many refuses the whole message, as it does there.
    """
    items: PaymentItems = admitted.content
    accounts = machine.state.accounts
    debtor = items.rows["debtor"]
    known = debtor < len(accounts)
    rows = accounts[np.where(known, debtor, 0)]
    permitted = known & (rows["owner"] == admitted.party) & np.isin(rows["code"], _DEBTORS)
    if not np.all(permitted):
        item = int(np.flatnonzero(~permitted)[0])
        raise Forbidden("NOT_OWNER", "A payment debits an account that is not the signer's to debit.", item=item)
    days = items.rows["value_day"].astype(np.int64)
    distant = (days != 0) & (np.abs(days - machine.state.business_day) > VALUE_DISTANCE_MAX)
    if np.any(distant):
        item = int(np.flatnonzero(distant)[0])
        raise Rejected("VALUE_DATE_RANGE", "A value date is more than a year from the business day.", item=item)


def execute(book: Book, admitted: Admitted, context: Context) -> None:
    """Interpret and post payments in order.

    A refund sees what the payments before it did, so a second refund of the same payment begins a new part of the
    batch.
    """
    items: PaymentItems = admitted.content
    for first, end in _parts(items.rows):
        _execute_part(
            book,
            context,
            admitted.party,
            PaymentItems(items.rows[first:end].copy(), items.fees[first:end], items.across[first:end]),
            first_item=first,
        )


def _parts(rows: Payments) -> Iterator[tuple[int, int]]:
    """Cut a batch so that no part refunds one payment twice, as long as there are not too many parts.

    In the last part a refund that fails still counts for those behind it: less is refunded than could be, never more.
    """
    first, count = 0, 1
    seen: set[int] = set()
    for index in np.flatnonzero((rows["refund_hi"] != 0) | (rows["refund_lo"] != 0)):
        uetr = refunds.refund_of(rows[index])
        if uetr in seen and count < PART_COUNT_MAX:
            yield first, int(index)
            first, count, seen = int(index), count + 1, set()
        seen.add(uetr)
    yield first, len(rows)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What payments mean before they are posted: columns of one length.

    ``quotes`` is the row of each payment's terms here, -1 for none; ``refunding`` marks refunds that have been counted.
    """

    reasons: Reasons
    quotes: Indices
    refunding: Mask


def _execute_part(book: Book, context: Context, party: int, items: PaymentItems, *, first_item: int) -> None:
    rows, across = items.rows, items.across
    reading = _read(book, context, party, items)
    draft = _lay_out(book, items, reading)
    commands = draft.commands
    commands["party"] = party
    commands["code"] = TransferCode.PAYMENT
    commands["item"] += np.uint32(first_item)
    pending = across & (reading.reasons == 0)
    candidates = np.flatnonzero(pending)
    window = book.open_window
    members = np.zeros(len(rows), np.uint32)
    members[candidates] = window.outgoing.count + np.arange(len(candidates))
    draft.hold(pending, members, group=group_of(window.number, Group.OUTGOING), flags=Flag.PENDING)

    rows["position"] = context.position + 1 + context.count + draft.first
    context.post(commands)
    outcomes = draft.outcomes()
    for local in (True, False):
        failed = reading.refunding & (outcomes != 0) & (across != local)
        refunds.release(book, rows[failed], across=not local)
    named = commands["result"][draft.first] != Result.ID_EXISTS
    _remember(book, window, items, outcomes, candidates, named=named)


# --- what payments mean -----------------------------------------------------------------------------------------------


def _read(book: Book, context: Context, party: int, items: PaymentItems) -> _Reading:
    """Find out what each payment means; fills in participants and what payees receive."""
    rows, across = items.rows, items.across
    reasons = _check(book, context.machine, items)
    rows["debtor_participant"] = book.participant_of[rows["debtor"]]
    rows["creditor_participant"] = book.participant_of[np.where(across | (reasons != 0), 0, rows["creditor"])]
    refunding = np.zeros(len(rows), np.bool_)
    for index in np.flatnonzero((rows["refund_hi"] != 0) & (reasons == 0)):
        reasons[index] = refunds.take(book, context.machine, rows[index], across=bool(across[index]))
        refunding[index] = reasons[index] == Result.OK
    reasons[(items.fees > 0) & (book.fees_of[rows["debtor"]] == 0) & (reasons == 0)] = Result.FEE_ACCOUNT
    rows["creditor_amount"] = np.where(rows["creditor_asset"] == rows["asset"], rows["amount"], 0)
    quotes = _convert(book, items, reasons, timestamp_ns=context.timestamp_ns)
    reasons[_repeated(context.state, party, items, reasons)] = Result.ID_EXISTS
    return _Reading(reasons, quotes, refunding)


def _repeated(state: State, party: int, items: PaymentItems, reasons: Reasons) -> Indices:
    """Find those that are refused, or would be before ids are looked at, and whose UETR was used before.

    What a payment is refused for may have changed since; that it is the same one again has not. All others are left to
    the kernel, which sees by itself that an id is used up.
    """
    rows = items.rows
    suspects = np.flatnonzero((reasons != 0) | (~items.across & (rows["debtor"] == rows["creditor"])))
    if not len(suspects):
        return suspects
    uetrs = [id_of(high, low) for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)]
    first = dict(zip(reversed(uetrs), range(len(uetrs) - 1, -1, -1), strict=True))
    used = [
        first[uetrs[index]] < index or state.lookup(party, leg_id(uetrs[index], Leg.PAYER)) is not None
        for index in suspects.tolist()
    ]
    return suspects[used]


def _convert(book: Book, items: PaymentItems, reasons: Reasons, *, timestamp_ns: int) -> Indices:
    """Apply the quotes of this ledger; gives their rows, -1 where there is none. Fills in reasons and amounts.

    Across the border a quote that is unknown here may be the other ledger's: that will convert, or reject.
    """
    rows = items.rows
    quotes = np.full(len(rows), -1, np.intp)
    named = np.flatnonzero((rows["quote_hi"] != 0) & (reasons == 0))
    quotes[named] = fx.look_up(book, rows[named])
    reasons[named[(quotes[named] < 0) & ~items.across[named]]] = Result.QUOTE_NOT_FOUND
    known = named[quotes[named] >= 0]
    refused, received = fx.assess(book, rows[known], quotes[known], timestamp_ns=timestamp_ns)
    reasons[known] = refused
    rows["creditor_amount"][known] = np.where(refused == 0, received, 0)
    return quotes


def _check(book: Book, machine: Machine, items: PaymentItems) -> Reasons:
    """Refuse what the accounts alone refuse; zero where they do not."""
    rows = items.rows
    accounts = machine.state.accounts
    reasons = np.zeros(len(rows), np.uint16)
    reasons[accounts["asset"][rows["debtor"]] != rows["asset"]] = Result.DEBTOR_ASSET
    inside = np.flatnonzero(~items.across & (reasons == 0))
    reasons[inside] = check_payees(book, machine, rows[inside], payers=rows["debtor"][inside])
    return reasons


# --- commands ---------------------------------------------------------------------------------------------------------


def _lay_out(book: Book, items: PaymentItems, reading: _Reading) -> Draft:
    """Make the commands of all payments: their legs in the order of the flow, or one record of a refusal."""
    rows, across, quotes = items.rows, items.across, reading.quotes
    passed, converts = reading.reasons == 0, quotes >= 0
    inside, exchange = passed & ~across & ~converts, passed & ~across & converts
    outward = passed & across & converts
    charged = passed & (items.fees > 0)
    payers, payees, terms = rows["debtor"], rows["creditor"], book.quote_terms
    bought, sold = terms["bought_position"][quotes[exchange]], terms["sold_position"][quotes[exchange]]
    counts = np.ones(len(rows), np.intp)
    counts[inside] = gross_counts(book, payers[inside], payees[inside])
    bought_counts = gross_counts(book, payers[exchange], bought)
    sold_counts = gross_counts(book, sold, payees[exchange])
    counts[exchange] = bought_counts + sold_counts + 1
    counts[outward] = 4
    draft = Draft.of(rows, counts + charged)
    first, amounts, received = draft.first, rows["amount"], rows["creditor_amount"]

    head = ~inside & ~exchange
    draft.put(first[head], Leg.PAYER, payers[head], np.where(across, book.clearing_of[payers], payees)[head])
    draft.commands["result"][first] = reading.reasons
    draft.put_gross(book, first[inside], payers[inside], payees[inside], amounts[inside], legs=_GROSS)
    start = first[exchange]
    draft.put_gross(book, start, payers[exchange], bought, amounts[exchange], legs=_BOUGHT)
    start = start + bought_counts
    draft.put_gross(book, start, sold, payees[exchange], received[exchange], legs=_SOLD)
    draft.put_quote(book, start + sold_counts, quotes[exchange], received=received[exchange])
    draft.put_conversion(book, first[outward] + 1, quotes[outward], received=received[outward])
    draft.put_quote(book, first[outward] + 3, quotes[outward], received=received[outward])
    payers = payers[charged]
    draft.put((first + counts)[charged], Leg.FEE, payers, book.fees_of[payers], items.fees[charged])
    draft.name(rows["uetr_hi"], rows["uetr_lo"])
    return draft


def _remember(
    book: Book, window: Window, items: PaymentItems, outcomes: Reasons, candidates: Indices, *, named: Mask
) -> None:
    """Write rows into the window and the tables behind it; only those ``named`` have come to bear their UETR."""
    rows, across = items.rows, items.across
    accepted = outcomes[candidates] == 0
    listed = candidates[: int(np.flatnonzero(accepted)[-1]) + 1] if np.any(accepted) else candidates[:0]
    if len(listed):
        first = window.outgoing.append(rows[listed])
        refused = first + np.flatnonzero(outcomes[listed])
        window.outgoing.states[refused] = PaymentState.REFUSED
        window.outgoing.reasons[refused] = outcomes[listed][outcomes[listed] != 0]
        members = np.flatnonzero(outcomes[listed] == 0)
        book.outgoing_places.append(
            position=rows["position"][listed[members]],
            window=np.full(len(members), window.number),
            member=first + members,
        )
    decided = (~across | (outcomes != 0)) & named
    if np.any(decided):
        names = ("position", "amount", "creditor_amount", "debtor", "creditor", "asset", "creditor_asset", "value_day")
        book.gross.append(
            **{name: rows[name][decided] for name in names}, result=outcomes[decided], across=across[decided]
        )


# --- cancellation -----------------------------------------------------------------------------------------------------


def authorise_cancellation(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party cancel its own payment while the payment's window is open.

    Raises:
        NotFound: ``PAYMENT_NOT_FOUND``.
        Conflict: ``PAYMENT_DECIDED``, ``WINDOW_CLOSED``.
    """
    hold = _waiting(machine.state, admitted)
    if hold["status"] != OPEN:
        raise Conflict("WINDOW_CLOSED", "The payment's window is closed: it is being settled.")


def execute_cancellation(book: Book, admitted: Admitted, context: Context) -> None:
    """Void all legs of the payment, linked."""
    body: CancellationBody = admitted.content
    uetr = parse_uetr(body.uetr)
    hold = _waiting(context.state, admitted)
    legs = [leg for leg in _CANCELLABLE if context.state.hold(admitted.party, leg_id(uetr, leg)) is not None]
    commands = transfers(len(legs))
    commands["id_hi"], commands["id_lo"] = _columns([leg_id(uetr, Leg.CANCELLATION + leg) for leg in legs])
    commands["related_hi"], commands["related_lo"] = _columns([leg_id(uetr, leg) for leg in legs])
    commands["flags"] = Flag.VOID | Flag.LINKED
    commands["flags"][-1] = Flag.VOID
    commands["group"] = hold["group"]
    commands["party"] = admitted.party
    commands["code"] = TransferCode.PAYMENT
    commands["leg"] = legs
    if np.any(context.post(commands)["result"] != Result.OK):
        return  # the signer has used up the ids of its own cancellation: the payment waits on
    table = book.window(window_of(int(hold["group"]))[0]).outgoing
    member = int(hold["member"])
    table.states[member] = PaymentState.CANCELLED
    refunds.release(book, table.rows[member : member + 1])


def _waiting(state: State, admitted: Admitted) -> np.void:
    """Give the hold of the payer's leg of a payment that waits for its window.

    Raises:
        NotFound: ``PAYMENT_NOT_FOUND``.
        Conflict: ``PAYMENT_DECIDED``.
    """
    body: CancellationBody = admitted.content
    identifier = leg_id(parse_uetr(body.uetr), Leg.PAYER)
    hold = state.hold(admitted.party, identifier)
    if hold is not None and window_of(int(hold["group"]))[1] is Group.OUTGOING and hold["group"] != 0:
        return hold
    if state.lookup(admitted.party, identifier) is None:
        raise NotFound("PAYMENT_NOT_FOUND", "The signer has sent no payment with this UETR.", uetr=body.uetr)
    raise Conflict("PAYMENT_DECIDED", "The payment has ended already.", uetr=body.uetr)


def _columns(identifiers: list[int]) -> npt.NDArray[np.uint64]:
    """Give the halves of ids as two columns, shape (2, n)."""
    return np.array([id_halves(identifier) for identifier in identifiers], np.uint64).T
