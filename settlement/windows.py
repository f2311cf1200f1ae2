"""What each statement of the settlement cycle does at a node: may it be journaled now, and what changes.

``authorise`` holds a statement to the state of its window and to what this node derives by itself; ``execute`` cannot
fail after it. Hold groups end without records, because which members end follows from the statement. What must hold
after a window is applied (I11, I13) is checked before the block is made, so that a mistake of ours stops the node
instead of entering the journal.

==============  =========================  ==============================================================
statement       window must be             then
==============  =========================  ==============================================================
close           OPEN, the one before done  outgoing holds bound, next window open                 → CLOSED
list            CLOSED                     the peer's: incoming legs held and bound, or rejected
acceptance      CLOSED                     the peer's: rejected outgoing members voided           → ACCEPTED
proposal        ACCEPTED, next attempt     nothing                                                → NETTED
vote            NETTED                     this node's yes: net positions held                    → VOTED
decision        both votes are here        commit: everything posted or carried                   → SETTLED
                                           abort: net positions voided                            → ACCEPTED
==============  =========================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ledger import posting
from ledger.errors import Conflict, InvariantViolation, Rejected
from ledger.machine import Admitted, Context, Machine
from ledger.messages import Envelope
from ledger.transfers import Result
from settlement import answers, caps, packing, payments, refunds, reservation, statements
from settlement.applied import apply_commit, check_books
from settlement.book import Book, Group, PaymentState, Window, WindowState, group_of
from settlement.obligations import (
    accepted_of,
    check_acceptance,
    deferred_members,
    derived_nets,
    held_nets,
    listed_members,
)
from settlement.speakers import check_speaker
from settlement.statements import (
    WINDOW_MAX,
    AcceptanceBody,
    CloseBody,
    DecisionBody,
    ListBody,
    ProposalBody,
    VoteBody,
    VoteReason,
    body_of,
    digest_of,
    statement_key,
)

__all__ = ["authorise", "check_proposal", "check_vote", "decode", "execute"]

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class _Turn(Generic[B]):
    """One statement whose turn has come."""

    book: Book
    machine: Machine
    window: Window
    body: B
    admitted: Admitted

    @property
    def speaker(self) -> str:
        return self.admitted.envelope.ledger

    @property
    def is_own(self) -> bool:
        return self.speaker == self.book.ledger

    def other(self, kind: str, ledger: str = statements.OPERATOR_LEDGER, attempt: int = 0) -> Any:
        """Give another statement of the window, ``None`` if it is not journaled here."""
        return self.window.statements.get(statement_key(kind, ledger, attempt))


def decode(envelope: Envelope, body: bytes) -> statements.Body:
    """Read a statement's body; see ``statements.decode``.

    Raises:
        MalformedInput: not of its kind's canonical form.
    """
    return statements.decode(envelope, body)


def authorise(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Say whether a statement may be journaled now; changes nothing.

    Raises:
        Forbidden: ``SPEAKER_WRONG``, ``SPEAKER_KEY``, ``ROLE_MISSING``.
        NotFound: ``WINDOW_NOT_FOUND``.
        Conflict: it contradicts what is journaled here; ``docs/settlement.md`` lists the codes.
        Rejected: ``VOTE_IMPOSSIBLE``, ``NET_OVERFLOW``, ``ASSET_UNKNOWN``.
    """
    kind = statements.kind_of(admitted.content)
    check_speaker(machine, admitted)
    window = book.window(admitted.content.window)
    if _key_of(admitted) in window.statements:
        raise Conflict("STATEMENT_EXISTS", "Another such statement is journaled already.", window=window.number)
    _AUTHORISE[kind](_Turn(book, machine, window, admitted.content, admitted))


def execute(book: Book, admitted: Admitted, context: Context) -> None:
    """Carry an authorised statement out and keep it with its window."""
    kind = statements.kind_of(admitted.content)
    window = book.window(admitted.content.window)
    window.statements[_key_of(admitted)] = admitted.message
    _EXECUTE[kind](_Turn(book, context.machine, window, admitted.content, admitted), context)


def _key_of(admitted: Admitted) -> str:
    body: statements.Body = admitted.content
    return statement_key(statements.kind_of(body), admitted.envelope.ledger, getattr(body, "attempt", 0))


# --- close ------------------------------------------------------------------------------------------------------------


def _authorise_close(turn: _Turn[CloseBody]) -> None:
    book, window = turn.book, turn.window
    if window.state is not WindowState.OPEN:
        raise Conflict("WINDOW_NOT_OPEN", "The window is closed already.", window=window.number)
    before = book.windows.get(window.number - 1)
    if before is not None and before.state is not WindowState.SETTLED:
        raise Conflict("WINDOW_ORDER", "The window before is not decided yet.", window=window.number)
    if window.number == WINDOW_MAX:
        raise Rejected("WINDOW_LAST", "There are no more window numbers.")


