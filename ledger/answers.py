"""What every journaled message was answered with: a few arrays instead of an object a message.

A message is named by its party and the first 128 bits of SHA-256 over its idempotency key, under which a ``Registry``
finds it; beside that stand 128 bits of its identity, by which a retry is told from a conflict, and the number of its
records. In which block it lies follows from its position: ``first_positions`` has one number a block. That is less
than 60 bytes a message. Two different keys of one party that agree in 128 bits would be taken for one; whoever could
find such a pair could only deny himself a message.

>>> answers = Answers(bytes(16))
>>> answers.add(3, "key", Answer(position=7, count=2, height=1, digest=bytes(16)))
>>> answers.get(3, "key").position, answers.get(3, "other")
(7, None)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from ledger.compiled import Number, kernel
from ledger.errors import InvariantViolation
from ledger.registry import Array, Growable, IdStatus, Registry, append, find, hash_id

__all__ = ["ANSWER", "IDENTITY_SIZE", "Answer", "Answers"]

IDENTITY_SIZE = 16
"""Bytes that are kept of a message's identity."""

ANSWER = np.dtype([("digest_lo", "<u8"), ("digest_hi", "<u8"), ("count", "<u4")])
"""Beside each entry of the registry, 20 bytes: the message's identity, and how many records follow it."""

_ROOM = 64
_S32 = np.uint64(32)
_POSTED = int(IdStatus.POSTED)


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a message stands: its position, how many records follow it, in which block. The same for every retry.

    ``digest`` is the first part of the message's identity; ``is_repeated`` says that it had been answered before.
    """

    position: int
    count: int
    height: int
    digest: bytes
    is_repeated: bool = field(default=False, compare=False)


@kernel
def look_up(entries: Array, index: Array, control: Array, keys: Array, words: Array, party: Number) -> Number:
    """Give the number of the message that two words and a party name, negative if there is none."""
    owner = np.uint64(party)
    fingerprint = hash_id(words[0], words[1], owner, keys[0], keys[1]) >> _S32
    return find(entries, index, control, fingerprint, words[0], words[1], owner)


@kernel
def enter(
    entries: Array,
    rows: Array,
    index: Array,
    control: Array,
    keys: Array,
    words: Array,
    party: Number,
    position: Number,
    count: Number,
) -> Number:
    """Enter a message, its identity behind its name in ``words``; negative if the name is used."""
    owner = np.uint64(party)
    fingerprint = hash_id(words[0], words[1], owner, keys[0], keys[1]) >> _S32
    found = find(entries, index, control, fingerprint, words[0], words[1], owner)
    if found >= 0:
        return np.int64(-1)
    place = np.uint64(position)
    number = append(
        entries, index, control, -1 - found, fingerprint, words[0], words[1], owner, place, np.int64(_POSTED)
    )
    row = rows[number]
    row["digest_lo"] = words[2]
    row["digest_hi"] = words[3]
    row["count"] = count
    return number


class Answers:
    """The answers of one ledger by party and idempotency key. Not thread-safe: it belongs to its machine."""

    def __init__(self, hash_key: bytes) -> None:
        """Start empty. ``hash_key``: at least 16 secret bytes."""
        self.registry = Registry(hash_key)
        self.rows = Growable(ANSWER, len(self.registry.entries))
        self.first_positions = Growable(np.uint64, _ROOM)
        self.block_count = 0
        self._room = 0

    def __len__(self) -> int:
        return len(self.registry)

    @property
    def size_bytes(self) -> int:
        """Bytes in use."""
        return self.registry.size_bytes + len(self) * ANSWER.itemsize + 8 * self.block_count

    def get(self, party: int, key: str) -> Answer | None:
        """Give the answer to a party's message by its idempotency key, ``None`` if there is none."""
        registry = self.registry
        words = np.frombuffer(_name(key), "<u8")
        number = look_up(registry.entries, registry.index, registry.control, registry.keys, words, party)
        if number < 0:
            return None
        low, high, count = self.rows.array[number].item()
        _, _, _, place, tag = registry.entries[number].item()
        position, digest = (tag >> 4) << 32 | place, low.to_bytes(8, "little") + high.to_bytes(8, "little")
        return Answer(position, count, self._height_of(position), digest, is_repeated=True)

    def add(self, party: int, key: str, answer: Answer) -> None:
        """Enter the answer to a new message; its block may still be under way.

        Raises:
            InvariantViolation: the party has used the key.
        """
        if not self._room:
            self.reserve(_ROOM)
        registry = self.registry
        words = np.frombuffer(_name(key) + answer.digest, "<u8")
        number = enter(
            registry.entries,
            self.rows.array,
            registry.index,
            registry.control,
            registry.keys,
            words,
            party,
            answer.position,
            answer.count,
        )
        if number < 0:
            raise InvariantViolation("I8: a message was executed again")
        self._room -= 1

    def begin_block(self, first_position: int) -> None:
        """Note where the block begins that comes after all others; saying so again changes nothing."""
        if self.block_count and self.first_positions.array[self.block_count - 1] == first_position:
            return
        if self.block_count == len(self.first_positions.array):
            self.first_positions.grow(2 * self.block_count)
        self.first_positions.array[self.block_count] = first_position
        self.block_count += 1

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more messages."""
        self.registry.reserve(count)
        self.rows.grow(len(self.registry.entries))
        self._room = count

    def _height_of(self, position: int) -> int:
        """Give the height of the block in which a position lies."""
        firsts = self.first_positions.array[: self.block_count]
        return int(firsts.searchsorted(np.uint64(position), side="right"))


def _name(key: str) -> bytes:
    """Give what stands for an idempotency key."""
    return hashlib.sha256(key.encode()).digest()[:16]
