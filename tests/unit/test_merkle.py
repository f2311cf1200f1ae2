"""The RFC 6962 tree against published values, a naive recursion, and everything a proof may be bent into."""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "merkle_rfc6962.json").read_text("utf-8"))
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots_by_size"]]

Bytes = npt.NDArray[np.uint8]


def table(*hashes: bytes) -> Bytes:
    """Put hashes under each other."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), 32)


def sample(count: int, *, seed: int = 0) -> Bytes:
    """Give leaf hashes that stand for any."""
    return np.random.default_rng([seed, count]).integers(0, 256, (count, 32), dtype=np.uint8)


def naive_root(hashes: list[bytes]) -> bytes:
    """Spell out MTH of RFC 6962 section 2.1, over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(hashes[:split]) + naive_root(hashes[split:])).digest()


def naive_path(index: int, hashes: list[bytes]) -> list[bytes]:
    """Spell out PATH of RFC 6962 section 2.1.1."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*naive_path(index, hashes[:split]), naive_root(hashes[split:])]
    return [*naive_path(index - split, hashes[split:]), naive_root(hashes[:split])]


def naive_subproof(old_size: int, hashes: list[bytes], *, known: bool) -> list[bytes]:
    """Spell out SUBPROOF of RFC 6962 section 2.1.2."""
    if old_size == len(hashes):
        return [] if known else [naive_root(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old_size <= split:
        return [*naive_subproof(old_size, hashes[:split], known=known), naive_root(hashes[split:])]
    return [*naive_subproof(old_size - split, hashes[split:], known=False), naive_root(hashes[:split])]


def rows_of(hashes: Bytes) -> list[bytes]:
    """Give a table's rows as bytes."""
    return [row.tobytes() for row in hashes]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    """Every prefix of the well-known eight leaves has its published root."""
    hashes = table(*(merkle.leaf_hash(leaf) for leaf in LEAVES[:size]))
    assert merkle.root(hashes) == ROOTS[size]


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: f"{case['index']}-of-{case['size']}")
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    """The published inclusion proofs are both what we make and what we accept."""
    hashes = table(*(merkle.leaf_hash(leaf) for leaf in LEAVES[: case["size"]]))
    published = [bytes.fromhex(item) for item in case["proof"]]
    assert merkle.inclusion_proof(hashes, case["index"]) == published
    leaf, root = bytes.fromhex(case["leaf_hash"]), bytes.fromhex(case["root"])
    merkle.verify_inclusion(leaf, case["index"], case["size"], published, root)


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: f"{case['old_size']}-to-{case['new_size']}")
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    """The published consistency proofs are both what we make and what we accept."""
    hashes = table(*(merkle.leaf_hash(leaf) for leaf in LEAVES[: case["new_size"]]))
    published = [bytes.fromhex(item) for item in case["proof"]]
    assert merkle.consistency_proof(hashes, case["old_size"]) == published
    old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
    merkle.verify_consistency(case["old_size"], old_root, case["new_size"], new_root, published)


def test_leaves_and_nodes_are_hashed_apart() -> None:
    """A leaf that looks like two children has another hash than their parent."""
    left, right = merkle.leaf_hash(b"left"), merkle.leaf_hash(b"right")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@pytest.mark.parametrize("size", range(1, 34))
def test_every_proof_of_every_small_tree(size: int) -> None:
    """Roots and proofs of all trees up to 33 leaves equal the naive recursion, and verify."""
    hashes = sample(size)
    rows, root = rows_of(hashes), merkle.root(hashes)
    assert root == naive_root(rows)
    for index in range(size):
        proof = merkle.inclusion_proof(hashes, index)
        assert proof == naive_path(index, rows)
        merkle.verify_inclusion(rows[index], index, size, proof, root)
    for old_size in range(1, size + 1):
        proof = merkle.consistency_proof(hashes, old_size)
        assert proof == naive_subproof(old_size, rows, known=True)
        merkle.verify_consistency(old_size, merkle.root(hashes[:old_size]), size, root, proof)


