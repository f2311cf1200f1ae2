"""The tables, for every database alike: no type and no option that only one of them knows.

``meta`` has one row. Its ``epoch`` counts the writers that have opened the store; each append checks in its own
transaction that nobody has opened it since. ``bodies`` has a block's body in parts, each compressed by itself.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

__all__ = ["FORMAT", "METADATA", "META_ID", "blocks", "bodies", "meta"]

FORMAT = 1
"""The layout of these tables; a store with another one is refused."""
META_ID = 1

METADATA = MetaData()
_Height = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("ledger", String(2), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("genesis", LargeBinary, nullable=False),
)

blocks = Table(
    "blocks",
    METADATA,
    Column("height", _Height, primary_key=True, autoincrement=False),
    Column("first_position", BigInteger, nullable=False, unique=True),
    Column("position_count", BigInteger, nullable=False),
    Column("timestamp_ns", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)

bodies = Table(
    "bodies",
    METADATA,
    Column("height", _Height, ForeignKey(blocks.c.height), primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)
