"""Requests as an attacker sends them, and what an answer must look like."""

from __future__ import annotations

from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.client import Client, Outgoing, Signer
from tests.network_fixture import Network

PAYMENTS = "/v1/payments"
TEXT = "text/plain; charset=utf-8"


def pay_body(network: Network, **changes: Any) -> dict[str, Any]:
    """Give a payment inside Shanghai that would be accepted."""
    wallets = network.wallets["SH"]
    body: dict[str, Any] = {
        "uetr": str(network.runtime.uuid4()),
        "debtor": wallets["a"],
        "creditor": wallets["b"],
        "money": {"asset": "CNY", "amount": "100"},
    }
    return body | changes


def signed_pay(
    network: Network, client: Client, body: Any, *, key: str | None = None, age_s: int = 0, signer: Signer | None = None
) -> Outgoing:
    """Sign a payment, made ``age_s`` seconds ago."""
    now_ns = network.runtime.now_ns() - age_s * 10**9
    return (signer or client.signer).post(
        PAYMENTS, body, idempotency_key=key or str(network.runtime.uuid4()), now_ns=now_ns
    )


def send(network: Network, outgoing: Outgoing, *, ledger: str = "SH", **headers: str) -> httpx.Response:
    """Send exactly what was signed, with some headers changed."""
    return network.http.request(
        outgoing.method,
        network.urls[ledger] + outgoing.target,
        headers={**outgoing.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
        content=outgoing.body,
    )


def carry(
    network: Network, ledger: str, path: str, body: bytes, media_type: str, *, key: Ed25519PrivateKey | None = None
) -> httpx.Response:
    """Take one step of the exchange of checkpoints, signed by the settlement operator unless told otherwise."""
    signer = Signer(network.urls[ledger], key or network.keys.settlement, network.genesis_hash(ledger))
    outgoing = signer.post(
        path,
        body,
        idempotency_key=str(network.runtime.uuid4()),
        now_ns=network.runtime.now_ns(),
        content_type=media_type,
    )
    return network.http.post(network.urls[ledger] + path, content=body, headers=outgoing.headers)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Hold an answer to the form of a problem; gives its body."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"title", "detail"} <= set(body)
    return body


def pay_arguments(body: dict[str, Any]) -> dict[str, Any]:
    """Give a payment's body as the client's arguments."""
    return {
        "debtor": body["debtor"],
        "creditor": body["creditor"],
        "asset": body["money"]["asset"],
        "amount": int(body["money"]["amount"]),
        "uetr": body["uetr"],
    }