@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_every_tree_extends_the_empty_one(size: int) -> None:
    """From the empty tree the consistency proof is empty, and only its own root counts as old."""
    hashes = sample(size)
    assert merkle.consistency_proof(hashes, 0) == []
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, size, merkle.root(hashes), [])
    with pytest.raises(IntegrityFailure):
        merkle.verify_consistency(0, bytes(32), size, merkle.root(hashes), [])


def test_an_empty_tree_has_one_root() -> None:
    """A tree of no leaves with another root than the empty one is refused."""
    with pytest.raises(IntegrityFailure):
        merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, bytes(32), [])


@given(data=st.data(), size=st.integers(1, 300))
def test_a_changed_inclusion_proof_is_refused(data: st.DataObject, size: int) -> None:
    """One flipped bit in leaf, root or any hash of the proof, and the proof fails."""
    hashes = sample(size)
    index = data.draw(st.integers(0, size - 1))
    parts = [hashes[index].tobytes(), merkle.root(hashes), *merkle.inclusion_proof(hashes, index)]
    victim, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[victim] = (int.from_bytes(parts[victim], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(IntegrityFailure) as caught:
        merkle.verify_inclusion(parts[0], index, size, parts[2:], parts[1])
    assert caught.value.code == "INCLUSION_PROOF_INVALID"


@given(data=st.data(), size=st.integers(2, 300))
def test_an_inclusion_proof_holds_at_one_place_only(data: st.DataObject, size: int) -> None:
    """The same proof for another index of the same tree is refused."""
    hashes = sample(size)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(-1, size + 1).filter(lambda place: place != index))
    proof = merkle.inclusion_proof(hashes, index)
    with pytest.raises(IntegrityFailure):
        merkle.verify_inclusion(hashes[index].tobytes(), other, size, proof, merkle.root(hashes))


@given(data=st.data(), size=st.integers(2, 300))
def test_a_changed_consistency_proof_is_refused(data: st.DataObject, size: int) -> None:
    """One flipped bit in either root or any hash of the proof, and the proof fails."""
    hashes = sample(size)
    old_size = data.draw(st.integers(1, size - 1))
    parts = [merkle.root(hashes[:old_size]), merkle.root(hashes), *merkle.consistency_proof(hashes, old_size)]
    victim, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[victim] = (int.from_bytes(parts[victim], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(IntegrityFailure) as caught:
        merkle.verify_consistency(old_size, parts[0], size, parts[1], parts[2:])
    assert caught.value.code == "CONSISTENCY_PROOF_INVALID"


@given(data=st.data(), size=st.integers(2, 300))
def test_a_rewritten_history_has_no_consistency_proof(data: st.DataObject, size: int) -> None:
    """A tree in which one old leaf was changed is not accepted as an extension, whichever proof it offers (I5)."""
    hashes = sample(size)
    old_size = data.draw(st.integers(1, size - 1))
    rewritten = hashes.copy()
    rewritten[data.draw(st.integers(0, old_size - 1)), 0] ^= 1
    old_root = merkle.root(hashes[:old_size])
    for proof in (merkle.consistency_proof(hashes, old_size), merkle.consistency_proof(rewritten, old_size)):
        with pytest.raises(IntegrityFailure):
            merkle.verify_consistency(old_size, old_root, size, merkle.root(rewritten), proof)


@pytest.mark.parametrize("change", ["missing", "extra", "short", "long"])
def test_a_proof_has_exactly_its_hashes(change: str) -> None:
    """A proof with a hash too few or too many, or of another length, is refused before anything is hashed."""
    hashes = sample(11)
    root = merkle.root(hashes)

    def bent(proof: list[bytes]) -> list[bytes]:
        return {
            "missing": proof[:-1],
            "extra": [*proof, bytes(32)],
            "short": [*proof[:-1], proof[-1][:-1]],
            "long": [*proof[:-1], proof[-1] + b"\0"],
        }[change]

    with pytest.raises(IntegrityFailure):
        merkle.verify_inclusion(hashes[3].tobytes(), 3, 11, bent(merkle.inclusion_proof(hashes, 3)), root)
    consistency = bent(merkle.consistency_proof(hashes, 6))
    with pytest.raises(IntegrityFailure):
        merkle.verify_consistency(6, merkle.root(hashes[:6]), 11, root, consistency)


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0), (0, -1), (0, 2**63), (2**63, 2**64)])
def test_inclusion_outside_the_tree_is_refused(index: int, size: int) -> None:
    """An index outside the tree, or an impossible size, is refused by prover and verifier."""
    with pytest.raises(MalformedInput) as caught:
        merkle.inclusion_ranges(index, size)
    assert caught.value.code == "PROOF_RANGE"
    with pytest.raises(IntegrityFailure):
        merkle.verify_inclusion(bytes(32), index, size, [], bytes(32))


