"""``hugang payment``: where a payment stands."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, hand_over, ledger_argument

__all__ = ["command"]


@click.command("payment", short_help="Show where a payment stands.")
@ledger_argument
@click.argument("uetr")
@folder_option
def command(ledger: str, uetr: str, folder: Path) -> None:
    """Show what one node knows of a payment, as its auditor sees it.

    `record_position` is where the payer's record stands in the payer's ledger's journal: behind the message, whose
    position `hugang pay` has shown.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal

    with as_auditor(folder, ledger) as client:
        found = client.payment(uetr)
    hand_over(found)
    Terminal().json(found)
