"""The file of a snapshot: named parts, each with its SHA-256, under one signature of the node.

Little-endian, no padding (offset, type, field)::

      0  8s   magic ``hugangSN``
      8  u16  format version, 0
     10  u16  semantics version, as in a block's header
     12  u32  number of parts, n
     16  32s  hash of the genesis document
     48  u64  height of the last block
     56  32s  hash of the last block
     88  u64  position after the last block
     96  u64  timestamp of the last block, nanoseconds since 1970
    104  32s  root of the tree after the last block
    136  n times 64 bytes: 24s name, padded with zero bytes; u64 size; 32s SHA-256 of the part
      .  64s  the node's signature over ``hugang-snapshot/1``, a line feed and the SHA-256 of all before it
      .  the parts, one behind another, without gaps to the end of the file

Whoever reads one believes the signature, and a part only after its hash has been compared.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import IntegrityFailure, InvariantViolation
from ledger.journal import SEMANTICS, SIGNATURE_SIZE
from ledger.registry import Growable
from ledger.runtime import Runtime

__all__ = ["FORMAT", "Place", "SnapshotFile", "write_snapshot"]

MAGIC = b"hugangSN"
FORMAT = 1
SIGNATURE_CONTEXT = b"hugang-snapshot/1\n"
PART_COUNT_MAX = 64
CHUNK = 2**24
"""Bytes that are read, hashed and written at once."""
_HEAD = struct.Struct("<8sHHI32sQ32sQQ32s")
_ENTRY = struct.Struct("<24sQ32s")
_NAME = re.compile(r"[a-z][a-z-]{0,23}")

Pieces = Sequence[bytes | memoryview]
"""What a part is made of, piece behind piece."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which journal a snapshot was taken: after the block at ``height``."""

    genesis_hash: bytes
    height: int
    block_hash: bytes
    position: int
    timestamp_ns: int
    tree_root: bytes


@dataclass(frozen=True, slots=True)
class _Part:
    """Where a part lies in the file, and what it hashes to."""

    offset: int
    size: int
    digest: bytes


def write_snapshot(
    path: Path, place: Place, parts: Mapping[str, Pieces], *, private_key: Ed25519PrivateKey, runtime: Runtime
) -> None:
    """Write a snapshot, sync it, and only then give it its name; what stood under the name before is replaced.

    Raises:
        OSError: the disk does not take it; nothing stands under the name that did not stand there before.
        InvariantViolation: more parts than there may be, or a name that is none.
    """
    if len(parts) > PART_COUNT_MAX or not all(_NAME.fullmatch(name) for name in parts):
        raise InvariantViolation("a snapshot has too many parts, or one has no proper name")
    table = b"".join(
        _ENTRY.pack(name.encode("ascii"), sum(len(piece) for piece in pieces), _digest(pieces))
        for name, pieces in parts.items()
    )
    head = _HEAD.pack(
        MAGIC,
        FORMAT,
        SEMANTICS,
        len(parts),
        place.genesis_hash,
        place.height,
        place.block_hash,
        place.position,
        place.timestamp_ns,
        place.tree_root,
    )
    signature = private_key.sign(SIGNATURE_CONTEXT + hashlib.sha256(head + table).digest())
    draft = path.with_name(path.name + ".new")
    runtime.crossing("snapshot.before_write")
    with draft.open("wb") as file:
        file.write(head + table + signature)
        for pieces in parts.values():
            for piece in pieces:
                file.write(piece)
            runtime.crossing("snapshot.after_part")
        file.flush()
        os.fsync(file.fileno())
    runtime.crossing("snapshot.before_name")
    draft.replace(path)
    _sync_folder(path.parent)
    runtime.crossing("snapshot.after_name")


