"""``hugang verify-receipt``: check a receipt or a balance proof without any node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import folder_option, hand_over, json_option
from gateway.cli.trusted import genesis_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.cli.terminal import Terminal
    from gateway.cli.trusted import Trusted
    from ledger.genesis import Genesis
    from ledger.receipts import PartView
    from ledger.sealed import BalanceProof
    from settlement.payment_receipts import PaymentReceipt

__all__ = ["command", "show_balance", "show_receipt"]

FILE_SIZE_MAX = 2**20


@click.command("verify-receipt", short_help="Check a receipt or a balance proof without any node.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@genesis_option
@folder_option
@json_option
def command(file: Path, genesis_files: tuple[Path, ...], folder: Path, *, as_json: bool) -> None:
    """Check FILE, a receipt or a balance proof, from the public keys of one genesis and from nothing else.

    What a node only states, and nothing proves, is said to be stated; that a request was made for the other ledger is
    proven by that ledger's genesis. A refused file ends with code 5.
    """
    from gateway.cli.terminal import Terminal
    from gateway.cli.trusted import kind_of, trusted_genesis
    from ledger.sealed import verify_balance
    from settlement.payment_receipts import verify

    if len(genesis_files) > 2:
        raise click.UsageError("there are two ledgers, so at most two genesis documents")
    sources = trusted_genesis(genesis_files, folder)
    trusted = [source.genesis for source in sources]
    data = _proof_in(file)
    terminal = Terminal()
    if kind_of(data) == "balance":
        balance = verify_balance(data, trusted[0])
        hand_over(balance)
        genesis = next((one for one in trusted if one.ledger == balance.ledger), trusted[0])
        if as_json:
            terminal.json({**_balance(balance, genesis), "genesis_hashes": _hashes(trusted)})
            return
        _show_sources(terminal, sources)
        show_balance(terminal, balance, genesis)
        return
    found = verify(data, *trusted)
    hand_over(found)
    if as_json:
        terminal.json({**_receipt(found), "genesis_hashes": _hashes(trusted)})
        return
    _show_sources(terminal, sources)
    show_receipt(terminal, found)


def _proof_in(file: Path) -> bytes:
    """Read a receipt or a balance proof.

    Raises:
        IntegrityFailure: ``RECEIPT_MALFORMED``, it is neither, or larger than any.
    """
    from gateway.cli.trusted import kind_of
    from ledger.errors import IntegrityFailure

    with file.open("rb") as source:
        data = source.read(FILE_SIZE_MAX + 1)
    kind = kind_of(data)
    if kind == "certificate":
        raise IntegrityFailure("RECEIPT_MALFORMED", "This is a certificate; hugang certificate --check proves it.")
    if not kind:
        sentence = "This is no receipt and no balance proof; hugang certificate --check proves certificates."
        raise IntegrityFailure("RECEIPT_MALFORMED", sentence)
    if len(data) > FILE_SIZE_MAX:
        raise IntegrityFailure("RECEIPT_MALFORMED", "The file is larger than any receipt.")
    return data


def _show_sources(terminal: Terminal, sources: list[Trusted]) -> None:
    for source in sources:
        source.show(terminal)


def _hashes(trusted: list[Genesis]) -> dict[str, str]:
    """Give what the proof was checked by, for programs."""
    from ledger.genesis import genesis_hash

    return {genesis.ledger: genesis_hash(genesis).hex() for genesis in trusted}


def show_receipt(terminal: Terminal, found: PaymentReceipt) -> None:
    """Print what a verified receipt says, and how much of it is proven."""
    from gateway.cli.terminal import money
    from settlement.views import PaymentStatus

    amount = "an amount that the other ledger knows" if found.amount is None else money(found.amount, found.asset)
    got = money(found.creditor_amount, found.creditor_asset) if found.creditor_amount else found.creditor_asset
    terminal.say(f"payment {found.uetr}")
    terminal.say(f"{amount} from {found.debtor} to {found.creditor}, which gets {got}")
    reason = "" if not found.reason else f" ({found.reason.name})"
    place = "" if found.window is None else f", window {found.window}"
    stated = "stated by the node"
    if found.status is PaymentStatus.SETTLED:
        stated += "; the window's certificate proves it"
    known = "proven" if found.is_status_proven else stated
    terminal.say(f"{found.status.value}{reason}{place}: {known}")
    if found.is_body_shown:
        terminal.say("debtor, creditor, assets and amount: signed by the payer")
    if not found.is_addressee_proven:
        terminal.say("that the request was made for its ledger: stated by the node; that ledger's genesis proves it")
    for part in found.receipt.parts:
        terminal.say(
            f"{part.ledger}: message at {part.position:,}, records at "
            f"{', '.join(f'{position:,}' for position in part.record_positions)}, block {part.header.height:,}, "
            f"in a tree of {part.tree_size:,} leaves, {_cosigned(part.cosigned_at_s)}"
        )
    terminal.say("PROVED from the keys of the genesis", style="bold green")


def show_balance(terminal: Terminal, found: BalanceProof, genesis: Genesis) -> None:
    """Print what a verified balance proof says."""
    from gateway.cli.terminal import money

    asset, account = _asset(found, genesis), found.account
    terminal.say(f"account {found.address}, {_cosigned(found.cosigned_at_s)}")
    terminal.say(f"available {money(account.available, asset)}  posted {money(account.balance, asset)}")
    terminal.say(f"after the first {found.tree_size:,} leaves of the {found.ledger} ledger")
    terminal.say("PROVED from the keys of the genesis", style="bold green")


def _cosigned(times_s: Mapping[str, int]) -> str:
    """Say who has cosigned."""
    return f"cosigned by {' and '.join(times_s)}" if times_s else "signed by its own node alone"


def _asset(found: BalanceProof, genesis: Genesis) -> str:
    """Name an account's asset, where the genesis is that of its ledger."""
    numbers = {asset.number: asset.code for asset in genesis.assets}
    return numbers.get(found.account.asset, "") if genesis.ledger == found.ledger else ""


