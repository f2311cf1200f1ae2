"""Sealed balances: one account is shown under a root that both nodes have signed, and no byte of that can change."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import logs, merkle, sealed
from ledger.accounts import AccountFlag
from ledger.checkpoint import Checkpoint
from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.sealed import LEAF, Sealed, make_proof, sealed_root, verify_balance
from ledger.state import State
from settlement import cosigning
from tests.cosigning_fixture import Watched
from tests.receipt_fixture import COSIGNED_AT_S, PAIR, cosigned_note, journals
from tests.settlement_fixture import NETWORK, key_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "balances.json").read_text("utf-8"))
ACCOUNT = struct.Struct("<BIIHHHHqqqqqQ")


def many(count: int) -> State:
    """Give a state with so many accounts, whose counters are invented."""
    state, random = State(bytes(16)), np.random.default_rng([3, count])
    for number in range(count):
        flags = AccountFlag.CREDIT_NORMAL if number % 2 else AccountFlag.LIMITED
        state.open_account(owner=number % 7, asset=1 + number % 3, code=number % 5, flags=flags)
    for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted", "last"):
        state.account_rows[name][1 : count + 1] = random.integers(0, 2**40, count)
    return state


def state_here() -> State:
    """Give the state of Shanghai's journal in the fixture."""
    return journals().world.sh.machine.state


def sealed_here() -> tuple[Sealed, bytes]:
    """Seal Shanghai's balances under a cosigned checkpoint."""
    made = journals()
    accounts = Sealed(state_here())
    size = made.machines["SH"].frontier.size
    point = Checkpoint(logs.origin(NETWORK, "SH"), size, made.machines["SH"].frontier.root(), (accounts.extension,))
    return accounts, cosigned_note(logs.sign_checkpoint(point, key_of("NODE-SH")), "SH")


