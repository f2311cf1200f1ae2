"""Balance points on disk and in memory: found as in one list, lost and made again, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from ledger import pointlog
from ledger.errors import IntegrityFailure, Unavailable
from ledger.pointlog import PointLog
from ledger.points import POINT
from ledger.runtime import SystemRuntime
from ledger.snapshot import Snapshots
from ledger.store import MemoryStore, chunks, open_points
from ledger.writer import open_machine
from tests.block_fixture import Blocks
from tests.ledger_fixture import (
    GENESIS_BYTES,
    HASH_KEY,
    FixtureInterpreter,
    make_runtime,
    private_key,
    reference_chain,
)
from tests.points_fixture import GENESIS, beside, blocks_of, check, hash_of, run_beside, table_of
from tests.store_places import Database, SqlitePlace

SEED = 20_260_110


@pytest.mark.parametrize("flush_count", [1, 7, 10**6])
def test_points_are_found_wherever_they_are(
    database: Database, monkeypatch: pytest.MonkeyPatch, flush_count: int
) -> None:
    """In the table, in memory and in between, the nearest points are the same; also after opening again."""
    monkeypatch.setattr(pointlog, "FLUSH_COUNT", flush_count)
    blocks = blocks_of(12)
    log = PointLog(table_of(database), runtime=make_runtime())
    for height, rows in enumerate(blocks, 1):
        log.add(height, hash_of(height), rows)
        log.keep_up()
        assert log.height == height
    check(log, blocks)
    log.close()
    again = table_of(database)
    assert (again.height, again.block_hash) == (12, hash_of(12))
    check(again, blocks)
    again.close()


def test_time_carries_points_too(database: Database) -> None:
    """The first block after a second carries what came before it, and an empty one moves the mark as well."""
    runtime = make_runtime()
    log = PointLog(table := table_of(database), runtime=runtime)
    log.add(1, hash_of(1), blocks_of(3)[2])
    assert table.height == 0
    asyncio.run(runtime.advance(1))
    log.add(2, hash_of(2), np.empty(0, POINT))
    assert (table.height, table.block_hash) == (2, hash_of(2))
    log.close()


def test_what_is_known_is_passed_over(database: Database) -> None:
    """Blocks that the table has already change nothing when the journal is followed again."""
    blocks = blocks_of(4)
    log = PointLog(table_of(database), runtime=make_runtime())
    for height, rows in [*enumerate(blocks[:2], 1), *enumerate(blocks, 1)]:
        log.add(height, hash_of(height), rows)
    check(log, blocks)
    log.close()


def test_after_a_gap_nothing_is_answered(database: Database) -> None:
    """Where a block's points are missing, no balance is guessed: whoever asks is told to come again."""
    log = PointLog(table_of(database), runtime=make_runtime())
    log.add(1, hash_of(1), blocks_of(1)[0])
    log.add(3, hash_of(3), np.empty(0, POINT))
    log.add(2, hash_of(2), np.empty(0, POINT))
    for ask in (log.at_or_before, log.after):
        with pytest.raises(Unavailable, match="POINTS_MISSING"):
            ask(1, 10)
    assert log.height == 1
    log.close()


def test_a_table_that_fails_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the table cannot be written, points stay in memory; a later block carries them all."""
    monkeypatch.setattr(pointlog, "FLUSH_COUNT", 1)
    blocks = blocks_of(8)
    log = PointLog(table := table_of(database), runtime=make_runtime())

    def fail(*_: object) -> None:
        raise IntegrityFailure("STORE_CORRUPT", "The disk is full.")

    with monkeypatch.context() as context:
        context.setattr(table, "put", fail)
        for height, rows in enumerate(blocks[:7], 1):
            log.add(height, hash_of(height), rows)
        check(log, blocks[:7])
    assert table.height == 0
    log.add(8, hash_of(8), blocks[7])
    check(log, blocks)
    log.close()
    again = table_of(database)
    check(again, blocks)
    again.close()


def test_memory_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too much would be kept, nothing is, until the next start."""
    monkeypatch.setattr(pointlog, "KEPT_COUNT_MAX", 3)
    log = PointLog(table_of(database), runtime=make_runtime())
    log.add(1, hash_of(1), np.zeros(4, POINT))
    with pytest.raises(Unavailable, match="POINTS_MISSING"):
        log.at_or_before(1, 10)
    log.close()


