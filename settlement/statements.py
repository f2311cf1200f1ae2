"""The signed statements of the settlement cycle: bodies, their canonical bytes, and who may make which.

A body is one MessagePack array (``docs/settlement.md`` shows each in full). There is exactly one encoding of a body:
``decode`` reads strictly, checks everything that can be checked without knowing a ledger, encodes what it has read
again and refuses the bytes if they differ. Long columns are byte strings of little-endian fixed-width values, so that
a window's payments never become objects.

``close`` and ``proposal`` are made by the settlement operator, which speaks for no ledger (``--``); the others by the
node of the ledger that the statement's base names. A statement is named by its ``digest_of``: SHA-256 of its base,
which binds network, speaker, kind, subject and body.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
from typing import Annotated, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import merkle, messages
from ledger.errors import MalformedInput
from ledger.messages import Envelope, Kind, Message
from ledger.transfers import VALUE_DAY_MAX, Result
from settlement import packing
from settlement.book import PAYMENT, Payments

__all__ = [
    "ATTEMPT_MAX",
    "LEDGERS",
    "LIST_COUNT_MAX",
    "OPERATOR_LEDGER",
    "SPEAKER_IS_OPERATOR",
    "AcceptanceBody",
    "Body",
    "CloseBody",
    "Completeness",
    "DecisionBody",
    "Direction",
    "ListBody",
    "NetPosition",
    "ProposalBody",
    "StatementKind",
    "VoteBody",
    "VoteReason",
    "body_of",
    "decode",
    "digest_of",
    "encode",
    "kind_of",
    "last_voter",
    "rows_root",
    "sign",
    "statement_key",
    "subject_of",
    "voters",
]

LEDGERS = ("HK", "SH")
"""The two ledgers in the order in which every statement names them."""
OPERATOR_LEDGER = "--"
LIST_COUNT_MAX = 155_000
"""Payments in one direction of one window: what a message body can hold."""
NETS_MAX = 65_536
_RESULTS = np.array([result.value for result in Result], np.uint16)
PARTICIPANTS_MAX = 4_096
WINDOW_MAX = 2**30 - 1
ATTEMPT_MAX = 2**16 - 1

Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
LedgerCode = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
PartyCode = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
AssetCode = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z][A-Z0-9.]{1,11}\Z")]
WindowNumber = Annotated[int, msgspec.Meta(ge=1, le=WINDOW_MAX)]
Attempt = Annotated[int, msgspec.Meta(ge=1, le=ATTEMPT_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
ListCount = Annotated[int, msgspec.Meta(ge=0, le=LIST_COUNT_MAX)]
Parties = Annotated[tuple[tuple[Count, PartyCode], ...], msgspec.Meta(max_length=PARTICIPANTS_MAX)]
Assets = Annotated[tuple[tuple[Count, AssetCode], ...], msgspec.Meta(max_length=256)]
StatementKind = str
"""``close``, ``list``, ``acceptance``, ``proposal``, ``vote`` or ``decision``."""


class CloseBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The operator: this window takes no more payments."""

    window: WindowNumber


class ListBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A payer's node: these are the payments of the window that wait for the other side, oldest first.

    ``rows`` holds ``count`` elements of dtype ``PAYMENT`` as the payer's node knew them when the payment was made, in
    ascending order of position; ``root`` is the RFC 6962 root over them. ``providers`` (u4) names, for each, the FX
    provider on the payer's ledger, or zero. ``participants`` and ``assets`` give the codes of exactly the numbers used,
    ascending. ``carried_in + accepted = cancelled + count`` (half of I13).
    """

    window: WindowNumber
    carried_in: Count
    carried_in_root: Digest
    accepted: Count
    cancelled: Count
    count: ListCount
    root: Digest
    participants: Parties
    assets: Assets
    rows: bytes
    providers: bytes


class AcceptanceBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A payee's node: for each payment of the other node's list, accepted or why not.

    Columns of ``count`` elements: ``reasons`` (u2, ``ledger.transfers.Result``, zero accepts), ``payees`` (u4, the
    payee's participant), ``providers`` (u4, the FX provider on the payee's ledger or zero), ``creditor_amounts`` (i8).
    The last three are zero where the reason is not. ``participants`` gives the codes of exactly the numbers used.
    """

    window: WindowNumber
    list_digest: Digest
    count: ListCount
    rejected: ListCount
    participants: Parties
    reasons: bytes
    payees: bytes
    providers: bytes
    creditor_amounts: bytes


