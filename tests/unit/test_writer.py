"""The single writer: group commit, bundles, reads, expiry on an idle node, and stopping for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ledger import journal
from ledger.errors import (
    Conflict,
    Forbidden,
    IntegrityFailure,
    InvariantViolation,
    NotFound,
    Rejected,
    Unavailable,
)
from ledger.journal import Block
from ledger.machine import Admitted, Answer, Machine
from ledger.runtime import SECOND_NS, Runtime
from ledger.store import MemoryStore
from ledger.transfers import Flag
from ledger.writer import ASIDE_COUNT, Outcome, Writer, _Flight, open_machine
from tests.ledger_fixture import (
    GENESIS_BYTES,
    HASH_KEY,
    START_S,
    FixtureInterpreter,
    make_machine,
    make_runtime,
    many_transfers,
    private_key,
    reference_chain,
    register_body,
    request,
    statement,
    transfer,
)
from tests.writer_fixture import ACCOUNTS, Node, note, payment, running

pytestmark = pytest.mark.anyio

# --- messages ---------------------------------------------------------------------------------------------------------


async def test_an_answer_says_where_a_message_stands() -> None:
    """An answer has the message's position, its number of records and its block."""
    async with running() as node:
        opened = [await node.submit(message) for message in ACCOUNTS]
        paid = await node.submit(payment(10))
    assert [(answer.position, answer.count, answer.height) for answer in (*opened, paid)] == [
        (0, 0, 1),
        (1, 0, 2),
        (2, 1, 3),
    ]


async def test_what_queues_together_is_one_block() -> None:
    """Messages that are submitted together share one block and one commit, in their order."""
    async with running() as node:
        answers = await node.submit_all(*ACCOUNTS, payment(10), payment(11))
        assert [answer.position for answer in answers] == [0, 1, 2, 4]
        assert node.heights() == [(4, 2)]


async def test_a_block_has_a_limited_number_of_messages() -> None:
    """More messages than the limit make several blocks, in order."""
    async with running(batch_limit=3) as node:
        answers = await node.submit_all(*(note(serial) for serial in range(1, 9)))
        assert [answer.height for answer in answers] == [1, 1, 1, 2, 2, 2, 3, 3]


async def test_a_block_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies beyond the size limit make several blocks; one that is too large alone still gets through."""
    monkeypatch.setattr("ledger.line.BATCH_SIZE_MAX", 100)
    sizes = (60, 30, 30, 300, 10, 90)
    async with running() as node:
        messages = [statement("alice", "note", bytes(size), serial=size + i) for i, size in enumerate(sizes)]
        answers = await node.submit_all(*messages)
        assert [answer.height for answer in answers] == [1, 1, 2, 3, 4, 4]


async def test_a_block_has_a_limited_number_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that has grown full while it was made leaves the rest, in order, for the next one."""
    monkeypatch.setattr("ledger.writer.BATCH_POSITION_COUNT", 5)
    async with running() as node:
        await node.submit_all(*ACCOUNTS)
        answers = await node.submit_all(*(payment(serial) for serial in range(10, 17)))
        assert [answer.height for answer in answers] == [2, 2, 2, 3, 3, 3, 4]
        assert [answer.position for answer in answers] == list(range(2, 16, 2))
        assert node.writer.waiting_count == 0


