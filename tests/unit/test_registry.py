"""The registry of ids: hash, search, growth without pauses, and arrays that grow without copying."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import registry
from ledger.compiled import plain
from ledger.errors import InvariantViolation
from ledger.registry import ENTRY, Growable, IdStatus, Registry
from ledger.transfers import id_halves

KEY = b"sixteen secret bytes"
MASK = 2**64 - 1
U64 = np.uint64


def siphash_1_3(message: bytes, key_0: int, key_1: int) -> int:
    """SipHash-1-3 over any message, in Python integers, straight from its definition."""
    state = [
        key_0 ^ 0x736F6D6570736575,
        key_1 ^ 0x646F72616E646F6D,
        key_0 ^ 0x6C7967656E657261,
        key_1 ^ 0x7465646279746573,
    ]

    def rotate(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & MASK

    def mix() -> None:
        for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
            state[a] = (state[a] + state[b]) & MASK
            state[b] = rotate(state[b], left) ^ state[a]
            state[a] = rotate(state[a], 32)
            state[c] = (state[c] + state[d]) & MASK
            state[d] = rotate(state[d], right) ^ state[c]

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 255])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        state[3] ^= word
        mix()
        state[0] ^= word
    state[2] ^= 255
    for _ in range(3):
        mix()
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def fingerprints_of(index: np.ndarray) -> np.ndarray:
    """Give the fingerprints in an index in the order in which they stand."""
    return index[index != 0] >> U64(32)


class Filled:
    """A registry with many random ids and a way to ask for them."""

    def __init__(self, seed: int) -> None:
        """Start empty."""
        self.generator = np.random.default_rng(seed)
        self.registry = Registry(KEY)
        self.ids: list[tuple[int, int, int]] = []

    def add(self, count: int) -> None:
        """Reserve for ``count`` ids and append them, as the kernel does."""
        self.registry.reserve(count)
        highs, lows = self.generator.integers(0, 2**64, (2, count), dtype=np.uint64)
        parties = self.generator.integers(0, 2**32, count, dtype=np.uint64)
        for high, low, party in zip(highs, lows, parties, strict=True):
            self.append(int(high), int(low), int(party))

    def append(self, high: int, low: int, party: int) -> None:
        """Append one id; its position is its entry number."""
        target = self.registry
        words = U64(high), U64(low), U64(party)
        fingerprint = U64(registry.hash_id(*words, target.key_0, target.key_1)) >> U64(32)
        slot = -1 - registry.find(target.entries, target.index, target.control, fingerprint, *words)
        assert slot >= 0
        position = U64(len(self.ids))
        registry.append(
            target.entries, target.index, target.control, slot, fingerprint, *words, position, int(IdStatus.POSTED)
        )
        self.ids.append((high, low, party))

    def check(self, every: int = 1) -> None:
        """Find each id, and none of its neighbours."""
        for number in range(0, len(self.ids), every):
            high, low, party = self.ids[number]
            assert self.registry.look_up(party, (high, low)) == (number, number, IdStatus.POSTED)
            assert self.registry.number_of(party, (high, low ^ 1)) < 0
            assert self.registry.number_of(party ^ 1, (high, low)) < 0
        found = fingerprints_of(self.registry.index)
        assert len(found) == len(self.ids) == len(self.registry)
        assert np.all(found[1:] >= found[:-1])


# --- hash ------------------------------------------------------------------------------------------------------------


def test_siphash_of_the_test_is_siphash() -> None:
    """The test's own SipHash gives the published value for the all-zero key and the empty message."""
    assert siphash_1_3(b"", 0, 0) == 0xD1FBA762150C532C


@pytest.mark.parametrize("function", [registry.hash_id, plain(registry.hash_id)])
def test_ids_are_hashed_by_siphash(function: object) -> None:
    """The hash is SipHash-1-3 of the 20 bytes of id and party, compiled and plain."""
    generator = np.random.default_rng(3)
    for _ in range(50):
        high, low, key_0, key_1 = (U64(value) for value in generator.integers(0, 2**64, 4, dtype=np.uint64))
        party = U64(generator.integers(0, 2**32))
        message = int(high).to_bytes(8, "little") + int(low).to_bytes(8, "little") + int(party).to_bytes(4, "little")
        with np.errstate(over="ignore"):
            value = function(high, low, party, key_0, key_1)  # type: ignore[operator]  # a kernel or its plain twin
        assert int(value) == siphash_1_3(message, int(key_0), int(key_1))


