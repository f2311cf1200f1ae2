"""Where each block ends, in memory: which block holds a position is then a search among numbers, not in a database.

Eight bytes a block. Blocks are never changed, so what is known stays true; what is missing is told in order.
"""

from __future__ import annotations

import bisect
import threading
from array import array

from ledger.errors import IntegrityFailure

__all__ = ["BlockIndex"]

POSITION_MAX = 2**63 - 1


class BlockIndex:
    """The end of every block from the first to some height. Any thread may read it and add to it."""

    def __init__(self) -> None:
        """Know of no block."""
        self._ends = array("q")
        self._lock = threading.Lock()

    @property
    def height(self) -> int:
        """The last block that is known, 0 for none."""
        return len(self._ends)

    def height_of(self, position: int) -> int | None:
        """Give the height of the block that holds a position, from 0 on; ``None`` if that is not known yet."""
        height = bisect.bisect_right(self._ends, position) + 1
        return height if height <= len(self._ends) else None

    def add(self, height: int, first_position: int, position_count: int) -> None:
        """Note a block; one that is known already changes nothing.

        Raises:
            IntegrityFailure: there is a gap before it, or it does not begin where the last one ends.
        """
        with self._lock:
            if height <= len(self._ends):
                return
            end = self._ends[-1] if self._ends else 0
            if height != len(self._ends) + 1:
                raise IntegrityFailure("BLOCK_MISSING", "The store lacks a block.", block=len(self._ends) + 1)
            if first_position != end or not 1 <= position_count <= POSITION_MAX - end:
                raise IntegrityFailure("STORE_CORRUPT", "A block does not begin where the last one ends.", block=height)
            self._ends.append(end + position_count)
