"""Applying a committed window at one node, and what must hold on its books afterwards (I11, I13)."""

from __future__ import annotations

import numpy as np

from ledger import posting
from ledger.errors import InvariantViolation
from ledger.machine import Context
from ledger.state import State
from settlement import answers, packing
from settlement.book import Book, Group, PaymentState, Window, group_of
from settlement.chart import AccountCode
from settlement.obligations import accepted_of, completeness, listed_members
from settlement.statements import ListBody, ProposalBody, body_of, statement_key

__all__ = ["apply_commit", "book_faults", "check_books"]


def apply_commit(book: Book, context: Context, window: Window, proposal: ProposalBody) -> None:
    """Post what is selected with the net positions; void incoming, and carry outgoing payments that are not selected.

    Raises:
        InvariantViolation: I7, I11 or I13 would not hold.
    """
    state = context.state
    selections = answers.selections_of(proposal)
    signed = answers.signed_of(window)
    before = _settle_balances(book, state)
    posting.group_post(state, group_of(window.number, Group.NET), None, position=context.latest_position)
    _end_incoming(context, window, selections[book.peer])
    accepted = accepted_of(signed.acceptances[book.ledger])
    _end_outgoing(book, context, window, selected=selections[book.ledger], accepted=accepted)
    _check_moved(book, before, _settle_balances(book, state), proposal)
    for kind in Group:
        if len(posting.group_holds(state, group_of(window.number, kind))):
            raise InvariantViolation(f"I7: a hold of window {window.number} has outlived its decision")
    counted = completeness(book.ledger, signed, selections[book.ledger])
    states = window.outgoing.states
    listed = states[listed_members(window)]
    found = [int(np.count_nonzero(listed == state)) for state in _ENDS]
    if found != [counted.settled, counted.rejected, counted.carried_out]:
        raise InvariantViolation(f"I13: the payments of window {window.number} do not add up")
    if int(np.count_nonzero(states == PaymentState.CANCELLED)) != counted.cancelled:
        raise InvariantViolation(f"I13: a payment of window {window.number} was cancelled after its list")


_ENDS = (PaymentState.SETTLED, PaymentState.REJECTED, PaymentState.CARRIED)
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def _end_incoming(context: Context, window: Window, selected: Mask) -> None:
    incoming = window.incoming
    waiting = incoming.states == PaymentState.PENDING
    group = group_of(window.number, Group.INCOMING)
    posting.group_post(context.state, group, selected, position=context.latest_position)
    posting.group_void(context.state, group, ~selected, position=context.latest_position)
    incoming.states[selected] = PaymentState.SETTLED
    incoming.states[waiting & ~selected] = PaymentState.CARRIED


def _end_outgoing(book: Book, context: Context, window: Window, *, selected: Mask, accepted: Mask) -> None:
    """Post the selected members; move the others to the open window as they stood in the list."""
    state, outgoing, following = context.state, window.outgoing, book.open_window
    members = listed_members(window)
    settled, carried = members[selected], members[accepted & ~selected]
    chosen = np.zeros(outgoing.count, np.bool_)
    chosen[settled] = True
    source, target = (group_of(number, Group.OUTGOING) for number in (window.number, following.number))
    posting.group_post(state, source, chosen, position=context.latest_position)
    body = body_of(window.statements[statement_key("list", book.ledger)], ListBody)
    moved = np.full(outgoing.count, posting.STAY, np.uint32)
    first = following.outgoing.append(packing.rows_of(body)[accepted & ~selected])
    moved[carried] = np.arange(first, first + len(carried), dtype=np.uint32)
    posting.group_move(state, source, target, moved)
    posting.group_release(state, target)
    following.carried_in = len(carried)
    outgoing.states[settled] = PaymentState.SETTLED
    outgoing.states[carried] = PaymentState.CARRIED
    outgoing.moved_to[carried] = moved[carried]


# --- I11 --------------------------------------------------------------------------------------------------------------


def _settle_balances(book: Book, state: State) -> dict[tuple[str, str], int]:
    """Give the settlement account's balance by participant and asset; issuers have none."""
    assets = {asset.number: asset.code for asset in book.genesis.assets}
    return {
        (participant.code, assets[asset]): state.balance(number)
        for participant in book.participants
        for (code, asset), number in participant.accounts.items()
        if code is AccountCode.SETTLE and (AccountCode.FUNDS, asset) in participant.accounts
    }


def _check_moved(
    book: Book, before: dict[tuple[str, str], int], after: dict[tuple[str, str], int], proposal: ProposalBody
) -> None:
    """Check that each settlement account has moved by exactly its net position (I11)."""
    nets = {(net.participant, net.asset): net.amount for net in answers.own_nets(book, proposal)}
    for key, balance in before.items():
        if after[key] - balance != nets.get(key, 0):
            raise InvariantViolation(f"I11: the settlement account of {key} has not moved by its net position")


def book_faults(book: Book, state: State) -> list[str]:
    """Say what of I11 does not hold on this ledger's books; nothing if all does.

    It holds between any two blocks: only a decision posts to clearing and netting accounts.
    """
    accounts = state.accounts
    between = np.isin(accounts["code"], (AccountCode.CLEARING, AccountCode.NETTING))
    uneven = np.flatnonzero(between & (accounts["debits_posted"] != accounts["credits_posted"]))
    faults = [f"I11: account {number} of {book.ledger} is not at zero" for number in uneven.tolist()]
    for participant in book.participants:
        for (code, asset), number in participant.accounts.items():
            funds = participant.accounts.get((AccountCode.FUNDS, asset))
            if code is AccountCode.SETTLE and funds is not None and state.balance(number) != state.balance(funds):
                faults.append(f"I11: funds of {participant.code} on {book.ledger} differ from its settlement account")
    return faults


def check_books(book: Book, state: State) -> None:
    """Check I11 on this ledger's books.

    Raises:
        InvariantViolation: it does not hold.
    """
    faults = book_faults(book, state)
    if faults:
        raise InvariantViolation(faults[0])
