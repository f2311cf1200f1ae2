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
a file that was cut between two blocks as visible as any other damage.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from ledger import genesis as genesis_format
from ledger.errors import IntegrityFailure
from ledger.journal import HEADER_SIZE, SIGNATURE_SIZE, EncodedBlock, block_hash
from ledger.sections import BODY_SIZE_MAX
from ledger.store import Store

__all__ = ["FILE_NAME", "ExportFile", "ExportSummary", "Source", "write_export"]

FILE_NAME = "journal.hgx"
"""What an export is called unless somebody says otherwise."""
MAGIC = b"hugangEX"
FORMAT = 0
BLOCK, TRAILER = 1, 2
_HEAD = struct.Struct("<8sHHI")
_FRAME = struct.Struct("<BQ")
_TRAILER = struct.Struct("<Q32s")
_FIXED_SIZE = HEADER_SIZE + SIGNATURE_SIZE
_CHUNK_SIZE = 2**20


class Source(Protocol):
    """Where a journal can be read from: an export, or a store."""

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
    """One export being read. It checks the file's own framing; what the blocks say is for ``ledger.audit``."""

    def __init__(self, source: Path | BinaryIO) -> None:
        """Read the head and the genesis.

        Raises:
            IntegrityFailure: they are damaged, or this is no export.
        """
        self._is_ours = isinstance(source, Path)
        self._file = source.open("rb", buffering=_CHUNK_SIZE) if isinstance(source, Path) else source
        try:
            self._genesis = self._read_genesis()
        except BaseException:
            self.close()
            raise
        self._is_read = False

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
            if height >= from_height:
                yield encoded
        place = height + 1
        if self._take(_TRAILER.size, place) != _TRAILER.pack(height, last_hash):
            raise IntegrityFailure("EXPORT_TRAILER", "The trailer does not name the last block.", block=place)
        if self._file.read(1):
            raise IntegrityFailure("EXPORT_TRAILING", "Bytes follow the trailer.", block=place)

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
        if len(data) != size:
            raise IntegrityFailure("EXPORT_CUT", "The export ends in the middle.", block=height)
        return data
