"""Proofs from tiles against proofs from all leaves, and what becomes of a file of roots that cannot be trusted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, sections
from ledger import tiles as tiles_module
from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.journal import Block, EncodedBlock, decode_header
from ledger.machine import message_leaf, record_leaf
from ledger.merkle import Bytes, Frontier
from ledger.reader import Reader
from ledger.store import MemoryStore, Store
from ledger.tiles import MemoryRoots, RootsFile, Tiles
from tests.block_fixture import Blocks
from tests.ledger_fixture import (
    CREDIT,
    GENESIS_BYTES,
    Chain,
    many_transfers,
    open_body,
    reference_chain,
    statement,
)
from tests.store_places import Database

GENESIS_HASH = hashlib.sha256(GENESIS_BYTES).digest()
HEAD_SIZE = 32
UPPER_LEAF_COUNT = 65_536


def leaves_of(blocks: list[Block]) -> Bytes:
    """Hash the leaves of blocks one by one, from what the blocks were made of."""
    hashes: list[bytes] = []
    for block in blocks:
        rows = iter(block.transfers)
        hashes += [merkle.leaf_hash(record_leaf(next(rows))) for _ in range(block.header.expired_count)]
        for entry in block.entries:
            hashes.append(merkle.leaf_hash(message_leaf(entry.message)))
            hashes += [merkle.leaf_hash(record_leaf(next(rows))) for _ in range(entry.count)]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def journal_of(*counts: int) -> Chain:
    """Make a journal: two accounts, then one block of a posting of each count; a zero is a block with one note."""
    chain = Chain()
    chain.add(
        statement("alice", "open", open_body(flags=CREDIT), serial=1),
        statement("bob", "open", open_body(), serial=2),
    )
    for number, count in enumerate(counts):
        first_id = 1 + sum(counts[:number])
        commands = many_transfers(count, debit=1, credit=2, first_id=first_id, seed=number)
        kind, body = ("post", commands.tobytes()) if count else ("note", b"note")
        chain.add(statement("alice", kind, body, serial=number + 3))
    return chain


SMALL = reference_chain()
MIDDLE = journal_of(*[0] * 30, 200, 1, 2, 600, *[3] * 50, 0, 300)
SMALL_LEAVES, MIDDLE_LEAVES = leaves_of(SMALL.blocks), leaves_of(MIDDLE.blocks)


@pytest.fixture(scope="module")
def large() -> Chain:
    """Make a journal with more than two subtrees of 65,536 leaves."""
    return journal_of(0, 60_000, 0, 60_000, 5, 20_000, 0)


def rows_of(hashes: Bytes) -> list[bytes]:
    """Give a table's rows as bytes."""
    return [row.tobytes() for row in hashes]


@pytest.mark.parametrize("size", range(len(SMALL_LEAVES) + 1))
def test_every_proof_of_a_small_journal(size: int) -> None:
    """Every inclusion and every consistency proof of a journal with one of everything is that of its leaves."""
    tiles = Tiles.open(SMALL.store())
    assert tiles.root(size) == merkle.root(SMALL_LEAVES[:size])
    for position in range(size):
        assert tiles.inclusion(position, size) == merkle.inclusion_proof(SMALL_LEAVES[:size], position)
        assert tiles.leaf_hash(position) == SMALL_LEAVES[position].tobytes()
    for old_size in range(size + 1):
        assert tiles.consistency(old_size, size) == merkle.consistency_proof(SMALL_LEAVES[:size], old_size)


def test_every_position_of_several_tiles() -> None:
    """Every position of a journal of five tiles has the proof that all leaves give, and it verifies."""
    tiles = Tiles.open(MIDDLE.store())
    size = len(MIDDLE_LEAVES)
    assert size > 5 * merkle.TILE_WIDTH
    assert tiles.root(size) == MIDDLE.blocks[-1].header.tree_root
    for position in range(size):
        proof = tiles.inclusion(position, size)
        assert proof == merkle.inclusion_proof(MIDDLE_LEAVES, position)
        merkle.verify_inclusion(tiles.leaf_hash(position), position, size, proof, tiles.root(size))


