"""The journal in a PostgreSQL database: one transaction a block, every commit flushed, one writer.

Two fences keep a second writer out. The writer's session holds an advisory lock, which the server gives back when the
session ends, and refuses a second writer at once. The epoch in ``meta``, raised by each writer that opens the store and
compared inside each append's transaction, refuses a writer that has lost its session and does not know it yet. The
writer has one connection and never makes a second: when it breaks, the store has failed until it is opened again.

A commit counts only when the server says that it has flushed it: ``fsync``, ``full_page_writes`` and
``synchronous_commit`` are read in each append's transaction, and a commit with a warning (a standby was not waited for)
or without an answer is reported as ``COMMIT_UNKNOWN``. Since such a commit becomes visible to nobody before it is
flushed, whatever can be read is durable.

A schema holds one ledger; the search path, which a URL may set, says which. Nothing here needs the driver before a URL
asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool

from ledger import genesis as genesis_format
from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.store import points, tables
from ledger.store.side import SideDatabase
from ledger.store.sql import SqlStore

__all__ = ["SCHEME", "PostgresqlStore", "side_database"]

SCHEME = "postgresql+psycopg"
"""What a store's URL begins with."""
READER_COUNT_MAX = 8
"""Connections for reading; each is held for one short transaction."""
SIDE_COUNT_MAX = 3
"""Connections for projections."""
READER_WAIT_S = 30
"""How long a reading thread waits for one of them."""
LOCK_SPACE = 0x48554741
"""The upper half of the advisory lock's key; the lower half is the number of the table ``meta``."""

