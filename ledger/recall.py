"""The records that a machine can give again by itself: those of its last few blocks, which may not be durable yet."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
import numpy.typing as npt

from ledger.errors import InvariantViolation
from ledger.transfers import Transfers, transfers

__all__ = ["BLOCK_COUNT", "RecentRecords"]

BLOCK_COUNT = 4
"""Blocks whose records are kept beside those of the block that is being made: more than can be on their way to the
disk (``writer.FLIGHT_COUNT_MAX``), so that whatever is not kept is durable."""


class RecentRecords:
    """Records by position, in chunks whose positions follow one another. Not thread-safe: it belongs to its machine."""

    def __init__(self) -> None:
        """Have none."""
        self._firsts: list[int] = []
        self._chunks: list[Transfers] = []
        self._ends: deque[int] = deque()

    def add(self, first_position: int, records: Transfers) -> None:
        """Keep records that stand one after another; nobody changes them any more."""
        self._firsts.append(first_position)
        self._chunks.append(records)

    def end_block(self) -> None:
        """Begin the next block, and forget what is too long ago."""
        self._ends.append(len(self._firsts))
        if len(self._ends) > BLOCK_COUNT:
            count = self._ends.popleft()
            del self._firsts[:count]
            del self._chunks[:count]
            self._ends = deque(end - count for end in self._ends)

    def count_before(self, positions: npt.NDArray[np.uint64]) -> int:
        """Say how many of some ascending positions lie before all that is kept."""
        return int(np.searchsorted(positions, self._firsts[0])) if self._firsts else len(positions)

    def take(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Give the records at some positions.

        Raises:
            InvariantViolation: at one of them stands no record.
        """
        rows = transfers(len(positions))
        for row, position in enumerate(positions.tolist()):
            index = bisect_right(self._firsts, position) - 1
            place = position - self._firsts[index] if index >= 0 else -1
            if not 0 <= place < len(self._chunks[index]):
                raise InvariantViolation(f"no record stands at position {position}")
            rows[row] = self._chunks[index][place]
        return rows
