"""A whole network on loopback: two nodes and the operator as real servers, each on a thread of this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.client import Client, ProblemError
from gateway.config import (
    KeyRing,
    Limits,
    NetworkFolder,
    Ports,
    init_network,
    load_genesis,
    load_node_config,
    load_operator_config,
)
from gateway.node import Node
from gateway.operator import Operator
from gateway.serve import node_server, operator_http, operator_server
from ledger.genesis import genesis_hash
from ledger.messages import public_bytes
from ledger.runtime import SystemRuntime, free_port

NETWORK = "test-net"
READY_S_MAX = 30
FUNDS = 1_000_000
"""What each first wallet holds at the beginning, in minor units."""


def key_of(name: str) -> Ed25519PrivateKey:
    """Give the private key that a test's party of this name always has."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


@dataclass
class Server:
    """One server on its thread."""

    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """End it and wait for its end."""
        self.server.should_exit = True
        self.thread.join(READY_S_MAX)
        if self.thread.is_alive():
            raise RuntimeError("a server did not end")


def start(server: uvicorn.Server) -> Server:
    """Run a server on a thread and wait until it serves."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + READY_S_MAX
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("a server did not start")
        time.sleep(0.01)
    return Server(server, thread)


@dataclass
class Network:
    """A running network with a bank and two customers on each side.

    ``wallets`` are addresses by ledger and name: ``a`` and ``b`` hold the ledger's own money, ``other`` the other's.
    ``a`` and ``other`` belong to the customer, ``b`` to the shop.
    """

    folder: NetworkFolder
    runtime: SystemRuntime
    keys: KeyRing
    urls: dict[str, str]
    nodes: dict[str, Node] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    wallets: dict[str, dict[str, str]] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))
    """For requests that the client would not send."""

    _auditors: dict[str, Client] = field(default_factory=dict)

    def client(self, ledger: str, key: Ed25519PrivateKey | None, **options: Any) -> Client:
        """Open a client of ``SH``, ``HK`` or ``operator``; it is closed with the network."""
        client = Client(self.urls[ledger], key, self.genesis_hash(ledger), runtime=self.runtime, **options)
        self.clients.append(client)
        return client

    def genesis_hash(self, ledger: str) -> bytes:
        """Give the genesis hash of a ledger; for the operator, which takes either, Shanghai's."""
        layout = self.folder
        return genesis_hash(load_genesis((layout.hk if ledger == "HK" else layout.sh) / "genesis.json"))

    def customer(self, ledger: str) -> Client:
        """Give a client of the party that owns the wallets ``a`` and ``other``."""
        return self.client(ledger, key_of(f"customer-{ledger}"))

    def digest(self, ledger: str) -> str:
        """Read the digest over all money of a ledger."""
        if ledger not in self._auditors:
            self._auditors[ledger] = self.client(ledger, self.keys.auditor)
        return str(self._auditors[ledger].trial_balance()["money_digest"])

    def start_node(self, ledger: str) -> None:
        """Open a node from its folder and serve it."""
        node = Node.open(self.folder.node(ledger), self.runtime)
        self.nodes[ledger] = node
        self.servers[ledger] = start(node_server(node))

    def start_operator(self) -> None:
        """Open the operator from its folder and serve it."""
        http = operator_http(Limits())
        self.servers["operator"] = start(operator_server(Operator.open(self.folder.operator, self.runtime, http), http))

    def settle(self) -> dict[str, Any]:
        """Settle the open window and wait for its end; a cycle that is still ending is waited for."""
        operator = self.client("operator", self.keys.settlement)
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                window = operator.start_cycle()["window"]
                break
            except ProblemError as error:
                if error.code != "CYCLE_RUNNING" or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        while (cycle := operator.cycle(window))["state"] == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.02)
        return cycle


@contextmanager
def running_network(
    folder: Path,
    *,
    databases: Mapping[str, str] | None = None,
    test_clock: bool = False,
    lay_out: Callable[[Path, Ports], NetworkFolder] | None = None,
    has_accounts: bool = False,
) -> Iterator[Network]:
    """Lay a network out, start it, open its accounts unless it has them; everything ends with the block.

    ``databases`` names, by ledger, where a journal lies instead of in a file. ``lay_out`` makes the folder otherwise.
    """
    runtime = SystemRuntime()
    ports = Ports(free_port(), free_port(), free_port())
    if lay_out is not None:
        layout = lay_out(folder, ports)
    else:
        layout = init_network(folder, runtime, NETWORK, ports=ports, test_clock=test_clock)
    for ledger, database in (databases or {}).items():
        settings = layout.node(ledger) / "node.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"database": database}))
    urls = {ledger: f"http://127.0.0.1:{load_node_config(layout.node(ledger)).port}" for ledger in ("SH", "HK")}
    urls["operator"] = f"http://127.0.0.1:{load_operator_config(layout.operator).port}"
    network = Network(layout, runtime, layout.keys(), urls)
    try:
        for ledger in ("SH", "HK"):
            network.start_node(ledger)
        network.start_operator()
        keys = network.keys
        if not has_accounts:
            _open_accounts(network, "SH", own="CNY", other="HKD", registrar=keys.registrar_sh, issuer=keys.pboc)
            _open_accounts(network, "HK", own="HKD", other="CNY", registrar=keys.registrar_hk, issuer=keys.hkma)
        yield network
    finally:
        for client in network.clients:
            client.close()
        network.http.close()
        for server in reversed(list(network.servers.values())):
            server.stop()
        runtime.close()


def _open_accounts(
    network: Network, ledger: str, *, own: str, other: str, registrar: Ed25519PrivateKey, issuer: Ed25519PrivateKey
) -> None:
    """Register a bank, a customer and a shop, and fund the first wallets."""
    parties = [
        (f"bank-{ledger}", ["participant", "operator", "fx-provider"]),
        (f"customer-{ledger}", []),
        (f"shop-{ledger}", []),
    ]
    network.client(ledger, registrar).register_parties(
        [
            {"code": name, "name": name, "roles": roles, "public_key": public_bytes(key_of(name)).hex()}
            for name, roles in parties
        ]
    )
    bank = network.client(ledger, key_of(f"bank-{ledger}"))
    bank.join([own, other])
    opened = bank.open_accounts([(f"customer-{ledger}", own), (f"shop-{ledger}", own), (f"customer-{ledger}", other)])[
        "accounts"
    ]
    network.wallets[ledger] = dict(zip(("a", "b", "other"), (entry["address"] for entry in opened), strict=True))
    network.client(ledger, issuer).issue(participant=f"bank-{ledger}", asset=own, amount=10 * FUNDS)
    position = next(entry for entry in bank.accounts() if (entry["code"], entry["asset"]) == ("POSITION", own))
    for name in ("a", "b"):
        bank.pay(debtor=position["address"], creditor=network.wallets[ledger][name], asset=own, amount=FUNDS)