async def test_many_expiries_fill_a_block_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the expiries at its head fill a block, the messages stand in the one after it."""
    monkeypatch.setattr("ledger.writer.BATCH_POSITION_COUNT", 2)
    runtime = make_runtime()
    async with running(runtime=runtime) as node:
        holds = [payment(serial, flags=Flag.PENDING, timeout_s=5) for serial in (10, 11)]
        await node.submit_all(*ACCOUNTS)
        await node.submit_all(*holds)
        runtime.move_to((START_S + 9) * SECOND_NS)
        assert (await node.submit(note(1))).height == 5
        assert node.heights() == [(2, 0), (1, 1), (1, 1), (0, 2), (1, 0)]


async def test_a_refusal_leaves_the_others_alone() -> None:
    """A message that is refused gets its reason; its neighbours are journaled."""
    async with running() as node:
        await node.submit_all(*ACCOUNTS)
        foreign = statement("bob", "post", transfer(7, debit=1, credit=2, amount=1).tobytes(), serial=7)
        outcomes = await node.submit_all(payment(10), foreign, payment(11))
        assert isinstance(outcomes[1], Forbidden)
        assert [outcome.position for outcome in (outcomes[0], outcomes[2])] == [2, 4]


async def test_refusals_alone_make_no_block() -> None:
    """When nothing is journaled, nothing is written."""
    async with running() as node:
        with pytest.raises(Forbidden):
            await node.submit(statement("bob", "register", register_body("carol"), serial=3))
        assert node.store.last_height() == 0
        assert node.machine.height == 0


async def test_a_retry_gets_the_first_answer() -> None:
    """The same message again, in the same block or later, gets the first answer and is journaled once (I8)."""
    async with running() as node:
        first, second = await node.submit_all(note(1), note(1))
        third = await node.submit(note(1))
        assert first == second == third
        assert node.heights() == [(1, 0)]


async def test_a_freshly_signed_retry_gets_the_first_answer() -> None:
    """A request signed anew with the same key and body is a retry (I8)."""
    async with running() as node:
        first = await node.submit(request("alice", "note", b"x", idempotency_key="k1"))
        await node.runtime.advance(30)  # type: ignore[attr-defined]
        again = request("alice", "note", b"x", idempotency_key="k1", created_s=START_S + 30)
        assert await node.submit(again) == first


async def test_another_body_under_the_same_key_is_a_conflict() -> None:
    """An idempotency key that was used for another body is refused (I8)."""
    async with running() as node:
        await node.submit(request("alice", "note", b"x", idempotency_key="k1"))
        with pytest.raises(Conflict, match="IDEMPOTENCY_CONFLICT"):
            await node.submit(request("alice", "note", b"y", idempotency_key="k1"))


async def test_a_full_queue_is_busy() -> None:
    """More than may wait is refused with a time to try again, and the rest is served."""
    async with running(queue_limit=3) as node:
        outcomes = await node.submit_all(*(note(serial) for serial in range(1, 6)))
        busy = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert [(error.code, error.fields["retry_after_s"]) for error in busy] == [("BUSY", 1)] * 2
        assert sum(isinstance(outcome, Answer) for outcome in outcomes) == 3
        assert node.writer.waiting_count == 0


async def test_whoever_gives_up_is_journaled_all_the_same() -> None:
    """A caller that stops waiting does not disturb the block its message is in."""
    async with running() as node:
        task = asyncio.ensure_future(node.submit(note(1)))
        await asyncio.sleep(0)
        task.cancel()
        answer = await node.submit(note(2))
        assert answer.position == 1


async def test_timestamps_rise_when_the_clock_stands_or_falls() -> None:
    """Blocks are strictly later than the ones before, whatever the clock says (I5)."""
    async with running() as node:
        await node.submit(note(1))
        await node.submit(note(2))
        node.runtime.move_to(START_S * SECOND_NS - 5 * SECOND_NS)  # type: ignore[attr-defined]
        await node.submit(note(3))
        times = [journal.decode_header(node.store.header(height)).timestamp_ns for height in (1, 2, 3)]
        start = START_S * SECOND_NS
        assert times == [start + 1, start + 2, start + 3]


# --- bundles ----------------------------------------------------------------------------------------------------------


async def test_a_decision_is_one_block_of_its_own() -> None:
    """What a decision gives is journaled together, apart from messages that queue before and after it."""
    async with running() as node:
        bundle = [node.admit(note(serial)) for serial in (5, 6)]
        before = node.writer.submit(node.admit(note(1)))
        decided = node.writer.decide(lambda _: bundle)
        after = node.writer.submit(node.admit(note(2)))
        first, answers, last = await asyncio.gather(before, decided, after)
        assert [first.height, *(answer.height for answer in answers), last.height] == [1, 2, 2, 3]


async def test_a_decision_sees_the_state_of_its_turn() -> None:
    """Work runs when everything before it is journaled and durable."""
    async with running() as node:
        seen: list[tuple[int, int]] = []

        def work(machine: Machine) -> Sequence[Admitted]:
            seen.append((machine.height, node.store.last_height()))
            return [node.admit(note(machine.height + 100))]

        await asyncio.gather(node.submit(note(1)), node.writer.decide(work), node.writer.decide(work))
        assert seen == [(1, 1), (2, 2)]


async def test_a_decision_may_decide_nothing() -> None:
    """Work that gives no message makes no block and gets no answers."""
    async with running() as node:
        assert await node.writer.decide(lambda _: ()) == ()
        assert node.store.last_height() == 0


async def test_a_decision_may_refuse() -> None:
    """What work raises as an expected failure is its caller's, and the writer goes on."""

    def work(machine: Machine) -> Sequence[Admitted]:
        raise Rejected("WINDOW_OPEN", "Not yet.")

    async with running() as node:
        with pytest.raises(Rejected, match="WINDOW_OPEN"):
            await node.writer.decide(work)
        assert (await node.submit(note(1))).height == 1