def _execute_close(turn: _Turn[CloseBody], context: Context) -> None:
    book, window = turn.book, turn.window
    following = Window(window.number + 1, opened_ns=context.timestamp_ns)
    deferred = deferred_members(window)
    _defer(turn, following, context)
    if len(deferred) != following.outgoing.count:
        raise InvariantViolation("I13: a payment was lost between two windows")
    posting.group_bind(context.state, group_of(window.number, Group.OUTGOING))
    window.state, window.closed_ns = WindowState.CLOSED, context.timestamp_ns
    book.windows[following.number] = following
    book.current = following.number


def _defer(turn: _Turn[CloseBody], following: Window, context: Context) -> None:
    """Move on the youngest payments if there are more than a list can hold; the next window counts them as accepted."""
    outgoing, deferred = turn.window.outgoing, deferred_members(turn.window)
    if not len(deferred):
        return
    members = np.full(outgoing.count, posting.STAY, np.uint32)
    members[deferred] = np.arange(len(deferred), dtype=np.uint32)
    following.outgoing.append(outgoing.rows[deferred])
    outgoing.states[deferred] = PaymentState.CARRIED
    outgoing.moved_to[deferred] = members[deferred]
    source, target = (group_of(number, Group.OUTGOING) for number in (turn.window.number, following.number))
    posting.group_move(context.state, source, target, members)


# --- list -------------------------------------------------------------------------------------------------------------


def _authorise_list(turn: _Turn[ListBody]) -> None:
    book, window, body = turn.book, turn.window, turn.body
    if window.state is not WindowState.CLOSED:
        raise Conflict("WINDOW_NOT_CLOSED", "The window is not closed here.", window=window.number)
    if turn.is_own:
        _require_same(body, answers.list_of(book, window), "LIST_MISMATCH")
        return
    carried = answers.carried_into(book, window.number, turn.speaker)
    if (body.carried_in, body.carried_in_root) != (carried.carried_out, carried.carried_out_root):
        raise Conflict("LIST_MISMATCH", "I13: the list does not carry in what the window before has carried out.")
    for _, code in body.assets:
        if all(asset.code != code or asset.kind != "money" for asset in book.genesis.assets):
            raise Rejected("ASSET_UNKNOWN", "The list names an asset that is not known here.", asset=code)


def _execute_list(turn: _Turn[ListBody], context: Context) -> None:
    if turn.is_own:
        return
    book, incoming = turn.book, turn.window.incoming
    rows = packing.rows_of(turn.body).copy()
    for name in ("asset", "creditor_asset"):
        rows[name] = _own_asset_numbers(book, turn.body, rows[name])
    reasons = payments.accept_incoming(context, book, turn.window, rows)
    incoming.append(rows)
    incoming.reasons[:] = reasons
    incoming.states[reasons != Result.OK] = PaymentState.REJECTED


def _own_asset_numbers(book: Book, body: ListBody, numbers: Any) -> Any:
    """Replace the asset numbers of the other ledger by those of this one."""
    own = np.array([book.genesis.asset(code).number for _, code in body.assets], np.uint16)
    return own[np.searchsorted(np.array([number for number, _ in body.assets], np.uint16), numbers)]


# --- acceptance -------------------------------------------------------------------------------------------------------


def _authorise_acceptance(turn: _Turn[AcceptanceBody]) -> None:
    book, window, body = turn.book, turn.window, turn.body
    listed = turn.other("list", book.peer if turn.is_own else book.ledger)
    if listed is None:
        raise Conflict("LIST_MISSING", "The list is not journaled here.", window=window.number)
    if turn.is_own:
        _require_same(body, answers.acceptance_of(book, window), "ACCEPTANCE_MISMATCH")
        return
    if body.list_digest != digest_of(listed):
        raise Conflict("ACCEPTANCE_MISMATCH", "The acceptance is of another list.")
    check_acceptance(body_of(listed, ListBody), body)


def _execute_acceptance(turn: _Turn[AcceptanceBody], context: Context) -> None:
    book, window = turn.book, turn.window
    if not turn.is_own:
        _take_acceptance(turn, context)
    keys = [statement_key("acceptance", ledger) for ledger in (book.ledger, book.peer)]
    if all(key in window.statements for key in keys):
        window.state = WindowState.ACCEPTED


