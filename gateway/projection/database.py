"""The projected tables in a database, each with its watermark: never ahead of or behind what that says.

On PostgreSQL they lie in the schema of the journal. A SQLite file has one writer at a time, which in ``journal.db`` is
the ledger and must never wait for reports; there they lie in a file of their own beside it. Nothing here is synced:
what a power loss takes is made again.

A table whose watermark is missing, of another layout, ahead of the journal, of another journal, or contradicted by the
number of rows is emptied and made anew; a file that cannot be read is removed first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from gateway.projection import tables
from gateway.projection.rows import Money, Row, account_rows, balance_rows, message_rows, transfer_rows
from ledger.errors import Conflict, Unavailable
from ledger.journal import EncodedBlock, Header, block_hash, decode_header
from ledger.parties import Directory
from ledger.registry import Array
from ledger.store import Store

__all__ = [
    "ROW_COUNT_MAX",
    "Projection",
    "Watermark",
    "insert_rows",
    "mark",
    "new_file_engine",
    "projection_file",
]

ROW_COUNT_MAX = 5_000
"""Rows after which a transaction of messages or transfers ends, with the block that it is at."""
BUSY_TIMEOUT_S = 30
"""How long a writer of the projection waits for another one."""
_MAKERS: Mapping[str, Callable[[EncodedBlock, Header, Directory], Iterator[Row]]] = {
    "messages": message_rows,
    "transfers": transfer_rows,
}
_START: Mapping[str, Any] = {"height": 0, "position_count": 0, "block_hash": bytes(32), "row_count": 0}
_MONEY = {"accounts": (account_rows, "number"), "balances": (balance_rows, "account")}


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far one table has come."""

    height: int
    row_count: int


def projection_file(journal: Path) -> Path:
    """Name the file that lies beside a journal's."""
    return journal.with_name(f"{journal.stem}-projection.db")


