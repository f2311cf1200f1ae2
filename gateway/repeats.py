"""First uses of ids: what was asked for under an id before, and what came of it, read back from the journal.

Everything here reads the disk: call it on a worker thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from gateway.node import Node
from ledger import messages
from ledger.transfers import Result, Transfers
from settlement.repeats import Request, Requests, difference, path_of, request_of, requests_of

__all__ = ["FIRSTS_SIZE_MAX", "FirstUse", "FirstUses", "repetition"]

FIRSTS_SIZE_MAX = 32 * 2**20
"""Bytes of earlier messages' bodies that are read for one answer, the last one on top: a page of results ends there."""
_LEG_COUNT_MAX = 16
"""Records among which all those of one payment stand."""


@dataclass(frozen=True, slots=True)
class FirstUse:
    """The first use of an id: its message, its record, the records of its item, and what was asked for."""

    position: int
    record_position: int
    record_count: int
    """Records of the whole message."""
    height: int
    block_hash: bytes
    request: Request | None
    records: Transfers

    def members(self) -> dict[str, int]:
        """Say where it stands. It never changes, so that a retry is told the same (I8)."""
        return {"first_position": self.position, "first_record_position": self.record_position}


@dataclass(frozen=True, slots=True)
class _Message:
    requests: Requests
    count: int


class FirstUses:
    """Reads first uses for one answer; a message is read once, however many of its items are asked for."""

    def __init__(self, node: Node) -> None:
        """Read from the node's journal."""
        self._node = node
        self._messages: dict[int, _Message] = {}
        self.size = 0
        """Bytes of the bodies that have been read."""

    def of(self, again: np.void) -> FirstUse:
        """Give the first use of the id of a record that was refused as ID_EXISTS."""
        reader, record_position = self._node.reader, int(again["debit_previous"]) - 1
        first = reader.record(record_position)
        position = int(first["message"])
        message = self._message(position)
        following = position + 1 + message.count - record_position
        records = reader.records(record_position, min(_LEG_COUNT_MAX, following))
        height = self._node.store.height_of(position)
        return FirstUse(
            position=position,
            record_position=record_position,
            record_count=message.count,
            height=height,
            block_hash=hashlib.sha256(self._node.store.header(height)).digest(),
            request=request_of(message.requests, int(first["item"])),
            records=records[records["item"] == first["item"]],
        )

    def _message(self, position: int) -> _Message:
        found = self._messages.get(position)
        if found is None:
            entry = self._node.reader.entry(position)
            self.size += len(entry.message.body)
            requests = requests_of(messages.parse(entry.message).topic, entry.message.body)
            found = self._messages[position] = _Message(requests, entry.count)
        return found


def repetition(
    firsts: FirstUses, records: Transfers, topic: str, requests: Requests, item: int
) -> tuple[FirstUse, str | None]:
    """Give the first use of the id that an item uses again, and the path of the first field that differs, if any does.

    Args:
        firsts: reads it.
        records: the item's own, one of which was refused as ID_EXISTS.
        topic: the path of the message that repeats.
        requests: all of that message's.
        item: which of them.
    """
    first = firsts.of(records[records["result"] == Result.ID_EXISTS][0])
    again = request_of(requests, item)
    field = None if again is None else difference(first.request, again)
    return first, None if field is None else path_of(topic, item, field)
