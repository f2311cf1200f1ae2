"""``hugang account``: one account with its balances, or the address book."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, hand_over, json_option

__all__ = ["command"]


@click.command("account", short_help="Show an account, or all names.")
@click.argument("name", required=False)
@folder_option
@json_option
def command(name: str | None, folder: Path, *, as_json: bool) -> None:
    """Show the account called NAME, by a name or an address, as the auditor sees it; without NAME, list the names."""
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal, money
    from gateway.names import load_names
    from gateway.supervisor import configured_ports
    from ledger.accounts import parse_address

    configured_ports(folder)
    terminal, names = Terminal(), load_names(folder)
    if name is None:
        rows = [(word, entry.address, entry.asset, entry.title) for word, entry in names.names.items()]
        if as_json:
            terminal.json(names)
        else:
            terminal.table("", ("name", "address", "asset", ""), rows)
        return
    address = names.address(name)
    with as_auditor(folder, parse_address(address)[0]) as client:
        found = client.account(address)
    hand_over(found)
    if as_json:
        terminal.json(found)
        return
    amounts = {field: money(int(found[field]), found["asset"]) for field in ("available", "posted")}
    pending = f"pending out {money(int(found['pending_out']))}, in {money(int(found['pending_in']))}"
    terminal.say(f"{found['address']}  {found['code']} of {found['owner']}")
    terminal.say(f"available {amounts['available']}  posted {amounts['posted']}  {pending}")
