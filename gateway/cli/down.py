"""``hugang down``: end what ``hugang up`` started."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option

__all__ = ["command"]


@click.command("down", short_help="End what `hugang up` started.")
@folder_option
def command(folder: Path) -> None:
    """End the processes of this folder's network, by their process ids. The data stay."""
    from gateway.cli.terminal import Terminal
    from gateway.supervisor import network_exists, stop_processes
    from ledger.runtime import SystemRuntime

    terminal = Terminal()
    ended = stop_processes(folder, SystemRuntime())
    for process in ended:
        terminal.say(f"ended {process.name} (process {process.pid})")
    if not ended:
        none = "" if network_exists(folder) else ", where no network lies"
        terminal.say(f"nothing was running in {folder.resolve()}{none}")
