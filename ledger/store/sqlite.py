"""The journal in one SQLite file: write-ahead log, every commit synced, one writer.

Two fences keep a second writer out. A lock on a file beside the database refuses it at once on the same machine; the
epoch in ``meta``, raised by each writer that opens the store and compared inside each append's transaction, refuses the
older one wherever the lock does not reach.

The write-ahead log is moved into the database by a thread with a connection of its own, so that an append never waits
for it; automatic checkpoints are off. That thread goes on until what has come meanwhile is little. The writer itself
then moves that little, which lets the log start again from its beginning.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ledger import genesis as genesis_format
from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.store import tables
from ledger.store.side import SideDatabase
from ledger.store.sql import SqlStore

__all__ = ["SqliteStore", "side_database"]

BUSY_TIMEOUT_S = 5
READER_COUNT_MAX = 8
"""Connections for reading; each is held for one short transaction."""
CHECKPOINT_SIZE = 4 * 2**20
"""Bytes appended after which the write-ahead log is moved into the database: so few that an append which has to wait
for the disk behind such a move waits some ten milliseconds, where 32 MiB made it a hundred and more."""
LITTLE_PAGE_COUNT = 128
"""Pages of the log that the writer may move itself: half a megabyte, some milliseconds with its sync."""
ROUND_COUNT_MAX = 8
"""Moves after which the writer moves whatever is left, so that the log cannot grow for ever."""
SIDE_PAGE_SIZE = 2**14
"""Bytes of a page of a file beside the journal, whose rows are nearly as large."""

# In a damaged file a cell may have another type than its column, and SQLite may complain in bytes that are no text.
_DAMAGE = (ValueError, TypeError, OverflowError, MemoryError)


class SqliteStore(SqlStore):
    """One ledger's journal in one file; see ``Store`` for what each method promises."""

    def __init__(self, path: Path, *, runtime: Runtime, is_writer: bool) -> None:
        """Use ``create``, ``open`` or ``open_reader``."""
        super().__init__(runtime=runtime)
        self._lock_file: int | None = None
        self._unmoved_size = 0
        self._move: Future[None] | None = None
        self._mover: ThreadPoolExecutor | None = None
        self._reads = _engine(path, connection_count=READER_COUNT_MAX, begin="BEGIN", is_reader=True)
        self._writes: Engine | None = None
        if is_writer:
            self._writes = _engine(path, connection_count=1, begin="BEGIN IMMEDIATE", is_reader=False)

    @classmethod
    def create(cls, path: Path, genesis: bytes, *, runtime: Runtime) -> SqliteStore:
        """Make a new store with this genesis and open it for writing.

        Raises:
            Conflict: there is something at ``path`` already.
            MalformedInput: this is not a genesis.
        """
        document = genesis_format.decode(genesis)
        lock_file = _lock(path)
        try:
            if path.exists():
                raise Conflict("STORE_EXISTS", "There is something at this place already, and no store.")
            _make_tables(path, genesis, document.ledger)
        finally:
            os.close(lock_file)
        return cls.open(path, runtime=runtime)

    @classmethod
    def open(cls, path: Path, *, runtime: Runtime) -> SqliteStore:
        """Open for writing.

        Raises:
            NotFound: there is no store at ``path``.
            Unavailable: ``LEDGER_LOCKED``, another process writes.
            MalformedInput: ``STORE_FORMAT``, a layout this version does not know.
            IntegrityFailure: the file cannot be read.
        """
        _check_is_there(path)
        lock_file = _lock(path)
        store = cls(path, runtime=runtime, is_writer=True)
        store._lock_file = lock_file
        try:
            store._check_format()
            store._take_over()
        except DBAPIError as error:
            store.close()
            raise _failure(error) from error
        except _DAMAGE as error:
            store.close()
            raise IntegrityFailure("STORE_CORRUPT", "The store's file does not hold what it should.") from error
        except BaseException:
            store.close()
            raise
        store._mover = ThreadPoolExecutor(1, thread_name_prefix="wal")
        return store

    @classmethod
    def open_reader(cls, path: Path, *, runtime: Runtime) -> SqliteStore:
        """Open beside a writer, for reading only; ``append`` is refused.

        Raises:
            NotFound, MalformedInput, IntegrityFailure: as for ``open``.
        """
        _check_is_there(path)
        store = cls(path, runtime=runtime, is_writer=False)
        try:
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Move the log into the database, let go of files and of the lock."""
        if self._mover is not None:
            self._mover.shutdown(wait=True)
            self._mover = None
        if self._writes is not None:
            self._writes.dispose()
            self._failure = self._failure or "it is closed"
        self._reads.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction of the writer, which no other process can begin meanwhile."""
        if self._writes is None:
            raise InvariantViolation("a reader cannot become the writer")
        with self._writes.begin() as connection:
            yield connection

    def _append_failure(self, error: DBAPIError, *, is_committing: bool) -> Exception:  # noqa: ARG002 - no difference
        """Give the one answer: after any failure the file may hold anything."""
        return Unavailable("STORE_FAILED", "The block could not be made durable.", retry_after_s=1)

    def _appended(self, size: int) -> None:
        """Start moving the log when enough has come together; finish a move that has ended."""
        self._unmoved_size += size
        if self._move is not None and self._writes is not None and self._move.done():
            try:
                self._move.result()
                # What was appended meanwhile is little: moved here, between two appends, the log can start again.
                _checkpoint(self._writes)
            except sqlite3.Error as error:
                self._failure = f"the log could not be moved: {error}"
            self._move = None
        if self._unmoved_size >= CHECKPOINT_SIZE and self._move is None and self._mover is not None:
            self._unmoved_size = 0
            self._move = self._mover.submit(_move_log, self._reads)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Say what a failed read means: locked files pass, unreadable ones do not."""
        try:
            yield
        except DBAPIError as error:
            raise _failure(error) from error
        except _DAMAGE as error:
            raise IntegrityFailure("STORE_CORRUPT", "The store's file does not hold what it should.") from error


def _failure(error: DBAPIError) -> Exception:
    """Say what a failed read means: locked files pass, unreadable ones do not."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("STORE_BUSY", "The store is locked by another process.", retry_after_s=1)
    return IntegrityFailure("STORE_CORRUPT", f"The store cannot be read: {error.orig}")


