"""``hugang cap``: what a participant may owe to windows that are not decided."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, hand_over, json_option, ledger_argument

__all__ = ["command"]


@click.command("cap", short_help="Set or lift a net debit cap.")
@ledger_argument
@click.argument("participant")
@click.argument("asset")
@click.argument("amount")
@folder_option
@json_option
def command(ledger: str, participant: str, asset: str, amount: str, folder: Path, *, as_json: bool) -> None:
    """Let PARTICIPANT owe at most AMOUNT of ASSET to windows that are not decided; the registrar signs.

    AMOUNT is as 88 or 88.50, 0 to stop it, or `none` to lift the cap.
    """
    from gateway.cli.connect import as_registrar
    from gateway.cli.terminal import Terminal, money
    from gateway.names import minor_units

    maximum = None if amount == "none" else 0 if amount == "0" else minor_units(amount)
    with as_registrar(folder, ledger) as registrar:
        result = registrar.set_caps([(participant, asset, maximum)])
    hand_over(result)
    terminal = Terminal()
    if as_json:
        terminal.json(result)
        return
    shown = "no cap" if maximum is None else f"at most {money(maximum, asset)}"
    terminal.say(f"{participant}  {shown}  position {result['position']}")