@given(st.data())
def test_any_sizes_of_several_tiles(data: st.DataObject) -> None:
    """Any position in any size, and any two sizes, have the proofs that all leaves give, in whatever order asked."""
    tiles = Tiles(MIDDLE.store(), MemoryRoots())
    for _ in range(5):
        size = data.draw(st.integers(1, len(MIDDLE_LEAVES)))
        position = data.draw(st.integers(0, size - 1))
        old_size = data.draw(st.integers(0, size))
        assert tiles.inclusion(position, size) == merkle.inclusion_proof(MIDDLE_LEAVES[:size], position)
        assert tiles.consistency(old_size, size) == merkle.consistency_proof(MIDDLE_LEAVES[:size], old_size)


def test_proofs_over_subtrees_in_memory(large: Chain) -> None:
    """Positions and sizes around the borders of subtrees of 65,536 leaves have the proofs that all leaves give."""
    store = large.store()
    tiles = Tiles(store, MemoryRoots())
    tiles._upper = np.empty((1, 32), np.uint8)
    total = large.machine.frontier.size
    hashes = Reader(store).leaf_hashes(0, total)
    borders = [1, 255, 256, 257, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, total]
    for size in borders:
        assert tiles.root(size) == merkle.root(hashes[:size])
        for position in (border - 1 for border in borders if border <= size):
            assert tiles.inclusion(position, size) == merkle.inclusion_proof(hashes[:size], position)
        for old_size in (border for border in borders if border <= size):
            assert tiles.consistency(old_size, size) == merkle.consistency_proof(hashes[:size], old_size)
    assert total > 2 * UPPER_LEAF_COUNT


