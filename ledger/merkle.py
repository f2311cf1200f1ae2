"""The Merkle tree of RFC 6962 §2.1 over leaf hashes: roots, a frontier that only grows, proofs and their checks.

A leaf's hash is SHA-256(0x00 || data), a node's SHA-256(0x01 || left || right), the empty tree's root SHA-256 of
nothing. A tree of *n* > 1 leaves splits at the largest power of two below *n*. Everything here works on leaf hashes, as
arrays of shape (n, 32); what a leaf contains is its caller's business.

>>> frontier = Frontier()
>>> hashes = leaf_hashes(np.frombuffer(b"onetwosix", np.uint8).reshape(3, 3))
>>> frontier.append_many(hashes)
>>> proof = inclusion_proof(hashes, 1)
>>> verify_inclusion(leaf_hash(b"two"), 1, 3, proof, frontier.root())

Hashing has two paths with the same results: ``hashlib`` row by row, always there, and the compiled one of ``sha256``,
taken for tables worth it unless ``compiled=False``.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "RECENT_COUNT",
    "SIZE_MAX",
    "TILE_LEVEL",
    "TILE_WIDTH",
    "Frontier",
    "consistency_proof",
    "consistency_ranges",
    "inclusion_proof",
    "inclusion_ranges",
    "leaf_hash",
    "leaf_hashes",
    "node_hash",
    "parent_hashes",
    "range_root",
    "root",
    "verify_consistency",
    "verify_inclusion",
]

Bytes = npt.NDArray[np.uint8]
"""A table of bytes; hashes have shape (n, 32)."""

HASH_SIZE = 32
SIZE_MAX = 2**63 - 1
"""Leaves of one tree."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
TILE_LEVEL = 8
"""A tile is a complete subtree of 2**TILE_LEVEL leaves."""
TILE_WIDTH = 1 << TILE_LEVEL
RECENT_COUNT = 16 * TILE_WIDTH
"""How many of its last leaf hashes a frontier keeps at least: what was appended just now is asked for first."""

_LEAF_BYTE = b"\x00"
_NODE_BYTE = b"\x01"
_COMPILED_COUNT_MIN = 32
"""Below so many rows the compiled path gains less than loading it may cost."""
_FRONTIER_VERSION = 1
_FRONTIER_HEAD = struct.Struct("<BQ")


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf (RFC 6962 §2.1)."""
    return hashlib.sha256(_LEAF_BYTE + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node from its two children."""
    return hashlib.sha256(_NODE_BYTE + left + right).digest()


def leaf_hashes(rows: Bytes, *, kind: bytes = b"", output: Bytes | None = None, compiled: bool = True) -> Bytes:
    """Hash every row as one leaf.

    Args:
        rows: leaf data, shape (n, width), dtype uint8, C-contiguous.
        kind: what the data of every leaf begins with, before its row.
        output: where the hashes are written, shape (n, 32), C-contiguous; new memory unless it is given.
        compiled: ``False`` asks for ``hashlib``; ``True`` allows the compiled path where it is worth it.

    Returns:
        The hashes, shape (n, 32).

    Raises:
        InvariantViolation: another shape or layout.
    """
    if rows.ndim != 2 or rows.dtype != np.uint8 or not rows.flags.c_contiguous:
        raise InvariantViolation("leaf data is a C-contiguous table of bytes")
    return _digests(_LEAF_BYTE + kind, rows, output, compiled=compiled)


