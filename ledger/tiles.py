"""Proofs from a running node: any position, any two sizes, without hashing the journal again.

A *tile* is a complete subtree of 256 leaves. Its root is kept, an eighth of a byte a leaf, in a file beside the journal
or in memory. A proof needs the roots of a few dozen subtrees. Those of 256 leaves and more are built from tile roots;
the few below are built from the leaves of one or two tiles, hashed again from stored blocks. Roots over 256 tiles stay
in memory, so that even the largest subtree takes a few thousand hashes.

All of it is a projection of the journal, with the number of its tiles as its watermark. Three things bring it forward:

* ``take`` adds what the machine's frontier has made anyway while it applied blocks, which costs next to nothing: the
  roots of tiles, and the last leaves, so that a proof of what was journaled just now reads no block;
* a proof that needs tiles which nobody has brought makes them from stored blocks;
* ``Tiles.open`` compares the whole with the root that the last block's header names, and builds it anew if they differ.
  The file is never synced: what a crash or a careless hand leaves in it is found there, and costs time, not truth.

The file is a head of 32 bytes (magic ``hugangTL``, format u16, six zero bytes, the first 16 bytes of the genesis' hash)
and then the tiles' roots in order, 32 bytes each.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import numpy as np

from ledger import journal, merkle
from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.journal import EncodedBlock
from ledger.machine import block_leaves
from ledger.merkle import HASH_SIZE, TILE_LEVEL, TILE_WIDTH, Bytes, Frontier
from ledger.reader import Reader
from ledger.store import Store

__all__ = ["MemoryRoots", "Roots", "RootsFile", "Tiles"]

UPPER_LEVEL = 2 * TILE_LEVEL
"""Subtrees of this level (65,536 leaves) and above are built from roots that stay in memory."""
LEAF_TILE_COUNT_MAX = 128
"""Tiles whose leaf hashes are kept: 1 MiB."""
SMALL_COUNT = 4_096
"""Positions of a block up to which it is read whole when a few of its leaves are needed."""
_HEAD = struct.Struct("<8sH6s16s")
_MAGIC = b"hugangTL"
_FORMAT = 1


class Roots(Protocol):
    """Where the roots of tiles are kept, 32 bytes each, in order. ``read`` may come from any thread."""

    def count(self) -> int:
        """Give how many there are."""

    def read(self, first: int, count: int) -> bytes:
        """Give ``count`` roots from ``first`` on."""

    def append(self, roots: bytes) -> None:
        """Add roots at the end."""

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` only."""

    def close(self) -> None:
        """Let go of what is held; twice does no harm."""


