"""The projected tables, for every database alike. ``docs/stores.md`` explains each column to whoever writes SQL."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, String, Table, Text

__all__ = [
    "ACCOUNTS",
    "BALANCES",
    "FORMER_COLUMNS",
    "LAYOUT",
    "MESSAGES",
    "METADATA",
    "PROJECTED",
    "TRANSFERS",
    "WATERMARKS",
]

LAYOUT = 2
"""The layout of these tables; one with another is made anew."""

METADATA = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")

WATERMARKS = Table(
    "watermarks",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("layout", Integer, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("position_count", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("row_count", BigInteger, nullable=False),
)
"""A row a table: it has taken in all blocks up to ``height``, which has this hash, and no other."""

ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("address", String(14), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("asset", String(12), nullable=False),
    Column("code", String(16), nullable=False),
    Column("is_credit_normal", Boolean, nullable=False),
    Column("is_closed", Boolean, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("minimum", BigInteger),
    Column("maximum", BigInteger),
    Column("class", Integer, nullable=False),
)

BALANCES = Table(
    "balances",
    METADATA,
    Column("account", _Number, primary_key=True, autoincrement=False),
    Column("debits_pending", BigInteger, nullable=False),
    Column("debits_posted", BigInteger, nullable=False),
    Column("credits_pending", BigInteger, nullable=False),
    Column("credits_posted", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("position", _Number, primary_key=True, autoincrement=False),
    Column("height", BigInteger, nullable=False, index=True),
    Column("timestamp_ns", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("topic", Text, nullable=False),
    Column("party", String(64), nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("item_count", Integer, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("refused_count", Integer, nullable=False),
    Column("body_size", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("base", Text, nullable=False),
    Column("signature", String(128), nullable=False),
)

TRANSFERS = Table(
    "transfers",
    METADATA,
    Column("position", _Number, primary_key=True, autoincrement=False),
    Column("height", BigInteger, nullable=False),
    Column("message", BigInteger, index=True),
    Column("item", BigInteger, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("code", String(16), nullable=False),
    Column("party", String(64), nullable=False),
    Column("id", String(36), nullable=False, index=True),
    Column("related", String(36)),
    Column("uetr", String(36), index=True),
    Column("debit", BigInteger, nullable=False, index=True),
    Column("credit", BigInteger, nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("minimum", BigInteger, nullable=False),
    Column("timeout_s", BigInteger, nullable=False),
    Column("window_number", BigInteger),
    Column("flags", Integer, nullable=False),
    Column("result", String(24), nullable=False),
    Column("value_date", String(10)),
)

FORMER_COLUMNS = {"transfers": [column.name for column in TRANSFERS.columns if column.name != "uetr"]}
"""What a table had in layout 1: one that nobody asked for has no watermark by which it could be told from another's."""

PROJECTED: dict[str, Table] = {table.name: table for table in (ACCOUNTS, BALANCES, MESSAGES, TRANSFERS)}
"""By name, in the order in which they are brought up to date."""
