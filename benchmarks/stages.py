"""Where the engine's time goes: one pass over messages of 65,536 transfers, stage after stage on one thread.

P1 has the stages of plain transfers; ``python -m benchmarks.stages KIND`` prints those of ``chains`` or
``pending_post`` too, as JSON.

In the engine the stages run side by side: admission on threads of its own, then applying, sealing and committing one
block each at a time. Here each is called by itself, so that its processor time (``thread_time``) is its own; only the
commit also has a time on the wall, because it waits for the disk. The median message counts.

Beside each stage stands what it cannot fall below on this machine: the work that it must at least do, at the rates that
``benchmarks.limits`` finds in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import limits
from benchmarks.bank import Bank, Workload, batches, working_bank
from benchmarks.figures import Figure, Form, machine, rounded
from gateway.serve import run
from ledger import journal
from ledger.machine import Admitted, Context, Interpreter, Machine
from ledger.messages import Message
from ledger.runtime import keep_memory
from ledger.state import ACCOUNT
from ledger.store.parts import compress
from ledger.transfers import TRANSFER

__all__ = ["measure"]

BATCH = 65_536
MESSAGE_COUNT = {Form.TINY: 2, Form.SHORT: 16, Form.FULL: 64}
RECORD_SIZE = TRANSFER.itemsize
LINE_SIZE = 64
LINKS_SIZE = 8
"""Bytes that a record adds to what its message says: how far back its accounts' previous records lie."""
HASHED_SIZE = 4 * LINE_SIZE
"""Bytes that SHA-256 takes in for a record: two of its blocks for the leaf, two for one inner node of the tree."""
CLOCKS = {"cpu_ns": time.thread_time_ns, "wall_ns": time.perf_counter_ns}


class _Clock:
    """Notes how long each stage takes, message by message."""

    def __init__(self) -> None:
        self.spent: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note on both clocks how long something takes."""
        started = {unit: clock() for unit, clock in CLOCKS.items()}
        yield
        for unit, clock in CLOCKS.items():
            self.spent.setdefault(f"{name}_{unit}", []).append(clock() - started[unit])

    def median_ns(self, name: str) -> float:
        """Give the nanoseconds a transfer of the median message."""
        return statistics.median(self.spent[name]) / BATCH


class _Timed:
    """An interpreter whose authorising and executing are timed; everything else goes to the one behind it."""

    def __init__(self, behind: Interpreter, clock: _Clock) -> None:
        self._behind = behind
        self._clock = clock
        self.begin, self.begin_day = behind.begin, behind.begin_day
        self.decode, self.expired = behind.decode, behind.expired
        self.dump, self.load = behind.dump, behind.load
        self.clock_offset_ns = behind.clock_offset_ns  # nothing moves it here

    def authorise(self, admitted: Admitted, machine: Machine, timestamp_ns: int) -> None:
        with self._clock.stage("authorise"):
            self._behind.authorise(admitted, machine, timestamp_ns)

    def execute(self, admitted: Admitted, context: Context) -> None:
        with self._clock.stage("kernel"):
            self._behind.execute(admitted, context)


def measure(form: Form, workload: Workload | None = None) -> Figure:
    """Give ``stages``, ``limits`` (both nanoseconds a transfer) and ``rates`` of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        return run(_measure(Path(folder), workload or Workload(), MESSAGE_COUNT[form]))


async def _measure(folder: Path, workload: Workload, count: int) -> Figure:
    async with working_bank(folder / "network", workload.account_count) as bank:
        # The first message pays for what is paid once, and does not count.
        total = BATCH * (count + 1)
        signed = [bank.message(commands) for commands in batches(bank, workload, batch=BATCH, total=total)]
        _pass(bank, signed[:1], _Clock())
        clock = _Clock()
        stored = _pass(bank, signed[1:], clock)
        return _result(bank, clock, body_size=len(signed[0].body), stored=stored, folder=folder)


