"""Databases for projections: what their failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select

from ledger.errors import IntegrityFailure, Unavailable
from ledger.store import postgresql, sqlite
from ledger.store.questions import Question
from ledger.store.side import SideDatabase
from tests.store_places import PostgresqlPlace

ONE = Question(select(Table("numbers", MetaData(), Column("x", Integer)).c.x))


@pytest.fixture(params=["sqlite", "postgresql"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> SideDatabase:
    """Give a database for projections on each kind."""
    if request.param == "sqlite":
        return sqlite.side_database(tmp_path / "side.db")
    return postgresql.side_database(PostgresqlPlace(request.getfixturevalue("postgresql_server")).url)


def test_questions_are_answered_either_way(side: SideDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that the short way does not answer is asked the long way; one that neither does is damage."""
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        side.ask(ONE)
    with side.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (x integer)")
        connection.exec_driver_sql("INSERT INTO numbers VALUES (7)")
    assert side.ask(ONE) == [(7,)]
    monkeypatch.setattr(Question, "ask", lambda *_, **__: None)
    assert side.ask(ONE) == [(7,)]
    side.close()


def test_what_fails_is_not_written(side: SideDatabase) -> None:
    """A transaction that ends with a failure has written nothing."""
    with side.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (x integer)")

    def write() -> None:
        with side.writing() as connection:
            connection.exec_driver_sql("INSERT INTO numbers VALUES (7)")
            connection.exec_driver_sql("INSERT INTO nothing VALUES (7)")

    with pytest.raises(IntegrityFailure):
        write()
    assert side.ask(ONE) == []
    side.close()


def test_readers_wait_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all connections are taken for too long, whoever asks is told to come again."""
    monkeypatch.setattr(sqlite, "READER_COUNT_MAX", 1)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    side = sqlite.side_database(tmp_path / "side.db")
    with side.engine.connect(), pytest.raises(Unavailable, match="STORE_BUSY"):
        side.ask(ONE)
    side.close()