class SnapshotFile:
    """A snapshot that was opened: where it was taken is known, and its signature holds."""

    def __init__(self, file: FileIO, public_key: bytes) -> None:
        """Read the head, the table and the signature; ``public_key`` is the node's.

        Raises:
            IntegrityFailure: ``SNAPSHOT_FORMAT``, of another format or kind; ``SNAPSHOT_TORN``, it is not whole;
                ``SNAPSHOT_SIGNATURE``, the node has not signed it.
        """
        self._file = file
        head = file.read(_HEAD.size)
        if len(head) != _HEAD.size:
            raise _failure("SNAPSHOT_TORN", "it is cut short")
        magic, version, semantics, count, genesis_hash, height, block_hash, position, time_ns, root = _HEAD.unpack(head)
        if (magic, version, semantics) != (MAGIC, FORMAT, SEMANTICS) or count > PART_COUNT_MAX:
            raise _failure("SNAPSHOT_FORMAT", "its format is not known here")
        table = file.read(count * _ENTRY.size)
        signature = file.read(SIGNATURE_SIZE)
        try:
            message = SIGNATURE_CONTEXT + hashlib.sha256(head + table).digest()
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except InvalidSignature as error:
            raise _failure("SNAPSHOT_SIGNATURE", "the node's signature on it does not hold") from error
        self.place = Place(genesis_hash, height, block_hash, position, time_ns, root)
        self._parts = self._read_table(table)

    @classmethod
    def open(cls, path: Path, public_key: bytes) -> Self:
        """Open a file.

        Raises:
            OSError: it cannot be read.
            IntegrityFailure: it is no snapshot of this node.
        """
        file = path.open("rb", buffering=0)
        try:
            return cls(file, public_key)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts, in order."""
        return tuple(self._parts)

    def array(self, name: str, dtype: npt.DTypeLike, room: int) -> tuple[Growable, int]:
        """Read a part as elements of a dtype, with room for some more; gives the array and how many were read.

        Raises:
            IntegrityFailure: ``SNAPSHOT_TORN``, there is no such part, or it is not what was written.
        """
        part, size = self._part(name), np.dtype(dtype).itemsize
        count, rest = divmod(part.size, size)
        if rest:
            raise _failure("SNAPSHOT_TORN", f"part {name} is no array of its kind")
        rows = Growable(dtype, count + room)
        self._fill(name, part, rows.array[:count].view(np.uint8).data if count else memoryview(bytearray()))
        return rows, count

    def data(self, name: str) -> memoryview:
        """Read a part as it is.

        Raises:
            IntegrityFailure: as for ``array``.
        """
        part = self._part(name)
        data = memoryview(bytearray(part.size))
        self._fill(name, part, data)
        return data

    def _read_table(self, table: bytes) -> dict[str, _Part]:
        """Read where the parts lie, and hold the file to it."""
        parts: dict[str, _Part] = {}
        offset = _HEAD.size + len(table) + SIGNATURE_SIZE
        for padded, size, digest in _ENTRY.iter_unpack(table):
            parts[padded.rstrip(b"\0").decode("ascii")] = _Part(offset, size, digest)
            offset += size
        if os.fstat(self._file.fileno()).st_size != offset:
            raise _failure("SNAPSHOT_TORN", "it is longer or shorter than it says")
        return parts

    def _part(self, name: str) -> _Part:
        part = self._parts.get(name)
        if part is None:
            raise _failure("SNAPSHOT_TORN", f"part {name} is missing")
        return part

    def _fill(self, name: str, part: _Part, data: memoryview) -> None:
        """Read a part into memory, hashing what was read while it is still near."""
        self._file.seek(part.offset)
        digest = hashlib.sha256()
        for start in range(0, part.size, CHUNK):
            piece = data[start : start + CHUNK]
            if self._file.readinto(piece) != len(piece):
                raise _failure("SNAPSHOT_TORN", f"part {name} is cut short")
            digest.update(piece)
        if digest.digest() != part.digest:
            raise _failure("SNAPSHOT_TORN", f"part {name} is not what was written")


def _digest(pieces: Pieces) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _sync_folder(path: Path) -> None:
    """Make the new name of a file durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _failure(code: str, sentence: str) -> IntegrityFailure:
    return IntegrityFailure(code, f"A snapshot cannot be used: {sentence}.")
