"""Compile everything that is compiled, before anybody waits for it: ``python -m settlement.warm``."""

from __future__ import annotations

import sys

import numpy as np

from ledger import warm as ledger_warm
from ledger.runtime import SystemRuntime
from settlement.liquidity import Queue, select
from settlement.netting import entries, net_entries

__all__ = ["warm"]

SECOND_NS = 1_000_000_000


def warm() -> None:
    """Reach every kernel of ledger and settlement once; what is not on disk yet is compiled and kept there."""
    ledger_warm.warm()
    rows = entries(payment=[0, 0, 1, 1], slot=[0, 1, 1, 0], amount=[-7, 7, -5, 5])
    available = np.array([2, 0], np.int64)
    selected = select(Queue(rows, available, rank=np.arange(2), value=np.array([7, 5], np.int64)))
    net_entries(rows, slot_count=2, selected=selected)
    net_entries(rows, slot_count=2)


if __name__ == "__main__":
    clock = SystemRuntime()
    started_ns = clock.monotonic_ns()
    warm()
    sys.stdout.write(f"compiled in {(clock.monotonic_ns() - started_ns) // SECOND_NS} s\n")
