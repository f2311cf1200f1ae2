"""Stores under faults: killed writers, killed servers, full disks, changed bytes; what was acknowledged stays.

Every schedule is drawn from a seed, which is printed; ``HUGANG_SEED`` repeats one.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ledger.errors import IntegrityFailure, LedgerError, Unavailable
from ledger.store import PostgresqlStore
from ledger.writer import open_machine
from tests.block_fixture import Blocks, encoded, stored
from tests.faults.store_driver import record_count
from tests.ledger_fixture import HASH_KEY, FixtureInterpreter, make_runtime, reference_chain
from tests.postgresql_server import PostgresqlServer, new_server, remove
from tests.store_places import Database, PostgresqlPlace

pytestmark = [pytest.mark.faults, pytest.mark.long]

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 30
KILL_COUNT = 6
LARGE = 2_000
HUGE = 2**16


@pytest.fixture
def seed() -> int:
    """Give the seed of this test's schedule, and print it where a failure shows it."""
    value = int(os.environ.get("HUGANG_SEED", "0")) or int(np.random.SeedSequence().generate_state(1)[0])
    sys.stdout.write(f"seed {value}: repeat with HUGANG_SEED={value}\n")
    return value


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[PostgresqlServer]:
    """Give a server of this module's own, to be killed and started again."""
    # Nobody but the committing session writes the log, so that a test knows whom to stop.
    server = new_server({"wal_writer_delay": "10000"})
    yield server
    remove(server)


@pytest.fixture
def mortal(mortal_server: PostgresqlServer) -> PostgresqlPlace:
    """Give an empty schema on the server that may be killed, which runs at the beginning of each test."""
    if mortal_server.process is None:
        mortal_server.start()
    return PostgresqlPlace(mortal_server)


def failure_of(call: Callable[[], object]) -> str:
    """Give the code of the failure that a call ends with."""
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value.code


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; only a broken test waits in vain."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("what the test waits for has not happened")
        time.sleep(0.01)


def session_of(store: PostgresqlStore) -> int:
    """Give the process number of the writer's session."""
    writer = store._writer
    assert writer is not None
    driver = writer.connection.driver_connection
    assert driver is not None
    return int(driver.info.backend_pid)


# --- killed writers ---------------------------------------------------------------------------------------------------


def run_and_kill(database: Database, seed: int, after: int, delay_s: float) -> int:
    """Let a writer acknowledge ``after`` blocks, kill it a moment later, and give the last height it acknowledged."""
    command = [sys.executable, "-m", "tests.faults.store_driver", database.address, str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(after)]
        time.sleep(delay_s)
        process.kill()
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    # The last line may be cut off in the middle by the death of whoever wrote it.
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1])


def test_a_writer_killed_at_any_moment_loses_nothing(database: Database, seed: int) -> None:
    """Whenever a writing process dies, what it acknowledged is there, at most one block more, and all of it intact."""
    random = np.random.default_rng(seed)
    database.create().close()
    blocks = Blocks(seed)
    for _ in range(4):
        acknowledged = run_and_kill(database, seed, int(random.integers(1, 8)), int(random.integers(0, 20)) / 1000)
        database.settle()
        store = database.open()
        height = store.last_height()
        while len(blocks.made) < height:
            blocks.make(record_count(seed, len(blocks.made) + 1))
        assert height in (acknowledged, acknowledged + 1)
        assert stored(store) == encoded(blocks.made)
        store.close()


def test_a_living_writer_keeps_others_out(database: Database, seed: int) -> None:
    """While another process writes, opening for writing is refused; once it is dead, the next one is let in."""
    database.create().close()
    command = [sys.executable, "-m", "tests.faults.store_driver", database.address, str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "1\n"]
        assert failure_of(database.open) == "LEDGER_LOCKED"
        reader = database.open_reader()
        assert reader.last_height() >= 1
        reader.close()
        process.kill()
    database.settle()
    database.open().close()


# --- killed servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "code", "height"),
    [
        ("between", "STORE_UNREACHABLE", 1),
        ("before_commit", "COMMIT_UNKNOWN", 1),
        ("during_commit", "COMMIT_UNKNOWN", 2),
    ],
)
def test_a_killed_server_stops_the_writer(mortal: PostgresqlPlace, moment: str, code: str, height: int) -> None:
    """A server killed between commits, before one arrives or while one waits stops the writer; reopening tells."""
    server = mortal.server
    is_armed = False

    def on_crossing(point: str) -> None:
        if is_armed and (moment, point) == ("before_commit", "store.before_commit"):
            server.kill()

    blocks = Blocks(1)
    mortal.create().close()
    store = mortal.open(runtime=make_runtime(on_crossing=on_crossing))
    store.append(blocks.make())
    is_armed = True
    block = blocks.make(LARGE)
    if moment == "during_commit":
        assert kill_while_waiting(mortal, store, lambda: store.append(block)) == code
    else:
        if moment == "between":
            server.kill()
        assert failure_of(lambda: store.append(block)) == code
    assert failure_of(lambda: store.append(block)) == "STORE_FAILED"
    assert failure_of(store.last_height) == "STORE_UNREACHABLE"
    server.start()
    assert failure_of(lambda: store.append(block)) == "STORE_FAILED"
    store.close()
    again = mortal.open()
    assert stored(again) == encoded(blocks.made[:height])
    again.append(block if height == 1 else blocks.make())
    assert stored(again) == encoded(blocks.made)
    again.close()


