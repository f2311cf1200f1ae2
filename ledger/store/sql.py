"""What the stores on a database do alike: the rows of a block, one writer, nothing after a failed commit.

A subclass brings the database: how a transaction of the writer begins, how one for reading does, and what its failures
mean. Statements, checks and the order in which things happen are here, so that they cannot differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.journal import Block, EncodedBlock, Header, block_hash, decode_header
from ledger.runtime import Runtime
from ledger.store import tables
from ledger.store.index import POSITION_MAX, BlockIndex
from ledger.store.parts import compress, decompress
from ledger.store.questions import BLOCK, PART, PLACES, Question

__all__ = ["SqlStore"]

HEIGHT_MAX = 2**63 - 1
PART_MAX = 2**31 - 1
"""The largest numbers that the columns hold; what is asked for beyond them is not there."""
PLACE_COUNT_MAX = 2**14
"""Blocks whose places are read in one go."""
RUN_COUNT_MAX = 64
RUN_SIZE_MAX = 2**21
"""Blocks, and bytes of their bodies, that are read in one transaction; a single larger block is read by itself."""

_Row = RowMapping | Mapping[str, Any]
"""A row of ``blocks`` by column."""


class SqlStore(ABC):
    """One ledger's journal in a database; see ``Store`` for what each method promises."""

    def __init__(self, *, runtime: Runtime) -> None:
        """Stand without a writer: ``append`` is refused until ``_take_over`` has been called."""
        self._runtime = runtime
        self._failure: str | None = "it was opened for reading"
        self._epoch = 0
        self._last_height = 0
        self._end = 0
        self._index = BlockIndex()

    # --- what a database brings ---------------------------------------------------------------------------------------

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Connection]:
        """Begin a transaction of the writer; leaving commits it, an exception rolls it back."""

    _reads: Engine
    """Connections for reading, on which each statement is a transaction of its own unless one is begun."""

    @abstractmethod
    def _translating(self) -> AbstractContextManager[None]:
        """Say what a failure of the database means for whoever reads."""

    @abstractmethod
    def _append_failure(self, error: DBAPIError, *, is_committing: bool) -> Exception:
        """Say what a failed append means; ``is_committing`` when everything but the commit was done."""

    @abstractmethod
    def _appended(self, size: int) -> None:
        """Look after the database's own log: ``size`` bytes of a body were committed."""

    def _check_writer(self, connection: Connection) -> None:
        """Stop a writer that has been replaced; ``with_for_update`` matters to databases that lock rows."""
        self._check_epoch(connection.execute(select(tables.meta.c.epoch).with_for_update()).scalar_one_or_none())

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, block: Block) -> None:
        """Make the next block durable; see ``Store.append``."""
        if self._failure is not None:
            raise Unavailable("STORE_FAILED", f"The store takes no blocks: {self._failure}.", retry_after_s=1)
        header = block.header
        if header.height != self._last_height + 1 or header.first_position != self._end:
            raise InvariantViolation(f"I5: block {header.height} does not follow block {self._last_height}")
        parts = compress(block.encoded.body, height=header.height)
        # Whatever happens from here to the end of the commit, a second attempt proves nothing: after a failed sync the
        # database may hold anything. Only opening the store again tells.
        self._failure = "a commit did not come to its end"
        is_committing = False
        try:
            with self._writing() as connection:
                self._check_writer(connection)
                _insert(connection, block, parts)
                self._runtime.crossing("store.before_commit")
                is_committing = True
        except DBAPIError as error:
            self._failure = f"a commit failed: {error.orig}"
            raise self._append_failure(error, is_committing=is_committing) from error
        self._runtime.crossing("store.after_commit")
        self._failure = None
        self._last_height = header.height
        if self._index.height == header.height - 1:
            self._index.add(header.height, header.first_position, header.position_count)
        self._end += header.position_count
        self._appended(sum(map(len, parts)))

    def _take_over(self) -> None:
        """Become the one writer: a raised epoch refuses whoever was it before."""
        with self._writing() as connection:
            connection.execute(update(tables.meta).values(epoch=tables.meta.c.epoch + 1))
            self._epoch = connection.execute(select(tables.meta.c.epoch)).scalar_one()
            columns = tables.blocks.c
            query = select(columns.height, columns.first_position + columns.position_count)
            last = connection.execute(query.order_by(columns.height.desc()).limit(1)).one_or_none()
        self._last_height, self._end = (0, 0) if last is None else (int(last[0]), int(last[1]))
        self._failure = None

    def _check_epoch(self, epoch: int | None) -> None:
        """Hold the epoch read in this transaction against our own."""
        if epoch != self._epoch:
            self._failure = "another writer has taken over"
            raise Unavailable("LEDGER_LOCKED", "Another writer has taken the ledger over.", retry_after_s=1)

    def _check_format(self) -> None:
        """Refuse a layout that another version has made, and what is no store at all."""
        try:
            with self._reading() as connection:
                formats = connection.execute(select(tables.meta.c.format)).scalars().all()
        except IntegrityFailure as error:
            raise MalformedInput("STORE_FORMAT", "This is not a ledger's store.") from error
        if list(formats) != [tables.FORMAT]:
            raise MalformedInput("STORE_FORMAT", "The store has a format this version does not know.")

    # --- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Begin one short transaction for reading, with the database's failures translated."""
        with self._translating(), self._reads.begin() as connection:
            yield connection

    def _ask(self, question: Question, **values: int) -> list[Any]:
        """Ask the short way; if that fails, the long way, which finds another connection or says what is wrong."""
        with self._translating():
            rows = question.ask(self._reads, **values)
            if rows is not None:
                return rows
            with self._reads.begin() as connection:
                return [tuple(row) for row in connection.execute(question.query, values)]

    def genesis(self) -> bytes:
        """Give the genesis document's canonical bytes."""
        with self._reading() as connection:
            return _blob(connection.execute(select(tables.meta.c.genesis)).scalar_one_or_none())

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, in short transactions, so that nothing waits for a reader."""
        height = from_height
        while height <= (last_height := self.last_height()):
            while height <= last_height:
                for block in self._run(height, last_height):
                    yield block
                    height += 1

    def block(self, height: int) -> EncodedBlock:
        """Give one block; see ``Store.block``."""
        with self._reading() as connection:
            row = _block_row(connection, height)
            parts = connection.execute(_parts_between(height, height)).all()
        return _assembled(row, [(number, data) for _, number, data in parts])

    def _run(self, first: int, last: int) -> Iterator[EncodedBlock]:
        """Give the block at ``first`` and some after it; small ones cost more to ask for than to read."""
        try:
            rows, parts = self._read_run(first, min(last, first + RUN_COUNT_MAX - 1))
        except IntegrityFailure:
            rows, parts = [], {}  # asked for one by one, they tell which of them it is
        try:
            if not rows:
                yield self.block(first)
            for row in rows:
                yield _assembled(row, parts.get(row["height"], []))
                first += 1
        except NotFound as error:
            raise IntegrityFailure("BLOCK_MISSING", "The store lacks a block.", block=first) from error
        except IntegrityFailure as error:
            raise _named(error, first) from error

    def _read_run(self, first: int, last: int) -> tuple[list[RowMapping], dict[int, list[tuple[int, object]]]]:
        """Read the rows of blocks without a gap, as many as are not too large together, and their parts."""
        query = select(tables.blocks).where(tables.blocks.c.height.between(first, last))
        rows: list[RowMapping] = []
        parts: dict[int, list[tuple[int, object]]] = {}
        size = 0
        with self._reading() as connection:
            for row in connection.execute(query.order_by(tables.blocks.c.height)).mappings().all():
                size += _checked(row, first + len(rows)).body_size
                if rows and size > RUN_SIZE_MAX:
                    break
                rows.append(row)
            for height, number, data in connection.execute(_parts_between(first, first + len(rows) - 1)).all():
                parts.setdefault(height, []).append((number, data))
        return rows, parts

    def header(self, height: int) -> bytes:
        """Give one block's header; see ``Store.header``."""
        rows = self._ask(BLOCK, height=height) if 1 <= height <= HEIGHT_MAX else []
        return _blob(_found([dict(zip(_BLOCK_COLUMNS, row, strict=True)) for row in rows], height)["header"])

    def body_part(self, height: int, part: int) -> bytes:
        """Give part ``part`` of a body; see ``Store.body_part``."""
        rows = self._ask(PART, height=height, part=part) if 1 <= height <= HEIGHT_MAX and 0 <= part <= PART_MAX else []
        if not rows:
            raise NotFound("PART_NOT_FOUND", "The block's body has no such part.", height=height, part=part)
        return decompress(_blob(rows[0][0]), height=height, part=part)

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a position; see ``Store.height_of``."""
        height = None
        if 0 <= position <= POSITION_MAX:
            height = self._index.height_of(position)
            if height is None:
                self._learn_places()
                height = self._index.height_of(position)
        if height is None:
            raise NotFound("POSITION_NOT_FOUND", "The journal has not come to this position yet.", position=position)
        return height

    def _learn_places(self) -> None:
        """Learn where the blocks lie that have been committed since, by whomever."""
        rows: list[Any] = [()]
        while rows:
            first = self._index.height + 1
            rows = self._ask(PLACES, first=first, last=first + PLACE_COUNT_MAX - 1)
            for row in rows:
                if not all(isinstance(number, int) for number in row):
                    raise IntegrityFailure("STORE_CORRUPT", "A block's place is no number.", block=first)
                self._index.add(*row)

    def last_height(self) -> int:
        """Give the height of the last block."""
        with self._reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(tables.blocks.c.height), 0))).scalar_one())


def _blob(value: object) -> bytes:
    """Give a stored byte string; a damaged file may hold something else in its place."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise IntegrityFailure("STORE_CORRUPT", "A stored byte string is none.")
    return bytes(value)


