"""Data that earlier releases wrote still opens, verifies and goes on (``tests.kept``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.config import NetworkFolder, Ports, load_genesis
from gateway.node import Node
from ledger.genesis import Genesis
from ledger.runtime import SystemRuntime
from ledger.sealed import verify_balance
from settlement import anchors
from settlement.payment_receipts import verify
from settlement.views import PaymentStatus
from tests.kept import FOLDER, LEDGERS, lay_out, state_of
from tests.network_fixture import running_network

MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text("utf-8"))


def with_data(folder: Path, ports: Ports) -> NetworkFolder:
    """Lay the network out again and put its journals back."""
    layout = lay_out(folder, ports)
    for ledger in LEDGERS:
        shutil.copyfile(FOLDER / f"{ledger.lower()}.db", layout.node(ledger) / "journal.db")
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> NetworkFolder:
    """Give the network with its data in a folder of the test's own."""
    return with_data(tmp_path / "network", Ports())


@pytest.fixture
def pair(layout: NetworkFolder) -> tuple[Genesis, Genesis]:
    """Give the genesis documents of both ledgers."""
    sh, hk = (load_genesis(layout.node(ledger) / "genesis.json") for ledger in LEDGERS)
    return sh, hk


@pytest.fixture
def runtime() -> Iterator[SystemRuntime]:
    """Give a runtime."""
    found = SystemRuntime()
    yield found
    found.close()


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_kept_journal_opens(layout: NetworkFolder, runtime: SystemRuntime, ledger: str) -> None:
    """Its node stands where the one that wrote it stood: the same block, tree, money, holds and windows."""
    node = Node.open(layout.node(ledger), runtime)
    try:
        assert state_of(node) == MANIFEST[ledger]
    finally:
        node.store.close()


def test_kept_exports_verify(capsys: pytest.CaptureFixture[str]) -> None:
    """An auditor replays both from the genesis hashes and finds both sides to agree."""
    hashes = [part for ledger in LEDGERS for part in ("--genesis-hash", MANIFEST[ledger]["genesis_hash"])]
    assert run(["verify", str(FOLDER / "exports"), *hashes, "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert {ledger: report["blocks"] for ledger, report in found["ledgers"].items()} == {
        ledger: MANIFEST[ledger]["height"] for ledger in LEDGERS
    }


def test_kept_proofs_hold(pair: tuple[Genesis, Genesis]) -> None:
    """The receipt, the balance proof and the anchored certificate hold against the genesis documents alone."""
    sh, hk = pair
    receipt = verify((FOLDER / "payment.receipt").read_bytes(), sh, hk)
    assert (receipt.uetr, receipt.status) == (MANIFEST["receipt"], PaymentStatus.SETTLED)
    assert verify_balance((FOLDER / "account.balance").read_bytes(), sh).address == MANIFEST["account"]
    assert anchors.verify((FOLDER / "window-1.certificate").read_bytes(), pair).certificate.report.window == 1


def test_a_kept_network_goes_on(tmp_path: Path) -> None:
    """Served again, it answers for its payments, takes new ones, and settles its next window."""
    with running_network(tmp_path / "network", lay_out=with_data, has_accounts=True) as network:
        customer = network.customer("SH")
        assert customer.payment(MANIFEST["receipt"])["state"] == "SETTLED"
        before = customer.account(MANIFEST["account"])
        wallets = [account["address"] for account in network.customer("HK").accounts() if account["asset"] == "CNY"]
        customer.pay(debtor=MANIFEST["account"], creditor=wallets[0], asset="CNY", amount=11)
        assert network.settle()["state"] == "SETTLED"
        after = customer.account(MANIFEST["account"])
        assert int(before["posted"]) - int(after["posted"]) == 11
