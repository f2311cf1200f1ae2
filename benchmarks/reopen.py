"""P12: how long a node takes to serve again after ``kill -9``, and whether anything acknowledged is missing.

A child process writes binary messages with eight under way and says on its output which ones were answered. When enough
transfers have been, it is killed, by its process number and without warning, while it goes on writing. Another process
opens the folder. Its clock starts before it has loaded anything; it ends when the node serves. Then it looks up every
message that was acknowledged: in its place, with its key and all its records.

The folder is opened twice: by a replay of the whole journal, and from a snapshot that ``hugang snapshot`` has made of
it meanwhile. A node whose last snapshot is older lies between the two.

``python -m benchmarks.reopen write FOLDER COUNT`` and ``… open FOLDER`` are these two processes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bank import FLIGHT_COUNT, Bank, Workload, batches, working_bank
from benchmarks.figures import SEED, Figure, Form, demand, figure, part
from gateway.config import network_folder
from gateway.node import Node
from gateway.serve import node_server, run
from ledger import messages
from ledger.messages import Message
from ledger.runtime import SystemRuntime, keep_memory

__all__ = ["measure"]

BATCH = 65_536
TRANSFER_COUNT = {Form.TINY: 2**17, Form.SHORT: 10**6, Form.FULL: 10**7}
GROUP_COUNT = 2**20
MEMORY_PER_TRANSFER, DISK_PER_TRANSFER, SPARE_SIZE = 70, 60, 2**31
ACKNOWLEDGED = "acknowledged.json"
TIME_S_MAX = 1_800

Answered = tuple[str, int, int]
"""An acknowledged message: its idempotency key, its position, how many records follow it."""


def measure(*, runs: int, form: Form) -> Figure:
    """Give the seconds from the start of the process to serving.

    Raises:
        SystemExit: something acknowledged was missing, or a process failed.
    """
    found = [_once(TRANSFER_COUNT[form]) for _ in range(runs)]
    return figure(
        [run["serving_s"] for run in found],
        unit="s",
        conditions={
            "seed": SEED,
            "batch": BATCH,
            "transfers_acknowledged": [run["acknowledged"] for run in found],
            "transfers_in_the_journal": [run["transfers"] for run in found],
            "missing": sum(run["missing"] for run in found),
            "end": "SIGKILL while eight messages were under way",
        },
        stages={name: [run[name] for run in found] for name in ("load_s", "open_s", "start_s")},
        from_open=part([run["from_open_s"] for run in found]),
        with_snapshot=part([run["with_snapshot_s"] for run in found]),
        with_snapshot_from_open=part([run["with_snapshot_from_open_s"] for run in found]),
    )


def _once(count: int) -> dict[str, Any]:
    """Let one journal be written, its writer killed, and the journal opened."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"memory_size": count * MEMORY_PER_TRANSFER, "disk_size": count * DISK_PER_TRANSFER}
        demand(**{kind: size + SPARE_SIZE for kind, size in sizes.items()}, folder=folder)
        answered = _written(folder, count)
        (folder / ACKNOWLEDGED).write_text(json.dumps(answered))
        found = _opened(folder)
        command = [sys.executable, "-m", "gateway.cli", "snapshot", str(network_folder(folder / "network").node("SH"))]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=TIME_S_MAX)
        again = _opened(folder)
        return found | {
            "acknowledged": sum(records for _, _, records in answered),
            "with_snapshot_s": again["serving_s"],
            "with_snapshot_from_open_s": again["from_open_s"],
        }


def _opened(folder: Path) -> dict[str, Any]:
    """Let the folder be opened by a process of its own, and give what that said and how long it took."""
    started_ns = time.monotonic_ns()
    done = subprocess.run(_command("open", folder), stdout=subprocess.PIPE, check=False, timeout=TIME_S_MAX)
    if done.returncode:
        raise SystemExit("the node could not be opened again")
    said = json.loads(done.stdout)
    if said["missing"]:
        raise SystemExit(f"{said['missing']} acknowledged messages are missing")
    instants = [started_ns, *(said[name] for name in ("loaded_ns", "opened_ns", "serving_ns"))]
    load_s, open_s, start_s = (round((b - a) / 1e9, 3) for a, b in itertools.pairwise(instants))
    return {
        "transfers": said["transfers"],
        "missing": said["missing"],
        "load_s": load_s,
        "open_s": open_s,
        "start_s": start_s,
        "from_open_s": round(open_s + start_s, 3),
        "serving_s": round((instants[-1] - started_ns) / 1e9, 3),
    }


def _written(folder: Path, count: int) -> list[Answered]:
    """Let a child write until ``count`` transfers are acknowledged, kill it, and give all that it acknowledged."""
    with subprocess.Popen(_command("write", folder, str(count)), stdout=subprocess.PIPE, text=True) as child:
        answered: list[Answered] = []
        for line in child.stdout or ():
            key, position, records = line.split()
            answered.append((key, int(position), int(records)))
            if sum(found for _, _, found in answered) >= count:
                break
        os.kill(child.pid, signal.SIGKILL)
        # What it said before it died counts too, except for a line that it did not finish.
        for line in child.stdout or ():
            if line.endswith("\n"):
                key, position, records = line.split()
                answered.append((key, int(position), int(records)))
    if child.returncode != -signal.SIGKILL or sum(found for _, _, found in answered) < count:
        raise SystemExit("the writing process ended before it was killed")
    return answered


def _command(role: str, folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.reopen", role, str(folder), *arguments]


# --- the two processes ------------------------------------------------------------------------------------------------


async def _write(folder: Path, count: int) -> None:
    """Write twice as much as is wanted, and say what is answered; whoever asked for it ends this before."""

    async def submit(bank: Bank, signed: Iterator[Message]) -> None:
        for message in signed:
            admitted = bank.side.node.machine.admit(message, at_ns=bank.side.runtime.now_ns())
            answer = await bank.side.node.writer.submit(admitted)
            print(admitted.envelope.idempotency_key, answer.position, answer.count, flush=True)

    async with working_bank(folder / "network", Workload().account_count) as bank:
        await bank.side.node.keeper.stop()  # the first opening shall find no snapshot
        for start in range(0, 2 * count, GROUP_COUNT):
            commands = batches(bank, Workload(), batch=BATCH, total=GROUP_COUNT, first_id=1 + start)
            signed = iter([bank.message(batch) for batch in commands])
            await asyncio.gather(*(submit(bank, signed) for _ in range(FLIGHT_COUNT)))


async def _open(folder: Path) -> None:
    """Open the node as ``hugang node`` does, start it, and print when that was and what is missing."""
    loaded_ns = time.monotonic_ns()
    keep_memory()
    node = Node.open(network_folder(folder / "network").node("SH"), SystemRuntime())
    node_server(node)
    opened_ns = time.monotonic_ns()
    await node.start()
    serving_ns = time.monotonic_ns()
    missing = 0
    for key, position, count in json.loads((folder / ACKNOWLEDGED).read_text()):
        entry = node.reader.entry(position)
        is_there = (messages.parse(entry.message).idempotency_key, entry.count) == (key, count)
        missing += not is_there or len(node.reader.records(position + 1, count)) != count
    transfers = len(node.machine.state.registry)
    await node.stop()
    found = {"loaded_ns": loaded_ns, "opened_ns": opened_ns, "serving_ns": serving_ns}
    print(json.dumps(found | {"missing": missing, "transfers": transfers}))


def main() -> None:
    """Be one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("write", "open"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=0)
    options = parser.parse_args()
    run(_open(options.folder) if options.role == "open" else _write(options.folder, options.count))


if __name__ == "__main__":
    main()
