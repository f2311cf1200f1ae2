"""The exchange in which nodes cosign each other's checkpoints: who may take its steps, how many, and what is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.client import Signer
from gateway.routes import proofs
from ledger import checkpoint, logs
from ledger.sealed import verify_balance
from tests.e2e.test_proofs import across, genesis_of, opened
from tests.http_fixture import TEXT, carry
from tests.network_fixture import NETWORK, READY_S_MAX, Network, key_of, running_network

BINARY = "application/octet-stream"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def settled(network: Network) -> None:
    """Settle a payment across the border, so that both journals have been cosigned."""
    across(network, 1_234)
    assert network.settle()["state"] == "SETTLED"


STEPS = {"/v1/checkpoints/offers": TEXT, "/v1/checkpoints/cosignatures": BINARY, "/v1/checkpoints": TEXT}


@pytest.mark.parametrize("carrier", ["settlement", "node_sh", "node_hk"])
def test_the_operator_and_the_nodes_carry_checkpoints(network: Network, carrier: str) -> None:
    """The four steps work by hand for each of them, and leave the log with a larger cosigned checkpoint."""
    before, key = opened(network, "SH").checkpoint.size, getattr(network.keys, carrier)
    across(network, 5)
    known = network.http.get(network.urls["HK"] + "/v1/checkpoints/cosigned")
    offer = carry(network, "SH", "/v1/checkpoints/offers", known.content, TEXT, key=key)
    note = carry(network, "HK", "/v1/checkpoints/cosignatures", offer.content, BINARY, key=key)
    kept = carry(network, "SH", "/v1/checkpoints", note.content, TEXT, key=key)
    assert [step.status_code for step in (known, offer, note, kept)] == [200] * 4
    found = opened(network, "SH")
    assert found.checkpoint.size > before
    assert kept.content == note.content == network.client("SH", None).cosigned_checkpoint().encode()


@pytest.mark.parametrize("path", STEPS)
def test_nobody_else_begins_an_exchange(network: Network, path: str) -> None:
    """No step is taken for a stranger, a customer, a bank, the auditor, the issuer or the registrar."""
    keys = network.keys
    others = (key_of("customer-SH"), key_of("bank-SH"), keys.auditor, keys.pboc, keys.registrar_sh)
    for key in others:
        answer = carry(network, "SH", path, b"", STEPS[path], key=key)
        assert (answer.status_code, answer.json()["code"]) == (403, "ROLE_MISSING")
    assert carry(network, "SH", path, b"", STEPS[path], key=key_of("stranger")).json()["code"] == "KEY_UNKNOWN"
    unsigned = network.http.post(network.urls["SH"] + path, content=b"", headers={"content-type": STEPS[path]})
    assert (unsigned.status_code, unsigned.json()["code"]) == (401, "SIGNATURE_MISSING")


def test_a_step_of_another_ledger_or_time(network: Network) -> None:
    """A step that was signed for another ledger or server, or too long ago, or for another body, is not taken."""
    url, key, path = network.urls["SH"], network.keys.settlement, "/v1/checkpoints/offers"

    def asked(signer: Signer, *, age_s: int = 0, body: bytes = b"") -> str:
        now_ns = network.runtime.now_ns() - age_s * 10**9
        outgoing = signer.post(path, b"", idempotency_key="step", now_ns=now_ns, content_type=TEXT)
        answer = network.http.post(url + path, content=body, headers=outgoing.headers)
        return str(answer.json()["code"])

    here = network.genesis_hash("SH")
    assert asked(Signer(url, key, network.genesis_hash("HK"))) == "LEDGER_MISMATCH"
    assert asked(Signer(url, key, here), age_s=3600) == "SIGNATURE_STALE"
    assert asked(Signer(url, key, here), body=b"x") == "DIGEST_MISMATCH"
    assert asked(Signer(network.urls["HK"], key, here)) == "SIGNATURE_INVALID"


def test_a_customer_cannot_keep_balances_from_being_cosigned(network: Network) -> None:
    """Whatever a customer pushes between two exchanges, made of what everybody may read, balances are cosigned."""
    client, address = network.client("SH", None), network.wallets["SH"]["a"]
    pushed = threading.Event()
    answers: set[str] = set()

    def push() -> None:
        with httpx.Client(trust_env=False, timeout=60) as http:
            while not pushed.is_set():
                for path, media_type in STEPS.items():
                    headers = {"content-type": media_type}
                    answers.add(http.post(network.urls["SH"] + path, content=b"", headers=headers).json()["code"])

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        for amount in (6, 7, 8):
            across(network, amount)
            assert network.settle()["state"] == "SETTLED"
            found = verify_balance(network.customer("SH").balance_proof(address), genesis_of(network, "SH"))
            assert found.cosigned_at_s
            assert (
                found.tree_size
                == logs.open_own(client.cosigned_checkpoint().encode(), genesis_of(network, "SH"), "SH").checkpoint.size
            )
    finally:
        pushed.set()
        pusher.join()
    assert answers == {"SIGNATURE_MISSING"}


@pytest.mark.parametrize("path", STEPS)
def test_steps_at_once_are_bounded(network: Network, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each step so many are taken at once and no more; what is refused says when to come again, and then passes."""
    name = {"offers": "offer", "cosignatures": "cosign"}.get(Path(path).name, "keep")
    side = network.nodes["SH"].cosigning
    known = network.http.get(network.urls["HK"] + "/v1/checkpoints/cosigned").content
    offer = carry(network, "HK", "/v1/checkpoints/offers", b"", TEXT)
    body = {"offer": known, "keep": client_note(network), "cosign": offer.content}[name]
    gate, begun, work = threading.Event(), threading.Semaphore(0), getattr(side, name)

    async def waiting(*arguments: object) -> object:
        begun.release()
        await asyncio.to_thread(gate.wait, READY_S_MAX)
        return await work(*arguments)

    monkeypatch.setattr(side, name, waiting)
    with ThreadPoolExecutor(proofs.STEP_COUNT_MAX) as pool:
        under_way = [pool.submit(carry, network, "SH", path, body, STEPS[path]) for _ in range(proofs.STEP_COUNT_MAX)]
        try:
            assert all(begun.acquire(timeout=READY_S_MAX) for _ in under_way)
            refused = carry(network, "SH", path, body, STEPS[path])
        finally:
            gate.set()
    assert (refused.status_code, refused.json()["code"]) == (503, "OVERLOADED")
    assert int(refused.headers["retry-after"]) >= 1
    assert "OVERLOADED" not in [step.result().json()["code"] for step in under_way if step.result().status_code != 200]
    again = carry(network, "SH", path, body, STEPS[path])
    assert again.status_code != 503


