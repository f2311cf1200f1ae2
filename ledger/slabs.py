"""Memory for the records of large messages, used again and again.

A page of memory that is new to a process must be cleared by the kernel and found by the host: for the records of a
large message that costs more than reading them from its body. So memory that nobody refers to any more is given out
again before new memory is asked for.

Nobody gives anything back. Every array that is made of a slab's memory refers to the slab, so CPython's count of the
references says when the last of them is gone.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.transfers import TRANSFER, Transfers, transfers

__all__ = ["Slabs"]

COUNT_MIN = 4_096
"""Records from which on memory is kept: for fewer the allocator keeps it anyway."""
SIZE_MAX = 2**27
"""Bytes that are kept; whoever wants more at a time gets memory of their own."""


class Slabs:
    """Gives out arrays of zeroed transfers. Thread-safe."""

    def __init__(self, size_max: int = SIZE_MAX) -> None:
        """Keep at most so many bytes."""
        self._size_max = size_max
        self._size = 0
        self._slabs: list[npt.NDArray[Any]] = []
        self._lock = threading.Lock()

    def transfers(self, count: int) -> Transfers:
        """Give ``count`` zeroed transfers that nobody else has."""
        if count < COUNT_MIN:
            return transfers(count)
        with self._lock:
            rows = self._take(1 << (count - 1).bit_length())
        if rows is None:
            return transfers(count)
        rows = rows[:count]
        rows.view(np.uint8).fill(0)
        return rows

    def _take(self, count: int) -> Transfers | None:
        """Give a whole slab of ``count`` transfers, a new one if there is room for it."""
        for slab in self._slabs:
            if len(slab) == count and _is_free(slab):
                return slab[:]
        if self._size + count * TRANSFER.itemsize > self._size_max:
            self._slabs = [slab for slab in self._slabs if not _is_free(slab)]  # those are all of other sizes
            self._size = sum(slab.nbytes for slab in self._slabs)
        if self._size + count * TRANSFER.itemsize > self._size_max:
            return None
        slab = np.empty(count, TRANSFER)
        self._size += slab.nbytes
        self._slabs.append(slab)
        return slab[:]


def _is_free(slab: npt.NDArray[Any]) -> bool:
    """Say whether no array is made of it: the list, the caller's loop, this call and the next refer to it."""
    return sys.getrefcount(slab) == 4
