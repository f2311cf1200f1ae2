"""The body of a block: three sections, one encoder, one strict decoder, and a way to read a part without the rest.

* **1, entries**: a table of six numbers an entry, then the entries' *heads*. An entry is a journaled message; its head
  is its kind (u8), its signature base and its signature.
* **2, records**: what the entries and the expiries derived, in *runs*.
* **3, bodies**: the messages' bodies, one after another.

A run is either *plain*, records with all their columns (``ledger.packing``), or it stands beside a message whose body
is in columns itself (``ledger.columns``). Then the run has only what that body does not say: for each record how far
back its accounts' previous records lie, and of the few columns that the kernel may fill in those that differ somewhere.

Sections 1 and 2 are the *skeleton*, which the block's header hashes. The bodies need no second hash: each is bound by
the digest in its base, which the skeleton holds and somebody has signed.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ledger import columns, messages, packing
from ledger.compiled import Number, kernel
from ledger.errors import InvariantViolation, MalformedInput
from ledger.machine import Entry
from ledger.packing import GROUP_COUNT, by_width, pack, packed_size, unpack
from ledger.registry import Array
from ledger.transfers import TRANSFER, Transfers

__all__ = [
    "BODY_SIZE_MAX",
    "ENTRY_COUNT_MAX",
    "TRANSFER_COUNT_MAX",
    "Body",
    "Layout",
    "Shape",
    "decode",
    "encode",
    "fetcher",
    "has_digests",
    "layout",
    "row_position",
    "size_problem",
    "table_end",
]

SECTION_ENTRIES, SECTION_RECORDS, SECTION_BODIES = 1, 2, 3
SECTION_VERSION = 1

BODY_SIZE_MAX = 2**28
"""Bytes of one body."""
ENTRY_COUNT_MAX = 2**16
"""Entries of one block."""
TRANSFER_COUNT_MAX = 2**21
"""Records of one block."""
COLUMNS_COUNT_MIN = 64
"""Records of a message in columns from which on they are stored beside it: for a few, plain ones are no larger."""

_SECTION = struct.Struct("<HHIQ")
_TABLE = 6
"""Numbers of an entry in the table, each a column of u32: head and body in bytes, records, mode, party, code."""
_ALIGNMENT = 8

# The mode of an entry: whether its run stands beside its body, which optional columns the body has, what differs.
_IS_BESIDE = 1
_MASK_SHIFT = 16
_IS_WIDE = 1 << 8
_DIFFERENCES = {
    name: 1 << (9 + bit) for bit, name in enumerate(("amount", "debit", "credit", "group", "member", "result"))
}
_MODE_MAX = _IS_BESIDE | _IS_WIDE | sum(_DIFFERENCES.values()) | columns.MASK_MAX << _MASK_SHIFT
_TOLD_APART = frozenset({"message", "party", "code", "debit_previous", "credit_previous", *_DIFFERENCES})
"""Fields of a record that its message's body does not give: told by the table, the links or the differences."""

_ALL = by_width(TRANSFER, TRANSFER.names or ())
_NARROW = np.dtype([("debit_back", "<u4"), ("credit_back", "<u4")])
_WIDE = np.dtype([("debit_back", "<u8"), ("credit_back", "<u8")])
_LINKS = ("debit_back", "credit_back")

Fetch = Callable[[int, int], bytes | memoryview]
"""Reads a range of a body: (offset, size)."""
Numbers = npt.NDArray[np.int64]


class Shape(NamedTuple):
    """What a block's header says of its body."""

    first_position: int
    entry_count: int
    expired_count: int
    transfer_count: int
    body_size: int


@dataclass(frozen=True, slots=True)
class Body:
    """A body's bytes, and how many of them are the skeleton."""

    data: bytes
    skeleton_size: int


