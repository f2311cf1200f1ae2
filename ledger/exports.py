"""The export: a whole journal in one file, for whoever wants to check it without us.

Little-endian, nothing compressed, nothing optional::

    8s   magic ``hugangEX``
    u16  format version, 0
    u16  zero
    u32  size of the genesis, and that many bytes
    then for each block, in order:
    u8   1
    u64  size of the rest: header (168), signature (64) and body
    ...  header, signature, body
    and at the end, exactly once:
    u8   2
    u64  40
    u64  number of blocks
    32s  hash of the last block, or of the genesis if there is none

Reading holds one block at a time, and allocates for what has arrived, never for what a length claims. The trailer makes
a file that was cut between two blocks as visible as any other damage. What has been read can be read again in parts, if
the file is one in which a place can be sought.
"""

from __future__ import annotations

import hashlib
import io
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from ledger import genesis as genesis_format
from ledger.errors import IntegrityFailure, NotFound
from ledger.journal import HEADER_SIZE, SIGNATURE_SIZE, EncodedBlock, block_hash
from ledger.reader import Readable
from ledger.sections import BODY_SIZE_MAX
from ledger.store import PART_SIZE, Store

__all__ = ["FILE_NAME", "ExportFile", "ExportSummary", "Source", "write_export"]

FILE_NAME = "journal.hgx"
"""What an export is called unless somebody says otherwise."""
MAGIC = b"hugangEX"
FORMAT = 1
BLOCK, TRAILER = 1, 2
_HEAD = struct.Struct("<8sHHI")
_FRAME = struct.Struct("<BQ")
_TRAILER = struct.Struct("<Q32s")
_FIXED_SIZE = HEADER_SIZE + SIGNATURE_SIZE
_CHUNK_SIZE = 2**20
_FIRST_POSITION = slice(24, 32)  # in a header


class Source(Readable, Protocol):
    """Where a journal can be read from: an export, or a store. What was given once can be read again in parts."""

    def genesis(self) -> bytes:
        """Give the genesis document's bytes."""

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, in order.

        Raises:
            IntegrityFailure: they cannot be read.
        """


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written: the number of blocks, the file's size in bytes, and the last block's hash."""

    block_count: int
    size: int
    last_hash: bytes


def write_export(store: Store, file: BinaryIO, *, progress: Callable[[int], None] | None = None) -> ExportSummary:
    """Write a journal as it stands now; blocks that come meanwhile are left for the next export.

    Args:
        store: the journal.
        file: takes the bytes.
        progress: told each height that has been written.

    Raises:
        IntegrityFailure: the store cannot be read.
    """
    last_height = store.last_height()
    genesis = store.genesis()
    size = file.write(_HEAD.pack(MAGIC, FORMAT, 0, len(genesis)) + genesis)
    last_hash, height = hashlib.sha256(genesis).digest(), 0
    blocks = store.blocks()
    while height < last_height:
        encoded = next(blocks)
        height += 1
        size += file.write(_FRAME.pack(BLOCK, _FIXED_SIZE + len(encoded.body)) + encoded.header + encoded.signature)
        size += file.write(encoded.body)
        last_hash = block_hash(encoded.header)
        if progress is not None:
            progress(height)
    size += file.write(_FRAME.pack(TRAILER, _TRAILER.size) + _TRAILER.pack(height, last_hash))
    return ExportSummary(height, size, last_hash)