def _named(error: IntegrityFailure, height: int) -> IntegrityFailure:
    """Give a failure the block that was being read, if it does not name one."""
    return IntegrityFailure(error.code, error.sentence, block=error.block or height, position=error.position)


def _insert(connection: Connection, block: Block, parts: list[bytes]) -> None:
    """Write one block's rows."""
    header = block.header
    row = {
        "height": header.height,
        "first_position": header.first_position,
        "position_count": header.position_count,
        "timestamp_ns": header.timestamp_ns,
        "hash": block.hash,
        "header": block.encoded.header,
        "signature": block.encoded.signature,
    }
    connection.execute(insert(tables.blocks), row)
    rows = [{"height": header.height, "part": number, "bytes": part} for number, part in enumerate(parts)]
    connection.execute(insert(tables.bodies), rows)


def _parts_between(first: int, last: int) -> Select[int, int, object]:
    """Ask for the parts of some blocks in order: height, number, bytes."""
    columns = tables.bodies.c
    query = select(columns.height, columns.part, columns.bytes).where(columns.height.between(first, last))
    return query.order_by(columns.height, columns.part)


def _assembled(row: _Row, parts: Sequence[tuple[int, object]]) -> EncodedBlock:
    """Put a block together from its row and its parts."""
    height = row["height"]
    if [number for number, _ in parts] != list(range(len(parts))):
        raise IntegrityFailure("STORE_CORRUPT", "The store lacks a part of a body.", block=height)
    body = b"".join(decompress(_blob(data), height=height, part=number) for number, data in parts)
    return EncodedBlock(_blob(row["header"]), _blob(row["signature"]), body)