async def test_a_bundle_whose_first_message_is_refused_is_refused_whole() -> None:
    """When the first message is refused, none of the bundle is journaled."""
    async with running() as node:
        bundle = [node.admit(statement("bob", "register", register_body("x"), serial=1)), node.admit(note(2))]
        with pytest.raises(Forbidden):
            await node.writer.decide(lambda _: bundle)
        assert node.store.last_height() == 0
        assert (await node.submit(note(2))).position == 0


async def test_a_bundle_that_breaks_later_stops_the_writer() -> None:
    """When a later message is refused, the bundle is broken: nothing of it becomes durable and the writer stops."""
    async with running() as node:
        bundle = [node.admit(note(2)), node.admit(statement("bob", "register", register_body("x"), serial=1))]
        with pytest.raises(Unavailable, match="WRITER_STOPPED"):
            await node.writer.decide(lambda _: bundle)
        assert isinstance(node.writer.failure, InvariantViolation)
        assert node.store.last_height() == 0


async def test_a_bundle_of_retries_gets_the_first_answers() -> None:
    """A bundle that is journaled already gets the same answers and no new block (I8)."""
    async with running() as node:
        bundle = [node.admit(note(serial)) for serial in (5, 6)]
        first = await node.writer.decide(lambda _: bundle)
        assert await node.writer.decide(lambda _: bundle) == first
        assert node.store.last_height() == 1


async def test_what_is_due_expires_before_a_decision() -> None:
    """Work never sees a hold that is due: it has expired in a block before."""
    runtime = make_runtime()
    async with running(runtime=runtime) as node:
        await node.submit_all(*ACCOUNTS, payment(10, flags=Flag.PENDING, timeout_s=5))
        runtime.move_to((START_S + 9) * SECOND_NS)
        counts: list[int] = []

        def work(machine: Machine) -> Sequence[Admitted]:
            counts.append(machine.state.hold_count)
            return [node.admit(note(7))]

        (answer,) = await node.writer.decide(work)
        assert counts == [0]
        assert node.heights() == [(3, 1), (0, 1), (1, 0)]
        assert answer.height == 3


# --- reads ------------------------------------------------------------------------------------------------------------


async def test_a_read_sees_what_is_durable() -> None:
    """A read runs between blocks, where the machine and the store stand at the same place."""
    async with running() as node:
        results = await asyncio.gather(
            node.submit(note(1)),
            *(node.writer.read(lambda machine: (machine.height, node.store.last_height())) for _ in range(3)),
        )
        assert all(machine_height == store_height for machine_height, store_height in results[1:])


async def test_an_answer_can_be_read_at_once() -> None:
    """A read that starts after an answer sees what was answered."""
    async with running() as node:
        await node.submit_all(*ACCOUNTS)
        await node.submit(payment(10, amount=42))
        assert await node.writer.read(lambda machine: machine.state.balance(2)) == 42


@pytest.mark.parametrize("error", [NotFound("X", "No."), KeyError("x"), ZeroDivisionError()])
async def test_a_failed_read_is_its_callers(error: Exception) -> None:
    """Whatever a read raises goes to its caller; other reads and the writer go on."""

    def fail(machine: Machine) -> int:
        raise error

    async with running() as node:
        bad, good = await asyncio.gather(
            node.writer.read(fail), node.writer.read(lambda machine: machine.height), return_exceptions=True
        )
        assert bad is error
        assert good == 0
        assert (await node.submit(note(1))).height == 1


async def test_a_read_that_finds_broken_integrity_stops_the_writer() -> None:
    """A read that raises an integrity failure ends the writer: what it found concerns everybody."""

    def fail(machine: Machine) -> int:
        raise IntegrityFailure("STATE_CHECK", "Broken.")

    async with running() as node:
        with pytest.raises(Unavailable, match="WRITER_STOPPED"):
            await node.writer.read(fail)
        assert isinstance(node.writer.failure, IntegrityFailure)


