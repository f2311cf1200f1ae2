"""Blocks: the bytes of the journal, one encoder, one strict decoder, the hash chain.

A block is a header of 168 bytes, the node's signature, and a body. The header names everything: its own place, the
hash of the header before it, the SHA-256 of the body, and the tree after it. *The block's hash is the SHA-256 of its
header.* The node signs ``hugang-block/0``, a line feed and that hash. Hashes cover uncompressed bytes; compression
belongs to the store.

Header, little-endian, no padding (offset, type, field)::

      0  8s   magic ``hugangBK``             48  u64  timestamp, nanoseconds since 1970
      8  u16  format version, 0              56  u64  size of the body, bytes
     10  u16  semantics version, 0           64  u64  leaves of the tree after this block
     12  2s   ledger code                    72  32s  hash of the previous block, or of the genesis
     14  u8   hash algorithm, 1: SHA-256    104  32s  hash of the body
     15  u8   signature algorithm, 1: Ed25519
     16  u64  height, from 1                136  32s  root of the tree after this block
     24  u64  position of the first record
     32  u32  messages
     36  u32  expiries (they come first)
     40  u64  transfers, expiries included

The body is exactly two sections, each a type (u16), a version (u16, 0), a zero (u32), a size (u64) and that many bytes:

* **1, messages**: the size of each stored message (u32 each), the number of transfers each derived (u32 each), then
  the stored messages (``messages.encode``) one after another.
* **2, transfers**: the records in groups of 512, the last group shorter; in each group the columns of ``TRANSFER``
  stand one after another in the order of its fields. A record so lies within 53,248 bytes, and can be read without
  the rest.

The full example is in ``docs/formats.md``.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger import messages
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput
from ledger.machine import Draft, Entry
from ledger.transfers import TRANSFER, Transfers

__all__ = [
    "BODY_SIZE_MAX",
    "GROUP_SIZE",
    "HEADER_SIZE",
    "SIGNATURE_SIZE",
    "Block",
    "EncodedBlock",
    "Header",
    "Layout",
    "block_hash",
    "decode",
    "decode_header",
    "decode_transfers",
    "encode",
    "encode_body",
    "encode_header",
    "encode_transfers",
    "layout",
    "row_position",
    "seal",
    "table_end",
    "verify_signature",
]

MAGIC = b"hugangBK"
FORMAT = 0
SEMANTICS = 0
SHA_256 = 1
ED25519 = 1
SIGNATURE_CONTEXT = b"hugang-block/0\n"
SIGNATURE_SIZE = 64

SECTION_MESSAGES = 1
SECTION_TRANSFERS = 2
SECTION_VERSION = 0

BODY_SIZE_MAX = 2**28
"""Bytes of one body."""
ENTRY_COUNT_MAX = 2**16
"""Messages of one block."""
TRANSFER_COUNT_MAX = 2**21
"""Records of one block."""
COUNTER_MAX = 2**63 - 1
GROUP_RECORD_COUNT = 512
GROUP_SIZE = GROUP_RECORD_COUNT * TRANSFER.itemsize
"""Bytes of one full group of records."""
_RUN_RECORD_COUNT = 8 * GROUP_RECORD_COUNT

_HEADER = struct.Struct("<8sHH2sBBQQIIQQQQ32s32s32s")
_SECTION = struct.Struct("<HHIQ")
HEADER_SIZE = _HEADER.size
"""Bytes of a header: 168."""
_STORED_SIZE_MIN = len(messages.encode(messages.Message(messages.Kind.REQUEST, b"", bytes(64), b"")))
_STORED_SIZE_MAX = _STORED_SIZE_MIN + messages.BASE_SIZE_MAX + messages.BODY_SIZE_MAX
_COLUMNS = [(name, *TRANSFER.fields[name][:2]) for name in TRANSFER.names or () if TRANSFER.fields]


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


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where things lie in a body. ``sizes`` and ``counts``: shape (messages,), the table of the messages section."""

    header: Header
    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    """Shape (messages + 1,): where each stored message begins; the last is the end of the section."""
    positions: npt.NDArray[np.int64]
    """Shape (messages,): the journal position of each message."""

    @property
    def transfers_offset(self) -> int:
        """Where the first group of records begins."""
        return int(self.offsets[-1]) + _SECTION.size

    def message(self, index: int) -> tuple[int, int]:
        """Give the offset and the size of a stored message."""
        return int(self.offsets[index]), int(self.sizes[index])

    def group(self, row: int) -> tuple[int, int, int]:
        """Give the offset of the group that holds record ``row``, its number of records, and the row inside it."""
        first = row - row % GROUP_RECORD_COUNT
        count = min(GROUP_RECORD_COUNT, self.header.transfer_count - first)
        return self.transfers_offset + first * TRANSFER.itemsize, count, row - first

    def locate(self, position: int) -> tuple[int | None, int | None]:
        """Say what stands at a position of this block: (message index, None) or (None, record row)."""
        relative = position - self.header.first_position
        if relative < self.header.expired_count:
            return None, relative
        index = int(np.searchsorted(self.positions, position, side="right")) - 1
        if int(self.positions[index]) == position:
            return index, None
        return None, relative - index - 1

    def position_of(self, row: int) -> int:
        """Give the journal position of record ``row``."""
        return row_position(self.header.first_position, self.header.expired_count, self.counts, row)