def proof_of(name: str = "WALLET.ann") -> bytes:
    """Prove the balance of an account of Shanghai."""
    accounts, note = sealed_here()
    return make_proof(accounts, note, "SH", journals().world.sh.account(name))


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 256, 257, 700, 1024])
def test_every_account_has_its_proof(count: int) -> None:
    """The root is that of the leaves as the page describes them, and every account's proof holds under it."""
    state = many(count)
    accounts = Sealed(state)
    leaves = []
    for number in range(1, count + 1):
        view = state.account(number)
        counters = (view.debits_pending, view.debits_posted, view.credits_pending, view.credits_posted)
        head = (3, number, view.owner, view.asset, view.code, int(view.flags), 0, view.minimum)
        leaves.append(ACCOUNT.pack(*head, *counters, view.last))
        assert accounts.leaf(number) == leaves[-1]
    hashes = np.frombuffer(b"".join(merkle.leaf_hash(leaf) for leaf in leaves), np.uint8).reshape(-1, 32)
    assert accounts.root == merkle.root(hashes)
    for index in range(0, count, 1 + count // 60):
        assert accounts.proof(index + 1) == merkle.inclusion_proof(hashes, index)


def test_sealing_is_a_moment() -> None:
    """What was sealed does not follow the state."""
    state = many(5)
    accounts = Sealed(state)
    leaf, root = accounts.leaf(3), Sealed(state).root
    state.account_rows[3]["credits_posted"] += 1
    state.open_account(owner=1, asset=1, code=1, flags=AccountFlag.NONE)
    assert (accounts.leaf(3), accounts.root, accounts.count) == (leaf, root, 5)
    assert Sealed(state).root != root


@pytest.mark.parametrize("number", [0, 6, -1])
def test_an_account_that_was_not_there(number: int) -> None:
    """An account that did not exist when balances were sealed has neither leaf nor proof."""
    accounts = Sealed(many(5))
    for ask in (accounts.leaf, accounts.proof):
        with pytest.raises(NotFound, match="ACCOUNT_NOT_FOUND"):
            ask(number)


# --- the line ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 40))
def test_the_line_is_read_back(count: int) -> None:
    """Count and root of any sealed balances are read back from their line, whatever lines stand beside it."""
    accounts = Sealed(many(count))
    assert sealed_root((accounts.extension,)) == (count, accounts.root)
    assert sealed_root(("other line", accounts.extension, "balancesheet 3")) == (count, accounts.root)
    assert sealed_root(("other line",)) is None


def test_lines_that_seal_nothing() -> None:
    """A line that is not of its form, and two of them, are refused."""
    good = Sealed(many(3)).extension
    words = good.split(" ")
    for lines in (
        (good, good),
        ("balances",),
        ("balances 3",),
        (f"balances 03 {words[2]}",),
        (f"balances -3 {words[2]}",),
        (f"{good} ",),
        (good[:-1],),
        ("balances 3 AAAA",),
    ):
        with pytest.raises(MalformedInput, match="BALANCES_MALFORMED"):
            sealed_root(lines)


# --- the proof --------------------------------------------------------------------------------------------------------


def test_a_balance_is_proven() -> None:
    """A proof gives the account's counters, its address, the size of the journal and who has cosigned."""
    made, number = journals(), journals().world.sh.account("WALLET.ann")
    found = verify_balance(proof_of(), PAIR["HK"])
    assert found.account == state_here().account(number)
    assert found.address == made.world.sh.address("WALLET.ann")
    assert found.account.available == state_here().account(number).available
    assert found.tree_size == made.machines["SH"].frontier.size
    assert found.cosigned_at_s == {logs.origin(NETWORK, "HK"): COSIGNED_AT_S}


def test_a_proof_shows_one_account() -> None:
    """A proof holds no other account's leaf and is below 2 KiB."""
    accounts, _ = sealed_here()
    proof = proof_of()
    number = journals().world.sh.account("WALLET.ann")
    assert accounts.leaf(number) in proof
    assert all(accounts.leaf(other) not in proof for other in range(1, accounts.count + 1) if other != number)
    assert len(proof) < 2048


def test_every_changed_byte_is_refused() -> None:
    """A proof with any one byte changed, or cut anywhere, is refused."""
    proof = proof_of()
    random = np.random.default_rng(13)
    for at, bits in enumerate(random.integers(1, 256, len(proof)).tolist()):
        changed = bytearray(proof)
        changed[at] ^= bits
        with pytest.raises(IntegrityFailure, match="BALANCE_"):
            verify_balance(bytes(changed), PAIR["SH"])
    for end in range(0, len(proof), 5):
        with pytest.raises(IntegrityFailure, match="BALANCE_MALFORMED"):
            verify_balance(proof[:end], PAIR["SH"])


def changed(**changes: Any) -> bytes:
    """Change a proof."""
    names = ("format", "ledger", "checkpoint", "leaf", "proof")
    fields = dict(zip(names, msgspec.msgpack.decode(proof_of()), strict=True))
    return msgspec.msgpack.encode(list((fields | changes).values()))


def other_leaf(**changes: int) -> bytes:
    """Change the proven leaf."""
    row = np.frombuffer(msgspec.msgpack.decode(proof_of())[3], LEAF).copy()
    for name, value in changes.items():
        row[name] = value
    return row.tobytes()


def test_lies_are_refused() -> None:
    """Another leaf, another account's number, a checkpoint that seals nothing, and other shapes are refused."""
    made, (accounts, _) = journals(), sealed_here()
    number = made.world.sh.account("WALLET.ann")
    for proof, code in (
        (changed(leaf=other_leaf(credits_posted=10**12)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(number=number + 1)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(number=0)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(number=10**6)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(zero=1)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(flags=32)), "BALANCE_INVALID"),
        (changed(leaf=other_leaf(kind=2)), "BALANCE_INVALID"),
        (changed(leaf=accounts.leaf(number + 1)), "BALANCE_INVALID"),
        (changed(checkpoint=made.note("SH")), "BALANCE_INVALID"),
        (changed(ledger="HK"), "BALANCE_INVALID"),
        (changed(proof=accounts.proof(number)[:-1]), "BALANCE_INVALID"),
        (changed(format="hugang-balance/0"), "BALANCE_MALFORMED"),
        (changed(leaf=b""), "BALANCE_MALFORMED"),
        (changed(more=1), "BALANCE_MALFORMED"),
        (bytes(sealed.SIZE_MAX + 1), "BALANCE_MALFORMED"),
    ):
        with pytest.raises(IntegrityFailure, match=code):
            verify_balance(proof, PAIR["SH"])


def test_a_leaf_of_the_journal_is_no_account() -> None:
    """A record's leaf has another size and begins with another byte than an account's."""
    made = journals()
    record = made.sources["SH"].reader.record(made.plan("SH", "ann", "single").position).tobytes()
    with pytest.raises(IntegrityFailure, match="BALANCE_MALFORMED"):
        verify_balance(changed(leaf=b"\x02" + record), PAIR["SH"])
    with pytest.raises(IntegrityFailure, match="BALANCE_INVALID"):
        verify_balance(changed(leaf=b"\x02" + record[:64]), PAIR["SH"])


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_the_golden_proof() -> None:
    """The proof of the vectors verifies, gives what the vectors say, and is written the same; the page prints it."""
    golden, page = VECTORS["proof"], (Path(__file__).parents[2] / "docs" / "proofs.md").read_text("utf-8")
    data = bytes.fromhex(golden["bytes"])
    found = verify_balance(data, PAIR["SH"])
    assert (found.address, found.account.available, found.tree_size, found.tree_root.hex()) == (
        golden["address"],
        golden["available"],
        golden["tree_size"],
        golden["tree_root"],
    )
    name, ledger, note, leaf, proof = msgspec.msgpack.decode(data)
    assert make_again(name, ledger, note, leaf, proof) == data
    plain = page.replace("\n", "")
    assert note.decode() in page
    assert all(piece.hex() in plain for piece in (leaf, *proof))
    assert f"{len(data):,} bytes" in page


def make_again(*fields: Any) -> bytes:
    """Write a proof from its fields."""
    return msgspec.msgpack.encode(list(fields))


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_refused_proofs(case: dict[str, str]) -> None:
    """Each proof of the vectors that must be refused is refused with its code."""
    with pytest.raises(IntegrityFailure, match=case["code"]):
        verify_balance(bytes.fromhex(case["bytes"]), PAIR["SH"])


# --- at a node --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_exchange_seals_balances() -> None:
    """After an exchange a node proves balances under the cosigned checkpoint, also when money has moved since."""
    async with Watched.make() as watched:
        await watched.exchange()
        side, node = watched.sides["SH"], watched.node("SH")
        number = watched.pair.world.sh.account("WALLET.ann")
        before = node.machine.state.account(number)
        world = watched.pair.world
        world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00))
        await watched.pair.catch_up()
        found = verify_balance(await side.balance(number), PAIR["SH"])
        assert found.account == before != node.machine.state.account(number)
        assert found.cosigned_at_s
        assert found.tree_size == side.cosigned_size
        await watched.exchange()
        found = verify_balance(await side.balance(number), PAIR["SH"])
        assert found.account == node.machine.state.account(number)


