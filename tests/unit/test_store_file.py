"""What only a store in a file can meet: a second writer, foreign files, damage, full disks, its write-ahead log."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import create_engine

from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.store import PART_SIZE, SqliteStore, parts, sql, sqlite
from tests.block_fixture import Blocks, encoded, stored
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.store_places import SqlitePlace

PATH_NAME = "sh.db"


@pytest.fixture
def file_place(tmp_path: Path) -> SqlitePlace:
    """Give a place for a file."""
    return SqlitePlace(tmp_path / PATH_NAME)


# --- one writer -------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused(file_place: SqlitePlace) -> None:
    """While a store is open for writing, nobody else may open it so."""
    store = file_place.create()
    with pytest.raises(Unavailable, match="LEDGER_LOCKED") as caught:
        SqliteStore.open(file_place.path, runtime=make_runtime())
    assert caught.value.fields["retry_after_s"] == 1
    store.close()
    SqliteStore.open(file_place.path, runtime=make_runtime()).close()


def test_a_second_process_is_refused(file_place: SqlitePlace) -> None:
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


def test_a_replaced_writer_is_refused(file_place: SqlitePlace) -> None:
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


def test_a_reader_stands_beside_the_writer(file_place: SqlitePlace) -> None:
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


def test_a_store_is_made_once(file_place: SqlitePlace) -> None:
    """A store that exists is not made again."""
    file_place.create().close()
    with pytest.raises(Conflict, match="STORE_EXISTS"):
        file_place.create()


def test_a_store_needs_a_genesis(file_place: SqlitePlace) -> None:
    """What is no genesis makes no store and leaves no file."""
    with pytest.raises(MalformedInput, match="GENESIS_MALFORMED"):
        SqliteStore.create(file_place.path, b"{}", runtime=make_runtime())
    assert not file_place.path.exists()


def test_what_a_broken_start_left_is_swept_away(file_place: SqlitePlace) -> None:
    """A half-made file of a process that died while making the store does not stand in the way."""
    file_place.path.with_name(PATH_NAME + ".new").write_bytes(b"half")
    store = file_place.create()
    assert store.genesis() == GENESIS_BYTES
    store.close()


@pytest.mark.parametrize("opener", [SqliteStore.open, SqliteStore.open_reader])
def test_no_store_is_not_found(file_place: SqlitePlace, opener: Callable[..., SqliteStore]) -> None:
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
def test_other_files_are_refused(file_place: SqlitePlace, opener: Callable[..., SqliteStore], content: bytes) -> None:
    """A file that is no store is refused, and nothing stays locked."""
    file_place.path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(MalformedInput, match="STORE_FORMAT"):
            opener(file_place.path, runtime=make_runtime())


def test_an_unknown_format_is_refused(file_place: SqlitePlace) -> None:
    """A layout of a later version is refused on open."""
    file_place.create().close()
    execute(file_place, "UPDATE meta SET format = 2")
    with pytest.raises(MalformedInput, match="STORE_FORMAT"):
        SqliteStore.open(file_place.path, runtime=make_runtime())


# --- damage and failures of the file ----------------------------------------------------------------------------------


def execute(file_place: SqlitePlace, statement: str, *values: object) -> None:
    """Change the file behind the store's back."""
    with sqlite3.connect(file_place.path) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(statement, values)
    connection.close()


