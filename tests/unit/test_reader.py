"""Reading single records, messages and histories from what is durable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.journal import EncodedBlock
from ledger.machine import Answer
from ledger.reader import Choice, Reader
from ledger.store import MemoryStore, SqliteStore
from ledger.transfers import TRANSFER
from tests.ledger_fixture import (
    CREDIT,
    GENESIS_BYTES,
    Chain,
    make_runtime,
    many_transfers,
    open_body,
    reference_chain,
    statement,
)

CHAIN = reference_chain()


def big_chain() -> Chain:
    """Give a journal whose second block has more records than fit in one group or one part."""
    chain = Chain()
    chain.add(
        statement("alice", "open", open_body(flags=CREDIT), serial=1),
        statement("bob", "open", open_body(flags=CREDIT), serial=2),
    )
    commands = many_transfers(1_700, debit=1, credit=2, first_id=1)
    chain.add(
        statement("alice", "note", bytes(70_000), serial=3),
        statement("alice", "post", commands.tobytes(), serial=4),
        statement("alice", "note", b"end", serial=5),
    )
    return chain


BIG = big_chain()


@pytest.fixture(params=["memory", "file"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reader]:
    """Give a reader of the big journal on each kind of store."""
    if request.param == "memory":
        yield Reader(BIG.store())
        return
    store = SqliteStore.create(tmp_path / "sh.db", GENESIS_BYTES, runtime=make_runtime())
    for block in BIG.blocks:
        store.append(block)
    yield Reader(store)
    store.close()


def test_every_position_reads_as_it_was_written(reader: Reader) -> None:
    """Each position gives its record or its message, and not the other (the whole journal, position by position)."""
    position = 0
    for block in BIG.blocks:
        row = 0
        for entry in block.entries:
            assert reader.entry(position) == entry
            with pytest.raises(NotFound, match="RECORD_NOT_FOUND"):
                reader.record(position)
            for _ in range(entry.count):
                position += 1
                assert reader.record(position) == block.transfers[row]
                row += 1
            position += 1
    with pytest.raises(NotFound, match="MESSAGE_NOT_FOUND"):
        reader.entry(5)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 1), (0, 1_700), (500, 100), (511, 2), (1_023, 600), (1_699, 1), (9, 0)]
)
def test_ranges_of_records_read_as_one(reader: Reader, first: int, count: int) -> None:
    """Any run of a message's records comes back whole, across groups and parts too."""
    start = 4  # the position of the first record
    found = reader.records(start + first, count)
    assert np.array_equal(found, BIG.blocks[1].transfers[first : first + count])
    assert found.dtype == TRANSFER


@pytest.mark.parametrize(("position", "count"), [(2, 1), (3, 1), (4, 1_701), (1_703, 2), (10_000, 1), (4, 10**9)])
def test_ranges_that_are_not_all_records_are_not_found(reader: Reader, position: int, count: int) -> None:
    """A run that meets a message, the end of its block or the end of the journal is not found."""
    with pytest.raises(NotFound):
        reader.records(position, count)


def test_a_range_ends_with_its_message() -> None:
    """A run of records that goes on behind the next message is not found, although there are records enough."""
    reader = Reader(CHAIN.store())
    assert len(reader.records(5, 1)) == 1
    with pytest.raises(NotFound, match="RECORD_NOT_FOUND"):
        reader.records(5, 2)


def test_an_answer_leads_to_its_records(reader: Reader) -> None:
    """An answer's position and count are enough to read what it derived."""
    records = reader.answer_records(Answer(position=3, count=1_700, height=2, digest=b""))
    assert np.array_equal(records, BIG.blocks[1].transfers)
    assert len(reader.answer_records(Answer(position=2, count=0, height=2, digest=b""))) == 0


def test_headers_can_be_read(reader: Reader) -> None:
    """A header is read without its body."""
    assert reader.header(2) == BIG.blocks[1].header
    with pytest.raises(NotFound):
        reader.header(3)


def test_expiries_are_records() -> None:
    """The expiries at the head of a block have positions before its first message."""
    reader = Reader(CHAIN.store())
    header = CHAIN.blocks[3].header
    assert reader.record(header.first_position) == CHAIN.blocks[3].transfers[0]
    assert reader.entry(header.first_position + 1) == CHAIN.blocks[3].entries[0]


# --- histories --------------------------------------------------------------------------------------------------------


def record_positions(chain: Chain) -> Iterator[tuple[int, np.void]]:
    """Walk through a journal's records with their positions, spelled out from the blocks themselves."""
    position = 0
    for block in chain.blocks:
        records = iter(block.transfers)
        for count in (None, *(entry.count for entry in block.entries)):
            position += 0 if count is None else 1  # a message stands before its records, nothing before expiries
            for _ in range(block.header.expired_count if count is None else count):
                yield position, next(records)
                position += 1


def expected_history(account: int) -> list[int]:
    """List the positions of the applied records that touched an account, newest first."""
    return [
        position
        for position, record in record_positions(CHAIN)
        if account in (record["debit"], record["credit"]) and record["result"] == 0
    ][::-1]


