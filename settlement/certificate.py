"""The certificate of a settled window: nine signed statements that prove it to whoever holds the two genesis blocks.

A certificate is one MessagePack array: the format's name, then the statements in their stored form, in the order of
the cycle. ``verify`` needs nothing else: it checks every signature against the keys of the genesis pair, that each
statement is of the ones before it, that the counts add up (I13), that net positions are exactly those which follow from
lists, acceptances and selections and sum to zero (I6), and that the decision follows from two yes votes on this
proposal. That the balances bore it is what the two votes say; a replay of both journals (``settlement.reconcile``)
shows that too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from ledger import messages
from ledger.errors import IntegrityFailure, LedgerError, NotFound
from ledger.genesis import Genesis, check_pair, network_hash
from ledger.messages import Envelope, Kind, Message
from settlement import answers, speakers, statements
from settlement.book import PEER
from settlement.obligations import Signed, accepted_of, check_acceptance, derived_nets
from settlement.report import WindowReport, report_of
from settlement.statements import (
    LEDGERS,
    AcceptanceBody,
    Body,
    CloseBody,
    DecisionBody,
    ListBody,
    ProposalBody,
    VoteBody,
    body_of,
    digest_of,
    statement_key,
    voters,
)

__all__ = ["FORMAT", "Certificate", "build", "decision_in", "verify", "verify_chain"]

FORMAT = "hugang-certificate/1"
SIZE_MAX = 8 * messages.BODY_SIZE_MAX
STATEMENT_COUNT = 9
Keys = Mapping[str, Mapping[str, bytes]]
T = TypeVar("T", bound=Body)


class _Document(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a certificate's bytes say."""

    format: str
    statements: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=STATEMENT_COUNT, max_length=STATEMENT_COUNT)]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was verified: what it came to, and the roots that chain it to its neighbours.

    ``carried_in`` and ``carried_out`` give count and root by the payer's ledger; ``decided_by`` is the ledger whose
    decision was the moment of finality.
    """

    network: str
    report: WindowReport
    decided_by: str
    carried_in: Mapping[str, tuple[int, bytes]]
    carried_out: Mapping[str, tuple[int, bytes]]


def build(statements: Mapping[str, Message]) -> bytes:
    """Make the certificate of a window from its statements, as one node has journaled them.

    The other node's says the same; it differs in the signatures where a speaker has signed a statement twice.

    Raises:
        NotFound: ``CERTIFICATE_MISSING``, the window is not settled there.
    """
    attempts = [int(name.rpartition("/")[2]) for name in statements if name.startswith("proposal/")]
    close = statements.get(statement_key("close"))
    if close is None or not attempts:
        raise NotFound("CERTIFICATE_MISSING", "The window is not settled.")
    window = body_of(close, CloseBody).window
    names = _names(window, max(attempts))
    if not set(names) <= set(statements) or not body_of(statements[names[-1]], DecisionBody).commit:
        raise NotFound("CERTIFICATE_MISSING", "The window is not settled.", window=window)
    return msgspec.msgpack.encode(_Document(FORMAT, tuple(messages.encode(statements[name]) for name in names)))


def verify(certificate: bytes, genesis_pair: tuple[Genesis, Genesis]) -> Certificate:
    """Check a certificate in one pass, from the keys of the two genesis blocks alone.

    Raises:
        IntegrityFailure: ``GENESIS_PAIR``, the two are not those of one network; ``CERTIFICATE_MALFORMED``,
            ``CERTIFICATE_STATEMENT`` (with the statement's name), or ``CERTIFICATE_MISMATCH``: the statements do not
            follow from each other.
    """
    stored = _read(certificate)
    keys = _keys(genesis_pair)
    expected = network_hash(genesis_pair[0])
    bodies: list[Body] = []
    for place, message in enumerate(stored):
        bodies.append(_statement(message, place=place, expected=expected, keys=keys))
    window = bodies[0].window
    attempt = _of(bodies[5], ProposalBody).attempt
    for name, message, body in zip(_names(window, attempt), stored, bodies, strict=True):
        ledger = messages.parse(message).ledger
        if (
            statement_key(statements.kind_of(body), ledger, getattr(body, "attempt", 0)) != name
            or body.window != window
        ):
            raise IntegrityFailure("CERTIFICATE_MISMATCH", "A statement is not the one its place is for.", name=name)
    try:
        return _follow(stored, bodies, genesis_pair[0].network)
    except LedgerError as error:
        raise _mismatch(error.sentence) from error


def decision_in(certificate: bytes) -> Message:
    """Give the decision of a certificate, of which nothing but the form is checked.

    Raises:
        IntegrityFailure: ``CERTIFICATE_MALFORMED``.
    """
    return _read(certificate)[-1]


def verify_chain(certificates: list[bytes], genesis_pair: tuple[Genesis, Genesis]) -> list[Certificate]:
    """Check certificates of consecutive windows, and that each carries in what the one before has carried out (I13).

    Raises:
        IntegrityFailure: as ``verify``, or ``CERTIFICATE_CHAIN``.
    """
    verified = [verify(certificate, genesis_pair) for certificate in certificates]
    for before, after in itertools.pairwise(verified):
        number = after.report.window
        if number != before.report.window + 1 or after.carried_in != before.carried_out:
            raise IntegrityFailure(
                "CERTIFICATE_CHAIN", "I13: a window does not continue the one before.", window=number
            )
    return verified


def _follow(stored: tuple[Message, ...], bodies: list[Body], network: str) -> Certificate:
    """Check that each statement follows from those before it."""
    signed = _inputs(stored, bodies)
    proposal, decision = _of(bodies[5], ProposalBody), _of(bodies[8], DecisionBody)
    selections = answers.selections_of(proposal)
    for direction in proposal.directions:
        named = (direction.list_digest, direction.acceptance_digest, direction.count)
        listed, accepted = (
            stored[1 + LEDGERS.index(direction.ledger)],
            stored[3 + LEDGERS.index(PEER[direction.ledger])],
        )
        if named != (digest_of(listed), digest_of(accepted), signed.count(direction.ledger)):
            raise _mismatch("The proposal is of other lists or acceptances.")
        if np.any(selections[direction.ledger] & ~accepted_of(signed.acceptances[direction.ledger])):
            raise _mismatch("The proposal selects a payment that was rejected.")
    if derived_nets(signed, selections) != proposal.nets:
        raise _mismatch("The net positions do not follow from the selections.")
    for body in bodies[6:8]:
        vote = _of(body, VoteBody)
        if not vote.yes or vote.proposal_digest != digest_of(stored[5]):
            raise _mismatch("A vote is no yes to this proposal.")
    if decision != answers.decision_of(signed, stored[5], first_vote=stored[6], last_vote=stored[7]):
        raise _mismatch("The decision does not follow from the votes.")
    lists = signed.lists
    return Certificate(
        network=network,
        report=report_of(signed, proposal, decision),
        decided_by=proposal.last_voter,
        carried_in={at: (lists[at].carried_in, lists[at].carried_in_root) for at in LEDGERS},
        carried_out={count.ledger: (count.carried_out, count.carried_out_root) for count in decision.directions},
    )


def _inputs(stored: tuple[Message, ...], bodies: list[Body]) -> Signed:
    lists = {at: _of(bodies[1 + place], ListBody) for place, at in enumerate(LEDGERS)}
    acceptances = {PEER[at]: _of(bodies[3 + place], AcceptanceBody) for place, at in enumerate(LEDGERS)}
    for place, at in enumerate(LEDGERS):
        if acceptances[at].list_digest != digest_of(stored[1 + place]):
            raise _mismatch("An acceptance is of another list.")
        check_acceptance(lists[at], acceptances[at])
    return Signed(lists=lists, acceptances=acceptances)


def _names(window: int, attempt: int) -> tuple[str, ...]:
    """Give the statements of a certificate in their order."""
    return (
        statement_key("close"),
        *(statement_key("list", at) for at in LEDGERS),
        *(statement_key("acceptance", at) for at in LEDGERS),
        statement_key("proposal", attempt=attempt),
        *(statement_key("vote", at, attempt) for at in voters(window)),
        statement_key("decision", voters(window)[1], attempt),
    )


def _read(certificate: bytes) -> tuple[Message, ...]:
    """Read the document strictly."""
    try:
        if len(certificate) > SIZE_MAX:
            raise IntegrityFailure("CERTIFICATE_MALFORMED", "The certificate is too large.")
        document = msgspec.msgpack.decode(certificate, type=_Document)
        if document.format != FORMAT or msgspec.msgpack.encode(document) != certificate:
            raise IntegrityFailure("CERTIFICATE_MALFORMED", "The certificate is not in its canonical form.")
        return tuple(messages.decode(statement) for statement in document.statements)
    except (msgspec.DecodeError, ValueError, LedgerError) as error:
        raise IntegrityFailure("CERTIFICATE_MALFORMED", f"The certificate cannot be read: {error}") from error


def _keys(genesis_pair: tuple[Genesis, Genesis]) -> Keys:
    """Give the trusted keys by speaker and key id; the network hash has both documents agree on them."""
    check_pair(*genesis_pair)
    if {genesis.ledger for genesis in genesis_pair} != {*LEDGERS}:
        raise IntegrityFailure("GENESIS_PAIR", "The two genesis documents are of other ledgers than these two.")
    return speakers.keys_of(genesis_pair[0])


def _statement(message: Message, *, place: int, expected: bytes, keys: Keys) -> Body:
    """Check one statement by itself: form, speaker, signature, canonical body."""
    try:
        envelope: Envelope = messages.parse(message)
        key = keys.get(envelope.ledger, {}).get(envelope.key_id)
        if message.kind is not Kind.STATEMENT or envelope.network_hash != expected or key is None:
            raise IntegrityFailure(
                "CERTIFICATE_STATEMENT", "A statement is not by a speaker of this network.", statement=place
            )
        messages.verify(message, envelope, key)
        return statements.decode(envelope, message.body)
    except LedgerError as error:
        raise IntegrityFailure(
            "CERTIFICATE_STATEMENT", f"A statement does not hold: {error}", statement=place
        ) from error


def _of(body: Body, body_type: type[T]) -> T:
    if not isinstance(body, body_type):
        raise _mismatch("A statement is of another kind than its place.")
    return body


def _mismatch(sentence: str) -> IntegrityFailure:
    return IntegrityFailure("CERTIFICATE_MISMATCH", sentence)
