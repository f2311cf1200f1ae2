"""Reading statements that are asked again and again: written out once, and handed to the driver as they are.

Of a read of one row, SQLAlchemy's expressions cost twenty times what the database needs. A ``Question`` keeps the
expression for the one case in which it matters, a failure: asked the long way, it says what the failure means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Engine, Select, bindparam, select

from ledger.store import tables

__all__ = ["BLOCK", "PART", "PLACES", "Question"]

_DAMAGE = (ValueError, TypeError, OverflowError, MemoryError)
"""What a driver may raise over a cell that holds what it should not."""


class _Written(NamedTuple):
    """A statement's text, the order of its values if they have no names there, and those that it says itself."""

    text: str
    order: Sequence[str] | None
    fixed: dict[str, Any]


class Question:
    """One reading statement with named values."""

    def __init__(self, query: Select[Any]) -> None:
        """Ask ``query``."""
        self.query = query
        self._written: dict[str, _Written] = {}

    def ask(self, engine: Engine, **values: int) -> list[Any] | None:
        """Give the rows, as the driver has them, in a transaction of its own; ``None`` when it has failed."""
        text, order, fixed = self._for(engine.dialect)
        given = fixed | values
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(text, given if order is None else tuple(given[name] for name in order))
            return list(cursor.fetchall())
        except (engine.dialect.loaded_dbapi.Error, *_DAMAGE):
            connection.invalidate()
            return None
        finally:
            connection.close()

    def _for(self, dialect: Dialect) -> _Written:
        """Write the statement in a database's own words, once."""
        written = self._written.get(dialect.name)
        if written is None:
            compiled: Any = self.query.compile(dialect=dialect)
            written = _Written(str(compiled), compiled.positiontup, compiled.params)
            self._written[dialect.name] = written
        return written


_blocks, _bodies = tables.blocks.c, tables.bodies.c

BLOCK = Question(select(tables.blocks).where(_blocks.height == bindparam("height")))
"""A block's row."""
PART = Question(select(_bodies.bytes).where(_bodies.height == bindparam("height"), _bodies.part == bindparam("part")))
"""A stored part of a body."""
PLACES = Question(
    select(_blocks.height, _blocks.first_position, _blocks.position_count)
    .where(_blocks.height.between(bindparam("first"), bindparam("last")))
    .order_by(_blocks.height)
)
"""Where some blocks lie."""
