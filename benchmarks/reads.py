"""Reading: by id, a page of an account's history, an old balance, from journals of several sizes. Times on the wall.

*Cold* is the first question to a fresh ``Reader``, which has no part of a body in memory; the database's connection and
the system's own cache of the file stay as they are. *Warm* is the same question again. The journal comes from messages
of 65,536 transfers between 10,000 accounts, so an account's fifty last records lie in several blocks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bank import CONDITIONS, Bank, Workload, batches, send, working_bank
from benchmarks.figures import SEED, Figure, Form, demand, figure, percentile, rounded
from gateway.serve import run
from ledger.asof import counters_as_of, counters_now
from ledger.reader import Reader

__all__ = ["measure"]

BATCH = 65_536
GROUP_COUNT = 2**20
JOURNAL_COUNTS = {Form.TINY: (2**17,), Form.SHORT: (10**6,), Form.FULL: (10**6, 10**7, 10**8)}
ASKED_COUNT = {Form.TINY: 8, Form.SHORT: 200, Form.FULL: 500}
PAGE_COUNT = 50
MEMORY_PER_TRANSFER, DISK_PER_TRANSFER, SPARE_SIZE = 70, 60, 2**31

Ask = Callable[[Reader, int], object]
"""Puts a question that a number chooses to a reader."""


def _by_id(bank: Bank, count: int) -> Ask:
    """Ask for a transfer by its id: the registry gives the position, the reader the record."""
    state = bank.side.node.machine.state
    party = int(state.account_rows[bank.first]["owner"])

    def ask(reader: Reader, number: int) -> object:
        identifier = 1 << 64 | 1 + number % count
        entry = state.lookup(party, identifier)
        if entry is None or int(reader.record(entry.position)["id_lo"]) != identifier & (2**64 - 1):
            raise SystemExit("a transfer was not found by its id")
        return entry

    return ask


def _page(bank: Bank, _count: int) -> Ask:
    """Ask for the newest page of an account's history."""
    state = bank.side.node.machine.state

    def ask(reader: Reader, number: int) -> object:
        account = bank.first + number % bank.account_count
        page = reader.history(account, cursor=state.account(account).last, limit=PAGE_COUNT)
        if len(page.records) != PAGE_COUNT and page.next_cursor is not None:
            raise SystemExit("a page of a history was not full")
        return page

    return ask


def _as_of(bank: Bank, _count: int) -> Ask:
    """Ask for an account's balance as of some position: points on both sides, and a walk between them."""
    node = bank.side.node
    state, end = node.machine.state, node.machine.position

    def ask(reader: Reader, number: int) -> object:
        account, position = bank.first + number % bank.account_count, number % end
        now = counters_now(state.account(account))
        counters = counters_as_of(account, position, points=node.points, now=now, record=reader.record)
        if counters.last > position + 1:
            raise SystemExit("a balance is of a later position than was asked for")
        return counters

    return ask


QUESTIONS: dict[str, Callable[[Bank, int], Ask]] = {
    "by_id": _by_id,
    f"page_of_{PAGE_COUNT}": _page,
    "as_of": _as_of,
}
"""What is asked; another kind of read is another line here."""


def measure(*, runs: int, form: Form) -> Figure:
    """Give the median microseconds of the first question by id to the largest journal, and all else beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), JOURNAL_COUNTS[form][-1]
        sizes = {"memory_size": count * MEMORY_PER_TRANSFER, "disk_size": count * DISK_PER_TRANSFER}
        demand(**{kind: size + SPARE_SIZE for kind, size in sizes.items()}, folder=folder)
        found = run(_measure(folder, runs=runs, form=form))
    return figure(
        [run["by_id"]["cold"]["p50_us"] for run in found[max(found)]],
        unit="µs",
        conditions={**CONDITIONS, "seed": SEED, "batch": BATCH, "questions_a_run": ASKED_COUNT[form]},
        journals={str(count): {"runs": results} for count, results in found.items()},
    )


async def _measure(folder: Path, *, runs: int, form: Form) -> dict[int, list[Figure]]:
    """Let one journal grow, and ask it at each size."""
    found: dict[int, list[Figure]] = {}
    async with working_bank(folder / "network", Workload().account_count) as bank:
        written = 0
        for count in JOURNAL_COUNTS[form]:
            while written < count:
                commands = batches(
                    bank, Workload(), batch=BATCH, total=min(GROUP_COUNT, count - written), first_id=1 + written
                )
                sent = await send(bank, [bank.message(batch) for batch in commands])
                written += BATCH * len(sent.answered_s)
            found[written] = [_asked(bank, written, run, ASKED_COUNT[form]) for run in range(runs)]
    return found


def _asked(bank: Bank, written: int, run: int, count: int) -> Figure:
    """Put every kind of question ``count`` times, cold and then warm; no two runs ask the same."""
    draw = np.random.Generator(np.random.PCG64([SEED, run]))
    return {
        name: _timed(bank, make(bank, written), draw.integers(0, 2**31, count).tolist())
        for name, make in QUESTIONS.items()
    }


def _timed(bank: Bank, ask: Ask, numbers: list[int]) -> Figure:
    spent_us: dict[str, list[float]] = {"cold": [], "warm": []}
    for number in numbers:
        reader = Reader(bank.side.node.store)
        for spent in spent_us.values():
            started_ns = time.perf_counter_ns()
            ask(reader, number)
            spent.append((time.perf_counter_ns() - started_ns) / 1e3)
    return {
        state: {"p50_us": rounded(percentile(spent, 0.5)), "p99_us": rounded(percentile(spent, 0.99))}
        for state, spent in spent_us.items()
    }
