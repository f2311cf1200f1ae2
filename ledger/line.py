"""What waits for the writer: messages, decisions, and which of them make the next block.

Small messages go before large ones. Somebody's million transfers are many large messages; whoever sends one payment
meanwhile waits for the block that is being made, and not for all of them. Large ones do not starve: each block takes as
many as have room behind the small ones.

Not thread-safe: the writer's lock is around every call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.machine import Admitted, Machine

__all__ = ["BATCH_SIZE_MAX", "LARGE_SIZE", "Line", "Waiting", "Work"]

BATCH_SIZE_MAX = 16 * 2**20
"""Bytes of message bodies of one block; a single larger message makes a block of its own."""
LARGE_SIZE = 2**16
"""Bytes of a body from which on a message lets smaller ones go first."""
OVERLAP_COUNT = 64
OVERLAP_SIZE = 2**18
"""Messages, or bytes of bodies, from which on a block is applied while those before are still being committed: with
less at hand, waiting for the commit gives fewer and fuller blocks, and sooner answers."""

Work = Callable[[Machine], Sequence[Admitted]]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message, or the work of a decision, and who waits for it."""

    admitted: Admitted | None
    work: Work | None
    future: asyncio.Future[Any]

    @property
    def size(self) -> int:
        """Bytes of the message's body."""
        return 0 if self.admitted is None else len(self.admitted.message.body)


class Line:
    """Two queues: what is small, in order with decisions, and what is large."""

    def __init__(self, batch_limit: int) -> None:
        """Give at most ``batch_limit`` messages at a time."""
        self._batch_limit = batch_limit
        self._small: deque[Waiting] = deque()
        self._large: deque[Waiting] = deque()
        self._size = 0
        self._decision_count = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[Waiting]:
        yield from (*self._small, *self._large)

    @property
    def is_worth_overlapping(self) -> bool:
        """Whether only messages wait, and enough of them to be applied during a commit."""
        is_much = len(self) >= min(OVERLAP_COUNT, self._batch_limit) or self._size >= OVERLAP_SIZE
        return is_much and not self._decision_count

    def add(self, item: Waiting) -> None:
        """Let something wait behind all of its kind."""
        self._queue(item).append(item)
        self._count(item, 1)

    def put_back(self, rest: Sequence[Waiting]) -> None:
        """Let what had no room in its block stand before all others of its kind again."""
        for item in reversed(rest):
            self._queue(item).appendleft(item)
            self._count(item, 1)

    def take(self) -> list[Waiting]:
        """Take the next decision alone, or the next block's messages: small ones, then large ones."""
        taken: list[Waiting] = []
        size = 0
        for queue in (self._small, self._large):
            while queue and len(taken) < self._batch_limit:
                item = queue[0]
                size += item.size
                if taken and (item.work is not None or size > BATCH_SIZE_MAX):
                    return taken
                taken.append(queue.popleft())
                self._count(item, -1)
                if item.work is not None:
                    return taken
        return taken

    def clear(self) -> None:
        """Let nothing wait any more."""
        self._small.clear()
        self._large.clear()
        self._size = self._decision_count = 0

    def _queue(self, item: Waiting) -> deque[Waiting]:
        return self._large if item.size >= LARGE_SIZE else self._small

    def _count(self, item: Waiting, step: int) -> None:
        self._size += step * item.size
        self._decision_count += step * (item.work is not None)
