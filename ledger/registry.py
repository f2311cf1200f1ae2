"""The registry of ids: which ids each party has used up, for ever, and what became of them.

Two arrays. ``entries`` is a log: one packed 26-byte entry an id, appended in the order of journal positions and never
removed. ``index`` finds entries: open addressing over 8-byte slots, each a 32-bit fingerprint of the id above a
32-bit entry number. A fingerprint that agrees is only a hint; the whole id and its party are compared before anything
is called equal.

The fingerprint is the upper half of SipHash-1-3 under a secret key, so nobody outside can choose ids that crowd
together, and an id's slot is ``fingerprint * capacity >> 32``: fingerprints stand in ascending order, with gaps. That
order is what lets the index grow without a pause. A larger capacity moves every id to the same or a higher slot, so
the index is respread in place from its upper end, a few slots for each id that arrives; a frontier fingerprint says
which of the two capacities places an id at this moment. Both arrays grow by remapping pages instead of copying them.

Key, layout and capacities are visible in no result: two registries with the same ids answer alike.
"""

from __future__ import annotations

import enum
import hashlib
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.compiled import Number, Row, kernel
from ledger.errors import InvariantViolation

__all__ = ["ENTRY", "POSITION_LIMIT", "Entry", "Growable", "IdStatus", "Registry", "aligned_zeros", "hash_id"]

Array = npt.NDArray[Any]

ENTRY = np.dtype([("id_hi", "<u8"), ("id_lo", "<u8"), ("party", "<u4"), ("low", "<u4"), ("tag", "<u2")])
"""One id, 26 bytes. ``tag``: status in the low 4 bits, above them bits 32 ... 43 of the position. ``low``: the
position's low 32 bits; while the id's hold lives, the slot of the hold instead, and once its transfer has been reversed
the slot of the reversal. Hold and reversal know the position."""

LINE_SIZE = 64
"""Bytes of a line of the processor's cache."""
POSITION_LIMIT = 2**44
"""Journal positions stay below this: 17 million million."""


class IdStatus(enum.IntEnum):
    """What became of an id. In an entry ``HOLD_OPEN`` is any living hold: the hold itself knows whether it is bound."""

    POSTED = 1
    REFUSED = 2
    HOLD_OPEN = 3
    HOLD_BOUND = 4
    HOLD_POSTED = 5
    HOLD_VOIDED = 6
    HOLD_EXPIRED = 7
    OTHER = 8
    """An applied POST or VOID: the id of the ending, not of the hold."""
    REVERSED = 9
    """An applied transfer or POST of which some has been taken back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the registry knows of an id: the position of its first record, and what became of it."""

    position: int
    status: IdStatus


# Fields of ``control``, which the compiled functions share. Capacities count slots before the tail.
COUNT = 0
CAPACITY_OLD = 1
CAPACITY = 2
FRONTIER = 3
EDGE = 4

# Behind the last home slot lie some more, so that a crowd at the upper end need not wrap round. The last is never
# filled.
TAIL = 4_096
CAPACITY_MIN = 1_024
ENTRY_COUNT_MAX = 2**32 - 2**16

# An index that is three quarters full starts to grow by a quarter (while small: twofold), 16 old slots for each new
# id. It is done when a sixteenth has been added; beyond seven eighths a search would take too many steps.
_GROW_AT = (3, 4)
_FULL_AT = (7, 8)
_SLOTS_PER_ID = 16
_SLOTS_PER_CALL = 64
_STRETCH = 2_048
_DOUBLE_BELOW = 2**20

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_WORD = np.uint64(0xFFFFFFFF)
_S13, _S16, _S17, _S21, _S32 = np.uint64(13), np.uint64(16), np.uint64(17), np.uint64(21), np.uint64(32)
_S43, _S47, _S48, _S51 = np.uint64(43), np.uint64(47), np.uint64(48), np.uint64(51)
_SIP_0, _SIP_1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_SIP_2, _SIP_3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_SIP_LENGTH = np.uint64(20 << 56)
_SIP_END = np.uint64(0xFF)


