"""Which store a place names: the URL of a PostgreSQL database, or a file.

::

    journal.db                                       a SQLite file
    sqlite:///journal.db                             the same file
    postgresql+psycopg://hugang@127.0.0.1/shanghai   a PostgreSQL database

The name of a file may be relative to a folder. Whoever opens a store this way sees a ``Store`` and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from ledger.errors import MalformedInput, NotFound
from ledger.runtime import Runtime
from ledger.store import postgresql, sqlite
from ledger.store.base import Store
from ledger.store.points import PointTable
from ledger.store.postgresql import SCHEME, PostgresqlStore
from ledger.store.sqlite import SqliteStore

__all__ = ["create_store", "open_points", "open_store", "open_store_reader"]

FILE_SCHEME = "sqlite"
POINTS_SUFFIX = ".points"
"""What a file of balance points is called after the journal's name."""


def open_store(
    place: str | Path, *, runtime: Runtime, folder: Path | None = None, genesis: bytes | None = None
) -> Store:
    """Open a store for writing.

    Args:
        place: a URL or the name of a file.
        runtime: passed the store's crossings.
        folder: where the names of files begin; by default the working directory.
        genesis: when given, a store that is not there yet is made with it, and one that began with another is refused.

    Raises:
        NotFound: there is no store at this place, and no genesis to make one with.
        MalformedInput: ``STORE_URL``, a place of no known kind; ``STORE_FORMAT``, a layout this version does not know;
            ``GENESIS_MISMATCH``, the store began with another genesis.
        Unavailable: ``LEDGER_LOCKED``, another process writes; a code of ``docs/stores.md``, the database does not do.
        IntegrityFailure: the store cannot be read.
    """
    try:
        store = _open(place, runtime=runtime, folder=folder)
    except NotFound as error:
        if genesis is None or error.code != "STORE_NOT_FOUND":
            raise
        return create_store(place, genesis, runtime=runtime, folder=folder)
    if genesis is not None and store.genesis() != genesis:
        store.close()
        raise MalformedInput("GENESIS_MISMATCH", "The journal began with another genesis.")
    return store


def create_store(place: str | Path, genesis: bytes, *, runtime: Runtime, folder: Path | None = None) -> Store:
    """Make a store with this genesis and open it for writing.

    Raises:
        Conflict: there is one already.
        MalformedInput, Unavailable: as for ``open_store``; or this is not a genesis.
    """
    target = _target(place, folder)
    if isinstance(target, str):
        return PostgresqlStore.create(target, genesis, runtime=runtime)
    return SqliteStore.create(target, genesis, runtime=runtime)


def open_store_reader(place: str | Path, *, runtime: Runtime, folder: Path | None = None) -> Store:
    """Open a store beside its writer, for reading only; ``append`` is refused.

    Raises:
        NotFound, MalformedInput, Unavailable, IntegrityFailure: as for ``open_store``.
    """
    target = _target(place, folder)
    if isinstance(target, str):
        return PostgresqlStore.open_reader(target, runtime=runtime)
    return SqliteStore.open_reader(target, runtime=runtime)


def open_points(place: str | Path, *, genesis_hash: bytes, folder: Path | None = None) -> PointTable:
    """Open the table of balance points of the ledger whose store is at a place: beside its file, or in its schema.

    Args:
        place: as for ``open_store``.
        genesis_hash: whose points they are; a table of another ledger begins anew.
        folder: where the names of files begin.

    Raises:
        MalformedInput, Unavailable: as for ``open_store``.
    """
    target = _target(place, folder)
    if isinstance(target, str):
        return PointTable.open(postgresql.side_database(target), genesis_hash=genesis_hash)
    return PointTable.open(
        sqlite.side_database(target.with_name(target.name + POINTS_SUFFIX)), genesis_hash=genesis_hash
    )


def _open(place: str | Path, *, runtime: Runtime, folder: Path | None) -> Store:
    target = _target(place, folder)
    if isinstance(target, str):
        return PostgresqlStore.open(target, runtime=runtime)
    return SqliteStore.open(target, runtime=runtime)


def _target(place: str | Path, folder: Path | None) -> str | Path:
    """Tell the two kinds apart: text for a URL of a server, a path for a file."""
    scheme, separator, rest = str(place).partition("://")
    if isinstance(place, str) and separator:
        if scheme == SCHEME:
            return place
        if scheme != FILE_SCHEME or not rest.startswith("/") or "?" in rest:
            raise MalformedInput("STORE_URL", f"A store is a file, {FILE_SCHEME}:///FILE or {SCHEME}://HOST/DATABASE.")
        place = rest[1:]
    if not str(place):
        raise MalformedInput("STORE_URL", "The store's place is empty.")
    return Path(place) if folder is None else folder.joinpath(place)
