"""``hugang account``: one account with its balances, or the address book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

__all__ = ["command"]


@click.command("account", short_help="Show an account, or all names.")
@click.argument("name", required=False)
@click.option("--close", "change", flag_value="close", help="Close it first; it must be empty.")
@click.option("--reopen", "change", flag_value="reopen", help="Open it again first.")
@click.option("--class", "klass", metavar="CLASS", help="Give it this class of wallets first, or `none`.")
@folder_option
@json_option
def command(name: str | None, folder: Path, *, change: str | None, klass: str | None, as_json: bool) -> None:
    """Show the account called NAME, by a name or an address, as the auditor sees it; without NAME, list the names.

    A change is signed by the participant on whose book the account is, with its key in the folder.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal, money
    from gateway.names import load_names
    from gateway.supervisor import configured_ports
    from ledger.accounts import parse_address

    configured_ports(folder)
    terminal, names = Terminal(), load_names(folder)
    if name is None and (change, klass) != (None, None):
        raise click.UsageError("a change takes the NAME of an account")
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
        if (change, klass) != (None, None):
            _change(folder, found, change, klass)
            found = client.account(address)
    hand_over(found)
    if as_json:
        terminal.json(found)
        return
    amounts = {field: money(int(found[field]), found["asset"]) for field in ("available", "posted")}
    pending = f"pending out {money(int(found['pending_out']))}, in {money(int(found['pending_in']))}"
    closed = "  closed" if found["is_closed"] else ""
    terminal.say(f"{found['address']}  {found['code']} of {found['owner']}{closed}")
    terminal.say(f"available {amounts['available']}  posted {amounts['posted']}  {pending}")
    if found["class"] is not None:
        parts = [f"{name} {_left(found['limits'][name])}" for name in ("balance", "day", "year")]
        once = found["limits"]["payment"]["maximum"]
        terminal.say(f"class {found['class']}  left: {', '.join(parts)}  at once {_shown(once)}")


def _left(part: dict[str, Any]) -> str:
    """Say how much of a limit is left, and of how much."""
    return "unlimited" if part["maximum"] is None else f"{_shown(part['left'])} of {_shown(part['maximum'])}"


def _shown(limit: str | None) -> str:
    from gateway.cli.terminal import money

    return "unlimited" if limit is None else money(int(limit))


def _change(folder: Path, account: dict[str, Any], change: str | None, klass: str | None) -> None:
    """Close an account, open it again or change its class, as the participant on whose book it is."""
    from gateway.cli.connect import as_party

    with as_party(folder, account["address"][:2], account["book"]) as participant:
        if change == "reopen":
            participant.reopen_accounts([account["address"]])
        if klass is not None:
            participant.set_classes({account["address"]: None if klass == "none" else klass})
        if change == "close":
            participant.close_accounts([account["address"]])
