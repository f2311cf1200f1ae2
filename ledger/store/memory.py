"""A store without a disk, for simulations and tests: what was appended is there as long as the object is."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from ledger.errors import InvariantViolation, NotFound, Unavailable
from ledger.journal import Block, EncodedBlock
from ledger.runtime import Runtime
from ledger.store.parts import PART_SIZE

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps blocks in lists; passes the crossings of a store on disk, and fails for good after its first failure."""

    def __init__(self, genesis: bytes, *, runtime: Runtime) -> None:
        """Stand before block 1."""
        self._genesis = genesis
        self._runtime = runtime
        self._blocks: list[EncodedBlock] = []
        self._starts: list[int] = []
        self._end = 0
        self._is_failed = False

    def reopened(self, *, runtime: Runtime) -> MemoryStore:
        """Give what the next process finds: the same blocks; the old object writes no more."""
        store = MemoryStore(self._genesis, runtime=runtime)
        store._blocks, store._starts, store._end = list(self._blocks), list(self._starts), self._end
        self._is_failed = True
        return store

    def genesis(self) -> bytes:
        """Give the genesis document's canonical bytes."""
        return self._genesis

    def append(self, block: Block) -> None:
        """Keep the next block; see ``Store.append``."""
        if self._is_failed:
            raise Unavailable("STORE_FAILED", "The store failed and must be opened again.", retry_after_s=1)
        header = block.header
        if header.height != len(self._blocks) + 1 or header.first_position != self._end:
            raise InvariantViolation(f"I5: block {header.height} does not follow block {len(self._blocks)}")
        self._is_failed = True
        self._runtime.crossing("store.before_commit")
        self._blocks.append(block.encoded)
        self._starts.append(self._end)
        self._end += header.position_count
        self._runtime.crossing("store.after_commit")
        self._is_failed = False

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, in order."""
        height = from_height
        while height <= self.last_height():
            yield self.block(height)
            height += 1

    def block(self, height: int) -> EncodedBlock:
        """Give one block; see ``Store.block``."""
        if not 1 <= height <= len(self._blocks):
            raise NotFound("BLOCK_NOT_FOUND", "There is no block at this height.", height=height)
        return self._blocks[height - 1]

    def header(self, height: int) -> bytes:
        """Give one block's header; see ``Store.header``."""
        return self.block(height).header

    def body_part(self, height: int, part: int) -> bytes:
        """Give part ``part`` of a body; see ``Store.body_part``."""
        data = self.block(height).body[PART_SIZE * part : PART_SIZE * (part + 1)]
        if part < 0 or not data:
            raise NotFound("PART_NOT_FOUND", "The block's body has no such part.", height=height, part=part)
        return data

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a position; see ``Store.height_of``."""
        if not 0 <= position < self._end:
            raise NotFound("POSITION_NOT_FOUND", "The journal has not come to this position yet.", position=position)
        return bisect.bisect_right(self._starts, position)

    def last_height(self) -> int:
        """Give the height of the last block."""
        return len(self._blocks)

    def close(self) -> None:
        """Write no more."""
        self._is_failed = True