def client_note(network: Network) -> bytes:
    """Give the cosigned checkpoint that Shanghai keeps."""
    return network.client("SH", None).cosigned_checkpoint().encode()


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (("/v1/checkpoints/offers", b"hello", TEXT), "NOTE_MALFORMED"),
        (("/v1/checkpoints/offers", b"", "application/json"), "MEDIA_TYPE_UNSUPPORTED"),
        (("/v1/checkpoints/cosignatures", b"hello", BINARY), "OFFER_MALFORMED"),
        (("/v1/checkpoints", b"", TEXT), "NOTE_MALFORMED"),
        (("/v1/checkpoints", bytes(20_000), TEXT), "BODY_TOO_LARGE"),
    ],
)
def test_nonsense_is_carried(network: Network, step: tuple[str, bytes, str], code: str) -> None:
    """Whatever is carried that is none of the steps is refused, and the node goes on."""
    assert carry(network, "SH", *step).json()["code"] == code
    assert network.client("SH", None).health()["status"] == "ok"


def test_a_strangers_checkpoint_stops_nobody(network: Network) -> None:
    """A checkpoint of a huge tree that the node has not signed is refused, and the node goes on."""
    point = checkpoint.Checkpoint(logs.origin(NETWORK, "SH"), 10**9, bytes(32))
    forged = logs.sign_checkpoint(point, key_of("customer-SH"))
    for path in ("/v1/checkpoints/offers", "/v1/checkpoints"):
        assert carry(network, "SH", path, forged, TEXT).json()["code"] == "NOTE_SIGNATURE_MISSING"
    assert network.client("SH", None).health()["status"] == "ok"


def described(document: dict[str, Any], path: str, method: str) -> set[str]:
    """Give the statuses that a description names."""
    return set(document["paths"][path][method]["responses"])


def test_the_exchange_is_described(network: Network) -> None:
    """The OpenAPI document names every step with its problems, and GET and POST of the same address side by side."""
    document = network.http.get(network.urls["SH"] + "/openapi.json").json()
    assert {"200", "404", "503"} <= described(document, "/v1/checkpoints", "get")
    assert {"200", "400", "401"} <= described(document, "/v1/checkpoints", "post")
    assert {"401", "403", "409"} <= described(document, "/v1/checkpoints/cosignatures", "post")
    assert {"200", "404"} <= described(document, "/v1/payments/{uetr}/receipt", "get")