def _take_acceptance(turn: _Turn[AcceptanceBody], context: Context) -> None:
    """End what the other node has rejected, and note what it says of the rest."""
    outgoing, body, members = turn.window.outgoing, turn.body, listed_members(turn.window)
    accepted = accepted_of(body)
    rejected = members[~accepted]
    outgoing.states[rejected] = PaymentState.REJECTED
    outgoing.reasons[members] = packing.column(body.reasons, np.uint16, body.count)
    kept = members[accepted]
    payees = packing.column(body.payees, np.uint32, body.count)
    amounts = packing.column(body.creditor_amounts, np.int64, body.count)
    outgoing.rows["creditor_participant"][kept] = payees[accepted]
    outgoing.rows["creditor_amount"][kept] = amounts[accepted]
    ended = np.zeros(outgoing.count, np.bool_)
    ended[rejected] = True
    group = group_of(turn.window.number, Group.OUTGOING)
    posting.group_void(context.state, group, ended, position=context.latest_position)
    refunds.release(turn.book, outgoing.rows[rejected])


# --- proposal ---------------------------------------------------------------------------------------------------------


def _authorise_proposal(turn: _Turn[ProposalBody]) -> None:
    check_proposal(turn.book, turn.machine, turn.body)


def check_proposal(book: Book, machine: Machine, body: ProposalBody) -> None:
    """Hold a proposal to the window's state, to what both sides signed, and to this node's own holds.

    Raises:
        NotFound: ``WINDOW_NOT_FOUND``.
        Conflict: ``ATTEMPT_ENDED``, ``ATTEMPT_OPEN``, ``ATTEMPT_ORDER``, ``ACCEPTANCE_MISSING``, ``PROPOSAL_MISMATCH``,
            ``SELECTION_INVALID``, ``NETS_MISMATCH``.
        Rejected: ``NET_OVERFLOW``.
        InvariantViolation: this node's holds say another thing than the lists and acceptances.
    """
    window = book.window(body.window)
    _check_attempt(window, body.attempt)
    signed, selections = answers.signed_of(window), answers.selections_of(body)
    for direction in body.directions:
        peer = next(at for at in statements.LEDGERS if at != direction.ledger)
        named = (direction.list_digest, direction.acceptance_digest, direction.count)
        lists, acceptances = statement_key("list", direction.ledger), statement_key("acceptance", peer)
        held = (digest_of(window.statements[lists]), digest_of(window.statements[acceptances]))
        if named != (*held, signed.count(direction.ledger)):
            raise Conflict("PROPOSAL_MISMATCH", "The proposal is of other lists or acceptances.")
        if np.any(selections[direction.ledger] & ~accepted_of(signed.acceptances[direction.ledger])):
            raise Conflict("SELECTION_INVALID", "The proposal selects a payment that was rejected.")
    if derived_nets(signed, selections) != body.nets:
        raise Conflict("NETS_MISMATCH", "The proposal's net positions do not follow from its selections.")
    if held_nets(book, machine.state, window, selections) != answers.own_nets(book, body):
        raise InvariantViolation("I6: the holds of this ledger do not carry the net positions that were signed")


def _check_attempt(window: Window, attempt: int) -> None:
    if window.state in (WindowState.OPEN, WindowState.CLOSED):
        raise Conflict("ACCEPTANCE_MISSING", "Not all acceptances are journaled here.", window=window.number)
    if attempt <= window.attempt or window.state is WindowState.SETTLED:
        raise Conflict("ATTEMPT_ENDED", "This attempt has a proposal or has ended.", window=window.number)
    if window.state is not WindowState.ACCEPTED:
        raise Conflict("ATTEMPT_OPEN", "The attempt before is not decided yet.", window=window.number)
    if attempt != window.attempt + 1:
        raise Conflict("ATTEMPT_ORDER", "Attempts follow one another.", window=window.number)


def _execute_proposal(turn: _Turn[ProposalBody], _context: Context) -> None:
    turn.window.attempt = turn.body.attempt
    turn.window.state = WindowState.NETTED


# --- vote -------------------------------------------------------------------------------------------------------------