_CONNECT_ARGUMENTS: Mapping[str, str | int] = {
    "application_name": "hugang",
    "connect_timeout": 5,
    # A server that vanishes without a word is given up after half a minute instead of two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
_SETTINGS: Mapping[str, str] = {
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # The other direction: the lock of a writer whose machine has vanished is free again after half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
_DURABLE: Mapping[str, tuple[str, ...]] = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_apply"),
}
_UNREACHABLE = ("08", "28", "3D", "57P")
"""How SQLSTATEs begin that mean: connection, authorisation, no such database, shutdown."""
_BUSY = ("40", "53", "55", "57014")
"""Deadlock or serialisation, out of some resource, not obtained in time, cancelled."""
_MADE_TWICE = ("23", "42P06", "42P07")
"""Somebody has made the same rows, schema or tables at the same moment."""


class PostgresqlStore(SqlStore):
    """One ledger's journal in one schema of a database; see ``Store`` for what each method promises."""

    def __init__(self, url: str, *, runtime: Runtime) -> None:
        """Use ``create``, ``open`` or ``open_reader``."""
        super().__init__(runtime=runtime)
        self._url = _parse(url)
        self._reads = _engine(self._url, is_writer=False)
        self._writes: Engine | None = None
        self._writer: Connection | None = None
        self._warning: str | None = None

    @classmethod
    def create(cls, url: str, genesis: bytes, *, runtime: Runtime) -> PostgresqlStore:
        """Make a new store with this genesis and open it for writing.

        Raises:
            Conflict: there is a store in this schema already.
            MalformedInput: this is not a genesis, or not a URL of a PostgreSQL database.
            Unavailable: ``STORE_UNREACHABLE``, no connection; ``STORE_NOT_DURABLE``, the server would lose commits.
        """
        document = genesis_format.decode(genesis)
        engine = _engine(_parse(url), is_writer=True)
        try:
            with engine.begin() as connection:
                _check_durable(connection)
                _make_tables(connection, genesis, document.ledger)
        except DBAPIError as error:
            raise (_exists() if _state(error).startswith(_MADE_TWICE) else _failure(error)) from error
        finally:
            engine.dispose()
        return cls.open(url, runtime=runtime)

    @classmethod
    def open(cls, url: str, *, runtime: Runtime) -> PostgresqlStore:
        """Open for writing.

        Raises:
            NotFound: there is no store in this schema.
            Unavailable: ``LEDGER_LOCKED``, another process writes; ``STORE_UNREACHABLE``, no connection;
                ``STORE_READ_ONLY``, the server is a standby; ``STORE_NOT_DURABLE``, it would lose commits;
                ``STORE_DRIVER``, the driver is not installed.
            MalformedInput: ``STORE_FORMAT``, a layout this version does not know; ``STORE_URL``, not a URL for this.
        """
        store = cls(url, runtime=runtime)
        try:
            store._check_is_there()
            store._check_format()
            store._become_writer()
        except DBAPIError as error:
            store.close()
            raise _failure(error) from error
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open_reader(cls, url: str, *, runtime: Runtime) -> PostgresqlStore:
        """Open beside a writer, for reading only; ``append`` is refused.

        Raises:
            NotFound, MalformedInput, Unavailable: as for ``open``.
        """
        store = cls(url, runtime=runtime)
        try:
            store._check_is_there()
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """End the sessions, and with the writer's its lock; twice does no harm."""
        if self._writer is not None:
            self._failure = self._failure or "it is closed"
            self._writer.close()
            self._writer = None
        if self._writes is not None:
            self._writes.dispose()
            self._writes = None
        self._reads.dispose()

    def _check_is_there(self) -> None:
        with self._reading() as connection:
            if connection.execute(select(func.to_regclass(tables.meta.name))).scalar_one() is None:
                raise NotFound("STORE_NOT_FOUND", "There is no store at this place.")

    def _become_writer(self) -> None:
        """Connect, take the lock and raise the epoch."""
        self._writes = _engine(self._url, is_writer=True)
        self._writer = self._writes.connect()
        driver: Any = self._writer.connection.driver_connection
        driver.add_notice_handler(self._hear)
        with self._writing() as connection:
            _check_durable(connection)
            if not connection.execute(_try_lock()).scalar_one():
                raise Unavailable("LEDGER_LOCKED", "Another process writes this ledger.", retry_after_s=1)
        self._take_over()

    def _hear(self, notice: Any) -> None:
        """Keep a warning; a commit that comes with one is not what was asked for."""
        if notice.severity_nonlocalized == "WARNING":
            self._warning = str(notice.message_primary)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction on the writer's one connection."""
        if self._writer is None:
            raise InvariantViolation("a reader cannot become the writer")
        with self._writer.begin():
            yield self._writer
            self._warning = None
        if self._warning is not None:
            raise _unknown(self._warning)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Say what a failed read means; waiting for a connection can fail too."""
        try:
            yield
        except DBAPIError as error:
            raise _failure(error) from error
        except PoolTimeoutError as error:
            raise Unavailable("STORE_BUSY", "All connections for reading are taken.", retry_after_s=1) from error

    def _check_writer(self, connection: Connection) -> None:
        """Read epoch and settings in one statement: each costs an exchange with the server."""
        query = select(tables.meta.c.epoch, *_settings(_DURABLE)).with_for_update()
        epoch, *found = connection.execute(query).one_or_none() or (None,)
        self._check_epoch(epoch)
        _compare(found)

    def _append_failure(self, error: DBAPIError, *, is_committing: bool) -> Exception:
        """Tell what is known: before the commit nothing was stored, while committing only a refusal is an answer."""
        is_lost = _is_unreachable(error)
        if is_committing and is_lost:
            return _unknown("the connection ended")
        if is_lost:
            return Unavailable("STORE_UNREACHABLE", "The connection to the database ended.", retry_after_s=1)
        return Unavailable("STORE_FAILED", "The block could not be made durable.", retry_after_s=1)

    def _appended(self, size: int) -> None:
        """Do nothing: the server looks after its own log."""


def _parse(url: str) -> URL:
    """Read a store's URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise MalformedInput("STORE_URL", "This is not the URL of a database.") from error
    if parsed.drivername != SCHEME:
        raise MalformedInput("STORE_URL", f"A PostgreSQL store's URL begins with {SCHEME}://.")
    return parsed


def _engine(url: URL, *, is_writer: bool, connection_count: int = 0) -> Engine:
    """Make an engine whose sessions have the settings they need; what the URL says about connecting comes first."""
    # A read sees committed blocks, and those never change: more than one statement needs no common transaction.
    isolation: Any = "READ COMMITTED" if is_writer else "AUTOCOMMIT"
    pool: dict[str, Any] = {"poolclass": NullPool}
    count = connection_count if is_writer else READER_COUNT_MAX
    if count:
        pool = {"poolclass": QueuePool, "pool_size": count, "max_overflow": 0, "pool_timeout": READER_WAIT_S}
    arguments = {name: value for name, value in _CONNECT_ARGUMENTS.items() if name not in url.query}
    try:
        engine = create_engine(url, isolation_level=isolation, use_native_hstore=False, connect_args=arguments, **pool)
    except ModuleNotFoundError as error:
        raise Unavailable(
            "STORE_DRIVER", "PostgreSQL needs the extra: pip install 'hugang[postgres]'.", retry_after_s=60
        ) from error
    settings = {**_SETTINGS, "default_transaction_read_only": "off" if is_writer else "on"}

    @event.listens_for(engine, "connect")
    def _(driver: Any, _record: object) -> None:
        values = ", ".join("set_config(%s, %s, false)" for _ in settings)
        driver.execute(f"SELECT {values}", [part for setting in settings.items() for part in setting])
        driver.commit()
        driver.cursor_factory = _binary(driver.cursor_factory)

    return engine


def side_database(url: str) -> SideDatabase:
    """Give the tables for projections, in the schema of the journal.

    Raises:
        MalformedInput, Unavailable: as for ``PostgresqlStore.open``.
    """
    engine = _engine(_parse(url), is_writer=True, connection_count=SIDE_COUNT_MAX)

    def clear() -> None:
        with engine.begin() as connection:
            points.drop_tables(connection)

    return SideDatabase(engine, _failure, clear)


def _binary(cursor_factory: Callable[..., Any]) -> Callable[..., Any]:
    """Have results sent as bytes: as text, a part of a body would be twice as long."""

    def make(*arguments: Any, **options: Any) -> Any:
        cursor = cursor_factory(*arguments, **options)
        cursor.format = type(cursor.format).BINARY
        return cursor

    return make


def _try_lock() -> Any:
    """Ask for the advisory lock of this schema's store; the session holds it until it ends."""
    statement = "SELECT pg_try_advisory_lock((:space << 32) + CAST(CAST(:meta AS regclass) AS oid)::bigint)"
    return text(statement.replace(":space", str(LOCK_SPACE) + "::bigint")).bindparams(meta=tables.meta.name)


def _settings(names: Mapping[str, object]) -> list[Any]:
    return [func.current_setting(name) for name in names]


def _check_durable(connection: Connection) -> None:
    """Refuse a server or a session that says "committed" before it is."""
    _compare(connection.execute(select(*_settings(_DURABLE))).one())


def _compare(found: Any) -> None:
    for (name, wanted), value in zip(_DURABLE.items(), found, strict=True):
        if value not in wanted:
            raise Unavailable(
                "STORE_NOT_DURABLE", f"The server has {name}={value}: a commit could be lost.", retry_after_s=60
            )


def _make_tables(connection: Connection, genesis: bytes, ledger: str) -> None:
    """Make the tables and the one row of ``meta``, all or nothing."""
    if inspect(connection).has_table(tables.meta.name):
        raise _exists()
    tables.METADATA.create_all(connection, checkfirst=False)
    points.METADATA.create_all(connection)
    # Parts are compressed already: the server would only try in vain.
    connection.execute(text(f"ALTER TABLE {tables.bodies.name} ALTER COLUMN bytes SET STORAGE EXTERNAL"))
    row = {"id": tables.META_ID, "format": tables.FORMAT, "ledger": ledger, "epoch": 0, "genesis": genesis}
    connection.execute(insert(tables.meta), row)


def _exists() -> Conflict:
    return Conflict("STORE_EXISTS", "There is a store at this place already.")


def _state(error: DBAPIError) -> str:
    """Give the SQLSTATE; empty when the server has said nothing."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def _is_unreachable(error: DBAPIError) -> bool:
    state = _state(error)
    return error.connection_invalidated or not state or state.startswith(_UNREACHABLE)


def _unknown(reason: str) -> Unavailable:
    return Unavailable(
        "COMMIT_UNKNOWN", f"Whether the block is durable is known after opening again: {reason}.", retry_after_s=1
    )


def _failure(error: DBAPIError) -> Exception:
    """Say what a failure outside an append means."""
    lines = str(error.orig).strip().splitlines()
    reason = lines[0] if lines else type(error.orig).__name__
    if _is_unreachable(error):
        return Unavailable("STORE_UNREACHABLE", f"The database cannot be reached: {reason}", retry_after_s=1)
    if _state(error).startswith("25"):
        return Unavailable("STORE_READ_ONLY", "The database takes no writes: it is a standby.", retry_after_s=1)
    if _state(error).startswith(_BUSY):
        return Unavailable("STORE_BUSY", f"The database is busy: {reason}", retry_after_s=1)
    return IntegrityFailure("STORE_CORRUPT", f"The store cannot be read: {reason}")