@kernel
def _sip_round(v0: Number, v1: Number, v2: Number, v3: Number) -> Number:
    v0 += v1
    v1 = ((v1 << _S13) | (v1 >> _S51)) ^ v0
    v0 = (v0 << _S32) | (v0 >> _S32)
    v2 += v3
    v3 = ((v3 << _S16) | (v3 >> _S48)) ^ v2
    v0 += v3
    v3 = ((v3 << _S21) | (v3 >> _S43)) ^ v0
    v2 += v1
    v1 = ((v1 << _S17) | (v1 >> _S47)) ^ v2
    v2 = (v2 << _S32) | (v2 >> _S32)
    return v0, v1, v2, v3


@kernel
def hash_id(high: Number, low: Number, party: Number, key_0: Number, key_1: Number) -> Number:
    """SipHash-1-3 of the 20 bytes id_hi, id_lo, party (each little-endian) under a 128-bit key. All unsigned 64-bit."""
    v0, v1, v2, v3 = key_0 ^ _SIP_0, key_1 ^ _SIP_1, key_0 ^ _SIP_2, key_1 ^ _SIP_3
    v3 ^= high
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= high
    v3 ^= low
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= low
    last = _SIP_LENGTH | party
    v3 ^= last
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= last
    v2 ^= _SIP_END
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel
def home_slot(control: Array, fingerprint: Number) -> Number:
    """Give the slot where the search for a fingerprint (unsigned 64-bit, below 2^32) begins."""
    capacity = control[CAPACITY] if fingerprint >= control[FRONTIER] else control[CAPACITY_OLD]
    return (fingerprint * capacity) >> _S32


@kernel
def find(
    entries: Array, index: Array, control: Array, fingerprint: Number, high: Number, low: Number, party: Number
) -> Number:
    """Give the entry number of an id, or -1 - s where s is the slot that would take it."""
    slot = home_slot(control, fingerprint)
    least = fingerprint << _S32
    while True:
        value = index[slot]
        if value - _ONE >= least:  # empty (wraps round), or not below the fingerprint: one branch for both
            if value >> _S32 != fingerprint or value == _ZERO:
                return -1 - np.int64(slot)
            number = (value & _WORD) - _ONE
            entry = entries[number]
            if entry["id_lo"] == low and entry["id_hi"] == high and entry["party"] == party:
                return np.int64(number)
        slot += _ONE


@kernel
def insert(index: Array, slot: Number, value: Number) -> None:
    """Put a value at a slot (unsigned 64-bit); the larger ones that stand there move up, to the next empty slot."""
    while index[slot] != _ZERO:
        index[slot], value = value, index[slot]
        slot += _ONE
    index[slot] = value


@kernel
def tag_of(status: Number, position: Number) -> Number:
    """Give the tag of an entry: its status and the upper bits of its position (unsigned 64-bit)."""
    return np.uint64(status) | ((position >> _S32) << np.uint64(4))


@kernel
def position_of(entry: Row) -> Number:
    """Give the position of an entry whose ``low`` is part of it (unsigned 64-bit)."""
    return ((np.uint64(entry["tag"]) >> np.uint64(4)) << _S32) | np.uint64(entry["low"])


@kernel
def append(
    entries: Array,
    index: Array,
    control: Array,
    slot: Number,
    fingerprint: Number,
    high: Number,
    low: Number,
    party: Number,
    position: Number,
    status: Number,
) -> Number:
    """Enter an id that ``find`` did not find, at the slot it gave; gives the entry number."""
    number = control[COUNT]
    insert(index, np.uint64(slot), (fingerprint << _S32) | (number + _ONE))
    entry = entries[number]
    entry["id_hi"] = high
    entry["id_lo"] = low
    entry["party"] = party
    entry["low"] = position & _WORD
    entry["tag"] = tag_of(status, position)
    control[COUNT] = number + _ONE
    return np.int64(number)


