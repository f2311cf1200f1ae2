"""The engine alone, in one process: signed binary messages of book transfers, eight under way.

Signing is the client's work and done before the clock starts; the clock ends with the last answer. Only for single
transfers the client's work is inside: its tasks share messages (``ledger.batching``), which are signed as they fill.

=====  ==========================================================================================================
P1     plain transfers between 10,000 accounts, ids in order of time; batches of 65,536 and of 8,192; one by one from
       many tasks (``single_submit``); the longest wait of a single one behind a file of a million
       (``single_behind_a_million``); and, from one pass on one thread, what each stage costs (``benchmarks.stages``)
P2     the same over 16 accounts
P3     chains of two; and holds that are posted in the second half of their message (``pending_post``)
P4     plain transfers with random 128-bit ids
=====  ==========================================================================================================
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks import behind, stages
from benchmarks.bank import CONDITIONS, FLIGHT_COUNT, Bank, Workload, batches, send, working_bank
from benchmarks.figures import SEED, Figure, Form, figure, part, percentile
from gateway.serve import run
from ledger import columns
from ledger.batching import Batcher
from ledger.transfers import Result, Transfers

__all__ = ["BATCH_LARGE", "BATCH_SMALL", "TRANSFER_COUNT", "WORKLOADS", "measure", "single", "transfers_per_s"]

WORKLOADS = ("P1", "P2", "P3", "P4")
BATCH_LARGE, BATCH_SMALL = 65_536, 8_192
TRANSFER_COUNT = {Form.TINY: 2**16, Form.SHORT: 2**21, Form.FULL: 2**23}
"""Transfers of one timed run: enough that filling and emptying the line of blocks is a small part of it."""
SINGLE_COUNT = {Form.TINY: 2**12, Form.SHORT: 2**17, Form.FULL: 2**20}
TASK_COUNT = {Form.TINY: 2**8, Form.SHORT: 2**11, Form.FULL: 2**11}
"""Tasks that each await one transfer at a time."""


Send = Callable[[Transfers], Awaitable[Sequence[int]]]


def measure(name: str, *, runs: int, form: Form) -> Figure:
    """Measure one workload several times, each time on a fresh ledger; transfers a second."""
    total = TRANSFER_COUNT[form]
    accounts = 16 if name == "P2" else Workload().account_count
    conditions = {**CONDITIONS, "seed": SEED, "accounts": accounts, "batch": BATCH_LARGE, "transfers_a_run": total}
    if name == "P1":
        return _p1(runs=runs, form=form, conditions=conditions)
    workload = Workload(account_count=accounts, kind="chains" if name == "P3" else "plain", has_random_ids=name == "P4")
    found = figure(_many(workload, total=total, runs=runs), unit="transfers/s", conditions=conditions)
    if name == "P3":
        found["pending_post"] = part(_many(Workload(kind="pending_post"), total=total, runs=runs))
    return found


def _many(workload: Workload, *, total: int, runs: int) -> list[float]:
    return [transfers_per_s(workload, batch=BATCH_LARGE, total=total) for _ in range(runs)]


def _p1(*, runs: int, form: Form, conditions: Figure) -> Figure:
    """Measure large and small batches and single transfers in turn, then take one pass apart."""
    large, small, one_by_one = [], [], []
    for _ in range(runs):
        large.append(transfers_per_s(Workload(), batch=BATCH_LARGE, total=TRANSFER_COUNT[form]))
        small.append(transfers_per_s(Workload(), batch=BATCH_SMALL, total=TRANSFER_COUNT[form]))
        one_by_one.append(single(total=SINGLE_COUNT[form], task_count=TASK_COUNT[form]))
    apart = stages.measure(form)
    return figure(
        large,
        unit="transfers/s",
        conditions=conditions,
        stages=apart["stages"],
        batch_8192=part(small),
        single_submit=part(
            [run["transfers_per_s"] for run in one_by_one],
            tasks=TASK_COUNT[form],
            transfers_a_run=SINGLE_COUNT[form],
            p50_ms=[run["p50_ms"] for run in one_by_one],
            p99_ms=[run["p99_ms"] for run in one_by_one],
        ),
        single_behind_a_million=behind.measure(runs=runs, form=form),
        limits=apart["limits"],
        rates=apart["rates"],
    )


def transfers_per_s(workload: Workload, *, batch: int, total: int, seed: int = SEED, database: str = "") -> float:
    """Give the transfers a second of one run on a fresh ledger, in a SQLite file unless a database's URL is given.

    Raises:
        SystemExit: not every one of them was applied.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "network")
        return run(_run(workload, batch=batch, total=total, seed=seed, folder=place, database=database))


