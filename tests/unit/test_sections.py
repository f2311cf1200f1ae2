"""The body of a block: one encoding, where things lie, what stands beside a message, what is refused."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import columns, messages, sections
from ledger.compiled import plain
from ledger.errors import InvariantViolation, MalformedInput
from ledger.machine import Entry
from ledger.sections import COLUMNS_COUNT_MIN
from ledger.transfers import TRANSFER
from tests.body_fixture import FIRST, Builder


def mixed() -> Builder:
    """Give a body with everything in it."""
    builder = Builder(expired_count=2, seed=1)
    builder.rows(3, seed=2).rows(0).columns(600, seed=3).columns(COLUMNS_COUNT_MIN, optional=True, result=5, amount=1)
    return builder.rows(530, seed=4).columns(COLUMNS_COUNT_MIN - 1, seed=5).columns(70, debit_previous=1, seed=6)


kinds = st.lists(
    st.tuples(st.sampled_from(["rows", "columns", "optional"]), st.sampled_from([1, 2, 63, 64, 65, 511, 513])),
    max_size=5,
)


@given(kinds=kinds, expired_count=st.integers(0, 3) | st.just(512), seed=st.integers(0, 99))
def test_a_body_survives_its_encoding(kinds: list[tuple[str, int]], expired_count: int, seed: int) -> None:
    """Decoding gives back entries and records, whatever stands beside its message and whatever does not."""
    builder = Builder(expired_count=expired_count, seed=seed)
    for kind, count in kinds:
        if kind == "rows":
            builder.rows(count, seed=seed)
        else:
            builder.columns(count, seed=seed, optional=kind == "optional")
    entries, records = sections.decode(builder.shape(), builder.body().data)
    assert entries == tuple(builder.entries)
    assert records.tobytes() == builder.transfers.tobytes()


def test_a_message_in_columns_is_stored_once() -> None:
    """Beside its message a plain transfer takes eight bytes: how far back its accounts' previous records lie."""
    builder = Builder().columns(1_024)
    layout = builder.layout()
    assert layout.records_size == 8 * 1_024
    assert layout.body_sizes[0] == columns.HEAD_SIZE + 32 * 1_024
    assert len(layout.runs) == 1


@pytest.mark.parametrize("name", ["amount", "debit", "credit", "group", "member", "result"])
def test_a_column_that_the_kernel_filled_in_stands_there_whole(name: str) -> None:
    """A column that differs from the message in one record is stored for all of them, and no other column is."""
    builder = Builder().columns(512, **{name: 3})
    assert builder.layout().records_size == (8 + TRANSFER[name].itemsize) * 512
    entries, records = sections.decode(builder.shape(), builder.body().data)
    assert records.tobytes() == builder.transfers.tobytes()
    assert entries == tuple(builder.entries)


def test_distances_beyond_four_bytes_are_stored_wide() -> None:
    """When a previous record lies more than 2^32 positions back, the links of the run take eight bytes each."""
    builder = Builder()
    builder.position = FIRST + 2**33
    builder.columns(512, debit_previous=5)
    body = sections.encode(builder.entries, builder.transfers, first_position=FIRST + 2**33, expired_count=0)
    shape = builder.shape(len(body.data))._replace(first_position=FIRST + 2**33)
    assert sections.layout(shape, body.data).records_size == 16 * 512
    assert sections.decode(shape, body.data)[1].tobytes() == builder.transfers.tobytes()


@pytest.mark.parametrize("name", ["id_lo", "flags", "timeout_s", "item", "leg", "related_hi"])
def test_a_record_that_says_what_its_message_does_not_is_our_mistake(name: str) -> None:
    """Nothing but what the kernel fills in may differ from the message."""
    builder = Builder().columns(100)
    builder.records[-1][name][3] ^= 1
    with pytest.raises(InvariantViolation, match=name):
        builder.body()


def test_another_number_of_records_is_our_mistake() -> None:
    """A message in columns has as many records as commands."""
    builder = Builder().columns(100)
    builder.entries[0] = Entry(builder.entries[0].message, 99, in_columns=True)
    with pytest.raises(InvariantViolation, match="another number"):
        sections.encode(builder.entries, builder.transfers[:-1], first_position=FIRST, expired_count=0)


# --- where things lie -------------------------------------------------------------------------------------------------


def test_places_agree_with_a_walk() -> None:
    """Walking through a body position by position meets what ``locate`` and ``position_of`` say."""
    builder = mixed()
    layout = builder.layout()
    walk: list[tuple[int | None, int | None]] = [(None, row) for row in range(builder.expired_count)]
    row = builder.expired_count
    for index, entry in enumerate(builder.entries):
        walk.append((index, None))
        walk += [(None, row + offset) for offset in range(entry.count)]
        row += entry.count
    assert [layout.locate(FIRST + offset) for offset in range(len(walk))] == walk
    rows = [FIRST + offset for offset, (_, found) in enumerate(walk) if found is not None]
    assert [layout.position_of(found) for found in range(row)] == rows