def _pass(bank: Bank, signed: list[Message], clock: _Clock) -> list[bytes]:
    """Take messages through all stages by hand while the node's own threads rest; give the bytes of each block."""
    node = bank.side.node
    machine, behind = node.machine, node.machine.interpreter
    machine.interpreter = _Timed(behind, clock)
    stored = []
    for message in signed:
        now_ns = node.runtime.now_ns()
        with clock.stage("admit"):
            admitted = machine.admit(message, at_ns=now_ns)
        with clock.stage("apply"):
            draft = machine.apply([admitted], max(now_ns, machine.timestamp_ns + 1))
        with clock.stage("tree"):
            link = machine.grow(draft)
        with clock.stage("encode"):
            block = journal.seal(draft, link, node.private_key, ledger="SH")
        machine.seal(block.hash)
        with clock.stage("compress"):
            parts = compress(block.encoded.body, height=block.header.height)
        with clock.stage("append"):
            node.store.append(block)
        stored.append(b"".join(parts))
    machine.interpreter = behind
    return stored


def _result(bank: Bank, clock: _Clock, *, body_size: int, stored: list[bytes], folder: Path) -> Figure:
    """Put the stages beside what they cannot fall below."""
    found = limits.rates()
    state = bank.side.node.machine.state
    registry_s = limits.random_read_s(state.registry.size_bytes)
    accounts_s = 2 * limits.random_read_s(ACCOUNT.itemsize * state.account_count)
    body_s = body_size / BATCH * found.read_byte_s
    record_s = RECORD_SIZE * found.read_byte_s
    links_s = LINKS_SIZE * (found.hash_byte_s + found.read_byte_s)
    admit_s = body_size / BATCH * found.hash_byte_s + found.verify_s / BATCH
    sync_s = limits.sync_s(stored, folder) / (BATCH * len(stored))
    floors = {
        "admit_cpu_ns": (admit_s, "SHA-256 of the body and one Ed25519 signature a message"),
        "authorise_cpu_ns": (accounts_s, "two accounts read at random"),
        "kernel_cpu_ns": (registry_s + accounts_s + record_s, "an id and two accounts at random, the record in order"),
        "tree_cpu_ns": (HASHED_SIZE * found.hash_byte_s, "SHA-256 of four blocks of 64 bytes: leaf and inner node"),
        "encode_cpu_ns": (record_s + body_s + links_s, "the record and the body read, SHA-256 of 8 bytes of links"),
        "compress_cpu_ns": (body_s + LINKS_SIZE * found.read_byte_s, "what is compressed, read once"),
        "commit_wall_ns": (sync_s, "the same bytes written to a bare file, fdatasync after each block"),
    }
    return {
        "stages": {name: rounded(value) for name, value in _stages(clock).items()},
        "limits": {name: {"ns": rounded(1e9 * value), "of": what} for name, (value, what) in floors.items()},
        "rates": {
            "memory_read_gb_per_s": rounded(1e-9 / found.read_byte_s),
            "sha256_gb_per_s": rounded(1e-9 / found.hash_byte_s),
            "ed25519_verify_per_s": rounded(1 / found.verify_s),
            "random_read_ns_in_the_registry": rounded(1e9 * registry_s),
            "stored_bytes_per_transfer": rounded(sum(map(len, stored)) / (BATCH * len(stored))),
        },
    }


def _stages(clock: _Clock) -> dict[str, float]:
    """Give each stage's nanoseconds a transfer. An append compresses again, so that is taken off the commit."""
    stages = {f"{name}_cpu_ns": clock.median_ns(f"{name}_cpu_ns") for name in ("admit", "authorise", "kernel")}
    stages["apply_rest_cpu_ns"] = clock.median_ns("apply_cpu_ns") - stages["authorise_cpu_ns"] - stages["kernel_cpu_ns"]
    stages |= {f"{name}_cpu_ns": clock.median_ns(f"{name}_cpu_ns") for name in ("tree", "encode", "compress")}
    for unit in CLOCKS:
        stages[f"commit_{unit}"] = clock.median_ns(f"append_{unit}") - clock.median_ns(f"compress_{unit}")
    return stages


def main() -> None:
    """Print the stages of one kind of transfers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", default="plain", choices=("plain", "chains", "pending_post"))
    options = parser.parse_args()
    keep_memory()
    found = measure(Form.SHORT, Workload(kind=options.kind))
    json.dump({"kind": options.kind, "stages": found["stages"], "machine": machine()}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
