"""``hugang certificate``: the proof of a settled window."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import NewFile, folder_option, hand_over

__all__ = ["command"]


@click.command("certificate", short_help="Read and prove a settled window's certificate.")
@click.argument("window", type=click.IntRange(1, 2**30 - 1), required=False)
@click.option("--out", type=NewFile(), help="Write the certificate to this new file.")
@click.option("--check", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Prove this file instead.")
@folder_option
def command(window: int | None, out: Path | None, check: Path | None, folder: Path) -> None:
    """Read the certificate of WINDOW and prove it from the two genesis blocks in the folder.

    A certificate is the nine signed statements of a window. With it comes where both journals hold the decision, in
    trees that both nodes have signed. With --check no node is asked.
    """
    from gateway.cli.terminal import Terminal, money
    from gateway.config import load_genesis, network_folder
    from settlement import anchors, certificate

    if (window is None) == (check is None):
        raise click.UsageError("name a WINDOW, or a file with --check")
    data = check.read_bytes() if check is not None else _read(folder, window or 0)
    layout = network_folder(folder)
    pair = (load_genesis(layout.sh / "genesis.json"), load_genesis(layout.hk / "genesis.json"))
    anchored = anchors.verify(data, pair) if anchors.is_anchored(data) else None
    proved = anchored.certificate if anchored is not None else certificate.verify(data, pair)
    hand_over(proved)
    terminal = Terminal()
    report = proved.report
    terminal.say(
        f"window {report.window} of {proved.network}, attempt {report.attempt}, decided by {proved.decided_by}: "
        f"{report.settled:,} payments settled, {report.carried_out:,} carried out"
    )
    rows = [
        (asset, money(totals.gross), money(totals.net), f"{totals.saving_bp / 100:.2f} %")
        for asset, totals in report.assets.items()
    ]
    terminal.table("", ("asset", "gross", "net", "liquidity saved"), rows, right=(1, 2, 3))
    for place in anchored.anchors if anchored is not None else ():
        signers = f"cosigned by {' and '.join(place.cosigned_at_s)}" if place.cosigned_at_s else "not cosigned"
        terminal.say(
            f"{place.ledger}: decision at {place.position:,} in a tree of {place.tree_size:,} leaves, {signers}"
        )
    terminal.say("PROVED from the keys of the two genesis blocks", style="bold green")
    if out is not None:
        with out.open("xb") as file:
            file.write(data)
        terminal.say(f"{out}: {len(data):,} bytes")


def _read(folder: Path, window: int) -> bytes:
    """Read a window's certificate, and from both nodes where it stands."""
    from gateway.cli.connect import as_auditor
    from gateway.config import LEDGERS
    from settlement.anchors import gather

    stated = []
    for ledger in LEDGERS:
        with as_auditor(folder, ledger) as client:
            stated.append((client.certificate(window), client.anchor(window)))
    return gather(stated)
