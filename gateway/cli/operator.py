"""``hugang operator``: serve the settlement operator."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option

__all__ = ["command"]


@click.command("operator", short_help="Serve the settlement operator.")
@folder_option
@click.option("--stop-with-parent", is_flag=True, hidden=True)
def command(folder: Path, *, stop_with_parent: bool) -> None:
    """Serve the settlement operator until Ctrl-C; `hugang up` does this for all three processes.

    It keeps no truth: at its start it reads both nodes and finishes what is unfinished.
    """
    from gateway.cli.process import serve
    from gateway.config import network_folder
    from gateway.serve import serve_operator

    serve(serve_operator, network_folder(folder).operator, stop_with_parent=stop_with_parent)
