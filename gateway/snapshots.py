"""Snapshots of a node's ledger, made by a process of its own that follows the journal beside the writer.

``make_snapshot`` loads the newest snapshot, follows the journal to its end as every reader does, comparing everything,
and writes the next one: what it keeps is what a replay gives, and the writer never waits for it. ``SnapshotKeeper``
starts such a process from a running node whenever the journal has grown by ``snapshot_interval`` positions. The process
gives way to everything else on the machine (``nice`` 19), so it is started whether the node is busy or not; it needs as
much memory as the node, for as long as it runs. A node that ends keeps its own machine, where that is cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import load_genesis, load_key, load_node_config
from ledger import journal
from ledger.errors import LedgerError
from ledger.machine import Machine
from ledger.reopen import open_machine
from ledger.runtime import Runtime
from ledger.snapshot import Snapshots
from ledger.store import Store, open_store_reader
from settlement.interpreter import Settlement

__all__ = ["SNAPSHOT_FOLDER", "Made", "SnapshotKeeper", "make_snapshot"]

SNAPSHOT_FOLDER = "snapshots"
"""In a node's folder: where to begin when the node starts again; made again when it is lost."""
LOOK_TIME_S = 5
"""How often a node looks whether it is time for the next snapshot."""
CHEAP_SHARE = 64
"""A node that ends makes a snapshot if a 64th of the interval has been journaled since the last one, ..."""
CHEAP_SIZE_MAX = 2**28
"""... and if its ids and answers take no more bytes than this, which are written in about a second."""

_log = logging.getLogger("hugang.snapshot")


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot that was made: of which block, how many positions it saves replaying, how large it is."""

    height: int
    position: int
    size: int


def make_snapshot(folder: Path, runtime: Runtime) -> Made | None:
    """Make a snapshot of the node in a folder, at the end of its journal; the node may run meanwhile.

    Returns:
        What was made; ``None`` if there is nothing that the newest snapshot has not.

    Raises:
        MalformedInput: a file of the folder is missing or not of its form.
        Unavailable: ``SNAPSHOT_BUSY``, ``SNAPSHOT_FAILED``; or the journal's database does not answer.
        IntegrityFailure: the journal contradicts itself.
    """
    config = load_node_config(folder)
    genesis = load_genesis(folder / config.genesis_file)
    private_key = load_key(folder / config.key_file)
    snapshots = Snapshots(folder / SNAPSHOT_FOLDER, runtime=runtime)
    store = open_store_reader(config.database, runtime=runtime, folder=folder)
    try:
        hash_key = runtime.random_bytes(16)
        machine = open_machine(store, lambda: Settlement(genesis), hash_key, snapshots=snapshots, runtime=runtime)
    finally:
        store.close()
    if machine.height in (0, *snapshots.heights()):
        return None
    path = snapshots.save(machine, private_key)
    return Made(machine.height, machine.position, path.stat().st_size)


class SnapshotKeeper:
    """Sees to it that a running node has snapshots. Everything happens on the node's event loop."""

    def __init__(self, folder: Path, store: Store, machine: Machine, runtime: Runtime, *, interval: int) -> None:
        """Stand before the node starts; ``interval`` 0 makes no snapshot ever."""
        self._folder = folder
        self._store = store
        self._machine = machine
        self._runtime = runtime
        self._interval = interval
        self._snapshots = Snapshots(folder / SNAPSHOT_FOLDER, runtime=runtime)
        self._task: asyncio.Task[None] | None = None
        self._begun = self.position()

    def position(self) -> int:
        """Give the position to which the newest snapshot comes."""
        for height in self._snapshots.heights()[:1]:
            with contextlib.suppress(LedgerError):
                header = journal.decode_header(self._store.header(height))
                return header.first_position + header.position_count
        return 0

    def start(self) -> None:
        """Begin to look."""
        if self._interval:
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """Look no more; a snapshot that is being made is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def keep(self, private_key: Ed25519PrivateKey) -> None:
        """Keep the node's own machine, which has stopped for good, if that is worth it and cheap."""
        machine = self._machine
        is_worth_it = (machine.position - self.position()) * CHEAP_SHARE >= self._interval > 0
        size = machine.state.registry.size_bytes + machine.answers.size_bytes
        if not is_worth_it or size > CHEAP_SIZE_MAX or not machine.is_exact:
            return
        try:
            await self._runtime.offload(self._snapshots.save, machine, private_key)
        except LedgerError as error:
            _log.warning("no snapshot was made at the end: %s", error)

    async def _look(self) -> None:
        """Start a process whenever the journal has grown by an interval since the last one was started."""
        while True:
            await self._runtime.sleep(LOOK_TIME_S)
            if self._machine.position - self._begun >= self._interval:
                self._begun = self._machine.position
                code = await run_process(self._folder)
                if code:
                    _log.warning("no snapshot was made: its process ended with %d", code)


async def run_process(folder: Path) -> int:
    """Run ``hugang snapshot`` on a node's folder and give its exit code; whoever gives up waiting ends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUGANG_CRASH")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "snapshot", str(folder), "--gently", "--stop-with-parent"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
