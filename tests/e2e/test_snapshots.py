"""Snapshots of running nodes: made beside the writer, by itself and at the end, and what a start makes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import snapshots
from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.node import Node
from gateway.snapshots import SNAPSHOT_FOLDER, Made, SnapshotKeeper, make_snapshot
from ledger.errors import LedgerError, Unavailable
from ledger.runtime import SystemRuntime
from ledger.snapshot import Snapshots
from tests.network_fixture import Network, running_network
from tests.snapshot_fixture import parts_of

TIME_S_MAX = 60


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Give a network with a settled window."""
    with running_network(tmp_path_factory.mktemp("network") / "n") as network:
        network.settle()
        yield network


def pay(network: Network) -> None:
    """Make a payment in Shanghai."""
    wallets = network.wallets["SH"]
    network.customer("SH").pay(debtor=wallets["a"], creditor=wallets["b"], asset="CNY", amount=7)


def folder_of(network: Network, ledger: str = "SH") -> Snapshots:
    """Give a node's snapshots."""
    return Snapshots(network.folder.node(ledger) / SNAPSHOT_FOLDER, runtime=network.runtime)


def restart(network: Network, ledger: str = "SH") -> Node:
    """Stop a node and start it again from its folder."""
    network.servers[ledger].stop()
    network.start_node(ledger)
    return network.nodes[ledger]


def test_a_snapshot_is_made_while_the_node_runs(network: Network) -> None:
    """A snapshot of a running node is its machine, the start that takes it gives the same, and the node works on."""
    pay(network)
    node = network.nodes["SH"]
    made = make_snapshot(network.folder.sh, network.runtime)
    assert made is not None
    assert (made.height, made.position) == (node.machine.height, node.machine.position)
    assert made.size == folder_of(network).path(made.height).stat().st_size
    assert make_snapshot(network.folder.sh, network.runtime) is None
    pay(network)
    before, digest = parts_of(node.machine), network.digest("SH")
    again = restart(network)
    assert parts_of(again.machine) == before
    assert network.digest("SH") == digest
    pay(network)
    network.settle()
    assert made.height in folder_of(network).heights()


