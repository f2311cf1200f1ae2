"""``hugang up``: start both nodes and the settlement operator."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import folder_option, ports_option
from gateway.config import Ports

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.supervisor import Supervisor

__all__ = ["command", "show_addresses"]

WATCH_TIME_S = 0.2


@click.command("up", short_help="Start both nodes and the settlement operator.")
@folder_option
@ports_option
@click.option("--detach", is_flag=True, help="Leave the three processes running and return; `hugang down` ends them.")
def command(folder: Path, ports: Ports | None, *, detach: bool) -> ExitCode:
    """Start both nodes and the settlement operator on loopback, and wait until they answer.

    A folder without a network gets a new one. Processes that are missing are started on the data they left behind; when
    all three run already, it says so and ends with code 3. Ctrl-C ends them.
    """
    from gateway.cli.following import following
    from gateway.cli.terminal import Terminal
    from gateway.config import init_network
    from gateway.supervisor import NAMES, Supervisor, free_ports, network_exists, running, set_ports
    from ledger.errors import Conflict
    from ledger.runtime import SystemRuntime

    terminal, runtime = Terminal(), SystemRuntime()
    if not network_exists(folder):
        init_network(folder, runtime, ports=ports or free_ports())
        terminal.note(
            f"a new network in {folder.resolve()}, in which nobody has an account; "
            "`hugang demo` makes one with a day's life"
        )
    present = {process.name for process in running(folder)}
    missing = [name for name in NAMES if name not in present]
    if not missing:
        raise Conflict("ALREADY_RUNNING", "All three processes run already.", folder=str(folder))
    if ports is not None and not present:
        set_ports(folder, ports)
    with Supervisor(folder, runtime, detached=detach) as supervisor:
        supervisor.start(missing)
        with following(terminal, "starting; blocks replayed") as progress:
            supervisor.wait_ready(progress=progress)
        show_addresses(terminal, folder)
        return _leave(terminal, folder) if detach else _watch(terminal, supervisor, folder)


def show_addresses(terminal: Terminal, folder: Path) -> None:
    """Print where everything listens."""
    from gateway.supervisor import running

    titles = {"sh": "Shanghai node", "hk": "Hong Kong node", "operator": "settlement operator"}
    rows = [(titles[process.name], process.url, f"process {process.pid}") for process in running(folder)]
    terminal.table("", ("", "address", ""), rows)
    nodes = sorted((process.name != "sh", process.url) for process in running(folder) if process.name != "operator")
    if nodes:
        terminal.say(f"API documentation: {nodes[0][1]}/docs")


def _leave(terminal: Terminal, folder: Path) -> ExitCode:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import invocation

    terminal.note(f"left running; `{invocation('down', folder)}` ends them")
    return ExitCode.OK


def _watch(terminal: Terminal, supervisor: Supervisor, folder: Path) -> ExitCode:
    """Wait for Ctrl-C, or for a process to end by itself: then the others are ended too."""
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import invocation

    pause = threading.Event()
    try:
        terminal.note("running; Ctrl-C ends all three")
        while not (ended := supervisor.ended()):
            pause.wait(WATCH_TIME_S)
    except KeyboardInterrupt:
        terminal.note("ending")
        return ExitCode.OK
    for name, status in ended.items():
        terminal.fail(
            f"{name} ended by itself with status {status}; the others are ended too. "
            f"Start again with `{invocation('up', folder)}`."
        )
    return ExitCode.UNAVAILABLE
