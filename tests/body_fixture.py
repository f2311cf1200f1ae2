"""Bodies of blocks for tests: entries, records and positions put together without a machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ledger import columns, sections
from ledger.machine import Entry
from ledger.sections import Body, Layout, Shape
from ledger.transfers import TRANSFER, Flag, Transfers, transfers
from tests.ledger_fixture import statement

FIRST = 1_000
"""The block's first position."""


def random_records(count: int, *, seed: int) -> Transfers:
    """Give records of random bytes: every byte string is a record to the format."""
    return np.frombuffer(np.random.default_rng([seed, count]).bytes(count * TRANSFER.itemsize), TRANSFER).copy()


def commands_of(count: int, *, seed: int = 0, optional: bool = False) -> Transfers:
    """Give commands as a client writes them in columns."""
    random = np.random.default_rng([seed, count])
    commands = transfers(count)
    for name in ("id_hi", "id_lo", "amount"):
        commands[name] = random.integers(0, 2**62, count)
    commands["debit"], commands["credit"] = random.integers(1, 99, (2, count))
    commands["item"] = np.arange(count)
    if optional:
        commands["flags"], commands["timeout_s"] = Flag.PENDING, 9
        commands["related_lo"] = random.integers(1, 2**62, count)
        commands["minimum"], commands["value_day"] = random.integers(-99, 99, count), 20_000
    return commands


class Builder:
    """Puts entries, records and positions together as a machine does."""

    def __init__(self, *, expired_count: int = 0, seed: int = 0) -> None:
        """Begin with expiries."""
        self.expired_count = expired_count
        self.records = [random_records(expired_count, seed=seed)]
        self.entries: list[Entry] = []
        self.position = FIRST + expired_count

    def rows(self, count: int, *, seed: int = 0) -> Builder:
        """Add a message with records of its own."""
        message = statement("alice", "note", bytes(seed % 40), serial=len(self.entries))
        self._add(Entry(message, count), random_records(count, seed=seed))
        return self

    def columns(self, count: int, *, seed: int = 0, optional: bool = False, **changes: Any) -> Builder:
        """Add a message in columns; ``changes`` are what the kernel filled in, for the last record."""
        commands = commands_of(count, seed=seed, optional=optional)
        records = commands.copy()
        records["message"], records["party"], records["code"] = self.position, 7, 6
        here = self.position + 2 + np.arange(count)
        records["debit_previous"][1::2] = here[1::2] - 1 - np.arange(count)[1::2] % 50
        for name, value in changes.items():
            records[name][-1] = value
        message = statement("alice", "post", columns.encode(commands), serial=len(self.entries))
        self._add(Entry(message, count, in_columns=True), records)
        return self

    def _add(self, entry: Entry, records: Transfers) -> None:
        self.entries.append(entry)
        self.records.append(records)
        self.position += 1 + entry.count

    @property
    def transfers(self) -> Transfers:
        """All records."""
        return np.concatenate(self.records)

    def body(self) -> Body:
        """Encode."""
        return sections.encode(self.entries, self.transfers, first_position=FIRST, expired_count=self.expired_count)

    def shape(self, size: int | None = None) -> Shape:
        """Give what a header says of the body."""
        size = len(self.body().data) if size is None else size
        return Shape(FIRST, len(self.entries), self.expired_count, len(self.transfers), size)

    def layout(self) -> Layout:
        """Find where things lie."""
        return sections.layout(self.shape(), self.body().data)