@kernel
def respread(index: Array, control: Array, slot_count: Number) -> None:
    """Move the fingerprints of at least ``slot_count`` slots, from the upper end down, to their new places.

    They move in stretches that begin above an empty slot, for nothing above an empty slot has its home below it. The
    new places of a stretch lie below those of the stretches before; only its last run may push into theirs.
    """
    edge: Number = np.int64(control[EDGE])
    while index[edge] != _ZERO:
        edge += 1  # ids that came since have filled the empty slot below the last stretch
    stop = max(edge - slot_count, 0)
    stretch = np.empty(2 * _STRETCH, np.uint64)
    while edge > stop:
        first = max(edge - _STRETCH, 0)
        while first > 0 and index[first - 1] != _ZERO:
            first -= 1
        if edge - first > stretch.size:
            stretch = np.empty(edge - first, np.uint64)
        count = 0
        for i in range(first, edge):
            stretch[count] = index[i]
            count += index[i] != _ZERO
            index[i] = _ZERO
        slot = _ZERO
        for i in range(count):
            slot = max(((stretch[i] >> _S32) * control[CAPACITY]) >> _S32, slot)
            insert(index, slot, stretch[i])
            slot += _ONE
        edge = max(first - 1, 0)
    control[EDGE] = np.uint64(edge)
    if edge == 0:
        control[FRONTIER] = _ZERO
        control[CAPACITY_OLD] = control[CAPACITY]
    else:
        # All that has moved has its home above the empty slot ``edge``.
        control[FRONTIER] = ((np.uint64(edge + 1) << _S32) + control[CAPACITY_OLD] - _ONE) // control[CAPACITY_OLD]


@kernel
def hash_entries(entries: Array, keys: Array, values: Array) -> None:
    """Give for each entry what stands in the index for it, in the order of the entries."""
    for number in range(values.size):
        entry = entries[number]
        high, low, party = np.uint64(entry["id_hi"]), np.uint64(entry["id_lo"]), np.uint64(entry["party"])
        fingerprint = hash_id(high, low, party, keys[0], keys[1]) >> _S32
        values[number] = (fingerprint << _S32) | np.uint64(number + 1)


@kernel
def spread(index: Array, entries: Array, values: Array, capacity: Number) -> Number:
    """Fill an empty index with ascending values; false if an id stands there twice, or they do not find room."""
    slot = np.int64(0)
    for i in range(values.size):
        home = np.int64(((values[i] >> _S32) * np.uint64(capacity)) >> _S32)
        slot = max(slot, home)
        if slot >= index.size - TAIL // 2:
            return False
        index[slot] = values[i]
        slot += 1
        earlier = i - 1
        while earlier >= 0 and values[earlier] >> _S32 == values[i] >> _S32:
            one, other = entries[np.int64(values[earlier] & _WORD) - 1], entries[np.int64(values[i] & _WORD) - 1]
            if one["id_lo"] == other["id_lo"] and one["id_hi"] == other["id_hi"] and one["party"] == other["party"]:
                return False
            earlier -= 1
    return True


def aligned_zeros(count: int, dtype: npt.DTypeLike) -> Array:
    """Make ``count`` zero elements that begin at a line of the processor's cache: one of 64 bytes is one line."""
    kind = np.dtype(dtype)
    room = np.zeros(count * kind.itemsize + LINE_SIZE, np.uint8)
    start = -room.ctypes.data % LINE_SIZE
    return room[start : start + count * kind.itemsize].view(kind)


