"""How long a single payment waits while somebody else's million transfers are taken.

A file of a million lines is signed beforehand as messages of 65,536 transfers, and all of them are handed in at once.
Meanwhile single transfers, each a signed message of its own, are sent on a schedule, whatever becomes of the earlier
ones; each is timed from its scheduled instant to its answer, which follows its commit.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bank import Bank, Workload, batches, commands_of, send, working_bank
from benchmarks.figures import SEED, Figure, Form, part, percentile
from gateway.serve import run
from ledger.columns import COUNT_MAX
from ledger.messages import Message

__all__ = ["measure"]

LINE_COUNT = {Form.TINY: 2 * COUNT_MAX, Form.SHORT: 2**20, Form.FULL: 2**20}
INTERVAL_S = 0.01
BEFORE_COUNT = 50
"""Single transfers that are sent before the file is, to an idle node."""
_SINGLE_ID = 2**62


def measure(*, runs: int, form: Form) -> Figure:
    """Give the longest wait of each run in milliseconds, and what is usual with the file and without.

    Raises:
        SystemExit: not every transfer was taken.
    """
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append(run(_measure(Path(folder, "network"), LINE_COUNT[form])))
    return part(
        [longest for longest, *_ in found],
        unit="ms",
        lines=LINE_COUNT[form],
        interval_ms=1e3 * INTERVAL_S,
        p50_ms=[usual for _, usual, *_ in found],
        p99_ms=[high for _, _, high, *_ in found],
        idle_p50_ms=[idle for *_, idle, _ in found],
        file_s=[whole for *_, whole in found],
    )


async def _measure(folder: Path, count: int) -> tuple[float, float, float, float, float]:
    async with working_bank(folder, Workload().account_count) as bank:
        file = [bank.message(commands) for commands in batches(bank, Workload(), batch=count, total=count)]
        singles = [_single(bank, number) for number in range(BEFORE_COUNT + 100 * count // COUNT_MAX)]
        taken = bank.transfer_count
        idle = await _on_schedule(bank, singles[:BEFORE_COUNT], asyncio.Event())
        is_over = asyncio.Event()
        started_s = time.perf_counter()
        waiting = asyncio.create_task(_on_schedule(bank, singles[BEFORE_COUNT:], is_over))
        await send(bank, file, flight_count=len(file))
        whole_s = time.perf_counter() - started_s
        is_over.set()
        waits = await waiting
        if bank.transfer_count - taken != count + len(idle) + len(waits):
            raise SystemExit("not every transfer was taken")
    return max(waits), percentile(waits, 0.5), percentile(waits, 0.99), percentile(idle, 0.5), round(whole_s, 2)


def _single(bank: Bank, number: int) -> Message:
    """Sign one transfer as a message."""
    draw = np.random.Generator(np.random.PCG64([SEED, number]))
    return bank.message(commands_of(Workload(), draw, 1, first_id=_SINGLE_ID + number, first_account=bank.first))


async def _on_schedule(bank: Bank, messages: list[Message], is_over: asyncio.Event) -> list[float]:
    """Send messages one an interval until there are no more, or it is over; give their waits in milliseconds."""
    waits: list[float] = []

    async def one(message: Message, due_s: float) -> None:
        await bank.side.submit(message)
        waits.append(round(1e3 * (time.perf_counter() - due_s), 1))

    first_s = time.perf_counter()
    sent = []
    for number, message in enumerate(messages):
        due_s = first_s + number * INTERVAL_S
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        if is_over.is_set():
            break
        sent.append(asyncio.create_task(one(message, due_s)))
    await asyncio.gather(*sent)
    return waits
