"""Receipts: what one payment left in the journals, with proofs that need nothing but a genesis.

A receipt has a *part* for one ledger or for each of the two. A part shows, all from one journal:

* the message that somebody signed, with its position: base and signature, and the body where it concerns this payment
  alone; of one payment among many under a signature, the base binds the body by its digest;
* the records that the message derived for this payment, and no other's;
* *evidence*: statements of the settlement cycle that decided it;
* for each of these the inclusion proof of its leaf in one checkpoint, which the node has signed and, where there was
  one, the other node has cosigned;
* the header of the block that holds message and records, with the proof that the checkpoint's tree extends its tree;
* a *claim*: what the layer above says of the payment, in its own bytes.

The node signs the part. What follows from tree and signatures needs no trust in that; the rest (the block's time and
the claim) the node answers for. A request names its ledger by the hash of that ledger's genesis: who holds only the
other ledger's has the node's word for that, too.

**Encoding, version 0.** MessagePack, arrays only, every number, text and byte string in its shortest form::

    receipt   ["hugang-receipt/1", [part, …]]             one or two parts, ascending by ledger
    part      [content: bin, signature: bin 64]            over "hugang-receipt/1", LF, SHA-256 of content
    content   [ledger, checkpoint: bin, header: bin 168, message, [record, …], [evidence, …], claim: bin,
               hashes: bin, [proof: bin, …]]
    message   [position, key: bin 32, kind, base: bin, signature: bin 64, body: bin or nil]
    record    [position, leaf: bin 112]
    evidence  [position, message in its stored form: bin]

A proof is a row of indices, one byte each, into ``hashes``, which holds each hash once, in the order of first use. The
proofs stand in this order: consistency of header and checkpoint; message; records; evidence. There is one encoding of a
receipt; anything else is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import checkpoint, journal, logs, merkle, messages, signatures
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError
from ledger.genesis import Genesis, check_pair, genesis_hash, network_hash
from ledger.journal import Header
from ledger.machine import message_leaf, record_leaf
from ledger.messages import Envelope, Kind, Message
from ledger.reader import Reader
from ledger.store import Store
from ledger.tiles import Tiles
from ledger.transfers import TRANSFER, Transfers

__all__ = [
    "BODY_SIZE_MAX",
    "FORMAT",
    "SIZE_MAX",
    "Evidence",
    "PartView",
    "ReceiptView",
    "Source",
    "Wanted",
    "join",
    "make_receipt",
    "verify_receipt",
]

FORMAT = "hugang-receipt/1"
SIZE_MAX = 2**16
"""Bytes of a receipt."""
BODY_SIZE_MAX = 4096
"""Bytes of a body that is shown; of a longer one the base has the digest."""
RECORD_COUNT_MAX = 16
EVIDENCE_COUNT_MAX = 4
EVIDENCE_SIZE_MAX = 8192
CLAIM_SIZE_MAX = 1024
HASH_COUNT_MAX = 255
_PROOF_SIZE_MAX = 64
_CONTEXT = f"{FORMAT}\n".encode("ascii")

Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class _Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    position: Position
    key: Bytes32
    kind: Annotated[int, msgspec.Meta(ge=1, le=2)]
    base: Annotated[bytes, msgspec.Meta(max_length=messages.BASE_SIZE_MAX)]
    signature: Bytes64
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_SIZE_MAX)] | None


class _Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    position: Position
    leaf: Annotated[bytes, msgspec.Meta(min_length=TRANSFER.itemsize, max_length=TRANSFER.itemsize)]


class _Evidence(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    position: Position
    message: Annotated[bytes, msgspec.Meta(max_length=EVIDENCE_SIZE_MAX)]


class _Content(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    ledger: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
    checkpoint: Annotated[bytes, msgspec.Meta(max_length=checkpoint.TEXT_SIZE_MAX)]
    header: Annotated[bytes, msgspec.Meta(min_length=journal.HEADER_SIZE, max_length=journal.HEADER_SIZE)]
    message: _Message
    records: Annotated[tuple[_Record, ...], msgspec.Meta(min_length=1, max_length=RECORD_COUNT_MAX)]
    evidence: Annotated[tuple[_Evidence, ...], msgspec.Meta(max_length=EVIDENCE_COUNT_MAX)]
    claim: Annotated[bytes, msgspec.Meta(max_length=CLAIM_SIZE_MAX)]
    hashes: Annotated[bytes, msgspec.Meta(max_length=HASH_COUNT_MAX * merkle.HASH_SIZE)]
    proofs: tuple[Annotated[bytes, msgspec.Meta(max_length=_PROOF_SIZE_MAX)], ...]


class _Part(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    content: Annotated[bytes, msgspec.Meta(max_length=SIZE_MAX)]
    signature: Bytes64


class _Document(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(max_length=32)]
    parts: Annotated[tuple[_Part, ...], msgspec.Meta(min_length=1, max_length=2)]


@dataclass(frozen=True, slots=True)
class Source:
    """One node's journal, as far as a receipt needs it."""

    genesis: Genesis
    store: Store
    reader: Reader
    tiles: Tiles
    private_key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a receipt is to show.

    Attributes:
        note: the checkpoint to prove against; its tree holds everything below.
        message: position of the message.
        key: raw public key that signed it.
        is_whole: whether its body may be shown.
        records: positions of records that it derived, ascending.
        evidence: positions of statements.
        claim: what the layer above says.
    """

    note: bytes
    message: int
    key: bytes
    is_whole: bool
    records: tuple[int, ...]
    evidence: tuple[int, ...]
    claim: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """A statement that is in the journal, by a party of the genesis."""

    position: int
    message: Message
    envelope: Envelope


@dataclass(frozen=True, slots=True, eq=False)
class PartView:
    """A part that was verified.

    Attributes:
        ledger: the ledger's code.
        position: where the message stands.
        envelope: what its base says.
        key: raw public key that signed it.
        body: the message's body, ``None`` if it is not shown.
        is_addressee_proven: whether the message is known to be for this ledger: a statement is for both, a request
            names one by its genesis, which must be at hand.
        record_positions: where its records stand.
        records: the records, dtype ``TRANSFER``.
        evidence: the statements beside it.
        claim: what the node says of the payment, to be read by the layer above.
        header: the block's header. Its tree is the checkpoint's, earlier; its time is what the node says.
        block_hash: SHA-256 of the header.
        tree_size: leaves of the checkpoint's tree.
        tree_root: its root.
        cosigned_at_s: the Unix times at which other nodes cosigned the checkpoint, by their logs' names.
    """

    ledger: str
    position: int
    envelope: Envelope
    key: bytes
    body: bytes | None
    is_addressee_proven: bool
    record_positions: tuple[int, ...]
    records: Transfers
    evidence: tuple[Evidence, ...]
    claim: bytes
    header: Header
    block_hash: bytes
    tree_size: int
    tree_root: bytes
    cosigned_at_s: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """A receipt that was verified: its parts, ascending by ledger."""

    network: str
    parts: tuple[PartView, ...]


# --- making -----------------------------------------------------------------------------------------------------------


def make_receipt(source: Source, wanted: Wanted) -> bytes:
    """Make a receipt of one part and check it.

    Blocks for a few reads of the store.

    Raises:
        NotFound: something does not stand where it was wanted.
        IntegrityFailure: the journal contradicts the checkpoint.
        InvariantViolation: more was wanted than a receipt can show.
    """
    point = checkpoint.decode_checkpoint(checkpoint.decode_note(wanted.note).text)
    entry = source.reader.entry(wanted.message)
    header = source.store.header(source.store.height_of(wanted.message))
    stored = [source.reader.entry(position).message for position in wanted.evidence]
    positions = (wanted.message, *wanted.records, *wanted.evidence)
    proofs = [source.tiles.consistency(journal.decode_header(header).tree_size, point.size)]
    proofs += [source.tiles.inclusion(position, point.size) for position in positions]
    hashes, indices = _shared(proofs)
    if len(hashes) > HASH_COUNT_MAX * merkle.HASH_SIZE:
        raise InvariantViolation("a receipt with more hashes than it can name")
    content = _Content(
        ledger=source.genesis.ledger,
        checkpoint=wanted.note,
        header=header,
        message=_message_of(entry.message, wanted),
        records=tuple(_Record(position, source.reader.record(position).tobytes()) for position in wanted.records),
        evidence=tuple(
            _Evidence(position, messages.encode(message))
            for position, message in zip(wanted.evidence, stored, strict=True)
        ),
        claim=wanted.claim,
        hashes=hashes,
        proofs=indices,
    )
    data = msgspec.msgpack.encode(content)
    signature = source.private_key.sign(_CONTEXT + hashlib.sha256(data).digest())
    receipt = msgspec.msgpack.encode(_Document(FORMAT, (_Part(data, signature),)))
    verify_receipt(receipt, source.genesis)
    return receipt


def join(first: bytes, second: bytes) -> bytes:
    """Make one receipt of the two ledgers' parts; nothing is verified but the form.

    Raises:
        IntegrityFailure: ``RECEIPT_MALFORMED``, one of them is no receipt, or both have a part of one ledger.
    """
    parts = [*_read(first), *_read(second)]
    parts.sort(key=lambda part: part[0].ledger)
    if len(parts) != 2 or parts[0][0].ledger == parts[1][0].ledger:
        raise _malformed("two receipts of different ledgers make one")
    return msgspec.msgpack.encode(_Document(FORMAT, tuple(part for _, part in parts)))


def _message_of(message: Message, wanted: Wanted) -> _Message:
    shown = wanted.is_whole and len(message.body) <= BODY_SIZE_MAX
    return _Message(
        position=wanted.message,
        key=wanted.key,
        kind=int(message.kind),
        base=message.base,
        signature=message.signature,
        body=message.body if shown else None,
    )


def _shared(proofs: Sequence[Sequence[bytes]]) -> tuple[bytes, tuple[bytes, ...]]:
    """Give each hash once, in order of first use, and the proofs as rows of indices."""
    places: dict[bytes, int] = {}
    rows = [[places.setdefault(item, len(places)) for item in proof] for proof in proofs]
    if len(places) > HASH_COUNT_MAX:
        return b"".join(places), ()
    return b"".join(places), tuple(bytes(row) for row in rows)


# --- verifying --------------------------------------------------------------------------------------------------------


def verify_receipt(receipt: bytes, genesis: Genesis, peer: Genesis | None = None) -> ReceiptView:
    """Check a receipt from the keys of a genesis alone.

    Args:
        receipt: its bytes.
        genesis: that of either ledger; it names the nodes of both.
        peer: that of the other ledger, where it is at hand: only with it is proven that a request journaled there was
            made for it.

    Raises:
        IntegrityFailure: ``RECEIPT_MALFORMED``, not of the form; ``RECEIPT_INVALID``, a signature, a digest or a proof
            does not hold, or a request was made for another ledger; ``GENESIS_PAIR``, the two are not a pair.
    """
    if peer is not None:
        check_pair(genesis, peer)
    trusted = _Trusted.of(genesis, *(() if peer is None else (peer,)))
    return ReceiptView(genesis.network, tuple(_verify_part(*part, trusted) for part in _read(receipt)))


@dataclass(frozen=True, slots=True)
class _Trusted:
    """What a receipt is held to: a genesis, its network's hash, and by ledger the genesis hashes that are known."""

    genesis: Genesis
    network_hash: bytes
    ledgers: Mapping[str, bytes]

    @classmethod
    def of(cls, *documents: Genesis) -> _Trusted:
        """Trust these genesis documents of one network."""
        hashes = {document.ledger: genesis_hash(document) for document in documents}
        return cls(documents[0], network_hash(documents[0]), hashes)

    def check_addressee(self, envelope: Envelope, ledger: str) -> None:
        """Check that a message in a ledger's journal was meant for it, as far as that can be known here.

        Raises:
            Unauthenticated: it was meant for another ledger or network.
        """
        expected = self.ledgers.get(ledger, envelope.genesis_hash)
        messages.check_addressee(envelope, genesis_hash=expected, network_hash=self.network_hash)
        if ledger not in self.ledgers and envelope.genesis_hash in self.ledgers.values():
            _invalid("The request was made for another ledger.")