def _engine(path: Path, *, connection_count: int, begin: str, is_reader: bool) -> Engine:
    """Make an engine whose transactions begin as told; the driver's own idea of beginning is switched off."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {pragma}").close()
        if is_reader:
            connection.execute("PRAGMA query_only=ON").close()
        return connection

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=connection_count, max_overflow=0
    )

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def side_database(path: Path) -> SideDatabase:
    """Give the database for projections that lies in a file of its own; a crash may cost its last transactions."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        for pragma in (f"page_size={SIDE_PAGE_SIZE}", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    pool: dict[str, Any] = {"pool_size": READER_COUNT_MAX, "max_overflow": 0, "pool_timeout": BUSY_TIMEOUT_S}
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, **pool)

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def clear() -> None:
        engine.dispose()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    return SideDatabase(engine, _failure, clear)


def _move_log(engine: Engine) -> None:
    """Move the log, then what was appended meanwhile, until that is little."""
    moved = 0
    for _ in range(ROUND_COUNT_MAX):
        before, moved = moved, _checkpoint(engine)
        if moved - before <= LITTLE_PAGE_COUNT:
            return


def _checkpoint(engine: Engine) -> int:
    """Move what can be moved without waiting for anybody; give the pages of the log that have been moved by now."""
    connection = engine.raw_connection()
    try:
        _busy, _in_log, moved = connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    finally:
        connection.close()
    return int(moved)


def _lock(path: Path) -> int:
    """Lock the file beside the database for this process; give the descriptor that holds the lock."""
    try:
        lock_file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotFound("STORE_NOT_FOUND", f"The store's place cannot be reached: {error.strerror}") from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock_file)
        raise Unavailable("LEDGER_LOCKED", "Another process writes this ledger.", retry_after_s=1) from error
    return lock_file


def _check_is_there(path: Path) -> None:
    if not path.is_file():
        raise NotFound("STORE_NOT_FOUND", "There is no store at this place.")


def _make_tables(path: Path, genesis: bytes, ledger: str) -> None:
    """Make the file under another name first: whoever finds ``path`` finds a whole store."""
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
        leftover.unlink(missing_ok=True)
    engine = _engine(draft, connection_count=1, begin="BEGIN IMMEDIATE", is_reader=False)
    try:
        with engine.begin() as connection:
            tables.METADATA.create_all(connection)
            row = {"id": tables.META_ID, "format": tables.FORMAT, "ledger": ledger, "epoch": 0, "genesis": genesis}
            connection.execute(insert(tables.meta), row)
    except DBAPIError as error:
        raise _failure(error) from error
    finally:
        # The last connection to close moves the log into the file and removes it.
        engine.dispose()
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
