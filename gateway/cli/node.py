"""``hugang node``: serve one node."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from gateway.cli.options import folder_option, ledger_argument

__all__ = ["command"]


@click.command("node", short_help="Serve one node.")
@ledger_argument
@folder_option
@click.option("--stop-with-parent", is_flag=True, hidden=True)
def command(ledger: str, folder: Path, *, stop_with_parent: bool) -> None:
    """Serve the node of one ledger from its folder until Ctrl-C; `hugang up` does this for all three processes.

    Opening replays the journal from the newest snapshot that fits it, and checks every hash on the way.
    """
    from gateway.cli.process import serve
    from gateway.cli.terminal import Terminal
    from gateway.config import network_folder
    from gateway.serve import serve_node

    start = functools.partial(serve_node, say=Terminal().note)
    serve(start, network_folder(folder).node(ledger), stop_with_parent=stop_with_parent)
