"""``hugang project``: the journal as SQL tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import NewFile, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.projection.database import Watermark
    from gateway.projection.exported import ProjectedExport
    from gateway.projection.offline import Projected

__all__ = ["command"]


@click.command("project", short_help="Write the journals, or exports of them, as SQL tables.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--transfers", is_flag=True, help="Keep a table with a row for each transfer too, from now on.")
@click.option("--anew", is_flag=True, help="Forget the tables first, transfers too, and make them again.")
@click.option("--out", "file", type=NewFile(),
              help="DIR is an export: verify it and write all its tables into this new SQLite file.")  # fmt: skip
@json_option
def command(folder: Path, *, transfers: bool, anew: bool, file: Path | None, as_json: bool) -> ExitCode:
    """Bring the SQL tables beside each journal in DIR up to its last block; make those that are lost or torn.

    DIR is the folder of a network or of one node. The nodes may run meanwhile. The journal is replayed first and every
    hash checked. On PostgreSQL the tables lie in the journal's schema, otherwise in journal-projection.db beside the
    journal; docs/stores.md has their columns and queries to begin with.

    With --out, DIR is a folder that `hugang export` wrote, or one journal of it, and no node is needed: each journal is
    verified by itself while its tables are written, transfers too, and a journal that is refused leaves no file. Of a
    folder with both ledgers `--out day.db` makes day-sh.db and day-hk.db. The genesis in the export is believed, and
    one ledger is not held against the other: `hugang verify` does that.
    """
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal

    terminal = Terminal()
    if file is not None:
        exported = _project_exports(terminal, folder, file)
        hand_over(exported)
        _show_exports(terminal, exported, as_json=as_json)
        return ExitCode.OK
    results = _project_nodes(terminal, folder, transfers=transfers, anew=anew)
    hand_over(results)
    if as_json:
        terminal.json(
            {result.ledger: {"tables": _marks(result.watermarks), "made": list(result.made)} for result in results}
        )
        return ExitCode.OK
    rows = [
        (result.ledger, name, f"{mark.height:,}", f"{mark.row_count:,}", "made anew" if name in result.made else "")
        for result in results
        for name, mark in result.watermarks.items()
    ]
    terminal.table("", ("ledger", "table", "up to block", "rows", ""), rows, right=(2, 3))
    return ExitCode.OK


def _project_nodes(terminal: Terminal, folder: Path, *, transfers: bool, anew: bool) -> list[Projected]:
    """Bring the tables of a network's nodes, or of one node, up to date."""
    from gateway.cli.following import following
    from gateway.config import LEDGERS, NODE_FILE, network_folder
    from gateway.projection.offline import project
    from ledger.runtime import SystemRuntime

    _refuse_exports(folder)
    runtime, results = SystemRuntime(), []
    is_node = (folder / NODE_FILE).exists()
    for each in [folder] if is_node else [network_folder(folder).node(ledger) for ledger in LEDGERS]:
        with following(terminal, f"replaying {each.name}") as progress:
            results.append(project(each, runtime, with_transfers=transfers, anew=anew, progress=progress))
    return results


def _refuse_exports(folder: Path) -> None:
    """Say what to do about an export, which has no node to keep tables for."""
    from gateway.config import LEDGERS, NODE_FILE
    from ledger.exports import FILE_NAME

    folders = (folder, *(folder / ledger.lower() for ledger in LEDGERS))
    is_export = folder.is_file() or any((each / FILE_NAME).is_file() for each in folders)
    if is_export and not any((each / NODE_FILE).is_file() for each in folders):
        raise click.UsageError(f"{folder} is an export, which has no node; name a new file for its tables with --out.")


def _project_exports(terminal: Terminal, target: Path, file: Path) -> list[ProjectedExport]:
    """Write the tables of one exported journal into a file, or of both into one each."""
    from gateway.verification import find_exports

    exports = find_exports(target)
    places = [file] if len(exports) == 1 else [file.with_stem(f"{file.stem}-{each.parent.name}") for each in exports]
    for place in places:
        if place.exists():
            raise click.UsageError(f"{place} is there already, and is not overwritten.")
    return [_project_export(terminal, export, place) for export, place in zip(exports, places, strict=True)]


def _project_export(terminal: Terminal, export: Path, place: Path) -> ProjectedExport:
    """Write the tables of one exported journal, and show how far it is."""
    from gateway.cli.following import following_exports
    from gateway.projection.exported import project_export
    from ledger.runtime import SystemRuntime

    with following_exports(terminal, [export]) as progress:
        return project_export(export, place, SystemRuntime(), progress=functools.partial(progress, export))


def _show_exports(terminal: Terminal, results: list[ProjectedExport], *, as_json: bool) -> None:
    """Print which files were made, from which genesis, and what is in them."""
    if as_json:
        terminal.json(
            {
                result.ledger: {
                    "tables": _marks(result.watermarks),
                    "file": str(result.file),
                    "genesis_hash": result.genesis_hash.hex(),
                }
                for result in results
            }
        )
        return
    rows = [
        (result.ledger, name, f"{mark.height:,}", f"{mark.row_count:,}", str(result.file))
        for result in results
        for name, mark in result.watermarks.items()
    ]
    terminal.table("", ("ledger", "table", "up to block", "rows", "file"), rows, right=(2, 3))
    for result in results:
        terminal.say(f"verified by itself from genesis {result.ledger} {result.genesis_hash.hex()}")


def _marks(watermarks: Mapping[str, Watermark]) -> dict[str, dict[str, int]]:
    return {name: {"height": mark.height, "row_count": mark.row_count} for name, mark in watermarks.items()}