def _read(receipt: bytes) -> list[tuple[_Content, _Part]]:
    """Read a receipt strictly."""
    if len(receipt) > SIZE_MAX:
        raise _malformed("it is too large")
    try:
        document = msgspec.msgpack.decode(receipt, type=_Document)
        contents = [msgspec.msgpack.decode(part.content, type=_Content) for part in document.parts]
    except (msgspec.DecodeError, ValueError) as error:
        raise _malformed(str(error)) from error
    if document.format != FORMAT:
        raise _malformed("it has a format that is not known here")
    parts = tuple(
        _Part(msgspec.msgpack.encode(content), part.signature)
        for content, part in zip(contents, document.parts, strict=True)
    )
    if msgspec.msgpack.encode(_Document(FORMAT, parts)) != receipt:
        raise _malformed("it is not in its canonical form")
    ledgers = [content.ledger for content in contents]
    if ledgers != sorted(set(ledgers)):
        raise _malformed("its parts are not in ascending order of their ledgers")
    return list(zip(contents, document.parts, strict=True))


def _verify_part(content: _Content, part: _Part, trusted: _Trusted) -> PartView:
    """Check one part."""
    try:
        return _checked(content, part, trusted)
    except IntegrityFailure as error:
        if error.code.startswith("RECEIPT_"):
            raise
        raise IntegrityFailure("RECEIPT_INVALID", error.sentence, ledger=content.ledger) from error
    except LedgerError as error:
        raise IntegrityFailure("RECEIPT_INVALID", error.sentence, ledger=content.ledger) from error