def test_the_command_says_what_it_made(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """``hugang snapshot`` names block, position and size, or that there is nothing new."""
    pay(network)
    recorded: list[object] = []
    assert run(["snapshot", str(network.folder.sh)], recorded) == ExitCode.OK
    (made,) = recorded
    assert isinstance(made, Made)
    assert f"block {made.height:,}, position {made.position:,}" in capsys.readouterr().out
    assert run(["snapshot", str(network.folder.sh)]) == ExitCode.OK
    assert "nothing has been journaled" in capsys.readouterr().out


def test_a_node_makes_snapshots_by_itself(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the journal has grown by the interval, a process of its own makes a snapshot beside the node."""
    pay(network)
    node = network.nodes["SH"]
    ended = asyncio.Event()
    monkeypatch.setattr(snapshots, "LOOK_TIME_S", 0.01)
    whole = snapshots.run_process

    async def counted(folder: Path) -> int:
        code = await whole(folder)
        ended.set()
        return code

    monkeypatch.setattr(snapshots, "run_process", counted)

    async def look() -> None:
        keeper = SnapshotKeeper(network.folder.sh, node.store, node.machine, network.runtime, interval=1)
        assert keeper.position() < node.machine.position
        keeper.start()
        await asyncio.wait_for(ended.wait(), TIME_S_MAX)
        assert keeper.position() == node.machine.position
        await keeper.stop()

    asyncio.run(look())
    assert folder_of(network).heights()[0] == node.machine.height


def test_a_failure_is_a_warning(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that fails is not started again before the next interval, and the node goes on."""
    node = network.nodes["SH"]
    codes: list[int] = []

    async def failing(_folder: Path) -> int:
        codes.append(5)
        return 5

    monkeypatch.setattr(snapshots, "LOOK_TIME_S", 0.001)
    monkeypatch.setattr(snapshots, "run_process", failing)

    async def look() -> None:
        keeper = SnapshotKeeper(network.folder.sh, node.store, node.machine, network.runtime, interval=1)
        keeper._begun = 0
        keeper.start()
        await asyncio.sleep(0.1)
        await keeper.stop()

    with caplog.at_level(logging.WARNING, "hugang.snapshot"):
        asyncio.run(look())
    assert codes == [5]
    assert "ended with 5" in caplog.text


def test_a_node_that_stops_ends_the_process(network: Network) -> None:
    """A process that is under way when its node ends is ended too, and awaited."""

    async def give_up() -> None:
        task = asyncio.create_task(snapshots.run_process(network.folder.sh))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())


def test_a_node_keeps_its_machine_at_the_end(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    """A clean end makes a snapshot if enough has been journaled since the last one, and a failure is a warning."""
    pay(network)
    node = network.nodes["HK"]
    machine, heights = node.machine, folder_of(network, "HK").heights
    key, folder = node.private_key, network.folder.hk

    def end(interval: int, runtime: SystemRuntime | None = None) -> None:
        keeper = SnapshotKeeper(folder, node.store, machine, runtime or network.runtime, interval=interval)
        asyncio.run(keeper.keep(key))

    end(0)
    end(2**30)
    assert heights() == []
    assert machine.state.registry.size_bytes < snapshots.CHEAP_SIZE_MAX
    with caplog.at_level(logging.WARNING, "hugang.snapshot"):
        (folder / SNAPSHOT_FOLDER).write_bytes(b"")
        end(1)
        assert "SNAPSHOT_FAILED" in caplog.text
        (folder / SNAPSHOT_FOLDER).unlink()
    end(machine.position * snapshots.CHEAP_SHARE)
    assert heights() == [machine.height]
    end(1)
    assert heights() == [machine.height]
    parts = parts_of(machine)
    assert parts_of(restart(network, "HK").machine) == parts


def test_a_large_machine_is_not_kept_at_the_end(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take long to write does not hold up the end of a node."""
    pay(network)
    node = network.nodes["SH"]
    before = folder_of(network).heights()
    monkeypatch.setattr(snapshots, "CHEAP_SIZE_MAX", 1)
    keeper = SnapshotKeeper(network.folder.sh, node.store, node.machine, network.runtime, interval=1)
    asyncio.run(keeper.keep(node.private_key))
    assert folder_of(network).heights() == before


def test_the_journal_may_be_behind_its_snapshots(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot whose block the journal has not does not count as how far snapshots come."""
    node = network.nodes["SH"]
    keeper = SnapshotKeeper(network.folder.sh, node.store, node.machine, network.runtime, interval=1)
    monkeypatch.setattr(Snapshots, "heights", lambda _: [2**40])
    assert keeper.position() == 0


CRASHES = [
    ("snapshot.before_write", 1),
    ("snapshot.after_part", 4),
    ("snapshot.before_name", 1),
    ("snapshot.after_name", 1),
]


@pytest.mark.faults
@pytest.mark.parametrize(("point", "number"), CRASHES)
def test_a_killed_snapshot_costs_time_only(network: Network, point: str, number: int) -> None:
    """Killed anywhere while it writes, a process leaves snapshots of which each is whole, and the node starts right."""
    pay(network)
    environment = {"HUGANG_CRASH": str(number), "HUGANG_CRASH_POINT": point}
    command = [sys.executable, "-m", "gateway.cli", "snapshot", str(network.folder.sh), "--gently"]
    before = folder_of(network).heights()
    done = subprocess.run(command, env={**os.environ, **environment}, timeout=TIME_S_MAX, check=False)
    assert done.returncode == -signal.SIGKILL
    is_named = point == "snapshot.after_name"
    assert (folder_of(network).heights() != before) is is_named
    parts = parts_of(network.nodes["SH"].machine)
    assert parts_of(restart(network).machine) == parts
    pay(network)
    assert subprocess.run(command, timeout=TIME_S_MAX, check=False).returncode == ExitCode.OK
    assert folder_of(network).heights()[0] == network.nodes["SH"].machine.height
    assert len(folder_of(network).heights()) <= 2


def test_two_at_once(network: Network) -> None:
    """While one process writes snapshots of a node, another one is told so."""
    pay(network)
    snapshots_of = folder_of(network)
    with snapshots_of._locked(), pytest.raises(Unavailable) as caught:
        make_snapshot(network.folder.sh, network.runtime)
    assert isinstance(caught.value, LedgerError)
    assert caught.value.code == "SNAPSHOT_BUSY"
