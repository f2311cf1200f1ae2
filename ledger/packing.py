"""Rows into columns and back: groups of 512 rows, in each group one column after another.

Columns of integers compress to a fraction of rows, and a group keeps a row within some tens of kilobytes, so that it
can be read without the rest. Bodies of bulk messages, the records of a block and their journal form all use this one
layout (``docs/formats.md``). The widest columns of a group come first, so every value stands at a multiple of its size.

Only fields of unsigned or signed integers of 8, 4 or 2 bytes are packed; everything is little-endian.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.compiled import Number, kernel
from ledger.errors import InvariantViolation, MalformedInput

__all__ = ["GROUP_COUNT", "by_width", "differences", "group_range", "pack", "packed_size", "unpack"]

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

GROUP_COUNT = 512
"""Rows of one group; the last group of a table may be shorter."""
_TILE_COUNT = 64
"""Rows that are taken column by column at a time, a divisor of a group: so few stay in the nearest cache meanwhile."""


@kernel
def _gather(rows: Bytes, places: Array, packed: Bytes) -> None:
    """Write the columns of rows, shape (n, size); ``places`` has offset and width of each. Undone by ``_scatter``."""
    count, size = rows.shape
    flat = rows.reshape(rows.size)
    rows_8, rows_4, rows_2 = flat.view(np.uint64), flat.view(np.uint32), flat.view(np.uint16)
    packed_8, packed_4, packed_2 = packed.view(np.uint64), packed.view(np.uint32), packed.view(np.uint16)
    for tile in range(0, count, _TILE_COUNT):
        first = tile - tile % GROUP_COUNT
        group, high = min(GROUP_COUNT, count - first), min(tile + _TILE_COUNT, count)
        at = first * _widths(places)
        for column in range(places.shape[0]):
            offset, width = places[column, 0], places[column, 1]
            step, row, place = size // width, (tile * size + offset) // width, at // width + tile - first
            if width == 8:
                for i in range(high - tile):
                    packed_8[place + i] = rows_8[row + i * step]
            elif width == 4:
                for i in range(high - tile):
                    packed_4[place + i] = rows_4[row + i * step]
            else:
                for i in range(high - tile):
                    packed_2[place + i] = rows_2[row + i * step]
            at += group * width


@kernel
def _scatter(packed: Bytes, places: Array, total: Number, start: Number, rows: Bytes, found: Array) -> None:
    """Write packed columns of ``total`` rows into those rows, shape (n, size), that begin at row ``start`` of them.

    Collects the bits that these rows have set in each column.
    """
    count, size = rows.shape
    flat = rows.reshape(rows.size)
    rows_8, rows_4, rows_2 = flat.view(np.uint64), flat.view(np.uint32), flat.view(np.uint16)
    packed_8, packed_4, packed_2 = packed.view(np.uint64), packed.view(np.uint32), packed.view(np.uint16)
    for tile in range(start - start % _TILE_COUNT, start + count, _TILE_COUNT):
        first = tile - tile % GROUP_COUNT
        group = min(GROUP_COUNT, total - first)
        low, high = max(tile, start), min(tile + _TILE_COUNT, start + count)
        at = first * _widths(places)
        for column in range(places.shape[0]):
            offset, width = places[column, 0], places[column, 1]
            step, row = size // width, ((low - start) * size + offset) // width
            place, bits = at // width + low - first, np.uint64(0)
            if width == 8:
                for i in range(high - low):
                    rows_8[row + i * step] = packed_8[place + i]
                    bits |= packed_8[place + i]
            elif width == 4:
                for i in range(high - low):
                    rows_4[row + i * step] = packed_4[place + i]
                    bits |= np.uint64(packed_4[place + i])
            else:
                for i in range(high - low):
                    rows_2[row + i * step] = packed_2[place + i]
                    bits |= np.uint64(packed_2[place + i])
            found[column] |= bits
            at += group * width


@kernel
def _widths(places: Array) -> Number:
    """Give the packed bytes of a row."""
    total = 0
    for column in range(places.shape[0]):
        total += places[column, 1]
    return total


@kernel
def _compare(rows: Bytes, places: Array, packed: Bytes, number_offset: Number, found: Array, words: Array) -> Number:
    """Collect the bits in which each column of rows differs from a packed one, and those set in each word of 8 bytes.

    Gives the bits in which the column of 4 bytes at ``number_offset`` differs from the rows' numbers.
    """
    count, size = rows.shape
    flat, table = rows.reshape(rows.size), rows.view(np.uint64)
    rows_8, rows_4, rows_2 = flat.view(np.uint64), flat.view(np.uint32), flat.view(np.uint16)
    packed_8, packed_4, packed_2 = packed.view(np.uint64), packed.view(np.uint32), packed.view(np.uint16)
    misnumbered = np.uint64(0)
    for tile in range(0, count, _TILE_COUNT):
        first = tile - tile % GROUP_COUNT
        group, high = min(GROUP_COUNT, count - first), min(tile + _TILE_COUNT, count)
        at = first * _widths(places)
        for column in range(places.shape[0]):
            offset, width = places[column, 0], places[column, 1]
            step, row, place = size // width, (tile * size + offset) // width, at // width + tile - first
            bits = np.uint64(0)
            if width == 8:
                for i in range(high - tile):
                    bits |= rows_8[row + i * step] ^ packed_8[place + i]
            elif width == 4:
                for i in range(high - tile):
                    bits |= np.uint64(rows_4[row + i * step] ^ packed_4[place + i])
            else:
                for i in range(high - tile):
                    bits |= np.uint64(rows_2[row + i * step] ^ packed_2[place + i])
            found[column] |= bits
            at += group * width
        for i in range(tile, high):
            misnumbered |= np.uint64(rows_4[(i * size + number_offset) // 4] ^ np.uint32(i))
            for word in range(table.shape[1]):
                words[word] |= table[i, word]
    return misnumbered


def by_width(dtype: np.dtype[Any], names: Iterable[str]) -> tuple[str, ...]:
    """Put fields in the order of their columns: the widest first, fields of one width as they are given."""
    return tuple(sorted(names, key=lambda name: -dtype[name].itemsize))


def packed_size(dtype: np.dtype[Any], names: Sequence[str], count: int) -> int:
    """Give the bytes of ``count`` packed rows."""
    return count * _row_size(dtype, tuple(names))


@functools.cache
def _row_size(dtype: np.dtype[Any], names: tuple[str, ...]) -> int:
    return sum(dtype[name].itemsize for name in names)


def group_range(dtype: np.dtype[Any], names: Sequence[str], row: int, count: int) -> tuple[int, int, int]:
    """Say where in the packed form of ``count`` rows the group of one row lies.

    Returns:
        The offset of the group, its number of rows, and the first of them.
    """
    first = row - row % GROUP_COUNT
    return packed_size(dtype, names, first), min(GROUP_COUNT, count - first), first


def pack(rows: Array, names: tuple[str, ...]) -> Bytes:
    """Give some columns of a contiguous structured array in groups; ``names`` are in the order of ``by_width``.

    Raises:
        InvariantViolation: rows are not contiguous, or a field has another size.
    """
    size = packed_size(rows.dtype, names, len(rows))
    packed = np.empty(-(-size // 8) * 8, np.uint8)
    _gather(_read_only(_flat(rows)), _places(rows.dtype, names), packed)
    return packed[:size]


def unpack(
    data: bytes | memoryview | Bytes, names: tuple[str, ...], rows: Array, *, total: int | None = None, start: int = 0
) -> dict[str, int]:
    """Write packed columns into the fields ``names`` of rows; the other fields stay. Undoes ``pack``.

    Args:
        data: the columns, whole groups.
        names: which fields they are of.
        rows: what is written into.
        total: how many rows ``data`` is of; as many as are written unless it says so.
        start: which of them is the first that is written.

    Returns:
        For each column the bits that some of these rows has set: nothing stands in a column without any.

    Raises:
        MalformedInput: the size is not that of so many rows.
    """
    packed = np.frombuffer(data, np.uint8)
    total = len(rows) if total is None else total
    if len(packed) != packed_size(rows.dtype, names, total) or not 0 <= start <= total - len(rows):
        raise MalformedInput("BODY_MALFORMED", "The columns have the wrong size.")
    found = np.zeros(len(names), np.uint64)
    _scatter(_read_only(_padded(packed)), _places(rows.dtype, names), total, start, _flat(rows), found)
    return dict(zip(names, found.tolist(), strict=True))


def differences(rows: Array, data: bytes | memoryview, names: tuple[str, ...], *, numbered: str) -> set[str]:
    """Name the fields in which some row differs from packed columns ``names``, or, of other fields, from zero.

    The field ``numbered``, of 4 bytes and none of those, is to have each row's number instead.

    Raises:
        InvariantViolation: the columns are of another number of rows.
    """
    packed = np.frombuffer(data, np.uint8)
    if len(packed) != packed_size(rows.dtype, names, len(rows)):
        raise InvariantViolation("the columns are of another number of rows")
    found, words = np.zeros(len(names), np.uint64), np.zeros(rows.dtype.itemsize // 8, np.uint64)
    ((number_offset, _),) = _places(rows.dtype, (numbered,))
    flat, places = _read_only(_flat(rows)), _places(rows.dtype, names)
    misnumbered = _compare(flat, places, _read_only(_padded(packed)), number_offset, found, words)
    either = words.view(rows.dtype)[0]  # all rows in one, each bit that one of them has
    said = {*names, numbered}
    differing = {name for name in rows.dtype.names or () if name not in said and either[name] != 0}
    differing |= {name for name, bits in zip(names, found, strict=True) if bits}
    return differing | {numbered} if misnumbered else differing


def _flat(rows: Array) -> Bytes:
    if rows.ndim != 1 or not rows.flags.c_contiguous:
        raise InvariantViolation("rows to pack are a contiguous array")
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def _padded(packed: Bytes) -> Bytes:
    """Give bytes that can be seen as words of 8: aligned, and a multiple of 8 long. Mostly they are that already."""
    if len(packed) % 8 == 0 and packed.view(np.uint64).flags.aligned:
        return packed
    padded = np.zeros(-(-len(packed) // 8) * 8, np.uint8)
    padded[: len(packed)] = packed
    return padded


def _read_only(source: Bytes) -> Bytes:
    """Give a view that cannot be written: one compiled form then serves bytes and arrays alike."""
    view = source.view()
    view.flags.writeable = False
    return view


@functools.cache
def _places(dtype: np.dtype[Any], names: tuple[str, ...]) -> Array:
    """Give offset and width of each column, shape (columns, 2)."""
    fields: Mapping[str, Any] = dtype.fields or {}
    places = np.array([(fields[name][1], dtype[name].itemsize) for name in names], np.int64).reshape(-1, 2)
    widths = places[:, 1]
    if not np.isin(widths, (8, 4, 2)).all() or np.any(widths[1:] > widths[:-1]) or dtype.itemsize % 8:
        raise InvariantViolation("columns are of 8, 4 and 2 bytes, the widest first, in rows of a multiple of 8 bytes")
    return places