@dataclass(frozen=True, slots=True)
class Run:
    """Records stored together: the first one's row, how many, where, and the entry they stand beside, or -1."""

    row: int
    count: int
    offset: int
    entry: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where things lie in a body; arrays by entry, shape (entries,)."""

    shape: Shape
    head_sizes: Numbers
    body_sizes: Numbers
    counts: Numbers
    modes: Numbers
    parties: Numbers
    codes: Numbers
    head_offsets: Numbers
    body_offsets: Numbers
    positions: Numbers
    """The journal position of each entry."""
    runs: tuple[Run, ...]
    records_offset: int
    """Where the first run begins; one section's head before it, section 2 begins."""
    records_size: int
    bodies_offset: int
    """Where the first body begins. The skeleton ends one section's head before it."""

    @property
    def skeleton_size(self) -> int:
        """Bytes of the sections that the header hashes."""
        return self.bodies_offset - _SECTION.size

    def locate(self, position: int) -> tuple[int | None, int | None]:
        """Say what stands at a position of this block: (entry index, None) or (None, record row)."""
        relative = position - self.shape.first_position
        if relative < self.shape.expired_count:
            return None, relative
        index = int(np.searchsorted(self.positions, position, side="right")) - 1
        if int(self.positions[index]) == position:
            return index, None
        return None, relative - index - 1

    def position_of(self, row: int) -> int:
        """Give the journal position of record ``row``."""
        return row_position(self.shape.first_position, self.shape.expired_count, self.counts, row)

    def message(self, index: int, fetch: Fetch) -> messages.Message:
        """Read an entry's message.

        Raises:
            MalformedInput: its head is none.
        """
        head = fetch(int(self.head_offsets[index]), int(self.head_sizes[index]))
        return messages.decode_head(
            bytes(head), bytes(fetch(int(self.body_offsets[index]), int(self.body_sizes[index])))
        )

    def head(self, index: int, fetch: Fetch) -> bytes:
        """Read an entry's head alone: what its leaf is made of."""
        return bytes(fetch(int(self.head_offsets[index]), int(self.head_sizes[index])))

    def records(self, first: int, count: int, fetch: Fetch) -> Transfers:
        """Read the records of rows ``first`` … ``first + count - 1``, and no more of the body than they need.

        Raises:
            MalformedInput: a body in columns is not what the table says.
        """
        end = first + count
        chunks = []
        start = bisect.bisect_right(self.runs, first, key=lambda run: run.row) - 1
        for run in self.runs[max(start, 0) :]:
            low, high = max(first, run.row), min(end, run.row + run.count)
            if low < high:
                chunks.append(self._of_run(run, low - run.row, high - run.row, fetch))
            if run.row + run.count >= end:
                break
        if len(chunks) == 1:
            return chunks[0]
        return np.concatenate(chunks) if chunks else np.empty(0, TRANSFER)

    def _of_run(self, run: Run, first: int, end: int, fetch: Fetch) -> Transfers:
        if run.entry < 0:
            return _Packed(TRANSFER, _ALL, run.count, run.offset).read(first, end, fetch)
        entry, mode = run.entry, int(self.modes[run.entry])
        mask = mode >> _MASK_SHIFT
        offset = int(self.body_offsets[entry]) + columns.HEAD_SIZE
        records = _Packed(TRANSFER, columns.names_of(mask), run.count, offset).read(first, end, fetch)
        records["item"] = np.arange(first, end, dtype=np.uint32)
        records["message"], records["party"], records["code"] = (
            self.positions[entry],
            self.parties[entry],
            self.codes[entry],
        )
        links_dtype, differing = _WIDE if mode & _IS_WIDE else _NARROW, _differing(mode)
        links = _Packed(links_dtype, _LINKS, run.count, run.offset)
        if differing:
            at = run.offset + _aligned(links.size)
            _Packed(TRANSFER, differing, run.count, at).read(first, end, fetch, into=records)
        position = int(self.positions[entry]) + 1 + first
        _relink(records, links.read(first, end, fetch), np.uint64(position))
        return records


