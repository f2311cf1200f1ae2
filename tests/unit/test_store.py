"""What every store promises, on each of the three; then what only the file can break."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest
import zstandard

from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.store import PART_SIZE, MemoryStore, SqliteStore, Store, base, sql, sqlite
from tests.block_fixture import Blocks, encoded, stored
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.store_places import PostgresqlPlace

PATH_NAME = "sh.db"


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


class FilePlace:
    """A store in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PATH_NAME

    def create(self, *, runtime: Runtime | None = None) -> SqliteStore:
        """Make the store."""
        return SqliteStore.create(self.path, GENESIS_BYTES, runtime=runtime or make_runtime())

    def reopen(self, store: Store) -> SqliteStore:
        """Open it again."""
        store.close()
        return SqliteStore.open(self.path, runtime=make_runtime())


@pytest.fixture(params=["memory", "file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give each kind of place in turn."""
    if request.param == "server":
        return PostgresqlPlace(request.getfixturevalue("postgresql_server"))
    return MemoryPlace() if request.param == "memory" else FilePlace(tmp_path)


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    """Give a place for a file."""
    return FilePlace(tmp_path)


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


# --- one writer -------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused(file_place: FilePlace) -> None:
    """While a store is open for writing, nobody else may open it so."""
    store = file_place.create()
    with pytest.raises(Unavailable, match="LEDGER_LOCKED") as caught:
        SqliteStore.open(file_place.path, runtime=make_runtime())
    assert caught.value.fields["retry_after_s"] == 1
    store.close()
    SqliteStore.open(file_place.path, runtime=make_runtime()).close()


def test_a_second_process_is_refused(file_place: FilePlace) -> None:
    """The lock holds between processes, and ends with the process that has it."""
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from ledger.runtime import SystemRuntime
        from ledger.store import SqliteStore
        store = SqliteStore.open(Path({str(file_place.path)!r}), runtime=SystemRuntime())
        print("open", flush=True)
        sys.stdin.read()
        """
    )
    file_place.create().close()
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(Unavailable, match="LEDGER_LOCKED"):
            SqliteStore.open(file_place.path, runtime=make_runtime())
        process.kill()
    SqliteStore.open(file_place.path, runtime=make_runtime()).close()


def test_a_replaced_writer_is_refused(file_place: FilePlace) -> None:
    """When the lock fails to keep a second writer out, the epoch stops the first one at its next block."""
    blocks = Blocks(seed=10)
    first = file_place.create()
    first.append(blocks.make())
    file_place.path.with_name(PATH_NAME + ".lock").unlink()
    second = SqliteStore.open(file_place.path, runtime=make_runtime())
    block = blocks.make()
    with pytest.raises(Unavailable, match="LEDGER_LOCKED"):
        first.append(block)
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        first.append(block)
    second.append(block)
    assert stored(second) == encoded(blocks.made)
    first.close()
    second.close()


def test_a_reader_stands_beside_the_writer(file_place: FilePlace) -> None:
    """A reader sees what the writer has committed, and may not append."""
    blocks = Blocks(seed=11)
    writer = file_place.create()
    writer.append(blocks.make())
    reader = SqliteStore.open_reader(file_place.path, runtime=make_runtime())
    writer.append(blocks.make(800))
    assert stored(reader) == encoded(blocks.made)
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        reader.append(blocks.make())
    with pytest.raises(InvariantViolation, match="cannot become the writer"), reader._writing():
        pass
    reader.close()
    writer.close()


# --- making and opening -----------------------------------------------------------------------------------------------


def test_a_store_is_made_once(file_place: FilePlace) -> None:
    """A store that exists is not made again."""
    file_place.create().close()
    with pytest.raises(Conflict, match="STORE_EXISTS"):
        file_place.create()


def test_a_store_needs_a_genesis(file_place: FilePlace) -> None:
    """What is no genesis makes no store and leaves no file."""
    with pytest.raises(MalformedInput, match="GENESIS_MALFORMED"):
        SqliteStore.create(file_place.path, b"{}", runtime=make_runtime())
    assert not file_place.path.exists()


def test_what_a_broken_start_left_is_swept_away(file_place: FilePlace) -> None:
    """A half-made file of a process that died while making the store does not stand in the way."""
    file_place.path.with_name(PATH_NAME + ".new").write_bytes(b"half")
    store = file_place.create()
    assert store.genesis() == GENESIS_BYTES
    store.close()


@pytest.mark.parametrize("opener", [SqliteStore.open, SqliteStore.open_reader])
def test_no_store_is_not_found(file_place: FilePlace, opener: Callable[..., SqliteStore]) -> None:
    """Where there is nothing, nothing is opened, and nothing is made."""
    with pytest.raises(NotFound, match="STORE_NOT_FOUND"):
        opener(file_place.path, runtime=make_runtime())
    assert not file_place.path.exists()


def test_a_place_that_cannot_be_reached_is_not_found(tmp_path: Path) -> None:
    """A store in a folder that does not exist is not made."""
    with pytest.raises(NotFound, match="STORE_NOT_FOUND"):
        SqliteStore.create(tmp_path / "nowhere" / PATH_NAME, GENESIS_BYTES, runtime=make_runtime())


@pytest.mark.parametrize("opener", [SqliteStore.open, SqliteStore.open_reader])
@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to have a header" * 40])
def test_other_files_are_refused(file_place: FilePlace, opener: Callable[..., SqliteStore], content: bytes) -> None:
    """A file that is no store is refused, and nothing stays locked."""
    file_place.path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(MalformedInput, match="STORE_FORMAT"):
            opener(file_place.path, runtime=make_runtime())


def test_an_unknown_format_is_refused(file_place: FilePlace) -> None:
    """A layout of a later version is refused on open."""
    file_place.create().close()
    execute(file_place, "UPDATE meta SET format = 1")
    with pytest.raises(MalformedInput, match="STORE_FORMAT"):
        SqliteStore.open(file_place.path, runtime=make_runtime())


# --- damage and failures of the file ----------------------------------------------------------------------------------


def execute(file_place: FilePlace, statement: str, *values: object) -> None:
    """Change the file behind the store's back."""
    with sqlite3.connect(file_place.path) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(statement, values)
    connection.close()


def damaged(file_place: FilePlace, statement: str, *values: object) -> SqliteStore:
    """Give a store of three blocks, of which something was changed."""
    blocks = Blocks(seed=12)
    store = file_place.create()
    for _ in range(3):
        store.append(blocks.make(1_300))
    store.close()
    execute(file_place, statement, *values)
    return SqliteStore.open(file_place.path, runtime=make_runtime())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE blocks SET hash = zeroblob(32) WHERE height = 2",
        "UPDATE blocks SET timestamp_ns = timestamp_ns + 1 WHERE height = 2",
        "UPDATE blocks SET position_count = position_count - 1 WHERE height = 2",
        "UPDATE blocks SET first_position = first_position + 1 WHERE height = 2",
        "UPDATE blocks SET header = zeroblob(168) WHERE height = 2",
        "UPDATE blocks SET header = x'00' WHERE height = 2",
        "DELETE FROM bodies WHERE height = 2 AND part = 0",
        "DELETE FROM bodies WHERE height = 2 AND part = 1",
        "UPDATE bodies SET bytes = x'00' WHERE height = 2 AND part = 1",
        "UPDATE bodies SET bytes = x'' WHERE height = 2 AND part = 1",
        "UPDATE bodies SET bytes = (SELECT bytes FROM bodies WHERE height = 1 AND part = 1) WHERE height = 2 AND part",
        "DELETE FROM blocks WHERE height = 2",
        "UPDATE blocks SET header = 5 WHERE height = 2",
        "UPDATE blocks SET header = 9223372036854775807 WHERE height = 2",
        "UPDATE blocks SET header = 'text' WHERE height = 2",
        "UPDATE blocks SET signature = 'text' WHERE height = 2",
        "UPDATE blocks SET timestamp_ns = 'text' WHERE height = 2",
        "UPDATE bodies SET bytes = 7 WHERE height = 2 AND part = 0",
        "UPDATE bodies SET part = 'text' WHERE height = 2 AND part = 0",
    ],
)
def test_a_damaged_block_is_named(file_place: FilePlace, statement: str) -> None:
    """Whatever was changed or is missing, the block before is read and the damaged one is named."""
    store = damaged(file_place, statement)
    blocks = store.blocks()
    next(blocks)
    with pytest.raises(IntegrityFailure) as caught:
        next(blocks)
    assert caught.value.block == 2
    store.close()


