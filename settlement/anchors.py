"""Anchors: a window's certificate, tied to both journals under the checkpoints that both nodes have signed.

A certificate proves that a window was settled by what was signed. An anchor adds that the decision stands in a ledger's
journal, at a position, in a tree whose root its node has signed and the other node has cosigned: neither can deny it
later without denying everything it has journaled since. Written as MessagePack, arrays only, in the shortest form::

    anchor                 [ledger, checkpoint: bin, position, [hash: bin 32, …]]
    anchored certificate   ["hugang-anchored/1", certificate: bin, [anchor, …]]      anchors ascending by ledger

The proof is the inclusion proof of RFC 6962 of the decision's leaf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from ledger import checkpoint, logs, merkle
from ledger.errors import IntegrityFailure, LedgerError
from ledger.genesis import Genesis
from ledger.machine import message_leaf
from ledger.tiles import Tiles
from settlement import certificate
from settlement.certificate import Certificate

__all__ = ["FORMAT", "AnchorView", "Anchored", "assemble", "gather", "is_anchored", "make_anchor", "verify"]

FORMAT = "hugang-anchored/1"
ANCHOR_SIZE_MAX = 2**14


class _Anchor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    ledger: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
    checkpoint: Annotated[bytes, msgspec.Meta(max_length=checkpoint.TEXT_SIZE_MAX)]
    position: Annotated[int, msgspec.Meta(ge=0, le=merkle.SIZE_MAX)]
    proof: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)], ...], msgspec.Meta(max_length=64)
    ]


class _Document(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(max_length=32)]
    certificate: Annotated[bytes, msgspec.Meta(max_length=certificate.SIZE_MAX)]
    anchors: Annotated[tuple[_Anchor, ...], msgspec.Meta(min_length=1, max_length=2)]


@dataclass(frozen=True, slots=True)
class AnchorView:
    """Where a ledger's journal holds the decision, and who has signed that journal's tree at what Unix time."""

    ledger: str
    position: int
    tree_size: int
    tree_root: bytes
    cosigned_at_s: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Anchored:
    """A certificate that was verified, and its anchors, ascending by ledger."""

    certificate: Certificate
    anchors: tuple[AnchorView, ...]


def make_anchor(tiles: Tiles, note: bytes, ledger: str, position: int) -> bytes:
    """Make the anchor of the decision at a position; blocks for a few reads of the store.

    Args:
        tiles: the ledger's tree.
        note: a checkpoint whose tree holds the position.
        ledger: the ledger's code.
        position: that of the decision.

    Raises:
        MalformedInput: ``PROOF_RANGE``, the checkpoint's tree is smaller.
    """
    size = checkpoint.decode_checkpoint(checkpoint.decode_note(note).text).size
    return msgspec.msgpack.encode(_Anchor(ledger, note, position, tuple(tiles.inclusion(position, size))))


def assemble(certificate: bytes, anchors: Sequence[bytes]) -> bytes:
    """Put a certificate and its anchors together; nothing is verified but the anchors' form.

    Raises:
        IntegrityFailure: ``ANCHOR_MALFORMED``.
    """
    try:
        read = [msgspec.msgpack.decode(anchor, type=_Anchor) for anchor in anchors if len(anchor) <= ANCHOR_SIZE_MAX]
    except (msgspec.DecodeError, ValueError) as error:
        raise _malformed(str(error)) from error
    if len(read) != len(anchors) or not 1 <= len({anchor.ledger for anchor in read}) == len(read) <= 2:
        raise _malformed("there is one anchor for a ledger, and at least one")
    return msgspec.msgpack.encode(_Document(FORMAT, certificate, tuple(sorted(read, key=lambda anchor: anchor.ledger))))


def gather(stated: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Put together what nodes state of a window: the first certificate, anchored wherever its decision is journaled.

    A journal's leaf binds the signature. Where the decision was signed twice, an anchor proves the one that its own
    journal holds, and another node's certificate is not anchored by it.

    Args:
        stated: certificate and anchor of each node, at least one.

    Raises:
        IntegrityFailure: ``CERTIFICATE_MALFORMED``, ``ANCHOR_MALFORMED``.
    """
    decisions = [certificate.decision_in(data) for data, _ in stated]
    held = zip(stated, decisions, strict=True)
    return assemble(stated[0][0], [anchor for (_, anchor), decision in held if decision == decisions[0]])


def is_anchored(data: bytes) -> bool:
    """Tell an anchored certificate from a bare one."""
    return data[2 : 2 + len(FORMAT)] == FORMAT.encode("ascii")


def verify(data: bytes, genesis_pair: tuple[Genesis, Genesis]) -> Anchored:
    """Check an anchored certificate from the keys of the two genesis blocks alone.

    Raises:
        IntegrityFailure: as ``certificate.verify``; ``ANCHOR_MALFORMED``, not of the form; ``ANCHOR_INVALID``, a
            checkpoint or a proof does not hold.
    """
    if len(data) > certificate.SIZE_MAX + 2 * ANCHOR_SIZE_MAX:
        raise _malformed("it is too large")
    try:
        document = msgspec.msgpack.decode(data, type=_Document)
    except (msgspec.DecodeError, ValueError) as error:
        raise _malformed(str(error)) from error
    ledgers = [anchor.ledger for anchor in document.anchors]
    is_canonical = msgspec.msgpack.encode(document) == data and ledgers == sorted(set(ledgers))
    if document.format != FORMAT or not is_canonical:
        raise _malformed("it has another format, or is not in its canonical form")
    proved = certificate.verify(document.certificate, genesis_pair)
    leaf = merkle.leaf_hash(message_leaf(certificate.decision_in(document.certificate)))
    return Anchored(proved, tuple(_checked(anchor, leaf, genesis_pair[0]) for anchor in document.anchors))


def _checked(anchor: _Anchor, leaf: bytes, genesis: Genesis) -> AnchorView:
    """Check one anchor of the decision with this leaf's hash; either genesis names both nodes."""
    try:
        opened = logs.open_own(anchor.checkpoint, genesis, anchor.ledger)
    except LedgerError as error:
        raise IntegrityFailure("ANCHOR_INVALID", error.sentence, ledger=anchor.ledger) from error
    point = opened.checkpoint
    try:
        merkle.verify_inclusion(leaf, anchor.position, point.size, anchor.proof, point.root)
    except IntegrityFailure as error:
        raise IntegrityFailure("ANCHOR_INVALID", error.sentence, ledger=anchor.ledger) from error
    return AnchorView(anchor.ledger, anchor.position, point.size, point.root, opened.cosigned_at_s)


def _malformed(sentence: str) -> IntegrityFailure:
    return IntegrityFailure("ANCHOR_MALFORMED", f"The anchored certificate cannot be read: {sentence}.")
