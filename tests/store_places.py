"""The stores on a database behind one face, so that a test says once what both of them must do.

A *place* is where a store lies. It outlives the store: opening it again is what the next process does. ``run`` reaches
behind the store's back, as a broken disk or a careless hand would.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ledger.runtime import Runtime
from ledger.store import PostgresqlStore, SqliteStore, Store
from ledger.store.sql import SqlStore
from tests.ledger_fixture import GENESIS_BYTES, make_runtime
from tests.postgresql_server import PostgresqlServer

Row = tuple[Any, ...]

SETTLE_S_MAX = 30


class Database(Protocol):
    """Where a store lies, with its rows in reach."""

    name: str

    @property
    def address(self) -> str:
        """What ``open_store`` is given."""

    def create(self, *, runtime: Runtime | None = None, genesis: bytes = GENESIS_BYTES) -> SqlStore:
        """Make a store, with the fixture's genesis unless told otherwise, and open it for writing."""

    def open(self, *, runtime: Runtime | None = None) -> SqlStore:
        """Open for writing."""

    def reopen(self, store: Store) -> SqlStore:
        """Close a store and open what it has left."""

    def open_reader(self) -> SqlStore:
        """Open for reading."""

    def remove(self) -> None:
        """Let nothing of a closed store be left."""

    def settle(self) -> None:
        """Wait until the lock of a writer that was killed is free."""

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement (``?`` for each value) past the store, and commit it."""


class SqlitePlace:
    """One file."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def address(self) -> str:
        """The file's name."""
        return str(self.path)

    def create(self, *, runtime: Runtime | None = None, genesis: bytes = GENESIS_BYTES) -> SqliteStore:
        """Make a store."""
        return SqliteStore.create(self.path, genesis, runtime=runtime or make_runtime())

    def open(self, *, runtime: Runtime | None = None) -> SqliteStore:
        """Open for writing."""
        return SqliteStore.open(self.path, runtime=runtime or make_runtime())

    def reopen(self, store: Store) -> SqliteStore:
        """Close a store and open what it has left."""
        store.close()
        return self.open()

    def open_reader(self) -> SqliteStore:
        """Open for reading."""
        return SqliteStore.open_reader(self.path, runtime=make_runtime())

    def remove(self) -> None:
        """Remove the file and what lies beside it."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()

    def settle(self) -> None:
        """Do nothing: the lock of a file ends with the process."""

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement on a connection of its own."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class PostgresqlPlace:
    """One schema of a private server."""

    name = "postgresql"

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        self.schema = server.new_schema()
        self.options = f"-csearch_path={self.schema}"
        self.url = server.url(options=self.options)

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def create(self, *, runtime: Runtime | None = None, genesis: bytes = GENESIS_BYTES) -> PostgresqlStore:
        """Make a store."""
        return PostgresqlStore.create(self.url, genesis, runtime=runtime or make_runtime())

    def open(self, *, runtime: Runtime | None = None) -> PostgresqlStore:
        """Open for writing."""
        return PostgresqlStore.open(self.url, runtime=runtime or make_runtime())

    def reopen(self, store: Store) -> PostgresqlStore:
        """Close a store and open what it has left."""
        store.close()
        return self.open()

    def open_reader(self) -> PostgresqlStore:
        """Open for reading."""
        return PostgresqlStore.open_reader(self.url, runtime=make_runtime())

    def remove(self) -> None:
        """Drop the schema."""
        self.server.run(f"DROP SCHEMA {self.schema} CASCADE")

    def settle(self) -> None:
        """Wait until the server has noticed that nobody is there any more."""
        deadline = time.monotonic() + SETTLE_S_MAX
        while self.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"):
            if time.monotonic() > deadline:
                raise RuntimeError("a writer still holds its lock")
            time.sleep(0.01)

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement in a session of its own."""
        return self.server.run(statement.replace("?", "%s"), values, options=self.options)
