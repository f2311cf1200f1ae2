"""The last blocks in memory: an answer to what was just journaled need not ask the disk.

``RecentBlocks`` is a store in front of a store. It promises nothing of its own: it remembers what the other has made
durable, and forgets the oldest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

from ledger.journal import Block, EncodedBlock
from ledger.machine import Answer
from ledger.store import Store
from ledger.transfers import Transfers

__all__ = ["RecentBlocks"]

BLOCK_COUNT_MAX = 64
RECORD_COUNT_MAX = 2**18
"""Records of all remembered blocks together, some full blocks; the newest block stays whatever its size."""


class _Remembered:
    """One block's hash and records, and where each message's records begin."""

    def __init__(self, block: Block) -> None:
        self.hash = block.hash
        self.transfers = block.transfers
        self.rows: dict[int, int] = {}
        row = block.header.expired_count
        position = block.header.first_position + row
        for entry in block.entries:
            self.rows[position] = row
            position += 1 + entry.count
            row += entry.count


class RecentBlocks:
    """A ``Store`` that also remembers its last blocks; ``append`` from one thread, everything else from any."""

    def __init__(self, store: Store) -> None:
        """Stand in front of ``store``; nothing is remembered yet."""
        self._store = store
        self._blocks: OrderedDict[int, _Remembered] = OrderedDict()
        self._record_count = 0
        self._lock = threading.Lock()

    def recall(self, answer: Answer) -> tuple[bytes, Transfers] | None:
        """Give the hash of an answer's block and the records its message derived, if the block is remembered."""
        with self._lock:
            block = self._blocks.get(answer.height)
        if block is None:
            return None
        row = block.rows[answer.position]
        return block.hash, block.transfers[row : row + answer.count]

    def append(self, block: Block) -> None:
        """Make the next block durable, then remember it; see ``Store.append``."""
        self._store.append(block)
        remembered = _Remembered(block)
        with self._lock:
            self._blocks[block.header.height] = remembered
            self._record_count += len(block.transfers)
            while len(self._blocks) > BLOCK_COUNT_MAX or (
                self._record_count > RECORD_COUNT_MAX and len(self._blocks) > 1
            ):
                _, forgotten = self._blocks.popitem(last=False)
                self._record_count -= len(forgotten.transfers)

    def genesis(self) -> bytes:
        """Give the genesis document's canonical bytes."""
        return self._store.genesis()

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on; see ``Store.blocks``."""
        return self._store.blocks(from_height)

    def block(self, height: int) -> EncodedBlock:
        """Give one block; see ``Store.block``."""
        return self._store.block(height)

    def header(self, height: int) -> bytes:
        """Give one block's header; see ``Store.header``."""
        return self._store.header(height)

    def body_part(self, height: int, part: int) -> bytes:
        """Give a part of a body; see ``Store.body_part``."""
        return self._store.body_part(height, part)

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a position; see ``Store.height_of``."""
        return self._store.height_of(position)

    def last_height(self) -> int:
        """Give the height of the last block."""
        return self._store.last_height()

    def close(self) -> None:
        """Close the store behind."""
        self._store.close()
