"""Signed payments against one node, each in its own request.

``locust -f benchmarks/locustfile.py --headless --only-summary -u 64 -r 64 -t 30s``, or ``make load``, drives 64
connections for half a minute.

The target is a network that was laid out by ``hugang init`` and runs: ``HUGANG_DIR`` names its folder (default
``demo``), ``HUGANG_LEDGER`` the node (``sh`` or ``hk``); host and port come from that node's settings unless ``--host``
names others. Before anybody pays, the target is asked once whether it works and is that ledger; what does not do ends
the run at once, in one line. With the keys in that folder the test registers a bank and a
payer of its own, issues money to it and opens wallets; nobody else's accounts are touched. Every payment goes from one
of the wallets to another. What is not settled counts as a failure under its code, so that the statistics show why.

Every user has one connection and signs as any client does: signing is part of what is measured, and takes its share
of the processors when the client runs beside the node. Only loopback is driven, unless ``HUGANG_REMOTE=1`` says that
the target is yours to load.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from locust import FastHttpUser, constant, events, task

from gateway.client import Client
from gateway.client.signing import Signer
from gateway.config import load_genesis, load_node_config, network_folder
from ledger.errors import LedgerError
from ledger.genesis import genesis_hash
from ledger.messages import public_bytes
from ledger.runtime import SystemRuntime

__all__ = ["PaymentUser"]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
PAYMENTS = "/v1/payments"
WALLET_COUNT = 64
FUNDS = 10**12
"""What each wallet holds at the beginning, in minor units: more than any test can pay."""

HEALTH_TIME_S_MAX = 5
ASSETS = {"SH": "CNY", "HK": "HKD"}

_folder = network_folder(Path(os.environ.get("HUGANG_DIR", "demo")))
_ledger = os.environ.get("HUGANG_LEDGER", "SH").upper()
if _ledger not in ASSETS:
    sys.exit(f"locustfile: HUGANG_LEDGER is sh or hk, not {os.environ['HUGANG_LEDGER']!r}")
_asset = ASSETS[_ledger]
try:
    _config = load_node_config(_folder.node(_ledger))
    _genesis_hash = genesis_hash(load_genesis(_folder.node(_ledger) / _config.genesis_file))
except LedgerError as error:
    sys.exit(
        f"locustfile: no network lies in {_folder.root}; `make demo` makes one, HUGANG_DIR names another ({error})"
    )
_runtime = SystemRuntime()


class _Payer:
    """The party that pays, made at the first user's start."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(_runtime.random_bytes(32))
        self.wallets: list[str] = []
        self._lock = threading.Lock()

    def open(self, url: str) -> list[str]:
        """Register, fund and open what is needed, once; gives the wallets' addresses."""
        with self._lock:
            if not self.wallets:
                self.wallets = _open_wallets(url, self.key)
        return self.wallets


_payer = _Payer()
logging.getLogger("httpx").setLevel(logging.WARNING)


class PaymentUser(FastHttpUser):
    """One connection that pays as fast as answers come."""

    host = f"http://{_config.host}:{_config.port}"
    wait_time = constant(0)

    def on_start(self) -> None:
        """Take the wallets and get ready to sign."""
        self._pairs = itertools.cycle(itertools.permutations(_payer.open(self.host), 2))
        self._signer = Signer(self.host, _payer.key, _genesis_hash)

    @task
    def pay(self) -> None:
        """Send one signed payment; anything but a 201 is a failure under its code."""
        debtor, creditor = next(self._pairs)
        uetr = str(_runtime.uuid4())
        body = {"uetr": uetr, "debtor": debtor, "creditor": creditor, "money": {"asset": _asset, "amount": "1"}}
        outgoing = self._signer.post(PAYMENTS, body, idempotency_key=uetr, now_ns=_runtime.now_ns())
        content: Any = outgoing.body  # its stub says text, its code takes bytes
        with self.client.post(PAYMENTS, data=content, headers=outgoing.headers, catch_response=True) as response:
            if response.status_code == 201:
                response.success()
            else:
                response.failure(_reason(response))


def _open_wallets(url: str, payer: Ed25519PrivateKey) -> list[str]:
    """Make a bank of the test's own, give it money, and open wallets for the payer."""
    keys = _folder.keys()
    bank = Ed25519PrivateKey.from_private_bytes(_runtime.random_bytes(32))
    name = f"LOAD-{_runtime.random_bytes(4).hex()}"
    registrar, issuer = (keys.registrar_sh, keys.pboc) if _ledger == "SH" else (keys.registrar_hk, keys.hkma)
    with Client(url, registrar, _genesis_hash) as client:
        client.register_parties(
            [
                _party(f"{name}-BANK", ["participant", "operator"], bank),
                _party(f"{name}-PAYER", [], payer),
            ]
        )
    with Client(url, bank, _genesis_hash) as client:
        client.join([_asset])
        opened = client.open_accounts([(f"{name}-PAYER", _asset)] * WALLET_COUNT)["accounts"]
        with Client(url, issuer, _genesis_hash) as mint:
            mint.issue(participant=f"{name}-BANK", asset=_asset, amount=WALLET_COUNT * FUNDS)
        position = next(account["address"] for account in client.accounts() if account["code"] == "POSITION")
        wallets = [str(account["address"]) for account in opened]
        client.pay_batch(
            client.payment_body(debtor=position, creditor=wallet, asset=_asset, amount=FUNDS) for wallet in wallets
        )
    return wallets


def _party(code: str, roles: list[str], key: Ed25519PrivateKey) -> dict[str, Any]:
    return {"code": code, "name": code, "roles": roles, "public_key": public_bytes(key).hex()}


def _check_target(environment: Any, **_: Any) -> None:
    """End at once, with one line, unless the target is ours to load, answers, and is the ledger that is meant."""
    options = environment.parsed_options
    url = ((options and options.host) or PaymentUser.host).rstrip("/")
    if urlsplit(url).hostname not in LOOPBACK and os.environ.get("HUGANG_REMOTE") != "1":
        sys.exit(f"locustfile: only loopback is loaded, not {url}; HUGANG_REMOTE=1 says that you may")
    try:
        health = httpx.get(f"{url}/v1/health", timeout=HEALTH_TIME_S_MAX, trust_env=False).json()["data"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        sys.exit(f"locustfile: nothing works at {url} ({error}); `make up` starts the network of demo/")
    if health.get("genesis_hash") != _genesis_hash.hex():
        sys.exit(f"locustfile: {url} is not the node of {_ledger} in {_folder.root}")


def _reason(response: Any) -> str:
    try:
        return f"{response.status_code} {response.json()['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without a problem"


_listen: Any = events.init.add_listener  # its stub has no types
_listen(_check_target)
