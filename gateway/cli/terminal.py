"""Results go to stdout, progress and errors to stderr; NO_COLOR, pipes and files get plain text.

Everything a command prints passes here, so that one place knows about colour, width and progress bars. Amounts are
shown with their decimals to people only; ``--json`` keeps minor units as digits.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gateway.cli.options import DEFAULT_FOLDER, FOLDER_VARIABLE
from ledger.assets import format_decimal

__all__ = ["Meter", "ReaderGone", "Terminal", "invocation", "money", "program_name", "thousands"]

PLAIN_WIDTH = 200
COLUMN_GAP = 2
"""Blanks between two columns of a table."""
SENTENCE_WIDTH_MIN = 24
"""A last column is not broken into shorter lines than this."""
SCALE = 2
"""Decimal places of both currencies."""


class ReaderGone(Exception):
    """Nobody reads the output any more, as behind a pipe into ``head``."""


class Meter(Protocol):
    """Shows how far something has come."""

    def advance(self, count: int = 1) -> None:
        """Move on by ``count`` steps."""


class Terminal:
    """The two streams of one command."""

    def __init__(self) -> None:
        """Bind to the streams as they are now."""
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def say(self, text: str = "", *, style: str = "") -> None:
        """Print one line of the result."""
        self.out.print(Text(text, style=style))

    def note(self, text: str, *, style: str = "dim") -> None:
        """Print one line about progress, to stderr."""
        self.err.print(Text(text, style=style))

    def fail(self, text: str) -> None:
        """Print why the command failed, to stderr: one line, whatever is quoted in it, if anybody reads it."""
        with suppress(ReaderGone):
            self.err.print(Text(f"hugang: {' '.join(text.split())}", style="bold red"))

    def json(self, content: object) -> None:
        """Print a result for programs: indented JSON, one document."""
        self._write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Print a table; ``right`` names the columns that are flush right.

        Nothing is ever left out. On a terminal that is too narrow the last column is broken into lines if it is flush
        left, and what is still too wide is left to the terminal, which goes on in the next line.
        """
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            padding=(0, COLUMN_GAP, 0, 0),
            show_header=any(columns),
        )
        widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
        if self.out.is_terminal and len(columns) - 1 not in right:
            room = self.out.width - sum(widths[:-1]) - COLUMN_GAP * (len(widths) - 1)
            widths[-1] = min(widths[-1], max(room, SENTENCE_WIDTH_MIN))
        for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
            justify: Literal["left", "right"] = "right" if index in right else "left"
            table.add_column(column, justify=justify, width=width, overflow="fold", header_style="dim")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        with self._as_wide_as(sum(widths) + COLUMN_GAP * len(widths)):
            if self.out.is_terminal:
                self.out.print(table, soft_wrap=False)
                return
            with self.out.capture() as captured:
                self.out.print(table, soft_wrap=False)
        self._write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    @contextmanager
    def _as_wide_as(self, width: int) -> Iterator[None]:
        """Have stdout count as this wide at least, so that nothing is cut."""
        own = self.out.width
        self.out.width = max(own, width)
        try:
            yield
        finally:
            self.out.width = own

    def _write(self, text: str) -> None:
        """Write text to stdout as it is."""
        try:
            self.out.file.write(text)
            self.out.file.flush()
        except BrokenPipeError:
            self.out.on_broken_pipe()

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Meter]:
        """Show a bar on a terminal's stderr; elsewhere one line when it is over."""
        if self.err.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self.err, transient=True) as bar:
                yield _Bar(bar, bar.add_task(title, total=total))
            return
        meter = _Count()
        yield meter
        self.note(f"{title}: {meter.count} of {total}")


class _Bar:
    def __init__(self, bar: Progress, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)


class _Count:
    def __init__(self) -> None:
        self.count = 0

    def advance(self, count: int = 1) -> None:
        self.count += count


def money(amount: int, asset: str = "") -> str:
    """Write minor units for people: ``1,234.50 CNY``."""
    whole, _, fraction = format_decimal(abs(amount), SCALE).partition(".")
    sign = "-" if amount < 0 else ""
    return f"{sign}{int(whole):,}.{fraction}" + (f" {asset}" if asset else "")


def program_name() -> str:
    """Give what one types to run this very program: its name, or the path to it where the shell does not find it."""
    here = Path(sys.executable).parent / "hugang"
    found = shutil.which("hugang")
    if not here.exists() or (found is not None and Path(found).resolve() == here.resolve()):
        return "hugang"
    return os.path.relpath(here)


def invocation(command: str, folder: Path) -> str:
    """Give what one types to run a command on a network's folder, whichever that is."""
    is_default = str(folder) == DEFAULT_FOLDER and FOLDER_VARIABLE not in os.environ
    where = "" if is_default else f" --dir {shlex.quote(str(folder))}"
    return f"{program_name()} {command}{where}"


def thousands(count: int) -> str:
    """Write a count for people: ``35,000``."""
    return f"{count:,}"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End the command instead of the process; what is printed to this stream from now on goes nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
        raise ReaderGone


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console