class ExportFile:
    """One export being read. It checks the file's own framing; what the blocks say is for ``ledger.audit``.

    A ``ledger.reader.Reader`` on it reads records of blocks that ``blocks`` has given; only the thread that reads may.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        """Read the head and the genesis.

        Raises:
            IntegrityFailure: they are damaged, or this is no export.
        """
        self._is_ours = isinstance(source, Path)
        self._position = 0
        self._file = source.open("rb", buffering=_CHUNK_SIZE) if isinstance(source, Path) else source
        try:
            self._genesis = self._read_genesis()
        except BaseException:
            self.close()
            raise
        self._is_read = False
        # 24 bytes a block: where it stands, where its positions begin, and how large its body is.
        self._offsets, self._first_positions, self._sizes = array("Q"), array("Q"), array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._is_ours:
            self._file.close()

    def genesis(self) -> bytes:
        """Give the genesis document's bytes."""
        return self._genesis

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks from a height on, in order; can be asked once.

        Raises:
            IntegrityFailure: the framing is damaged, the file is cut, or bytes are left over.
        """
        if self._is_read:
            raise io.UnsupportedOperation("an export is read from its beginning to its end, once")
        self._is_read = True
        last_hash, height = hashlib.sha256(self._genesis).digest(), 0
        while (encoded := self._next_block(height + 1)) is not None:
            height += 1
            last_hash = block_hash(encoded.header)
            self._note(encoded.header)
            if height >= from_height:
                yield encoded
        place = height + 1
        if self._take(_TRAILER.size, place) != _TRAILER.pack(height, last_hash):
            raise IntegrityFailure("EXPORT_TRAILER", "The trailer does not name the last block.", block=place)
        if self._file.read(1):
            raise IntegrityFailure("EXPORT_TRAILING", "Bytes follow the trailer.", block=place)

    def header(self, height: int) -> bytes:
        """Give the header of a block that ``blocks`` has given.

        Raises:
            NotFound: it has not.
        """
        offset, _ = self._place(height)
        return self._take_at(offset, HEADER_SIZE, height)

    def body_part(self, height: int, part: int) -> bytes:
        """Give part ``part`` of the body of a block that ``blocks`` has given.

        Raises:
            NotFound: it has not, or there is no such part.
        """
        offset, size = self._place(height)
        start = PART_SIZE * part
        if not 0 <= start < size:
            raise NotFound("PART_NOT_FOUND", "The block's body has no such part.", height=height, part=part)
        return self._take_at(offset + _FIXED_SIZE + start, min(PART_SIZE, size - start), height)

    def height_of(self, position: int) -> int:
        """Give the height of the block with a position, among those that ``blocks`` has given."""
        return bisect_right(self._first_positions, position)

    def _note(self, header: bytes) -> None:
        """Note where a block's positions begin; a header that lies is found out in its turn, and misplaces no other."""
        first = int.from_bytes(header[_FIRST_POSITION], "little")
        self._first_positions.append(max(first, self._first_positions[-1]) if self._first_positions else first)

    def _place(self, height: int) -> tuple[int, int]:
        """Give where a block's header stands, and the size of its body."""
        if not 0 < height <= len(self._first_positions):
            raise NotFound("BLOCK_NOT_FOUND", "There is no block at this height.", height=height)
        return self._offsets[height - 1], self._sizes[height - 1]

    def _take_at(self, offset: int, size: int, height: int) -> bytes:
        """Read what stands somewhere, and go on where reading was."""
        here, position = self._file.tell(), self._position
        try:
            self._file.seek(here - position + offset)
            return self._take(size, height)
        finally:
            self._file.seek(here)
            self._position = position

    def _read_genesis(self) -> bytes:
        magic, version, zero, size = _HEAD.unpack(self._take(_HEAD.size, 0))
        if magic != MAGIC or zero != 0:
            raise IntegrityFailure("EXPORT_MALFORMED", "This is not an export of a journal.", block=0)
        if version != FORMAT:
            raise IntegrityFailure("EXPORT_FORMAT", "The export has a format that is not known here.", block=0)
        if size > genesis_format.SIZE_MAX:
            raise IntegrityFailure("EXPORT_MALFORMED", "The export's genesis is too large.", block=0)
        return self._take(size, 0)

    def _next_block(self, height: int) -> EncodedBlock | None:
        """Read one block, or come to the trailer."""
        kind, size = _FRAME.unpack(self._take(_FRAME.size, height))
        if (kind, size) == (TRAILER, _TRAILER.size):
            return None
        if kind != BLOCK or not _FIXED_SIZE <= size <= _FIXED_SIZE + BODY_SIZE_MAX:
            raise IntegrityFailure("EXPORT_MALFORMED", "Neither a block nor the trailer stands here.", block=height)
        self._offsets.append(self._position)
        self._sizes.append(size - _FIXED_SIZE)
        header = self._take(HEADER_SIZE, height)
        signature = self._take(SIGNATURE_SIZE, height)
        return EncodedBlock(header, signature, self._take(size - _FIXED_SIZE, height))

    def _take(self, size: int, height: int) -> bytes:
        """Read exactly ``size`` bytes, in chunks: a length that lies costs nothing."""
        if size <= _CHUNK_SIZE:
            data = self._file.read(size)
        else:
            buffer = io.BytesIO()
            while buffer.tell() < size and (chunk := self._file.read(min(_CHUNK_SIZE, size - buffer.tell()))):
                buffer.write(chunk)
            data = buffer.getvalue()
        self._position += len(data)
        if len(data) != size:
            raise IntegrityFailure("EXPORT_CUT", "The export ends in the middle.", block=height)
        return data