def damaged(file_place: SqlitePlace, statement: str, *values: object) -> SqliteStore:
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
def test_a_damaged_block_is_named(file_place: SqlitePlace, statement: str) -> None:
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
    (part,) = parts.compress(b"settled " * 40, height=1)
    for index in range(8 * len(part)):
        changed = bytearray(part)
        changed[index // 8] ^= 1 << index % 8
        with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
            parts.decompress(bytes(changed), height=1, part=0)


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
        parts.decompress(frame + parts._trailer(frame, is_shuffled=False, height=1, part=0), height=1, part=0)


@pytest.mark.parametrize(("height", "part"), [(1, 1), (2, 0)])
def test_a_part_counts_only_in_its_place(height: int, part: int) -> None:
    """A part that is read in the place of another is refused."""
    (data,) = parts.compress(b"settled " * 40, height=1)
    assert parts.decompress(data, height=1, part=0) == b"settled " * 40
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        parts.decompress(data, height=height, part=part)


def test_a_damaged_file_is_an_integrity_failure(file_place: SqlitePlace) -> None:
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
def test_positions_of_another_type_are_damage(file_place: SqlitePlace, column: str) -> None:
    """A cell that is no number where one should be is reported as damage when positions are looked up."""
    store = damaged(file_place, f"UPDATE blocks SET {column} = x'ff' WHERE height = 1")
    with pytest.raises((IntegrityFailure, NotFound)):
        store.height_of(1)
    store.close()


def test_damage_found_on_opening_leaves_no_lock(file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file turns out to be damaged while the writer takes over, that is reported, and nothing stays locked."""

    def complain(_: SqliteStore) -> None:
        bytes([0xFF]).decode()

    file_place.create().close()
    monkeypatch.setattr(SqliteStore, "_take_over", complain)
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        SqliteStore.open(file_place.path, runtime=make_runtime())
    monkeypatch.undo()
    SqliteStore.open(file_place.path, runtime=make_runtime()).close()


def test_a_busy_file_is_no_damage(file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_store_that_cannot_be_made_is_reported(file_place: SqlitePlace) -> None:
    """When the tables cannot be made, that is said, and the place stays free."""
    file_place.path.with_name(PATH_NAME + ".new-journal").mkdir()
    file_place.path.with_name(PATH_NAME + ".new").write_bytes(b"")
    with pytest.raises((IntegrityFailure, Unavailable)):
        file_place.create()
    assert not file_place.path.exists()
    file_place.path.with_name(PATH_NAME + ".new-journal").rmdir()
    file_place.create().close()


def test_a_full_disk_ends_the_store(file_place: SqlitePlace) -> None:
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


def test_a_foreign_lock_ends_the_store(file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_failing_write_ends_the_store(file_place: SqlitePlace) -> None:
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


def log_size(file_place: SqlitePlace) -> int:
    """Give the size of the write-ahead log."""
    return file_place.path.with_name(PATH_NAME + "-wal").stat().st_size


def test_the_log_is_moved_beside_the_writer(file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_log_that_cannot_be_moved_ends_the_store(file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_runs_of_blocks_read_as_single_ones(
    file_place: SqlitePlace, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
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


def test_a_cell_that_is_no_text_is_damage(file_place: SqlitePlace) -> None:
    """What the database's own library cannot make of a cell is damage of the file, not a bug."""
    store = file_place.create()
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"), store._translating():
        b"\xff".decode()
    store.close()


@pytest.mark.parametrize(
    ("moved", "rounds"),
    [([10], 1), ([8_000, 8_100], 2), ([8_000, 9_000, 9_100], 3), ([*range(1_000, 30_000, 1_000)], 8)],
)
def test_the_log_is_moved_until_what_came_meanwhile_is_little(
    moved: list[int], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round moves what was appended during the one before; there is an end to it even if that stays much."""
    calls = iter(moved)
    monkeypatch.setattr(sqlite, "_checkpoint", lambda _engine: next(calls))
    sqlite._move_log(create_engine("sqlite://"))
    assert len(moved) - len([*calls]) == rounds


def test_a_checkpoint_says_how_many_pages_it_has_moved(file_place: SqlitePlace) -> None:
    """After each append there are some, whether the log has started again or not."""
    store, blocks = file_place.create(), Blocks(seed=14)
    store.append(blocks.make(1_300))
    first = sqlite._checkpoint(store._reads)
    store.append(blocks.make(1_300))
    assert first > 0
    assert sqlite._checkpoint(store._reads) > 0
    store.close()
