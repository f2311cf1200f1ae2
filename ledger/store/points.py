"""The table of balance points: one projection, for every database alike.

Points stand in sorted chunks (``ledger.store.chunks``): ``points_chunks`` has a row for each, ``points_pages`` one for
each page, ``points_state`` one row: the height and the hash of the block up to which all points are there. All change
in one transaction. Each row has a CRC-32, that of the state over those of all chunks, since nothing else vouches for
them: what was changed is not taken for a balance.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Self

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    delete,
    event,
    insert,
    select,
    text,
    update,
)

from ledger.errors import IntegrityFailure, InvariantViolation, Unavailable
from ledger.registry import Array
from ledger.store import chunks
from ledger.store.chunks import Chunk
from ledger.store.questions import Question
from ledger.store.side import SideDatabase

__all__ = ["METADATA", "PointTable", "drop_tables", "points_chunks", "points_pages", "points_state"]

FORMAT = 2
STATE_ID = 1
WRITTEN_COUNT = 256
"""Pages that are handed to the database at once."""

METADATA = MetaData()

points_state = Table(
    "points_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("genesis_hash", LargeBinary(32), nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

points_chunks = Table(
    "points_chunks",
    METADATA,
    Column("chunk", BigInteger, primary_key=True, autoincrement=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("directory", LargeBinary, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

points_pages = Table(
    "points_pages",
    METADATA,
    Column("chunk", BigInteger, primary_key=True, autoincrement=False),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)


@event.listens_for(points_pages, "after_create")
def _(_: Table, connection: Connection, **__: object) -> None:
    """Keep a server from compressing pages, which would cost more than all the rest."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE points_pages ALTER COLUMN data SET STORAGE EXTERNAL"))


_stored = points_pages.c
_PAGE = Question(
    select(_stored.data, _stored.checksum).where(_stored.chunk == bindparam("chunk"), _stored.page == bindparam("page"))
)
_PAGES = (
    select(_stored.page, _stored.data, _stored.checksum)
    .where(_stored.chunk == bindparam("chunk"))
    .order_by(_stored.page)
)

Find = Callable[[Sequence[Chunk], int, int], np.void | None]


def drop_tables(connection: Connection) -> None:
    """Remove all tables of points, that of the first format too."""
    METADATA.drop_all(connection)
    connection.execute(text("DROP TABLE IF EXISTS points"))


