"""``hugang status``: what runs, and where each journal stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import folder_option, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode

__all__ = ["command"]


@click.command("status", short_help="Show what runs and where it stands.")
@folder_option
@json_option
def command(folder: Path, *, as_json: bool) -> ExitCode:
    """Show the three processes: process id, address, and for a node its journal's position and open window."""
    from gateway.cli.connect import as_auditor
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.client import ClientError
    from gateway.supervisor import NAMES, configured_ports, running

    configured_ports(folder)
    terminal = Terminal()
    present = {process.name: process for process in running(folder)}
    found = []
    for name in NAMES:
        process = present.get(name)
        entry: dict[str, object] = {"name": name, "state": "stopped", "pid": None, "url": None, "health": None}
        if process is not None:
            entry.update(state="running", pid=process.pid, url=process.url)
            if name != "operator":
                try:
                    with as_auditor(folder, name) as client:
                        entry["health"] = client.health()
                except ClientError as error:
                    entry["state"] = f"does not answer: {error}"
        found.append(entry)
    hand_over(found)
    if as_json:
        terminal.json(found)
    else:
        rows = [
            (
                str(item["name"]),
                str(item["state"]),
                str(item["pid"] or ""),
                str(item["url"] or ""),
                _standing(item["health"]),
            )
            for item in found
        ]
        terminal.table("", ("", "state", "process", "address", ""), rows)
    return ExitCode.OK if all(item["state"] == "running" for item in found) else ExitCode.UNAVAILABLE


def _standing(health: object) -> str:
    if not isinstance(health, dict):
        return ""
    return f"block {health['height']:,}, position {health['position']:,}, window {health['open_window']} is open"
