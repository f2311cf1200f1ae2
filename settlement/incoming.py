"""The payee's side of payments across the border: accepting or rejecting the other node's list.

Each accepted payment gets its legs as holds that are bound from the start, in the window's incoming group; each
rejected one a record with the reason. Their ids are scoped to the other node's party, so that they collide with
nobody's here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger.accounts import AccountFlag
from ledger.machine import Context, Machine
from ledger.transfers import Flag, Result, id_halves, id_of
from settlement import fx
from settlement.book import Book, Group, Payments, PaymentState, Window, group_of
from settlement.chart import AccountCode
from settlement.drafts import Draft, Indices, Mask
from settlement.fx import Reasons
from settlement.legs import Halves, Leg, TransferCode
from settlement.places import incoming_base, peer_party
from settlement.statements import LIST_COUNT_MAX

__all__ = ["accept_incoming", "check_payees"]

_CREDITORS = np.array([AccountCode.WALLET, AccountCode.POSITION, AccountCode.ISSUE])
"""What anybody may pay to. A suspense account takes payments from its own book alone."""


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
    reasons = check_payees(book, context.machine, payments, payers=None)
    quotes = _judge(book, payments, reasons, timestamp_ns=context.timestamp_ns)
    draft = _lay_out(book, payments, reasons, quotes)
    draft.commands["party"] = peer_party(context.machine)
    first = window.incoming.count
    members = np.arange(first, first + len(payments), dtype=np.uint32)
    group = group_of(window.number, Group.INCOMING)
    draft.hold(reasons == 0, members, group=group, flags=Flag.PENDING | Flag.BOUND)
    high, low, again = _incoming_halves(book, window, payments)
    draft.name(high, low, shift=np.where(again, int(Leg.AGAIN), 0))
    position = context.position + 1 + context.count
    context.post(draft.commands)
    outcomes = draft.outcomes()
    payments["creditor_amount"][outcomes != 0] = 0
    payees = np.where(outcomes == 0, payments["creditor"], 0)
    payments["creditor_participant"] = book.participant_of[payees]
    book.incoming_places.append(
        position=position + np.flatnonzero(draft.commands["leg"] == Leg.PAYEE),
        window=np.full(len(payments), window.number),
        member=members,
    )
    return outcomes


def _judge(book: Book, payments: Payments, reasons: Reasons, *, timestamp_ns: int) -> Indices:
    """Fill in what payees receive, and reasons; gives the rows of the quotes that convert here, -1 for none."""
    amounts = payments["creditor_amount"]
    same = payments["asset"] == payments["creditor_asset"]
    reasons[(reasons == 0) & same & (amounts != 0) & (amounts != payments["amount"])] = Result.AMOUNT_INVALID
    amounts[same] = payments["amount"][same]
    quotes = np.full(len(payments), -1, np.intp)
    here = np.flatnonzero((reasons == 0) & (amounts == 0))
    quotes[here] = fx.look_up(book, payments[here])
    reasons[here[quotes[here] < 0]] = Result.QUOTE_NOT_FOUND
    known = here[quotes[here] >= 0]
    reasons[known], amounts[known] = fx.assess(book, payments[known], quotes[known], timestamp_ns=timestamp_ns)
    quotes[reasons != 0] = -1
    return quotes


def _lay_out(book: Book, payments: Payments, reasons: Reasons, quotes: Indices) -> Draft:
    """Make the commands: CLEARING ⇢ payee, around it what a conversion takes, or one record of a rejection."""
    exchange = quotes >= 0
    draft = Draft.of(payments, np.where(exchange, 4, 1).astype(np.intp))
    draft.commands["code"] = TransferCode.INCOMING
    draft.commands["result"][draft.first] = reasons
    amounts = payments["creditor_amount"]
    start, received = draft.first[exchange], amounts[exchange]
    draft.put_conversion(book, start, quotes[exchange], received=received)
    draft.put_quote(book, start + 3, quotes[exchange], received=received)
    payees = np.where(reasons == 0, payments["creditor"], 0)
    at = draft.first + np.where(exchange, 2, 0)
    draft.put(at, Leg.PAYEE, book.clearing_of[payees], payments["creditor"])
    draft.commands["amount"][at] = np.where(reasons == 0, amounts, payments["amount"])
    return draft


def _incoming_halves(book: Book, window: Window, payments: Payments) -> tuple[Halves, Halves, Mask]:
    """Give what the ids are made from: the UETR, or something fresh for those accepted before and carried out.

    Those that wait and are not in a list that has room for them were cancelled: nothing waits for them any longer.
    """
    before = book.windows.get(window.number - 1)
    if before is not None:
        carried = before.incoming.rows[before.incoming.states == PaymentState.CARRIED]
        book.incoming_waiting.update(_uetrs(carried))
    high, low = payments["uetr_hi"].copy(), payments["uetr_lo"].copy()
    again = np.zeros(len(payments), np.bool_)
    if not book.incoming_waiting:
        return high, low, again
    halves = np.fromiter((uetr >> 64 for uetr in book.incoming_waiting), np.uint64, len(book.incoming_waiting))
    for index in np.flatnonzero(np.isin(high, halves)):
        uetr = id_of(high[index], low[index])
        if uetr in book.incoming_waiting:
            high[index], low[index] = id_halves(incoming_base(uetr, window.number))
            again[index] = True
    if len(payments) < LIST_COUNT_MAX:
        book.incoming_waiting.clear()
    else:
        book.incoming_waiting.difference_update(_uetrs(payments))
    return high, low, again


def _uetrs(rows: Payments) -> list[int]:
    return [high << 64 | low for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)]


def check_payees(book: Book, machine: Machine, rows: Payments, *, payers: npt.NDArray[np.uint32] | None) -> Reasons:
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
