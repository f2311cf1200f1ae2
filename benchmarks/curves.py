"""The curves of docs/performance.md: ``python -m benchmarks.curves [NAME ...] [--full]`` measures them and writes data.

=============  ====================================================================================================
contention     transfers a second when 0, 50, 90 and 100 % of them debit one account
batch_size     … in batches of 1 to 1 M transfers, eight under way; a message has at most 65,536, so a larger batch is
               several messages, all under way at once
account_count  … between 10 to 10 M accounts
growth         what a transfer costs, in nanoseconds, while a journal grows to 100 M
=============  ====================================================================================================

The short form stops earlier. Each curve goes into a file of its own in ``benchmarks/results``; ``benchmarks.plots``
draws them. All runs go through all points before the next run begins, so that a disturbance shows as one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bank import CONDITIONS, Workload, working_bank
from benchmarks.engine import transfers_per_s
from benchmarks.figures import SEED, Figure, Form, demand, machine, part, rounded
from benchmarks.growth import Filling, fill
from gateway.serve import run
from ledger.runtime import keep_memory

__all__ = ["RESULTS", "main"]

RESULTS = Path(__file__).with_name("results")
RUNS = 3
BATCH = 65_536
TRANSFER_COUNT = {Form.TINY: 2**16, Form.SHORT: 2**20, Form.FULL: 2**22}
MESSAGE_COUNT_MAX = {Form.TINY: 64, Form.SHORT: 2_048, Form.FULL: 8_192}
"""Messages of one run with small batches: each costs a signature."""
LARGE_BATCH_COUNT = {Form.TINY: 2, Form.SHORT: 16, Form.FULL: 16}
"""Batches of one run at least."""
SHARES = (0, 50, 90, 100)
BATCH_SIZES = {
    Form.TINY: (1, 2**12, 2**17),
    Form.SHORT: (1, 8, 64, 512, 2**12, 2**13, 2**16, 2**18),
    Form.FULL: (1, 8, 64, 512, 2**12, 2**13, 2**16, 2**18, 2**20),
}
ACCOUNT_COUNTS = {
    Form.TINY: (10, 1_000),
    Form.SHORT: (10, 100, 1_000, 10**4, 10**5),
    Form.FULL: (10, 100, 1_000, 10**4, 10**5, 10**6, 10**7),
}
GROWTH_COUNT = {Form.TINY: 2**17, Form.SHORT: 2**22, Form.FULL: 10**8}
GROWTH_POINT_COUNT = 100
MEMORY_PER_ACCOUNT, MEMORY_PER_TRANSFER, DISK_PER_TRANSFER, SPARE_SIZE = 500, 70, 60, 2**32


def contention(form: Form, runs: int) -> Figure:
    """Measure against the share of transfers that debit one account."""

    def point(share: int) -> float:
        return transfers_per_s(Workload(hot_share=share / 100), batch=BATCH, total=TRANSFER_COUNT[form])

    return _curve(SHARES, point, runs, x="transfers that debit one account, %", conditions={"batch": BATCH})


def batch_size(form: Form, runs: int) -> Figure:
    """Measure against the transfers of one batch."""

    def point(batch: int) -> float:
        total = max(min(TRANSFER_COUNT[form], batch * MESSAGE_COUNT_MAX[form]), batch * LARGE_BATCH_COUNT[form])
        return transfers_per_s(Workload(), batch=batch, total=total)

    return _curve(BATCH_SIZES[form], point, runs, x="transfers of one batch", conditions={"accounts": 10_000})


def account_count(form: Form, runs: int) -> Figure:
    """Measure against the number of accounts."""

    def point(count: int) -> float:
        return transfers_per_s(Workload(account_count=count), batch=BATCH, total=TRANSFER_COUNT[form])

    _demand(MEMORY_PER_ACCOUNT * ACCOUNT_COUNTS[form][-1], 0)
    return _curve(ACCOUNT_COUNTS[form], point, runs, x="accounts", conditions={"batch": BATCH})


def growth(form: Form, _runs: int) -> Figure:
    """Let one journal grow once, and give what a transfer costs on the way."""
    count = GROWTH_COUNT[form]
    _demand(MEMORY_PER_TRANSFER * count, DISK_PER_TRANSFER * count)
    with tempfile.TemporaryDirectory() as folder:
        found = run(_grow(Path(folder, "network"), count))
    step = -(-len(found) // GROWTH_POINT_COUNT)
    points = []
    for start in range(0, len(found), step):
        stretch = found[start : start + step]
        wall_ns, cpu_ns = [1e9 * wall_s for _, wall_s, _ in stretch], [1e9 * cpu_s for _, _, cpu_s in stretch]
        points.append({"x": stretch[0][0], **part(wall_ns), "cpu_ns": rounded(sum(cpu_ns) / len(cpu_ns))})
    conditions = {**CONDITIONS, "seed": SEED, "batch": 8_192, "accounts": Workload().account_count}
    return {"x": "transfers in the journal", "y": "ns/transfer", "points": points, "conditions": conditions}


async def _grow(folder: Path, count: int) -> list[tuple[int, float, float]]:
    async with working_bank(folder, Workload().account_count) as bank:
        return await fill(Filling(bank), count)


def _curve(
    values: tuple[int, ...], point: Callable[[int], float], runs: int, *, x: str, conditions: dict[str, int]
) -> Figure:
    """Measure all points of a curve, run by run."""
    found: dict[int, list[float]] = {value: [] for value in values}
    for _ in range(runs):
        for value, speeds in found.items():
            speeds.append(point(value))
            print(f"  {value:,}: {speeds[-1]:,.0f}", file=sys.stderr)
    points = [{"x": value, **part(speeds)} for value, speeds in found.items()]
    return {"x": x, "y": "transfers/s", "points": points, "conditions": {**CONDITIONS, "seed": SEED, **conditions}}


def _demand(memory_size: int, disk_size: int) -> None:
    folder = Path(tempfile.gettempdir())
    demand(memory_size=memory_size + SPARE_SIZE, disk_size=disk_size + SPARE_SIZE, folder=folder)


CURVES: dict[str, Callable[[Form, int], Figure]] = {
    "contention": contention,
    "batch_size": batch_size,
    "account_count": account_count,
    "growth": growth,
}


def main() -> None:
    """Measure what is named, or all, and write a file each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CURVES))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="form", action="store_const", const=Form.FULL, help="the long form")
    size.add_argument("--tiny", dest="form", action="store_const", const=Form.TINY, help="to see that it works")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the data")
    parser.set_defaults(form=Form.SHORT)
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(CURVES)):
        parser.error(f"there is no curve {', '.join(unknown)}")
    keep_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or CURVES:
        print(f"{name} ...", file=sys.stderr)
        found = {"name": name, "form": options.form.value, **CURVES[name](options.form, options.runs)}
        path = options.out / f"{name}.json"
        path.write_text(json.dumps(found | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