class Direction(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a proposal takes from one list: its payer's ledger, the two digests, a bit a payment (lowest bit first)."""

    ledger: LedgerCode
    list_digest: Digest
    acceptance_digest: Digest
    count: ListCount
    selection: bytes


class NetPosition(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a participant pays (below zero) or receives in one asset on one ledger; never zero."""

    ledger: LedgerCode
    participant: PartyCode
    asset: AssetCode
    amount: Annotated[int, msgspec.Meta(ge=-(2**63) + 1, le=2**63 - 1)]


class ProposalBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The operator: settle this selection of both lists with these net positions; ``policy`` says how it was chosen."""

    window: WindowNumber
    attempt: Attempt
    first_voter: LedgerCode
    last_voter: LedgerCode
    policy: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}/[0-9]{1,3}\Z")]
    directions: tuple[Direction, Direction]
    nets: Annotated[tuple[NetPosition, ...], msgspec.Meta(max_length=NETS_MAX)]


class VoteReason(enum.IntEnum):
    """Why a node votes no. Never reused."""

    YES = 0
    FUNDS_SHORT = 1
    """A net sender's settlement account or funds do not cover its net position (I4)."""
    BORDER_SHORT = 2
    """The omnibus account or its mirror does not cover what would leave (I4)."""
    OVERFLOW = 3
    """A counter would reach 2^63 (I3)."""
    ACCOUNT_CLOSED = 4
    PEER = 5
    """The first voter said no."""


class VoteBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A node: yes, and nothing can make it fail any more; or no, and why (``VoteReason``)."""

    window: WindowNumber
    attempt: Attempt
    proposal_digest: Digest
    yes: bool
    reason: Annotated[int, msgspec.Meta(ge=0, le=int(max(VoteReason)))]


class Completeness(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What became of one direction's payments (I13); the root is over the carried-out rows in order of position."""

    ledger: LedgerCode
    carried_in: Count
    accepted: Count
    settled: Count
    cancelled: Count
    rejected: Count
    carried_out: Count
    carried_out_root: Digest


class DecisionBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The last voter: the attempt is committed, or aborted for ever. ``directions`` is empty after an abort."""

    window: WindowNumber
    attempt: Attempt
    proposal_digest: Digest
    commit: bool
    first_vote_digest: Digest
    last_vote_digest: Digest
    directions: Annotated[tuple[Completeness, ...], msgspec.Meta(max_length=2)]


Body = CloseBody | ListBody | AcceptanceBody | ProposalBody | VoteBody | DecisionBody
_BODIES: dict[str, type[Body]] = {
    "close": CloseBody,
    "list": ListBody,
    "acceptance": AcceptanceBody,
    "proposal": ProposalBody,
    "vote": VoteBody,
    "decision": DecisionBody,
}
_KINDS = {body: kind for kind, body in _BODIES.items()}
SPEAKER_IS_OPERATOR = frozenset({"close", "proposal"})
T = TypeVar("T")


def encode(body: Body) -> bytes:
    """Give the canonical bytes of a body."""
    return msgspec.msgpack.encode(body)


def decode(envelope: Envelope, data: bytes) -> Body:
    """Read a body strictly: its kind and subject are those the base names, its bytes are the canonical ones.

    Raises:
        MalformedInput: ``STATEMENT_UNKNOWN``, ``STATEMENT_MALFORMED``, ``STATEMENT_NOT_CANONICAL``,
            ``STATEMENT_SUBJECT``, ``STATEMENT_LEDGER``.
    """
    kind = envelope.topic.removeprefix("statement:")
    body_type = _BODIES.get(kind)
    if envelope.kind is not Kind.STATEMENT or body_type is None:
        raise MalformedInput("STATEMENT_UNKNOWN", "There is no such kind of statement.", kind=kind)
    if len(data) > messages.BODY_SIZE_MAX:
        raise MalformedInput("STATEMENT_MALFORMED", "The statement's body is too large.")
    try:
        body = msgspec.msgpack.decode(data, type=body_type)
    except (msgspec.DecodeError, ValueError) as error:  # a text that is no UTF-8 is a ValueError
        raise MalformedInput("STATEMENT_MALFORMED", f"The statement's body cannot be read: {error}") from error
    if encode(body) != data:
        raise MalformedInput("STATEMENT_NOT_CANONICAL", "The statement's body is not in its canonical form.")
    if envelope.subject != subject_of(body):
        raise MalformedInput("STATEMENT_SUBJECT", "The statement's subject is not that of its body.")
    if (envelope.ledger == OPERATOR_LEDGER) is not (kind in SPEAKER_IS_OPERATOR):
        raise MalformedInput("STATEMENT_LEDGER", "This kind of statement is not made by such a speaker.")
    _check(body)
    return body


def body_of(message: Message, body_type: type[T]) -> T:
    """Read the body of a statement that ``decode`` has let pass before, without checking it again."""
    return msgspec.msgpack.decode(message.body, type=body_type)


def kind_of(body: Body) -> StatementKind:
    """Name a body's kind."""
    return _KINDS[type(body)]


def subject_of(body: Body) -> str:
    """Give ``window/attempt``; the attempt is 0 for what comes before the first proposal."""
    return f"{body.window}/{getattr(body, 'attempt', 0)}"


def sign(body: Body, *, key: Ed25519PrivateKey, network_hash: bytes, ledger: str) -> Message:
    """Make a statement. Made again of the same body it is the same message, as RFC 8032 chooses nonces."""
    return messages.statement(
        key,
        network_hash=network_hash,
        ledger=ledger,
        kind=kind_of(body),
        subject=subject_of(body),
        body=encode(body),
    )


def digest_of(message: Message) -> bytes:
    """Name a statement by SHA-256 of its base."""
    return hashlib.sha256(message.base).digest()


def statement_key(kind: StatementKind, ledger: str = OPERATOR_LEDGER, attempt: int = 0) -> str:
    """Say under which name a window keeps a statement: ``close``, ``list/SH``, ``proposal/--/1``, ``vote/HK/1``."""
    if attempt:
        return f"{kind}/{ledger}/{attempt}"
    return kind if ledger == OPERATOR_LEDGER else f"{kind}/{ledger}"


def voters(window: int) -> tuple[str, str]:
    """Give the first and the last voter: the nodes take turns, in odd windows Shanghai votes last and decides.

    Were it the operator's choice, two proposals for one attempt could hold up each other for ever.
    """
    return LEDGERS if window % 2 else (LEDGERS[1], LEDGERS[0])


def last_voter(window: int) -> str:
    """Give the ledger whose decision is the moment of finality."""
    return voters(window)[1]


def rows_root(rows: Payments) -> bytes:
    """Give the RFC 6962 root over payments, one leaf a row, as they stand in a list."""
    table = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), PAYMENT.itemsize)
    return merkle.root(merkle.leaf_hashes(table))


