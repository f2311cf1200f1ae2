"""What a payment means: the legs that its signature derives, on the payer's ledger and on the payee's.

Whole batches are interpreted in columns. Only a payment with something unusual (a quote, a fee, a refund, the issuer as
a party) is planned by itself, as a short list of legs. Refusals are results of the records, in this order: the debtor's
asset, the payee, the refund, the fee, the quote, then whatever the kernel says; the refusal of one item changes nothing
for the next.

A payment inside one ledger is posted at once, gross. A payment across the border becomes a hold, *member* of the open
window's outgoing group; on the payee's ledger its legs are made, bound, when the other node's list is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.accounts import AccountFlag
from ledger.errors import Conflict, Forbidden, NotFound
from ledger.holds import OPEN
from ledger.machine import Admitted, Context, Machine
from ledger.state import State
from ledger.transfers import Flag, Result, Transfers, id_halves, id_of, transfers
from settlement import plans, refunds
from settlement.bodies import CancellationBody, PaymentItems
from settlement.book import Book, Group, Payments, PaymentState, Window, group_of, window_of
from settlement.chart import AccountCode
from settlement.legs import Halves, Leg, TransferCode, leg_halves, leg_id, parse_uetr
from settlement.places import incoming_base, peer_party

__all__ = [
    "PART_COUNT_MAX",
    "accept_incoming",
    "authorise",
    "authorise_cancellation",
    "execute",
    "execute_cancellation",
]

Reasons = npt.NDArray[np.uint16]
"""Shape (n,), ``Result``."""
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_DEBTORS = np.array(
    [AccountCode.WALLET, AccountCode.POSITION, AccountCode.ISSUE, AccountCode.FEES, AccountCode.SUSPENSE]
)
"""What its owner's signature may debit; all else moves only as a consequence."""
_CREDITORS = np.array([AccountCode.WALLET, AccountCode.POSITION, AccountCode.ISSUE])
"""What anybody may pay to. A suspense account takes payments from its own book alone."""
PART_COUNT_MAX = 100
"""Parts into which repeated refunds may cut a batch: each costs as much as a small batch."""
_CANCELLABLE = (Leg.PAYER, Leg.PROVIDER_RECEIVES, Leg.PROVIDER_PAYS, Leg.QUOTE, Leg.FEE)


