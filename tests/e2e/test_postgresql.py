"""The whole network with both journals on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from gateway.node import Node
from tests.ledger_fixture import make_runtime
from tests.network_fixture import running_network
from tests.postgresql_server import PostgresqlServer
from tests.store_places import PostgresqlPlace


def test_a_network_settles_on_postgresql(tmp_path: Path, postgresql_server: PostgresqlServer) -> None:
    """With both journals in one database a payment across the border settles, and a restart finds it all again."""
    places = {ledger: PostgresqlPlace(postgresql_server) for ledger in ("SH", "HK")}
    with running_network(tmp_path, databases={ledger: place.url for ledger, place in places.items()}) as network:
        customer, target = network.customer("SH"), network.wallets["HK"]["other"]
        receipt = customer.pay(debtor=network.wallets["SH"]["a"], creditor=target, asset="CNY", amount=777)
        assert network.settle()["state"] == "SETTLED"
        assert customer.payment(receipt["uetr"])["state"] == "SETTLED"
        assert network.customer("HK").account(target)["posted"] == "777"
        digests = {ledger: network.digest(ledger) for ledger in places}
        folder = network.folder
    assert not list(tmp_path.rglob("*.db"))
    for ledger, digest in digests.items():
        node = Node.open(folder.node(ledger), make_runtime())
        assert node.machine.state.money_digest().hex() == digest
        node.points.close()
        node.store.close()
