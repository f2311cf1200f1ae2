"""``hugang export``: write both journals to files."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, hand_over

__all__ = ["command"]


@click.command("export", short_help="Write both journals to files.")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@folder_option
def command(target: Path, folder: Path) -> None:
    """Write both nodes' journals, as they stand now, to TARGET/sh and TARGET/hk.

    Files that are there already are not overwritten. `hugang verify TARGET` checks them without any node.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS
    from ledger.errors import Conflict
    from ledger.exports import FILE_NAME

    terminal = Terminal()
    paths = {ledger: target / ledger.lower() / FILE_NAME for ledger in LEDGERS}
    for path in paths.values():
        if path.exists():
            raise Conflict("FILE_EXISTS", "An export is there already; name another folder.", file=str(path))
    written = {}
    for ledger, path in paths.items():
        with as_auditor(folder, ledger) as client:
            client.health()  # nothing is made for an export that does not come
            path.parent.mkdir(parents=True, exist_ok=True)
            written[ledger] = client.export_to(path)
        terminal.say(f"{path}: {written[ledger]:,} bytes")
    hand_over(written)