@pytest.mark.parametrize("account", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_history_is_every_applied_record(account: int, limit: int) -> None:
    """Walking page by page meets exactly the applied records of an account, newest first."""
    reader = Reader(CHAIN.store())
    cursor: int | None = CHAIN.machine.state.account(account).last
    found: list[int] = []
    while cursor is not None:
        page = reader.history(account, cursor=cursor, limit=limit)
        assert len(page.records) == len(page.positions) <= limit
        assert all(account in (record["debit"], record["credit"]) for record in page.records)
        found += page.positions
        cursor = page.next_cursor
    assert found == expected_history(account)
    assert len(found) >= 3


def test_an_account_without_records_has_an_empty_history() -> None:
    """An account that nothing has touched has no page to come."""
    page = Reader(CHAIN.store()).history(1, cursor=0, limit=5)
    assert (len(page.records), page.positions, page.next_cursor) == (0, (), None)


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_page_has_a_limit(limit: int) -> None:
    """A page has from 1 to a thousand records."""
    with pytest.raises(MalformedInput, match="LIMIT_INVALID"):
        Reader(CHAIN.store()).history(1, cursor=1, limit=limit)


@pytest.mark.parametrize(("account", "cursor"), [(1, 1), (1, 10**6), (3, 6), (1, -5), (1, 2**80)])
def test_a_foreign_cursor_is_refused(account: int, cursor: int) -> None:
    """A cursor that points at a message, at nothing, or at another account's record is refused."""
    with pytest.raises(MalformedInput, match="CURSOR_INVALID"):
        Reader(CHAIN.store()).history(account, cursor=cursor, limit=5)


@pytest.mark.parametrize("first", [0, 5, 9, 20, 10**6])
@pytest.mark.parametrize("account", [1, 2, 3])
def test_a_history_gives_what_was_chosen(account: int, first: int) -> None:
    """From a position on, of one purpose, with one other side: page by page exactly those of the whole history."""
    reader, last = Reader(CHAIN.store()), CHAIN.machine.state.account(account).last
    whole = reader.history(account, cursor=last, limit=100)
    others = [int(row["credit"] if row["debit"] == account else row["debit"]) for row in whole.records]
    for choice in (Choice(first), *(Choice(first, code, other) for code in (None, 0, 7) for other in (None, 1, 2, 3))):
        expected = [
            position
            for row, position, other in zip(whole.records, whole.positions, others, strict=True)
            if position >= first and choice.code in (None, row["code"]) and choice.other in (None, other)
        ]
        cursor: int | None = last
        found: list[int] = []
        while cursor is not None:
            page = reader.history(account, cursor=cursor, limit=2, choice=choice)
            found += page.positions
            cursor = page.next_cursor
        assert found == expected


def test_no_page_looks_at_too_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little is chosen, a page ends after so many records, with less than was asked for, and goes on."""
    monkeypatch.setattr("ledger.reader.HISTORY_LIMIT_MAX", 600)
    reader, cursor = Reader(BIG.store()), BIG.machine.state.account(1).last
    sizes, following = [], []
    while cursor is not None:
        page = reader.history(1, cursor=cursor, limit=5, choice=Choice(code=9))
        sizes.append(len(page.records))
        following.append(page.next_cursor)
        cursor = page.next_cursor
    assert sizes == [0, 0, 0]
    assert following[-1] is None
    assert None not in following[:-1]


def test_an_instant_leads_to_the_last_block_until_then() -> None:
    """Up to an instant there is the last block that is not later; before the first block there is none."""
    reader, times = Reader(CHAIN.store()), [block.header.timestamp_ns for block in CHAIN.blocks]
    count = len(times)
    for height, time_ns in enumerate(times, 1):
        assert [reader.height_until(time_ns + shift, count) for shift in (-1, 0, 1)] == [height - 1, height, height]
    assert reader.height_until(2**62, count) == count
    assert reader.height_until(2**62, 2) == 2
    assert reader.height_until(2**62, 0) == 0


# --- what is kept, what is broken -------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts how often a part is read."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(GENESIS_BYTES, runtime=make_runtime())
        self.part_count = 0
        for block in chain.blocks:
            self.append(block)

    def body_part(self, height: int, part: int) -> bytes:
        """Count and read."""
        self.part_count += 1
        return super().body_part(height, part)


def test_parts_are_read_once_and_no_more_than_needed() -> None:
    """One record takes the part of the table and those of its group; a second one nearby takes none."""
    store = CountingStore(BIG)
    reader = Reader(store)
    reader.record(1_000)
    first = store.part_count
    assert first <= 3
    reader.record(1_001)
    assert store.part_count == first


def test_what_was_used_least_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many parts are kept; the one that was used longest ago goes first, and is read again."""
    monkeypatch.setattr("ledger.reader.PART_COUNT_MAX", 1)
    store = CountingStore(BIG)
    reader = Reader(store)
    for _ in range(2):
        for position in (4, 1_700):
            assert reader.record(position) == BIG.blocks[1].transfers[position - 4]
    assert store.part_count == 4


def broken(change: Callable[[bytes], bytes]) -> Reader:
    """Give a reader of a store whose second body was changed."""
    store = CHAIN.store()
    block = store._blocks[1]
    store._blocks[1] = EncodedBlock(block.header, block.signature, change(block.body))
    return Reader(store)


@pytest.mark.parametrize(
    "change", [lambda body: body[:300], lambda body: body[:8], lambda body: b"\xff" + body[1:], lambda _: b""]
)
def test_a_broken_body_is_an_integrity_failure(change: Callable[[bytes], bytes]) -> None:
    """A body that is too short, or whose framing is broken, is reported as damage."""
    with pytest.raises(IntegrityFailure):
        broken(change).record(12)


def test_a_broken_message_is_an_integrity_failure() -> None:
    """A stored message that cannot be read is named."""
    layout_start = 16 + 24 * 3
    reader = broken(lambda body: body[:layout_start] + b"\xff" + body[layout_start + 1 :])
    with pytest.raises(IntegrityFailure, match="MESSAGE_MALFORMED") as caught:
        reader.entry(4)
    assert (caught.value.block, caught.value.position) == (2, 4)


def test_a_message_without_a_body_is_read() -> None:
    """Nothing is read where nothing lies."""
    chain = Chain()
    message = statement("alice", "note", b"", serial=1)
    chain.add(message)
    assert Reader(chain.store()).entry(0).message == message