def test_following_waits_for_the_table(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a stored journal waits before memory is full."""
    monkeypatch.setattr(pointlog, "KEPT_COUNT_MAX", 8)
    blocks, runtime = blocks_of(12), SystemRuntime()
    log = PointLog(table_of(database), runtime=runtime)
    for height, rows in enumerate(blocks, 1):
        log.add(height, hash_of(height), rows)
        log.keep_up()
    check(log, blocks)
    log.close()
    runtime.close()


def test_one_wrong_point_costs_all(database: Database) -> None:
    """When a stored point turns out to be changed, none is trusted any more, and the next start makes them again."""
    table = table_of(database)
    rows = np.zeros(1, POINT)
    rows["account"], rows["position"], rows["last"] = 1, 10, 5
    table.put(1, hash_of(1), rows)
    log = PointLog(table, runtime=make_runtime())
    run_beside(database, "UPDATE points_pages SET checksum = 6")
    for ask in (log.at_or_before, log.after, log.at_or_before):
        with pytest.raises(Unavailable, match="POINTS_MISSING"):
            ask(1, 9 if ask == log.after else 10)
    assert table.height == 0
    log.close()
    again = table_of(database)
    check(again, [])
    again.close()


def test_damage_found_while_writing_costs_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where new points are to be joined with stored ones that were changed, none is kept until the next start."""
    monkeypatch.setattr(pointlog, "FLUSH_COUNT", 1)
    monkeypatch.setattr(chunks, "FAN_COUNT", 2)
    blocks = [rows for rows in blocks_of(8) if len(rows)]
    log = PointLog(table := table_of(database), runtime=make_runtime())
    log.add(1, hash_of(1), blocks[0])
    run_beside(database, "UPDATE points_pages SET checksum = 6")
    log.add(2, hash_of(2), blocks[1])
    with pytest.raises(Unavailable, match="POINTS_MISSING"):
        log.at_or_before(1, 10)
    assert table.height == 0
    log.close()


def test_points_of_another_ledger_begin_anew(database: Database) -> None:
    """A table that was filled under another genesis is emptied."""
    table = table_of(database)
    table.put(1, hash_of(1), blocks_of(3)[2])
    table.close()
    again = table_of(database, bytes(32))
    assert (again.height, again.block_hash) == (0, bytes(32))
    check(again, [])
    again.close()


def test_a_file_that_is_none_begins_anew(tmp_path: Path) -> None:
    """Bytes that are no database are put out of the way."""
    database = SqlitePlace(tmp_path / "sh.db")
    beside(database).write_bytes(b"not a database at all" * 500)
    table = table_of(database)
    assert table.height == 0
    table.close()


def test_points_of_a_longer_or_another_journal_begin_anew(database: Database) -> None:
    """Where the journal was restored from an older copy, or is another, its points are made again."""
    store, blocks = MemoryStore(GENESIS_BYTES, runtime=make_runtime()), Blocks(SEED)
    store.append(blocks.make())
    for height, block_hash, kept in ((1, blocks.made[0].hash, 1), (1, hash_of(1), 0), (2, hash_of(2), 0)):
        table = table_of(database)
        table.begin_anew()
        table.put(height, block_hash, np.empty(0, POINT))
        log = PointLog(table, runtime=make_runtime())
        log.align(store)
        assert (log.height, table.height) == (kept, kept)
        log.close()


def test_following_a_journal_gives_its_points(database: Database) -> None:
    """Opening a journal fills an empty table and leaves a filled one alone."""
    chain = reference_chain()
    store = chain.store()
    for _ in range(2):
        log = PointLog(table_of(database), runtime=make_runtime())
        log.align(store)
        machine = open_machine(store, FixtureInterpreter, HASH_KEY, points=log)
        assert (log.height, machine.height) == (len(chain.blocks), len(chain.blocks))
        log.close()
    table = table_of(database)
    assert (table.height, table.block_hash) == (machine.height, machine.previous_hash)
    table.close()


def test_no_snapshot_hides_blocks_whose_points_are_missing(database: Database, tmp_path: Path) -> None:
    """A journal is followed from the newest snapshot that does not lie behind the points; what they have is kept."""
    chain = reference_chain()
    snapshots = Snapshots(tmp_path / "snapshots", runtime=make_runtime())
    for length in (2, len(chain.blocks)):
        store = MemoryStore(GENESIS_BYTES, runtime=make_runtime())
        for block in chain.blocks[:length]:
            store.append(block)
        snapshots.save(open_machine(store, FixtureInterpreter, HASH_KEY), private_key("node"))
    for height, first in ((0, 1), (1, 1), (2, 3), (len(chain.blocks), None)):
        table = table_of(database)
        table.begin_anew()
        block_hash = chain.blocks[height - 1].hash if height else table.block_hash
        table.put(height, block_hash, np.empty(0, POINT))
        log = PointLog(table, runtime=make_runtime())
        log.align(store)
        heights: list[int] = []
        open_machine(store, FixtureInterpreter, HASH_KEY, snapshots=snapshots, points=log, progress=heights.append)
        assert next(iter(heights), None) == first
        assert log.height == len(chain.blocks)
        log.close()


def test_an_idle_node_carries_points_too(database: Database) -> None:
    """What waits is carried over after a second, though no further block comes; nothing is written twice."""
    runtime = make_runtime()
    log = PointLog(table := table_of(database), runtime=runtime)
    log.add(1, hash_of(1), blocks_of(3)[2])
    log.tick()
    assert table.height == 0
    asyncio.run(runtime.advance(1))
    log.tick()
    assert table.height == 1
    asyncio.run(runtime.advance(1))
    with pytest.MonkeyPatch.context() as context:
        context.setattr(table, "put", None)
        log.tick()
    log.close()


def test_a_place_that_cannot_be_is_said() -> None:
    """Where no file can be made, opening says so."""
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        open_points("/nowhere/at/all.db", genesis_hash=GENESIS)