def _receipt(found: PaymentReceipt) -> dict[str, Any]:
    """Write a verified receipt for programs."""
    return {
        "uetr": found.uetr,
        "network": found.receipt.network,
        "state": found.status.value,
        "is_state_proven": found.is_status_proven,
        "is_body_shown": found.is_body_shown,
        "is_addressee_proven": found.is_addressee_proven,
        "reason": found.reason.name,
        "window": found.window,
        "debtor": found.debtor,
        "creditor": found.creditor,
        "money": None if found.amount is None else {"asset": found.asset, "amount": str(found.amount)},
        "creditor_asset": found.creditor_asset,
        "creditor_amount": str(found.creditor_amount) if found.creditor_amount else None,
        "parts": [_part(part) for part in found.receipt.parts],
    }


def _part(part: PartView) -> dict[str, Any]:
    return {
        "ledger": part.ledger,
        "position": part.position,
        "record_positions": list(part.record_positions),
        "signed_by": part.envelope.key_id,
        "block_height": part.header.height,
        "block_hash": part.block_hash.hex(),
        "tree_size": part.tree_size,
        "tree_root": part.tree_root.hex(),
        "cosigned_at_s": dict(part.cosigned_at_s),
    }


def _balance(found: BalanceProof, genesis: Genesis) -> dict[str, Any]:
    """Write a verified balance proof for programs."""
    return {
        "ledger": found.ledger,
        "address": found.address,
        "asset": _asset(found, genesis) or None,
        "available": str(found.account.available),
        "posted": str(found.account.balance),
        "tree_size": found.tree_size,
        "tree_root": found.tree_root.hex(),
        "cosigned_at_s": dict(found.cosigned_at_s),
    }