def test_messages_and_their_heads_are_found() -> None:
    """Each entry's message, and the head that its leaf is made of, are where the layout says."""
    builder = mixed()
    layout, fetch = builder.layout(), sections.fetcher(builder.body().data)
    for index, entry in enumerate(builder.entries):
        assert layout.message(index, fetch) == entry.message
        assert layout.head(index, fetch) == messages.encode_head(entry.message)


@given(first=st.integers(0, 1_330), count=st.integers(0, 700))
def test_any_rows_can_be_read(first: int, count: int) -> None:
    """Reading some records gives what reading all of them gives, and touches no more than their groups."""
    count = min(count, len(RECORDS) - first)
    touched: list[int] = []

    def fetch(offset: int, size: int) -> bytes:
        touched.append(size)
        return DATA[offset : offset + size]

    assert LAYOUT.records(first, count, fetch).tobytes() == RECORDS[first : first + count].tobytes()
    assert sum(touched) <= (count + 2 * 512 * len(LAYOUT.runs)) * TRANSFER.itemsize


MIXED = mixed()
DATA = MIXED.body().data
RECORDS = MIXED.transfers
LAYOUT = MIXED.layout()


def test_the_table_alone_gives_the_layout() -> None:
    """The head of a body up to the end of its table is enough to know where everything lies."""
    shape = MIXED.shape()
    part = sections.layout(shape, DATA[: sections.table_end(shape.entry_count)], whole=False)
    assert part.runs == LAYOUT.runs
    assert part.body_offsets.tolist() == LAYOUT.body_offsets.tolist()
    assert part.positions.tolist() == LAYOUT.positions.tolist()


def test_the_skeleton_ends_where_the_bodies_begin() -> None:
    """What the header hashes is all but the section of bodies."""
    bodies = b"".join(entry.message.body for entry in MIXED.entries)
    head = struct.pack("<HHIQ", 3, 1, 0, len(bodies))
    assert MIXED.body().skeleton_size == LAYOUT.skeleton_size
    assert DATA[LAYOUT.skeleton_size :] == head + bodies


@pytest.mark.parametrize("section", ["heads", "records"])
def test_every_part_stands_at_a_multiple_of_eight(section: str) -> None:
    """Columns are read as words: runs begin at multiples of eight bytes."""
    offsets = [run.offset for run in LAYOUT.runs] if section == "records" else [LAYOUT.records_offset]
    assert all(offset % 8 == 0 for offset in offsets)


# --- what is refused --------------------------------------------------------------------------------------------------


def with_bytes(offset: int, value: bytes) -> bytes:
    """Give the mixed body with other bytes at an offset."""
    data = bytearray(DATA)
    data[offset : offset + len(value)] = value
    return bytes(data)


def with_number(column: int, entry: int, value: int) -> bytes:
    """Give the mixed body with another number in its table."""
    return with_bytes(16 + 4 * (column * len(MIXED.entries) + entry), struct.pack("<I", value))


HEAD_SIZE, BODY_SIZE, COUNT, MODE, PARTY, CODE = range(6)
SIZES = LAYOUT.head_sizes
BESIDE = 2
"""The first entry whose records stand beside it."""
MODE_NOW = int(LAYOUT.modes[BESIDE])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        DATA[:-1],
        DATA + b"\0",
        DATA[:20],
        with_bytes(0, b"\2"),
        with_bytes(2, b"\0"),
        with_bytes(2, b"\2"),
        with_bytes(4, b"\1"),
        with_bytes(8, b"\0"),
        with_bytes(LAYOUT.records_offset - 16, b"\1"),
        with_bytes(LAYOUT.records_offset - 8, b"\xff"),
        with_bytes(LAYOUT.records_offset - 17, b"\1"),
        with_bytes(LAYOUT.skeleton_size, b"\1"),
        with_bytes(LAYOUT.skeleton_size + 8, b"\xff"),
        with_number(HEAD_SIZE, 0, int(SIZES[0]) + 8),
        with_number(HEAD_SIZE, 0, 64),
        with_number(HEAD_SIZE, 0, 2**32 - 1),
        with_number(BODY_SIZE, 0, 2**32 - 1),
        with_number(COUNT, 0, 4),
        with_number(MODE, BESIDE, 0),
        with_number(MODE, BESIDE, MODE_NOW ^ 1),
        with_number(MODE, BESIDE, MODE_NOW | 2),
        with_number(MODE, BESIDE, MODE_NOW | 1 << 16),
        with_number(MODE, BESIDE, MODE_NOW | 1 << 31),
        with_number(MODE, 0, MODE_NOW),
        with_number(PARTY, 0, 7),
        with_number(CODE, 0, 7),
        with_number(CODE, BESIDE, 2**16),
    ],
)
def test_broken_framing_is_refused(body: bytes) -> None:
    """A body whose sections, table or sizes are not what the header calls for is refused."""
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        sections.layout(MIXED.shape(), body)


