"""Rows into columns and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.compiled import plain
from ledger.errors import InvariantViolation, MalformedInput
from ledger.packing import (
    GROUP_COUNT,
    _compare,
    _gather,
    _padded,
    _places,
    _scatter,
    by_width,
    differences,
    group_range,
    pack,
    packed_size,
    unpack,
)
from ledger.registry import Array

MIXED = np.dtype(
    [
        ("small", "<u2"),
        ("other", "<u2"),
        ("middle", "<u4"),
        ("wide", "<i8"),
        ("last", "<u8"),
        ("number", "<u4"),
        ("rest", "<u4"),
    ]
)
NAMES = by_width(MIXED, ("small", "middle", "wide"))


def rows_of(count: int, *, seed: int = 1) -> Array:
    """Give rows of random bytes."""
    data = np.random.default_rng([seed, count]).bytes(count * MIXED.itemsize)
    return np.frombuffer(data, MIXED).copy()


def test_the_widest_columns_come_first() -> None:
    """Columns are ordered by width, and those of one width as they are named."""
    assert by_width(MIXED, MIXED.names or ()) == ("wide", "last", "middle", "number", "rest", "small", "other")


def test_columns_stand_one_after_another_in_each_group() -> None:
    """In a group, the first column of all rows comes before the second of any; groups follow one another."""
    rows = rows_of(GROUP_COUNT + 3)
    one, two = rows[:GROUP_COUNT], rows[GROUP_COUNT:]
    expected = b"".join(part[name].tobytes() for part in (one, two) for name in ("wide", "middle", "small"))
    assert pack(rows, NAMES).tobytes() == expected


@given(count=st.sampled_from([0, 1, 2, 3, 511, 512, 513, 1024, 1500]), seed=st.integers(0, 99))
def test_what_is_packed_comes_back(count: int, seed: int) -> None:
    """Packed fields come back, in bytes of any alignment; the others stay as they were."""
    rows = rows_of(count, seed=seed)
    packed = pack(rows, NAMES).tobytes()
    assert len(packed) == packed_size(MIXED, NAMES, count)
    for offset in (0, 1, 4):
        again = np.full(count, 7, MIXED)
        unpack(memoryview(bytes(offset) + packed)[offset:], NAMES, again)
        for name in MIXED.names or ():
            assert np.array_equal(again[name], rows[name] if name in NAMES else np.full(count, 7, MIXED[name]))


def test_a_group_can_be_read_alone() -> None:
    """The range that ``group_range`` gives holds the row that was asked for."""
    rows = rows_of(1_030)
    packed = pack(rows, NAMES)
    for row in (0, 511, 512, 1023, 1024, 1029):
        offset, count, first = group_range(MIXED, NAMES, row, len(rows))
        group = np.zeros(count, MIXED)
        unpack(packed[offset : offset + packed_size(MIXED, NAMES, count)], NAMES, group)
        assert group["wide"][row - first] == rows["wide"][row]


@pytest.mark.parametrize(
    ("start", "count"), [(0, 1), (0, 1_030), (511, 2), (512, 1), (700, 325), (1_029, 1), (1_030, 0)]
)
def test_some_rows_come_back_alone(start: int, count: int) -> None:
    """Rows in the middle of packed ones come back by themselves, compiled and plain; the others are not written."""
    rows = rows_of(1_030)
    packed = pack(rows, NAMES)
    some, again = np.zeros(count, MIXED), np.zeros((count, MIXED.itemsize), np.uint8)
    bits = np.zeros(len(NAMES), np.uint64)
    assert unpack(packed, NAMES, some, total=len(rows), start=start)["wide"] == np.bitwise_or.reduce(some["wide"]).view(
        "u8"
    )
    plain(_scatter)(_padded(packed), _places(MIXED, NAMES), len(rows), start, again, bits)
    for name in NAMES:
        assert np.array_equal(some[name], rows[name][start : start + count])
    assert again.tobytes() == some.tobytes()


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (6, 1), (2, 5)])
def test_rows_that_were_not_packed_are_refused(start: int, count: int) -> None:
    """Rows before the first and behind the last are none of the columns."""
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        unpack(pack(rows_of(6), NAMES), NAMES, np.zeros(count, MIXED), total=6, start=start)


@pytest.mark.parametrize("change", [-1, 1])
def test_columns_of_another_size_are_refused(change: int) -> None:
    """Bytes that are not exactly so many rows are no columns."""
    rows = rows_of(5)
    data = (pack(rows, NAMES).tobytes() + b"\0")[: packed_size(MIXED, NAMES, 5) + change]
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        unpack(data, NAMES, rows)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (rows_of(6)[::2], NAMES),
        (rows_of(6), ("small", "wide")),
        (np.zeros(3, [("byte", "u1"), ("rest", "V7")]), ("byte",)),
        (np.zeros(3, [("value", "<u4")]), ("value",)),
    ],
)
def test_rows_that_the_kernels_cannot_see_as_words_are_our_mistake(rows: Array, names: tuple[str, ...]) -> None:
    """Gaps between rows, columns out of order, and sizes that are no multiple of a word never reach a kernel."""
    with pytest.raises(InvariantViolation):
        pack(rows, names)


@pytest.mark.parametrize("count", [1, 7, 520])
def test_the_plain_loops_do_the_same(count: int) -> None:
    """Both kernels give the same as plain Python."""
    rows = rows_of(count)
    packed = pack(rows, NAMES)
    room = np.zeros(-(-len(packed) // 8) * 8, np.uint8)
    plain(_gather)(rows.view(np.uint8).reshape(count, -1), _places(MIXED, NAMES), room)
    assert np.array_equal(room[: len(packed)], packed)
    again = np.zeros((count, MIXED.itemsize), np.uint8)
    bits = np.zeros(len(NAMES), np.uint64)
    plain(_scatter)(room, _places(MIXED, NAMES), len(again), 0, again, bits)
    for index, name in enumerate(NAMES):
        assert np.array_equal(again.view(MIXED).reshape(-1)[name], rows[name])
        assert bits[index] == np.bitwise_or.reduce(rows[name].view(f"u{rows.dtype[name].itemsize}"))
    assert unpack(packed, NAMES, np.zeros(count, MIXED)) == dict(zip(NAMES, bits.tolist(), strict=True))


def test_differing_columns_are_named() -> None:
    """A column differs where one row is not what was packed; of a column that was not packed, where one is not zero."""
    rows = numbered_rows_of(1_100)
    packed = pack(rows, NAMES).tobytes()
    assert differences(rows, packed, NAMES, numbered="number") == set()
    for name in MIXED.names or ():
        for index in (0, 63, 64, 511, 512, 1_050, 1_099):
            changed = rows.copy()
            changed[name][index] ^= 1
            assert differences(changed, packed, NAMES, numbered="number") == {name}
    with pytest.raises(InvariantViolation):
        differences(rows[:-1], packed, NAMES, numbered="number")


def numbered_rows_of(count: int) -> Array:
    """Give rows of random bytes in what is packed, numbers in ``number``, and zeros elsewhere."""
    rows = rows_of(count)
    for name in ("other", "last", "rest"):
        rows[name] = 0
    rows["number"] = np.arange(count)
    return rows


def test_the_plain_loop_finds_the_same_differences() -> None:
    """The comparing kernel gives the same as plain Python."""
    rows, places = rows_of(7), _places(MIXED, NAMES)
    table, packed = rows.view(np.uint8).reshape(7, -1), _padded(pack(rows_of(7, seed=2), NAMES))
    found, words = np.zeros((2, len(places)), np.uint64), np.zeros((2, MIXED.itemsize // 8), np.uint64)
    offset = MIXED.fields["number"][1] if MIXED.fields else 0
    one = _compare(table, places, packed, offset, found[0], words[0])
    two = plain(_compare)(table, places, packed, offset, found[1], words[1])
    assert one == two != 0
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(words[0], words[1])
    assert found.all()
    assert words.all()
