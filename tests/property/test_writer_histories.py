"""Random histories of a writer that crashes and starts again, against a model in plain dicts (I5, I7, I8, I10)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import journal, messages
from ledger.audit import verify
from ledger.errors import Conflict, Forbidden
from ledger.machine import Admitted, Answer, Machine
from ledger.messages import Message
from ledger.runtime import SECOND_NS, ManualRuntime
from ledger.snapshot import Snapshots
from ledger.store import MemoryStore
from ledger.transfers import TRANSFER, Flag
from ledger.writer import open_machine
from tests.ledger_fixture import (
    GENESIS_BYTES,
    HASH_KEY,
    FixtureInterpreter,
    make_runtime,
    private_key,
    register_body,
    request,
    statement,
    transfer,
)
from tests.snapshot_fixture import parts_of
from tests.writer_fixture import ACCOUNTS, Node

POINTS = (
    "writer.before_apply",
    "writer.after_apply",
    "writer.before_commit",
    "store.before_commit",
    "store.after_commit",
    "writer.after_commit",
)
HOLD_S = 10
ALICE = 3
serials = st.integers(10, 40)


class Crash(BaseException):
    """A process dying."""


def message(serial: int, *, now_s: int, amount: int | None = None) -> Message:
    """Give the payment with a number: every third one is a hold, every fourth a request, signed anew each time."""
    flags = Flag.PENDING if serial % 3 == 0 else Flag.NONE
    timeout_s = HOLD_S if flags else 0
    command = transfer(serial, debit=1, credit=2, amount=amount or serial, flags=flags, timeout_s=timeout_s)
    if serial % 4:
        return statement("alice", "post", command.tobytes(), serial=serial)
    return request("alice", "post", command.tobytes(), idempotency_key=f"key-{serial}", created_s=now_s)


class WriterHistory(RuleBasedStateMachine):
    """Drives one node through its lives. ``known`` has what was acknowledged, ``sent`` what may be journaled."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.known: dict[int, Answer] = {}
        self.sent: set[int] = set()
        self.armed: str | None = None
        self.runtime: ManualRuntime = make_runtime(on_crossing=self.cross)
        self.store = MemoryStore(GENESIS_BYTES, runtime=self.runtime)
        self.node: Node | None = None
        self.folder = tempfile.TemporaryDirectory()
        self.snapshots = Snapshots(Path(self.folder.name), runtime=make_runtime())

    def cross(self, point: str) -> None:
        """Die when it was planned."""
        if point == self.armed:
            self.armed = None
            raise Crash(point)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something to its end."""
        return self.loop.run_until_complete(work)

    def start(self) -> None:
        """Open what is stored and start a writer on it."""
        self.store = self.store.reopened(runtime=self.runtime)
        whole = open_machine(self.store, FixtureInterpreter, HASH_KEY, compiled=False)
        machine = open_machine(self.store, FixtureInterpreter, HASH_KEY, snapshots=self.snapshots, compiled=False)
        assert parts_of(machine) == parts_of(whole)
        self.node = Node(self.runtime, self.store, machine)
        self.run(self.node.writer.start())

    @property
    def living(self) -> Node:
        """Give the node."""
        assert self.node is not None
        return self.node

    def admit(self, serial: int, *, amount: int | None = None) -> Admitted:
        """Admit the payment with a number, as signed now."""
        now_s = self.runtime.now_ns() // SECOND_NS
        return self.living.machine.admit(message(serial, now_s=now_s, amount=amount), at_ns=self.runtime.now_ns())

    def send(self, group: list[int]) -> None:
        """Submit a group at once, and hold each outcome against what is known (I8)."""
        self.sent.update(group)

        async def gather() -> list[Any]:
            waiting = [self.living.writer.submit(self.admit(serial)) for serial in group]
            return await asyncio.gather(*waiting, return_exceptions=True)

        for serial, outcome in zip(group, self.run(gather()), strict=True):
            if isinstance(outcome, Answer):
                assert self.known.setdefault(serial, outcome) == outcome
            else:
                assert getattr(outcome, "code", outcome) == "WRITER_STOPPED"

    @initialize()
    def begin(self) -> None:
        """Open the two accounts."""
        self.start()
        self.run(self.living.submit_all(*ACCOUNTS))

    @rule(group=st.lists(serials, min_size=1, max_size=5))
    def submit(self, group: list[int]) -> None:
        """Send payments, new ones and retries alike."""
        self.send(group)

    @rule(group=st.lists(serials, min_size=1, max_size=3), point=st.sampled_from(POINTS))
    def crash(self, group: list[int], point: str) -> None:
        """Die at a point while payments are on their way, and start again."""
        self.armed = point
        self.send(group)
        was_hit = self.armed is None
        self.armed = None
        assert isinstance(self.living.writer.failure, Crash) == was_hit
        self.run(self.living.writer.stop())
        self.start()

    @rule()
    def restart(self) -> None:
        """Stop in peace and start again."""
        self.run(self.living.writer.stop())
        self.start()

    @rule()
    def keep(self) -> None:
        """Let another process follow the journal beside the writer, and keep what it finds."""
        machine = open_machine(self.store, FixtureInterpreter, bytes(16), snapshots=self.snapshots, compiled=False)
        self.snapshots.save(machine, private_key("node"))

    @rule(seconds=st.sampled_from([1, HOLD_S, 25]))
    def wait(self, seconds: int) -> None:
        """Let time pass on an idle node."""
        self.run(self.runtime.advance(seconds))

    @rule(serial=serials.filter(lambda serial: serial % 4 == 0))
    def contradict(self, serial: int) -> None:
        """Use a known idempotency key for another body."""
        if serial in self.known:
            with pytest.raises(Conflict):
                self.run(self.living.writer.submit(self.admit(serial, amount=999)))

    @rule(group=st.lists(serials, min_size=1, max_size=3, unique=True))
    def decide(self, group: list[int]) -> None:
        """Journal a bundle whole, in one block, as far as it is not journaled already."""
        height = self.store.last_height()
        self.sent.update(group)
        answers = self.run(self.living.writer.decide(lambda _: [self.admit(serial) for serial in group]))
        for serial, answer in zip(group, answers, strict=True):
            assert self.known.setdefault(serial, answer) == answer
        assert len({answer.height for answer in answers if answer.height > height}) <= 1

    @rule(group=st.lists(serials, max_size=3, unique=True))
    def refuse(self, group: list[int]) -> None:
        """Refuse a bundle whole because of its first message."""

        def work(machine: Machine) -> list[Admitted]:
            first = machine.admit(statement("bob", "register", register_body("x"), serial=9), at_ns=None)
            return [first, *(self.admit(serial) for serial in group)]

        position = self.living.machine.position
        expired = len(self.living.machine.state.holds)
        with pytest.raises(Forbidden):
            self.run(self.living.writer.decide(work))
        assert self.living.machine.position - position <= expired

    @invariant()
    def stands_together(self) -> None:
        """The machine and the store stand at the same block, and each acknowledged payment has a place of its own."""
        if self.node is not None:
            assert self.node.machine.height == self.store.last_height()
            assert len({answer.position for answer in self.known.values()}) == len(self.known)

    def teardown(self) -> None:
        """Let every hold expire, verify the journal, and hold its money against the model."""
        try:
            if self.node is not None:
                self.close_and_compare(self.node)
        finally:
            self.folder.cleanup()
            self.loop.close()

    def close_and_compare(self, node: Node) -> None:
        """Do what ``teardown`` says."""
        self.run(self.runtime.advance(2 * HOLD_S))
        self.run(node.writer.stop())
        report = verify(self.store, interpreter_factory=FixtureInterpreter, runtime=self.runtime, compiled=False)
        journaled = dict(self.journaled())
        found = {serial: report.machine.answers.get(*key) for serial, key in journaled.items()}
        assert self.known.items() <= found.items()
        assert set(journaled) <= self.sent
        assert report.message_count == len(ACCOUNTS) + len(journaled)
        holds = [serial for serial in journaled if serial % 3 == 0]
        assert report.expired_count == len(holds)
        assert report.machine.state.balance(2) == sum(journaled) - sum(holds)
        assert report.machine.state.hold_count == 0

    def journaled(self) -> Iterator[tuple[int, tuple[int, str]]]:
        """Give the number of each journaled payment, read from its body, and the key of its answer."""
        for encoded in self.store.blocks():
            for entry in journal.decode(encoded).entries:
                if len(entry.message.body) == TRANSFER.itemsize:
                    envelope = messages.parse(entry.message)
                    yield int.from_bytes(entry.message.body[8:16], "little"), (ALICE, envelope.idempotency_key)


TestWriterHistory = WriterHistory.TestCase
TestWriterHistory.settings = settings(max_examples=30, stateful_step_count=25)
