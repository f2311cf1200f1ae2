"""``hugang resync``: what diverges between the two nodes, and waiting until it does not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode

__all__ = ["command", "divergence"]

POLL_TIME_S = 0.25


@click.command("resync", short_help="Show what diverges between the nodes.")
@click.option("--wait", "wait_s", type=click.IntRange(0, 3600), default=30, show_default=True,
              help="Seconds to let the settlement operator finish what is unfinished.")  # fmt: skip
@folder_option
@json_option
def command(wait_s: int, folder: Path, *, as_json: bool) -> ExitCode:
    """Compare the windows of both nodes and show what one has journaled and the other has not.

    The settlement operator finishes an unfinished window by itself, whenever both nodes answer; this waits for it.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS
    from ledger.runtime import SystemRuntime

    terminal, runtime, pause = Terminal(), SystemRuntime(), threading.Event()
    deadline_ns = runtime.monotonic_ns() + wait_s * 1_000_000_000
    while True:
        windows: dict[str, list[dict[str, Any]]] = {}
        for ledger in LEDGERS:
            with as_auditor(folder, ledger) as client:
                windows[ledger] = list(client.windows())
        found = divergence(windows)
        if not found or runtime.monotonic_ns() > deadline_ns:
            break
        pause.wait(POLL_TIME_S)
    hand_over(found)
    if as_json:
        terminal.json({"windows": {ledger: len(entries) for ledger, entries in windows.items()}, "diverges": found})
    elif not found:
        terminal.say(f"both nodes agree on {len(windows['SH']) - 1:,} settled windows")
    else:
        rows = [(str(item["window"]), item["ledger"], item["state"], " ".join(item["missing"])) for item in found]
        terminal.table("", ("window", "ledger", "state", "missing here, journaled there"), rows)
    return ExitCode.UNAVAILABLE if found else ExitCode.OK


def divergence(windows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Give each window that one ledger holds and the other does not, or holds differently, once for each ledger behind.

    Args:
        windows: by ledger code, its windows as ``Client.windows`` gives them.
    """
    by_number = {ledger: {entry["window"]: entry for entry in entries} for ledger, entries in windows.items()}
    numbers = sorted(set().union(*by_number.values()))
    found = []
    for number in numbers:
        sides = {ledger: entries.get(number) for ledger, entries in by_number.items()}
        everything = set().union(*(side["statements"] for side in sides.values() if side is not None))
        for ledger, side in sides.items():
            missing = sorted(everything - set(side["statements"] if side is not None else ()))
            unfinished = side is None or (bool(side["statements"]) and side["state"] != "SETTLED")
            if missing or unfinished:
                state = "NOT OPENED" if side is None else side["state"]
                found.append({"window": number, "ledger": ledger, "state": state, "missing": missing})
    return found