@pytest.mark.anyio
async def test_a_balance_that_nobody_has_cosigned() -> None:
    """Before the first exchange, a node proves a balance of this moment under its own signature alone."""
    async with Watched.make() as watched:
        number = watched.pair.world.sh.account("WALLET.ann")
        found = verify_balance(await watched.sides["SH"].balance(number), PAIR["SH"])
        assert dict(found.cosigned_at_s) == {}
        assert found.tree_size == watched.node("SH").machine.frontier.size
        with pytest.raises(NotFound, match="ACCOUNT_NOT_FOUND"):
            await watched.sides["SH"].balance(10**6)


@pytest.mark.anyio
async def test_many_accounts_are_sealed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more accounts than are sealed each time, a minute passes between two seals; proofs are of the last one."""
    monkeypatch.setattr(cosigning, "SEALED_COUNT_MAX", 3)
    async with Watched.make() as watched:
        first = await watched.exchange()
        world, node = watched.pair.world, watched.node("SH")
        world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00))
        await watched.pair.catch_up()
        node.runtime.move_to(node.runtime.now_ns() + cosigning.SEAL_INTERVAL_NS // 2)
        second = await watched.exchange()
        assert b"\nbalances " in first["SH"]
        assert b"\nbalances " not in second["SH"]
        number = world.sh.account("WALLET.ann")
        found = verify_balance(await watched.sides["SH"].balance(number), PAIR["SH"])
        assert found.tree_size < watched.sides["SH"].cosigned_size
        node.runtime.move_to(node.runtime.now_ns() + cosigning.SEAL_INTERVAL_NS)
        world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 6_00))
        await watched.pair.catch_up()
        assert b"\nbalances " in (await watched.exchange())["SH"]
