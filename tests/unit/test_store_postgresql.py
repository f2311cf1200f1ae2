"""What only a server can do to a store: lose its session, its settings, its answer."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from ledger.errors import LedgerError, NotFound, Unavailable
from ledger.points import POINT
from ledger.store import PostgresqlStore, chunks, open_points, postgresql
from tests.block_fixture import Blocks, encoded, stored
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.postgresql_server import PostgresqlServer
from tests.store_places import PostgresqlPlace

SEED = 20_260_102
WAIT_S_MAX = 30
LARGE = 2_000


@pytest.fixture
def place(postgresql_server: PostgresqlServer) -> PostgresqlPlace:
    """Give an empty schema."""
    return PostgresqlPlace(postgresql_server)


def refusal(call: Callable[[], object]) -> Unavailable:
    """Give the failure that a call ends with."""
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


def code_of(call: Callable[[], object]) -> str:
    """Give the code of the expected failure that a call ends with."""
    with pytest.raises(LedgerError) as caught:
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
    number = driver.info.backend_pid
    assert isinstance(number, int)
    return number


def end_session(place: PostgresqlPlace, session: int) -> None:
    """End a session from outside, and wait until it has ended."""
    place.run("SELECT pg_terminate_backend(?)", (session,))
    until(lambda: not place.run("SELECT 1 FROM pg_stat_activity WHERE pid = ?", (session,)))


def in_session(store: PostgresqlStore, statement: str) -> None:
    """Run a statement in the writer's own session."""
    writer = store._writer
    assert writer is not None
    with writer.begin():
        writer.exec_driver_sql(statement)


def documented(beginning: str, **names: str) -> str:
    """Give the SQL of the page on stores that begins like this, with some of its names replaced."""
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    (statements,) = (block for block in re.findall(r"```sql\n(.+?)```", page, re.DOTALL) if block.startswith(beginning))
    for name, replacement in names.items():
        statements = re.sub(rf"\b{name}\b", replacement, statements)
    return statements


@contextmanager
def server_setting(server: PostgresqlServer, name: str, value: str) -> Iterator[None]:
    """Change a setting of the running server, and change it back."""

    def reload(wanted: str) -> None:
        server.run("SELECT pg_reload_conf()")
        until(lambda: server.run("SELECT current_setting(%s)", (name,)) == [(wanted,)])

    [(before,)] = server.run("SELECT current_setting(%s)", (name,))
    server.run(f"ALTER SYSTEM SET {name} = '{value}'")
    try:
        reload(value)
        yield
    finally:
        server.run(f"ALTER SYSTEM RESET {name}")
        reload(before)


# --- one writer -------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused(place: PostgresqlPlace) -> None:
    """While a session writes, another is refused and told when to ask again; afterwards it is let in."""
    store = place.create()
    assert refusal(place.open).code == "LEDGER_LOCKED"
    assert refusal(place.open).fields["retry_after_s"] == 1
    store.append(Blocks(SEED).make())
    store.close()
    again = place.open()
    assert again.last_height() == 1
    again.close()


def test_a_writer_whose_lock_is_lost_is_refused(place: PostgresqlPlace) -> None:
    """A writer that lost its lock and was replaced is stopped by the epoch at its next block, and for good."""
    blocks = Blocks(SEED)
    first = place.create()
    first.append(blocks.make())
    in_session(first, "SELECT pg_advisory_unlock_all()")
    second = place.open()
    block = blocks.make()
    assert refusal(lambda: first.append(block)).code == "LEDGER_LOCKED"
    assert refusal(lambda: first.append(block)).code == "STORE_FAILED"
    second.append(block)
    assert refusal(lambda: first.append(blocks.make())).code == "STORE_FAILED"
    assert stored(second) == stored(first) == encoded(blocks.made[:2])
    first.close()
    second.close()


def test_a_writer_whose_session_is_lost_is_refused(place: PostgresqlPlace) -> None:
    """A writer whose session ended and was replaced makes no other session to write with, though it still reads."""
    blocks = Blocks(SEED)
    first = place.create()
    first.append(blocks.make())
    end_session(place, session_of(first))
    second = place.open()
    block = blocks.make()
    assert refusal(lambda: first.append(block)).code == "STORE_UNREACHABLE"
    assert refusal(lambda: first.append(block)).code == "STORE_FAILED"
    second.append(block)
    assert stored(first) == stored(second) == encoded(blocks.made)
    first.close()
    second.close()


