"""Durable storage of one journal: blocks in, blocks out, nothing else.

A store holds the genesis and the chain of blocks. It knows nothing of what they mean; it only promises that an appended
block is there after a crash or a power loss (I7), that there is one writer, and that it never continues after a failed
commit. Whatever else a node needs is a fold over what ``blocks`` gives.
"""

from __future__ import annotations

from ledger.store.base import Store
from ledger.store.memory import MemoryStore
from ledger.store.parts import PART_SIZE
from ledger.store.places import create_store, open_points, open_store, open_store_reader
from ledger.store.points import PointTable
from ledger.store.postgresql import PostgresqlStore
from ledger.store.sqlite import SqliteStore

__all__ = [
    "PART_SIZE",
    "MemoryStore",
    "PointTable",
    "PostgresqlStore",
    "SqliteStore",
    "Store",
    "create_store",
    "open_points",
    "open_store",
    "open_store_reader",
]