async def _run(workload: Workload, *, batch: int, total: int, seed: int, folder: Path, database: str) -> float:
    async with working_bank(folder, workload.account_count, database=database) as bank:
        messages, amount = [], 0
        for commands in batches(bank, workload, batch=batch, total=total, seed=seed):
            messages.append(bank.message(commands))
            amount += int(commands["amount"].sum())
        count, moved = bank.transfer_count, bank.moved
        sent = await send(bank, messages, flight_count=FLIGHT_COUNT * -(-batch // columns.COUNT_MAX))
        _check(bank, count=bank.transfer_count - count, wanted=total, moved=bank.moved - moved, amount=amount)
        return total / sent.wall_s


def _check(bank: Bank, *, count: int, wanted: int, moved: int, amount: int) -> None:
    """Hold what was done against what was asked for."""
    state = bank.side.node.machine.state
    state.check()
    if count != wanted or moved != amount or state.hold_count:
        raise SystemExit("not every transfer was taken, or not as it was sent")


# --- single transfers -------------------------------------------------------------------------------------------------


def single(*, total: int, task_count: int) -> Figure:
    """Let many tasks each await one transfer after another: transfers a second, and how long one waits.

    Raises:
        SystemExit: not every one of them was applied.
    """
    with tempfile.TemporaryDirectory() as folder:
        return run(_single(total, task_count, Path(folder, "network")))


async def _single(total: int, task_count: int, folder: Path) -> Figure:
    async with working_bank(folder, Workload().account_count) as bank:
        (commands,) = batches(bank, Workload(), batch=min(total, BATCH_LARGE), total=min(total, BATCH_LARGE))
        rows = list(zip(*(commands[name].tolist() for name in ("debit", "credit", "amount")), strict=True))
        batcher = Batcher(_sender(bank))
        waited_s: list[float] = []

        async def task(first: int) -> None:
            for number in range(first, total, task_count):
                debit, credit, amount = rows[number % len(rows)]
                asked_s = time.perf_counter()
                result = await batcher.transfer(1 << 64 | 1 + number, debit=debit, credit=credit, amount=amount)
                waited_s.append(time.perf_counter() - asked_s)
                if result is not Result.OK:
                    raise SystemExit(f"a single transfer was refused: {result.name}")

        count, started_s = bank.transfer_count, time.perf_counter()
        await asyncio.gather(*(task(number) for number in range(task_count)))
        spent_s = time.perf_counter() - started_s
        if bank.transfer_count - count != total:
            raise SystemExit("not every single transfer was taken")
    return {
        "transfers_per_s": total / spent_s,
        "p50_ms": round(1e3 * percentile(waited_s, 0.5), 1),
        "p99_ms": round(1e3 * percentile(waited_s, 0.99), 1),
    }


def _sender(bank: Bank) -> Send:
    """Give what signs transfers as one message, submits it, and reads the results of what became durable."""
    node = bank.side.node

    async def send_one(commands: Transfers) -> Sequence[int]:
        answer = await bank.side.submit(bank.message(commands))
        recalled = node.store.recall(answer)
        records = node.reader.answer_records(answer) if recalled is None else recalled[1]
        codes: list[int] = records["result"].tolist()
        return codes

    return send_one