def _checked(content: _Content, part: _Part, trusted: _Trusted) -> PartView:
    genesis = trusted.genesis
    node_key = bytes.fromhex(genesis.node(content.ledger).public_key)
    if not signatures.is_valid(node_key, part.signature, _CONTEXT + hashlib.sha256(part.content).digest()):
        _invalid("The ledger's node has not signed this part.")
    opened = logs.open_own(content.checkpoint, genesis, content.ledger)
    point, header = opened.checkpoint, journal.decode_header(content.header)
    message, envelope = _check_message(content.message)
    trusted.check_addressee(envelope, content.ledger)
    records = np.frombuffer(b"".join(record.leaf for record in content.records), TRANSFER)
    _check_places(content, header, records)
    evidence = tuple(_check_evidence(item, trusted) for item in content.evidence)
    leaves = [message_leaf(message), *map(record_leaf, records), *(message_leaf(item.message) for item in evidence)]
    positions = [content.message.position, *(record.position for record in content.records)]
    positions += [item.position for item in content.evidence]
    consistency, *proofs = _expanded(content, len(leaves))
    merkle.verify_consistency(header.tree_size, header.tree_root, point.size, point.root, consistency)
    for leaf, position, proof in zip(leaves, positions, proofs, strict=True):
        merkle.verify_inclusion(merkle.leaf_hash(leaf), position, point.size, proof, point.root)
    return PartView(
        ledger=content.ledger,
        position=content.message.position,
        envelope=envelope,
        key=content.message.key,
        body=content.message.body,
        is_addressee_proven=envelope.kind is Kind.STATEMENT or content.ledger in trusted.ledgers,
        record_positions=tuple(record.position for record in content.records),
        records=records,
        evidence=evidence,
        claim=content.claim,
        header=header,
        block_hash=journal.block_hash(content.header),
        tree_size=point.size,
        tree_root=point.root,
        cosigned_at_s=opened.cosigned_at_s,
    )


