"""What every store promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ledger.journal import Block, EncodedBlock

__all__ = ["Store"]


class Store(Protocol):
    """The journal of one ledger. Reads may come from any thread; ``append`` from one at a time."""

    def genesis(self) -> bytes:
        """Give the genesis document's canonical bytes."""

    def append(self, block: Block) -> None:
        """Make the next block durable; when this returns, it survives a crash and a power loss (I7).

        Raises:
            Unavailable: ``LEDGER_LOCKED``, another writer has taken over; ``STORE_FAILED``, a commit failed, now or
                earlier; ``COMMIT_UNKNOWN``, ``STORE_UNREACHABLE`` or ``STORE_NOT_DURABLE`` from a server. Nothing is
                appended any more; whether that block is durable is known after the store has been opened again.
            InvariantViolation: the block does not follow the last one.
        """

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, in order, up to the last one at the time they are reached.

        Raises:
            IntegrityFailure: a block is missing, or a part of one cannot be read.
        """

    def block(self, height: int) -> EncodedBlock:
        """Give one block.

        Raises:
            NotFound: there is none at this height.
            IntegrityFailure: a part of it cannot be read.
        """

    def header(self, height: int) -> bytes:
        """Give one block's header.

        Raises:
            NotFound: there is none at this height.
        """

    def body_part(self, height: int, part: int) -> bytes:
        """Give part ``part`` (from 0) of a body: bytes ``parts.PART_SIZE * part`` and on.

        Raises:
            NotFound: there is no such part.
            IntegrityFailure: it cannot be read.
        """

    def height_of(self, position: int) -> int:
        """Give the height of the block that holds a journal position.

        Raises:
            NotFound: the position is not taken yet.
        """

    def last_height(self) -> int:
        """Give the height of the last block, 0 if there is none."""

    def close(self) -> None:
        """Let go of files and locks; twice does no harm."""