def parent_hashes(hashes: Bytes, *, output: Bytes | None = None, compiled: bool = True) -> Bytes:
    """Hash neighbours in pairs: shape (2n, 32) gives shape (n, 32), written into ``output`` if it is given.

    Raises:
        InvariantViolation: not hashes, or an odd number of them.
    """
    _check_hashes(hashes)
    if len(hashes) % 2:
        raise InvariantViolation("an odd number of hashes has no pairs")
    return _digests(_NODE_BYTE, hashes.reshape(len(hashes) // 2, 2 * HASH_SIZE), output, compiled=compiled)


class Frontier:
    """A tree that only grows, kept as the roots of its complete subtrees: all that appending and the root need.

    Bit *k* of ``size`` is set exactly if there is a subtree of 2**k leaves; larger ones stand left of smaller ones. The
    roots of tiles are made on the way; they are kept, an eighth of a byte a leaf, until somebody takes them. So are the
    last few thousand leaf hashes.
    """

    __slots__ = ("_first_tile", "_peaks", "_recent", "_size", "_tile_roots")

    def __init__(self) -> None:
        """Start with the empty tree."""
        self._peaks: dict[int, bytes] = {}
        self._size = 0
        self._first_tile = 0
        self._tile_roots = bytearray()
        self._recent = bytearray()

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append_many(self, leaf_hashes: Bytes, *, compiled: bool = True) -> None:
        """Append leaves by their hashes, shape (n, 32).

        Many leaves go level by level, about n hashes in a few calls; few go one by one, as do all if not ``compiled``.

        Raises:
            InvariantViolation: not hashes, or more leaves than ``SIZE_MAX``.
        """
        _check_hashes(leaf_hashes)
        if self._size + len(leaf_hashes) > SIZE_MAX:
            raise InvariantViolation("the tree is full")
        if compiled and len(leaf_hashes) >= _COMPILED_COUNT_MIN:
            self._append_levels(leaf_hashes)
        else:
            for row in leaf_hashes:
                self._append_one(row.tobytes())
        self._size += len(leaf_hashes)
        self._recent += leaf_hashes[-RECENT_COUNT:].tobytes()
        if len(self._recent) > 2 * RECENT_COUNT * HASH_SIZE:
            del self._recent[: -RECENT_COUNT * HASH_SIZE]

    def _append_one(self, node: bytes) -> None:
        level = 0
        while level in self._peaks:
            node = node_hash(self._peaks.pop(level), node)
            level += 1
            if level == TILE_LEVEL:
                self._tile_roots += node
        self._peaks[level] = node

    def _append_levels(self, nodes: Bytes) -> None:
        level, first = 0, self._size
        while len(nodes):
            if level == TILE_LEVEL:
                self._tile_roots += nodes.tobytes()
            lead = first % 2  # the first new node's left neighbour is then a peak, which now gets its parent
            parents = np.empty(((lead + len(nodes)) // 2, HASH_SIZE), np.uint8)
            if lead:
                parents[0] = np.frombuffer(node_hash(self._peaks.pop(level), nodes[0].tobytes()), np.uint8)
            if (lead + len(nodes)) % 2:
                self._peaks[level] = nodes[-1].tobytes()
            parent_hashes(nodes[lead : 2 * len(parents) - lead], output=parents[lead:])
            nodes = parents
            first //= 2
            level += 1

    def root(self) -> bytes:
        """Give the root of all leaves so far; ``EMPTY_ROOT`` for none."""
        peaks = [self._peaks[level] for level in sorted(self._peaks)]
        return functools.reduce(lambda right, left: node_hash(left, right), peaks) if peaks else EMPTY_ROOT

    def take_tile_roots(self) -> tuple[int, bytes]:
        """Give the roots of the tiles completed since the last time, 32 bytes each, and keep them no longer.

        Returns:
            The number of the first of them (tile *i* begins at leaf ``i * TILE_WIDTH``), and their roots.
        """
        first, roots = self._first_tile, bytes(self._tile_roots)
        self._tile_roots.clear()
        self._first_tile = self._size >> TILE_LEVEL
        return first, roots

    def recent_leaves(self) -> tuple[int, Bytes]:
        """Give the last leaves, ``RECENT_COUNT`` or more if there were: the first one's position, and the hashes."""
        recent = np.frombuffer(bytes(self._recent), np.uint8).reshape(-1, HASH_SIZE)
        return self._size - len(recent), recent

    def copy(self) -> Frontier:
        """Give an independent frontier that stands at the same leaf; it begins without tile roots and recent leaves."""
        twin = Frontier()
        twin._peaks = dict(self._peaks)
        twin._size = self._size
        twin._first_tile = self._size >> TILE_LEVEL
        return twin

    def to_bytes(self) -> bytes:
        """Encode: version byte 0, size as little-endian u64, then the subtree roots, largest first."""
        peaks = [self._peaks[level] for level in sorted(self._peaks, reverse=True)]
        return b"".join((_FRONTIER_HEAD.pack(_FRONTIER_VERSION, self._size), *peaks))

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """Decode exactly what ``to_bytes`` gives. Whether the hashes are right shows only against a signed root.

        Raises:
            MalformedInput: unknown version, a size above ``SIZE_MAX``, or not exactly the hashes it needs.
        """
        if len(data) < _FRONTIER_HEAD.size:
            raise MalformedInput("FRONTIER_MALFORMED", "The frontier is cut short.")
        version, size = _FRONTIER_HEAD.unpack_from(data)
        if version != _FRONTIER_VERSION:
            raise MalformedInput("FRONTIER_MALFORMED", "The frontier has an unknown version.", version=version)
        if size > SIZE_MAX or len(data) != _FRONTIER_HEAD.size + size.bit_count() * HASH_SIZE:
            raise MalformedInput("FRONTIER_MALFORMED", "The frontier's length does not fit its size.", size=size)
        frontier = cls()
        frontier._size = size
        frontier._first_tile = size >> TILE_LEVEL
        levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
        for index, level in enumerate(levels):
            start = _FRONTIER_HEAD.size + index * HASH_SIZE
            frontier._peaks[level] = data[start : start + HASH_SIZE]
        return frontier


def root(leaf_hashes: Bytes, *, compiled: bool = True) -> bytes:
    """Give the root of a whole tree from its leaf hashes, shape (n, 32)."""
    frontier = Frontier()
    frontier.append_many(leaf_hashes, compiled=compiled)
    return frontier.root()


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Give the leaf ranges [start, end) whose roots are the inclusion proof of one leaf, in proof order.

    A store that keeps subtree roots can answer from these without touching every leaf (RFC 6962 §2.1.1).

    Raises:
        MalformedInput: there is no such leaf.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise MalformedInput("PROOF_RANGE", "The tree has no such leaf.", index=index, size=size)
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """Give the leaf ranges [start, end) whose roots prove that one tree extends another, in proof order.

    RFC 6962 §2.1.2; no ranges at all between equal trees, and from the empty tree, which every tree extends.

    Raises:
        MalformedInput: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise MalformedInput("PROOF_RANGE", "The old tree is not inside the new one.", old=old_size, new=new_size)
    ranges: list[tuple[int, int]] = []
    start, end = 0, new_size
    while 0 < old_size < end:
        middle = start + _split(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start > 0:  # the verifier holds the old root, but not the root of its last part
        ranges.append((start, end))
    return ranges[::-1]


def range_root(start: int, end: int, node: Callable[[int, int], bytes]) -> bytes:
    """Give the root over the leaves [start, end) of one of the ranges above, from complete subtrees.

    Args:
        start: where a subtree of at least the range's size begins.
        end: above ``start``.
        node: gives the root of complete subtree number ``index`` of ``2**level`` leaves, called with (level, index).
    """
    nodes: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append(node(level, start >> level))
        start += 1 << level
    return functools.reduce(lambda right, left: node_hash(left, right), reversed(nodes))


def inclusion_proof(leaf_hashes: Bytes, index: int, *, compiled: bool = True) -> list[bytes]:
    """Prove that the leaf at ``index`` stands in the tree over ``leaf_hashes``, shape (n, 32).

    Raises:
        MalformedInput: there is no such leaf.
    """
    ranges = inclusion_ranges(index, len(leaf_hashes))
    return [root(leaf_hashes[start:end], compiled=compiled) for start, end in ranges]


def consistency_proof(leaf_hashes: Bytes, old_size: int, *, compiled: bool = True) -> list[bytes]:
    """Prove that the tree over ``leaf_hashes``, shape (n, 32), extends the one over its first ``old_size``.

    Raises:
        MalformedInput: there are fewer leaves.
    """
    ranges = consistency_ranges(old_size, len(leaf_hashes))
    return [root(leaf_hashes[start:end], compiled=compiled) for start, end in ranges]


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with this hash stands at ``index`` of the tree of ``size`` leaves with this root.

    Raises:
        IntegrityFailure: it does not follow, or the proof has not exactly the hashes it needs.
    """
    code = "INCLUSION_PROOF_INVALID"
    if not 0 <= index < size <= SIZE_MAX:
        raise IntegrityFailure(code, "The tree has no such leaf.", index=index, size=size)
    _check_proof(code, (leaf_hash, root, *proof), len(proof), len(inclusion_ranges(index, size)))
    if _climb(leaf_hash, index, size, iter(proof)) != root:
        raise IntegrityFailure(code, "The proof leads to another root.", index=index, size=size)


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the new tree holds the old one unchanged as its first ``old_size`` leaves (I5).

    Every tree extends the empty one, whose root must still be ``EMPTY_ROOT``.

    Raises:
        IntegrityFailure: it does not follow, or the proof has not exactly the hashes it needs.
    """
    code = "CONSISTENCY_PROOF_INVALID"
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise IntegrityFailure(code, "The old tree is not inside the new one.", old=old_size, new=new_size)
    _check_proof(code, (old_root, new_root, *proof), len(proof), len(consistency_ranges(old_size, new_size)))
    if old_size == 0:
        derived = EMPTY_ROOT, EMPTY_ROOT if new_size == 0 else new_root
    else:
        derived = _climb_both(old_root, old_size, new_size, iter(proof), leftmost=True)
    if derived != (old_root, new_root):
        raise IntegrityFailure(code, "The proof leads to other roots.", old=old_size, new=new_size)


def _climb(node: bytes, index: int, size: int, proof: Iterator[bytes]) -> bytes:
    """Give the root over a leaf: down to it along the splits, then back up, taking one sibling at each."""
    if size == 1:
        return node
    middle = _split(size)
    if index < middle:
        below = _climb(node, index, middle, proof)
        return node_hash(below, next(proof))
    below = _climb(node, index - middle, size - middle, proof)
    return node_hash(next(proof), below)


def _climb_both(
    old_root: bytes, old_size: int, size: int, proof: Iterator[bytes], *, leftmost: bool
) -> tuple[bytes, bytes]:
    """Give the roots of the old and of the new tree, both built from the same subtrees.

    The part that both share is the old tree itself as long as the way down kept to the left, else the first hash of
    the proof.
    """
    if old_size == size:
        shared = old_root if leftmost else next(proof)
        return shared, shared
    middle = _split(size)
    if old_size <= middle:
        old, new = _climb_both(old_root, old_size, middle, proof, leftmost=leftmost)
        return old, node_hash(new, next(proof))
    old, new = _climb_both(old_root, old_size - middle, size - middle, proof, leftmost=False)
    left = next(proof)
    return node_hash(left, old), node_hash(left, new)


def _check_proof(code: str, hashes: Sequence[bytes], given: int, needed: int) -> None:
    if given != needed:
        raise IntegrityFailure(code, "The proof has another number of hashes.", given=given, needed=needed)
    if any(len(item) != HASH_SIZE for item in hashes):
        raise IntegrityFailure(code, "A hash has not 32 bytes.")


def _check_hashes(hashes: Bytes) -> None:
    if hashes.ndim != 2 or hashes.shape[1] != HASH_SIZE or hashes.dtype != np.uint8 or not hashes.flags.c_contiguous:
        raise InvariantViolation("hashes are a C-contiguous table of 32 bytes a row")


def _split(size: int) -> int:
    """Give the largest power of two below ``size``, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _digests(prefix: bytes, rows: Bytes, output: Bytes | None, *, compiled: bool) -> Bytes:
    """Hash prefix and row, for each row, by the path that suits the table."""
    output = np.empty((len(rows), HASH_SIZE), np.uint8) if output is None else output
    if output.shape != (len(rows), HASH_SIZE) or not output.flags.c_contiguous:
        raise InvariantViolation("hashes are written into a contiguous table of as many")
    kernel = _compiled_digests() if compiled and len(rows) >= _COMPILED_COUNT_MIN else None
    if kernel is None:
        _reference_digests(prefix, rows, output)
    else:
        kernel(prefix, rows, output)
    return output


def _reference_digests(prefix: bytes, rows: Bytes, output: Bytes) -> None:
    """Hash row by row with ``hashlib``: what the compiled path is held against."""
    count, width = rows.shape
    data = rows.tobytes()
    parts = [hashlib.sha256(prefix + data[at * width : (at + 1) * width]).digest() for at in range(count)]
    output[:] = np.frombuffer(b"".join(parts), np.uint8).reshape(count, HASH_SIZE)


@functools.cache
def _compiled_digests() -> Callable[[bytes, Bytes, Bytes], Bytes] | None:
    """Load the compiled path when first needed, or do without: a client that only verifies needs no compiler."""
    try:
        from ledger import sha256  # noqa: PLC0415 - loading it costs most of a second
    except ImportError:
        return None
    return sha256.digests
