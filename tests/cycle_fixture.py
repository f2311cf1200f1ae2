"""Two whole nodes in one process: journals in memory, writers, conduct, and a coordinator between them.

``Pair.make`` journals what a ``settlement_fixture.World`` has made (parties, accounts, money, payments) on nodes with
real writers. A node can be killed at any crossing and opened again from its journal; what crosses between coordinator
and nodes can be lost, repeated and delayed by a ``Weather``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ledger import genesis, messages
from ledger.errors import LedgerError, Unavailable
from ledger.machine import Machine
from ledger.messages import Message
from ledger.runtime import ManualRuntime
from ledger.store import MemoryStore
from ledger.writer import Writer, open_machine
from settlement import coordinator
from settlement.book import Book
from settlement.conduct import Conduct
from settlement.coordinator import CycleReport
from settlement.interpreter import Settlement
from settlement.port import PositionsView, WindowView
from settlement.statements import LEDGERS
from tests.settlement_fixture import CREATED_NS, NETWORK_HASH, SECOND, World, genesis_of, key_of

__all__ = ["Pair", "SimulatedNode", "Weather"]


class Crash(BaseException):
    """A process that dies here; nothing in the code under test catches it."""


@dataclass
class SimulatedNode:
    """One node whose journal outlives its process."""

    ledger: str
    runtime: ManualRuntime
    store: MemoryStore
    machine: Machine
    book: Book
    writer: Writer
    conduct: Conduct
    kill_at: Callable[[str], bool] = field(default=lambda _: False)
    is_dead: bool = False

    @classmethod
    def create(cls, ledger: str) -> SimulatedNode:
        """Begin an empty journal."""
        runtime = ManualRuntime(start_ns=CREATED_NS + SECOND)
        return cls._open(ledger, runtime, MemoryStore(genesis.encode(genesis_of(ledger)), runtime=runtime))

    @classmethod
    def _open(cls, ledger: str, runtime: ManualRuntime, store: MemoryStore) -> SimulatedNode:
        settlement: list[Settlement] = []

        def interpreter() -> Settlement:
            settlement.append(Settlement(genesis_of(ledger)))
            return settlement[-1]

        machine = open_machine(store, interpreter, bytes(16))
        key = key_of(f"NODE-{ledger}")
        writer = Writer(machine, store, key, runtime)
        book = settlement[-1].book
        conduct = Conduct(machine=machine, book=book, writer=writer, private_key=key, runtime=runtime)
        node = cls(ledger, runtime, store, machine, book, writer, conduct)
        runtime._on_crossing = node._cross
        return node

    def _cross(self, point: str) -> None:
        if self.is_dead or self.kill_at(point):
            self.is_dead = True
            raise Crash(point)

    async def start(self) -> None:
        """Begin to take messages, and make what is owed."""
        await self.writer.start()
        await self.conduct.resume()

    async def stop(self) -> None:
        """End the writer, dead or alive."""
        self.kill_at = lambda _: False
        await self.writer.stop()

    async def reopened(self) -> SimulatedNode:
        """Give the node that the next process makes of the same journal."""
        await self.stop()
        runtime = ManualRuntime(start_ns=self.runtime.now_ns() + SECOND)
        return self._open(self.ledger, runtime, self.store.reopened(runtime=runtime))

    async def submit(self, message: Message) -> None:
        """Journal a request at the time it was signed."""
        envelope = messages.parse(message)
        self.runtime.move_to(max(self.runtime.now_ns(), envelope.created_s * SECOND + SECOND))
        await self.writer.submit(self.machine.admit(message, at_ns=None))


@dataclass
class Weather:
    """A node as seen across a network: ``fate`` says of each call whether it is lost, its answer is lost, or both pass.

    Every delivery is repeated when ``repeats`` is set, and so is the last one but ``delays`` calls later.
    """

    pair: Pair
    ledger: str
    fate: Callable[[], str] = field(default=lambda: "pass")
    repeats: bool = False
    old: list[list[Message]] = field(default_factory=list)

    async def window(self, number: int | None) -> WindowView:
        """Ask for a window."""
        return await self._through(lambda node: node.conduct.window(number))

    async def positions(self, number: int) -> PositionsView:
        """Ask for positions."""
        return await self._through(lambda node: node.conduct.positions(number))

    async def deliver(self, statements: Sequence[Message]) -> list[Message]:
        """Deliver statements; before them, now and then, something old once more."""
        if self.repeats:
            for earlier in self.old[-3::2]:
                try:
                    await self._through(lambda node, earlier=earlier: node.conduct.deliver(earlier))
                except LedgerError as error:
                    if isinstance(error, Unavailable):
                        raise
        self.old.append(list(statements))
        return await self._through(lambda node: node.conduct.deliver(statements))

    async def _through(self, call: Callable[[SimulatedNode], object]) -> object:
        """Pass a call on and its answer back, as the weather allows."""
        fate = self.fate()
        node = self.pair.nodes[self.ledger]
        if fate == "lost" or node.is_dead:
            raise Unavailable("PEER_UNREACHABLE", "The node cannot be reached.", retry_after_s=1)
        try:
            answer = await call(node)
        except Crash as crash:
            raise Unavailable("PEER_UNREACHABLE", "The node died.", retry_after_s=1) from crash
        if fate == "answer lost":
            raise Unavailable("PEER_UNREACHABLE", "The answer did not come.", retry_after_s=1)
        return answer


@dataclass
class Pair:
    """Both nodes, and the world that signs for everybody."""

    world: World
    nodes: dict[str, SimulatedNode]
    taken: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEDGERS, 0))

    @classmethod
    @asynccontextmanager
    async def make(cls, world: World | None = None) -> AsyncIterator[Pair]:
        """Have both nodes run with everything that the world has journaled."""
        pair = cls(world or World.funded(), {ledger: SimulatedNode.create(ledger) for ledger in LEDGERS})
        for node in pair.nodes.values():
            await node.start()
        try:
            await pair.catch_up()
            yield pair
        finally:
            for node in pair.nodes.values():
                await node.stop()

    async def catch_up(self) -> None:
        """Journal on the nodes what has been journaled in the world since the last time."""
        for ledger in LEDGERS:
            blocks = self.world.node(ledger).blocks
            for _, block in blocks[self.taken[ledger] :]:
                for message in block:
                    await self.nodes[ledger].submit(message)
            self.taken[ledger] = len(blocks)

    async def reopen(self, ledger: str) -> None:
        """Replace a node by what the next process makes of its journal."""
        self.nodes[ledger] = await self.nodes[ledger].reopened()
        await self.nodes[ledger].start()

    def ports(self) -> dict[str, Weather]:
        """Give calm ports to both nodes."""
        return {ledger: Weather(self, ledger) for ledger in LEDGERS}

    async def settle(self, window: int, ports: dict[str, Weather] | None = None) -> CycleReport:
        """Run a cycle."""
        return await coordinator.run_cycle(
            ports or self.ports(),
            key=key_of("SETTLEMENT"),
            network_hash=NETWORK_HASH,
            window=window,
            runtime=self.nodes["SH"].runtime,
        )

    def balance(self, name: str, asset: str = "CNY") -> int:
        """Give the posted balance of ``LEDGER/CODE.owner``."""
        ledger, _, account = name.partition("/")
        return self.nodes[ledger].machine.state.balance(self.world.node(ledger).account(account, asset))
