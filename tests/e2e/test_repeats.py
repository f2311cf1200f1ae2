"""The same id again over HTTP: the first result once more, or the field that differs and where the first one stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gateway.client import Client
from ledger import columns
from ledger.accounts import parse_address
from ledger.transfers import id_halves, transfers
from settlement.legs import Leg, leg_id, parse_uetr
from tests.http_fixture import assert_problem, pay_arguments, pay_body, send, signed_pay
from tests.network_fixture import FUNDS, Network, running_network

CREATED = 201


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


@pytest.fixture
def customer(network: Network) -> Client:
    """The customer of the Shanghai side."""
    return network.customer("SH")


def test_the_same_payment_again_gives_the_first_answer(network: Network, customer: Client) -> None:
    """A payment sent again under another key moves nothing, and is told what became of the first one, and where."""
    body = pay_body(network)
    first = send(network, signed_pay(network, customer, body)).json()["data"]
    digest = network.digest("SH")
    again = send(network, signed_pay(network, customer, body, key="the-same"))
    assert (again.status_code, again.json()["data"]) == (CREATED, first | {"repeated": True})
    assert network.digest("SH") == digest
    assert customer.payment(body["uetr"])["record_position"] == first["position"] + 1
    replayed = send(network, signed_pay(network, customer, body, key="the-same"))
    assert (replayed.content, replayed.headers["idempotent-replayed"]) == (again.content, "true")


def test_a_refused_payment_again_gives_the_first_refusal(network: Network, customer: Client) -> None:
    """The first refusal is told again with its reason and place, also where more could be said against it now."""
    body = pay_body(network, money={"asset": "CNY", "amount": "999999999"})
    first = assert_problem(send(network, signed_pay(network, customer, body)), 422, "DEBIT_LIMIT")
    again = assert_problem(send(network, signed_pay(network, customer, body)), 422, "DEBIT_LIMIT")
    assert again == first | {"repeated": True, "request_id": again["request_id"]}


def test_an_item_of_a_batch_again_by_itself(network: Network, customer: Client) -> None:
    """A payment that stood in a batch and comes again alone is told where the batch stands."""
    payments = [pay_body(network, reference=str(index)) for index in range(3)]
    batch = customer.pay_batch(payments)
    data = send(network, signed_pay(network, customer, payments[1])).json()["data"]
    assert (data["position"], data["record_count"], data["repeated"]) == (batch["position"], 3, True)
    assert (data["uetr"], data["state"]) == (payments[1]["uetr"], "SETTLED")
    told = assert_problem(
        send(network, signed_pay(network, customer, payments[1] | {"reference": "2"})), 422, "ID_EXISTS"
    )
    assert (told["field"], told["iso_reason"]) == ("$.reference", "DU03")
    assert told["first_record_position"] == batch["position"] + 2


def test_repeated_items_of_a_batch(network: Network, customer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item of a batch that was asked for before has the first result, or the path of what differs."""
    paid = pay_body(network)
    refused = pay_body(network, money={"asset": "CNY", "amount": "999999999"})
    across = pay_body(network, creditor=network.wallets["HK"]["other"])
    first = customer.pay_batch([paid, refused, across])
    data = customer.pay_batch([refused, paid, across, across, paid | {"purpose": "GDDS"}])
    assert (data["accepted_count"], data["refused_count"]) == (0, 5)
    results = list(customer.batch_results(data["position"]))
    assert [entry["result"] for entry in results] == ["DEBIT_LIMIT", "OK", "OK", "OK", "ID_EXISTS"]
    assert [entry["state"] for entry in results] == ["REFUSED", "SETTLED", "ACCEPTED", "ACCEPTED", "REFUSED"]
    assert [entry.get("repeated") for entry in results] == [True] * 4 + [None]
    assert {entry["first_position"] for entry in results} == {first["position"]}
    assert results[4]["field"] == "$.payments[4].purpose"
    customer.cancel(across["uetr"])
    monkeypatch.setattr("gateway.routes.payments.FIRSTS_SIZE_MAX", 0)
    assert list(customer.batch_results(data["position"])) == results  # now one to the page


def test_repeated_commands_in_columns(network: Network, customer: Client) -> None:
    """A command that comes again has the first result; one that differs names the column; a payment's id is another."""
    wallets = [parse_address(network.wallets["SH"][name])[1] for name in ("a", "b")]
    commands = transfers(3)
    commands["id_hi"], commands["id_lo"] = 77, [1, 2, 3]
    commands["amount"] = [10, 50 * FUNDS, 20]
    commands["debit"], commands["credit"] = wallets
    first = customer.transfer_columns(columns.encode(commands))
    commands["amount"][2] = 21
    payment = pay_body(network)
    customer.pay(**pay_arguments(payment))
    commands = np.concatenate((commands, commands[:1]))
    commands["id_hi"][3], commands["id_lo"][3] = id_halves(leg_id(parse_uetr(payment["uetr"]), Leg.PAYER))
    again = customer.transfer_columns(columns.encode(commands))
    results = list(customer.batch_results(again["position"]))
    assert [entry["result"] for entry in results] == ["OK", "DEBIT_LIMIT", "ID_EXISTS", "ID_EXISTS"]
    assert [entry.get("repeated") for entry in results] == [True, True, None, None]
    assert [entry.get("field") for entry in results] == [None, None, "amount", "$"]
    assert [entry["first_position"] for entry in results][:3] == [first["position"]] * 3