def test_a_key_must_be_long_enough() -> None:
    """Fewer than sixteen secret bytes are refused."""
    with pytest.raises(InvariantViolation):
        Registry(bytes(15))


def test_the_key_changes_the_layout_and_nothing_else() -> None:
    """Two keys place the same ids elsewhere and answer alike."""
    first, second = Filled(1), Filled(1)
    second.registry = Registry(b"another sixteen bytes")
    for filled in (first, second):
        filled.add(200)
        filled.check()
    assert not np.array_equal(first.registry.index, second.registry.index)
    assert np.array_equal(first.registry.entries[:200], second.registry.entries[:200])


# --- search ----------------------------------------------------------------------------------------------------------


def test_equal_fingerprints_are_told_apart() -> None:
    """Hundreds of ids under one fingerprint are all found, in both halves and in the party, and no other one is."""
    target = Registry(KEY)
    target.reserve(600)
    fingerprint = U64(2**32 - 5)
    ids = [(high, low, party) for high in range(8) for low in range(8) for party in range(8)]
    for number, words in enumerate(ids):
        three = [U64(word) for word in words]
        slot = -1 - registry.find(target.entries, target.index, target.control, fingerprint, *three)
        assert slot >= 0
        registry.append(target.entries, target.index, target.control, slot, fingerprint, *three, U64(number), 1)
    for number, words in enumerate(ids):
        three = [U64(word) for word in words]
        assert registry.find(target.entries, target.index, target.control, fingerprint, *three) == number
    strange = (U64(8), U64(0), U64(0))
    assert registry.find(target.entries, target.index, target.control, fingerprint, *strange) < 0
    assert registry.find(target.entries, target.index, target.control, fingerprint - U64(1), U64(0), U64(0), U64(0)) < 0


def test_lowest_and_highest_fingerprints_have_a_place() -> None:
    """The fingerprints 0 and 2^32 - 1 are searched and inserted like any other."""
    target = Registry(KEY)
    for number, fingerprint in enumerate((0, 2**32 - 1, 0, 2**32 - 1)):
        words = (U64(number), U64(0), U64(0))
        slot = -1 - registry.find(target.entries, target.index, target.control, U64(fingerprint), *words)
        registry.append(target.entries, target.index, target.control, slot, U64(fingerprint), *words, U64(number), 1)
        assert registry.find(target.entries, target.index, target.control, U64(fingerprint), *words) == number
    assert fingerprints_of(target.index).tolist() == [0, 0, 2**32 - 1, 2**32 - 1]