# --- checks that need no ledger ---------------------------------------------------------------------------------------


def _refuse(sentence: str) -> MalformedInput:
    return MalformedInput("STATEMENT_MALFORMED", sentence)


def _check(body: Body) -> None:
    if isinstance(body, ListBody):
        _check_list(body)
    elif isinstance(body, AcceptanceBody):
        _check_acceptance(body)
    elif isinstance(body, ProposalBody):
        _check_proposal(body)
    elif isinstance(body, VoteBody):
        if body.yes is not (body.reason == 0):
            raise _refuse("A yes has no reason, a no has one.")
    elif isinstance(body, DecisionBody):
        _check_decision(body)


def _check_list(body: ListBody) -> None:
    if body.carried_in + body.accepted != body.cancelled + body.count:
        raise _refuse("I13: the list's counts do not add up.")
    if (body.carried_in == 0) is not (body.carried_in_root == merkle.EMPTY_ROOT):
        raise _refuse("The root of nothing carried in is the empty tree's, and only that.")
    rows = packing.rows_of(body)
    providers = packing.column(body.providers, np.uint32, body.count)
    _check_rows(rows)
    is_exchange = rows["asset"] != rows["creditor_asset"]
    if np.any(~is_exchange & ((providers != 0) | (rows["creditor_amount"] != rows["amount"]))):
        raise _refuse("A payment without FX has no provider and keeps its amount.")
    if np.any(is_exchange & ((providers != 0) != (rows["creditor_amount"] != 0))):
        raise _refuse("What a payment with FX comes to is known where its provider is.")
    _check_table(body.participants, np.concatenate((rows["debtor_participant"], providers)))
    _check_table(body.assets, np.concatenate((rows["asset"], rows["creditor_asset"])))
    if rows_root(rows) != body.root:
        raise _refuse("The list's root is not that of its rows.")