async def test_too_many_reads_are_busy() -> None:
    """Reads have a bounded queue of their own."""
    async with running(queue_limit=2) as node:
        outcomes = await asyncio.gather(
            *(node.writer.read(lambda machine: machine.height) for _ in range(3)), return_exceptions=True
        )
        assert [getattr(outcome, "code", outcome) for outcome in outcomes] == [0, 0, "BUSY"]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_an_idle_node_lets_holds_expire() -> None:
    """When time passes and nobody asks for anything, holds that are due expire in a block of their own."""
    runtime = make_runtime()
    async with running(runtime=runtime) as node:
        await node.submit_all(*ACCOUNTS, payment(10, flags=Flag.PENDING, timeout_s=5))
        await runtime.advance(4)
        assert node.heights() == [(3, 1)]
        await runtime.advance(3)
        assert node.heights() == [(3, 1), (0, 1)]
        assert node.machine.state.account(1).debits_pending == 0
        await runtime.advance(60)
        assert len(node.heights()) == 2


async def test_a_block_begins_with_what_is_due() -> None:
    """A hold that is due when a block is made expires at its head, so the message of that block finds it gone."""
    runtime = make_runtime()
    async with running(runtime=runtime) as node:
        await node.submit_all(*ACCOUNTS, payment(10, flags=Flag.PENDING, timeout_s=5))
        runtime.move_to((START_S + 6) * SECOND_NS)
        end = transfer(11, debit=0, credit=0, amount=0, flags=Flag.POST, related=10)
        await node.submit(statement("alice", "post", end.tobytes(), serial=11))
        records = journal.decode(node.store.block(2)).transfers
        assert records["flags"].tolist() == [Flag.EXPIRE, Flag.POST]
        assert records["result"].tolist() == [0, 15]


# --- failures ---------------------------------------------------------------------------------------------------------


class BrokenStore(MemoryStore):
    """A store whose append fails from some height on."""

    def __init__(self, *, fail_at: int, error: Exception, runtime: Runtime) -> None:
        super().__init__(GENESIS_BYTES, runtime=runtime)
        self.fail_at = fail_at
        self.error = error

    def append(self, block: Block) -> None:
        """Fail at the height."""
        if block.header.height >= self.fail_at:
            raise self.error
        super().append(block)


@pytest.mark.parametrize(
    "error", [Unavailable("STORE_FAILED", "Disk full.", retry_after_s=1), OSError("disk"), InvariantViolation("I5")]
)
async def test_a_failed_commit_stops_the_writer(error: Exception) -> None:
    """After a failed commit everybody who waits is told, nothing more is taken, and ``failure`` says why."""
    runtime = make_runtime()
    store = BrokenStore(fail_at=2, error=error, runtime=runtime)
    async with running(runtime=runtime, store=store, batch_limit=1) as node:
        read = node.writer.read(lambda machine: machine.height)
        outcomes = await asyncio.gather(
            *(node.submit(note(serial)) for serial in (1, 2, 3)), read, return_exceptions=True
        )
        assert isinstance(outcomes[0], Answer)
        assert [getattr(outcome, "code", None) for outcome in outcomes[1:3]] == ["WRITER_STOPPED"] * 2
        assert node.writer.failure is error
        for call in (node.submit(note(4)), node.writer.decide(lambda _: ()), node.writer.read(lambda _: 1)):
            with pytest.raises(Unavailable, match="WRITER_STOPPED"):
                await call
        assert store.last_height() == 1


async def test_a_mistake_in_a_decision_stops_the_writer() -> None:
    """An unforeseen exception in the work of a decision is our mistake: the writer stops."""

    def work(machine: Machine) -> Sequence[Admitted]:
        raise KeyError("mistake")

    async with running() as node:
        with pytest.raises(Unavailable, match="WRITER_STOPPED"):
            await node.writer.decide(work)
        assert isinstance(node.writer.failure, KeyError)


async def test_a_writer_that_was_not_started_takes_nothing() -> None:
    """Before ``start`` there is nobody to serve."""
    runtime = make_runtime()
    node = Node(runtime, MemoryStore(GENESIS_BYTES, runtime=runtime), make_machine())
    with pytest.raises(Unavailable, match="WRITER_STOPPED"):
        await node.submit(note(1))


async def test_stopping_what_never_started_does_no_harm() -> None:
    """``stop`` without ``start``, and a second ``stop``, return at once."""
    runtime = make_runtime()
    node = Node(runtime, MemoryStore(GENESIS_BYTES, runtime=runtime), make_machine())
    await node.writer.stop()
    await node.writer.stop()
    assert node.writer.failure is None