_BLOCK_COLUMNS = tuple(tables.blocks.c.keys())


def _block_row(connection: Connection, height: int) -> _Row:
    """Read a block's row."""
    query = select(tables.blocks).where(tables.blocks.c.height == height)
    return _found(connection.execute(query).mappings().all() if 1 <= height <= HEIGHT_MAX else [], height)


def _found(rows: Sequence[_Row], height: int) -> _Row:
    """Take the one row that was asked for, checked."""
    if not rows:
        raise NotFound("BLOCK_NOT_FOUND", "There is no block at this height.", height=height)
    _checked(rows[0], height)
    return rows[0]


def _checked(row: _Row, height: int) -> Header:
    """Hold a row's columns against its header and the height at which it should stand."""
    try:
        header = decode_header(_blob(row["header"]))
    except MalformedInput as error:
        raise IntegrityFailure("STORE_CORRUPT", "A stored header cannot be read.", block=height) from error
    stored = (row["height"], row["first_position"], row["position_count"], row["timestamp_ns"], row["hash"])
    if row["height"] != height or stored != _columns(header, _blob(row["header"])):
        raise IntegrityFailure("STORE_CORRUPT", "A stored header contradicts its row.", block=height)
    return header


def _columns(header: Header, data: bytes) -> tuple[int, int, int, int, bytes]:
    return header.height, header.first_position, header.position_count, header.timestamp_ns, block_hash(data)
