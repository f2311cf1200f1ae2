"""``hugang trial-balance``: debits and credits of both nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode

__all__ = ["command"]


@click.command("trial-balance", short_help="Show debits and credits of both nodes.")
@folder_option
@json_option
def command(folder: Path, *, as_json: bool) -> ExitCode:
    """Show what all accounts of both nodes add up to, by account code and asset; debits must equal credits (I2).

    docs/accounts.md says what each code is for.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS

    terminal = Terminal()
    found: dict[str, Any] = {}
    for ledger in LEDGERS:
        with as_auditor(folder, ledger) as client:
            found[ledger] = client.trial_balance()
    hand_over(found)
    if as_json:
        terminal.json(found)
    else:
        for ledger, balance in found.items():
            columns = ("account code", "asset", "accounts", "debits posted", "credits posted")
            title = f"{ledger} at position {balance['position']}"
            terminal.table(title, columns, _rows(balance), right=(2, 3, 4))
            terminal.say("balanced" if balance["is_balanced"] else "NOT BALANCED")
        terminal.say("what each account code is for: docs/accounts.md", style="dim")
    return ExitCode.OK if all(balance["is_balanced"] for balance in found.values()) else ExitCode.INTEGRITY


def _rows(balance: dict[str, Any]) -> list[tuple[str, ...]]:
    """Sum the rows of all books by account code and asset, and add the totals."""
    from gateway.cli.terminal import money

    sums: dict[tuple[str, str], list[int]] = {}
    for row in balance["rows"]:
        entry = sums.setdefault((row["code"], row["asset"]), [0, 0, 0])
        for place, field in enumerate(("account_count", "debits_posted", "credits_posted")):
            entry[place] += int(row[field])
    rows: list[tuple[str, ...]] = [
        (code, asset, f"{count:,}", money(debit), money(credit))
        for (code, asset), (count, debit, credit) in sorted(sums.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    rows.extend(
        ("total", total["asset"], "", money(int(total["debits_posted"])), money(int(total["credits_posted"])))
        for total in balance["totals"]
    )
    return rows
