"""``hugang rules``: which limits of wallets hold from which day on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import folder_option, hand_over, json_option, ledger_argument

__all__ = ["command"]


@click.command("rules", short_help="Show the rules for wallets, or bring new ones.")
@ledger_argument
@click.option("--bring", metavar="NAME|FILE", help="Bring a rule set of the package, or a file with the body of one.")
@click.option("--valid-from", metavar="DATE", help="The business day from which it holds.")
@folder_option
@json_option
def command(ledger: str, folder: Path, *, bring: str | None, valid_from: str | None, as_json: bool) -> None:
    """Show every version of every rule set of a ledger; with --bring let its registrar bring one first.

    The package has `ecny-wallets` and `hong-kong-wallets`, which take --valid-from; a file says its day itself.
    """
    from gateway.cli.connect import as_registrar
    from gateway.cli.terminal import Terminal, money

    if (bring in _packaged()) is not (valid_from is not None):
        raise click.UsageError("a rule set of the package takes --valid-from, and nothing else does")
    with as_registrar(folder, ledger) as client:
        if bring is not None:
            client.bring_rules(_body(bring, valid_from))
        found = list(client.rules())
    hand_over(found)
    terminal = Terminal()
    if as_json:
        terminal.json(found)
        return
    names = ("balance", "payment", "day", "year")
    rows = [
        (
            *(version[name] for name in ("valid_from", "state", "rules", "asset")),
            rule["class"],
            *("unlimited" if rule[name] is None else money(int(rule[name])) for name in names),
        )
        for version in found
        for rule in version["classes"]
    ]
    head = ("from", "", "rules", "", "class", "balance", "at once", "a day", "a year")
    terminal.table("", head, rows, right=(5, 6, 7, 8))


def _packaged() -> tuple[str, ...]:
    from settlement.rules import NAMES

    return NAMES


def _body(bring: str, valid_from: str | None) -> Any:
    """Give what the registrar signs.

    Raises:
        MalformedInput: the file is no JSON.
    """
    import msgspec

    from ledger.errors import MalformedInput
    from settlement.rules import body

    if valid_from is not None:
        return body(bring, valid_from)
    try:
        return msgspec.json.decode(Path(bring).read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("RULES_MALFORMED", "The file holds no body of rules.", file=bring) from error
