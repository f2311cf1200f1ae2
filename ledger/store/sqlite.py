"""The journal in one SQLite file: write-ahead log, every commit synced, one writer.

Two fences keep a second writer out. A lock on a file beside the database refuses it at once on the same machine; the
epoch in ``meta``, raised by each writer that opens the store and compared inside each append's transaction, refuses the
older one wherever the lock does not reach.

The write-ahead log is moved into the database by a thread with a connection of its own, so that an append never waits
for it; automatic checkpoints are off. After each such move the writer itself moves the little that has come since,
which lets the log start again from its beginning.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, RowMapping, create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ledger import genesis as genesis_format
from ledger.errors import Conflict, IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.journal import Block, EncodedBlock, Header, block_hash, decode_header
from ledger.runtime import Runtime
from ledger.store import tables
from ledger.store.base import compress, decompress

__all__ = ["SqliteStore"]

BUSY_TIMEOUT_S = 5
READER_COUNT_MAX = 8
"""Connections for reading; each is held for one short transaction."""
CHECKPOINT_SIZE = 32 * 2**20
"""Bytes appended after which the write-ahead log is moved into the database."""


class SqliteStore:
    """One ledger's journal in one file; see ``Store`` for what each method promises."""

    def __init__(self, path: Path, *, runtime: Runtime, is_writer: bool) -> None:
        """Use ``create``, ``open`` or ``open_reader``."""
        self._path = path
        self._runtime = runtime
        self._lock_file: int | None = None
        self._epoch = 0
        self._last_height = 0
        self._end = 0
        self._failure: str | None = None
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
                raise Conflict("STORE_EXISTS", "There is a store at this place already.")
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

    def genesis(self) -> bytes:
        """Give the genesis document's canonical bytes."""
        with self._reading() as connection:
            return bytes(connection.execute(select(tables.meta.c.genesis)).scalar_one())

    def append(self, block: Block) -> None:
        """Make the next block durable; see ``Store.append``."""
        if self._writes is None or self._failure is not None:
            reason = self._failure or "it was opened for reading"
            raise Unavailable("STORE_FAILED", "The store takes no blocks: " + reason, retry_after_s=1)
        header = block.header
        if header.height != self._last_height + 1 or header.first_position != self._end:
            raise InvariantViolation(f"I5: block {header.height} does not follow block {self._last_height}")
        parts = compress(block.encoded.body)
        # Whatever happens from here to the end of the commit, a second attempt on this connection proves nothing:
        # after a failed sync the file may hold anything. Only opening the store again tells.
        self._failure = "a commit did not come to its end"
        try:
            with self._writes.begin() as connection:
                self._check_epoch(connection)
                _insert(connection, block, parts)
                self._runtime.crossing("store.before_commit")
        except DBAPIError as error:
            self._failure = f"a commit failed: {error.orig}"
            raise Unavailable("STORE_FAILED", "The block could not be made durable.", retry_after_s=1) from error
        self._runtime.crossing("store.after_commit")
        self._failure = None
        self._last_height = header.height
        self._end += header.position_count
        self._move_log(self._writes, sum(map(len, parts)))

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, each in a short transaction, so that the log never waits for a reader."""
        height = from_height
        while height <= (last_height := self.last_height()):
            while height <= last_height:
                try:
                    yield self.block(height)
                except NotFound as error:
                    raise IntegrityFailure("BLOCK_MISSING", "The store lacks a block.", block=height) from error
                height += 1

    def block(self, height: int) -> EncodedBlock:
        """Give one block; see ``Store.block``."""
        with self._reading() as connection:
            row = _block_row(connection, height)
            query = select(tables.bodies.c.part, tables.bodies.c.bytes).where(tables.bodies.c.height == height)
            parts = connection.execute(query.order_by(tables.bodies.c.part)).all()
        if [number for number, _ in parts] != list(range(len(parts))):
            raise IntegrityFailure("STORE_CORRUPT", "The store lacks a part of a body.", block=height)
        body = b"".join(decompress(part, height=height) for _, part in parts)
        return EncodedBlock(bytes(row["header"]), bytes(row["signature"]), body)

    def header(self, height: int) -> bytes:
        """Give one block's header; see ``Store.header``."""
        with self._reading() as connection:
            return bytes(_block_row(connection, height)["header"])

    def body_part(self, height: int, part: int) -> bytes:
        """Give part ``part`` of a body; see ``Store.body_part``."""
        query = select(tables.bodies.c.bytes).where(tables.bodies.c.height == height, tables.bodies.c.part == part)
        with self._reading() as connection:
            data = connection.execute(query).scalar_one_or_none()
        if data is None:
            raise NotFound("PART_NOT_FOUND", "The block's body has no such part.", height=height, part=part)
        return decompress(data, height=height)

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a position; see ``Store.height_of``."""
        columns = tables.blocks.c
        query = select(columns.height, columns.first_position, columns.position_count)
        query = query.where(columns.first_position <= position).order_by(columns.first_position.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or position >= row.first_position + row.position_count:
            raise NotFound("POSITION_NOT_FOUND", "The journal has not come to this position yet.", position=position)
        return int(row.height)

    def last_height(self) -> int:
        """Give the height of the last block."""
        with self._reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(tables.blocks.c.height), 0))).scalar_one())

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

    def _check_format(self) -> None:
        """Refuse a layout that another version has made, and a file that is none of ours."""
        try:
            with self._reading() as connection:
                found = connection.execute(select(tables.meta.c.format, tables.meta.c.genesis)).one()
        except IntegrityFailure as error:
            raise MalformedInput("STORE_FORMAT", "This file is not a ledger's store.") from error
        if found.format != tables.FORMAT:
            raise MalformedInput("STORE_FORMAT", "The store has a format this version does not know.")

    def _take_over(self) -> None:
        """Become the one writer: a raised epoch refuses whoever was it before."""
        if self._writes is None:
            raise InvariantViolation("a reader cannot become the writer")
        try:
            with self._writes.begin() as connection:
                connection.execute(update(tables.meta).values(epoch=tables.meta.c.epoch + 1))
                self._epoch = connection.execute(select(tables.meta.c.epoch)).scalar_one()
                columns = tables.blocks.c
                query = select(columns.height, columns.first_position + columns.position_count)
                last = connection.execute(query.order_by(columns.height.desc()).limit(1)).one_or_none()
        except DBAPIError as error:
            raise _failure(error) from error
        self._last_height, self._end = (0, 0) if last is None else (int(last[0]), int(last[1]))

    def _check_epoch(self, connection: Connection) -> None:
        """Stop a writer that has been replaced; ``with_for_update`` matters to databases that lock rows."""
        epoch = connection.execute(select(tables.meta.c.epoch).with_for_update()).scalar_one()
        if epoch != self._epoch:
            self._failure = "another writer has taken over"
            raise Unavailable("LEDGER_LOCKED", "Another writer has taken the ledger over.", retry_after_s=1)

    def _move_log(self, writes: Engine, size: int) -> None:
        """Start moving the log when enough has come together; finish a move that has ended."""
        self._unmoved_size += size
        if self._move is not None and self._move.done():
            try:
                self._move.result()
                # What was appended meanwhile is little: moved here, between two appends, the log can start again.
                _checkpoint(writes)
            except sqlite3.Error as error:
                self._failure = f"the log could not be moved: {error}"
            self._move = None
        if self._unmoved_size >= CHECKPOINT_SIZE and self._move is None and self._mover is not None:
            self._unmoved_size = 0
            self._move = self._mover.submit(_checkpoint, self._reads)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One short reading transaction, with the database's failures translated."""
        try:
            with self._reads.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _failure(error) from error


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


