"""Balance points in sorted chunks: how they are cut into pages and found again, apart from any database.

A *chunk* holds the points of some blocks in a row, sorted by account and position, in *pages* of ``PAGE_COUNT``; only
the last page of a chunk may be shorter. A chunk's directory, little-endian, has two i64 a page: account and position of
its first point. Chunks that follow one another hold ever later positions, and a chunk's number is never used again.

When sixteen chunks of one level stand at the end they become one, so that few are left and each point is written again
once a level, which is sixteen times as large as the one below. Large chunks are left alone: they are few anyway.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger.errors import IntegrityFailure
from ledger.points import POINT
from ledger.registry import Array

__all__ = [
    "DAMAGE",
    "Chunk",
    "chunk_of",
    "corrupt",
    "count_up_to",
    "joined",
    "merge_start",
    "ordered",
    "page_checksum",
    "pages",
    "read_chunk",
    "read_page",
]

PAGE_COUNT = 256
"""Points in a page: 14 KiB, which one look-up reads."""
FAN_COUNT = 16
"""Chunks of one level that become one."""
LEVEL_COUNT = 1_024
"""Points of a chunk up to which its level is 0, before it is as large as ``FAN_COUNT`` such."""
CHUNK_COUNT_MAX = 2**19
"""Points of the largest chunk that is made of others, 28 MiB: that much is held in memory twice meanwhile."""

DAMAGE = (ValueError, TypeError, OverflowError, MemoryError, struct.error)
"""What may be raised over a cell that holds what it should not."""

_HEAD = struct.Struct("<QQQQ")
_PLACE = struct.Struct("<QI")


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What is kept in memory of a chunk; ``accounts`` and ``positions`` are its directory."""

    number: int
    first_position: int
    last_position: int
    count: int
    accounts: Array
    positions: Array
    checksum: int

    def directory(self) -> bytes:
        """Give the directory's bytes."""
        return np.column_stack([self.accounts, self.positions]).astype("<i8").tobytes()

    def count_up_to(self, account: int, position: int) -> int:
        """Count the pages that do not begin beyond an account's position."""
        return count_up_to(self.accounts, self.positions, account, position)

    @property
    def page_count(self) -> int:
        """How many pages the chunk has."""
        return len(self.accounts)


def read_chunk(row: Sequence[Any]) -> Chunk:
    """Read what was stored of a chunk.

    Raises:
        IntegrityFailure: it is not what was written.
        DAMAGE: it is not even of that kind.
    """
    *what, checksum = row
    chunk = _chunk(*what)
    if chunk.checksum != checksum:
        raise corrupt(chunk.number)
    return chunk


def _chunk(number: int, first_position: int, last_position: int, count: int, directory: bytes) -> Chunk:
    checksum = zlib.crc32(directory, zlib.crc32(_HEAD.pack(number, first_position, last_position, count)))
    table = np.frombuffer(directory, "<i8").reshape(-1, 2)
    accounts, positions = np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
    return Chunk(number, first_position, last_position, count, accounts, positions, checksum)


def chunk_of(number: int, rows: Array) -> Chunk:
    """Describe the chunk that consists of some points, at least one, that are ``ordered``."""
    firsts, positions = rows[::PAGE_COUNT], rows["position"]
    directory = np.column_stack([firsts["account"].astype("<i8"), firsts["position"].astype("<i8")]).tobytes()
    return _chunk(number, int(positions.min()), int(positions.max()), len(rows), directory)


def ordered(rows: Array) -> Array:
    """Sort points by account and position; of several with the same of both, the last one stays."""
    order = np.argsort(rows["position"], kind="stable")
    for shift in (0, 16):
        # Numbers of 16 bits are what numpy sorts fastest, and without changing the order of equal ones.
        half = (rows["account"] >> np.uint32(shift)).astype(np.uint16)
        order = order.take(np.argsort(half.take(order), kind="stable"))
    rows = rows.take(order)
    accounts, positions = rows["account"], rows["position"]
    is_last = np.ones(len(rows), np.bool_)
    is_last[:-1] = (accounts[1:] != accounts[:-1]) | (positions[1:] != positions[:-1])
    return rows.take(np.flatnonzero(is_last))


def joined(parts: Sequence[Array]) -> Array:
    """Make one list of several that are ``ordered``, each with later positions than the one before."""
    rows = np.concatenate(parts)
    return rows.take(np.argsort(rows["account"], kind="stable"))


def pages(rows: Array) -> Iterator[bytes]:
    """Cut points into pages."""
    for start in range(0, len(rows), PAGE_COUNT):
        yield rows[start : start + PAGE_COUNT].tobytes()


def page_checksum(number: int, page: int, data: bytes) -> int:
    """Give the CRC-32 of a page in its place."""
    return zlib.crc32(data, zlib.crc32(_PLACE.pack(number, page)))


def read_page(number: int, page: int, data: bytes, checksum: int) -> Array:
    """Read a stored page.

    Raises:
        IntegrityFailure: it is not what was written.
    """
    try:
        found = page_checksum(number, page, data)
    except DAMAGE as error:
        raise corrupt(number) from error
    if found != checksum:
        raise corrupt(number)
    return np.frombuffer(data, POINT)


def count_up_to(accounts: Array, positions: Array, account: int, position: int) -> int:
    """Count the entries of a sorted list that are not beyond an account's position."""
    first = int(np.searchsorted(accounts, np.int64(account), "left"))
    end = int(np.searchsorted(accounts, np.int64(account), "right"))
    return first + int(np.searchsorted(positions[first:end], np.int64(position), "right"))


def merge_start(counts: Sequence[int]) -> int:
    """Say from which of the chunks at the end on all become one: the last one if none has to.

    They do when they are as many as one level has, or as large together as a chunk may be.
    """
    start = len(counts) - 1
    size = counts[start]
    while True:
        first, level, is_full = start, _level(size), False
        while first and not is_full and _level(counts[first - 1]) <= level:
            is_full = size + counts[first - 1] > CHUNK_COUNT_MAX
            if not is_full:
                first -= 1
                size += counts[first]
        if first == start or (start - first + 1 < FAN_COUNT and not is_full):
            return start
        start = first


def _level(count: int) -> int:
    level, limit = 0, LEVEL_COUNT * FAN_COUNT
    while count >= limit:
        level, limit = level + 1, limit * FAN_COUNT
    return level


def corrupt(number: int) -> IntegrityFailure:
    """Say that a chunk is damaged."""
    return IntegrityFailure("POINTS_CORRUPT", "Stored balance points are not what was written there.", chunk=number)
