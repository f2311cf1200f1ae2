"""What both stores on a database promise beyond ``test_store``: readers, formats, damaged rows, and places."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, LedgerError, MalformedInput, NotFound
from ledger.store import (
    PART_SIZE,
    PostgresqlStore,
    SqliteStore,
    create_store,
    open_store,
    open_store_reader,
    parts,
    sqlite,
)
from tests.block_fixture import Blocks, encoded, stored
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.store_places import Database, SqlitePlace

SEED = 20_260_101
LARGE = 2_000
"""Records of a block whose body has four parts."""


def refusal(call: Callable[[], object]) -> str:
    """Give the code of the expected failure that a call ends with."""
    with pytest.raises(LedgerError) as caught:
        call()
    return caught.value.code


def test_a_reader_sees_only_what_is_durable(database: Database) -> None:
    """Beside a writer a reader sees nothing of a block before its commit and all of it afterwards."""
    blocks = Blocks(SEED)
    heights: list[int] = []
    database.create().close()
    reader = database.open_reader()
    store = database.open(runtime=make_runtime(on_crossing=lambda _: heights.append(reader.last_height())))
    store.append(blocks.make(LARGE))

    assert heights == [0, 1]
    assert stored(reader) == encoded(blocks.made)
    assert refusal(lambda: reader.append(blocks.make())) == "STORE_FAILED"
    reader.close()
    store.close()


def test_a_store_is_made_once(database: Database) -> None:
    """Where there is a store, another is not made, whether the first is open or not."""
    store = database.create()
    store.append(Blocks(SEED).make())
    store.close()
    with pytest.raises(Conflict) as caught:
        database.create()

    assert caught.value.code == "STORE_EXISTS"
    again = database.open_reader()
    assert again.last_height() == 1
    again.close()


def test_what_is_no_genesis_makes_no_store(database: Database) -> None:
    """A store is not begun with anything but a canonical genesis, and nothing is left behind."""
    with pytest.raises(MalformedInput):
        create_store(database.address, GENESIS_BYTES + b" ", runtime=make_runtime())
    with pytest.raises(NotFound):
        database.open()


def test_no_store_is_not_found(database: Database) -> None:
    """Opening where nothing was made says so, for writing and for reading."""
    assert refusal(database.open) == "STORE_NOT_FOUND"
    assert refusal(database.open_reader) == "STORE_NOT_FOUND"


@pytest.mark.parametrize(
    "statement",
    ["UPDATE meta SET format = 0", "DELETE FROM meta", "ALTER TABLE meta RENAME COLUMN format TO version"],
)
def test_an_unknown_format_is_refused(database: Database, statement: str) -> None:
    """A store of another format, or with another idea of its table, is opened neither for writing nor for reading."""
    database.create().close()
    database.run(statement)

    assert refusal(database.open) == "STORE_FORMAT"
    assert refusal(database.open_reader) == "STORE_FORMAT"


def test_a_missing_block_is_named(database: Database) -> None:
    """A block that is gone from the middle is an integrity failure that names its height."""
    blocks = Blocks(SEED)
    store = database.create()
    for _ in range(3):
        store.append(blocks.make())
    for table in ("bodies", "blocks"):
        database.run(f"DELETE FROM {table} WHERE height = 2")
    with pytest.raises(IntegrityFailure) as caught:
        stored(store)

    assert (caught.value.code, caught.value.block) == ("BLOCK_MISSING", 2)
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM bodies WHERE part = 1",
        "DELETE FROM bodies WHERE part = 0",
        "UPDATE bodies SET part = 9 WHERE part = 3",
        "UPDATE bodies SET bytes = (SELECT other.bytes FROM bodies other WHERE other.part = 2) WHERE part = 1",
        "UPDATE blocks SET position_count = position_count + 1",
        "UPDATE blocks SET first_position = first_position + 1",
        "UPDATE blocks SET timestamp_ns = timestamp_ns - 1",
        "UPDATE blocks SET hash = signature",
        "UPDATE blocks SET header = signature",
    ],
)
def test_rows_that_contradict_each_other_are_refused(database: Database, statement: str) -> None:
    """A part that is missing, moved or another's, and a column that is not what the header says, are failures."""
    store = database.create()
    store.append(Blocks(SEED).make(LARGE))
    database.run(statement)
    with pytest.raises(IntegrityFailure) as caught:
        store.block(1)

    assert (caught.value.code, caught.value.block) == ("STORE_CORRUPT", 1)
    store.close()


def test_a_lost_genesis_is_damage(database: Database) -> None:
    """When the row with genesis and epoch is lost under an open store, reading it fails and nothing is appended."""
    store = database.create()
    database.run("DELETE FROM meta")
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        store.genesis()
    assert refusal(lambda: store.append(Blocks(SEED).make())) == "LEDGER_LOCKED"
    assert store.last_height() == 0
    store.close()


