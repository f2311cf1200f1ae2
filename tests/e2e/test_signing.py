"""Requests that another implementation of RFC 9421 signs, sent to a running node; it knows nothing of our code."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import http_message_signatures as standard
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.verification import verify_exports
from ledger import messages, signatures
from ledger.exports import ExportFile
from ledger.journal import decode
from ledger.runtime import SystemRuntime
from tests.http_fixture import PAYMENTS, assert_problem, pay_body
from tests.network_fixture import Network, key_of, running_network

ORDER = ("created", "keyid", "alg", "expires", "tag")
"""The order in which the other implementation writes the parameters of a signature."""
READ = ("@method", "@authority", "@path", "@query")
WRITE = (*READ, "content-type", "content-digest", "idempotency-key")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


class Request:
    """A request as the other implementation wants to see it."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        """Give it method, URL and header fields."""
        self.method, self.url, self.headers = method, url, headers


def signed(
    network: Network, method: str, target: str, *, body: bytes | None = None, key: str = "", ledger: str = "SH"
) -> Request:
    """Sign with the other implementation's public ``sign``, which is told our components, label and tag."""
    headers = {} if body is None else {"Content-Type": "application/json", "Idempotency-Key": f'"{key}"'}
    request = Request(method, network.urls["SH"] + target, headers)
    owner: Ed25519PrivateKey = key_of("customer-SH")
    name = signatures.key_id(messages.public_bytes(owner))
    resolver = standard.MappingKeyResolver(public_keys={name: owner.public_key()}, private_keys={name: owner})
    signer = standard.HTTPMessageSigner(signature_algorithm=standard.algorithms.ED25519, key_resolver=resolver)
    now_s = int(time.time())
    signer.sign(
        request,
        key_id=name,
        created=datetime.fromtimestamp(now_s, UTC),
        expires=datetime.fromtimestamp(now_s + 60, UTC),
        label="hugang",
        tag=f"hugang/1:{network.genesis_hash(ledger).hex()}",
        covered_component_ids=READ if body is None else WRITE,
        body=body,
    )
    return request


def sent(network: Network, request: Request, body: bytes | None = None) -> httpx.Response:
    """Send a request as it was signed."""
    return network.http.request(request.method, request.url, headers=request.headers, content=body)


def written(network: Network, **changes: Any) -> bytes:
    """Write the body of a payment."""
    return json.dumps(pay_body(network, **changes)).encode()


def journaled_bases(export: Path) -> dict[str, bytes]:
    """Give the signature bases of a journal's requests by idempotency key."""
    found = {}
    with ExportFile(export) as file:
        for block in file.blocks():
            for entry in decode(block).entries:
                found[messages.parse(entry.message).idempotency_key] = entry.message.base
    return found


def test_what_another_implementation_signs_is_journaled_and_verifies(network: Network, tmp_path: Path) -> None:
    """Its payment settles, its read is answered, and the export holds its base as signed and verifies."""
    body = written(network)
    answer = sent(network, signed(network, "POST", PAYMENTS, body=body, key="signed-elsewhere"), body)
    assert (answer.status_code, answer.json()["data"]["state"]) == (201, "SETTLED"), answer.text
    read = sent(network, signed(network, "GET", f"{PAYMENTS}/{json.loads(body)['uetr']}"))
    assert (read.status_code, read.json()["data"]["state"]) == (200, "SETTLED"), read.text
    (tmp_path / "sh").mkdir()
    export = tmp_path / "sh" / "journal.hgx"
    network.client("SH", network.keys.auditor).export_to(export)
    result = verify_exports([export], trusted_hashes=frozenset({network.genesis_hash("SH")}), runtime=SystemRuntime())
    assert result.is_good, result.failure
    request = signatures.parse_signature_base(journaled_bases(export)["signed-elsewhere"])
    assert request.parameters == ORDER
    assert request.genesis_hash == network.genesis_hash("SH")


def test_what_it_signs_again_is_the_same_message(network: Network) -> None:
    """A retry signed by another implementation, in another order than the first time by ours, is the same message."""
    body = written(network)
    customer = network.customer("SH")
    first = customer.post(PAYMENTS, body, idempotency_key="first-by-us").json()["data"]
    again = sent(network, signed(network, "POST", PAYMENTS, body=body, key="first-by-us"), body)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["data"] == first


def test_what_it_signs_for_the_other_ledger_is_refused(network: Network) -> None:
    """A request of another implementation that names the other ledger's genesis does not count here."""
    body, digest = written(network), network.digest("SH")
    request = signed(network, "POST", PAYMENTS, body=body, key="for-hk", ledger="HK")
    assert_problem(sent(network, request, body), 401, "LEDGER_MISMATCH")
    assert_problem(sent(network, signed(network, "GET", "/v1/accounts", ledger="HK")), 401, "LEDGER_MISMATCH")
    assert network.digest("SH") == digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (';alg="ed25519"', ""),
        (';alg="ed25519"', ';alg="ed25519";alg="ed25519"'),
        (';alg="ed25519"', ';alg="ed25519";nonce="n"'),
        (";created=", "; created="),
    ],
)
def test_its_parameters_bent_are_refused(network: Network, old: str, new: str) -> None:
    """A parameter too few, twice, too many, or with another spacing: refused by its form, before any key."""
    body = written(network)
    request = signed(network, "POST", PAYMENTS, body=body, key="bent")
    text = request.headers["Signature-Input"]
    assert old in text
    request.headers["Signature-Input"] = text.replace(old, new)
    problem = assert_problem(sent(network, request, body), 400, "SIGNATURE_PROFILE")
    assert problem["fields"]["part"] == "@signature-params"


def test_its_parameters_reordered_afterwards_are_refused(network: Network) -> None:
    """The order is signed: another one than the signer's is well-formed, and its signature does not hold."""
    body = written(network)
    request = signed(network, "POST", PAYMENTS, body=body, key="reordered")
    head, *parameters = request.headers["Signature-Input"].split(";")
    request.headers["Signature-Input"] = ";".join([head, *reversed(parameters)])
    assert_problem(sent(network, request, body), 401, "SIGNATURE_INVALID")