def test_a_crowd_at_the_end_is_noticed() -> None:
    """When ids crowd beyond the last home slot, which no keyed hash does, the registry refuses to go on."""
    target = Registry(KEY)
    target.reserve(1)
    target.index[-registry.TAIL // 2] = 1
    with pytest.raises(InvariantViolation):
        target.reserve(1)


# --- growth ----------------------------------------------------------------------------------------------------------


def test_ids_stay_findable_while_the_index_grows() -> None:
    """Through many growths, in steps of any size, every id is found at every stage and the index stays in order."""
    seed = 7
    filled = Filled(seed)
    growing = 0
    for step in range(60):
        filled.add(int(filled.generator.integers(1, 400)))
        growing += filled.registry.control[registry.FRONTIER] != 0
        filled.check(every=1 if step % 10 == 0 else 17)
    filled.check()
    assert growing > 5, f"seed {seed}: no growth was seen under way"


def test_one_large_step_grows_at_once() -> None:
    """A step larger than the whole registry is served, also while a growth is under way."""
    filled = Filled(8)
    filled.add(700)
    filled.add(80)
    assert filled.registry.control[registry.FRONTIER] != 0
    filled.add(9_000)
    filled.check(every=13)


@pytest.mark.parametrize("seed", range(4))
def test_respreading_by_any_steps_gives_the_same_order(seed: int) -> None:
    """However a growth is cut into steps, with insertions in between, no fingerprint is lost and order is kept."""
    generator = np.random.default_rng(seed)
    old, new = 900, 1_300
    index = np.zeros(new + registry.TAIL, np.uint64)
    control = np.array([0, old, old, 0, 0], np.uint64)
    # A quarter of them crowd in two places, so that long runs cross the frontier.
    values = np.concatenate(
        [generator.integers(0, 2**32, 500), 2**31 + generator.integers(0, 99, 80), np.full(70, 2**32 - 1)]
    )
    generator.shuffle(values)

    def insert(number: int) -> None:
        fingerprint = U64(values[number])
        least = fingerprint << U64(32)
        slot = U64(registry.home_slot(control, fingerprint))
        while index[slot] != 0 and index[slot] < least + U64(number + 1):
            slot += U64(1)
        registry.insert(index, slot, least | U64(number + 1))

    for number in range(500):
        insert(number)
    control[registry.CAPACITY], control[registry.FRONTIER] = new, 2**32
    control[registry.EDGE] = old + registry.TAIL - 1
    number = 500
    while control[registry.FRONTIER]:
        registry.respread(index, control, int(generator.integers(1, 900)))
        for _ in range(min(int(generator.integers(0, 60)), len(values) - number)):
            insert(number)
            number += 1
        stored = index[index != 0]
        assert np.all(stored[1:] > stored[:-1]), f"seed {seed}"
        assert sorted((stored >> U64(32)).tolist()) == sorted(values[:number].tolist()), f"seed {seed}"
        for value in stored[:: max(len(stored) // 50, 1)]:
            slot = int(registry.home_slot(control, value >> U64(32)))
            place = int(np.flatnonzero(index == value)[0])
            assert place >= slot
            assert np.all(index[slot:place] != 0), f"seed {seed}: a gap before a stored fingerprint"


def test_a_run_longer_than_a_stretch_moves_whole() -> None:
    """Ten thousand equal fingerprints make one run, which moves in one go."""
    index = np.zeros(40_000 + registry.TAIL, np.uint64)
    control = np.array([0, 20_000, 30_000, 2**32, 20_000 + registry.TAIL - 1], np.uint64)
    values = (U64(2**31) << U64(32)) | np.arange(1, 10_001, dtype=np.uint64)
    index[10_000:20_000] = values
    while control[registry.FRONTIER]:
        registry.respread(index, control, 500)
    assert index[15_000:25_000].tolist() == values.tolist()
    assert np.count_nonzero(index) == 10_000


def test_growth_is_spread_over_the_ids_that_arrive() -> None:
    """One small step moves a bounded number of slots, however large the index is: no pause grows with the registry."""
    target = Registry(KEY)
    target.reserve(2**20)
    target.control[registry.COUNT] = target.control[registry.CAPACITY] * U64(3) // U64(4)
    target.reserve(1)
    edge = int(target.control[registry.EDGE])
    assert edge > 2**20
    target.reserve(1)
    moved = edge - int(target.control[registry.EDGE])
    assert 0 < moved <= 2 * registry._STRETCH


@pytest.mark.parametrize("count", [1_500_000, 1_700_000, 2_000_000])
def test_an_id_needs_at_most_forty_bytes(count: int) -> None:
    """From a million ids on, entries and index together stay within 40 bytes an id, at any stage of a growth."""
    target = Registry(KEY)
    while len(target) < count:
        target.reserve(50_000)
        target.control[registry.COUNT] += U64(50_000)
    assert target.size_bytes <= 40 * count


def test_the_registry_does_not_outgrow_its_numbers() -> None:
    """A registry that would need more than 32-bit entry numbers refuses before it changes."""
    target = Registry(KEY)
    target.control[registry.COUNT] = registry.ENTRY_COUNT_MAX
    with pytest.raises(InvariantViolation):
        target.reserve(1)


def test_a_copy_is_independent() -> None:
    """What is added to a copy is not in the original."""
    filled = Filled(9)
    filled.add(50)
    copy = filled.registry.copy()
    filled.add(50)
    assert (len(copy), len(filled.registry)) == (50, 100)
    high, low, party = filled.ids[70]
    assert copy.look_up(party, (high, low)) is None
    assert copy.look_up(*reversed_key(filled.ids[20])) == (20, 20, IdStatus.POSTED)


def reversed_key(identifier: tuple[int, int, int]) -> tuple[int, tuple[int, int]]:
    """Give the arguments of ``look_up`` for an id."""
    return identifier[2], identifier[:2]


def test_an_entry_has_26_bytes() -> None:
    """The size of an entry is what the design counts on."""
    assert ENTRY.itemsize == 26
    assert id_halves(2**64 + 3) == (1, 3)


# --- arrays that grow ------------------------------------------------------------------------------------------------


def test_growing_keeps_values_and_adds_zeros() -> None:
    """From a few bytes over several mapped sizes, old elements stay and new ones are zero."""
    target = Growable(np.uint64, 4)
    target.array[:3] = [1, 2, 3]
    for count in (10, 400_000, 400_001, 900_000, 2_000_000):
        filled = len(target.array)
        target.array[filled - 1] = count
        target.grow(count)
        assert len(target.array) == count
        assert target.array[:3].tolist() == [1, 2, 3]
        assert target.array[filled - 1] == count
        assert not np.any(target.array[filled:])


def test_growing_to_less_changes_nothing() -> None:
    """An array never shrinks."""
    target = Growable(np.uint64, 5)
    target.grow(2)
    assert len(target.array) == 5


def test_growing_under_somebodys_eyes_copies() -> None:
    """A view that was kept stays valid: the array moves away from it instead of being remapped under it."""
    target = Growable(np.uint64, 300_000)
    view = target.array
    view[7] = 7
    target.grow(3_000_000)
    view[7] = 8
    assert target.array[7] == 7
    assert len(target.array) == 3_000_000


def test_a_copy_of_an_array_is_independent() -> None:
    """Small and mapped arrays copy alike."""
    for count in (10, 500_000):
        target = Growable(np.uint32, count)
        target.array[3] = 3
        copy = target.copy()
        target.array[3] = 4
        assert copy.array[3] == 3


# --- made again from its log ------------------------------------------------------------------------------------------


def log_of(filled: Filled) -> Growable:
    """Give the log of a registry, with room behind its last entry."""
    entries = Growable(ENTRY, len(filled.registry) + 8)
    entries.array[: len(filled.registry)] = filled.registry.entries[: len(filled.registry)]
    return entries


@pytest.mark.parametrize("count", [0, 1, 700, 5_000])
def test_a_registry_comes_back_from_its_log(count: int) -> None:
    """Under another key every id of the log is found in its place, and more can be added."""
    filled = Filled(count)
    filled.add(count)
    again = Registry.restore(b"another secret key", log_of(filled), count)
    again.check()
    assert len(again) == count
    for number, (high, low, party) in enumerate(filled.ids):
        assert again.number_of(party, (high, low)) == number
    filled.registry = again
    filled.add(3_000)
    again.check()


def test_an_id_that_stands_in_the_log_twice() -> None:
    """A log that names an id twice makes no registry."""
    filled = Filled(1)
    filled.add(10)
    entries = log_of(filled)
    entries.array[10] = entries.array[3]
    with pytest.raises(InvariantViolation, match="twice"):
        Registry.restore(KEY, entries, 11)


def test_ids_with_one_fingerprint_are_told_apart() -> None:
    """Where fingerprints agree, whole ids are compared; and a hash that does not spread them is refused."""
    entries = np.zeros(8, ENTRY)
    entries["id_lo"] = np.arange(8)
    index = np.zeros(registry.CAPACITY_MIN + registry.TAIL, U64)
    values = (U64(5) << U64(32)) + np.arange(1, 9, dtype=U64)
    capacity = registry.CAPACITY_MIN
    spread = registry.spread
    assert spread(index, entries, values, capacity)
    entries["id_lo"][7] = 2
    index[:] = 0
    assert not spread(index, entries, values, capacity)
    high = (U64(2**32 - 1) << U64(32)) + np.arange(1, registry.TAIL + 1, dtype=U64)
    many = np.zeros(len(high), ENTRY)
    many["id_lo"] = np.arange(len(high))
    index[:] = 0
    assert not spread(index, many, high, capacity)


def test_a_log_without_room() -> None:
    """The log needs room behind its last entry, since the kernel adds to it."""
    filled = Filled(1)
    filled.add(4)
    with pytest.raises(InvariantViolation, match="room"):
        Registry.restore(KEY, log_of(filled), 13)