def _check_message(shown: _Message) -> tuple[Message, Envelope]:
    """Check who signed the message; gives it, without a body if that is not shown, and what its base says."""
    message = Message(Kind(shown.kind), shown.base, shown.signature, shown.body or b"")
    envelope = messages.parse(message)
    if envelope.key_id != messages.key_id_of(shown.key):
        _invalid("The key beside the message is not the one that its base names.")
    if shown.body is None:
        signatures.verify(shown.key, message.signature, message.base)
    else:
        messages.verify(message, envelope, shown.key)
    return message, envelope


def _check_places(content: _Content, header: Header, records: Transfers) -> None:
    """Check that message and records stand in the block, and that the records are the message's."""
    first, end = header.first_position, header.first_position + header.position_count
    position = content.message.position
    places = [record.position for record in content.records]
    if header.ledger != content.ledger or header.tree_size != end:
        _invalid("The header is not of a block of this ledger.")
    if not first <= position < places[0] or places[-1] >= end or places != sorted(set(places)):
        _invalid("Message and records do not stand in their block in ascending order.")
    if np.any(records["message"] != position):
        _invalid("A record is not of the message.")


def _check_evidence(item: _Evidence, trusted: _Trusted) -> Evidence:
    """Check that a statement is by a party of the genesis."""
    message = messages.decode(item.message)
    envelope = messages.parse(message)
    parties = trusted.genesis.parties
    keys = {messages.key_id_of(bytes.fromhex(party.public_key)): party.public_key for party in parties}
    of_network = message.kind is Kind.STATEMENT and envelope.network_hash == trusted.network_hash
    if not of_network or envelope.key_id not in keys:
        _invalid("The evidence is no statement by a party of the genesis.")
    messages.verify(message, envelope, bytes.fromhex(keys[envelope.key_id]))
    return Evidence(item.position, message, envelope)


def _expanded(content: _Content, leaf_count: int) -> Iterator[list[bytes]]:
    """Give the proofs as hashes; there is one way to share them."""
    size = merkle.HASH_SIZE
    hashes = [content.hashes[at : at + size] for at in range(0, len(content.hashes), size)]
    fits = len(content.hashes) == size * len(hashes) and len(content.proofs) == 1 + leaf_count
    if not fits or any(index >= len(hashes) for proof in content.proofs for index in proof):
        raise _malformed("its proofs do not fit what it shows")
    proofs = [[hashes[index] for index in proof] for proof in content.proofs]
    if _shared(proofs) != (content.hashes, content.proofs):
        raise _malformed("its hashes are not shared in the one way there is")
    return iter(proofs)


def _malformed(sentence: str) -> IntegrityFailure:
    return IntegrityFailure("RECEIPT_MALFORMED", f"The receipt cannot be read: {sentence}.")


def _invalid(sentence: str) -> NoReturn:
    raise IntegrityFailure("RECEIPT_INVALID", sentence)
