"""``hugang receipt``: what proves one payment, from both nodes in one file."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import NewFile, folder_option, hand_over

__all__ = ["command"]


@click.command("receipt", short_help="Read a payment's receipt and check it.")
@click.argument("uetr")
@click.option("--out", type=NewFile(), help="Write the receipt to this new file.")
@folder_option
def command(uetr: str, out: Path | None, folder: Path) -> None:
    """Read the receipt of a payment from every node that knows the payment, and check it by the genesis alone.

    Of a payment across the border both ledgers' parts go into one receipt. It shows this payment and nobody else's, and
    `hugang verify-receipt` checks it anywhere, without a node.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal
    from gateway.cli.verify_receipt import show_receipt
    from gateway.client import ProblemError
    from gateway.config import LEDGERS, load_genesis, network_folder
    from ledger.receipts import join
    from settlement.payment_receipts import verify

    parts: list[bytes] = []
    missing: ProblemError | None = None
    for ledger in LEDGERS:
        with as_auditor(folder, ledger) as client:
            try:
                parts.append(client.receipt(uetr))
            except ProblemError as error:
                if error.status != 404:
                    raise
                missing = error
    if not parts and missing is not None:
        raise missing
    receipt = parts[0] if len(parts) == 1 else join(*parts)
    layout = network_folder(folder)
    found = verify(receipt, load_genesis(layout.sh / "genesis.json"), load_genesis(layout.hk / "genesis.json"))
    hand_over(found)
    terminal = Terminal()
    show_receipt(terminal, found)
    if out is not None:
        with out.open("xb") as file:
            file.write(receipt)
        terminal.say(f"{out}: {len(receipt):,} bytes")
