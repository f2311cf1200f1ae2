"""The table of balance points: one projection, for every database alike.

``points`` has a row for each point, ``points_state`` one row: the height and the hash of the block up to which all
points are there. Both change in one transaction. Each row has a CRC-32 over the point's bytes, since nothing else
vouches for it: a row that was changed is not taken for a balance.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, bindparam, insert, select, update

from ledger.errors import IntegrityFailure, Unavailable
from ledger.points import POINT
from ledger.registry import Array
from ledger.store.questions import Question
from ledger.store.side import SideDatabase

__all__ = ["METADATA", "PointTable", "points", "points_state"]

FORMAT = 1
STATE_ID = 1

METADATA = MetaData()
_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
_COLUMNS = ("account", "position", "last", *_COUNTERS)

points_state = Table(
    "points_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("genesis_hash", LargeBinary(32), nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
)

points = Table(
    "points",
    METADATA,
    Column("account", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _COUNTERS),
    Column("checksum", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

_of_account = select(points).where(points.c.account == bindparam("account")).limit(1)
_BEFORE = Question(
    _of_account.where(points.c.position <= bindparam("position")).order_by(points.c.position.desc()),
)
_AFTER = Question(_of_account.where(points.c.position > bindparam("position")).order_by(points.c.position))


class PointTable:
    """All points up to a height. Any thread may read; one at a time writes."""

    def __init__(self, database: SideDatabase, *, genesis_hash: bytes) -> None:
        """Use ``open``."""
        self._database = database
        self._genesis_hash = genesis_hash
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
            with contextlib.suppress(IntegrityFailure):
                if table._read_state():
                    return table
            table.begin_anew()
        except BaseException:
            table.close()
            raise
        return table

    def begin_anew(self) -> None:
        """Forget everything."""
        self._database.clear()
        row = {
            "id": STATE_ID,
            "format": FORMAT,
            "genesis_hash": self._genesis_hash,
            "height": 0,
            "block_hash": self._genesis_hash,
        }
        with self._database.writing() as connection:
            METADATA.create_all(connection)
            connection.execute(insert(points_state), row)
        self.height, self.block_hash = 0, self._genesis_hash

    def _read_state(self) -> bool:
        """Read where the table stands; ``False`` if it is not ours."""
        with self._database.writing() as connection:
            METADATA.create_all(connection)
            rows = connection.execute(select(points_state)).all()
        if len(rows) != 1 or (rows[0].format, bytes(rows[0].genesis_hash)) != (FORMAT, self._genesis_hash):
            return False
        self.height, self.block_hash = rows[0].height, bytes(rows[0].block_hash)
        return True

    def put(self, height: int, block_hash: bytes, rows: Array) -> None:
        """Add the points of all blocks after ``self.height`` up to ``height``, and say so, in one transaction.

        Raises:
            Unavailable: ``LEDGER_LOCKED``, somebody else has written to the table; or the database failed.
            IntegrityFailure: the database is damaged.
        """
        with self._database.writing() as connection:
            state = points_state.c
            moved = update(points_state).where(state.height == self.height, state.block_hash == self.block_hash)
            if connection.execute(moved.values(height=height, block_hash=block_hash)).rowcount != 1:
                raise Unavailable("LEDGER_LOCKED", "Another process writes the balance points.", retry_after_s=1)
            if len(rows):
                connection.execute(insert(points), _values(rows))
        self.height, self.block_hash = height, block_hash

    def at_or_before(self, account: int, position: int) -> np.void | None:
        """Give the newest point at or before a position; see ``asof.PointLookup``."""
        return self._one(_BEFORE, account, position)

    def after(self, account: int, position: int) -> np.void | None:
        """Give the oldest point after a position; see ``asof.PointLookup``."""
        return self._one(_AFTER, account, position)

    def _one(self, question: Question, account: int, position: int) -> np.void | None:
        rows = self._database.ask(question, account=account, position=position)
        return _point(rows[0], account) if rows else None

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _values(rows: Array) -> list[dict[str, int]]:
    """Give rows of the table; of several points with one account and position, the last counts."""
    numbers = zip(*(rows[name].tolist() for name in _COLUMNS), _checksums(rows), strict=True)
    found = {row[:2]: dict(zip((*_COLUMNS, "checksum"), row, strict=True)) for row in numbers}
    return list(found.values())


def _checksums(rows: Array) -> list[int]:
    data, size = memoryview(np.ascontiguousarray(rows).tobytes()), POINT.itemsize
    return [zlib.crc32(data[start : start + size]) for start in range(0, len(data), size)]


def _point(row: Sequence[Any], account: int) -> np.void:
    """Read a row.

    Raises:
        IntegrityFailure: it is not what was written.
    """
    table = np.zeros(1, POINT)
    try:
        for name, value in zip(_COLUMNS, row, strict=False):
            table[name] = value
    except (ValueError, TypeError, OverflowError) as error:
        raise _corrupt(account) from error
    if table["account"][0] != account or [row[-1]] != _checksums(table):
        raise _corrupt(account)
    point: np.void = table[0]
    return point


def _corrupt(account: int) -> IntegrityFailure:
    return IntegrityFailure("POINTS_CORRUPT", "A stored balance point is not what was written there.", account=account)