async def test_stopping_finishes_what_has_queued() -> None:
    """``stop`` serves what waits, then refuses, and is no failure."""
    async with running() as node:
        waiting = asyncio.gather(*(node.submit(note(serial)) for serial in (1, 2)))
        await asyncio.sleep(0)
        await node.writer.stop()
        assert [answer.height for answer in await waiting] == [1, 1]
        with pytest.raises(Unavailable, match="WRITER_STOPPED"):
            await node.submit(note(3))
        assert node.writer.failure is None


async def test_a_writer_needs_the_nodes_key() -> None:
    """A writer with another key than the genesis names is refused."""
    runtime = make_runtime()
    with pytest.raises(InvariantViolation, match="key"):
        Writer(make_machine(), MemoryStore(GENESIS_BYTES, runtime=runtime), private_key("bob"), runtime)


async def test_a_writer_needs_a_machine_at_the_end_of_its_store() -> None:
    """A machine that has not followed the store may not write to it."""
    runtime = make_runtime()
    with pytest.raises(InvariantViolation, match="I5"):
        Writer(make_machine(), reference_chain().store(), private_key("node"), runtime)


CROSSINGS = [
    "writer.before_apply",
    "writer.after_apply",
    "writer.before_commit",
    "store.before_commit",
    "store.after_commit",
    "writer.after_commit",
]


async def test_crossings_come_in_order() -> None:
    """A block passes all named points in order, a refusal only those around its application."""
    points: list[str] = []
    runtime = make_runtime(on_crossing=points.append)
    async with running(runtime=runtime) as node:
        await node.submit(note(1))
        assert points == CROSSINGS
        points.clear()
        await node.submit(note(1))
        assert points == CROSSINGS[:2]


class Crash(BaseException):
    """A process dying."""


@pytest.mark.parametrize("point", CROSSINGS)
async def test_dying_at_any_point_loses_no_answer(point: str) -> None:
    """Whoever waits when the process dies gets no answer; a retry after reopening does, and is journaled once."""

    def die(found: str) -> None:
        if found == point and armed:
            raise Crash(point)

    armed = False
    runtime = make_runtime(on_crossing=die)
    store = MemoryStore(GENESIS_BYTES, runtime=runtime)
    async with running(runtime=runtime, store=store) as node:
        kept = await node.submit(note(1))
        armed = True
        with pytest.raises(Unavailable, match="WRITER_STOPPED"):
            await node.submit(note(2))
        assert isinstance(node.writer.failure, Crash)
    armed = False
    reopened = store.reopened(runtime=runtime)
    machine = open_machine(reopened, FixtureInterpreter, HASH_KEY)
    async with running(runtime=runtime, store=reopened, machine=machine) as node:
        assert await node.submit(note(1)) == kept
        assert (await node.submit(note(2))).position == 1
        assert (await node.submit(note(3))).position == 2
        assert node.heights() == [(1, 0)] * 3


async def test_a_retry_is_answered_with_the_block_that_is_under_way() -> None:
    """What can be answered at once waits for the blocks before it, which a retry may have been answered from."""
    async with running() as node:
        outcomes: list[Outcome] = [(asyncio.get_running_loop().create_future(), 1, None)]
        assert node.writer._left_waiting(outcomes) == outcomes
        flight = _Flight([])
        node.writer._flights.append(flight)
        assert node.writer._left_waiting(outcomes) == []
        assert flight.outcomes == outcomes
        node.writer._flights.clear()


async def test_no_block_is_sealed_after_one_that_failed() -> None:
    """A draft that waits for its turn when another has failed never becomes a block."""
    async with running() as node:
        draft = node.machine.apply([node.admit(note(1))], node.machine.earliest_ns)
        node.writer._broken = RuntimeError("an earlier one")
        node.writer._seal(draft, _Flight([]))
        assert node.machine.frontier.size == 0
        assert node.store.last_height() == 0
        node.writer._broken = None


async def test_a_large_block_is_sealed_on_a_thread_of_its_own() -> None:
    """From so many records on, sealing goes to its own lane; the answer is the same."""
    async with running() as node:
        await node.submit_all(*ACCOUNTS)
        commands = many_transfers(ASIDE_COUNT, debit=1, credit=2, first_id=1)
        answer = await node.submit(statement("alice", "post", commands.tobytes(), serial=9))
        assert (answer.count, node.heights()[-1]) == (ASIDE_COUNT, (1, ASIDE_COUNT))
