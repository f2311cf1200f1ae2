"""Databases beside a journal: for projections, which follow from it, may be lost, and are then made again.

A file has its own beside it, so that whoever fills a projection never holds up a commit; a server keeps them in the
journal's schema. Nothing here is synced with a block: each projection says itself up to which block it is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ledger.errors import Unavailable
from ledger.store.questions import Question

__all__ = ["SideDatabase"]


@dataclass(frozen=True, slots=True)
class SideDatabase:
    """One such database; ``failure`` says what one of its failures means, ``clear`` removes all that is in it."""

    engine: Engine
    failure: Callable[[DBAPIError], Exception]
    clear: Callable[[], None]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin a transaction; leaving commits it, an exception rolls it back.

        Raises:
            Unavailable, IntegrityFailure: what a failure of the database means.
        """
        with self._translating(), self.engine.begin() as connection:
            yield connection

    def ask(self, question: Question, **values: int) -> list[Any]:
        """Give a question's rows.

        Raises:
            Unavailable, IntegrityFailure: what a failure of the database means.
        """
        with self._translating():
            rows = question.ask(self.engine, **values)
            if rows is None:
                with self.engine.begin() as connection:
                    rows = [tuple(row) for row in connection.execute(question.query, values)]
        return rows

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self.failure(error) from error
        except PoolTimeoutError as error:
            raise Unavailable("STORE_BUSY", "All connections are taken.", retry_after_s=1) from error