def test_every_changed_bit_of_a_part_is_seen() -> None:
    """A stored part with any one bit turned is refused."""
    (part,) = base.compress(b"settled " * 40, height=1)
    for index in range(8 * len(part)):
        changed = bytearray(part)
        changed[index // 8] ^= 1 << index % 8
        with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
            base.decompress(bytes(changed), height=1, part=0)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no frame",
        zstandard.ZstdCompressor().compress(b"x")[:-1],
        zstandard.ZstdCompressor().compress(b"x") + b"x",
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x"),
        zstandard.ZstdCompressor().compress(bytes(PART_SIZE + 1)),
        zstandard.ZstdCompressor().compress(b""),
    ],
)
def test_a_part_is_one_frame_of_known_size(frame: bytes) -> None:
    """A part with a good checksum that is no frame, states no size or too large a one, is refused unread."""
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        base.decompress(frame + base._checksum(frame, height=1, part=0), height=1, part=0)


@pytest.mark.parametrize(("height", "part"), [(1, 1), (2, 0)])
def test_a_part_counts_only_in_its_place(height: int, part: int) -> None:
    """A part that is read in the place of another is refused."""
    (data,) = base.compress(b"settled " * 40, height=1)
    assert base.decompress(data, height=1, part=0) == b"settled " * 40
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        base.decompress(data, height=height, part=part)


