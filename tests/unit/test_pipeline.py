"""Reopening on three threads: the same machine, and of several failures the one that comes first in the journal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ledger import journal, reopen
from ledger.errors import IntegrityFailure
from ledger.journal import EncodedBlock
from ledger.machine import Machine
from ledger.reopen import open_machine
from ledger.runtime import Runtime, SystemRuntime
from ledger.store import MemoryStore
from tests.ledger_fixture import (
    CREDIT,
    HASH_KEY,
    Chain,
    FixtureInterpreter,
    make_runtime,
    many_transfers,
    open_body,
    reference_chain,
    statement,
)
from tests.snapshot_fixture import parts_of


@pytest.fixture(params=["threads", "by hand"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """Give a world with real threads, and one without."""
    if request.param == "by hand":
        yield make_runtime()
    else:
        world = SystemRuntime()
        yield world
        world.close()


@pytest.fixture(params=[0, 1_024])
def aside_count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let every block be compared on a thread of its own, or only large ones."""
    monkeypatch.setattr(reopen, "ASIDE_COUNT", request.param)
    return int(request.param)


def opened(store: MemoryStore, runtime: Runtime | None) -> tuple[Machine, list[int]]:
    """Open a journal; gives the machine and the heights in the order in which they were accepted."""
    heights: list[int] = []
    return open_machine(store, FixtureInterpreter, HASH_KEY, runtime=runtime, progress=heights.append), heights


def mixed_chain() -> Chain:
    """Give a journal of small and large blocks, more than are under way at once."""
    chain = reference_chain()
    chain.add(
        statement("alice", "open", open_body(flags=CREDIT), serial=20),
        statement("alice", "open", open_body(flags=CREDIT), serial=21),
    )
    debit = chain.machine.state.account_count - 1
    for number in range(12):
        count = 1_500 if number % 3 else 3
        commands = many_transfers(count, debit=debit, credit=debit + 1, first_id=1_000 + 2_000 * number)
        chain.add(statement("alice", "post", commands.tobytes(), serial=30 + number))
    return chain


@pytest.mark.usefixtures("aside_count")
def test_the_machine_is_the_same(runtime: Runtime) -> None:
    """However the work is shared out, the machine is the same, and blocks are accepted in order."""
    chain = mixed_chain()
    machine, heights = opened(chain.store(), runtime)
    assert parts_of(machine) == parts_of(chain.machine)
    assert (machine.height, machine.previous_hash) == (chain.machine.height, chain.machine.previous_hash)
    assert heights == list(range(1, chain.machine.height + 1))


def test_runs_end_with_their_number_or_size(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one block, or of as much as fits, are followed like any other."""
    chain = mixed_chain()
    for count, size in ((1, 2**20), (64, 1), (4, 2**16)):
        monkeypatch.setattr(reopen, "RUN_COUNT", count)
        monkeypatch.setattr(reopen, "RUN_SIZE", size)
        assert parts_of(opened(chain.store(), runtime)[0]) == parts_of(chain.machine)


def changed(store: MemoryStore, height: int, *, header: bool = False) -> None:
    """Change the last byte of a block's body, or one of its header."""
    block = store._blocks[height - 1]
    body, head = bytearray(block.body), bytearray(block.header)
    if header:
        head[-1] ^= 1
    else:
        body[-1] ^= 1
    store._blocks[height - 1] = EncodedBlock(bytes(head), block.signature, bytes(body))


@pytest.mark.usefixtures("aside_count")
@pytest.mark.parametrize("heights", [(8,), (8, 9), (8, 10), (11, 13), (7,), (18,)])
def test_the_first_failure_counts(runtime: Runtime, heights: tuple[int, ...]) -> None:
    """Of several changed blocks the first is named, as it is without threads; what came before was accepted."""
    chain = mixed_chain()
    for in_header in (False, True):
        failures = []
        for world in (None, runtime):
            store = chain.store()
            for height in heights[:1]:
                changed(store, height)
            for height in heights[1:]:
                changed(store, height, header=in_header)
            with pytest.raises(IntegrityFailure) as caught:
                opened(store, world)
            failures.append((caught.value.code, caught.value.block, caught.value.position))
        assert failures[0] == failures[1]
        assert failures[0][1] == heights[0]


class Gap(MemoryStore):
    """A store whose last block cannot be read."""

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give all blocks but the last, then fail."""
        yield from list(super().blocks(from_height))[:-1]
        raise IntegrityFailure("STORE_CORRUPT", "A part cannot be read.", block=self.last_height())


@pytest.mark.usefixtures("aside_count")
def test_what_cannot_be_read_comes_in_its_turn(runtime: Runtime) -> None:
    """A block that cannot be read is reported after those before it, and after what is wrong with them."""
    chain = mixed_chain()
    store = Gap(chain.store().genesis(), runtime=make_runtime())
    for block in chain.blocks:
        store.append(block)
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        opened(store, runtime)
    changed(store, store.last_height() - 1)
    with pytest.raises(IntegrityFailure) as caught:
        opened(store, runtime)
    assert caught.value.block == store.last_height() - 1


def test_a_header_behind_a_wrong_block(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block signed by the node that says what the fold does not make is found though the next one hangs on it."""
    monkeypatch.setattr(reopen, "ASIDE_COUNT", 0)
    chain, other = mixed_chain(), mixed_chain()
    other.machine.frontier.append_many(np.zeros((1, 32), np.uint8))
    for one in (chain, other):
        one.add(statement("alice", "note", b"one more", serial=90))
        one.add(statement("alice", "note", b"and another", serial=91))
    store = chain.store()
    store._blocks[-2:] = [block.encoded for block in other.blocks[-2:]]
    with pytest.raises(IntegrityFailure) as caught:
        opened(store, runtime)
    assert (caught.value.code, caught.value.block) == ("TREE_ROOT", store.last_height() - 1)


def test_the_last_block_is_waited_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening ends only when the last block has been compared."""
    monkeypatch.setattr(reopen, "ASIDE_COUNT", 0)
    chain = mixed_chain()
    machine, _ = opened(chain.store(), runtime)
    assert machine.previous_hash == journal.block_hash(chain.blocks[-1].encoded.header)
    assert machine.frontier.root() == chain.machine.frontier.root()
