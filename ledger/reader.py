"""Reading what is durable: a record, a message, an answer's records, an account's history.

A ``Reader`` sees only what the store has committed, so everything it gives survives a crash. It reads the parts of a
body that it needs and no more, and keeps the last ones it has used. It may be called from any thread; each call blocks
for a few reads of the store, so an event loop offloads it.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ledger import journal, merkle, sections
from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.journal import Header
from ledger.machine import MESSAGE_LEAF, Answer, Entry, record_leaves
from ledger.sections import Fetch, Layout
from ledger.store import PART_SIZE
from ledger.transfers import TRANSFER, Result, Transfers, transfers

__all__ = ["Choice", "History", "Readable", "Reader"]

PART_COUNT_MAX = 512
"""Parts kept in memory: 32 MiB."""
LAYOUT_COUNT_MAX = 1_024
"""Blocks whose layout is kept."""
HISTORY_LIMIT_MAX = 1_000
"""Records of one page of a history, and how many are looked at for it."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Readable(Protocol):
    """What a reader needs of a store or of an export; see ``ledger.store.Store``."""

    def header(self, height: int) -> bytes:
        """Give one block's header."""

    def body_part(self, height: int, part: int) -> bytes:
        """Give one part of a body."""

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a position."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One page of an account's history, newest first. ``next_cursor`` continues it; ``None`` when there is no more."""

    records: Transfers
    positions: tuple[int, ...]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records of an account a history gives.

    From ``first_position`` on; if they are given, only those with this ``code``, or with this account on their other
    side.
    """

    first_position: int = 0
    code: int | None = None
    other: int | None = None

    def takes(self, record: np.void, other: int) -> bool:
        """Whether a record with account ``other`` on the other side is among them."""
        has_code = self.code is None or int(record["code"]) == self.code
        return has_code and (self.other is None or self.other == other)


EVERYTHING = Choice()


class Reader:
    """Reads one journal at its durable position."""

    def __init__(self, store: Readable) -> None:
        """Read from ``store``."""
        self._store = store
        self._parts: _Recent[tuple[int, int], bytes] = _Recent(PART_COUNT_MAX)
        self._layouts: _Recent[int, Layout] = _Recent(LAYOUT_COUNT_MAX)

    def header(self, height: int) -> Header:
        """Give a block's header.

        Raises:
            NotFound: there is no such block.
        """
        return journal.decode_header(self._store.header(height))

    def record(self, position: int) -> np.void:
        """Give the record at a position, dtype ``TRANSFER``.

        Raises:
            NotFound: the journal has not come so far, or a message stands there.
        """
        height = self._store.height_of(position)
        layout = self._layout(height)
        _, row = layout.locate(position)
        if row is None:
            raise NotFound("RECORD_NOT_FOUND", "A message stands at this position, not a record.", position=position)
        result: np.void = self._rows(height, layout, row, 1)[0]
        return result

    def records(self, position: int, count: int) -> Transfers:
        """Give the ``count`` records from ``position`` on; they must follow one message.

        Raises:
            NotFound: the journal has not come so far, or a message stands among them.
        """
        if count == 0:
            return np.empty(0, TRANSFER)
        height = self._store.height_of(position)
        layout = self._layout(height)
        _, first = layout.locate(position)
        if first is None or first + count > layout.shape.transfer_count:
            raise NotFound("RECORD_NOT_FOUND", "These positions are not all records.", position=position)
        if layout.position_of(first + count - 1) != position + count - 1:
            raise NotFound("RECORD_NOT_FOUND", "These positions are not all records.", position=position)
        return self._rows(height, layout, first, count)

    def entry(self, position: int) -> Entry:
        """Give the message at a position, and the number of records that follow it.

        Raises:
            NotFound: the journal has not come so far, or a record stands there.
            IntegrityFailure: the stored message cannot be read.
        """
        height = self._store.height_of(position)
        layout = self._layout(height)
        index, _ = layout.locate(position)
        if index is None:
            raise NotFound("MESSAGE_NOT_FOUND", "A record stands at this position, not a message.", position=position)
        try:
            message = layout.message(index, self._fetch(height))
        except MalformedInput as error:
            raise IntegrityFailure(error.code, error.sentence, block=height, position=position) from error
        return Entry(message, int(layout.counts[index]))

    def recall(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Give the records at some positions, for ``Machine.history``.

        Raises:
            IntegrityFailure: at one of them stands no record, or it cannot be read.
        """
        rows = transfers(len(positions))
        for row, position in enumerate(positions.tolist()):
            try:
                rows[row] = self.record(position)
            except NotFound as error:
                sentence = "The journal has no record where an id was used up."
                raise IntegrityFailure("RECORD_RECALLED", sentence, position=position) from error
        return rows

    def answer_records(self, answer: Answer) -> Transfers:
        """Give the records that an answered message derived: the same for the first reply and for every retry (I8)."""
        return self.records(answer.position + 1, answer.count)

    def leaf_hashes(self, first: int, end: int) -> merkle.Bytes:
        """Hash the leaves of the positions from ``first`` to before ``end`` again from what is stored.

        Returns:
            Shape (end - first, 32).

        Raises:
            NotFound: the journal has not come so far.
        """
        hashes = np.empty((end - first, merkle.HASH_SIZE), np.uint8)
        position = first
        while position < end:
            height = self._store.height_of(position)
            layout = self._layout(height)
            stop = min(end, layout.shape.first_position + layout.shape.entry_count + layout.shape.transfer_count)
            self._hash_leaves(height, layout, position, hashes[position - first : stop - first])
            position = stop
        return hashes

    def history(self, account: int, *, cursor: int, limit: int, choice: Choice = EVERYTHING) -> History:
        """Walk back through the records that touched an account.

        Args:
            account: the account's number.
            cursor: where to begin: ``AccountView.last`` for the newest, or an earlier page's ``next_cursor``.
            limit: records of a page, from 1 to ``HISTORY_LIMIT_MAX``.
            choice: which of them are given. A walk ends after ``HISTORY_LIMIT_MAX`` records, so that no page takes
                long: it may have fewer than ``limit``, even none, and go on all the same.

        Raises:
            MalformedInput: the limit is out of range, or the cursor does not belong to this account.
        """
        if not 1 <= limit <= HISTORY_LIMIT_MAX:
            raise MalformedInput("LIMIT_INVALID", "The limit is out of range.", limit=limit)
        records: list[np.void] = []
        positions: list[int] = []
        for _ in range(HISTORY_LIMIT_MAX):
            if 0 <= cursor <= choice.first_position or len(records) == limit:
                break
            try:
                record = self.record(cursor - 1)
            except NotFound as error:
                raise MalformedInput("CURSOR_INVALID", "The cursor points at no record.") from error
            # A refused record may name accounts that do not exist, and belongs to no account's history.
            is_debit = record["debit"] == account
            if record["result"] != Result.OK or not (is_debit or record["credit"] == account):
                raise MalformedInput("CURSOR_INVALID", "The cursor belongs to another account.")
            if choice.takes(record, int(record["credit"] if is_debit else record["debit"])):
                records.append(record)
                positions.append(cursor - 1)
            cursor = int(record["debit_previous"] if is_debit else record["credit_previous"])
        return History(
            np.array(records, TRANSFER), tuple(positions), cursor if cursor > choice.first_position else None
        )

    def height_until(self, instant_ns: int, last_height: int) -> int:
        """Give the last block up to an instant, of those up to ``last_height``; 0 if all are later."""
        heights = range(1, last_height + 1)
        return bisect.bisect_right(heights, instant_ns, key=lambda height: self.header(height).timestamp_ns)

    def _layout(self, height: int) -> Layout:
        return self._layouts.get(height, lambda: self._read_layout(height))

    def _read_layout(self, height: int) -> Layout:
        """Read the table at the head of a body."""
        header = self.header(height)
        table = self._bytes(height, 0, min(header.body_size, sections.table_end(header.entry_count)))
        try:
            return sections.layout(header.shape, table, whole=False)
        except MalformedInput as error:
            raise IntegrityFailure(error.code, error.sentence, block=height) from error

    def _hash_leaves(self, height: int, layout: Layout, position: int, hashes: merkle.Bytes) -> None:
        """Fill in the hashes of the leaves of one block from ``position`` on, shape (n, 32)."""
        places = layout.positions
        first, end = (int(index) for index in np.searchsorted(places, (position, position + len(hashes))))
        is_record = np.ones(len(hashes), np.bool_)
        for index in range(first, end):
            leaf = merkle.leaf_hash(MESSAGE_LEAF + hashlib.sha256(layout.head(index, self._fetch(height))).digest())
            place = int(places[index]) - position
            hashes[place] = np.frombuffer(leaf, np.uint8)
            is_record[place] = False
        count = len(hashes) - (end - first)
        if count:
            row = position - layout.shape.first_position - first
            hashes[is_record] = record_leaves(self._rows(height, layout, row, count))

    def _rows(self, height: int, layout: Layout, first: int, count: int) -> Transfers:
        """Read records by row."""
        return layout.records(first, count, self._fetch(height))

    def _fetch(self, height: int) -> Fetch:
        return functools.partial(self._bytes, height)

    def _bytes(self, height: int, offset: int, size: int) -> bytes | memoryview:
        """Read a range of a body through the parts that hold it; within one part nothing is copied."""
        if not size:
            return b""
        first, last = offset // PART_SIZE, (offset + size - 1) // PART_SIZE
        start = offset - first * PART_SIZE
        data: bytes | memoryview = memoryview(self._part(height, first))[start : start + size]
        if last > first:
            pieces = [data, *(self._part(height, part) for part in range(first + 1, last))]
            pieces.append(memoryview(self._part(height, last))[: offset + size - last * PART_SIZE])
            data = b"".join(pieces)
        if len(data) < size:
            raise IntegrityFailure("STORE_CORRUPT", "A stored body is shorter than its header says.", block=height)
        return data

    def _part(self, height: int, part: int) -> bytes:
        def read() -> bytes:
            try:
                return self._store.body_part(height, part)
            except NotFound as error:
                raise IntegrityFailure("STORE_CORRUPT", "The store lacks a part of a body.", block=height) from error

        return self._parts.get((height, part), read)


class _Recent(Generic[K, V]):
    """What was used last, up to a number of things. Blocks never change, so nothing ever goes stale."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, read: Callable[[], V]) -> V:
        """Give what is kept, or read it; two threads may both read, which does no harm."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        value = read()
        with self._lock:
            self._items[key] = value
            if len(self._items) > self._count_max:
                self._items.popitem(last=False)
        return value