def test_leaf_hashes_of_a_few_tiles_are_kept(large: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tiles are asked for, the leaf hashes of a bounded number stay in memory."""
    monkeypatch.setattr(tiles_module, "LEAF_TILE_COUNT_MAX", 3)
    tiles = Tiles.open(large.store(), frontier=large.machine.frontier.copy())
    for position in range(0, 20 * 256, 256):
        tiles.leaf_hash(position)
        assert len(tiles._leaves) <= 3


@pytest.mark.parametrize("chain", [SMALL, MIDDLE], ids=["small", "middle"])
def test_stored_leaves_are_hashed_as_they_were(chain: Chain) -> None:
    """Any range of positions, also across blocks, hashes to the leaves that the blocks were made of."""
    reader, leaves = Reader(chain.store()), leaves_of(chain.blocks)
    random = np.random.default_rng(7)
    for first, end in np.sort(random.integers(0, len(leaves) + 1, (200, 2)), axis=1).tolist():
        assert np.array_equal(reader.leaf_hashes(first, end), leaves[first:end])


def test_leaves_beyond_the_journal() -> None:
    """Hashing a position that is not taken yet is refused."""
    with pytest.raises(NotFound, match="POSITION_NOT_FOUND"):
        Reader(SMALL.store()).leaf_hashes(0, len(SMALL_LEAVES) + 1)


# --- what there is no proof of ----------------------------------------------------------------------------------------


def test_a_size_the_journal_has_not_reached() -> None:
    """A tree larger than the journal has no root and no proof, not even of the one leaf that follows its end."""
    tiles = Tiles.open(MIDDLE.store())
    size = len(MIDDLE_LEAVES) + 1
    for ask in (lambda: tiles.root(size), lambda: tiles.inclusion(size - 1, size), lambda: tiles.consistency(1, size)):
        with pytest.raises(NotFound, match="POSITION_NOT_FOUND"):
            ask()


def test_a_leaf_outside_its_tree() -> None:
    """A position at or beyond the size, and an old size above the new one, are malformed."""
    tiles = Tiles.open(SMALL.store())
    for ask in (lambda: tiles.inclusion(3, 3), lambda: tiles.inclusion(-1, 3), lambda: tiles.consistency(4, 3)):
        with pytest.raises(MalformedInput, match="PROOF_RANGE"):
            ask()


def test_an_empty_journal() -> None:
    """A journal without blocks has the empty tree, which is consistent with itself."""
    tiles = Tiles.open(Chain().store())
    assert tiles.root(0) == merkle.EMPTY_ROOT
    assert tiles.consistency(0, 0) == []
    assert tiles.watermark == 0


# --- tiles that a frontier has made -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 255, 256, 257, 1000])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_a_frontier_makes_the_roots_of_tiles(step: int, compiled: bool) -> None:
    """However leaves are appended, the frontier gives each tile's root once, in order."""
    frontier, taken, numbers = Frontier(), b"", []
    for first in range(0, len(MIDDLE_LEAVES), step):
        frontier.append_many(MIDDLE_LEAVES[first : first + step], compiled=compiled)
        number, roots = frontier.take_tile_roots()
        numbers.append((number, len(taken) // 32))
        taken += roots
    full = len(MIDDLE_LEAVES) // 256
    assert taken == b"".join(merkle.root(MIDDLE_LEAVES[256 * at : 256 * (at + 1)]) for at in range(full))
    assert all(number == before for number, before in numbers)


def test_a_restored_frontier_goes_on_from_its_tile() -> None:
    """A frontier read from bytes, and a copy, give the tiles completed after that, by their right numbers."""
    frontier = Frontier()
    frontier.append_many(MIDDLE_LEAVES[:700])
    for other in (Frontier.from_bytes(frontier.to_bytes()), frontier.copy()):
        other.append_many(MIDDLE_LEAVES[700:1100])
        roots = merkle.root(MIDDLE_LEAVES[512:768]) + merkle.root(MIDDLE_LEAVES[768:1024])
        assert other.take_tile_roots() == (2, roots)
        assert other.take_tile_roots() == (4, b"")


def test_what_was_just_applied_needs_no_reading() -> None:
    """Proofs of what a machine has just applied read no stored block."""
    store = Counting(MIDDLE.store())
    frontier = Frontier()
    frontier.append_many(MIDDLE_LEAVES)
    tiles = Tiles.open(store, frontier=frontier)
    tail = len(MIDDLE_LEAVES) % 256
    assert tiles.watermark == len(MIDDLE_LEAVES) - tail
    for position in range(len(MIDDLE_LEAVES)):
        tiles.inclusion(position, len(MIDDLE_LEAVES))
    assert not store.blocks_read


def test_tiles_follow_a_growing_journal() -> None:
    """Taken block by block, with proofs in between, the projection always gives the proofs of the journal so far."""
    frontier, store = Frontier(), Chain().store()
    tiles = Tiles.open(store, frontier=frontier)
    for block in MIDDLE.blocks:
        store.append(block)
        frontier.append_many(MIDDLE_LEAVES[frontier.size : block.header.tree_size])
        if block.header.height % 3:
            tiles.take(frontier)
        size = block.header.tree_size
        assert tiles.root(size) == block.header.tree_root
        assert tiles.inclusion(size - 1, size) == merkle.inclusion_proof(MIDDLE_LEAVES[:size], size - 1)


def test_a_gap_is_made_from_stored_blocks() -> None:
    """Tiles that a frontier did not bring, because it was restored behind them, are made from stored blocks."""
    before = Frontier()
    before.append_many(MIDDLE_LEAVES[:600])
    frontier = Frontier.from_bytes(before.to_bytes())
    frontier.append_many(MIDDLE_LEAVES[600:])
    tiles = Tiles(MIDDLE.store(), MemoryRoots())
    tiles.take(frontier)
    assert tiles.watermark == 0
    assert tiles.root(len(MIDDLE_LEAVES)) == frontier.root()


def test_two_threads_ask_at_once() -> None:
    """Threads that ask while tiles are being taken all get right proofs."""
    store, frontier = MIDDLE.store(), Frontier()
    tiles, wrong = Tiles(store, MemoryRoots()), []

    def ask(seed: int) -> None:
        sizes = np.random.default_rng(seed).integers(1, len(MIDDLE_LEAVES), 60).tolist()
        expected = {size: merkle.inclusion_proof(MIDDLE_LEAVES[:size], size - 1) for size in sizes}
        wrong.extend(size for size in sizes if tiles.inclusion(size - 1, size) != expected[size])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for first in range(0, len(MIDDLE_LEAVES), 100):
        frontier.append_many(MIDDLE_LEAVES[first : first + 100])
        tiles.take(frontier)
    for thread in threads:
        thread.join()
    assert not wrong
    assert tiles.root(frontier.size) == frontier.root()


# --- the file ---------------------------------------------------------------------------------------------------------


def kept(path: Path) -> bytes:
    """Give the roots in a file."""
    return path.read_bytes()[HEAD_SIZE:]


def made_file(path: Path) -> bytes:
    """Make the file of the middle journal; gives its roots."""
    Tiles.open(MIDDLE.store(), path=path).close()
    return kept(path)


ROOTS = b"".join(merkle.root(MIDDLE_LEAVES[256 * at : 256 * (at + 1)]) for at in range(len(MIDDLE_LEAVES) // 256))


def test_the_file_holds_the_roots(tmp_path: Path) -> None:
    """The file is a head of 32 bytes and the tiles' roots in order, and serves the next process without hashing."""
    path = tmp_path / "tree.tiles"
    assert made_file(path) == ROOTS
    assert path.read_bytes()[:HEAD_SIZE] == b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16]
    store = Counting(MIDDLE.store())
    tiles = Tiles.open(store, path=path)
    assert tiles.consistency(256, 1024) == merkle.consistency_proof(MIDDLE_LEAVES[:1024], 256)
    tail = range(len(MIDDLE_LEAVES) // 256 * 256, len(MIDDLE_LEAVES))
    assert store.blocks_read <= {MIDDLE.store().height_of(at) for at in tail}
    tiles.close()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"hugangTL",
        b"x" * 500,
        b"hugangTL\x01" + bytes(7) + GENESIS_HASH[:16] + ROOTS,
        b"hugangTL" + bytes(8) + bytes(16) + ROOTS,
        b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16] + ROOTS[:45],
        b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16] + ROOTS[:-32] + bytes(32),
        b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16] + bytes(len(ROOTS)),
        b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16] + ROOTS + ROOTS,
        b"hugangTL" + b"\1" + bytes(7) + GENESIS_HASH[:16] + ROOTS[32:],
    ],
    ids=["empty", "cut head", "foreign", "format", "genesis", "torn", "zeros at the end", "zeros", "too long", "lost"],
)
@pytest.mark.parametrize("replayed", [False, True], ids=["alone", "after a replay"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes, replayed: bool) -> None:
    """Whatever a crash or a hand has left in the file, opening ends with the right roots and nothing else."""
    path = tmp_path / "tree.tiles"
    path.write_bytes(damage)
    frontier = Frontier()
    frontier.append_many(MIDDLE_LEAVES)
    tiles = Tiles.open(MIDDLE.store(), path=path, frontier=frontier if replayed else None)
    assert tiles.root(len(MIDDLE_LEAVES)) == frontier.root()
    tiles.close()
    assert kept(path) == ROOTS


@given(st.integers(0, len(ROOTS) * 8 - 1))
def test_every_changed_bit_is_found(bit: int) -> None:
    """A changed bit of any kept root is found on opening, and repaired."""
    roots = MemoryRoots()
    data = bytearray(ROOTS)
    data[bit // 8] ^= 1 << bit % 8
    roots.append(bytes(data))
    tiles = Tiles(MIDDLE.store(), roots)
    tiles.check()
    assert roots.read(0, roots.count()) == ROOTS


def test_a_journal_restored_from_an_older_copy(tmp_path: Path) -> None:
    """Roots of leaves that an older copy of the journal does not have are dropped on opening."""
    path = tmp_path / "tree.tiles"
    made_file(path)
    older = Chain().store()
    for block in MIDDLE.blocks[:32]:
        older.append(block)
    size = MIDDLE.blocks[31].header.tree_size
    tiles = Tiles.open(older, path=path)
    assert tiles.watermark == size // 256 * 256 < len(ROOTS) * 8
    assert tiles.root(size) == MIDDLE.blocks[31].header.tree_root
    tiles.close()


def test_a_closed_file_answers_nothing(tmp_path: Path) -> None:
    """After closing, twice at that, the file's roots cannot be read."""
    roots = RootsFile(tmp_path / "tree.tiles", GENESIS_HASH)
    roots.close()
    roots.close()
    with pytest.raises(NotFound, match="TILES_CLOSED"):
        roots.read(0, 1)


def test_a_file_cut_under_our_hands(tmp_path: Path) -> None:
    """A file that becomes shorter while it is open is named instead of giving a wrong root."""
    path = tmp_path / "tree.tiles"
    made_file(path)
    roots = RootsFile(path, GENESIS_HASH)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityFailure, match="TILES_CUT"):
        roots.read(roots.count() - 1, 1)
    roots.close()


# --- a journal that contradicts its tree ------------------------------------------------------------------------------


class Counting:
    """A store that notes which bodies are read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.blocks_read: set[int] = set()

    def body_part(self, height: int, part: int) -> bytes:
        """Note, and pass on."""
        self.blocks_read.add(height)
        return self._store.body_part(height, part)

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Note, and pass on."""
        for height, block in enumerate(self._store.blocks(from_height), from_height):
            self.blocks_read.add(height)
            yield block

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def changed_store(chain: Chain, height: int) -> MemoryStore:
    """Give a journal with one byte of a record changed in a block's body, its header left as it was."""
    store = chain.store()
    block = store.block(height)
    body = bytearray(block.body)
    body[sections.layout(decode_header(block.header).shape, block.body).bodies_offset - 17] ^= 1
    store._blocks[height - 1] = EncodedBlock(block.header, block.signature, bytes(body))
    return store


def test_leaves_that_make_another_tree() -> None:
    """Opening a journal whose header names another tree than its own leaves make is an integrity failure."""
    blocks, store = Blocks(seed=1), Chain().store()
    for count in (3, 300):
        store.append(blocks.make(count))
    with pytest.raises(IntegrityFailure, match="TREE_ROOT"):
        Tiles.open(store)


def test_a_body_that_was_changed() -> None:
    """Making tiles from a block whose body was changed names the block."""
    with pytest.raises(IntegrityFailure, match="BODY_HASH") as caught:
        Tiles.open(changed_store(MIDDLE, 32))
    assert caught.value.block == 32


def test_a_block_that_cannot_be_read() -> None:
    """Making tiles from a block that is none is an integrity failure too."""
    store = MIDDLE.store()
    block = store.block(3)
    store._blocks[2] = EncodedBlock(block.header, block.signature, block.body + b"x")
    with pytest.raises(IntegrityFailure, match="BODY_MALFORMED"):
        Tiles.open(store)


def test_leaves_that_contradict_their_tile() -> None:
    """A record of a large block that was changed is found when a proof needs the hashes beside it."""
    chain = journal_of(5_000, 6_000)
    tiles = Tiles.open(chain.store(), frontier=chain.machine.frontier)
    twin = Tiles(changed_store(chain, 2), tiles._roots)
    changed, size = chain.blocks[1].header.tree_size - 1, chain.machine.frontier.size
    with pytest.raises(IntegrityFailure, match="TILE_DIFFERS"):
        twin.inclusion(changed - 1, size)


# --- every store ------------------------------------------------------------------------------------------------------


def test_tiles_on_a_database(database: Database, tmp_path: Path) -> None:
    """The projection gives the same proofs over each kind of store, before and after opening again."""
    store = database.create()
    for block in MIDDLE.blocks:
        store.append(block)
    size = len(MIDDLE_LEAVES)
    for _ in range(2):
        tiles = Tiles.open(store, path=tmp_path / "tree.tiles")
        for position in range(0, size, 97):
            assert tiles.inclusion(position, size) == merkle.inclusion_proof(MIDDLE_LEAVES, position)
        tiles.close()
        store = database.reopen(store)
    store.close()
