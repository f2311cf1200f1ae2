"""What every store promises, on each of the three."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from ledger.errors import InvariantViolation, NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.store import PART_SIZE, MemoryStore, Store
from tests.block_fixture import Blocks, encoded, stored
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.store_places import PostgresqlPlace, SqlitePlace


class Place(Protocol):
    """Where a store can be made and opened again."""

    def create(self, *, runtime: Runtime | None = None) -> Store:
        """Make the store."""

    def reopen(self, store: Store) -> Store:
        """Open what a process that is gone has left."""


class MemoryPlace:
    """A store in memory."""

    def create(self, *, runtime: Runtime | None = None) -> Store:
        """Make the store."""
        return MemoryStore(GENESIS_BYTES, runtime=runtime or make_runtime())

    def reopen(self, store: Store) -> Store:
        """Open it again."""
        assert isinstance(store, MemoryStore)
        return store.reopened(runtime=make_runtime())


@pytest.fixture(params=["memory", "file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give each kind of place in turn."""
    if request.param == "server":
        return PostgresqlPlace(request.getfixturevalue("postgresql_server"))
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path / "sh.db")


# --- what every store promises ----------------------------------------------------------------------------------------


def test_a_new_store_has_a_genesis_and_no_block(place: Place) -> None:
    """A new store has its genesis, byte for byte, and nothing else."""
    store = place.create()
    assert store.genesis() == GENESIS_BYTES
    assert store.last_height() == 0
    assert stored(store) == []
    store.close()


def test_blocks_come_back_as_they_were(place: Place) -> None:
    """What was appended comes back byte for byte, at once and after reopening."""
    blocks = Blocks(seed=1)
    store = place.create()
    for count in (0, 3, 700, 2_000):
        store.append(blocks.make(count))
    assert stored(store) == encoded(blocks.made)
    store = place.reopen(store)
    assert stored(store) == encoded(blocks.made)
    store.append(blocks.make())
    assert [store.block(height) for height in range(1, 6)] == encoded(blocks.made)
    assert store.last_height() == 5
    assert store.genesis() == GENESIS_BYTES
    store.close()


def test_blocks_can_begin_anywhere(place: Place) -> None:
    """Iterating from a height gives that block and all after it; beyond the end it gives nothing."""
    blocks = Blocks(seed=2)
    store = place.create()
    for _ in range(4):
        store.append(blocks.make())
    assert list(store.blocks(3)) == encoded(blocks.made[2:])
    assert list(store.blocks(5)) == []
    store.close()


def test_reading_meets_what_is_appended_meanwhile(place: Place) -> None:
    """Whoever has read to the end of what was there goes on with what was appended while reading."""
    blocks = Blocks(seed=20)
    store = place.create()
    store.append(blocks.make())
    reading = store.blocks()
    first = next(reading)
    store.append(blocks.make())
    assert [first, *reading] == encoded(blocks.made)
    store.close()


def test_crossings_surround_the_commit(place: Place) -> None:
    """Each append passes the crossing before and the crossing after its commit, in this order."""
    seen: list[str] = []
    store = place.create(runtime=make_runtime(on_crossing=seen.append))
    store.append(Blocks(seed=21).make())
    assert seen == ["store.before_commit", "store.after_commit"]
    store.close()


def test_bodies_come_in_parts(place: Place) -> None:
    """A body's parts, put together, are the body; each but the last has the full size."""
    blocks = Blocks(seed=3)
    store = place.create()
    store.append(blocks.make(1_500))
    body = blocks.made[0].encoded.body
    parts = [store.body_part(1, part) for part in range(3)]
    assert b"".join(parts) == body
    assert [len(part) for part in parts] == [PART_SIZE, PART_SIZE, len(body) - 2 * PART_SIZE]
    assert store.header(1) == blocks.made[0].encoded.header
    store.close()


def test_positions_lead_to_blocks(place: Place) -> None:
    """Every taken position leads to the block that holds it."""
    blocks = Blocks(seed=4)
    store = place.create()
    expected = []
    for count in (0, 3, 1):
        block = blocks.make(count)
        store.append(block)
        expected += [block.header.height] * block.header.position_count
    assert [store.height_of(position) for position in range(len(expected))] == expected
    store.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.block(0),
        lambda store: store.block(2),
        lambda store: store.block(-1),
        lambda store: store.block(2**70),
        lambda store: store.header(2),
        lambda store: store.body_part(1, 1),
        lambda store: store.body_part(1, -1),
        lambda store: store.body_part(2, 0),
        lambda store: store.body_part(2**70, 2**70),
        lambda store: store.height_of(-1),
        lambda store: store.height_of(4),
        lambda store: store.height_of(2**70),
    ],
)
def test_what_is_not_there_is_not_found(place: Place, ask: Callable[[Store], object]) -> None:
    """Heights, parts and positions outside the journal are not found."""
    store = place.create()
    store.append(Blocks(seed=5).make(3))
    with pytest.raises(NotFound):
        ask(store)
    store.close()


@pytest.mark.parametrize("index", [0, 2])
def test_a_block_that_does_not_follow_is_refused(place: Place, index: int) -> None:
    """The same block again, or one that skips a height, breaks the chain and is not stored (I5)."""
    blocks = Blocks(seed=6)
    for _ in range(3):
        blocks.make()
    store = place.create()
    store.append(blocks.made[0])
    with pytest.raises(InvariantViolation, match="I5"):
        store.append(blocks.made[index])
    assert store.last_height() == 1
    store.append(blocks.made[1])
    store.close()


class Crash(BaseException):
    """A process dying."""


@pytest.mark.parametrize(("point", "kept"), [("store.before_commit", 1), ("store.after_commit", 2)])
def test_dying_keeps_what_was_committed(place: Place, point: str, kept: int) -> None:
    """A block is there after a crash exactly if the commit came first; the old store takes no more either way (I7)."""

    def die(found: str) -> None:
        if found == point and is_armed:
            raise Crash

    is_armed = False
    blocks = Blocks(seed=7)
    store = place.create(runtime=make_runtime(on_crossing=die))
    store.append(blocks.make())
    is_armed = True
    with pytest.raises(Crash):
        store.append(blocks.make())
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        store.append(blocks.made[1])
    store = place.reopen(store)
    assert stored(store) == encoded(blocks.made[:kept])
    store.close()


def test_a_closed_store_takes_no_blocks(place: Place) -> None:
    """After ``close`` nothing is appended; closing twice does no harm."""
    store = place.create()
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        store.append(Blocks(seed=8).make())


def test_threads_read_while_one_writes(place: Place) -> None:
    """Readers on other threads see whole blocks and nothing of one that is not committed."""
    blocks = Blocks(seed=9)
    made = [blocks.make(600) for _ in range(12)]
    store = place.create()

    def read(_: int) -> bool:
        found = stored(store)
        return found == encoded(made)[: len(found)]

    with ThreadPoolExecutor(3) as readers:
        waiting = [readers.submit(read, number) for number in range(6)]
        for block in made:
            store.append(block)
        assert all(future.result() for future in waiting)
    assert stored(store) == encoded(made)
    store.close()