def test_a_run_of_another_form_is_refused() -> None:
    """A run that stores a column which differs nowhere says what it should in a second form, and is refused."""
    builder = Builder().columns(64)
    data, layout = builder.body().data, builder.layout()
    results = bytes(2 * 64)
    at = layout.records_offset + layout.records_size
    mode = int(layout.modes[0]) | sections._DIFFERENCES["result"]
    longer = bytearray(data[:at] + results + data[at:])
    longer[16 + 4 * MODE : 20 + 4 * MODE] = struct.pack("<I", mode)
    longer[layout.records_offset - 8 : layout.records_offset] = struct.pack("<Q", layout.records_size + len(results))
    shape = builder.shape(len(longer))
    assert sections.layout(shape, bytes(longer)).records(0, 64, sections.fetcher(bytes(longer))).tobytes() == (
        builder.transfers.tobytes()
    )
    with pytest.raises(MalformedInput, match="one form"):
        sections.decode(shape, bytes(longer))


def test_a_stored_message_that_is_none_is_refused() -> None:
    """A head that begins with no known kind is refused even when the framing is in order."""
    builder = Builder().rows(1)
    data = bytearray(builder.body().data)
    data[sections.table_end(1)] = 9
    with pytest.raises(MalformedInput, match="MESSAGE_MALFORMED"):
        sections.decode(builder.shape(), bytes(data))


@pytest.mark.parametrize("index", [-1, -70_000])
def test_a_body_that_its_message_does_not_bind_is_found_out(index: int) -> None:
    """One bit changed in any message's body contradicts the digest in that message's base."""
    assert sections.has_digests(LAYOUT, DATA)
    changed = bytearray(DATA)
    changed[max(index, LAYOUT.bodies_offset - len(DATA))] ^= 1
    assert not sections.has_digests(LAYOUT, bytes(changed))


def test_a_base_that_is_none_binds_nothing() -> None:
    """Where a base cannot be read, nothing vouches for the body."""
    changed = bytearray(DATA)
    changed[int(LAYOUT.head_offsets[0]) + 1] ^= 1
    assert not sections.has_digests(LAYOUT, bytes(changed))


@given(st.binary(max_size=300), st.integers(0, len(DATA)))
def test_no_bytes_break_the_framing_decoder(data: bytes, offset: int) -> None:
    """Whatever the body, its layout is found or refused; what is found lies inside."""
    body = with_bytes(offset, data)[: len(DATA)]
    try:
        layout = sections.layout(MIXED.shape(), body)
    except MalformedInput:
        return
    assert layout.runs[-1].offset < layout.bodies_offset <= len(body)
    assert int(layout.body_offsets[-1] + layout.body_sizes[-1]) == len(body)
    assert len(layout.records(0, len(RECORDS), sections.fetcher(body))) == len(RECORDS)


@pytest.mark.parametrize(
    ("changes", "is_possible"),
    [
        ({}, True),
        ({"entry_count": 2**16 + 1}, False),
        ({"transfer_count": 2**21 + 1}, False),
        ({"body_size": 2**28 + 1}, False),
        ({"body_size": 47}, False),
        ({"entry_count": 2**16}, False),
        ({"transfer_count": 2**20}, False),
    ],
)
def test_impossible_sizes_are_said_before_anything_is_allocated(changes: dict[str, int], is_possible: bool) -> None:
    """What a header says of its body is held to what a body can be."""
    assert (sections.size_problem(MIXED.shape()._replace(**changes)) is None) is is_possible


def test_the_plain_loops_do_the_same() -> None:
    """Both kernels give the same as plain Python."""
    builder = Builder().columns(70, result=4)
    records = builder.transfers
    one, two = np.empty(70, sections._NARROW), np.empty(70, sections._NARROW)
    position = np.uint64(FIRST + 1)
    with np.errstate(over="ignore"):
        assert sections._link(records, position, one) == plain(sections._link)(records, position, two)
    assert np.array_equal(one, two)


def test_a_digest_is_of_the_head() -> None:
    """A message's leaf is made of its head, which has the digest of its body."""
    head = messages.encode_head(MIXED.entries[0].message)
    assert messages.decode_head(head, MIXED.entries[0].message.body) == MIXED.entries[0].message
    assert hashlib.sha256(MIXED.entries[0].message.body).hexdigest().encode() in head