@pytest.mark.parametrize(("old_size", "new_size"), [(-1, 4), (5, 4), (0, -1), (1, 2**63)])
def test_consistency_backwards_is_refused(old_size: int, new_size: int) -> None:
    """A new tree smaller than the old one, or an impossible size, is refused by prover and verifier."""
    with pytest.raises(MalformedInput) as caught:
        merkle.consistency_ranges(old_size, new_size)
    assert caught.value.code == "PROOF_RANGE"
    with pytest.raises(IntegrityFailure):
        merkle.verify_consistency(old_size, bytes(32), new_size, bytes(32), [])


def test_proofs_of_the_largest_tree_are_short() -> None:
    """Even in the largest tree a proof has at most 63 hashes, so that checking one is bounded."""
    assert len(merkle.inclusion_ranges(0, merkle.SIZE_MAX)) == 63
    assert len(merkle.consistency_ranges(merkle.SIZE_MAX // 3, merkle.SIZE_MAX)) <= 64


@given(sizes=st.lists(st.integers(0, 90), max_size=6), compiled=st.booleans())
def test_a_frontier_grows_to_the_same_root(sizes: list[int], compiled: bool) -> None:
    """However leaves are cut into appends, every intermediate root equals that of the whole tree so far."""
    hashes = sample(sum(sizes), seed=1)
    frontier, size = merkle.Frontier(), 0
    for count in sizes:
        frontier.append_many(hashes[size : size + count], compiled=compiled)
        size += count
        assert frontier.size == size
        assert frontier.root() == naive_root(rows_of(hashes[:size]))


@given(size=st.integers(0, 200))
def test_a_frontier_survives_its_bytes(size: int) -> None:
    """A decoded frontier has the same size, root and bytes, and grows as the original does."""
    frontier = merkle.Frontier()
    frontier.append_many(sample(size))
    data = frontier.to_bytes()
    again = merkle.Frontier.from_bytes(data)
    assert (again.size, again.root(), again.to_bytes()) == (size, frontier.root(), data)
    for tree in (frontier, again):
        tree.append_many(sample(40, seed=2))
    assert again.root() == frontier.root()


def test_a_frontier_in_bytes() -> None:
    """The encoding is a version byte, the size as little-endian u64 and the subtree roots, largest first."""
    frontier = merkle.Frontier()
    frontier.append_many(table(*(merkle.leaf_hash(leaf) for leaf in LEAVES[:3])))
    expected = b"\x01" + (3).to_bytes(8, "little") + ROOTS[2] + merkle.leaf_hash(LEAVES[2])
    assert frontier.to_bytes() == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        b"\x00" + bytes(8),
        b"\x02" + bytes(8),
        b"\x01" + bytes(9),
        b"\x01" + (1).to_bytes(8, "little"),
        b"\x01" + (1).to_bytes(8, "little") + bytes(33),
        b"\x01" + (2).to_bytes(8, "little") + bytes(64),
        b"\x01" + (2**63).to_bytes(8, "little") + bytes(32),
    ],
)
def test_a_malformed_frontier_is_refused(data: bytes) -> None:
    """Unknown version, impossible size, missing and spare bytes are all refused."""
    with pytest.raises(MalformedInput) as caught:
        merkle.Frontier.from_bytes(data)
    assert caught.value.code == "FRONTIER_MALFORMED"


