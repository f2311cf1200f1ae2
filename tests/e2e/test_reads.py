"""Who reads what over HTTP, and what the edge of a server answers to everything else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from gateway.client import Client, ProblemError
from gateway.problems import row
from ledger import columns, signatures
from ledger.accounts import parse_address
from ledger.exports import ExportFile
from ledger.transfers import transfers
from settlement.bodies import TOPICS
from tests.http_fixture import assert_problem, pay_arguments, pay_body, send
from tests.network_fixture import Network, key_of, running_network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


@pytest.fixture
def customer(network: Network) -> Client:
    """The customer of the Shanghai side."""
    return network.customer("SH")


# --- who may read what ------------------------------------------------------------------------------------------------


def test_accounts_are_read_by_owner_book_and_auditor(network: Network, customer: Client) -> None:
    """An account is open to its owner, its participant and the auditor, and closed to everybody else."""
    wallet = network.wallets["SH"]["a"]
    auditor = network.client("SH", network.keys.auditor)
    for reader in (customer, network.client("SH", key_of("bank-SH")), auditor):
        assert reader.account(wallet)["address"] == wallet
    for path in (lambda client: client.account(wallet), lambda client: list(client.records(wallet))):
        with pytest.raises(ProblemError) as caught:
            path(network.client("SH", key_of("shop-SH")))
        assert (caught.value.status, caught.value.code) == (403, "READ_FORBIDDEN")
    assert {entry["owner"] for entry in customer.accounts()} == {"customer-SH"}
    assert {"customer-SH", "bank-SH", "NODE-SH"} <= {entry["owner"] for entry in auditor.accounts()}


def test_payments_are_read_by_those_they_concern(network: Network, customer: Client) -> None:
    """A payment is shown to its payer, its payee and the auditor; a stranger learns nothing."""
    receipt = customer.pay(**pay_arguments(pay_body(network)))
    shop = network.client("SH", key_of("shop-SH"))
    assert shop._get(f"/v1/payments/{receipt['uetr']}", {"payer": "customer-SH"})["state"] == "SETTLED"
    assert network.client("SH", network.keys.auditor).payment(receipt["uetr"])["state"] == "SETTLED"
    with pytest.raises(ProblemError) as caught:
        network.client("SH", key_of("bank-SH")).payment(receipt["uetr"])
    assert caught.value.code == "PAYMENT_NOT_FOUND"


def test_a_cursor_at_a_refused_record_is_refused(network: Network, customer: Client) -> None:
    """A refused transfer to an account that cannot exist is no page of a history, and asking for it stops nobody."""
    wallet = network.wallets["SH"]["a"]
    commands = transfers(1)
    commands["id_lo"], commands["amount"], commands["debit"] = 1, 1, parse_address(wallet)[1]
    position = customer.transfer_columns(columns.encode(commands))["position"]
    with pytest.raises(ProblemError) as caught:
        customer._read(f"/v1/accounts/{wallet}/records", {"cursor": position + 2}, signed=True)
    assert caught.value.code == "CURSOR_INVALID"
    assert customer.health()["status"] == "ok"


@pytest.mark.parametrize(
    "path", ["/v1/trial-balance", "/v1/export", "/v1/windows/1/positions", "/v1/windows/1/statements"]
)
def test_the_whole_is_not_for_customers(network: Network, customer: Client, path: str) -> None:
    """A customer reads neither the trial balance nor the export nor the positions of a window."""
    assert_problem(send(network, customer.signer.get(path, now_ns=network.runtime.now_ns())), 403, "READ_FORBIDDEN")
    assert_problem(network.http.get(network.urls["SH"] + path), 401, "SIGNATURE_MISSING")


def test_a_read_signature_counts_for_one_address(network: Network, customer: Client) -> None:
    """A signed read of one address, sent to another, does not hold; neither does a stale one."""
    wallets = network.wallets["SH"]
    outgoing = customer.signer.get(f"/v1/accounts/{wallets['a']}", now_ns=network.runtime.now_ns())
    moved = dataclasses.replace(outgoing, target=f"/v1/accounts/{wallets['other']}")
    assert_problem(send(network, moved), 401, "SIGNATURE_INVALID")
    stale = customer.signer.get(outgoing.target, now_ns=network.runtime.now_ns() - 600 * 10**9)
    assert_problem(send(network, stale), 401, "SIGNATURE_STALE")


def test_histories_are_read_page_by_page(network: Network, customer: Client) -> None:
    """Pages of one record give the same history as one large page; a cursor of another account is refused."""
    for _ in range(3):
        customer.pay(**pay_arguments(pay_body(network)))
    wallets = network.wallets["SH"]
    assert list(customer.records(wallets["a"], limit=1)) == list(customer.records(wallets["a"]))
    page = customer._read(f"/v1/accounts/{wallets['a']}/records", {"limit": 1}, signed=True).json()
    with pytest.raises(ProblemError) as caught:
        customer._read(f"/v1/accounts/{wallets['other']}/records", {"cursor": page["next_cursor"]}, signed=True)
    assert caught.value.code == "CURSOR_INVALID"


# --- the edge ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/parties", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/v1/payments", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/health", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/health?verbose=1", 400, "PARAMETER_INVALID"),
        ("GET", "/v1/windows?limit=0", 400, "LIMIT_INVALID"),
        ("GET", "/v1/windows?limit=1&limit=1", 400, "PARAMETER_INVALID"),
        ("GET", "/v1/windows?cursor=x", 400, "CURSOR_INVALID"),
        ("GET", "/v1/windows/zero", 400, "PARAMETER_INVALID"),
        ("GET", "/v1/windows/99", 404, "WINDOW_NOT_FOUND"),
        ("GET", "/v1/blocks/999999", 404, "BLOCK_NOT_FOUND"),
        ("GET", "/v1/quotes/none", 400, "UETR_INVALID"),
        ("GET", "/problems/NONE", 404, "PROBLEM_NOT_FOUND"),
    ],
)
def test_every_failure_is_a_problem(network: Network, method: str, path: str, status: int, code: str) -> None:
    """What the framework refuses has the same form as what we refuse."""
    response = network.http.request(method, network.urls["SH"] + path)
    assert_problem(response, status, code)
    if status == 405:
        assert response.headers["allow"]


def test_every_problem_has_a_page(network: Network) -> None:
    """The type of a problem is the address of a page that says cause and cure."""
    response = network.http.get(network.urls["SH"] + "/problems/DEBIT_LIMIT")
    known = row("DEBIT_LIMIT")
    assert response.headers["content-type"].startswith("text/html")
    assert known is not None
    assert known.cure in response.text


@pytest.mark.parametrize("server", ["SH", "HK", "operator"])
def test_the_description_is_valid_openapi(network: Network, server: str) -> None:
    """The OpenAPI document is version 3.1, valid, and has an example for each status of each operation."""
    document = network.http.get(network.urls[server] + "/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    lacking = [
        f"{method} {path} {status}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for status, response in operation["responses"].items()
        for content in response["content"].values()
        if "example" not in content and not content.get("examples")
    ]
    assert lacking == []


def test_the_description_has_every_write(network: Network) -> None:
    """Every topic that a node takes is described."""
    paths = network.http.get(network.urls["SH"] + "/openapi.json").json()["paths"]
    assert {path for path in TOPICS if "post" not in paths.get(path, {})} == set()


def test_the_documentation_needs_no_other_server(network: Network) -> None:
    """The page that describes the API names no address of another server, and every operation."""
    text = network.http.get(network.urls["SH"] + "/docs").text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert all(path in text for path in TOPICS)


@pytest.mark.parametrize(("server", "subject"), [("SH", "One ledger of"), ("operator", "The settlement operator")])
def test_the_documentation_says_what_is_served(network: Network, server: str, subject: str) -> None:
    """The front door leads to the page, which says what is served, and titles each read by a sentence."""
    url = network.urls[server]
    assert subject in network.http.get(url + "/", follow_redirects=True).text
    document = network.http.get(url + "/openapi.json").json()
    titles = [item["get"]["summary"] for item in document["paths"].values() if "get" in item]
    assert [title for title in titles if len(title.split()) < 2 or title == title.title() or title.endswith(".")] == []


def test_public_facts_fit_together(network: Network) -> None:
    """Genesis, its hash, the headers and the checkpoint of a node agree with each other."""
    client = network.client("SH", None)
    digest = signatures.content_digest(client.genesis_bytes()).hex()
    assert client.block(1)["previous_hash"] == digest
    height = client.health()["height"]
    lines = client.checkpoint().splitlines()
    assert lines[0] == "test-net/sh"
    assert int(lines[1]) == client.block(height)["tree_size"]
    assert [view["code"] for view in client.participants()] == ["PBOC", "bank-SH"]
    assert next(client.windows())["state"] == "OPEN"


def test_the_auditor_gets_the_whole_journal(network: Network, tmp_path: Path) -> None:
    """The export that is streamed is a whole export file with every block."""
    auditor = network.client("SH", network.keys.auditor)
    height = auditor.health()["height"]
    size = auditor.export_to(tmp_path / "journal.hgx")
    assert size == (tmp_path / "journal.hgx").stat().st_size
    with ExportFile(tmp_path / "journal.hgx") as export:
        assert sum(1 for _ in export.blocks()) >= height


def test_the_books_balance(network: Network) -> None:
    """After everything these tests did, debits equal credits on both ledgers (I2)."""
    for ledger in ("SH", "HK"):
        assert network.client(ledger, network.keys.auditor).trial_balance()["is_balanced"] is True