def _checkpoint(engine: Engine) -> None:
    """Move what can be moved without waiting for anybody."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()
    finally:
        connection.close()


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


def _insert(connection: Connection, block: Block, parts: list[bytes]) -> None:
    """Write one block's rows."""
    header = block.header
    row = {
        "height": header.height,
        "first_position": header.first_position,
        "position_count": header.position_count,
        "timestamp_ns": header.timestamp_ns,
        "hash": block.hash,
        "header": block.encoded.header,
        "signature": block.encoded.signature,
    }
    connection.execute(insert(tables.blocks), row)
    rows = [{"height": header.height, "part": number, "bytes": part} for number, part in enumerate(parts)]
    connection.execute(insert(tables.bodies), rows)


def _block_row(connection: Connection, height: int) -> RowMapping:
    """Read a block's row and hold its columns against its header."""
    row = connection.execute(select(tables.blocks).where(tables.blocks.c.height == height)).mappings().one_or_none()
    if row is None:
        raise NotFound("BLOCK_NOT_FOUND", "There is no block at this height.", height=height)
    try:
        header = decode_header(bytes(row["header"]))
    except MalformedInput as error:
        raise IntegrityFailure("STORE_CORRUPT", "A stored header cannot be read.", block=height) from error
    stored = (row["height"], row["first_position"], row["position_count"], row["timestamp_ns"], row["hash"])
    if stored != _columns(header, bytes(row["header"])):
        raise IntegrityFailure("STORE_CORRUPT", "A stored header contradicts its row.", block=height)
    return row


def _columns(header: Header, data: bytes) -> tuple[int, int, int, int, bytes]:
    return header.height, header.first_position, header.position_count, header.timestamp_ns, block_hash(data)
