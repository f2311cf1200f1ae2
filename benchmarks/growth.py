"""P10: what grows with the journal. Two nodes take the same transfers in turn, one at a million, the other far beyond.

Both are filled first, in batches of 8,192 with eight under way. While the larger one is filled, every pause between two
answers is noted, and every call of ``Registry.reserve``, the one place where something as large as the journal is moved
about. Then short bursts go to the two nodes in turn, so that whatever else the machine does falls on both. The value is
the ratio of the times; ``cpu_ratio`` that of the processor's times, which others disturb less.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from benchmarks.bank import CONDITIONS, Bank, Sent, Workload, batches, send, working_bank
from benchmarks.figures import SEED, Figure, Form, demand, figure, part, rounded
from gateway.serve import run
from ledger.registry import Registry

__all__ = ["Filling", "fill", "measure"]

BATCH = 8_192
SMALL_COUNT = {Form.TINY: 2**16, Form.SHORT: 2**20, Form.FULL: 2**20}
LARGE_COUNT = {Form.TINY: 2**18, Form.SHORT: 2**22, Form.FULL: 100 * 10**6}
FILL_COUNT = 2**19
"""Transfers that are signed and then sent together while a journal is filled."""
BURST_COUNT = {Form.TINY: 2**16, Form.SHORT: 2**17, Form.FULL: 2**18}
BURSTS_A_RUN = 2
MEMORY_PER_ID, DISK_PER_TRANSFER = 70, 60
SPARE_SIZE = 2**31


class Filling:
    """One bank whose journal grows."""

    def __init__(self, bank: Bank) -> None:
        """Begin with an empty journal."""
        self.bank = bank
        self.count = 0
        self.longest_pause_s = 0.0

    async def burst(self, count: int) -> Sent:
        """Sign so many transfers, then send them; only the sending is timed."""
        commands = batches(self.bank, Workload(), batch=BATCH, total=count, first_id=1 + self.count)
        sent = await send(self.bank, [self.bank.message(batch) for batch in commands])
        self.count += BATCH * len(sent.answered_s)
        self.longest_pause_s = max(self.longest_pause_s, sent.longest_pause_s)
        return sent


async def fill(filling: Filling, count: int) -> list[tuple[int, float, float]]:
    """Fill a journal up to so many transfers; gives (transfers before, seconds on the wall, of all processors) each."""
    found = []
    while filling.count < count:
        before = filling.count
        sent = await filling.burst(min(FILL_COUNT, count - before))
        done = filling.count - before
        found.append((before, sent.wall_s / done, sent.cpu_s / done))
    return found


def measure(*, runs: int, form: Form) -> Figure:
    """Give the ratio of what a transfer costs in the large journal over what it costs in the small one."""
    with tempfile.TemporaryDirectory() as folder:
        count = SMALL_COUNT[form] + LARGE_COUNT[form]
        sizes = {"memory_size": count * MEMORY_PER_ID, "disk_size": count * DISK_PER_TRANSFER}
        demand(**{name: size + SPARE_SIZE for name, size in sizes.items()}, folder=Path(folder))
        return run(_measure(Path(folder), runs=runs, form=form))


async def _measure(folder: Path, *, runs: int, form: Form) -> Figure:
    async with AsyncExitStack() as stack:
        small, large = [
            Filling(await stack.enter_async_context(working_bank(folder / name, Workload().account_count)))
            for name in ("small", "large")
        ]
        await fill(small, SMALL_COUNT[form])
        registry = large.bank.side.node.machine.state.registry
        with _watched(registry) as longest_ns:
            await fill(large, LARGE_COUNT[form])
        filled = large.count
        ratios, cpu_ratios, small_ns, large_ns = [], [], [], []
        for _ in range(runs):
            pairs = [
                (await small.burst(BURST_COUNT[form]), await large.burst(BURST_COUNT[form]))
                for _ in range(BURSTS_A_RUN)
            ]
            count = BURSTS_A_RUN * BURST_COUNT[form]
            small_ns.append(1e9 * sum(pair[0].wall_s for pair in pairs) / count)
            large_ns.append(1e9 * sum(pair[1].wall_s for pair in pairs) / count)
            ratios.append(large_ns[-1] / small_ns[-1])
            cpu_ratios.append(sum(pair[1].cpu_s for pair in pairs) / sum(pair[0].cpu_s for pair in pairs))
        for filling in (small, large):
            filling.bank.side.node.machine.state.registry.check()
        return figure(
            ratios,
            unit="ratio",
            conditions={
                **CONDITIONS,
                "seed": SEED,
                "batch": BATCH,
                "journals": {"small": SMALL_COUNT[form], "large": filled},
                "transfers_a_run": BURSTS_A_RUN * BURST_COUNT[form],
            },
            cpu_ratio=part(cpu_ratios),
            small_ns=part(small_ns),
            large_ns=part(large_ns),
            longest_pause_ms=rounded(1e3 * large.longest_pause_s),
            longest_reserve_ms={clock: rounded(value / 1e6) for clock, value in longest_ns.items()},
            bytes_per_id=rounded(registry.size_bytes / len(registry)),
        )


@contextmanager
def _watched(registry: Registry) -> Iterator[dict[str, int]]:
    """Note the longest call of a registry's ``reserve``: nanoseconds on the wall, and of the thread that called."""
    longest = {"wall": 0, "cpu": 0}

    class Watched(Registry):
        """The same registry, with a clock."""

        def reserve(self, count: int) -> None:
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            super().reserve(count)
            longest["wall"] = max(longest["wall"], time.perf_counter_ns() - wall)
            longest["cpu"] = max(longest["cpu"], time.thread_time_ns() - cpu)

    registry.__class__ = Watched
    try:
        yield longest
    finally:
        registry.__class__ = Registry
