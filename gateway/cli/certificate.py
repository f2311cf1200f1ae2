"""``hugang certificate``: the proof of a settled window."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, hand_over

__all__ = ["command"]


@click.command("certificate", short_help="Read and prove a settled window's certificate.")
@click.argument("window", type=click.IntRange(1, 2**30 - 1), required=False)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the certificate to this new file.")
@click.option("--check", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Prove this file instead.")
@folder_option
def command(window: int | None, out: Path | None, check: Path | None, folder: Path) -> None:
    """Read the certificate of WINDOW from the Shanghai node and prove it from the two genesis blocks in the folder.

    A certificate is the nine signed statements of a window. With --check no node is asked.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal, money
    from gateway.config import load_genesis, network_folder
    from settlement import certificate

    if (window is None) == (check is None):
        raise click.UsageError("name a WINDOW, or a file with --check")
    if check is not None:
        data = check.read_bytes()
    else:
        with as_auditor(folder, "sh") as client:
            data = client.certificate(window or 0)
    layout = network_folder(folder)
    pair = (load_genesis(layout.sh / "genesis.json"), load_genesis(layout.hk / "genesis.json"))
    proved = certificate.verify(data, pair)
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
    terminal.say("PROVED from the keys of the two genesis blocks", style="bold green")
    if out is not None:
        with out.open("xb") as file:
            file.write(data)
        terminal.say(f"{out}: {len(data):,} bytes")
