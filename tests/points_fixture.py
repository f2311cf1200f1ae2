"""Balance points to put away, the place where they then are, and what every look-up has to give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ledger.pointlog import PointLog
from ledger.points import POINT
from ledger.registry import Array
from ledger.store import PointTable, open_points
from tests.store_places import Database, Row, SqlitePlace

GENESIS = bytes(range(32))
ACCOUNTS = 5
SEED = 20_260_110


def hash_of(height: int) -> bytes:
    """Name a block."""
    return height.to_bytes(32)


def blocks_of(count: int) -> list[Array]:
    """Give the points of some blocks of ten positions each, some blocks without any, some positions twice."""
    draw = np.random.default_rng(SEED)
    blocks = []
    for height in range(1, count + 1):
        rows = np.zeros(int(draw.integers(0, 6)), POINT)
        rows["account"] = draw.integers(1, ACCOUNTS + 1, len(rows))
        rows["position"] = np.sort(draw.integers(10 * height, 10 * height + 5, len(rows)))
        for name in ("last", "debits_pending", "debits_posted", "credits_pending", "credits_posted"):
            rows[name] = draw.integers(0, 2**62, len(rows))
        blocks.append(rows)
    return blocks


def table_of(database: Database, genesis_hash: bytes = GENESIS) -> PointTable:
    """Open the table beside a store's place."""
    return open_points(database.address, genesis_hash=genesis_hash)


def check(log: PointLog | PointTable, blocks: list[Array]) -> None:
    """Hold every look-up against a list of all points."""
    rows = np.concatenate([np.empty(0, POINT), *blocks])
    for account in range(1, ACCOUNTS + 2):
        own = {int(row["position"]): row for row in rows[rows["account"] == account]}
        for position in (0, *range(5, 10 * len(blocks) + 20), 2**63 - 1):
            before = max((place for place in own if place <= position), default=None)
            after = min((place for place in own if place > position), default=None)
            assert log.at_or_before(account, position) == (None if before is None else own[before])
            assert log.after(account, position) == (None if after is None else own[after])


def run_beside(database: Database, statement: str, values: Sequence[object] = ()) -> list[Row]:
    """Run a statement where the points are: beside a file, or in its schema."""
    place = SqlitePlace(beside(database)) if isinstance(database, SqlitePlace) else database
    return place.run(statement, values)


def beside(database: SqlitePlace) -> Path:
    """Name the file of the points."""
    return database.path.with_name(database.path.name + ".points")