def test_a_successor_waits_for_the_commit_under_way(place: PostgresqlPlace) -> None:
    """A successor that opens in the middle of a commit waits for its end and goes on behind it."""
    blocks = Blocks(SEED)
    opening: list[Future[PostgresqlStore]] = []

    def on_crossing(point: str) -> None:
        if point == "store.before_commit":
            opening.append(pool.submit(place.open))
            until(lambda: bool(place.run("SELECT 1 FROM pg_locks WHERE NOT granted")))

    place.create().close()
    with ThreadPoolExecutor(1) as pool:
        first = place.open(runtime=make_runtime(on_crossing=on_crossing))
        in_session(first, "SELECT pg_advisory_unlock_all()")
        first.append(blocks.make())
        second = opening[0].result()
    assert refusal(lambda: first.append(blocks.make())).code == "LEDGER_LOCKED"
    second.append(blocks.made[1])
    assert stored(second) == encoded(blocks.made)
    first.close()
    second.close()


def test_two_schemas_are_two_ledgers(place: PostgresqlPlace) -> None:
    """Stores in two schemas of one database have a writer each, and nothing in common."""
    other, empty = PostgresqlPlace(place.server), PostgresqlPlace(place.server)
    stores = [place.create(), other.create()]
    for store, count in zip(stores, (1, 2), strict=True):
        blocks = Blocks(SEED)
        for _ in range(count):
            store.append(blocks.make())
    assert [store.last_height() for store in stores] == [1, 2]
    with pytest.raises(NotFound):
        empty.open()
    for store in stores:
        store.close()


def test_stores_made_at_the_same_moment_are_one(place: PostgresqlPlace) -> None:
    """Of many who make a store in the same place at once, one succeeds and the others find it there or locked."""
    with ThreadPoolExecutor(6) as pool:
        attempts = [pool.submit(place.create) for _ in range(6)]
        failures = [attempt.exception() for attempt in attempts]
    assert [failure for failure in failures if failure is None] == [None]
    codes = {failure.code for failure in failures if isinstance(failure, LedgerError)}
    assert codes == {"STORE_EXISTS"}
    assert sum(failure is not None for failure in failures) == 5
    next(attempt for attempt in attempts if attempt.exception() is None).result().close()


# --- every commit is flushed ------------------------------------------------------------------------------------------


def test_a_session_that_does_not_wait_is_refused(place: PostgresqlPlace) -> None:
    """When the session no longer waits for the flush, the next block is refused before it is written."""
    store = place.create()
    in_session(store, "SET synchronous_commit = off")
    failure = refusal(lambda: store.append(Blocks(SEED).make()))
    assert failure.code == "STORE_NOT_DURABLE"
    assert "synchronous_commit=off" in failure.sentence
    assert store.last_height() == 0
    store.close()


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_flush_is_refused(place: PostgresqlPlace, name: str) -> None:
    """A server that skips a flush is refused when a store is made or opened, and under an open store."""
    store = place.create()
    other = PostgresqlPlace(place.server)
    with server_setting(place.server, name, "off"):
        assert refusal(lambda: store.append(Blocks(SEED).make())).code == "STORE_NOT_DURABLE"
        store.close()
        assert refusal(place.open).code == "STORE_NOT_DURABLE"
        assert refusal(other.create).code == "STORE_NOT_DURABLE"
        place.open_reader().close()
    place.open().close()
    other.create().close()


def test_our_setting_goes_before_the_servers(place: PostgresqlPlace) -> None:
    """Where commits are asynchronous unless asked otherwise, and sessions read-only, the store asks otherwise."""
    options = f"{place.options} -csynchronous_commit=off -cdefault_transaction_read_only=on"
    blocks = Blocks(SEED)
    store = PostgresqlStore.create(place.server.url(options=options), GENESIS_BYTES, runtime=make_runtime())
    store.append(blocks.make())
    assert stored(store) == encoded(blocks.made)
    store.close()


def test_a_notice_is_no_warning(place: PostgresqlPlace) -> None:
    """What the server merely mentions while it commits does not put the commit in doubt."""
    store = place.create()
    body = "BEGIN RAISE NOTICE 'mentioned'; RETURN NULL; END"
    place.run(f"CREATE FUNCTION mention() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
    place.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON blocks DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION mention()"
    )
    store.append(Blocks(SEED).make())
    assert store.last_height() == 1
    store.close()


# --- commits without an answer ----------------------------------------------------------------------------------------


@contextmanager
def waiting_commit(place: PostgresqlPlace, store: PostgresqlStore, blocks: Blocks) -> Iterator[Future[None]]:
    """Begin an append whose commit is written and then waits for a standby that does not exist."""
    with server_setting(place.server, "synchronous_standby_names", "nobody"), ThreadPoolExecutor(1) as pool:
        appending = pool.submit(store.append, blocks.make(LARGE))
        query = "SELECT 1 FROM pg_stat_activity WHERE pid = ? AND wait_event = 'SyncRep'"
        until(lambda: bool(place.run(query, (session_of(store),))))
        yield appending


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_commit_without_its_standby_is_unknown(place: PostgresqlPlace, function: str) -> None:
    """A commit that ends before its standby has it, with a warning or without an answer, is not acknowledged."""
    blocks = Blocks(SEED)
    store = place.create()
    reader = place.open_reader()
    store.append(blocks.make())
    session = session_of(store)
    with waiting_commit(place, store, blocks) as appending:
        seen = reader.last_height()
        place.run(f"SELECT {function}(?)", (session,))
        failure = refusal(appending.result)
    assert (seen, failure.code) == (1, "COMMIT_UNKNOWN")
    assert refusal(lambda: store.append(blocks.made[1])).code == "STORE_FAILED"
    store.close()
    reader.close()
    again = place.open()
    assert stored(again) == encoded(blocks.made)
    again.append(blocks.make())
    again.close()


