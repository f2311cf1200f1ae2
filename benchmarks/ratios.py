"""A gross regression fails the pipeline: ``python -m benchmarks.ratios`` compares two things of one run, twice.

=========  ========================================================================================================
kernel     the compiled kernel against the same source as a plain loop, transfers of full semantics
engine     the whole line (signature, ids, limits, leaves, tree, block, compression, commit) against SQLite appending
           the same block bodies to a single table of blobs, one commit each, ``synchronous=FULL`` as well
=========  ========================================================================================================

Both sides of a ratio take turns, so a slow or busy machine slows both; no absolute time is looked at. The bounds are
generous: a quarter or less of what two cores have shown, quiet or busy. The exit code is 1 when the median of a ratio
is below its bound.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bank import Bank, Workload, batches, send, working_bank
from benchmarks.decisions import kernel_against_loop
from benchmarks.figures import Figure, machine, rounded
from gateway.serve import run
from ledger.runtime import keep_memory

__all__ = ["BOUNDS", "main"]

RUNS = 5
BATCH = 65_536
MESSAGE_COUNT = 8
BOUNDS = {"kernel": 100.0, "engine": 0.08}


def engine_against_append(runs: int) -> list[float]:
    """Give, for each run, the speed of the whole engine as a share of that of a bare append of the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return run(_engine_against_append(Path(folder), runs))


async def _engine_against_append(folder: Path, runs: int) -> list[float]:
    async with working_bank(folder / "network", Workload().account_count) as bank:
        ratios = []
        count = BATCH * MESSAGE_COUNT
        for run in range(runs + 1):
            commands = batches(bank, Workload(), batch=BATCH, total=count, first_id=1 + run * count)
            height = bank.side.node.store.last_height()
            sent = await send(bank, [bank.message(batch) for batch in commands])
            append_s = _append_s(_bodies(bank, height), folder / "bare.db")
            ratios.append(append_s / sent.wall_s)
        return ratios[1:]  # the first pays for what is paid once


def _bodies(bank: Bank, height: int) -> list[bytes]:
    """Give the bodies of the blocks behind a height."""
    return [block.body for block in bank.side.node.store.blocks(height + 1)]


def _append_s(bodies: list[bytes], path: Path) -> float:
    """Give the seconds in which SQLite appends some blobs, a synced commit each."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}").close()
    connection.execute("CREATE TABLE IF NOT EXISTS bodies (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
    try:
        started_s = time.perf_counter()
        for body in bodies:
            connection.execute("INSERT INTO bodies (bytes) VALUES (?)", (body,))
        return time.perf_counter() - started_s
    finally:
        connection.close()


def main() -> int:
    """Measure both ratios, print them as JSON, and say whether each is above its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--bound", action="append", default=[], metavar="NAME=NUMBER", help="another bound")
    options = parser.parse_args()
    keep_memory()
    bounds = BOUNDS | {name: float(value) for name, _, value in (text.partition("=") for text in options.bound)}
    runs = {
        "kernel": [kernel_against_loop()["ratio"] for _ in range(options.runs)],
        "engine": engine_against_append(options.runs),
    }
    result: Figure = {}
    for name, ratios in runs.items():
        value = statistics.median(ratios)
        result[name] = {"value": rounded(value), "bound": bounds[name], "runs": [rounded(ratio) for ratio in ratios]}
        if value < bounds[name]:
            print(f"{name}: the ratio {value:.3g} is below its bound {bounds[name]:.3g}", file=sys.stderr)
    json.dump(result | {"machine": machine()}, sys.stdout, indent=2)
    print()
    return int(any(result[name]["value"] < result[name]["bound"] for name in runs))


if __name__ == "__main__":
    sys.exit(main())
