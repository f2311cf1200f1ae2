"""``hugang certificate``: the proof of a settled window."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.cli.options import NewFile, folder_option, hand_over
from gateway.cli.trusted import genesis_option

__all__ = ["command"]

HEAD_SIZE = 64
"""Enough of a file to tell what it is."""


@click.command("certificate", short_help="Read and prove a settled window's certificate.")
@click.argument("window", type=click.IntRange(1, 2**30 - 1), required=False)
@click.option("--out", type=NewFile(), help="Write the certificate to this new file.")
@click.option("--check", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Prove this file instead.")
@genesis_option
@folder_option
def command(
    window: int | None, out: Path | None, check: Path | None, genesis_files: tuple[Path, ...], folder: Path
) -> None:
    """Read the certificate of WINDOW and prove it from two genesis blocks: those in the folder, or --genesis twice.

    A certificate is the nine signed statements of a window. With it comes where both journals hold the decision, in
    trees that both nodes have signed. With --check no node is asked, and with --genesis too no folder is needed.
    """
    from gateway.cli.terminal import Terminal, money
    from gateway.cli.trusted import trusted_genesis
    from settlement import anchors, certificate

    if (window is None) == (check is None):
        raise click.UsageError("name a WINDOW, or a file with --check")
    if genesis_files and len(genesis_files) != 2:
        raise click.UsageError("a certificate takes the genesis of both ledgers, so --genesis twice")
    data = _certificate_in(check) if check is not None else _read(folder, window or 0)
    sources = trusted_genesis(genesis_files, folder)
    pair = (sources[0].genesis, sources[1].genesis)
    anchored = anchors.verify(data, pair) if anchors.is_anchored(data) else None
    proved = anchored.certificate if anchored is not None else certificate.verify(data, pair)
    hand_over(proved)
    terminal = Terminal()
    for source in sources:
        source.show(terminal)
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


def _certificate_in(file: Path) -> bytes:
    """Read a certificate from a file.

    Raises:
        IntegrityFailure: ``CERTIFICATE_MALFORMED``, it is none, or larger than any.
    """
    from gateway.cli.trusted import kind_of
    from ledger.errors import IntegrityFailure
    from settlement import anchors, certificate

    size_max = certificate.SIZE_MAX + 2 * anchors.ANCHOR_SIZE_MAX + 64  # 64 for the frame around them
    with file.open("rb") as source:
        head = source.read(HEAD_SIZE)
        if kind_of(head) != "certificate":
            sentence = "This is no certificate; hugang verify-receipt checks receipts and balance proofs."
            raise IntegrityFailure("CERTIFICATE_MALFORMED", sentence)
        if os.fstat(source.fileno()).st_size > size_max:
            raise IntegrityFailure("CERTIFICATE_MALFORMED", "The file is larger than any certificate.")
        return head + source.read(size_max)


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