def kill_while_waiting(place: PostgresqlPlace, store: PostgresqlStore, append: Callable[[], None]) -> str:
    """Kill the server while a commit is written and waits for a standby that does not exist."""
    server = place.server
    session = session_of(store)
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.run("SELECT pg_reload_conf()")
    try:
        until(lambda: server.run("SHOW synchronous_standby_names") == [("nobody",)])
        with ThreadPoolExecutor(1) as pool:
            appending = pool.submit(append)
            query = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"
            until(lambda: bool(server.run(query, (session,))))
            server.run("ALTER SYSTEM RESET synchronous_standby_names")
            server.kill()
            return failure_of(appending.result)
    finally:
        if server.process is not None:
            server.run("ALTER SYSTEM RESET synchronous_standby_names")


def test_a_server_killed_at_any_moment_loses_nothing(mortal: PostgresqlPlace, seed: int) -> None:
    """Whenever the server dies, the writer stops, what it acknowledged is there, and at most one block more."""
    random = np.random.default_rng(seed)
    server = mortal.server
    blocks = Blocks(seed)
    mortal.create().close()
    codes: Counter[str] = Counter()
    for _ in range(KILL_COUNT):
        store = mortal.open()
        killer = threading.Timer(int(random.integers(0, 120)) / 1000, server.kill)
        killer.start()
        codes[append_until_failure(store, blocks, seed)] += 1
        killer.join()
        acknowledged = len(blocks.made) - 1
        store.close()
        server.start()
        again = mortal.open()
        assert again.last_height() in (acknowledged, acknowledged + 1)
        del blocks.made[again.last_height() :]
        assert stored(again) == encoded(blocks.made)
        again.close()
    sys.stdout.write(f"{len(blocks.made)} blocks, failures {dict(codes)}\n")
    assert codes.keys() <= {"STORE_UNREACHABLE", "COMMIT_UNKNOWN"}
    assert codes.total() == KILL_COUNT


def append_until_failure(store: PostgresqlStore, blocks: Blocks, seed: int) -> str:
    """Append until that fails; all blocks made but the last were acknowledged."""
    while True:
        block = blocks.make(record_count(seed, len(blocks.made) + 1))
        try:
            store.append(block)
        except Unavailable as error:
            return error.code


def test_a_standby_takes_no_writer(mortal: PostgresqlPlace) -> None:
    """A server in recovery refuses a writer by its own code and lets readers read."""
    server = mortal.server
    blocks = Blocks(2)
    store = mortal.create()
    store.append(blocks.make())
    store.close()
    sign = server.folder / "data" / "standby.signal"
    server.stop()
    sign.touch()
    try:
        server.start()
        assert failure_of(mortal.open) == "STORE_READ_ONLY"
        reader = mortal.open_reader()
        assert stored(reader) == encoded(blocks.made)
        reader.close()
    finally:
        server.stop()
        sign.unlink()
        server.start()
    mortal.open().close()


# --- full disks -------------------------------------------------------------------------------------------------------