def row_position(first_position: int, expired_count: int, counts: npt.NDArray[np.int64], row: int) -> int:
    """Give the journal position of record ``row`` of a block whose messages derive ``counts`` transfers each."""
    if row < expired_count:
        return first_position + row
    message_ends = expired_count + np.cumsum(counts)
    return first_position + row + 1 + int(np.searchsorted(message_ends, row, side="right"))


def seal(draft: Draft, private_key: Ed25519PrivateKey, *, ledger: str) -> Block:
    """Make a block of a draft and sign it.

    Raises:
        InvariantViolation: the draft is empty or exceeds the bounds of the format.
    """
    body = encode_body(draft.entries, draft.transfers)
    header = Header(
        ledger=ledger,
        height=draft.height,
        first_position=draft.first_position,
        entry_count=len(draft.entries),
        expired_count=draft.expired_count,
        transfer_count=len(draft.transfers),
        timestamp_ns=draft.timestamp_ns,
        body_size=len(body),
        tree_size=draft.tree_size,
        previous_hash=draft.previous_hash,
        body_hash=hashlib.sha256(body).digest(),
        tree_root=draft.tree_root,
    )
    problem = _header_problem(header)
    if problem is not None:
        raise InvariantViolation(f"a draft that is no block: {problem}")
    header_bytes = encode_header(header)
    digest = block_hash(header_bytes)
    signature = private_key.sign(SIGNATURE_CONTEXT + digest)
    return Block(header, draft.entries, draft.transfers, digest, EncodedBlock(header_bytes, signature, body))


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
    places = layout(header, encoded.body)
    if hashlib.sha256(encoded.body).digest() != header.body_hash:
        raise IntegrityFailure(
            "BODY_HASH", "The body does not match its header.", block=header.height, position=header.first_position
        )
    entries = []
    for index in range(header.entry_count):
        offset, size = places.message(index)
        entries.append(Entry(messages.decode(encoded.body[offset : offset + size]), int(places.counts[index])))
    records = decode_transfers(memoryview(encoded.body)[places.transfers_offset :], header.transfer_count)
    return Block(header, tuple(entries), records, block_hash(encoded.header), encoded)


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
    if header.entry_count > ENTRY_COUNT_MAX or header.transfer_count > TRANSFER_COUNT_MAX:
        return "it counts more than a block can hold"
    if header.expired_count > header.transfer_count:
        return "it counts more expiries than transfers"
    if header.position_count == 0 or (header.entry_count == 0 and header.expired_count != header.transfer_count):
        return "its transfers come from nothing"
    fixed_size = 2 * _SECTION.size + 8 * header.entry_count + header.transfer_count * TRANSFER.itemsize
    stored_size = header.body_size - fixed_size
    smallest, largest = header.entry_count * _STORED_SIZE_MIN, header.entry_count * _STORED_SIZE_MAX
    if header.body_size > BODY_SIZE_MAX or not smallest <= stored_size <= largest:
        return "its body has an impossible size"
    return None


def encode_body(entries: tuple[Entry, ...], records: Transfers) -> bytes:
    """Give a body: the two sections."""
    stored = [messages.encode(entry.message) for entry in entries]
    table = np.empty((2, len(entries)), "<u4")
    table[0] = [len(data) for data in stored]
    table[1] = [entry.count for entry in entries]
    messages_size = table.nbytes + sum(len(data) for data in stored)
    return b"".join(
        (
            _SECTION.pack(SECTION_MESSAGES, SECTION_VERSION, 0, messages_size),
            table.tobytes(),
            *stored,
            _SECTION.pack(SECTION_TRANSFERS, SECTION_VERSION, 0, records.nbytes),
            encode_transfers(records),
        )
    )


