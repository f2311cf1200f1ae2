"""What a node has to say in a settlement cycle: every body of its own follows from its book and its money.

The node signs what these functions give; ``settlement.windows`` gives them again before a statement is journaled, on
the other node and in every replay, and refuses what differs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger import merkle
from ledger.errors import InvariantViolation
from ledger.messages import Message
from ledger.state import State
from ledger.transfers import id_of
from settlement import packing
from settlement.book import Book, Payments, PaymentState, Window
from settlement.obligations import Signed, completeness, deferred_members, listed_members
from settlement.reservation import shortage
from settlement.statements import (
    LEDGERS,
    AcceptanceBody,
    Completeness,
    DecisionBody,
    ListBody,
    NetPosition,
    ProposalBody,
    VoteBody,
    VoteReason,
    body_of,
    digest_of,
    rows_root,
    statement_key,
)

__all__ = [
    "acceptance_of",
    "carried_into",
    "decision_of",
    "list_of",
    "selections_of",
    "signed_of",
    "vote_of",
]


def list_of(book: Book, window: Window) -> ListBody:
    """Give this node's list of a closed window."""
    rows = window.outgoing.rows[listed_members(window)]
    rows["creditor_participant"] = 0
    providers = _providers(book, rows, rows["creditor_amount"] != 0)
    states, carried_in = window.outgoing.states, carried_into(book, window.number, book.ledger)
    refused = int(np.count_nonzero(states == PaymentState.REFUSED))
    if window.carried_in != carried_in.carried_out:
        raise InvariantViolation("I13: another number was carried in than the window before has carried out")
    return ListBody(
        window=window.number,
        carried_in=window.carried_in,
        carried_in_root=carried_in.carried_out_root,
        accepted=window.outgoing.count - refused - window.carried_in - len(deferred_members(window)),
        cancelled=int(np.count_nonzero(states == PaymentState.CANCELLED)),
        count=len(rows),
        root=rows_root(rows),
        participants=_codes(book, np.concatenate((rows["debtor_participant"], providers))),
        assets=_assets(book, rows),
        rows=rows.tobytes(),
        providers=providers.tobytes(),
    )


def acceptance_of(book: Book, window: Window) -> AcceptanceBody:
    """Give this node's acceptance of the other node's list, whose incoming holds it has made."""
    peer_list = window.statements[statement_key("list", book.peer)]
    fixed = packing.rows_of(body_of(peer_list, ListBody))["creditor_amount"]
    rows, reasons = window.incoming.rows, window.incoming.reasons
    providers = _providers(book, rows, (reasons == 0) & (fixed == 0))
    return AcceptanceBody(
        window=window.number,
        list_digest=digest_of(peer_list),
        count=len(rows),
        rejected=int(np.count_nonzero(reasons)),
        participants=_codes(book, np.concatenate((rows["creditor_participant"], providers))),
        reasons=reasons.tobytes(),
        payees=rows["creditor_participant"].tobytes(),
        providers=providers.tobytes(),
        creditor_amounts=rows["creditor_amount"].tobytes(),
    )


def vote_of(
    book: Book, state: State, proposal: ProposalBody, *, proposal_digest: bytes, first_vote: VoteBody | None
) -> VoteBody:
    """Give this node's vote on a proposal that it has checked, as its balances stand now.

    Args:
        book: this node's.
        state: its money.
        proposal: what is voted on.
        proposal_digest: the digest of the proposal's statement.
        first_vote: the first voter's vote if this node votes last.
    """
    reason = VoteReason.PEER
    if first_vote is None or first_vote.yes:
        reason = shortage(book, state, proposal.nets)
    return VoteBody(
        window=proposal.window,
        attempt=proposal.attempt,
        proposal_digest=proposal_digest,
        yes=reason is VoteReason.YES,
        reason=int(reason),
    )


def decision_of(signed: Signed, proposal: Message, *, first_vote: Message, last_vote: Message) -> DecisionBody:
    """Give the decision that follows from both votes: commit if both say yes, else abort."""
    body = body_of(proposal, ProposalBody)
    commit = body_of(first_vote, VoteBody).yes and body_of(last_vote, VoteBody).yes
    selections = selections_of(body)
    return DecisionBody(
        window=body.window,
        attempt=body.attempt,
        proposal_digest=digest_of(proposal),
        commit=commit,
        first_vote_digest=digest_of(first_vote),
        last_vote_digest=digest_of(last_vote),
        directions=tuple(completeness(at, signed, selections[at]) for at in LEDGERS) if commit else (),
    )


def signed_of(window: Window) -> Signed:
    """Give the lists and acceptances of a window in which all four are journaled; by the payer's ledger."""
    texts = window.statements
    peers = dict(zip(LEDGERS, reversed(LEDGERS), strict=True))
    return Signed(
        lists={at: body_of(texts[statement_key("list", at)], ListBody) for at in LEDGERS},
        acceptances={at: body_of(texts[statement_key("acceptance", peers[at])], AcceptanceBody) for at in LEDGERS},
    )


def selections_of(proposal: ProposalBody) -> dict[str, npt.NDArray[np.bool_]]:
    """Give a proposal's selections by the payer's ledger."""
    return {at.ledger: packing.selected_of(at.selection, at.count) for at in proposal.directions}


def carried_into(book: Book, window: int, ledger: str) -> Completeness:
    """Give what the window before has carried out of one direction, by the decision journaled here."""
    before = book.windows.get(window - 1)
    if before is None:
        return Completeness(ledger, 0, 0, 0, 0, 0, 0, merkle.EMPTY_ROOT)
    key = statement_key("decision", _last_voter(before), before.attempt)
    decision = body_of(before.statements[key], DecisionBody)
    return decision.directions[LEDGERS.index(ledger)]


def own_nets(book: Book, proposal: ProposalBody) -> tuple[NetPosition, ...]:
    """Give the net positions of a proposal that stand on this node's ledger."""
    return tuple(net for net in proposal.nets if net.ledger == book.ledger)


def _last_voter(window: Window) -> str:
    body = body_of(window.statements[statement_key("proposal", attempt=window.attempt)], ProposalBody)
    return body.last_voter


def _codes(book: Book, used: npt.NDArray[np.uint32]) -> packing.CodeTable:
    return packing.table_of(used, {participant.number: participant.code for participant in book.participants})


def _assets(book: Book, rows: Payments) -> packing.CodeTable:
    used = np.concatenate((rows["asset"], rows["creditor_asset"]))
    return packing.table_of(used, {asset.number: asset.code for asset in book.genesis.assets})


def _providers(book: Book, rows: Payments, converted: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Give the provider of each payment converted here, zero for the others."""
    providers = np.zeros(len(rows), np.uint32)
    exchanged = np.flatnonzero(converted & (rows["asset"] != rows["creditor_asset"]))
    if not len(exchanged):
        return providers
    quotes = rows[["quote_hi", "quote_lo"]][exchanged]
    order = np.lexsort((quotes["quote_lo"], quotes["quote_hi"]))
    ordered = quotes[order]
    is_first = np.ones(len(ordered), np.bool_)
    is_first[1:] = (ordered["quote_hi"][1:] != ordered["quote_hi"][:-1]) | (
        ordered["quote_lo"][1:] != ordered["quote_lo"][:-1]
    )
    heads = ordered[is_first]
    found = [book.quotes[id_of(head["quote_hi"], head["quote_lo"])].provider for head in heads]
    providers[exchanged[order]] = np.array(found, np.uint32)[np.cumsum(is_first) - 1]
    return providers
