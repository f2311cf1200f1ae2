"""Reopening: a machine rebuilt from its journal is the one that wrote it, or the damage is named; and real threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ledger import journal, sections
from ledger.audit import verify
from ledger.errors import IntegrityFailure
from ledger.journal import Block
from ledger.machine import Answer
from ledger.runtime import SystemRuntime
from ledger.store import MemoryStore, SqliteStore
from ledger.writer import open_machine
from tests.ledger_fixture import (
    GENESIS_BYTES,
    HASH_KEY,
    FixtureInterpreter,
    make_machine,
    make_runtime,
    reference_chain,
)
from tests.writer_fixture import ACCOUNTS, Node, note, payment

pytestmark = pytest.mark.anyio


# --- reopening --------------------------------------------------------------------------------------------------------


async def test_reopening_gives_the_same_machine() -> None:
    """A machine that has followed the journal has the money, tree, answers and interpreter of the one that wrote it."""
    chain = reference_chain()
    heights: list[int] = []
    machine = open_machine(chain.store(), FixtureInterpreter, HASH_KEY, progress=heights.append)
    assert machine.state.money_digest() == chain.machine.state.money_digest()
    assert machine.frontier.to_bytes() == chain.machine.frontier.to_bytes()
    assert (machine.height, machine.position, machine.timestamp_ns, machine.previous_hash) == (
        chain.machine.height,
        chain.machine.position,
        chain.machine.timestamp_ns,
        chain.machine.previous_hash,
    )
    assert machine.answers.rows.array.tobytes() == chain.machine.answers.rows.array.tobytes()
    assert machine.answers.registry.entries.tobytes() == chain.machine.answers.registry.entries.tobytes()
    assert machine.interpreter.__dict__ == chain.machine.interpreter.__dict__
    assert heights == [1, 2, 3, 4, 5]


async def test_a_registration_and_its_use_reopen() -> None:
    """A key that was registered in a block may sign a later message of that block, when reopening too."""
    chain = reference_chain()
    signers = {entry.message.base.split(b"signer ")[1][:64] for entry in chain.blocks[0].entries}
    machine = open_machine(chain.store(), FixtureInterpreter, HASH_KEY)
    assert machine.directory.by_code("CAROL").number == 5
    assert len(signers) == 4


@pytest.mark.parametrize("position", [0, 5, 9, 12])
async def test_reopening_names_a_changed_record(position: int) -> None:
    """A stored byte that changed is found when reopening, with its block and position."""
    chain = reference_chain()
    store = chain.store()
    index = next(i for i, block in enumerate(chain.blocks) if block.header.first_position > position) - 1
    block = chain.blocks[index]
    layout = sections.layout(block.header.shape, block.encoded.body)
    message, row = layout.locate(position)
    head = layout.head_offsets[0 if message is None else message]
    offset = int(head) + 20 if message is not None else layout.records_offset + (row or 0) * 8
    body = bytearray(block.encoded.body)
    body[offset] ^= 1
    store._blocks[index] = journal.EncodedBlock(block.encoded.header, block.encoded.signature, bytes(body))
    with pytest.raises(IntegrityFailure) as caught:
        open_machine(store, FixtureInterpreter, HASH_KEY)
    assert (caught.value.block, caught.value.position) == (index + 1, position)


async def test_reopening_refuses_a_foreign_genesis() -> None:
    """A store whose genesis cannot be read is refused as damaged."""
    store = MemoryStore(b"{}", runtime=make_runtime())
    with pytest.raises(IntegrityFailure, match="GENESIS_MALFORMED"):
        open_machine(store, FixtureInterpreter, HASH_KEY)


# --- with real threads and a real file --------------------------------------------------------------------------------


async def load(node: Node, *, client_count: int, payment_count: int) -> list[Answer]:
    """Let several clients pay at once, each waiting for its answers."""

    async def client(number: int) -> list[Answer]:
        first = 1_000 + number * payment_count
        return [await node.submit(payment(first + index)) for index in range(payment_count)]

    return [answer for answers in await asyncio.gather(*map(client, range(client_count))) for answer in answers]


async def test_many_clients_share_a_real_writer(tmp_path: Path) -> None:
    """Concurrent clients on a file get distinct positions, fewer blocks than messages, and a journal that verifies."""
    runtime = SystemRuntime()
    store = SqliteStore.create(tmp_path / "sh.db", GENESIS_BYTES, runtime=runtime)
    node = Node(runtime, store, make_machine())
    await node.writer.start()
    threads: set[str] = set()
    try:
        await node.submit_all(*ACCOUNTS)
        answers = await load(node, client_count=8, payment_count=12)
        for _ in range(3):
            threads.add(await node.writer.read(lambda _: threading.current_thread().name))
    finally:
        await node.writer.stop()
    assert len(threads) == 1
    assert threading.current_thread().name not in threads
    assert sorted(answer.position for answer in answers) == list(range(2, 2 + 2 * 96, 2))
    report = verify(store, interpreter_factory=FixtureInterpreter, runtime=runtime)
    assert (report.message_count, report.record_count) == (98, 96)
    assert report.block_count < 98
    assert report.machine.state.balance(2) == 96 * 5
    store.close()
    runtime.close()


async def test_a_retry_after_reopening_gets_the_first_answer(tmp_path: Path) -> None:
    """Answers are part of the fold: a retry after a restart gets the first one again (I8)."""
    runtime = SystemRuntime()
    path = tmp_path / "sh.db"
    answers: list[Answer] = []
    for attempt in range(2):
        store = (
            SqliteStore.open(path, runtime=runtime)
            if attempt
            else SqliteStore.create(path, GENESIS_BYTES, runtime=runtime)
        )
        node = Node(runtime, store, open_machine(store, FixtureInterpreter, HASH_KEY))
        await node.writer.start()
        answers.append(await node.submit(note(1)))
        await node.writer.stop()
        store.close()
    assert answers[0] == answers[1]
    runtime.close()


class GatedStore(MemoryStore):
    """A store whose commits wait at a gate and note what the machine has reached meanwhile."""

    def __init__(self, runtime: SystemRuntime) -> None:
        super().__init__(GENESIS_BYTES, runtime=runtime)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def append(self, block: Block) -> None:
        """Wait, then append."""
        self.entered.release()
        if not self.gate.wait(30):
            raise TimeoutError
        super().append(block)


async def test_a_full_block_is_applied_while_the_last_is_committed() -> None:
    """With enough at hand the next block is applied during a commit; answers and reads wait until it is durable."""
    runtime = SystemRuntime()
    store = GatedStore(runtime)
    node = Node(runtime, store, make_machine(), batch_limit=4)
    await node.writer.start()
    first = asyncio.ensure_future(node.submit_all(note(1)))
    await runtime.offload(store.entered.acquire)
    rest = asyncio.ensure_future(node.submit_all(*(note(serial) for serial in range(2, 7))))
    while node.machine.height < 2:  # the second block is applied though the first is not durable
        await runtime.sleep(0.001)
    read = asyncio.ensure_future(node.writer.read(lambda machine: (machine.height, store.last_height())))
    await runtime.sleep(0.02)
    assert store.last_height() == 0
    assert not any(task.done() for task in (first, rest, read))
    store.gate.set()
    answers = [*await first, *await rest]
    assert [answer.height for answer in answers] == [1, 2, 2, 2, 2, 3]
    machine_height, store_height = await read
    assert machine_height == store_height >= 2
    await node.writer.stop()
    verify(store, interpreter_factory=FixtureInterpreter, runtime=runtime)
    runtime.close()


async def test_a_commit_that_fails_takes_the_block_behind_it_along() -> None:
    """When a commit fails, those who wait for it, for the block applied meanwhile and in the queue are all told."""
    runtime = SystemRuntime()
    store = GatedStore(runtime)
    node = Node(runtime, store, make_machine(), batch_limit=4)
    await node.writer.start()
    waiting = [asyncio.ensure_future(node.submit_all(note(1)))]
    await runtime.offload(store.entered.acquire)
    waiting.append(asyncio.ensure_future(node.submit_all(*(note(serial) for serial in range(2, 12)))))
    while node.machine.height < 2:
        await runtime.sleep(0.001)
    store.close()  # from now on it fails
    store.gate.set()
    outcomes = [outcome for task in waiting for outcome in await task]
    assert [getattr(outcome, "code", outcome) for outcome in outcomes] == ["WRITER_STOPPED"] * 11
    assert getattr(node.writer.failure, "code", None) == "STORE_FAILED"
    await node.writer.stop()
    runtime.close()


async def test_a_retry_waits_for_the_commit_of_its_first() -> None:
    """A retry that comes while its first is being committed is answered when that is durable, not before (I7)."""
    runtime = SystemRuntime()
    store = GatedStore(runtime)
    node = Node(runtime, store, make_machine(), batch_limit=2)
    await node.writer.start()
    first = asyncio.ensure_future(node.submit(note(1)))
    await runtime.offload(store.entered.acquire)
    retries = asyncio.ensure_future(node.submit_all(note(1), note(1)))
    await runtime.sleep(0.02)
    assert not retries.done()
    store.gate.set()
    answer = await first
    assert await retries == [answer, answer]
    assert store.last_height() == 1
    await node.writer.stop()
    runtime.close()