def table_end(entry_count: int) -> int:
    """Give the offset in a body at which the messages section's table ends: ``layout`` needs the bytes before it."""
    return _SECTION.size + 8 * entry_count


def layout(header: Header, body: bytes, *, whole: bool = True) -> Layout:
    """Find where things lie in a body.

    Args:
        header: the header that names the body.
        body: all of it, or, when not ``whole``, at least the head and the table of the messages section.
        whole: whether the body's size and its second section's head are checked too.

    Raises:
        MalformedInput: the framing is not the one that the header calls for.
    """
    end = table_end(header.entry_count)
    if len(body) < end or (whole and len(body) != header.body_size):
        raise MalformedInput("BODY_MALFORMED", "The block's body has the wrong size.")
    kind, version, zero, size = _SECTION.unpack_from(body)
    transfers_size = header.transfer_count * TRANSFER.itemsize
    expected_size = header.body_size - 2 * _SECTION.size - transfers_size
    if (kind, version, zero, size) != (SECTION_MESSAGES, SECTION_VERSION, 0, expected_size):
        raise MalformedInput("BODY_MALFORMED", "The messages section is not what the header calls for.")
    table = np.frombuffer(body, "<u4", 2 * header.entry_count, _SECTION.size).astype(np.int64)
    sizes, counts = table[: header.entry_count], table[header.entry_count :]
    offsets = np.concatenate(([end], end + np.cumsum(sizes)))
    if offsets[-1] != _SECTION.size + expected_size:
        raise MalformedInput("BODY_MALFORMED", "The stored messages do not fill their section.")
    if header.entry_count and (int(sizes.min()) < _STORED_SIZE_MIN or int(sizes.max()) > _STORED_SIZE_MAX):
        raise MalformedInput("BODY_MALFORMED", "A stored message has an impossible size.")
    if header.expired_count + int(counts.sum()) != header.transfer_count:
        raise MalformedInput("BODY_MALFORMED", "The messages do not account for the block's transfers.")
    if whole:
        second = _SECTION.unpack_from(body, int(offsets[-1]))
        if second != (SECTION_TRANSFERS, SECTION_VERSION, 0, transfers_size):
            raise MalformedInput("BODY_MALFORMED", "The transfers section is not what the header calls for.")
    first = header.first_position + header.expired_count
    positions = first + np.arange(header.entry_count) + np.cumsum(counts) - counts
    return Layout(header, sizes, counts, offsets, positions)


def encode_transfers(records: Transfers) -> bytes:
    """Give the groups of columns."""
    output = np.empty(records.nbytes, np.uint8)
    for groups, rows, width in _runs(output, records):
        for name, kind, offset in _COLUMNS:
            groups[:, width * offset : width * (offset + kind.itemsize)].view(kind)[...] = rows[name]
    return output.tobytes()


def decode_transfers(data: bytes | memoryview, count: int) -> Transfers:
    """Read ``count`` records from their groups; one group alone reads the same way.

    Every byte string of the right size is the encoding of exactly one array.

    Raises:
        MalformedInput: the size is not that of ``count`` records.
    """
    if len(data) != count * TRANSFER.itemsize:
        raise MalformedInput("BODY_MALFORMED", "The transfers section has the wrong size.")
    records = np.empty(count, TRANSFER)
    for groups, rows, width in _runs(np.frombuffer(data, np.uint8), records):
        for name, kind, offset in _COLUMNS:
            rows[name] = groups[:, width * offset : width * (offset + kind.itemsize)].view(kind)
    return records


def _runs(columns: npt.NDArray[np.uint8], records: Transfers) -> Iterator[tuple[npt.NDArray[np.uint8], Transfers, int]]:
    """Give runs of groups that have the same number of records, as columns and as rows, and that number.

    A run is short enough to stay in the processor's cache while each column passes over it.
    """
    size = TRANSFER.itemsize
    full = len(records) - len(records) % GROUP_RECORD_COUNT
    starts = [*range(0, full, _RUN_RECORD_COUNT), full]
    runs = [(first, last, GROUP_RECORD_COUNT) for first, last in itertools.pairwise(starts)]
    for first, last, width in (*runs, (full, len(records), len(records) - full)):
        if first != last:
            yield (
                columns[first * size : last * size].reshape(-1, width * size),
                records[first:last].reshape(-1, width),
                width,
            )
