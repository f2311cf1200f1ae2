"""A node that keeps SQL tables beside its journal, and the command that does so without it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import run
from gateway.projection.offline import Projected
from tests.network_fixture import Network, running_network

WAIT_S_MAX = 30


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network whose Shanghai node keeps its projection every second."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        running.servers["SH"].stop()
        settings = running.folder.sh / "node.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"projection_interval_s": 1}))
        running.start_node("SH")
        yield running


def asked(network: Network, statement: str) -> list[Any]:
    """Run one statement on Shanghai's tables."""
    connection = sqlite3.connect(network.folder.sh / "journal-projection.db", isolation_level=None, timeout=10)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def pay(network: Network, amount: int) -> int:
    """Pay inside Shanghai; gives the height of the payment's block."""
    wallets = network.wallets["SH"]
    receipt = network.customer("SH").pay(debtor=wallets["a"], creditor=wallets["b"], asset="CNY", amount=amount)
    return int(receipt["block_height"])


def wait_for(network: Network, height: int) -> None:
    """Wait until all that is kept has come to a height."""
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        try:
            heights = [mark for (mark,) in asked(network, "SELECT height FROM watermarks")]
        except sqlite3.OperationalError:
            heights = []
        if len(heights) >= 3 and min(heights) >= height:
            return
        assert time.monotonic() < deadline, heights
        time.sleep(0.05)


def shown(network: Network) -> tuple[int, int]:
    """Give the balance of the customer's wallet as the node and as the tables show it."""
    address = network.wallets["SH"]["a"]
    query = f"SELECT balance FROM balances JOIN accounts ON number = account WHERE address = '{address}'"
    return int(network.customer("SH").account(address)["posted"]), asked(network, query)[0][0]


def test_a_node_keeps_its_tables(network: Network) -> None:
    """What is durable is in the tables soon afterwards, without anybody asking."""
    for amount in (101, 102):
        wait_for(network, pay(network, amount))
        node, tables = shown(network)
        assert node == tables
    topics = asked(network, "SELECT topic, party FROM messages ORDER BY position DESC LIMIT 2")
    assert topics == [("/v1/payments", "customer-SH")] * 2


def test_lost_tables_come_back_while_the_node_runs(network: Network) -> None:
    """Whoever drops the tables under a running node loses nothing and stops nothing; the next updates make them."""
    wait_for(network, pay(network, 103))
    asked(network, "DROP TABLE balances")
    asked(network, "DROP TABLE messages")
    height = pay(network, 104)
    wait_for(network, height)
    node, tables = shown(network)
    assert node == tables
    assert not network.nodes["SH"].is_halted


def test_the_command_beside_running_nodes(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """The command brings both ledgers' tables to the end, with transfers, and the node goes on keeping them."""
    wait_for(network, pay(network, 105))
    results: list[Any] = []
    root = network.folder.root
    assert run(["project", str(root), "--transfers"], results) == 0
    assert "transfers" in capsys.readouterr().out
    projected: list[Projected] = results[0]
    assert [result.ledger for result in projected] == ["SH", "HK"]
    assert projected[1].made == ("accounts", "balances", "messages")
    wait_for(network, pay(network, 106))
    assert asked(network, "SELECT amount FROM transfers ORDER BY position DESC LIMIT 1") == [(106,)]
    assert run(["project", str(network.folder.hk), "--json"], None) == 0
    assert json.loads(capsys.readouterr().out)["HK"]["made"] == []


def test_the_command_needs_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in which no node lies is refused in one line."""
    assert run(["project", str(tmp_path)]) == 3
    assert "FILE_UNREADABLE" in capsys.readouterr().err