class Projection:
    """The projected tables of one ledger. One thread at a time; two processes may both bring them up to date."""

    def __init__(self, engine: Engine, file: Path | None = None) -> None:
        """Use ``open``."""
        self._engine = engine
        self._file = file
        self._before: Money | None = None
        """What the tables of accounts and balances were made from, if it was by this object."""

    @classmethod
    def open(cls, database: str, folder: Path) -> Projection:
        """Open what lies beside a journal, by the settings of its node; nothing is read or made yet.

        Raises:
            Unavailable: ``STORE_DRIVER``, PostgreSQL needs the extra.
        """
        scheme, separator, rest = database.partition("://")
        if separator and scheme != "sqlite":
            return cls(_server_engine(database))
        file = projection_file(folder / (rest[1:] if separator else database))
        return cls(_file_engine(file), file)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def check(self, store: Store) -> list[str]:
        """Make what is missing, and empty what is torn or not of this journal; gives the names of those tables.

        Raises:
            Conflict: ``PROJECTION_FOREIGN``, a table of one of these names is somebody else's.
            Unavailable: ``PROJECTION_FAILED``.
        """
        if self._file is not None and not _is_readable(self._file):
            self._engine.dispose()
            for suffix in ("", "-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        with self._transaction() as connection:
            if not _check_own(connection):
                tables.METADATA.drop_all(connection)
                tables.METADATA.create_all(connection)
            return [name for name in tables.PROJECTED if not self._is_sound(connection, store, name)]

    def forget(self) -> None:
        """Empty everything, so that it is made anew; transfers are then kept no longer.

        Raises:
            Conflict, Unavailable: as for ``check``.
        """
        with self._transaction() as connection:
            _check_own(connection)
            tables.METADATA.drop_all(connection)

    def watermarks(self) -> dict[str, Watermark]:
        """Say how far each table has come; one that is not kept is not there.

        Raises:
            Unavailable: ``PROJECTION_FAILED``.
        """
        with self._transaction() as connection:
            rows = connection.execute(select(tables.WATERMARKS).order_by(tables.WATERMARKS.c.name)).mappings().all()
        return {row["name"]: Watermark(row["height"], row["row_count"]) for row in rows}

    def update(
        self, store: Store, money: Money, *, with_transfers: bool = False, is_ending: Callable[[], bool] | None = None
    ) -> None:
        """Bring the tables up to the block after which ``money`` was taken.

        Args:
            store: the journal.
            money: of its machine.
            with_transfers: begin to keep transfers; once begun, they are kept up to date by every update.
            is_ending: asked between two transactions; ``True`` leaves the rest to the next update.

        Raises:
            Unavailable: ``PROJECTION_FAILED``.
        """
        self._update_money(money)
        for name in _MAKERS:
            if name == "messages" or with_transfers or name in self.watermarks():
                while self._take_in(name, store, money) and not (is_ending is not None and is_ending()):
                    pass

    # --- accounts and balances ----------------------------------------------------------------------------------------

    def _update_money(self, money: Money) -> None:
        """Write both tables of accounts whole, or what has changed since this object has written them."""
        with self._transaction() as connection:
            before = self._before
            for name, (make, key) in _MONEY.items():
                table, height = tables.PROJECTED[name], _height(connection, name)
                if height is not None and height >= money.height > 0:
                    continue  # another process has been here
                if before is not None and height == before.height:
                    numbers = _changed(before, money)
                    column = table.c[key]
                    for first in range(0, len(numbers), ROW_COUNT_MAX):
                        part = numbers[first : first + ROW_COUNT_MAX].tolist()
                        connection.execute(delete(table).where(column.in_(part)))
                else:
                    numbers = np.arange(1, len(money.accounts) + 1)
                    connection.execute(delete(table))
                insert_rows(connection, table, make(money, numbers))
                mark(
                    connection,
                    name,
                    height=money.height,
                    position_count=money.position_count,
                    block_hash=money.block_hash,
                    row_count=len(money.accounts),
                )
        self._before = money

    # --- messages and transfers ---------------------------------------------------------------------------------------

    def _take_in(self, name: str, store: Store, money: Money) -> bool:
        """Take in some blocks, in one transaction with their watermark; says whether there are more."""
        table, count = tables.PROJECTED[name], 0
        with self._transaction() as connection:
            if _height(connection, name) is None:
                mark(connection, name, **_START)
            height, total = _height(connection, name) or 0, _row_count(connection, name)
            for block in store.blocks(height + 1) if height < money.height else ():
                header = decode_header(block.header)
                count += insert_rows(connection, table, _MAKERS[name](block, header, money.directory))
                height, end = header.height, header.first_position + header.position_count
                if count >= ROW_COUNT_MAX or height == money.height:
                    digest = block_hash(block.header)
                    mark(
                        connection, name, height=height, position_count=end, block_hash=digest, row_count=total + count
                    )
                    break
        return height < money.height

    # --- what holds ---------------------------------------------------------------------------------------------------

    def _is_sound(self, connection: Connection, store: Store, name: str) -> bool:
        """Say whether a table is what its watermark says; if it is not, empty it. One that is not kept is sound."""
        table = tables.PROJECTED[name]
        row = connection.execute(select(tables.WATERMARKS).where(tables.WATERMARKS.c.name == name)).mappings().first()
        if row is not None and _has_columns(connection, table) and _fits(store, row):
            count: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
            if count == row["row_count"]:
                return True
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(delete(tables.WATERMARKS).where(tables.WATERMARKS.c.name == name))
        if name == "transfers":
            if row is None:
                return True
            mark(connection, name, **_START)
        return False

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction, in which no other process writes these tables."""
        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(
                        "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.projection'))"
                    )
                yield connection
        except DBAPIError as error:
            self._before = None
            raise Unavailable(
                "PROJECTION_FAILED", f"The projection cannot be used: {error.orig}", retry_after_s=1
            ) from error


def _height(connection: Connection, name: str) -> int | None:
    query = select(tables.WATERMARKS.c.height).where(tables.WATERMARKS.c.name == name)
    return connection.execute(query).scalar_one_or_none()


def _row_count(connection: Connection, name: str) -> int:
    query = select(tables.WATERMARKS.c.row_count).where(tables.WATERMARKS.c.name == name)
    return int(connection.execute(query).scalar_one())


def mark(connection: Connection, name: str, **values: Any) -> None:
    """Move a table's watermark."""
    values["layout"] = tables.LAYOUT
    moved = connection.execute(update(tables.WATERMARKS).where(tables.WATERMARKS.c.name == name).values(values))
    if not moved.rowcount:
        connection.execute(insert(tables.WATERMARKS).values(name=name, **values))


def insert_rows(connection: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Insert rows, some thousand at a time; gives how many."""
    count = 0
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROW_COUNT_MAX:
            connection.execute(insert(table), chunk)
            count, chunk = count + len(chunk), []
    if chunk:
        connection.execute(insert(table), chunk)
    return count + len(chunk)


def _changed(before: Money, money: Money) -> Array:
    """Give the numbers of the accounts that are new or not as they were."""
    known = len(before.accounts)
    same = before.accounts == money.accounts[:known]
    same &= (before.maximums == money.maximums[:known]) & (before.classes == money.classes[:known])
    return np.concatenate((np.flatnonzero(~same), np.arange(known, len(money.accounts)))) + 1


def _fits(store: Store, row: RowMapping) -> bool:
    """Say whether a watermark is of this layout and of this journal."""
    height = row["height"]
    if row["layout"] != tables.LAYOUT or height > store.last_height():
        return False
    return height == 0 or block_hash(store.header(height)) == bytes(row["block_hash"])


def _check_own(connection: Connection) -> bool:
    """Let pass only tables that are ours: by a watermark, or by their columns; says whether there are watermarks.

    Raises:
        Conflict: ``PROJECTION_FOREIGN``.
    """
    has_marks = _has_columns(connection, tables.WATERMARKS)
    marked = set(connection.execute(select(tables.WATERMARKS.c.name)).scalars()) if has_marks else set()
    inspector = inspect(connection)
    for table in tables.METADATA.tables.values():
        is_there = inspector.has_table(table.name)
        if is_there and table.name not in marked and not _is_ours(connection, table):
            sentence = "A table of this name is there already, and is none of the projection's."
            raise Conflict("PROJECTION_FOREIGN", sentence, table=table.name)
    return has_marks


def _is_ours(connection: Connection, table: Table) -> bool:
    """Say whether a table that is there has the columns of this layout, or of the one before."""
    names = [column["name"] for column in inspect(connection).get_columns(table.name)]
    return names in ([column.name for column in table.columns], tables.FORMER_COLUMNS.get(table.name))


def _has_columns(connection: Connection, table: Table) -> bool:
    """Say whether a table is there with its columns."""
    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return False
    return [column["name"] for column in inspector.get_columns(table.name)] == [column.name for column in table.columns]


def _is_readable(file: Path) -> bool:
    """Say whether a file is a sound SQLite database, or not there yet."""
    if not file.exists():
        return True
    try:
        connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)
        try:
            return bool(connection.execute("PRAGMA quick_check").fetchall() == [("ok",)])
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise Unavailable(
                "PROJECTION_FAILED", f"The projection cannot be used: {error}", retry_after_s=1
            ) from error
        return False


def new_file_engine(file: Path) -> Engine:
    """Open a file that is thrown away unless all of it succeeds: nothing of it can be taken back."""
    return _file_engine(file, ("journal_mode=OFF", "synchronous=OFF"))


def _file_engine(file: Path, pragmas: Sequence[str] = ("journal_mode=WAL", "synchronous=NORMAL")) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _server_engine(url: str) -> Engine:
    try:
        return create_engine(make_url(url), poolclass=NullPool, connect_args={"application_name": "hugang projection"})
    except ModuleNotFoundError as error:
        sentence = "PostgreSQL needs the extra: pip install 'hugang[postgres]'."
        raise Unavailable("STORE_DRIVER", sentence, retry_after_s=60) from error