def test_a_commit_that_never_arrived_is_unknown_too(place: PostgresqlPlace) -> None:
    """When the session ends just before the commit, the outcome is unknown, and reopening finds no such block."""
    blocks = Blocks(SEED)
    sessions: list[int] = []

    def on_crossing(point: str) -> None:
        if point == "store.before_commit" and store.last_height():
            end_session(place, sessions[0])

    place.create().close()
    store = place.open(runtime=make_runtime(on_crossing=on_crossing))
    sessions.append(session_of(store))
    store.append(blocks.make())
    assert refusal(lambda: store.append(blocks.make(LARGE))).code == "COMMIT_UNKNOWN"
    assert refusal(lambda: store.append(blocks.made[1])).code == "STORE_FAILED"
    store.close()
    again = place.open()
    assert stored(again) == encoded(blocks.made[:1])
    again.append(blocks.made[1])
    again.close()


def test_a_refused_commit_is_known(place: PostgresqlPlace) -> None:
    """When the server answers a commit with an error, the block is known not to be there."""
    store = place.create()
    place.run("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
    place.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON blocks DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    failure = refusal(lambda: store.append(Blocks(SEED).make()))
    assert failure.code == "STORE_FAILED"
    assert store.last_height() == 0
    store.close()


# --- reaching the server ----------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Without a server, opening says so and when to ask again."""
    url = "postgresql+psycopg://nobody@/nothing?host=/nonexistent"
    failure = refusal(lambda: PostgresqlStore.open(url, runtime=make_runtime()))
    assert (failure.code, failure.fields["retry_after_s"]) == ("STORE_UNREACHABLE", 1)


def test_a_database_that_is_not_there_is_unreachable(place: PostgresqlPlace) -> None:
    """A database that was not made is named, and neither made nor taken for an empty one."""
    url = place.server.url(database="elsewhere")
    failure = refusal(lambda: PostgresqlStore.create(url, GENESIS_BYTES, runtime=make_runtime()))
    assert failure.code == "STORE_UNREACHABLE"
    assert "elsewhere" in failure.sentence


def test_a_url_of_another_driver_is_refused() -> None:
    """The class takes URLs of its own driver and no others."""
    for url in ("postgresql://x@/y", "sqlite:///journal.db"):
        assert code_of(lambda url=url: PostgresqlStore.open(url, runtime=make_runtime())) == "STORE_URL"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver the failure says which extra brings it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    failure = refusal(lambda: PostgresqlStore.open("postgresql+psycopg://x@/y", runtime=make_runtime()))
    assert failure.code == "STORE_DRIVER"
    assert "hugang[postgres]" in failure.sentence


def test_reads_come_back_after_their_sessions_are_lost(place: PostgresqlPlace) -> None:
    """A read whose session has ended says that the server was lost, and the next one has a new session."""
    blocks = Blocks(SEED)
    store = place.create()
    store.append(blocks.make())
    assert store.last_height() == 1
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hugang' AND pid <> ?"
    sessions = place.run(query, (session_of(store),))
    assert sessions
    for (session,) in sessions:
        end_session(place, session)
    assert refusal(store.last_height).code == "STORE_UNREACHABLE"
    assert stored(store) == encoded(blocks.made)
    store.append(blocks.make())
    store.close()


def test_a_single_read_survives_its_session(place: PostgresqlPlace) -> None:
    """A read of one row whose session has ended is asked again in a new one."""
    block = Blocks(SEED).make()
    store = place.create()
    store.append(block)
    assert store.header(1) == block.encoded.header
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hugang' AND pid <> ?"
    for (session,) in place.run(query, (session_of(store),)):
        end_session(place, session)
    assert store.header(1) == block.encoded.header
    store.close()


def test_readers_wait_their_turn(place: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all connections for reading are taken for too long, a read is told to come again."""
    monkeypatch.setattr(postgresql, "READER_COUNT_MAX", 1)
    monkeypatch.setattr(postgresql, "READER_WAIT_S", 0)
    store = place.create()
    with store._reads.connect():
        assert refusal(store.genesis).code == "STORE_BUSY"
    assert store.genesis() == GENESIS_BYTES
    store.close()


def test_a_foreign_lock_is_not_waited_for(place: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that somebody else keeps locked fails an open store for good, and opening for the time being."""
    monkeypatch.setattr(postgresql, "_SETTINGS", {**postgresql._SETTINGS, "lock_timeout": "50ms"})
    import psycopg

    store = place.create()
    block = Blocks(SEED).make()
    with psycopg.connect(place.url.replace("+psycopg", "", 1)) as other:
        other.execute("SELECT 1 FROM meta FOR UPDATE")
        assert refusal(lambda: store.append(block)).code == "STORE_FAILED"
        store.close()
        assert refusal(place.open).code == "STORE_BUSY"
    again = place.open()
    again.append(block)
    again.close()


def test_a_role_needs_few_rights(place: PostgresqlPlace) -> None:
    """A role that may read everything, insert blocks and raise the epoch can run a node, and can rewrite nothing."""
    place.create().close()
    role = f"node_of_{place.schema}"
    place.run(f"CREATE ROLE {role} LOGIN")
    place.run(documented("GRANT USAGE", sh=place.schema, node=role))
    url = re.sub(r"//[^@]*@", f"//{role}@", place.url)
    blocks = Blocks(SEED)
    store = PostgresqlStore.open(url, runtime=make_runtime())
    store.append(blocks.make(LARGE))
    assert stored(store) == encoded(blocks.made)
    for statement in ("UPDATE blocks SET height = 2", "DELETE FROM bodies", "UPDATE meta SET genesis = ''"):
        with pytest.raises(Exception, match="permission denied"):
            in_session(store, statement)
    store.close()


def test_the_same_rights_keep_balance_points(place: PostgresqlPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented grants are enough to open the tables of points, to add to them and to join chunks."""
    monkeypatch.setattr(chunks, "FAN_COUNT", 2)
    place.create().close()
    open_points(place.url, genesis_hash=bytes(32)).close()
    role = f"node_of_{place.schema}"
    place.run(f"CREATE ROLE {role} LOGIN")
    place.run(documented("GRANT USAGE", sh=place.schema, node=role))
    table = open_points(re.sub(r"//[^@]*@", f"//{role}@", place.url), genesis_hash=bytes(32))
    rows = np.zeros(1, POINT)
    for height in (1, 2):
        rows["position"] = height
        table.put(height, bytes(32), rows)
    assert (table.height, table.chunk_count) == (2, 1)
    table.close()


def test_the_documented_place_is_one(postgresql_server: PostgresqlServer) -> None:
    """The role and the schema that the page tells to make are all that a first start needs."""
    postgresql_server.run(documented("CREATE ROLE", sh="first", hugang="first_owner"))
    url = re.sub(r"//[^@]*@", "//first_owner@", postgresql_server.url(options="-csearch_path=first"))
    store = PostgresqlStore.create(url, GENESIS_BYTES, runtime=make_runtime())
    store.append(Blocks(SEED).make())
    assert store.last_height() == 1
    store.close()


def test_the_documented_report_follows_its_watermark(place: PostgresqlPlace) -> None:
    """The report on the page counts every block once, however often and whenever it is brought up to date."""
    blocks = Blocks(SEED)
    store = place.create()
    report = f"report_of_{place.schema}"
    place.run(documented("CREATE SCHEMA report", report=report))
    for count in (0, 3, 2):
        for _ in range(count):
            store.append(blocks.make())
        for _ in range(2):
            place.run(documented("BEGIN ISOLATION", report=report))
            positions = sum(block.header.position_count for block in blocks.made)
            query = f"SELECT coalesce(sum(block_count), 0), coalesce(sum(position_count), 0) FROM {report}.minutes"
            assert place.run(query) == [(len(blocks.made), positions)]
    assert place.run(f"SELECT height FROM {report}.watermark") == [(len(blocks.made),)]
    store.close()


def test_parts_are_stored_as_they_are(place: PostgresqlPlace) -> None:
    """The server neither compresses parts a second time nor changes a byte of them."""
    store = place.create()
    block = Blocks(SEED).make(LARGE)
    store.append(block)
    assert place.run(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'bodies'::regclass AND attname = 'bytes'"
    ) == [("e",)]
    assert place.run("SELECT encode(header, 'hex'), encode(signature, 'hex') FROM blocks") == [
        (block.encoded.header.hex(), block.encoded.signature.hex())
    ]
    store.close()


def test_a_server_that_takes_no_writes_is_said_to_be_a_standby() -> None:
    """A read-only transaction is no damage and no busy server."""
    error = DBAPIError("INSERT", None, psycopg.errors.ReadOnlySqlTransaction())
    failure = postgresql._failure(error)
    assert isinstance(failure, Unavailable)
    assert failure.code == "STORE_READ_ONLY"