def test_a_damaged_file_is_an_integrity_failure(file_place: FilePlace) -> None:
    """Pages of the file that were overwritten are reported as damage."""
    store = file_place.create()
    blocks = Blocks(seed=13)
    for _ in range(3):
        store.append(blocks.make(1_300))
    store.close()
    data = bytearray(file_place.path.read_bytes())
    data[3 * 4096 :] = bytes(len(data) - 3 * 4096)
    file_place.path.write_bytes(data)
    with pytest.raises((IntegrityFailure, MalformedInput)):
        stored(SqliteStore.open_reader(file_place.path, runtime=make_runtime()))


@pytest.mark.parametrize("column", ["first_position", "position_count"])
def test_positions_of_another_type_are_damage(file_place: FilePlace, column: str) -> None:
    """A cell that is no number where one should be is reported as damage when positions are looked up."""
    store = damaged(file_place, f"UPDATE blocks SET {column} = x'ff' WHERE height = 1")
    with pytest.raises((IntegrityFailure, NotFound)):
        store.height_of(1)
    store.close()


def test_damage_found_on_opening_leaves_no_lock(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file turns out to be damaged while the writer takes over, that is reported, and nothing stays locked."""

    def complain(_: SqliteStore) -> None:
        bytes([0xFF]).decode()

    file_place.create().close()
    monkeypatch.setattr(SqliteStore, "_take_over", complain)
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        SqliteStore.open(file_place.path, runtime=make_runtime())
    monkeypatch.undo()
    SqliteStore.open(file_place.path, runtime=make_runtime()).close()


def test_a_busy_file_is_no_damage(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another program holds is unavailable, for opening and for reading, and not damaged."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    file_place.create().close()
    reader = SqliteStore.open_reader(file_place.path, runtime=make_runtime())
    other = sqlite3.connect(file_place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="STORE_BUSY"):
        SqliteStore.open(file_place.path, runtime=make_runtime())
    assert reader.last_height() == 0
    other.execute("ROLLBACK")
    reader.close()
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="STORE_BUSY"):
        SqliteStore.open_reader(file_place.path, runtime=make_runtime())
    other.close()


def test_a_store_that_cannot_be_made_is_reported(file_place: FilePlace) -> None:
    """When the tables cannot be made, that is said, and the place stays free."""
    file_place.path.with_name(PATH_NAME + ".new-journal").mkdir()
    file_place.path.with_name(PATH_NAME + ".new").write_bytes(b"")
    with pytest.raises((IntegrityFailure, Unavailable)):
        file_place.create()
    assert not file_place.path.exists()
    file_place.path.with_name(PATH_NAME + ".new-journal").rmdir()
    file_place.create().close()


def test_a_full_disk_ends_the_store(file_place: FilePlace) -> None:
    """The first commit that fails ends the store, even when there is room again; reopening finds all before it (I7)."""
    blocks = Blocks(seed=14)
    store = file_place.create()
    store.append(blocks.make())
    assert store._writes is not None
    with store._writes.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        store.append(blocks.make(2_000))
    with store._writes.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    with pytest.raises(Unavailable, match="full"):
        store.append(blocks.made[1])
    store = file_place.reopen(store)
    assert stored(store) == encoded(blocks.made[:1])
    store.append(blocks.made[1])
    store.close()


def test_a_foreign_lock_ends_the_store(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that cannot begin because another process holds the file fails the store after the busy time."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    blocks = Blocks(seed=15)
    store = file_place.create()
    other = sqlite3.connect(file_place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        store.append(blocks.make())
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(Unavailable, match="STORE_FAILED"):
        store.append(blocks.made[0])
    store.close()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from ledger.errors import Unavailable
from ledger.runtime import SystemRuntime
from ledger.store import SqliteStore
from tests.block_fixture import Blocks

blocks = Blocks(seed=16)
store = SqliteStore.open(Path(sys.argv[1]), runtime=SystemRuntime())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
for height in range(1, 100):
    try:
        store.append(blocks.make(2_000))
    except Unavailable as error:
        print(height - 1, error.code)
        break
"""


def test_a_failing_write_ends_the_store(file_place: FilePlace) -> None:
    """When the operating system refuses to write, the store ends; what it acknowledged is there (I7)."""
    file_place.create().close()
    program = [sys.executable, "-c", LIMITED, str(file_place.path)]
    found = subprocess.run(program, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
    height, code = found.split()
    assert code == "STORE_FAILED"
    store = SqliteStore.open(file_place.path, runtime=make_runtime())
    assert store.last_height() == int(height) > 0
    blocks = Blocks(seed=16)
    assert stored(store) == encoded([blocks.make(2_000) for _ in range(int(height))])
    store.close()


# --- the log ----------------------------------------------------------------------------------------------------------


def log_size(file_place: FilePlace) -> int:
    """Give the size of the write-ahead log."""
    return file_place.path.with_name(PATH_NAME + "-wal").stat().st_size


def test_the_log_is_moved_beside_the_writer(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is moved into the database while blocks are appended, so that it does not grow for ever."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_SIZE", 200_000)
    blocks = Blocks(seed=17)
    store = file_place.create()
    for _ in range(40):
        store.append(blocks.make(1_000))
        if store._move is not None:
            store._move.result()
    assert log_size(file_place) < 2_000_000
    assert stored(store) == encoded(blocks.made)
    store.close()


def test_a_log_that_cannot_be_moved_ends_the_store(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to move the log is as final as one of a commit; the block that was committed before stays."""

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite, "CHECKPOINT_SIZE", 1)
    blocks = Blocks(seed=18)
    store = file_place.create()
    monkeypatch.setattr(sqlite, "_checkpoint", fail)
    store.append(blocks.make())
    assert store._move is not None
    assert store._move.exception() is not None
    store.append(blocks.make())
    with pytest.raises(Unavailable, match="log could not be moved"):
        store.append(blocks.make())
    monkeypatch.undo()
    store = file_place.reopen(store)
    assert store.last_height() == 2
    store.close()


# --- many blocks at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["RUN_COUNT_MAX", "RUN_SIZE_MAX"])
def test_runs_of_blocks_read_as_single_ones(file_place: FilePlace, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """However many blocks are read in one transaction, they come in order, small and large ones alike."""
    blocks = Blocks(seed=19)
    store = file_place.create()
    for index in range(30):
        store.append(blocks.make(900 if index % 7 == 0 else 2))
    for value in (1, 3, 100_000):
        monkeypatch.setattr(sql, limit, value)
        assert stored(store) == encoded(blocks.made)
        assert list(store.blocks(17)) == encoded(blocks.made[16:])
    store.close()