class PointTable:
    """All points up to a height. Any thread may read; one at a time writes."""

    def __init__(self, database: SideDatabase, *, genesis_hash: bytes) -> None:
        """Use ``open``."""
        self._database = database
        self._genesis_hash = genesis_hash
        self._lock = threading.Lock()
        self._chunks: tuple[Chunk, ...] = ()
        self.height = 0
        """The last block whose points are all there."""
        self.block_hash = genesis_hash
        """The hash of that block; before the first one that of the genesis."""

    @classmethod
    def open(cls, database: SideDatabase, *, genesis_hash: bytes) -> Self:
        """Open the table; one that is missing, unreadable or of another ledger or format begins anew, empty.

        Raises:
            Unavailable: the database cannot be reached, or lets nobody make tables.
        """
        table = cls(database, genesis_hash=genesis_hash)
        try:
            with contextlib.suppress(IntegrityFailure, *chunks.DAMAGE):
                if table._read_state():
                    return table
            table.begin_anew()
        except BaseException:
            table.close()
            raise
        return table

    @property
    def chunk_count(self) -> int:
        """How many chunks there are: what a look-up that finds nothing has to go through."""
        return len(self._chunks)

    def begin_anew(self) -> None:
        """Forget everything."""
        with self._lock:
            self._database.clear()
            row = {
                "id": STATE_ID,
                "format": FORMAT,
                "genesis_hash": self._genesis_hash,
                "height": 0,
                "block_hash": self._genesis_hash,
                "checksum": _checksum(0, self._genesis_hash, ()),
            }
            with self._database.writing() as connection:
                METADATA.create_all(connection)
                connection.execute(insert(points_state), row)
            self._chunks, self.height, self.block_hash = (), 0, self._genesis_hash

    def _read_state(self) -> bool:
        """Read where the table stands; ``False`` if it is not ours, or not what was written."""
        state = points_state.c
        with self._database.writing() as connection:
            METADATA.create_all(connection)
            found = connection.execute(select(state.format, state.genesis_hash)).all()
            if [tuple(row) for row in found] != [(FORMAT, self._genesis_hash)]:
                return False
            where = select(state.height, state.block_hash, state.checksum)
            height, block_hash, checksum = connection.execute(where).one()
            rows = connection.execute(select(points_chunks).order_by(points_chunks.c.chunk)).all()
        kept = tuple(chunks.read_chunk(row) for row in rows)
        if checksum != _checksum(height, block_hash, kept):
            return False
        self._chunks, self.height, self.block_hash = kept, height, block_hash
        return True

    def put(self, height: int, block_hash: bytes, rows: Array) -> None:
        """Add the points of all blocks after ``self.height`` up to ``height``, and say so, in one transaction.

        Raises:
            Unavailable: ``LEDGER_LOCKED``, somebody else has written to the table; or the database failed.
            IntegrityFailure: the database is damaged; ``POINTS_CORRUPT``, the table holds what was not written there.
        """
        with self._lock:
            with self._database.writing() as connection:
                self._move_state(connection, height, block_hash)
                kept = self._add(connection, chunks.ordered(rows)) if len(rows) else self._chunks
                checksum = _checksum(height, block_hash, kept)
                connection.execute(update(points_state).values(checksum=checksum))
            self._chunks, self.height, self.block_hash = kept, height, block_hash

    def _move_state(self, connection: Connection, height: int, block_hash: bytes) -> None:
        """Move the mark, unless somebody else has; until the transaction ends nobody else can."""
        state = points_state.c
        moved = update(points_state).where(
            state.height == self.height,
            state.block_hash == self.block_hash,
            state.checksum == _checksum(self.height, self.block_hash, self._chunks),
        )
        if connection.execute(moved.values(height=height, block_hash=block_hash)).rowcount != 1:
            raise Unavailable("LEDGER_LOCKED", "Another process writes the balance points.", retry_after_s=1)

    def _add(self, connection: Connection, rows: Array) -> tuple[Chunk, ...]:
        """Write a chunk, in place of those before it that it is joined with; give all that there are then."""
        old = self._chunks
        if old and int(rows["position"].min()) <= old[-1].last_position:
            raise InvariantViolation("balance points come in the order of their blocks")
        start = chunks.merge_start([*(chunk.count for chunk in old), len(rows)])
        if start < len(old):
            rows = chunks.joined([*(_read(connection, chunk) for chunk in old[start:]), rows])
            for table in (points_pages, points_chunks):
                connection.execute(delete(table).where(table.c.chunk >= old[start].number))
        chunk = chunks.chunk_of(old[-1].number + 1 if old else 1, rows)
        _write(connection, chunk, rows)
        return (*old[:start], chunk)

    def at_or_before(self, account: int, position: int) -> np.void | None:
        """Give the newest point at or before a position; see ``asof.PointLookup``.

        Raises:
            IntegrityFailure: ``POINTS_CORRUPT``, what the table holds was not written there.
        """
        return self._search(self._newest, account, position)

    def after(self, account: int, position: int) -> np.void | None:
        """Give the oldest point after a position; see ``asof.PointLookup``.

        Raises:
            IntegrityFailure: as for ``at_or_before``.
        """
        return self._search(self._oldest, account, position)

    def _search(self, find: Find, account: int, position: int) -> np.void | None:
        """Search all chunks; where one was joined with others meanwhile, once more, while nobody can do that."""
        try:
            return find(self._chunks, account, position)
        except IntegrityFailure:
            with self._lock:
                return find(self._chunks, account, position)

    def _newest(self, kept: Sequence[Chunk], account: int, position: int) -> np.void | None:
        for chunk in reversed(kept):
            page_count = chunk.count_up_to(account, position) if chunk.first_position <= position else 0
            if page_count:
                rows = self._page(chunk, page_count - 1)
                found: np.void = rows[_count_up_to(rows, account, position) - 1]
                if found["account"] == account:
                    return found
        return None

    def _oldest(self, kept: Sequence[Chunk], account: int, position: int) -> np.void | None:
        for chunk in kept:
            found = self._following(chunk, account, position) if chunk.last_position > position else None
            if found is not None and found["account"] == account:
                return found
        return None

    def _following(self, chunk: Chunk, account: int, position: int) -> np.void | None:
        """Give the first point of a chunk that is beyond an account's position, of whatever account it is."""
        page = chunk.count_up_to(account, position)
        if page:
            rows = self._page(chunk, page - 1)
            place = _count_up_to(rows, account, position)
            if place < len(rows):
                found: np.void = rows[place]
                return found
        if page == chunk.page_count or chunk.accounts[page] != account:
            return None
        first: np.void = self._page(chunk, page)[0]
        return first

    def _page(self, chunk: Chunk, page: int) -> Array:
        """Read a page of a chunk."""
        found = self._database.ask(_PAGE, chunk=chunk.number, page=page)
        if not found:
            raise chunks.corrupt(chunk.number)
        return chunks.read_page(chunk.number, page, *found[0])

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _checksum(height: int, block_hash: bytes, kept: Sequence[Chunk]) -> int:
    """Give the CRC-32 of the state: no chunk can be missing, or be there once more, without being noticed."""
    numbers = struct.pack(f"<Q{len(kept)}I", height, *(chunk.checksum for chunk in kept))
    return zlib.crc32(numbers, zlib.crc32(block_hash))


def _count_up_to(rows: Array, account: int, position: int) -> int:
    return chunks.count_up_to(rows["account"], rows["position"].view("<i8"), account, position)


def _read(connection: Connection, chunk: Chunk) -> Array:
    """Read all points of a chunk.

    Raises:
        IntegrityFailure: they are not what was written.
    """
    found = connection.execute(_PAGES, {"chunk": chunk.number}).all()
    if [row.page for row in found] != list(range(chunk.page_count)):
        raise chunks.corrupt(chunk.number)
    return np.concatenate([chunks.read_page(chunk.number, *row) for row in found])


def _write(connection: Connection, chunk: Chunk, rows: Array) -> None:
    """Write a chunk and its pages."""
    row = {
        "chunk": chunk.number,
        "first_position": chunk.first_position,
        "last_position": chunk.last_position,
        "count": chunk.count,
        "directory": chunk.directory(),
        "checksum": chunk.checksum,
    }
    connection.execute(insert(points_chunks), row)
    written = (
        {"chunk": chunk.number, "page": page, "data": data, "checksum": chunks.page_checksum(chunk.number, page, data)}
        for page, data in enumerate(chunks.pages(rows))
    )
    while some := list(islice(written, WRITTEN_COUNT)):
        connection.execute(insert(points_pages), some)
