"""How far a journal has been replayed: a bar on a terminal's stderr while it lasts, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli.terminal import Terminal

__all__ = ["claimed_block_count", "following", "following_exports"]

_TRAILER_TAIL_SIZE = 40
"""Bytes at the end of an export: the number of blocks and the last hash (``docs/formats.md``)."""


@contextmanager
def following(terminal: Terminal, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; gives what is told each height that has been reached, and how many blocks there are."""
    if not terminal.err.is_terminal:
        yield lambda _height, _count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.err, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda height, count: bar.update(task, completed=height, total=count)


@contextmanager
def following_exports(terminal: Terminal, exports: list[Path]) -> Iterator[Callable[[Path, int], None]]:
    """Show one bar over all blocks of some exports; gives what is told which one's height has been reached."""
    counts = {export: claimed_block_count(export) for export in exports}
    reached = dict.fromkeys(exports, 0)
    with following(terminal, "verifying") as show:

        def progress(export: Path, height: int) -> None:
            reached[export] = height
            show(sum(reached.values()), sum(counts.values()))

        yield progress


def claimed_block_count(export: Path) -> int:
    """Give how many blocks an export says it has, for showing only; 0 when it is too short to say."""
    with export.open("rb") as file:
        if file.seek(0, 2) < _TRAILER_TAIL_SIZE:
            return 0
        file.seek(-_TRAILER_TAIL_SIZE, 2)
        return int.from_bytes(file.read(8), "little")