def _check_rows(rows: Payments) -> None:
    position = rows["position"]
    if np.any(position[1:] <= position[:-1]):
        raise _refuse("A list is in ascending order of position.")
    if np.any(rows["amount"] <= 0) or np.any(rows["creditor_amount"] < 0) or np.any(rows["creditor_participant"] != 0):
        raise _refuse("An amount of a list is not possible.")
    named = ("debtor", "creditor", "debtor_participant", "asset", "creditor_asset")
    if any(np.any(rows[name] == 0) for name in named):
        raise _refuse("A payment of a list lacks an account, a participant or an asset.")
    if not np.all(_is_uetr(rows["uetr_hi"], rows["uetr_lo"])):
        raise _refuse("A payment of a list has no UETR.")
    refund = (rows["refund_hi"] != 0) | (rows["refund_lo"] != 0)
    if not np.all(_is_uetr(rows["refund_hi"][refund], rows["refund_lo"][refund])):
        raise _refuse("A refund of a list names no UETR.")
    if np.any(rows["value_day"] > VALUE_DAY_MAX):
        raise _refuse("A value day of a list is not possible.")
    purpose = np.ascontiguousarray(rows["purpose"]).view(np.uint8).reshape(len(rows), 4)
    letter = ((purpose >= ord("A")) & (purpose <= ord("Z"))) | ((purpose >= ord("0")) & (purpose <= ord("9")))
    if not np.all(letter | (purpose == 0)) or np.any((purpose[:, 1:] != 0) & (purpose[:, :-1] == 0)):
        raise _refuse("A purpose of a list is no purpose code.")


def _is_uetr(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Tell where two halves are a UUIDv4 (RFC 9562 §5.4)."""
    is_version_4: npt.NDArray[np.bool_] = high & np.uint64(0xF000) == np.uint64(0x4000)
    is_variant_2: npt.NDArray[np.bool_] = low >> np.uint64(62) == np.uint64(2)
    return is_version_4 & is_variant_2


def _check_table(table: tuple[tuple[int, str], ...], used: npt.NDArray[np.unsignedinteger]) -> None:
    """Hold a code table to exactly the numbers used; zero stands for nobody."""
    numbers = np.unique(used)
    if [number for number, _ in table] != numbers[numbers != 0].tolist():
        raise _refuse("A code table does not name exactly the numbers used, in ascending order.")
    if len({code for _, code in table}) != len(table):
        raise _refuse("A code table names a code twice.")


def _check_acceptance(body: AcceptanceBody) -> None:
    reasons = packing.column(body.reasons, np.uint16, body.count)
    payees = packing.column(body.payees, np.uint32, body.count)
    providers = packing.column(body.providers, np.uint32, body.count)
    amounts = packing.column(body.creditor_amounts, np.int64, body.count)
    accepted = reasons == 0
    if int(np.count_nonzero(~accepted)) != body.rejected:
        raise _refuse("The acceptance does not reject as many as it says.")
    if np.any(accepted != (payees != 0)) or np.any(accepted != (amounts > 0)) or np.any(amounts < 0):
        raise _refuse("A payment is accepted exactly if it has a payee and an amount.")
    if not np.all(np.isin(reasons, _RESULTS)):
        raise _refuse("A reason of the acceptance is no result.")
    if np.any(providers[~accepted] != 0):
        raise _refuse("A rejected payment has no provider.")
    _check_table(body.participants, np.concatenate((payees, providers)))


def _check_proposal(body: ProposalBody) -> None:
    if (body.first_voter, body.last_voter) != voters(body.window):
        raise _refuse("The nodes vote in the order of the window's number.")
    if tuple(direction.ledger for direction in body.directions) != LEDGERS:
        raise _refuse("A proposal names both directions in the order of their ledgers' codes.")
    for direction in body.directions:
        packing.selected_of(direction.selection, direction.count)
    keys = [(net.ledger, net.participant, net.asset) for net in body.nets]
    if any(left >= right for left, right in itertools.pairwise(keys)):
        raise _refuse("Net positions are in ascending order, each once.")
    if any(net.amount == 0 or net.ledger not in LEDGERS for net in body.nets):
        raise _refuse("A net position is not zero and stands on one of the two ledgers.")
    sums: dict[str, int] = {}
    for net in body.nets:
        sums[net.asset] = sums.get(net.asset, 0) + net.amount
    if any(sums.values()):
        raise _refuse("I6: net positions of an asset do not sum to zero.")


def _check_decision(body: DecisionBody) -> None:
    if tuple(direction.ledger for direction in body.directions) != (LEDGERS if body.commit else ()):
        raise _refuse("A commit counts both directions in the order of their ledgers' codes, an abort none.")
    for count in body.directions:
        ended = count.settled + count.cancelled + count.rejected + count.carried_out
        if count.carried_in + count.accepted != ended:
            raise _refuse("I13: a direction's counts do not add up.")
        if (count.carried_out == 0) is not (count.carried_out_root == merkle.EMPTY_ROOT):
            raise _refuse("The root of nothing carried out is the empty tree's, and only that.")