class Growable:
    """A zeroed one-dimensional array that grows without copying where the system can remap pages.

    Nobody keeps ``array`` across a call of ``grow``.
    """

    # A large page. Mappings of whole large pages begin at one, and can be moved without being split up.
    _PAGE_BYTES = 2**21

    def __init__(self, dtype: npt.DTypeLike, count: int) -> None:
        """Make ``count`` zero elements."""
        self.dtype = np.dtype(dtype)
        self._map: mmap.mmap | None = None
        self.array: Array = np.zeros(0, self.dtype)
        self.grow(count)

    def grow(self, count: int) -> None:
        """Make the array at least ``count`` elements long; new ones are zero, old ones keep their values."""
        if count <= len(self.array):
            return
        size = count * self.dtype.itemsize
        if size < self._PAGE_BYTES:
            self._replace(aligned_zeros(count, self.dtype))
            return
        size += -size % self._PAGE_BYTES
        if not self._remap(count, size):
            fresh = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._advise(fresh)
            self._replace(np.frombuffer(fresh, self.dtype, count))
            self._map = fresh

    def copy(self) -> Growable:
        """Give an independent copy."""
        result = Growable(self.dtype, len(self.array))
        result.array[:] = self.array
        return result

    def _replace(self, array: Array) -> None:
        array[: len(self.array)] = self.array
        self.array = array
        self._map = None

    def _remap(self, count: int, size: int) -> bool:
        """Extend the mapping; false where there is none, the system cannot, or somebody still looks at the array."""
        if self._map is None:
            return False
        used = len(self.array)
        self.array = np.zeros(0, self.dtype)
        try:
            self._map.resize(size)
        except (BufferError, OSError, SystemError):
            self.array = np.frombuffer(self._map, self.dtype, used)
            return False
        self._advise(self._map)
        self.array = np.frombuffer(self._map, self.dtype, count)
        return True

    @staticmethod
    def _advise(mapping: mmap.mmap) -> None:
        """Ask for large pages: a search touches one random place of the whole array."""
        if hasattr(mmap, "MADV_HUGEPAGE"):  # pragma: no branch - Linux has it
            mapping.madvise(mmap.MADV_HUGEPAGE)