def test_a_copy_is_independent() -> None:
    """Growing a copy leaves the original where it stood."""
    frontier = merkle.Frontier()
    frontier.append_many(sample(5))
    before = frontier.to_bytes()
    twin = frontier.copy()
    twin.append_many(sample(3))
    assert frontier.to_bytes() == before
    assert (twin.size, twin.root()) == (8, merkle.root(np.concatenate((sample(5), sample(3)))))


def test_a_full_tree_takes_no_more() -> None:
    """Beyond the largest size an append is refused, not wrapped."""
    data = b"\x01" + merkle.SIZE_MAX.to_bytes(8, "little") + bytes(32 * 63)
    frontier = merkle.Frontier.from_bytes(data)
    with pytest.raises(InvariantViolation):
        frontier.append_many(sample(1))
    assert frontier.to_bytes() == data


@given(count=st.integers(0, 70), width=st.integers(0, 260), kind=st.binary(max_size=14), seed=st.integers(0, 2**32))
def test_all_paths_hash_alike(count: int, width: int, kind: bytes, seed: int) -> None:
    """Every compiled path gives what hashlib gives, for any number of rows, any width and any kind of leaf."""
    from ledger import sha256

    rows = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    reference = merkle.leaf_hashes(rows, kind=kind, compiled=False)
    expected = [hashlib.sha256(b"\x00" + kind + row.tobytes()).digest() for row in rows]
    assert [row.tobytes() for row in reference] == expected
    for native in {False, sha256.IS_NATIVE}:
        assert np.array_equal(sha256.digests(b"\x00" + kind, rows, native=native), reference)
    assert np.array_equal(merkle.leaf_hashes(rows, kind=kind), reference)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 40])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 64, 112])
def test_no_byte_beside_the_rows_is_read(count: int, width: int) -> None:
    """Rows at the very edges of readable memory are hashed: nothing before the first and behind the last is touched."""
    from ledger import sha256

    page = mmap.PAGESIZE
    size = -(-count * width // page) * page
    with mmap.mmap(-1, size + 2 * page) as memory:
        base = np.frombuffer(memory, np.uint8)
        address = base.ctypes.data
        libc = ctypes.CDLL(None, use_errno=True)
        guards = [ctypes.c_void_p(address), ctypes.c_void_p(address + page + size)]
        for guard in guards:
            assert libc.mprotect(guard, ctypes.c_size_t(page), 0) == 0
        try:
            inside = base[page : page + size]
            for rows in (inside[: count * width], inside[size - count * width :]):
                rows[:] = np.arange(count * width) % 251
                table = rows.reshape(count, width)
                expected = b"".join(hashlib.sha256(b"\x00\x02" + row.tobytes()).digest() for row in table)
                for native in {False, sha256.IS_NATIVE}:
                    assert sha256.digests(b"\x00\x02", table, native=native).tobytes() == expected
        finally:
            for guard in guards:
                libc.mprotect(guard, ctypes.c_size_t(page), 3)
            del base, inside, rows, table


@given(pairs=st.integers(0, 70), seed=st.integers(0, 2**32))
def test_both_paths_pair_alike(pairs: int, seed: int) -> None:
    """Parents come out the same by either path, and equal the node hash of each pair."""
    hashes = sample(2 * pairs, seed=seed)
    parents = merkle.parent_hashes(hashes)
    assert np.array_equal(parents, merkle.parent_hashes(hashes, compiled=False))
    rows = rows_of(hashes)
    assert rows_of(parents) == [merkle.node_hash(rows[2 * at], rows[2 * at + 1]) for at in range(pairs)]


def test_hashes_can_be_read_only() -> None:
    """Tables that view immutable bytes are hashed as they are, without a copy or a second compilation."""
    rows = np.frombuffer(bytes(range(200)) * 4, np.uint8).reshape(40, 20)
    assert not rows.flags.writeable
    assert np.array_equal(merkle.leaf_hashes(rows), merkle.leaf_hashes(rows, compiled=False))


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros(64, np.uint8),
        np.zeros((2, 32), np.int8),
        np.zeros((64, 4), np.uint8).T,
        np.zeros((2, 2, 32), np.uint8),
    ],
)
def test_another_shape_is_our_mistake(rows: Bytes) -> None:
    """Tables of another shape, type or layout never reach a kernel that checks no bounds."""
    from ledger import sha256

    for call in (merkle.leaf_hashes, merkle.parent_hashes, merkle.root, lambda table: sha256.digests(b"\x00", table)):
        with pytest.raises(InvariantViolation):
            call(rows)


