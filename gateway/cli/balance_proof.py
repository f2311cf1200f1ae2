"""``hugang balance-proof``: what proves one account's balance."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import NewFile, folder_option, hand_over

__all__ = ["command"]


@click.command("balance-proof", short_help="Read the proof of an account's balance and check it.")
@click.argument("name")
@click.option("--out", type=NewFile(), help="Write the proof to this new file.")
@folder_option
def command(name: str, out: Path | None, folder: Path) -> None:
    """Read the proof of the balance of NAME, an account's name or address, and check it from a genesis alone.

    The balance is the one that was sealed last under a checkpoint which both nodes have signed. The proof shows no
    other account; `hugang verify-receipt` checks it anywhere, without a node.
    """
    from gateway.cli.connect import as_auditor
    from gateway.cli.terminal import Terminal
    from gateway.cli.verify_receipt import show_balance
    from gateway.config import load_genesis, network_folder
    from gateway.names import load_names
    from gateway.supervisor import configured_ports
    from ledger.accounts import parse_address
    from ledger.sealed import verify_balance

    configured_ports(folder)
    address = load_names(folder).address(name)
    ledger = parse_address(address)[0]
    with as_auditor(folder, ledger) as client:
        proof = client.balance_proof(address)
    genesis = load_genesis(network_folder(folder).node(ledger) / "genesis.json")
    found = verify_balance(proof, genesis)
    hand_over(found)
    terminal = Terminal()
    show_balance(terminal, found, genesis)
    if out is not None:
        with out.open("xb") as file:
            file.write(proof)
        terminal.say(f"{out}: {len(proof):,} bytes")