def authorise(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party debit its own accounts; one foreign account among many refuses the whole message.

    Raises:
        Forbidden: ``NOT_OWNER``; also where there is no such account, so that nothing is learnt by asking.
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


@dataclass(slots=True)
class _Draft:
    """Commands while they are being filled in; ``first`` and ``counts`` (n,) say which belong to which payment."""

    commands: Transfers
    first: Indices
    counts: Indices


def _execute_part(book: Book, context: Context, party: int, items: PaymentItems, *, first_item: int) -> None:
    rows, across = items.rows, items.across
    reasons = _check(book, context.machine, items)
    rows["debtor_participant"] = book.participant_of[rows["debtor"]]
    local = np.where(across, 0, rows["creditor"])
    local[reasons == Result.PAYEE_NOT_FOUND] = 0
    rows["creditor_participant"] = book.participant_of[local]
    planned = _plan_unusual(book, context, items, reasons)
    rows["creditor_amount"] = np.where(rows["creditor_asset"] == rows["asset"], rows["amount"], rows["creditor_amount"])

    draft = _lay_out(book, items, reasons, planned)
    commands = draft.commands
    commands["party"] = party
    commands["code"] = TransferCode.PAYMENT
    commands["item"] += np.uint32(first_item)
    pending = across & (reasons == 0)
    candidates = np.flatnonzero(pending)
    window = book.open_window
    members = np.zeros(len(rows), np.uint32)
    members[candidates] = window.outgoing.count + np.arange(len(candidates))
    _hold(draft, pending, members, group_of(window.number, Group.OUTGOING), Flag.PENDING)

    base = context.position + 1 + context.count
    context.post(commands)
    rows["position"] = base + draft.first
    outcomes = _outcomes(draft)
    for index in planned:
        if outcomes[index] and not reasons[index] and refunds.refund_of(rows[index]):
            refunds.release(book, rows[index : index + 1], across=bool(across[index]))
    _remember(book, window, items, outcomes, candidates)


# --- what may be paid, and how ----------------------------------------------------------------------------------------


def _check(book: Book, machine: Machine, items: PaymentItems) -> Reasons:
    """Refuse what the accounts alone refuse; zero where they do not."""
    rows = items.rows
    accounts = machine.state.accounts
    reasons = np.zeros(len(rows), np.uint16)
    reasons[accounts["asset"][rows["debtor"]] != rows["asset"]] = Result.DEBTOR_ASSET
    inside = np.flatnonzero(~items.across & (reasons == 0))
    reasons[inside] = _check_payees(book, machine, rows[inside], payers=rows["debtor"][inside])
    return reasons


def _check_payees(book: Book, machine: Machine, rows: Payments, *, payers: npt.NDArray[np.uint32] | None) -> Reasons:
    """Check payees that should be on this ledger; ``payers`` are the accounts beside them, if they are on it too."""
    accounts = machine.state.accounts
    known = rows["creditor"] < len(accounts)
    payees = np.where(known, rows["creditor"], 0)
    found = accounts[payees]
    payable = np.isin(found["code"], _CREDITORS)
    if payers is not None:
        same_book = book.participant_of[payers] == book.participant_of[payees]
        payable |= (found["code"] == AccountCode.SUSPENSE) & same_book
    reasons = np.zeros(len(rows), np.uint16)
    reasons[found["asset"] != rows["creditor_asset"]] = Result.PAYEE_ASSET
    reasons[found["flags"] & AccountFlag.CLOSED != 0] = Result.PAYEE_CLOSED
    reasons[~known | ~payable] = Result.PAYEE_NOT_FOUND
    return reasons


def _plan_unusual(book: Book, context: Context, items: PaymentItems, reasons: Reasons) -> dict[int, plans.Plan]:
    """Plan the payments that columns cannot; fills in reasons and what a quote makes of the amount."""
    rows = items.rows
    codes = context.state.accounts["code"]
    unusual = (codes[rows["debtor"]] == AccountCode.ISSUE) | (items.fees != 0)
    unusual |= (rows["quote_hi"] != 0) | (rows["refund_hi"] != 0)
    inside = np.flatnonzero(~items.across & (reasons == 0))
    unusual[inside] |= codes[rows["creditor"][inside]] == AccountCode.ISSUE
    planned: dict[int, plans.Plan] = {}
    for index in np.flatnonzero(unusual & (reasons == 0)):
        row, across = rows[index], bool(items.across[index])
        if refunds.refund_of(row):
            reasons[index] = refunds.take(book, context.machine, row, across=across)
        if reasons[index]:
            continue
        plan = plans.plan_payment(
            book, row, fee=int(items.fees[index]), across=across, timestamp_ns=context.timestamp_ns
        )
        if isinstance(plan, Result):
            reasons[index] = plan
            if refunds.refund_of(row):
                refunds.release(book, rows[index : index + 1], across=across)
        else:
            planned[int(index)] = plan
            rows["creditor_amount"][index] = plan.creditor_amount
    return planned


# --- commands ---------------------------------------------------------------------------------------------------------


def _lay_out(book: Book, items: PaymentItems, reasons: Reasons, planned: dict[int, plans.Plan]) -> _Draft:
    """Make the commands of all payments: one, two, or three legs each, or what was planned; one for each refusal."""
    rows = items.rows
    usual = reasons == 0
    usual[list(planned)] = False
    between = usual & ~items.across & (rows["debtor_participant"] != rows["creditor_participant"])
    counts = np.ones(len(rows), np.intp)
    counts[between] = 3
    for index, plan in planned.items():
        counts[index] = len(plan.legs)
    draft = _draft(rows, counts)
    commands, first = draft.commands, draft.first

    head = first[~between]
    commands["debit"][head] = rows["debtor"][~between]
    clearing = book.clearing_of[rows["debtor"]]
    commands["credit"][head] = np.where(items.across, clearing, rows["creditor"])[~between]
    commands["result"][first] = reasons

    payers, payees, start = rows["debtor"][between], rows["creditor"][between], first[between]
    steps = (
        (Leg.PAYER, payers, book.funds_of[payers]),
        (Leg.SETTLE, book.settle_of[payers], book.settle_of[payees]),
        (Leg.PAYEE, book.funds_of[payees], payees),
    )
    for offset, (leg, debit, credit) in enumerate(steps):
        commands["leg"][start + offset] = leg
        commands["debit"][start + offset] = debit
        commands["credit"][start + offset] = credit
    _put_plans(draft, planned)
    _name(draft, rows["uetr_hi"], rows["uetr_lo"])
    return draft


def _draft(rows: Payments, counts: Indices) -> _Draft:
    """Make empty commands with what all legs of a payment share."""
    commands = transfers(int(counts.sum()))
    first = np.cumsum(counts) - counts
    commands["item"] = np.repeat(np.arange(len(rows)), counts)
    commands["amount"] = np.repeat(rows["amount"], counts)
    commands["flags"] = Flag.LINKED
    commands["flags"][first + counts - 1] = Flag.NONE
    return _Draft(commands, first, counts)


def _put_plans(draft: _Draft, planned: dict[int, plans.Plan]) -> None:
    for index, plan in planned.items():
        start = int(draft.first[index])
        part = draft.commands[start : start + len(plan.legs)]
        part["leg"] = [step.leg for step in plan.legs]
        part["debit"] = [step.debit for step in plan.legs]
        part["credit"] = [step.credit for step in plan.legs]
        part["amount"] = [step.amount for step in plan.legs]


def _name(draft: _Draft, high: Halves, low: Halves) -> None:
    """Give every leg its id: its payment's halves (n,) with the leg's number in the fixed bits."""
    commands = draft.commands
    highs, lows = np.repeat(high, draft.counts), np.repeat(low, draft.counts)
    commands["id_hi"], commands["id_lo"] = leg_halves(highs, lows, commands["leg"])


def _hold(draft: _Draft, pending: Flags, members: npt.NDArray[np.uint32], group: int, flag: Flag) -> None:
    """Turn the legs of the ``pending`` payments into holds of a group."""
    chosen = np.repeat(pending, draft.counts)
    draft.commands["flags"][chosen] |= np.uint16(flag)
    draft.commands["group"][chosen] = group
    draft.commands["member"][chosen] = np.repeat(members, draft.counts)[chosen]


def _outcomes(draft: _Draft) -> Reasons:
    """Give each payment's reason, zero where all its legs were applied."""
    results = draft.commands["result"]
    outcomes: Reasons = results[draft.first].copy()
    for index in np.flatnonzero((outcomes != 0) & (draft.counts > 1)):
        part = draft.commands[draft.first[index] : draft.first[index] + draft.counts[index]]
        outcomes[index] = plans.reason_of(part["leg"], part["result"])
    return outcomes


def _remember(book: Book, window: Window, items: PaymentItems, outcomes: Reasons, candidates: Indices) -> None:
    """Write rows into the window and the tables behind it."""
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
    decided = (~across | (outcomes != 0)) & (outcomes != Result.ID_EXISTS)
    if np.any(decided):
        names = ("position", "amount", "creditor_amount", "debtor", "creditor", "asset", "creditor_asset")
        book.gross.append(
            **{name: rows[name][decided] for name in names}, result=outcomes[decided], across=across[decided]
        )


# --- the payee's side -------------------------------------------------------------------------------------------------


def accept_incoming(context: Context, book: Book, window: Window, payments: Payments) -> Reasons:
    """Make the payee-side legs of the other node's payments: bound holds in the window's incoming group.

    Member ``window.incoming.count + i`` is ``payments[i]``; the caller appends the rows. Fills in
    ``creditor_participant`` and ``creditor_amount``, both zero where a payment is rejected.

    Args:
        context: of the message that carries the list.
        book: this ledger's.
        window: the window that the list belongs to.
        payments: shape (n,), changed in place.

    Returns:
        For each payment why it is rejected, zero where it is accepted.
    """
    count = len(payments)
    reasons = _check_payees(book, context.machine, payments, payers=None)
    payees = np.where(reasons == 0, payments["creditor"], 0)
    same = payments["asset"] == payments["creditor_asset"]
    differs = (payments["creditor_amount"] != 0) & (payments["creditor_amount"] != payments["amount"])
    reasons[(reasons == 0) & same & differs] = Result.AMOUNT_INVALID
    amounts = np.where(same, payments["amount"], payments["creditor_amount"])
    planned: dict[int, plans.Plan] = {}
    for index in np.flatnonzero((reasons == 0) & (amounts == 0)):
        plan = plans.plan_incoming(book, payments[index], timestamp_ns=context.timestamp_ns)
        if isinstance(plan, Result):
            reasons[index] = plan
        else:
            planned[int(index)] = plan
            amounts[index] = plan.creditor_amount

    draft = _lay_out_incoming(book, payments, reasons, planned, payees=payees, amounts=amounts)
    draft.commands["party"] = peer_party(context.machine)
    members = np.arange(window.incoming.count, window.incoming.count + count, dtype=np.uint32)
    _hold(draft, reasons == 0, members, group_of(window.number, Group.INCOMING), Flag.PENDING | Flag.BOUND)
    _name(draft, *_incoming_halves(book, window, payments))
    base = context.position + 1 + context.count
    context.post(draft.commands)
    outcomes = _outcomes(draft)
    accepted = outcomes == 0
    payments["creditor_participant"] = np.where(accepted, book.participant_of[payees], 0)
    payments["creditor_amount"] = np.where(accepted, amounts, 0)
    book.incoming_places.append(
        position=base + np.flatnonzero(draft.commands["leg"] == Leg.PAYEE),
        window=np.full(count, window.number),
        member=members,
    )
    return outcomes


def _lay_out_incoming(
    book: Book,
    payments: Payments,
    reasons: Reasons,
    planned: dict[int, plans.Plan],
    *,
    payees: npt.NDArray[np.uint32],
    amounts: npt.NDArray[np.int64],
) -> _Draft:
    """Make the commands: CLEARING ⇢ payee for each, or what was planned; one record for each rejection too."""
    counts = np.ones(len(payments), np.intp)
    for index, plan in planned.items():
        counts[index] = len(plan.legs)
    draft = _draft(payments, counts)
    commands, first = draft.commands, draft.first
    commands["code"] = TransferCode.INCOMING
    commands["leg"][first] = Leg.PAYEE
    commands["amount"][first] = np.where(amounts > 0, amounts, payments["amount"])
    commands["debit"][first] = book.clearing_of[payees]
    commands["credit"][first] = payments["creditor"]
    commands["result"][first] = reasons
    _put_plans(draft, planned)
    return draft


def _incoming_halves(book: Book, window: Window, payments: Payments) -> tuple[Halves, Halves]:
    """Give what the ids are made from: the UETR, or something fresh if it was accepted before and carried out."""
    before = book.windows.get(window.number - 1)
    if before is not None:
        carried = before.incoming.rows[before.incoming.states == PaymentState.CARRIED]
        book.incoming_waiting.update(_uetrs(carried))
    high, low = payments["uetr_hi"].copy(), payments["uetr_lo"].copy()
    if not book.incoming_waiting:
        return high, low
    halves = np.fromiter((uetr >> 64 for uetr in book.incoming_waiting), np.uint64, len(book.incoming_waiting))
    for index in np.flatnonzero(np.isin(high, halves)):
        uetr = id_of(high[index], low[index])
        if uetr in book.incoming_waiting:
            high[index], low[index] = id_halves(incoming_base(uetr, window.number))
    book.incoming_waiting.difference_update(_uetrs(payments))
    return high, low


def _uetrs(rows: Payments) -> list[int]:
    return [high << 64 | low for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)]


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
