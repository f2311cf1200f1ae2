"""One node, composed: a store, the writer on it, what messages mean, and what the node says in the settlement cycle.

Opening reads the folder and replays the journal; it is plain code and may take as long as the journal is. Starting
binds the node to the running event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import peer
from gateway.admission import Admission, authorities_of
from gateway.config import NodeConfig, load_genesis, load_key, load_node_config
from gateway.projection.database import Projection
from gateway.projection.keeper import Keeper
from gateway.recent import RecentBlocks
from gateway.snapshots import SNAPSHOT_FOLDER, SnapshotKeeper
from ledger import genesis as genesis_documents
from ledger.cosigning import Cosigner, OwnLog
from ledger.durable import FileCell
from ledger.errors import InvariantViolation, MalformedInput, Unavailable
from ledger.genesis import Genesis
from ledger.machine import Machine
from ledger.messages import public_bytes
from ledger.pointlog import PointLog
from ledger.reader import Reader
from ledger.runtime import Runtime
from ledger.snapshot import Snapshots
from ledger.store import Store, open_points, open_store
from ledger.tiles import Tiles
from ledger.writer import Writer, open_machine
from settlement.book import Book
from settlement.conduct import Conduct
from settlement.cosigning import NodeCosigning
from settlement.interpreter import Settlement

__all__ = ["COSIGNED_FILE", "KEPT_FILE", "TILES_FILE", "Node"]

TILES_FILE = "tree.tiles"
"""Beside the journal: the roots of its tiles; made again when it is lost."""
KEPT_FILE = "checkpoint.note"
"""The largest checkpoint of this log that the other node has cosigned. Who restores the journal alone is found out."""
COSIGNED_FILE = "cosigned.note"
"""The checkpoint of the other log that this node has cosigned last. It belongs in every backup."""

_log = logging.getLogger("hugang.node")


class Node:
    """One ledger of the network, as a process holds it. ``open`` makes one."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        private_key: Ed25519PrivateKey,
        store: Store,
        machine: Machine,
        settlement: Settlement,
        points: PointLog,
        tiles: Tiles,
        log: OwnLog,
        cosigner: Cosigner,
        keeper: SnapshotKeeper,
        runtime: Runtime,
    ) -> None:
        """Put the parts together; machine, points and tiles stand where the store ends."""
        self.config = config
        self.genesis: Genesis = machine.genesis
        self.runtime = runtime
        self.store = RecentBlocks(store)
        self.machine = machine
        self.settlement = settlement
        self.private_key = private_key
        self.reader = Reader(self.store)
        self.points = points
        self.writer = Writer(machine, self.store, private_key, runtime, points=points)
        self.admission = Admission(machine, runtime)
        self.tiles = tiles
        self.keeper = keeper
        self.cosigning = NodeCosigning(
            writer=self.writer, tiles=tiles, log=log, cosigner=cosigner, runtime=runtime, halt=self.halt
        )
        self.conduct = Conduct(
            machine=machine,
            book=settlement.book,
            writer=self.writer,
            private_key=private_key,
            runtime=runtime,
            cosigned_size=lambda: log.cosigned_size,
        )
        self.authorities = authorities_of(config.host, config.port, config.authorities)
        self.is_serving = False
        self.projection: Keeper | None = None
        """Keeps the SQL tables beside the journal, if the settings ask for it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._halting: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        runtime: Runtime,
        config: NodeConfig | None = None,
        *,
        progress: Callable[[int, int], None] = lambda _height, _count: None,
    ) -> Node:
        """Open the node that lies in a folder; the first time, its journal begins.

        Args:
            folder: where settings, genesis, key and journal lie.
            runtime: clock, randomness, threads.
            config: settings to use instead of those in the folder.
            progress: told each height that has been replayed, and how many blocks there are.

        Raises:
            MalformedInput: a file is missing or not of its form, or the key is not the one the genesis names.
            IntegrityFailure: the journal contradicts itself, or lacks what was cosigned.
            Unavailable: another process writes to the journal.
        """
        settings = config or load_node_config(folder)
        genesis, private_key = _load_identity(settings, folder)
        store = open_store(settings.database, runtime=runtime, folder=folder, genesis=genesis_documents.encode(genesis))
        points: PointLog | None = None
        try:
            points = _open_points(settings, store, runtime=runtime, folder=folder)
            settlement: list[Settlement] = []

            def interpreter() -> Settlement:
                settlement.append(Settlement(genesis))
                return settlement[-1]

            snapshots = Snapshots(folder / SNAPSHOT_FOLDER, runtime=runtime)
            count = store.last_height()
            machine = open_machine(
                store,
                interpreter,
                runtime.random_bytes(16),
                snapshots=snapshots,
                points=points,
                runtime=runtime,
                progress=lambda height: progress(height, count),
            )
            tiles = Tiles.open(store, path=folder / TILES_FILE, frontier=machine.frontier)
            log = OwnLog(genesis, private_key=private_key, cell=FileCell(folder / KEPT_FILE, runtime=runtime))
            log.check(tiles, machine.frontier.size)
            cosigner = Cosigner(
                genesis,
                settlement[-1].book.peer,
                private_key=private_key,
                cell=FileCell(folder / COSIGNED_FILE, runtime=runtime),
                runtime=runtime,
            )
            node = cls(
                config=settings,
                private_key=private_key,
                store=store,
                machine=machine,
                settlement=settlement[-1],
                points=points,
                tiles=tiles,
                log=log,
                cosigner=cosigner,
                keeper=SnapshotKeeper(folder, store, machine, runtime, interval=settings.snapshot_interval),
                runtime=runtime,
            )
            if settings.projection_interval_s:
                node.projection = Keeper(
                    Projection.open(settings.database, folder),
                    store=node.store,
                    writer=node.writer,
                    runtime=runtime,
                    interval_s=settings.projection_interval_s,
                    halt=node.halt,
                )
        except BaseException:
            if points is not None:
                points.close()
            store.close()
            raise
        return node

    @property
    def book(self) -> Book:
        """What settlement remembers; read it only in the writer's turn."""
        return self.settlement.book

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which the node was started.

        Raises:
            InvariantViolation: it was not started.
        """
        if self._loop is None:
            raise InvariantViolation("the node was not started")
        return self._loop

    @property
    def is_halted(self) -> bool:
        """Whether something made the node stop writing for good."""
        return self._halting is not None or self.writer.failure is not None

    @property
    def peer(self) -> str:
        """The code of the other ledger."""
        return self.book.peer

    async def start(self) -> None:
        """Begin to take messages, on the running event loop, after saying what this node still owes to a cycle.

        First the other node is asked what it has cosigned of this journal, if it can be reached at once.

        Raises:
            IntegrityFailure: this journal lacks it.
        """
        self._loop = asyncio.get_running_loop()
        await self.writer.start()
        try:
            if not await peer.ask(self.config.peer_url, self.cosigning.hear):
                asking = peer.keep_asking(self.config.peer_url, self.cosigning.hear, self.runtime)
                self._asking = self._loop.create_task(asking)
                self._asking.add_done_callback(_asked)
            await self.conduct.resume()
            self.keeper.start()
        except BaseException:
            await self.stop()
            raise
        if self.projection is not None:
            self.projection.start()
        self.is_serving = True

    async def stop(self) -> None:
        """Take no more messages, finish those that wait, and close the journal."""
        self.is_serving = False
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        if self.projection is not None:
            await self.projection.stop()
        if self._halting is not None:
            await asyncio.wait([self._halting])
        await self.keeper.stop()
        await self.writer.stop()
        self.points.close()
        if not self.is_halted:
            await self.keeper.keep(self.private_key)
        self.tiles.close()
        self.store.close()

    def halt(self, error: BaseException) -> None:
        """Stop writing for good, because something does not hold that always must; reads and answers end too."""
        if self._halting is None:
            self.is_serving = False
            _log.critical("the node stops writing: %s", error)
            self._halting = asyncio.get_running_loop().create_task(self.writer.stop())

    def check_serving(self) -> None:
        """Let pass only while the node works.

        Raises:
            Unavailable: it has stopped, for whatever reason.
        """
        if not self.is_serving or self.is_halted:
            raise Unavailable(
                "NODE_STOPPED", "The node has stopped writing.", retry_after_s=self.config.limits.retry_after_s
            )


def _load_identity(settings: NodeConfig, folder: Path) -> tuple[Genesis, Ed25519PrivateKey]:
    """Read the genesis and the node's key, and hold both against the settings and each other."""
    genesis = load_genesis(folder / settings.genesis_file)
    private_key = load_key(folder / settings.key_file)
    if genesis.ledger != settings.ledger:
        raise MalformedInput("CONFIG_MALFORMED", "The genesis is that of another ledger.", ledger=settings.ledger)
    if public_bytes(private_key).hex() != genesis.node(genesis.ledger).public_key:
        raise MalformedInput("KEY_FILE_WRONG", "The node's key is not the one the genesis names.")
    return genesis, private_key


def _open_points(settings: NodeConfig, store: Store, *, runtime: Runtime, folder: Path) -> PointLog:
    """Open the balance points of the journal in ``store``, up to a block that stands there."""
    digest = hashlib.sha256(store.genesis()).digest()
    points = PointLog(open_points(settings.database, genesis_hash=digest, folder=folder), runtime=runtime)
    try:
        points.align(store)
    except BaseException:
        points.close()
        raise
    return points


def _asked(task: asyncio.Task[None]) -> None:
    """Note how asking the other node has ended; a journal that lacks what it says has stopped the node already."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("the other node was asked", exc_info=task.exception())
