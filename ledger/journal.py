"""Blocks: the header that names everything, one encoder, one strict decoder, the hash chain.

A block is a header of 168 bytes, the node's signature, and a body (``ledger.sections``). The header names its own
place, the hash of the header before it, the SHA-256 of the body's skeleton, and the tree after it. *The block's hash is
the SHA-256 of its header.* The node signs ``hugang-block/1``, a line feed and that hash. Hashes cover uncompressed
bytes; compression belongs to the store.

Header, little-endian, no padding (offset, type, field)::

      0  8s   magic ``hugangBK``             48  u64  timestamp, nanoseconds since 1970
      8  u16  format version, 1              56  u64  size of the body, bytes
     10  u16  semantics version, 1           64  u64  leaves of the tree after this block
     12  2s   ledger code                    72  32s  hash of the previous block, or of the genesis
     14  u8   hash algorithm, 1: SHA-256    104  32s  hash of the body's skeleton
     15  u8   signature algorithm, 1: Ed25519
     16  u64  height, from 1                136  32s  root of the tree after this block
     24  u64  position of the first record
     32  u32  entries
     36  u32  expiries (they come first)
     40  u64  transfers, expiries included

The full example is in ``docs/formats.md``.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger import sections
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput
from ledger.machine import Draft, Entry, Link
from ledger.sections import Shape
from ledger.transfers import Transfers

__all__ = [
    "HEADER_SIZE",
    "SIGNATURE_SIZE",
    "Block",
    "EncodedBlock",
    "Header",
    "block_hash",
    "decode",
    "decode_header",
    "encode",
    "encode_header",
    "is_intact",
    "seal",
    "skeleton_hash",
    "verify_signature",
]

MAGIC = b"hugangBK"
FORMAT = 1
SEMANTICS = 1
SHA_256 = 1
ED25519 = 1
SIGNATURE_CONTEXT = b"hugang-block/1\n"
SIGNATURE_SIZE = 64

COUNTER_MAX = 2**63 - 1

_HEADER = struct.Struct("<8sHH2sBBQQIIQQQQ32s32s32s")
HEADER_SIZE = _HEADER.size
"""Bytes of a header: 168."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a block says about itself. Counts of positions: ``entry_count + transfer_count``."""

    ledger: str
    height: int
    first_position: int
    entry_count: int
    expired_count: int
    transfer_count: int
    timestamp_ns: int
    body_size: int
    tree_size: int
    previous_hash: bytes
    body_hash: bytes
    tree_root: bytes

    @property
    def position_count(self) -> int:
        """How many positions the block takes."""
        return self.entry_count + self.transfer_count

    @property
    def shape(self) -> Shape:
        """What the header says of its body."""
        return Shape(self.first_position, self.entry_count, self.expired_count, self.transfer_count, self.body_size)


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A block's bytes: what is stored, exported and hashed."""

    header: bytes
    signature: bytes
    body: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A block read or made: its header, its contents in order, and its bytes."""

    header: Header
    entries: tuple[Entry, ...]
    transfers: Transfers
    hash: bytes
    encoded: EncodedBlock


def seal(draft: Draft, link: Link, private_key: Ed25519PrivateKey, *, ledger: str) -> Block:
    """Make a block of a draft that hangs at ``link``, and sign it.

    Raises:
        InvariantViolation: the draft is empty or exceeds the bounds of the format.
    """
    body = sections.encode(
        draft.entries, draft.transfers, first_position=draft.first_position, expired_count=draft.expired_count
    )
    header = Header(
        ledger=ledger,
        height=draft.height,
        first_position=draft.first_position,
        entry_count=len(draft.entries),
        expired_count=draft.expired_count,
        transfer_count=len(draft.transfers),
        timestamp_ns=draft.timestamp_ns,
        body_size=len(body.data),
        tree_size=link.tree_size,
        previous_hash=link.previous_hash,
        body_hash=skeleton_hash(body.data, body.skeleton_size),
        tree_root=link.tree_root,
    )
    problem = _header_problem(header)
    if problem is not None:
        raise InvariantViolation(f"a draft that is no block: {problem}")
    header_bytes = encode_header(header)
    digest = block_hash(header_bytes)
    signature = private_key.sign(SIGNATURE_CONTEXT + digest)
    return Block(header, draft.entries, draft.transfers, digest, EncodedBlock(header_bytes, signature, body.data))


def encode(block: Block) -> EncodedBlock:
    """Give a block's bytes."""
    return block.encoded