def test_a_prefix_is_short() -> None:
    """The compiled paths refuse a prefix that would reach beyond the neighbour of a row."""
    from ledger import sha256

    with pytest.raises(InvariantViolation):
        sha256.digests(bytes(sha256.PREFIX_SIZE_MAX + 1), np.zeros((1, 1), np.uint8))
    assert sha256.digests(bytes(15), np.zeros((1, 16), np.uint8)).tobytes() == hashlib.sha256(bytes(31)).digest()


@pytest.mark.parametrize("asked", ["CPU_NAME", "CPU_FEATURES"])
def test_another_target_gets_no_instructions_that_it_may_lack(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where code is compiled for a named processor, the lanes hash: they need nothing of it."""
    from ledger import sha256

    monkeypatch.setattr(sha256.config, asked, "generic")
    assert not sha256._has_instructions()


def test_an_odd_number_has_no_pairs() -> None:
    """Pairing an odd number of hashes is our mistake."""
    with pytest.raises(InvariantViolation):
        merkle.parent_hashes(sample(3))


def test_everything_works_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiled path cannot be loaded, large tables are hashed by hashlib with the same results."""
    hashes = sample(100)
    expected = merkle.root(hashes)
    monkeypatch.setitem(sys.modules, "ledger.sha256", None)
    monkeypatch.delattr("ledger.sha256", raising=False)
    merkle._compiled_digests.cache_clear()
    try:
        assert merkle._compiled_digests() is None
        assert merkle.root(hashes) == expected
        assert merkle.leaf_hashes(hashes).shape == (100, 32)
    finally:
        merkle._compiled_digests.cache_clear()


def test_a_compiler_that_is_switched_off_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With numba's compiler switched off the compiled path says so when imported, and merkle goes on without."""
    import importlib.util

    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    found = importlib.util.find_spec("ledger.sha256")
    assert found is not None
    assert found.loader is not None
    with pytest.raises(ImportError, match="NUMBA_DISABLE_JIT"):
        found.loader.exec_module(importlib.util.module_from_spec(found))


def test_a_miscompiled_kernel_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check made when the compiled path is loaded notices a single wrong bit."""
    from ledger import sha256

    right = sha256.digests

    def wrong(prefix: bytes, rows: Bytes, *, native: bool) -> Bytes:
        output = right(prefix, rows, native=native)
        output[-1, -1] ^= 1
        return output

    sha256._check()
    monkeypatch.setattr(sha256, "digests", wrong)
    with pytest.raises(InvariantViolation):
        sha256._check()


@pytest.mark.parametrize("position", range(8))
def test_the_start_values_are_those_of_the_standard(position: int) -> None:
    """The start values derived from square roots are those printed in FIPS 180-4 section 5.3.3."""
    from ledger import fips180

    printed = ["6a09e667", "bb67ae85", "3c6ef372", "a54ff53a", "510e527f", "9b05688c", "1f83d9ab", "5be0cd19"]
    assert fips180.START[position] == int(printed[position], 16)


def test_the_code_of_the_lanes_is_valid_whatever_the_cache_holds() -> None:
    """Written afresh, the vector code of one block is accepted by LLVM as one function without branches."""
    from types import SimpleNamespace

    from llvmlite import binding, ir

    from ledger import sha256_lanes

    module = ir.Module("check")
    address = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [address, address]), "compress")
    builder = ir.IRBuilder(function.append_basic_block())
    _, generate = sha256_lanes._compress._defn(None, None, None)
    assert generate(SimpleNamespace(get_dummy_value=lambda: "nothing"), builder, None, function.args) == "nothing"
    builder.ret_void()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    assert len(list(parsed.get_function("compress").blocks)) == 1


def test_the_code_of_the_instructions_is_valid_whatever_the_cache_holds() -> None:
    """Written afresh, the code for two rows is accepted by LLVM and asks for 32 pairs of rounds of each."""
    from types import SimpleNamespace

    from llvmlite import binding, ir

    from ledger import sha256_native

    module = ir.Module("check")
    module.triple = "x86_64-unknown-linux-gnu"
    address = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [address] * 5), "pair")
    builder = ir.IRBuilder(function.append_basic_block())
    _, generate = sha256_native._hash_pair._defn(None, None, None, None, None, None)
    assert generate(SimpleNamespace(get_dummy_value=lambda: "nothing"), builder, None, function.args) == "nothing"
    builder.ret_void()
    text = str(module)
    binding.parse_assembly(text).verify()
    assert text.count('call <4 x i32> @"llvm.x86.sha256rnds2"') == 2 * 32


def test_the_page_shows_the_published_tree() -> None:
    """docs/proofs.md prints leaf hashes, roots and proofs as they are tested here."""
    page = (Path(__file__).parents[2] / "docs" / "proofs.md").read_text("utf-8")
    shown = [merkle.leaf_hash(LEAVES[0]), merkle.leaf_hash(LEAVES[5]), ROOTS[0], ROOTS[6], ROOTS[8]]
    assert all(item.hex() in page for item in shown)
    hashes = table(*(merkle.leaf_hash(leaf) for leaf in LEAVES))
    for proof in (merkle.inclusion_proof(hashes, 5), merkle.consistency_proof(hashes, 6)):
        assert "\n".join(item.hex() for item in proof) in page
    assert merkle.inclusion_ranges(5, 8) == [(4, 5), (6, 8), (0, 4)]
    assert merkle.consistency_ranges(6, 8) == [(4, 6), (6, 8), (0, 4)]


def test_the_examples_in_the_modules_run() -> None:
    """The examples printed in the docstrings of the tree and of canonical texts give what they say."""
    import doctest

    from ledger import canonical

    for module in (merkle, canonical):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


def test_hashes_are_written_where_they_are_wanted() -> None:
    """Into a part of a larger table, compiled and not, and into no table of another shape."""
    from ledger import sha256

    rows, table = sample(40), np.zeros((42, 32), np.uint8)
    for compiled in (True, False):
        assert np.shares_memory(merkle.leaf_hashes(rows, output=table[1:41], compiled=compiled), table)
        assert np.array_equal(table[1:41], merkle.leaf_hashes(rows, compiled=False))
        assert not table[0].any()
        assert not table[41].any()
    for wrong in (table[:39], table[::2], np.zeros((40, 33), np.uint8)):
        with pytest.raises(InvariantViolation):
            merkle.leaf_hashes(rows, output=wrong)
        with pytest.raises(InvariantViolation):
            sha256.digests(b"", rows, wrong)