def _authorise_vote(turn: _Turn[VoteBody]) -> None:
    window, body = turn.window, turn.body
    if body.attempt < window.attempt or window.state is WindowState.SETTLED:
        raise Conflict("ATTEMPT_ENDED", "The attempt has ended.", window=window.number)
    proposal = turn.other("proposal", attempt=body.attempt)
    if proposal is None:
        raise Conflict("PROPOSAL_MISSING", "The proposal is not journaled here.", window=window.number)
    first, _ = statements.voters(window.number)
    first_vote = turn.other("vote", first, body.attempt)
    if turn.speaker != first and first_vote is None:
        raise Conflict("VOTE_ORDER", "The first voter has not voted yet.", window=window.number)
    check_vote(
        body,
        proposal_digest=digest_of(proposal),
        first_vote=None if turn.speaker == first else body_of(first_vote, VoteBody),
    )
    if turn.is_own and body.yes:
        reason = reservation.shortage(turn.book, turn.machine.state, body_of(proposal, ProposalBody).nets)
        if reason is not VoteReason.YES:
            raise Rejected("VOTE_IMPOSSIBLE", "The balances do not bear a yes.", reason=int(reason))


def check_vote(body: VoteBody, *, proposal_digest: bytes, first_vote: VoteBody | None) -> None:
    """Hold a vote to its proposal and, if it is the last one, to the first: nobody says yes after a no.

    Raises:
        Conflict: ``VOTE_MISMATCH``.
    """
    if body.proposal_digest != proposal_digest:
        raise Conflict("VOTE_MISMATCH", "The vote is on another proposal.", window=body.window)
    first_said_no = first_vote is not None and not first_vote.yes
    if first_said_no is not (body.reason == VoteReason.PEER):
        raise Conflict("VOTE_MISMATCH", "A no for the other's sake follows a no, and nothing else does.")


def _execute_vote(turn: _Turn[VoteBody], context: Context) -> None:
    body = turn.body
    if not turn.is_own or not body.yes:
        return
    proposal = body_of(turn.other("proposal", attempt=body.attempt), ProposalBody)
    legs = reservation.net_legs(turn.book, proposal.nets)
    caps.lift(turn.book, context.state, legs)
    place = {"window": body.window, "attempt": body.attempt, "party": turn.admitted.party}
    series = reservation.unused_series(context.state, count=len(legs), **place)
    commands = reservation.commands(legs, series=series, **place)
    records = context.post(commands)
    caps.give_room(turn.book, context.state, legs)
    if np.any(records["result"] != Result.OK):
        raise InvariantViolation("I4: net positions could not be reserved after they had been found covered")
    turn.window.state = WindowState.VOTED


# --- decision ---------------------------------------------------------------------------------------------------------


def _authorise_decision(turn: _Turn[DecisionBody]) -> None:
    window, body = turn.window, turn.body
    if body.attempt < window.attempt or window.state is WindowState.SETTLED:
        raise Conflict("ATTEMPT_ENDED", "The attempt has ended.", window=window.number)
    first, last = statements.voters(window.number)
    if turn.speaker != last:
        raise Conflict("DECISION_MISMATCH", "Only the last voter decides.", window=window.number)
    votes = [turn.other("vote", ledger, body.attempt) for ledger in (first, last)]
    if None in votes:
        raise Conflict("VOTE_MISSING", "Not both votes are journaled here.", window=window.number)
    proposal = turn.other("proposal", attempt=body.attempt)
    signed = answers.signed_of(window)
    _require_same(
        body,
        answers.decision_of(signed, proposal, first_vote=votes[0], last_vote=votes[1]),
        "DECISION_MISMATCH",
    )


def _execute_decision(turn: _Turn[DecisionBody], context: Context) -> None:
    window, body = turn.window, turn.body
    if not body.commit:
        group = group_of(window.number, Group.NET)
        posting.group_void(context.state, group, None, position=context.latest_position)
        caps.take_room(turn.book, context.state)
        window.state = WindowState.ACCEPTED
        return
    proposal = body_of(turn.other("proposal", attempt=body.attempt), ProposalBody)
    apply_commit(turn.book, context, window, proposal)
    caps.take_room(turn.book, context.state)
    window.state = WindowState.SETTLED
    window.settled_ns, window.settled_position = context.timestamp_ns, context.position
    check_books(turn.book, context.state)


def _require_same(body: Any, derived: Any, code: str) -> None:
    """Refuse a statement that is not what this node derives by itself."""
    if body != derived:
        raise Conflict(code, "The statement is not what follows from this ledger.")


_AUTHORISE: dict[str, Callable[[_Turn[Any]], None]] = {
    "close": _authorise_close,
    "list": _authorise_list,
    "acceptance": _authorise_acceptance,
    "proposal": _authorise_proposal,
    "vote": _authorise_vote,
    "decision": _authorise_decision,
}
_EXECUTE: dict[str, Callable[[_Turn[Any], Context], None]] = {
    "close": _execute_close,
    "list": _execute_list,
    "acceptance": _execute_acceptance,
    "proposal": _execute_proposal,
    "vote": _execute_vote,
    "decision": _execute_decision,
}
