"""``hugang pay``: one signed payment."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.names import Name, Names

__all__ = ["command", "uetr_by"]

_KEPT = (
    "uetr", "state", "iso_status", "code", "iso_reason", "position", "first_position", "first_record_position", "field",
    "repeated", "block_height", "block_hash", "title", "detail",
)  # fmt: skip
"""What is shown of the problem of a refused payment."""


class _Pay(click.Command):
    """Takes ``-5`` for the amount that it is, not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from gateway.names import minor_units

        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name[1:2].isdecimal():
                minor_units(error.option_name)
            raise


@click.command("pay", cls=_Pay, short_help="Make one signed payment.")
@click.argument("debtor")
@click.argument("creditor")
@click.argument("amount")
@click.option("--quote", help="Quote that converts; by default the demonstration's quote for the two currencies.")
@click.option("--refund-of", metavar="UETR", help="The payment that this one gives back, in part or whole.")
@click.option("--purpose", help="ISO 20022 purpose code, four characters.")
@click.option("--reference", help="Text for the payee, up to 140 characters.")
@click.option("--value-date", metavar="DATE", help="From when the amount bears value, as 2026-11-30; else today.")
@click.option("--uetr", help="The payment's name, a UUIDv4; by default it follows from the key, or is a new one.")
@click.option("--key", "idempotency_key", help="Idempotency key: sent again, it gets the first result again.")
@folder_option
@json_option
def command(
    debtor: str,
    creditor: str,
    amount: str,
    folder: Path,
    *,
    quote: str | None,
    refund_of: str | None,
    purpose: str | None,
    reference: str | None,
    value_date: str | None,
    uetr: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> ExitCode:
    """Pay AMOUNT from the account called DEBTOR to CREDITOR, a name or an address.

    Names are those of the folder's names.json; the debtor's key lies in the folder too. AMOUNT is in the debtor's
    currency, as 88 or 88.50. A payment across the border is ACCEPTED here and SETTLED when its window is.
    """
    from gateway.cli.connect import as_party
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.client import ProblemError, ServerUnreachable
    from gateway.names import load_names, minor_units
    from gateway.supervisor import configured_ports
    from ledger.errors import MalformedInput

    if idempotency_key == "":
        raise MalformedInput("KEY_MALFORMED", "An idempotency key has at least one character.")
    configured_ports(folder)
    names = load_names(folder)
    payer = names.find(debtor)
    optional = {"refund_of": refund_of, "purpose": purpose, "reference": reference, "value_date": value_date}
    optional.update(_conversion(names, payer, names.address(creditor), quote))
    with as_party(folder, payer.ledger, payer.party) as client:
        body = client.payment_body(
            debtor=payer.address, creditor=names.address(creditor), asset=payer.asset, amount=minor_units(amount),
            uetr=uetr or uetr_by(payer.address, idempotency_key), **optional,
        )  # fmt: skip
        key = idempotency_key or body["uetr"]
        try:
            response = client.post("/v1/payments", body, idempotency_key=key)
        except ServerUnreachable:
            Terminal().note(
                f"whether it was paid is not known; the same command with --uetr {body['uetr']} --key {key} tells"
            )
            raise
        except ProblemError as error:
            if error.problem.get("state") != "REFUSED":
                raise
            result = {name: error.problem[name] for name in _KEPT if name in error.problem}
            result["replayed"] = False
        else:
            replayed = response.headers.get("idempotent-replayed") == "true"
            result = {**response.json()["data"], "replayed": replayed}
    hand_over(result)
    _show(Terminal(), result, as_json=as_json)
    return ExitCode.REFUSED if result["state"] == "REFUSED" else ExitCode.OK


def uetr_by(payer: str, key: str | None) -> str | None:
    """Name a payment by its payer and key, so that the same command is the same payment; ``None`` without a key."""
    if key is None:
        return None
    digest = hashlib.sha256(f"hugang pay\n{payer}\n{key}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _conversion(names: Names, payer: Name, creditor: str, quote: str | None) -> dict[str, str]:
    """Say which asset the payee receives and by which quote, when it is another than the payer pays."""
    received = names.asset(creditor)
    if received is None or received == payer.asset:
        return {} if quote is None else {"quote": quote}
    chosen = quote or names.quotes.get(f"{payer.asset}/{received}")
    return {"creditor_asset": received, **({} if chosen is None else {"quote": chosen})}


def _show(terminal: Any, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.json(result)
        return
    again = " (again: the first result)" if result["replayed"] or "repeated" in result else ""
    if result["state"] == "REFUSED":
        rest = f"  first used at position {result['first_position']}" if "first_position" in result else ""
        rest += again
        terminal.say(
            f"REFUSED {result['code']} (ISO 20022 {result.get('iso_reason', '-')})  payment {result['uetr']}{rest}"
            f"  {result.get('title', '')}".rstrip(),
            style="yellow",
        )
        return
    window = f"  window {result['window']}" if "window" in result else ""
    terminal.say(f"{result['state']}  payment {result['uetr']}  position {result['position']}{window}{again}")
