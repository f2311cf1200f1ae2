"""What a node says while it replays its journal at its start, and how whoever waits for it reads that in its log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ledger.runtime import Runtime

__all__ = ["Notes", "last_note"]

INTERVAL_NS = 1_000_000_000
"""A start that takes less says nothing."""
TAIL_SIZE = 2_000
_NOTE = re.compile(r"^replayed (\d{1,20}) of (\d{1,20}) blocks$", re.MULTILINE)


class Notes:
    """Says once a second how many blocks have been replayed."""

    def __init__(self, say: Callable[[str], None], runtime: Runtime) -> None:
        """Begin to count the time; ``say`` takes a line."""
        self._say = say
        self._runtime = runtime
        self._said_ns = runtime.monotonic_ns()

    def __call__(self, height: int, count: int) -> None:
        """Take note of a block that has been replayed, of so many."""
        now_ns = self._runtime.monotonic_ns()
        if now_ns - self._said_ns >= INTERVAL_NS:
            self._said_ns = now_ns
            self._say(f"replayed {height} of {count} blocks")


def last_note(log: Path, start: int) -> tuple[int, int] | None:
    """Give what a node has said last, block and number of blocks, in what its log has from ``start`` on."""
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, 2) - TAIL_SIZE))
        notes = _NOTE.findall(file.read().decode("utf-8", "replace"))
    return (int(notes[-1][0]), int(notes[-1][1])) if notes else None