def decode(encoded: EncodedBlock) -> Block:
    """Read a block strictly; who signed it, and what came before it, is for the caller to check.

    Raises:
        MalformedInput: not the one encoding of a block.
        IntegrityFailure: the body is not the one that the header names.
    """
    header = decode_header(encoded.header)
    if len(encoded.signature) != SIGNATURE_SIZE:
        raise MalformedInput("BLOCK_MALFORMED", "The block's signature has the wrong size.")
    entries, records = sections.decode(header.shape, encoded.body)
    if not is_intact(header, encoded.body):
        raise IntegrityFailure(
            "BODY_HASH", "The body does not match its header.", block=header.height, position=header.first_position
        )
    return Block(header, entries, records, block_hash(encoded.header), encoded)


def is_intact(header: Header, body: bytes) -> bool:
    """Whether a body is the one its header names: the skeleton by its hash, each message's body by its digest.

    Raises:
        MalformedInput: its framing is not the one the header calls for.
    """
    places = sections.layout(header.shape, body)
    return skeleton_hash(body, places.skeleton_size) == header.body_hash and sections.has_digests(places, body)


def skeleton_hash(body: bytes, size: int) -> bytes:
    """Give SHA-256 of a body's skeleton."""
    return hashlib.sha256(memoryview(body)[:size]).digest()


def block_hash(header: bytes) -> bytes:
    """Give a block's hash: SHA-256 of its header's bytes."""
    return hashlib.sha256(header).digest()


def verify_signature(encoded: EncodedBlock, public_key: bytes) -> None:
    """Check the node's signature on a header.

    Raises:
        IntegrityFailure: it does not hold; the caller knows the place.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            encoded.signature, SIGNATURE_CONTEXT + block_hash(encoded.header)
        )
    except InvalidSignature as error:
        raise IntegrityFailure("BLOCK_SIGNATURE", "The node's signature on the block does not hold.") from error


def encode_header(header: Header) -> bytes:
    """Give a header's 168 bytes."""
    return _HEADER.pack(
        MAGIC,
        FORMAT,
        SEMANTICS,
        header.ledger.encode("ascii"),
        SHA_256,
        ED25519,
        header.height,
        header.first_position,
        header.entry_count,
        header.expired_count,
        header.transfer_count,
        header.timestamp_ns,
        header.body_size,
        header.tree_size,
        header.previous_hash,
        header.body_hash,
        header.tree_root,
    )


def decode_header(data: bytes) -> Header:
    """Read a header strictly.

    Raises:
        MalformedInput: not the one encoding of a header, or a bound is broken.
    """
    if len(data) != HEADER_SIZE:
        raise MalformedInput("BLOCK_MALFORMED", "The block's header has the wrong size.")
    magic, version, semantics, ledger, hash_algorithm, signature_algorithm, *rest = _HEADER.unpack(data)
    if magic != MAGIC:
        raise MalformedInput("BLOCK_MALFORMED", "This is not the header of a block.")
    if (version, semantics, hash_algorithm, signature_algorithm) != (FORMAT, SEMANTICS, SHA_256, ED25519):
        raise MalformedInput("BLOCK_FORMAT", "The block has a version or an algorithm that is not known here.")
    if not (ledger.isalpha() and ledger.isupper()):
        raise MalformedInput("BLOCK_MALFORMED", "The block's ledger code is not two capital letters.")
    header = Header(ledger.decode("ascii"), *rest)
    problem = _header_problem(header)
    if problem is not None:
        raise MalformedInput("BLOCK_MALFORMED", f"The block's header contradicts itself: {problem}.")
    return header


def _header_problem(header: Header) -> str | None:
    """Say what is out of bounds in a header, before anything is allocated by it."""
    counters = (header.height, header.first_position, header.timestamp_ns, header.tree_size)
    if any(counter > COUNTER_MAX for counter in counters) or header.height < 1:
        return "a counter is out of range"
    if header.expired_count > header.transfer_count:
        return "it counts more expiries than transfers"
    if header.position_count == 0 or (header.entry_count == 0 and header.expired_count != header.transfer_count):
        return "its transfers come from nothing"
    return sections.size_problem(header.shape)
