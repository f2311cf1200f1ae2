"""Two simulated nodes that cosign each other: the cells that outlive a process, and what a backup brings back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ledger.cosigning import Cosigner, Offer, OwnLog
from ledger.durable import MemoryCell
from ledger.errors import Unavailable
from ledger.store import MemoryStore
from ledger.tiles import Tiles
from settlement import coordinator, cosigning
from settlement.book import PEER
from settlement.conduct import Conduct
from settlement.coordinator import CycleReport
from settlement.cosigning import NodeCosigning
from settlement.statements import LEDGERS
from tests.cycle_fixture import Pair, SimulatedNode
from tests.settlement_fixture import NETWORK_HASH, World, genesis_of, key_of


@dataclass
class Disk:
    """What one node keeps beside its journal."""

    own: MemoryCell = field(default_factory=MemoryCell)
    others: MemoryCell = field(default_factory=MemoryCell)

    def copy(self) -> Disk:
        """Give a backup."""
        return Disk(MemoryCell(self.own.read()), MemoryCell(self.others.read()))


@dataclass
class Far:
    """A node's cosigning as seen across a network: ``fate`` says of each call whether it passes."""

    watched: Watched
    ledger: str
    fate: Callable[[str], str] = field(default=lambda _: "pass")
    calls: list[str] = field(default_factory=list)

    async def cosigned(self) -> bytes:
        """Ask for the last cosigned checkpoint."""
        return await self._through("cosigned")

    async def offer(self, known: bytes) -> Offer:
        """Ask for an offer."""
        return await self._through("offer", known)

    async def cosign(self, offer: Offer) -> bytes:
        """Ask for a cosignature."""
        return await self._through("cosign", offer)

    async def keep(self, note: bytes) -> None:
        """Hand a cosigned checkpoint over."""
        await self._through("keep", note)

    async def _through(self, name: str, *arguments: object) -> object:
        self.calls.append(name)
        fate = self.fate(name)
        if fate == "lost":
            raise Unavailable("NODE_UNREACHABLE", "The node cannot be reached.", retry_after_s=1)
        answer = await getattr(self.watched.sides[self.ledger], name)(*arguments)
        if fate == "answer lost":
            raise Unavailable("NODE_UNREACHABLE", "The answer did not come.", retry_after_s=1)
        return answer


@dataclass
class Watched:
    """A pair of nodes whose checkpoints are cosigned; ``halted`` has the ledgers whose nodes have stopped."""

    pair: Pair
    disks: dict[str, Disk] = field(default_factory=lambda: {ledger: Disk() for ledger in LEDGERS})
    sides: dict[str, NodeCosigning] = field(default_factory=dict)
    tiles: dict[str, Tiles] = field(default_factory=dict)
    halted: dict[str, BaseException] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def make(cls, world: World | None = None) -> AsyncIterator[Watched]:
        """Have both nodes run with everything that the world has journaled."""
        async with Pair.make(world) as pair:
            watched = cls(pair)
            for ledger in LEDGERS:
                watched.open(ledger)
            yield watched

    def node(self, ledger: str) -> SimulatedNode:
        """Give a node as it stands now."""
        return self.pair.nodes[ledger]

    def open(self, ledger: str) -> None:
        """Begin to cosign at a node, after holding its journal against what it keeps.

        Raises:
            IntegrityFailure: the journal lacks what was cosigned.
        """
        node, disk, key = self.node(ledger), self.disks[ledger], key_of(f"NODE-{ledger}")
        genesis = genesis_of(ledger)
        log = OwnLog(genesis, private_key=key, cell=disk.own)
        tiles = Tiles.open(node.store, frontier=node.machine.frontier)
        log.check(tiles, node.machine.frontier.size)
        watcher = Cosigner(genesis, PEER[ledger], private_key=key, cell=disk.others, runtime=node.runtime)
        self.sides[ledger] = NodeCosigning(
            writer=node.writer,
            tiles=tiles,
            log=log,
            cosigner=watcher,
            runtime=node.runtime,
            halt=lambda error: self.halted.setdefault(ledger, error),
        )
        self.tiles[ledger] = tiles
        node.conduct = Conduct(
            machine=node.machine,
            book=node.book,
            writer=node.writer,
            private_key=key,
            runtime=node.runtime,
            cosigned_size=lambda: log.cosigned_size,
        )

    async def reopen(self, ledger: str) -> None:
        """Replace a node by what the next process makes of its journal and its disk."""
        await self.pair.reopen(ledger)
        self.open(ledger)

    async def restore(self, ledger: str, height: int, disk: Disk) -> None:
        """Replace a node by what comes out of a backup: its journal up to a block, and a copy of its disk."""
        old = self.node(ledger)
        await old.stop()
        store = MemoryStore(old.store.genesis(), runtime=old.runtime)
        store._blocks, store._starts = old.store._blocks[:height], old.store._starts[:height]
        store._end = old.store._starts[height]
        self.pair.nodes[ledger] = SimulatedNode._open(ledger, old.runtime, store)
        await self.node(ledger).start()
        self.disks[ledger] = disk
        self.open(ledger)

    def ports(self) -> dict[str, Far]:
        """Give calm ports to both nodes."""
        return {ledger: Far(self, ledger) for ledger in LEDGERS}

    async def exchange(self, ports: dict[str, Far] | None = None) -> dict[str, bytes]:
        """Have both cosign."""
        return await cosigning.exchange(ports or self.ports())

    async def settle(self, window: int, ports: dict[str, Far] | None = None) -> CycleReport:
        """Run a cycle."""
        return await coordinator.run_cycle(
            self.pair.ports(),
            key=key_of("SETTLEMENT"),
            network_hash=NETWORK_HASH,
            window=window,
            runtime=self.node("SH").runtime,
            cosigners=ports or self.ports(),
        )
