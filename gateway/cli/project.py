"""``hugang project``: the journal as SQL tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode

__all__ = ["command"]


@click.command("project", short_help="Write the journals as SQL tables.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--transfers", is_flag=True, help="Keep a table with a row for each transfer too, from now on.")
@click.option("--anew", is_flag=True, help="Forget the tables first, transfers too, and make them again.")
@json_option
def command(folder: Path, *, transfers: bool, anew: bool, as_json: bool) -> ExitCode:
    """Bring the SQL tables beside each journal in DIR up to its last block; make those that are lost or torn.

    DIR is the folder of a network or of one node. The nodes may run meanwhile. The journal is replayed first and every
    hash checked. On PostgreSQL the tables lie in the journal's schema, otherwise in journal-projection.db beside the
    journal; docs/stores.md has their columns and queries to begin with.
    """
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS, NODE_FILE, network_folder
    from gateway.projection.offline import project
    from ledger.runtime import SystemRuntime

    terminal, runtime = Terminal(), SystemRuntime()
    is_node = (folder / NODE_FILE).exists()
    folders = [folder] if is_node else [network_folder(folder).node(ledger) for ledger in LEDGERS]
    results = [project(each, runtime, with_transfers=transfers, anew=anew) for each in folders]
    hand_over(results)
    if as_json:
        marks = [
            {name: {"height": mark.height, "row_count": mark.row_count} for name, mark in result.watermarks.items()}
            for result in results
        ]
        terminal.json(
            {
                result.ledger: {"tables": shown, "made": list(result.made)}
                for result, shown in zip(results, marks, strict=True)
            }
        )
        return ExitCode.OK
    rows = [
        (result.ledger, name, f"{mark.height:,}", f"{mark.row_count:,}", "made anew" if name in result.made else "")
        for result in results
        for name, mark in result.watermarks.items()
    ]
    terminal.table("", ("ledger", "table", "up to block", "rows", ""), rows, right=(2, 3))
    return ExitCode.OK