@dataclass(frozen=True, slots=True)
class _Packed:
    """A table in packed form somewhere in a body."""

    dtype: np.dtype[np.void]
    names: tuple[str, ...]
    count: int
    offset: int

    @property
    def size(self) -> int:
        return packed_size(self.dtype, self.names, self.count)

    def read(self, first: int, end: int, fetch: Fetch, *, into: Array | None = None) -> Array:
        """Read some rows out of the groups that hold them; ``into`` is written into, other fields of its rows stay."""
        start = first // GROUP_COUNT * GROUP_COUNT
        stop = min(-(-end // GROUP_COUNT) * GROUP_COUNT, self.count)
        low, high = (packed_size(self.dtype, self.names, row) for row in (start, stop))
        rows = np.zeros(end - first, self.dtype) if into is None else into
        unpack(fetch(self.offset + low, high - low), self.names, rows, total=stop - start, start=first - start)
        return rows


def row_position(first_position: int, expired_count: int, counts: Numbers, row: int) -> int:
    """Give the journal position of record ``row`` of a block whose entries derive ``counts`` records each."""
    if row < expired_count:
        return first_position + row
    ends = expired_count + np.cumsum(counts)
    return first_position + row + 1 + int(np.searchsorted(ends, row, side="right"))


# --- writing ----------------------------------------------------------------------------------------------------------


def encode(entries: Sequence[Entry], records: Transfers, *, first_position: int, expired_count: int) -> Body:
    """Give a body.

    Args:
        entries: in order.
        records: dtype ``TRANSFER``, of the expiries and then of each entry.
        first_position: the block's.
        expired_count: how many of the records are expiries.

    Raises:
        InvariantViolation: a record beside its message says what that message does not.
    """
    heads = [messages.encode_head(entry.message) for entry in entries]
    table = np.zeros((_TABLE, len(entries)), "<u4")
    table[0] = [len(head) for head in heads]
    table[1] = [len(entry.message.body) for entry in entries]
    table[2] = [entry.count for entry in entries]
    packed = _encode_records(entries, records, table, first_position, expired_count)
    entries_size = table.nbytes + int(table[0].sum())
    padding = _aligned(entries_size) - entries_size
    skeleton = [
        _SECTION.pack(SECTION_ENTRIES, SECTION_VERSION, 0, entries_size + padding),
        table.tobytes(),
        *heads,
        bytes(padding),
        _SECTION.pack(SECTION_RECORDS, SECTION_VERSION, 0, len(packed)),
        packed,
    ]
    skeleton_size = 2 * _SECTION.size + entries_size + padding + len(packed)
    bodies = [entry.message.body for entry in entries]
    head = _SECTION.pack(SECTION_BODIES, SECTION_VERSION, 0, sum(map(len, bodies)))
    return Body(b"".join((*skeleton, head, *bodies)), skeleton_size)


def _encode_records(
    entries: Sequence[Entry], records: Transfers, table: Array, first_position: int, expired_count: int
) -> bytes:
    """Give the runs; writes mode, party and code of the entries that have one of their own into the table."""
    pieces: list[bytes] = []
    row, plain_row = expired_count, 0
    for index, entry in enumerate(entries):
        if entry.in_columns and entry.count >= COLUMNS_COUNT_MIN:
            _put_plain(pieces, records[plain_row:row])
            position = first_position + row + index
            pieces += _beside(entry, records[row : row + entry.count], position, table[:, index])
            plain_row = row + entry.count
        row += entry.count
    _put_plain(pieces, records[plain_row:row])
    return b"".join(pieces)


def _put_plain(pieces: list[bytes], records: Transfers) -> None:
    """Write a plain run; a record's size is a multiple of the alignment."""
    if len(records):
        pieces.append(pack(records, _ALL).tobytes())


def _beside(entry: Entry, records: Transfers, position: int, row: Array) -> list[bytes]:
    """Give the pieces of a run beside its message, which stands at ``position``."""
    mask = columns.mask_of(entry.message.body)
    said = memoryview(entry.message.body)[columns.HEAD_SIZE :]
    differs = packing.differences(records, said, columns.names_of(mask), numbered="item")
    if differs - _TOLD_APART:
        raise InvariantViolation(f"a record says what its message does not: {sorted(differs - _TOLD_APART)}")
    mode = _IS_BESIDE | mask << _MASK_SHIFT
    mode |= sum(bit for name, bit in _DIFFERENCES.items() if name in differs)
    links = np.empty(len(records), _NARROW)
    if _link(records, np.uint64(position + 1), links) >= 2**32:
        links = np.empty(len(records), _WIDE)
        _link(records, np.uint64(position + 1), links)
        mode |= _IS_WIDE
    row[3], row[4], row[5] = mode, records["party"][0], records["code"][0]
    return [_filled(pack(links, _LINKS)), _filled(pack(records, _differing(mode)))]


@functools.cache
def _differing(mode: int) -> tuple[str, ...]:
    """Give the columns that a run has beside its links."""
    return by_width(TRANSFER, (name for name, bit in _DIFFERENCES.items() if mode & bit))


def _filled(packed: npt.NDArray[np.uint8]) -> bytes:
    """Fill a part of a run up with zeros, so that what follows stands at a multiple of the alignment."""
    return packed.tobytes() + bytes(_aligned(len(packed)) - len(packed))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@kernel
def _link(records: Array, position: Number, links: Array) -> Number:
    """Write how far back the previous records lie, 0 for none, and give the largest; ``position`` is the first's."""
    largest = np.uint64(0)
    for i in range(records.size):
        here = position + np.uint64(i + 1)
        debit, credit = records[i]["debit_previous"], records[i]["credit_previous"]
        debit_back = here - debit if debit != 0 else np.uint64(0)
        credit_back = here - credit if credit != 0 else np.uint64(0)
        links[i]["debit_back"] = debit_back
        links[i]["credit_back"] = credit_back
        largest = max(largest, debit_back, credit_back)
    return largest


@kernel
def _relink(records: Array, links: Array, position: Number) -> None:
    """Undo ``_link``."""
    for i in range(records.size):
        here = position + np.uint64(i + 1)
        debit_back, credit_back = np.uint64(links[i]["debit_back"]), np.uint64(links[i]["credit_back"])
        records[i]["debit_previous"] = here - debit_back if debit_back != 0 else np.uint64(0)
        records[i]["credit_previous"] = here - credit_back if credit_back != 0 else np.uint64(0)


# --- reading ----------------------------------------------------------------------------------------------------------


def size_problem(shape: Shape) -> str | None:
    """Say what is out of bounds in what a header says of a body, before anything is allocated by it."""
    if shape.entry_count > ENTRY_COUNT_MAX or shape.transfer_count > TRANSFER_COUNT_MAX:
        return "it counts more than a block can hold"
    least = 3 * _SECTION.size + shape.entry_count * (4 * _TABLE + messages.HEAD_SIZE_MIN)
    least += shape.transfer_count * _NARROW.itemsize
    if not least <= shape.body_size <= BODY_SIZE_MAX:
        return "its body has an impossible size"
    return None


def table_end(entry_count: int) -> int:
    """Give the offset in a body at which the table ends: ``layout`` needs the bytes before it."""
    return _SECTION.size + 4 * _TABLE * entry_count


def layout(shape: Shape, body: bytes | memoryview, *, whole: bool = True) -> Layout:
    """Find where things lie in a body.

    Args:
        shape: what the header says; ``size_problem`` has let it pass.
        body: all of it, or, when not ``whole``, at least the table.
        whole: whether the framing behind the table is checked too.

    Raises:
        MalformedInput: the framing is not the one that the header and the table call for.
    """
    if len(body) < table_end(shape.entry_count) or (whole and len(body) != shape.body_size):
        raise MalformedInput("BODY_MALFORMED", "The block's body has the wrong size.")
    table = np.frombuffer(body, "<u4", _TABLE * shape.entry_count, _SECTION.size)
    head_sizes, body_sizes, counts, modes, parties, codes = table.reshape(_TABLE, -1).astype(np.int64)
    _check_table(shape, head_sizes, body_sizes, counts, modes)
    if np.any((modes == 0) & ((parties != 0) | (codes != 0))) or np.any(codes >= 2**16):
        raise MalformedInput("BODY_MALFORMED", "The table names a party or a code where there is none.")
    heads_offset = table_end(shape.entry_count)
    heads_end = _SECTION.size + _aligned(heads_offset - _SECTION.size + int(head_sizes.sum()))
    records_offset = heads_end + _SECTION.size
    runs, records_size = _runs(shape, counts, modes, records_offset)
    bodies_offset = records_offset + records_size + _SECTION.size
    if bodies_offset + int(body_sizes.sum()) != shape.body_size:
        raise MalformedInput("BODY_MALFORMED", "The table does not account for the whole body.")
    found = Layout(
        shape=shape,
        head_sizes=head_sizes,
        body_sizes=body_sizes,
        counts=counts,
        modes=modes,
        parties=parties,
        codes=codes,
        head_offsets=heads_offset + np.cumsum(head_sizes) - head_sizes,
        body_offsets=bodies_offset + np.cumsum(body_sizes) - body_sizes,
        positions=shape.first_position + shape.expired_count + np.arange(len(counts)) + np.cumsum(counts) - counts,
        runs=runs,
        records_offset=records_offset,
        records_size=records_size,
        bodies_offset=bodies_offset,
    )
    _check_framing(found, body, heads_offset + int(head_sizes.sum()), whole=whole)
    return found


def _check_table(shape: Shape, head_sizes: Numbers, body_sizes: Numbers, counts: Numbers, modes: Numbers) -> None:
    if shape.expired_count + int(counts.sum()) != shape.transfer_count:
        raise MalformedInput("BODY_MALFORMED", "The entries do not account for the block's records.")
    if not shape.entry_count:
        return
    too_small, too_large = head_sizes.min() < messages.HEAD_SIZE_MIN, head_sizes.max() > messages.HEAD_SIZE_MAX
    if too_small or too_large or body_sizes.max() > messages.BODY_SIZE_MAX:
        raise MalformedInput("BODY_MALFORMED", "An entry has an impossible size.")
    beside = modes != 0
    if np.any(modes & ~_MODE_MAX) or np.any(beside & ((modes & _IS_BESIDE == 0) | (counts < COLUMNS_COUNT_MIN))):
        raise MalformedInput("BODY_MALFORMED", "An entry has a mode that is not known here.")
    masks = modes >> _MASK_SHIFT
    for index in np.flatnonzero(beside):
        size = columns.HEAD_SIZE + packed_size(TRANSFER, columns.names_of(int(masks[index])), int(counts[index]))
        if size != body_sizes[index]:
            raise MalformedInput("BODY_MALFORMED", "A run stands beside a body that has not its columns.")


def _runs(shape: Shape, counts: Numbers, modes: Numbers, offset: int) -> tuple[tuple[Run, ...], int]:
    """Give the runs in order, and the size of all of them."""
    runs: list[Run] = []
    ends = shape.expired_count + np.cumsum(counts)
    start, row = offset, 0
    for index in (*np.flatnonzero(modes).tolist(), None):
        first = shape.transfer_count if index is None else int(ends[index] - counts[index])
        if first > row:
            runs.append(Run(row, first - row, offset, -1))
            offset += packed_size(TRANSFER, _ALL, first - row)
        if index is not None:
            row, count = int(ends[index]), int(counts[index])
            runs.append(Run(first, count, offset, index))
            links = _WIDE if modes[index] & _IS_WIDE else _NARROW
            offset += _aligned(packed_size(links, _LINKS, count))
            offset += _aligned(packed_size(TRANSFER, _differing(int(modes[index])), count))
    return tuple(runs), offset - start


def _check_framing(found: Layout, body: bytes | memoryview, heads_end: int, *, whole: bool) -> None:
    """Hold the heads of the sections, and the bytes between them, to what they must be."""
    start = found.records_offset - _SECTION.size
    heads = [(0, (SECTION_ENTRIES, SECTION_VERSION, 0, start - _SECTION.size))]
    if whole:
        heads += [
            (start, (SECTION_RECORDS, SECTION_VERSION, 0, found.records_size)),
            (found.skeleton_size, (SECTION_BODIES, SECTION_VERSION, 0, int(found.body_sizes.sum()))),
        ]
        if any(body[heads_end:start]):
            raise MalformedInput("BODY_MALFORMED", "What fills a section up is zero.")
    if any(_SECTION.unpack_from(body, offset) != expected for offset, expected in heads):
        raise MalformedInput("BODY_MALFORMED", "A section is not what the header and the table call for.")


def decode(shape: Shape, body: bytes) -> tuple[tuple[Entry, ...], Transfers]:
    """Read a body strictly. That its records are the ones its messages derive is for the fold to say.

    Raises:
        MalformedInput: not the one encoding of a body.
    """
    places, fetch = layout(shape, body), fetcher(body)
    records = places.records(0, shape.transfer_count, fetch)
    entries = []
    for index in range(shape.entry_count):
        message = places.message(index, fetch)
        entries.append(Entry(message, int(places.counts[index]), bool(places.modes[index])))
    if encode(entries, records, first_position=shape.first_position, expired_count=shape.expired_count).data != body:
        raise MalformedInput("BODY_MALFORMED", "The body is not in its one form.")
    return tuple(entries), records


def fetcher(body: bytes) -> Fetch:
    """Give what reads ranges of a body that is in memory."""
    view = memoryview(body)
    return lambda offset, size: view[offset : offset + size]


def has_digests(places: Layout, body: bytes) -> bool:
    """Whether every message's body is the one that its base binds."""
    fetch = fetcher(body)
    return all(_has_digest(places.message(index, fetch)) for index in range(places.shape.entry_count))


def _has_digest(message: messages.Message) -> bool:
    try:
        return hashlib.sha256(message.body).digest() == messages.parse(message).digest
    except MalformedInput:
        return False