def test_a_reader_cannot_take_over(database: Database) -> None:
    """A store that was opened for reading has no way to become the writer."""
    database.create().close()
    reader = database.open_reader()
    with pytest.raises(InvariantViolation, match="reader"):
        reader._take_over()
    reader.close()


def test_a_well_marked_part_is_still_read_strictly() -> None:
    """A part with the right checksum that is no frame, or a frame of an impossible size, is refused."""
    cut = zstandard.compress(bytes(1000))[:-1]
    for frame in (b"no frame at all", cut, zstandard.compress(b""), zstandard.compress(bytes(PART_SIZE + 1))):
        data = frame + parts._trailer(frame, is_shuffled=False, height=1, part=0)
        with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
            parts.decompress(data, height=1, part=0)


def test_opening_a_busy_file_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the file, opening it for writing is busy, and works afterwards."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    place = SqlitePlace(tmp_path / "journal.db")
    place.create().close()
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert refusal(place.open) == "STORE_BUSY"
    other.execute("ROLLBACK")
    other.close()
    place.open().close()


def test_any_changed_byte_of_a_part_is_seen(database: Database) -> None:
    """Whichever byte of a stored part changes, reading that part alone is an integrity failure."""
    store = database.create()
    store.append(Blocks(SEED).make(0))
    [(part,)] = database.run("SELECT bytes FROM bodies")
    random = np.random.default_rng(SEED)
    for place_of_change in random.choice(len(part), 40, replace=False):
        changed = bytearray(part)
        changed[place_of_change] ^= int(random.integers(1, 256))
        database.run("UPDATE bodies SET bytes = ?", (bytes(changed),))
        with pytest.raises(IntegrityFailure):
            store.body_part(1, 0)
    store.close()


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_place_picks_its_store(database: Database) -> None:
    """A URL or a file's name gives the store of its kind, made at the first opening and found at the next."""
    runtime = make_runtime()
    kind = {"sqlite": SqliteStore, "postgresql": PostgresqlStore}[database.name]
    store = open_store(database.address, runtime=runtime, genesis=GENESIS_BYTES)
    store.append(Blocks(SEED).make())
    store.close()
    again = open_store(database.address, runtime=runtime)
    reader = open_store_reader(database.address, runtime=runtime)

    assert isinstance(again, kind)
    assert isinstance(reader, kind)
    assert again.last_height() == reader.last_height() == 1
    reader.close()
    again.close()


def test_another_genesis_is_refused(database: Database) -> None:
    """A store that began with another genesis is not opened, and its lock is free again."""
    database.create().close()
    other = GENESIS_BYTES.replace(b"Alice", b"Alyce")

    assert refusal(lambda: open_store(database.address, runtime=make_runtime(), genesis=other)) == "GENESIS_MISMATCH"
    database.open().close()


def test_nothing_is_made_without_a_genesis(database: Database) -> None:
    """Without a genesis, a place with no store stays empty."""
    assert refusal(lambda: open_store(database.address, runtime=make_runtime())) == "STORE_NOT_FOUND"
    assert refusal(lambda: open_store_reader(database.address, runtime=make_runtime())) == "STORE_NOT_FOUND"


def test_files_are_named_relative_to_a_folder(tmp_path: Path) -> None:
    """A relative name, plain or as a URL, begins at the folder; an absolute one stands for itself."""
    runtime = make_runtime()
    open_store("a.db", runtime=runtime, folder=tmp_path, genesis=GENESIS_BYTES).close()
    open_store("sqlite:///b.db", runtime=runtime, folder=tmp_path, genesis=GENESIS_BYTES).close()
    open_store(Path("c.db"), runtime=runtime, folder=tmp_path, genesis=GENESIS_BYTES).close()
    open_store(str(tmp_path / "d.db"), runtime=runtime, folder=Path("/nowhere"), genesis=GENESIS_BYTES).close()

    assert {path.name for path in tmp_path.glob("*.db")} == {"a.db", "b.db", "c.db", "d.db"}


@pytest.mark.parametrize(
    "address",
    [
        "",
        "mysql://127.0.0.1/ledger",
        "postgresql://127.0.0.1/ledger",
        "postgresql+psycopg2://127.0.0.1/ledger",
        "postgresql+psycopg://127.0.0.1:port/ledger",
        "sqlite://journal.db",
        "sqlite:///",
        "sqlite:///journal.db?mode=memory",
        "://",
    ],
)
def test_a_place_of_no_known_kind_is_refused(address: str) -> None:
    """Anything but a file or one of the two URLs is refused, before anything is touched."""
    assert refusal(lambda: open_store(address, runtime=make_runtime(), genesis=GENESIS_BYTES)) == "STORE_URL"


def test_a_refused_url_does_not_show_its_password() -> None:
    """The sentence about a URL that cannot be used names no part of it."""
    with pytest.raises(MalformedInput) as caught:
        open_store("postgresql+psycopg://hugang:s3cret@127.0.0.1:port/x", runtime=make_runtime())

    assert not re.search("s3cret|hugang", str(caught.value))