def limit_files(server: PostgresqlServer, session: int, size: int) -> None:
    """Let the kernel refuse a session every write beyond a size of a file, as a full disk does."""

    def limit() -> None:
        resource.prlimit(session, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    # Only the server's own user may do this to its processes.
    subprocess.run(["true"], check=True, preexec_fn=limit, **server.rights())


def test_a_table_that_cannot_grow_ends_the_store(mortal: PostgresqlPlace) -> None:
    """When the server cannot extend a table, the block is refused for sure, and the store must be opened again."""
    blocks = Blocks(3)
    store = mortal.create()
    # Just above the size of a segment of the log, which must still be written.
    limit_files(mortal.server, session_of(store), 17 * 2**20)
    codes: list[str] = []
    while not codes and len(blocks.made) < 6:
        block = blocks.make(HUGE)
        try:
            store.append(block)
        except Unavailable as error:
            codes.append(error.code)
    assert codes == ["STORE_FAILED"]
    assert "could not extend file" in mortal.server.log()
    assert failure_of(lambda: store.append(block)) == "STORE_FAILED"
    store.close()
    again = mortal.open()
    assert stored(again) == encoded(blocks.made[:-1])
    again.append(block)
    again.close()


def test_a_log_that_cannot_grow_is_no_commit(mortal: PostgresqlPlace) -> None:
    """When the server cannot write its log, it dies at the commit; nothing was acknowledged, all before it stays."""
    sessions: list[int] = []

    def on_crossing(point: str) -> None:
        if sessions and point == "store.before_commit":
            limit_files(mortal.server, sessions[0], 1)

    blocks = Blocks(4)
    mortal.create().close()
    store = mortal.open(runtime=make_runtime(on_crossing=on_crossing))
    store.append(blocks.make())
    sessions.append(session_of(store))
    assert failure_of(lambda: store.append(blocks.make())) == "COMMIT_UNKNOWN"
    store.close()
    # The limit holds for the server's own report too; the death of its session is told by another process.
    until(lambda: "was terminated by signal 6" in mortal.server.log())
    until(mortal.server.is_ready)
    again = mortal.open()
    assert stored(again) == encoded(blocks.made[:1])
    again.append(blocks.made[1])
    again.close()


# --- changed bytes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One stored value: what to select it by, and how long it is."""

    column: str
    table: str
    where: str
    value: bytes

    def read(self, database: Database) -> bytes:
        """Give what is stored now."""
        [(value,)] = database.run(f"SELECT {self.column} FROM {self.table} WHERE {self.where}")
        return bytes(value)

    def write(self, database: Database, value: bytes) -> None:
        """Store something else."""
        database.run(f"UPDATE {self.table} SET {self.column} = ? WHERE {self.where}", (value,))


def cells(database: Database) -> list[Cell]:
    """List every stored byte string."""
    found = []
    for table, columns, keys in (
        ("meta", ("genesis",), ("id",)),
        ("blocks", ("hash", "header", "signature"), ("height",)),
        ("bodies", ("bytes",), ("height", "part")),
    ):
        for row in database.run(f"SELECT {', '.join(keys + columns)} FROM {table}"):
            where = " AND ".join(f"{name} = {value}" for name, value in zip(keys, row, strict=False))
            found += [
                Cell(column, table, where, bytes(value))
                for column, value in zip(columns, row[len(keys) :], strict=True)
            ]
    return found


def follow(database: Database) -> int:
    """Read everything as a starting node does; give the height it comes to."""
    store = database.open_reader()
    try:
        return open_machine(store, FixtureInterpreter, HASH_KEY, compiled=False).height
    finally:
        store.close()


def reference(database: Database) -> None:
    """Store the journal that has one of everything."""
    store = database.create()
    for block in reference_chain().blocks:
        store.append(block)
    store.close()


CHANGE_COUNT = {"sqlite": 300, "postgresql": 150}


def test_any_changed_byte_is_an_integrity_failure(database: Database, seed: int) -> None:
    """Whichever byte of any stored value changes, a starting node refuses the journal as damaged."""
    random = np.random.default_rng(seed)
    reference(database)
    height = follow(database)
    every = cells(database)
    for number in range(CHANGE_COUNT[database.name]):
        # Each cell in turn, so that short ones are hit as often as long ones.
        cell = every[number % len(every)]
        changed = bytearray(cell.value)
        place = int(random.integers(len(changed)))
        changed[place] ^= int(random.integers(1, 256))
        cell.write(database, bytes(changed))
        with pytest.raises(IntegrityFailure):
            follow(database)
        cell.write(database, cell.value)
    assert follow(database) == height


def test_any_cut_or_grown_value_is_an_integrity_failure(database: Database, seed: int) -> None:
    """A stored value that lost its end, was emptied or has grown is refused as damaged."""
    random = np.random.default_rng(seed)
    reference(database)
    height = follow(database)
    for cell in cells(database):
        for changed in (cell.value[: int(random.integers(1, len(cell.value)))], b"", cell.value + b"\0"):
            cell.write(database, changed)
            with pytest.raises(IntegrityFailure):
                follow(database)
        cell.write(database, cell.value)
    assert follow(database) == height


@pytest.mark.parametrize("column", ["hash", "header", "signature"])
def test_values_in_each_others_place_are_an_integrity_failure(database: Database, column: str) -> None:
    """Two blocks whose stored values were exchanged are refused as damaged."""
    reference(database)
    height = follow(database)
    first, second = (cell for cell in cells(database) if cell.column == column and cell.where[-1] in "23")
    first.write(database, second.value)
    second.write(database, first.value)
    with pytest.raises(IntegrityFailure):
        follow(database)
    first.write(database, first.value)
    second.write(database, second.value)
    assert follow(database) == height


def test_a_lost_server_is_no_damage(mortal: PostgresqlPlace) -> None:
    """A server that is gone makes a starting node wait, and is never mistaken for a damaged journal."""
    reference(mortal)
    mortal.server.kill()
    with pytest.raises(LedgerError) as caught:
        follow(mortal)
    assert caught.value.code == "STORE_UNREACHABLE"
    mortal.server.start()
    assert follow(mortal) == 5