class Registry:
    """The ids of one ledger. Written by the kernel alone; ``reserve`` must have made room before."""

    def __init__(self, hash_key: bytes) -> None:
        """Start empty. ``hash_key`` is secret, and longer than 15 bytes.

        Raises:
            InvariantViolation: the key is too short.
        """
        if len(hash_key) < 16:
            raise InvariantViolation("the registry's hash key needs at least 16 bytes")
        halves = np.frombuffer(hashlib.sha256(b"hugang/registry\0" + hash_key).digest()[:16], "<u8")
        self.keys = halves.astype(np.uint64)
        self.key_0, self.key_1 = self.keys[0], self.keys[1]
        self._entries = Growable(ENTRY, CAPACITY_MIN)
        self._index = Growable(np.uint64, CAPACITY_MIN + TAIL)
        self.control = np.zeros(5, np.uint64)
        self.control[CAPACITY_OLD] = self.control[CAPACITY] = CAPACITY_MIN

    @property
    def entries(self) -> Array:
        """The log of entries, with room at its end; dtype ``ENTRY``."""
        return self._entries.array

    @property
    def index(self) -> Array:
        """The index, u8."""
        return self._index.array

    def __len__(self) -> int:
        return int(self.control[COUNT])

    @property
    def size_bytes(self) -> int:
        """Bytes in use: filled entries and the whole index."""
        return len(self) * ENTRY.itemsize + self.index.nbytes

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more ids, doing a share of a growth that is under way.

        Raises:
            InvariantViolation: the registry would outgrow its 32-bit entry numbers.
        """
        needed = len(self) + count
        if needed > ENTRY_COUNT_MAX or self.index[-TAIL // 2]:
            raise InvariantViolation("the registry of ids is full, or its hash no longer spreads them")
        if needed > len(self.entries):
            # Pages are not touched before they are used, so room costs nothing but addresses.
            self._entries.grow(needed + max(needed // 2, CAPACITY_MIN))
        if self.control[FRONTIER] != 0:
            respread(self.index, self.control, _SLOTS_PER_CALL + _SLOTS_PER_ID * count)
        if needed * _FULL_AT[1] > int(self.control[CAPACITY_OLD]) * _FULL_AT[0]:
            self._finish_growth()
        if self.control[FRONTIER] == 0 and needed * _GROW_AT[1] > int(self.control[CAPACITY]) * _GROW_AT[0]:
            self._start_growth(needed)
            if needed * _FULL_AT[1] > int(self.control[CAPACITY_OLD]) * _FULL_AT[0]:
                self._finish_growth()

    def look_up(self, party: int, identifier_halves: tuple[int, int]) -> tuple[int, int, int] | None:
        """Give (entry number, position or slot, status) of an id, ``None`` if it is unused."""
        number = self.number_of(party, identifier_halves)
        if number < 0:
            return None
        entry = self.entries[number]
        tag = int(entry["tag"])
        low = int(entry["low"])
        status = tag & 15
        is_slot = status in (IdStatus.HOLD_OPEN, IdStatus.REVERSED)
        return number, low if is_slot else (tag >> 4) << 32 | low, status

    def number_of(self, party: int, identifier_halves: tuple[int, int]) -> int:
        """Give the entry number of an id, negative if it is unused."""
        high, low, owner = (np.uint64(value) for value in (*identifier_halves, party))
        fingerprint = np.uint64(hash_id(high, low, owner, self.key_0, self.key_1)) >> _S32
        return int(find(self.entries, self.index, self.control, fingerprint, high, low, owner))

    def check(self) -> None:
        """Check that the index leads to every entry once, in ascending order of fingerprints.

        Raises:
            InvariantViolation: it does not.
        """
        values = self.index[self.index != 0]
        numbers = np.sort(values & _WORD)
        if not np.array_equal(numbers, np.arange(1, len(self) + 1)) or np.any(values[1:] <= values[:-1]):
            raise InvariantViolation("the index of ids does not lead to every entry once")

    @classmethod
    def restore(cls, hash_key: bytes, entries: Growable, count: int) -> Registry:
        """Make a registry of its log of entries; the index is built anew, so that nobody who knew it knows this one.

        Raises:
            InvariantViolation: the key is too short, an id stands there twice, or there is no room behind the last.
        """
        result = cls(hash_key)
        if count > len(entries.array) - 1 or count > ENTRY_COUNT_MAX:
            raise InvariantViolation("a log of ids has no room behind its last entry")
        result._entries = entries
        capacity = max(CAPACITY_MIN, count * _GROW_AT[1] * 7 // (_GROW_AT[0] * 6))
        result._index = Growable(np.uint64, capacity + TAIL)
        values = np.empty(count, np.uint64)
        hash_entries(entries.array, result.keys, values)
        values.sort()
        if not spread(result.index, entries.array, values, capacity):
            raise InvariantViolation("an id was used up twice, or the hash does not spread them")
        result.control[COUNT] = count
        result.control[CAPACITY_OLD] = result.control[CAPACITY] = capacity
        return result

    def copy(self) -> Registry:
        """Give an independent copy."""
        result = object.__new__(Registry)
        result.keys, result.key_0, result.key_1 = self.keys, self.key_0, self.key_1
        result._entries = self._entries.copy()
        result._index = self._index.copy()
        result.control = self.control.copy()
        return result

    def _start_growth(self, needed: int) -> None:
        """Give the index its next capacity; everything is still placed by the old one."""
        capacity = int(self.control[CAPACITY])
        larger = 2 * capacity if capacity < _DOUBLE_BELOW else capacity + capacity // 4
        larger = max(larger, needed * _GROW_AT[1] // _GROW_AT[0] + 1)
        edge = len(self.index) - 1
        self._index.grow(larger + TAIL)
        self.control[CAPACITY] = larger
        self.control[FRONTIER] = 2**32
        self.control[EDGE] = edge

    def _finish_growth(self) -> None:
        """Respread all that is left at once: only when ids arrive faster than a growth can follow."""
        if self.control[FRONTIER] != 0:
            respread(self.index, self.control, int(self.control[EDGE]) + 1)
