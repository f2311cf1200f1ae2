"""What every store promises, and the parts into which bodies are cut."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from ledger.errors import IntegrityFailure
from ledger.journal import Block, EncodedBlock

__all__ = ["PART_SIZE", "Store", "compress", "decompress"]

PART_SIZE = 2**16
"""Bytes of a body in one stored part, before compression; the last part of a body may be shorter."""
COMPRESSION_LEVEL = 1
_PART_STORED_SIZE_MAX = PART_SIZE + 1024
_CHECKSUM = struct.Struct("<I")
_PLACE = struct.Struct("<QI")


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
        """Give part ``part`` (from 0) of a body: bytes ``PART_SIZE * part`` and on.

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


def compress(body: bytes, *, height: int) -> list[bytes]:
    """Cut a body into parts and compress each by itself; behind each stands a checksum over its place and its bytes."""
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=False)
    view = memoryview(body)
    frames = (compressor.compress(view[start : start + PART_SIZE]) for start in range(0, len(body), PART_SIZE))
    return [frame + _checksum(frame, height=height, part=part) for part, frame in enumerate(frames)]


def decompress(data: bytes, *, height: int, part: int) -> bytes:
    """Give a part back.

    Compressed bytes can change without changing what they mean; the checksum lets no changed byte pass, and no part in
    another's place.

    Raises:
        IntegrityFailure: it is not what ``compress`` has written.
    """
    frame = data[: -_CHECKSUM.size]
    if data[-_CHECKSUM.size :] != _checksum(frame, height=height, part=part):
        raise IntegrityFailure("STORE_CORRUPT", "A stored part is not what was written there.", block=height)
    try:
        if len(data) <= _PART_STORED_SIZE_MAX and 0 < zstandard.frame_content_size(frame) <= PART_SIZE:
            return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise IntegrityFailure("STORE_CORRUPT", f"A stored part cannot be read: {error}", block=height) from error
    raise IntegrityFailure("STORE_CORRUPT", "A stored part has an impossible size.", block=height)


def _checksum(frame: bytes, *, height: int, part: int) -> bytes:
    """Give the CRC-32 of a part's place (height u64, part u32) and its compressed bytes."""
    return _CHECKSUM.pack(zlib.crc32(frame, zlib.crc32(_PLACE.pack(height, part))))