class MemoryRoots:
    """Roots that are gone with the process."""

    def __init__(self) -> None:
        """Start with none."""
        self._data = bytearray()

    def count(self) -> int:
        """Give how many there are."""
        return len(self._data) // HASH_SIZE

    def read(self, first: int, count: int) -> bytes:
        """Give ``count`` roots from ``first`` on."""
        return bytes(self._data[first * HASH_SIZE : (first + count) * HASH_SIZE])

    def append(self, roots: bytes) -> None:
        """Add roots at the end."""
        self._data += roots

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` only."""
        del self._data[count * HASH_SIZE :]

    def close(self) -> None:
        """Nothing to let go of."""


class RootsFile:
    """Roots in a file. A file of another ledger or format, or with a torn head, is begun anew."""

    def __init__(self, path: Path, genesis_hash: bytes) -> None:
        """Open the file, or make it. One process writes it: the journal's own writer.

        Raises:
            OSError: the file cannot be opened or written.
        """
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        head = _HEAD.pack(_MAGIC, _FORMAT, bytes(6), genesis_hash[:16])
        if os.pread(self._file, _HEAD.size, 0) != head:
            os.ftruncate(self._file, 0)
            _write(self._file, head, 0)
        self._count = max(0, os.fstat(self._file).st_size - _HEAD.size) // HASH_SIZE

    def count(self) -> int:
        """Give how many there are; a torn one at the end does not count."""
        return self._count

    def read(self, first: int, count: int) -> bytes:
        """Give ``count`` roots from ``first`` on.

        Raises:
            IntegrityFailure: the file has become shorter under our hands.
        """
        data = os.pread(self._open_file(), count * HASH_SIZE, _HEAD.size + first * HASH_SIZE)
        if len(data) != count * HASH_SIZE:
            raise IntegrityFailure("TILES_CUT", "The file of tile roots is shorter than it was.", tile=first)
        return data

    def append(self, roots: bytes) -> None:
        """Add roots at the end; nothing is synced."""
        _write(self._open_file(), roots, _HEAD.size + self._count * HASH_SIZE)
        self._count += len(roots) // HASH_SIZE

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` only."""
        os.ftruncate(self._open_file(), _HEAD.size + count * HASH_SIZE)
        self._count = count

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_file(self) -> int:
        if self._file is None:
            raise NotFound("TILES_CLOSED", "The file of tile roots is closed.")
        return self._file


class Tiles:
    """The tree of one journal, for proofs. Any thread may call anything."""

    def __init__(self, store: Store, roots: Roots) -> None:
        """Stand on roots as they are; ``open`` checks them first.

        Args:
            store: the journal.
            roots: what is kept of its tree.
        """
        self._store = store
        self._roots = roots
        self._reader = Reader(store)
        self._lock = threading.Lock()
        self._upper = np.empty((16, HASH_SIZE), np.uint8)
        self._upper_count = 0
        self._leaves: OrderedDict[int, Bytes] = OrderedDict()

    @classmethod
    def open(cls, store: Store, *, path: Path | None = None, frontier: Frontier | None = None) -> Tiles:
        """Bring the projection to the end of the journal and check it.

        Args:
            store: the journal.
            path: the file of the roots; ``None`` keeps them in memory.
            frontier: that of the machine which has followed this journal to its end; what it has made on the way need
                not be made again.

        Raises:
            IntegrityFailure: the journal's leaves do not make the tree that its last header names.
        """
        tiles = cls(store, cls.open_roots(store, path))
        try:
            if frontier is not None:
                tiles.take(frontier)
            tiles.check()
        except BaseException:
            tiles.close()
            raise
        return tiles

    @staticmethod
    def open_roots(store: Store, path: Path | None) -> Roots:
        """Give the place of a journal's roots: its file, or memory."""
        return MemoryRoots() if path is None else RootsFile(path, hashlib.sha256(store.genesis()).digest())

    @property
    def watermark(self) -> int:
        """How many leaves the kept tiles cover, from the first on."""
        return self._roots.count() * TILE_WIDTH

    def close(self) -> None:
        """Close the file of the roots."""
        self._roots.close()

    # --- bringing it forward ------------------------------------------------------------------------------------------

    def take(self, frontier: Frontier) -> None:
        """Add the tiles that a frontier has completed; call it where the frontier stands still, after a commit.

        What is kept already is compared: where it differs, it is dropped from there on.

        Raises:
            OSError: the file cannot be written; its tiles will be made from stored blocks.
        """
        first, roots = frontier.take_tile_roots()
        position, recent = frontier.recent_leaves()
        with self._lock:
            for tile in range(-(-position // TILE_WIDTH), -(-frontier.size // TILE_WIDTH)):
                start = tile * TILE_WIDTH - position
                self._remember(tile, recent[start : start + TILE_WIDTH])
            known = self._roots.read(first, max(0, min(self._roots.count() - first, len(roots) // HASH_SIZE)))
            if known != roots[: len(known)]:
                self._truncate(first)
                known = b""
            if self._roots.count() == first + len(known) // HASH_SIZE:
                self._append(roots[len(known) :])

    def check(self) -> None:
        """Hold the projection to the root that the journal's last header names; build it anew if they differ.

        Raises:
            IntegrityFailure: ``TREE_ROOT``, the stored leaves themselves make another tree.
        """
        height = self._store.last_height()
        header = journal.decode_header(self._store.header(height)) if height else None
        size = 0 if header is None else header.tree_size
        with self._lock:
            if self._roots.count() > size >> TILE_LEVEL:
                self._truncate(size >> TILE_LEVEL)
            self._fill_upper()
        if header is None or self.root(size) == header.tree_root:
            return
        with self._lock:
            self._truncate(0)
            self._leaves.clear()
        if self.root(size) != header.tree_root:
            sentence = "The stored leaves make another tree than the header names."
            raise IntegrityFailure("TREE_ROOT", sentence, block=height)

    def _ensure(self, size: int) -> None:
        """Make the tiles below ``size`` that nobody has brought, from stored blocks.

        Raises:
            NotFound: the journal has not come so far.
        """
        if size:
            self._store.height_of(size - 1)
        needed = size >> TILE_LEVEL
        with self._lock:
            if self._roots.count() < needed:
                self._make(needed)

    def _make(self, needed: int) -> None:
        """Make tiles from stored blocks, one block after another, until there are as many as needed."""
        first = self._roots.count() * TILE_WIDTH
        rest = np.empty((0, HASH_SIZE), np.uint8)
        height = self._store.height_of(first)
        skipped = first - self._reader.header(height).first_position
        blocks = self._store.blocks(height)
        while self._roots.count() < needed:
            rest = np.concatenate((rest, _leaves_of(next(blocks))[skipped:]))
            skipped = 0
            complete = len(rest) // TILE_WIDTH * TILE_WIDTH
            if complete:
                self._append(_tile_roots(rest[:complete]))
                rest = rest[complete:]

    def _append(self, roots: bytes) -> None:
        self._roots.append(roots)
        self._fill_upper()

    def _truncate(self, count: int) -> None:
        self._roots.truncate(count)
        self._upper_count = min(self._upper_count, count >> TILE_LEVEL)

    def _fill_upper(self) -> None:
        """Make the roots over 256 tiles that are not in memory yet."""
        while self._upper_count < self._roots.count() >> TILE_LEVEL:
            if self._upper_count == len(self._upper):
                bigger = np.empty((2 * len(self._upper), HASH_SIZE), np.uint8)
                bigger[: self._upper_count] = self._upper
                self._upper = bigger
            rows = _table(self._roots.read(self._upper_count << TILE_LEVEL, TILE_WIDTH))
            self._upper[self._upper_count] = np.frombuffer(merkle.root(rows), np.uint8)
            self._upper_count += 1

    # --- answering ----------------------------------------------------------------------------------------------------

    def root(self, size: int) -> bytes:
        """Give the root of the first ``size`` leaves.

        Raises:
            NotFound: the journal has not come so far.
        """
        self._ensure(size)
        return merkle.range_root(0, size, self._node) if size else merkle.EMPTY_ROOT

    def leaf_hash(self, position: int) -> bytes:
        """Give the hash of the leaf at a position, as it is stored.

        Raises:
            NotFound: the journal has not come so far.
        """
        tile, index = divmod(position, TILE_WIDTH)
        leaf: bytes = self._leaf_hashes(tile, index + 1)[index].tobytes()
        return leaf

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Prove that the leaf at a position stands in the tree of the first ``size`` leaves (RFC 6962 §2.1.1).

        Raises:
            MalformedInput: ``PROOF_RANGE``, the tree has no such leaf.
            NotFound: the journal has not come so far.
        """
        ranges = merkle.inclusion_ranges(position, size)
        self._ensure(size)
        return [merkle.range_root(start, end, self._node) for start, end in ranges]

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Prove that the first ``new_size`` leaves begin with the first ``old_size`` (RFC 6962 §2.1.2).

        Raises:
            MalformedInput: ``PROOF_RANGE``, the old tree is larger than the new one.
            NotFound: the journal has not come so far.
        """
        ranges = merkle.consistency_ranges(old_size, new_size)
        self._ensure(new_size)
        return [merkle.range_root(start, end, self._node) for start, end in ranges]

    def _node(self, level: int, index: int) -> bytes:
        """Give the root of complete subtree ``index`` of 2**level leaves."""
        if level >= UPPER_LEVEL:
            shift = level - UPPER_LEVEL
            return merkle.root(self._upper[index << shift : index + 1 << shift])
        if level >= TILE_LEVEL:
            shift = level - TILE_LEVEL
            return merkle.root(_table(self._roots.read(index << shift, 1 << shift)))
        tile, first = divmod(index << level, TILE_WIDTH)
        end = first + (1 << level)
        return merkle.root(self._leaf_hashes(tile, end)[first:end])

    def _leaf_hashes(self, tile: int, count: int) -> Bytes:
        """Give the hashes of at least the first ``count`` leaves of a tile, from memory or from stored blocks.

        Raises:
            IntegrityFailure: ``TILE_DIFFERS``, a complete tile's leaves do not make its root.
        """
        with self._lock:
            known = self._leaves.get(tile)
            is_complete = tile < self._roots.count()
            if known is not None and len(known) >= count:
                self._leaves.move_to_end(tile)
                return known
        first, have = tile * TILE_WIDTH, 0 if known is None else len(known)
        hashes = self._stored_leaves(first + have, first + (TILE_WIDTH if is_complete else count))
        if known is not None:
            hashes = np.concatenate((known, hashes))
        if is_complete and merkle.root(hashes) != self._roots.read(tile, 1):
            raise IntegrityFailure("TILE_DIFFERS", "Stored leaves do not make their tile's root.", position=first)
        with self._lock:
            self._remember(tile, hashes)
        return hashes

    def _remember(self, tile: int, hashes: Bytes) -> None:
        self._leaves[tile] = hashes
        self._leaves.move_to_end(tile)
        if len(self._leaves) > LEAF_TILE_COUNT_MAX:
            self._leaves.popitem(last=False)

    def _stored_leaves(self, first: int, end: int) -> Bytes:
        """Hash the leaves from ``first`` to before ``end`` again: of a large block a few, of small ones all."""
        height = self._store.height_of(first)
        header = self._reader.header(height)
        if header.position_count > SMALL_COUNT:
            return self._reader.leaf_hashes(first, end)
        parts, position = [], header.first_position
        blocks = self._store.blocks(height)
        while position < end:
            parts.append(_leaves_of(next(blocks)))
            position += len(parts[-1])
        leaves = np.concatenate(parts)
        return leaves[first - header.first_position :][: end - first]


def _leaves_of(encoded: EncodedBlock) -> Bytes:
    """Hash all leaves of a stored block, shape (positions, 32).

    Raises:
        IntegrityFailure: it cannot be read, or its body is not the one that its header names.
    """
    try:
        block = journal.decode(encoded)
    except MalformedInput as error:
        raise IntegrityFailure(error.code, error.sentence) from error
    return block_leaves(block.header.expired_count, block.entries, block.transfers)


def _tile_roots(hashes: Bytes) -> bytes:
    for _ in range(TILE_LEVEL):
        hashes = merkle.parent_hashes(hashes)
    return hashes.tobytes()


def _table(roots: bytes) -> Bytes:
    return np.frombuffer(roots, np.uint8).reshape(-1, HASH_SIZE)


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
