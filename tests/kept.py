"""A small network whose data is kept for ever: ``python -m tests.kept`` makes it, and every later release must open it.

``tests/data/v1`` holds both journals as a node left them, both exports, a receipt, a balance proof and an anchored
certificate, all of them made with one release of the formats, and a manifest of what must be found in them. No private
key is kept: the network's keys follow from a seed, and whoever opens the data lays the same network out again.

Make it anew only while the formats are not frozen. Afterwards a further folder may be added, and none is changed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from gateway.client import Client, ProblemError
from gateway.config import NetworkFolder, Ports, init_network
from gateway.node import Node
from ledger.runtime import ManualRuntime
from settlement import anchors
from tests.network_fixture import Network, key_of, running_network

__all__ = ["FOLDER", "LEDGERS", "lay_out", "state_of"]

FOLDER = Path(__file__).parent / "data" / "v1"
LEDGERS = ("SH", "HK")
SEED = 1
_NAME = "hugang-kept"


def lay_out(folder: Path, ports: Ports) -> NetworkFolder:
    """Make the kept network's folder, with its keys and genesis documents, and without any data."""
    return init_network(folder, ManualRuntime(seed=SEED), _NAME, ports=ports)


def state_of(node: Node) -> dict[str, Any]:
    """Give what must be found again in a ledger, as JSON gives it back."""
    machine = node.machine
    return {
        "genesis_hash": machine.genesis_hash.hex(),
        "height": machine.height,
        "position": machine.position,
        "last_block": machine.previous_hash.hex(),
        "tree_root": machine.frontier.root().hex(),
        "money_digest": machine.state.money_digest().hex(),
        "hold_count": machine.state.hold_count,
        "windows": [[number, window.state.name] for number, window in sorted(node.book.windows.items())],
        "balances": [int(balance) for balance in machine.state.accounts["credits_posted"]],
    }


def _refused(client: Client, **payment: Any) -> None:
    """Make a payment that is refused for funds."""
    try:
        client.pay(**payment)
    except ProblemError as error:
        if error.code == "DEBIT_LIMIT":
            return
        raise
    raise SystemExit("the payment was not refused")


def _work(network: Network) -> dict[str, str]:
    """Let one of everything happen; gives the name of a payment, and of the account of the proof."""
    wallets = network.wallets
    shanghai, hong_kong = network.customer("SH"), network.customer("HK")
    bank = network.client("HK", key_of("bank-HK"))
    here, there = wallets["SH"], wallets["HK"]
    quote = bank.quote(sell="HKD", maximum=100_000, buy="CNY", rate="1.10000000", expires="2100-01-01T00:00:00Z")
    exchanged = shanghai.new_id()
    shanghai.pay(
        debtor=here["a"],
        creditor=there["a"],
        asset="CNY",
        amount=1_000,
        uetr=exchanged,
        creditor_asset="HKD",
        quote=quote["quote"],
    )
    paid = shanghai.new_id()
    shanghai.pay(debtor=here["a"], creditor=there["other"], asset="CNY", amount=700, uetr=paid)
    given_up = shanghai.new_id()
    shanghai.pay(debtor=here["a"], creditor=there["other"], asset="CNY", amount=5, uetr=given_up)
    shanghai.cancel(given_up)
    _refused(shanghai, debtor=here["a"], creditor=here["b"], asset="CNY", amount=10**12)
    items = [shanghai.payment_body(debtor=here["a"], creditor=here["b"], asset="CNY", amount=n + 1) for n in range(70)]
    shanghai.pay_batch(items)
    _settle(network)
    hong_kong.pay(debtor=there["other"], creditor=here["a"], asset="CNY", amount=300, refund_of=paid)
    _book(network)
    _settle(network)
    return {"receipt": exchanged, "account": here["a"]}


def _book(network: Network) -> None:
    """Move money inside one book in columns: plain ones, a chain, holds and their ends, and a reversal."""
    bank = network.client("SH", key_of("bank-SH"))
    positions = [entry["address"] for entry in bank.accounts() if entry["asset"] == "CNY"]
    money = next(address for address in positions if bank.account(address)["code"] == "POSITION")
    fees = next(address for address in positions if bank.account(address)["code"] == "FEES")
    moves = bank.book_transfers()
    first, *_ = [moves.transfer(debit=money, credit=fees, amount=number + 1) for number in range(80)]
    hold = moves.hold(debit=money, credit=fees, amount=50)
    moves.hold(debit=money, credit=fees, amount=60)
    with moves.chain():
        moves.post(hold, amount=20)
        moves.transfer(debit=money, credit=fees, amount=2, min_available=1)
    bank.transfer_columns(moves.encode())
    later = bank.book_transfers()
    later.reverse(first, debit=fees, credit=money)
    bank.transfer_columns(later.encode())


def _settle(network: Network) -> None:
    cycle = network.settle()
    if cycle["state"] != "SETTLED":
        raise SystemExit(f"the window did not settle: {cycle}")


def main() -> None:
    """Make the data anew."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "network")
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        with running_network(folder, lay_out=lay_out) as network:
            names = _work(network)
            customer = network.customer("SH")
            (FOLDER / "payment.receipt").write_bytes(customer.receipt(names["receipt"]))
            (FOLDER / "account.balance").write_bytes(customer.balance_proof(names["account"]))
            auditors = [network.client(ledger, network.keys.auditor) for ledger in LEDGERS]
            anchored = anchors.assemble(auditors[0].certificate(1), [auditor.anchor(1) for auditor in auditors])
            (FOLDER / "window-1.certificate").write_bytes(anchored)
            for ledger in LEDGERS:
                path = FOLDER / "exports" / ledger.lower() / "journal.hgx"
                path.parent.mkdir(parents=True)
                network.client(ledger, network.keys.auditor).export_to(path)
            manifest = {**names, **{ledger: state_of(network.nodes[ledger]) for ledger in LEDGERS}}
        for ledger in LEDGERS:
            shutil.copyfile(folder / ledger.lower() / "journal.db", FOLDER / f"{ledger.lower()}.db")
    (FOLDER / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    sys.stdout.write(f"{FOLDER.name}: {sum(sizes):,} bytes in {len(sizes)} files\n")


if __name__ == "__main__":
    main()
