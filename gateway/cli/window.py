"""``hugang window``: the windows as both nodes see them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

__all__ = ["command"]

SHOWN_MAX = 10
"""Windows that are listed when no number is given."""


@click.command("window", short_help="Show the windows at both nodes.")
@click.argument("number", type=click.IntRange(1, 2**30 - 1), required=False)
@folder_option
@json_option
def command(number: int | None, folder: Path, *, as_json: bool) -> None:
    """Show window NUMBER at both nodes; without NUMBER, the last ten."""
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS

    found: list[dict[str, Any]] = []
    for ledger in LEDGERS:
        with as_auditor(folder, ledger) as client:
            found += [client.window(number)] if number else itertools.islice(client.windows(), SHOWN_MAX)
    found.sort(key=lambda window: (window["window"], window["ledger"]))
    hand_over(found)
    terminal = Terminal()
    if as_json:
        terminal.json(found)
        return
    rows = [
        (
            str(window["window"]),
            window["ledger"],
            window["state"],
            f"{window['outgoing_count']:,}",
            f"{window['incoming_count']:,}",
            window["settled_at"] or "",
        )
        for window in found
    ]
    terminal.table("", ("window", "ledger", "state", "outgoing", "incoming", "settled at"), rows, right=(3, 4))
