"""The HTTP interface over loopback: what is answered, every attack, and that no attack moves money."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.client import Client, ProblemError, Signer
from ledger import columns
from ledger.accounts import address as address_of
from ledger.accounts import parse_address
from ledger.messages import public_bytes
from ledger.transfers import transfers
from tests.http_fixture import PAYMENTS, assert_problem, pay_arguments, pay_body, send, signed_pay
from tests.network_fixture import FUNDS, Network, key_of, running_network

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


@pytest.fixture
def unmoved(network: Network) -> Iterator[None]:
    """Fail when the money of either ledger changes during the test (I9)."""
    before = {ledger: network.digest(ledger) for ledger in ("SH", "HK")}
    yield
    assert {ledger: network.digest(ledger) for ledger in ("SH", "HK")} == before


# --- attacks on the signature -----------------------------------------------------------------------------------------


def test_a_missing_signature_is_refused(network: Network, unmoved: None) -> None:
    """A payment without a signature is unauthenticated and moves nothing."""
    response = network.http.post(network.urls["SH"] + PAYMENTS, json=pay_body(network))
    body = assert_problem(response, 401, "SIGNATURE_MISSING")
    assert response.headers["www-authenticate"].startswith("Signature")
    assert body["iso_reason"] == "DS0A"


def test_a_wrong_signature_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature with one changed bit does not hold."""
    outgoing = signed_pay(network, customer, pay_body(network))
    text = outgoing.headers["Signature"]
    at = text.index(":") + 1
    changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    assert_problem(send(network, outgoing, Signature=changed), 401, "SIGNATURE_INVALID")


def test_a_signature_by_another_key_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A thief's signature under the customer's key id does not hold."""
    outgoing = signed_pay(network, customer, pay_body(network))
    thief = Signer(network.urls["SH"], key_of("thief"), network.genesis_hash("SH"))
    stolen = signed_pay(network, customer, json.loads(outgoing.body), signer=thief)
    headers = {"Signature_Input": stolen.headers["Signature-Input"].replace(thief.key_id, customer.signer.key_id)}
    assert_problem(send(network, stolen, **headers), 401, "SIGNATURE_INVALID")


def test_a_stale_signature_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature that expired minutes ago counts no longer."""
    outgoing = signed_pay(network, customer, pay_body(network), age_s=600)
    assert_problem(send(network, outgoing), 401, "SIGNATURE_STALE")


def test_a_signature_from_the_future_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature that claims to be made later than now does not count."""
    outgoing = signed_pay(network, customer, pay_body(network), age_s=-600)
    assert_problem(send(network, outgoing), 401, "SIGNATURE_FROM_FUTURE")


def test_a_signature_that_lives_too_long_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature that would count for an hour does not count at all."""
    signer = Signer(network.urls["SH"], key_of("customer-SH"), network.genesis_hash("SH"), lifetime_s=3600)
    outgoing = signed_pay(network, customer, pay_body(network), signer=signer)
    assert_problem(send(network, outgoing), 401, "SIGNATURE_LIFETIME")


def test_a_replayed_request_changes_nothing(network: Network, customer: Client) -> None:
    """The very same bytes sent again are answered the same, marked as replayed, and move no money (I8)."""
    outgoing = signed_pay(network, customer, pay_body(network))
    first = send(network, outgoing)
    digest = network.digest("SH")
    again = send(network, outgoing)
    assert (first.status_code, again.status_code) == (CREATED, CREATED)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert network.digest("SH") == digest


def test_a_retry_with_a_fresh_signature_is_answered_the_same(network: Network, customer: Client) -> None:
    """The same key and body under a new signature is the same message (I8)."""
    body = pay_body(network)
    first = send(network, signed_pay(network, customer, body, key="retry-fresh"))
    digest = network.digest("SH")
    again = send(network, signed_pay(network, customer, body, key="retry-fresh", age_s=-2))
    assert (first.content, again.headers["idempotent-replayed"]) == (again.content, "true")
    assert network.digest("SH") == digest


def test_a_replay_under_another_key_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """The idempotency key is signed: a thief cannot replay a payment under a new one."""
    outgoing = signed_pay(network, customer, pay_body(network))
    assert_problem(send(network, outgoing, Idempotency_Key='"another"'), 401, "SIGNATURE_INVALID")


def test_a_replay_at_the_other_node_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """What was signed for one node is refused by the other, with and without the first one's name on it."""
    outgoing = signed_pay(network, customer, pay_body(network))
    host = network.urls["SH"].removeprefix("http://")
    assert_problem(send(network, outgoing, ledger="HK", Host=host), 421, "AUTHORITY_MISMATCH")
    assert_problem(send(network, outgoing, ledger="HK"), 401, "LEDGER_MISMATCH")


def test_a_request_for_another_ledger_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature names its ledger: one that names the other's does not count, even where this node is addressed."""
    signer = Signer(network.urls["SH"], key_of("customer-SH"), network.genesis_hash("HK"))
    outgoing = signed_pay(network, customer, pay_body(network), signer=signer)
    assert_problem(send(network, outgoing), 401, "LEDGER_MISMATCH")
    read = signer.get("/v1/accounts", now_ns=network.runtime.now_ns())
    assert_problem(send(network, read), 401, "LEDGER_MISMATCH")


def test_the_operator_takes_requests_for_either_ledger_and_no_other(network: Network, unmoved: None) -> None:
    """The operator keeps no ledger: a request to it names either genesis of its network, and not another network's."""
    path, now_ns = "/v1/cycles/1/positions", network.runtime.now_ns()
    for genesis_hash in (network.genesis_hash("SH"), network.genesis_hash("HK")):
        signer = Signer(network.urls["operator"], network.keys.settlement, genesis_hash)
        assert send(network, signer.get(path, now_ns=now_ns), ledger="operator").status_code in (200, 404)
    signer = Signer(network.urls["operator"], network.keys.settlement, bytes(32))
    assert_problem(send(network, signer.get(path, now_ns=now_ns), ledger="operator"), 401, "LEDGER_MISMATCH")
    begin = signer.post("/v1/cycles", {}, idempotency_key="elsewhere", now_ns=now_ns)
    assert_problem(send(network, begin, ledger="operator"), 401, "LEDGER_MISMATCH")


@pytest.mark.parametrize("ledger", ["SH", "HK"])
def test_a_client_that_was_told_nothing_asks_a_node(network: Network, ledger: str) -> None:
    """A node's health gives the genesis hash under which it takes signed requests."""
    with Client(network.urls[ledger], network.keys.settlement, runtime=network.runtime) as client:
        assert client.trial_balance()["money_digest"] == network.digest(ledger)
        assert client.signer.genesis_hash == network.genesis_hash(ledger)


def test_a_client_that_was_told_nothing_asks_the_operator(network: Network) -> None:
    """The operator's health gives one of the two genesis hashes under which it takes signed requests."""
    with Client(network.urls["operator"], network.keys.settlement, runtime=network.runtime) as client:
        with pytest.raises(ProblemError) as caught:
            client.cycle_positions(2**29)
        assert caught.value.code == "CYCLE_NOT_FOUND"
        assert client.signer.genesis_hash == network.genesis_hash("SH")


def test_an_unknown_key_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A good signature by a key that nobody registered is unauthenticated."""
    signer = Signer(network.urls["SH"], key_of("stranger"), network.genesis_hash("SH"))
    outgoing = signed_pay(network, customer, pay_body(network), signer=signer)
    assert_problem(send(network, outgoing), 401, "KEY_UNKNOWN")


def test_a_revoked_key_is_refused(network: Network, customer: Client) -> None:
    """After its revocation a key signs nothing, not even what it had signed before."""
    second = key_of("customer second")
    customer.register_key(party="customer-SH", public_key=public_bytes(second).hex())
    owner = network.client("SH", second)
    early = signed_pay(network, owner, pay_body(network))
    assert owner.pay(**pay_arguments(pay_body(network)))["state"] == "SETTLED"
    customer.revoke_key(owner.signer.key_id)
    digest = network.digest("SH")
    assert_problem(send(network, early), 401, "KEY_REVOKED")
    assert_problem(send(network, signed_pay(network, owner, pay_body(network))), 401, "KEY_REVOKED")
    assert network.digest("SH") == digest


def test_a_key_is_replaced(network: Network, customer: Client) -> None:
    """A client goes on with its new key; what the old one signed before comes too late; a used key is none."""
    keys = [key_of(f"customer {name}") for name in ("third", "fourth", "fifth")]
    customer.register_key(party="customer-SH", public_key=public_bytes(keys[0]).hex())
    owner, old = network.client("SH", keys[0]), network.client("SH", keys[0])
    early = signed_pay(network, old, pay_body(network))
    data = owner.rotate_key(keys[1], idempotency_key="fourth")
    assert (data["key_id"], data["record_count"]) == (owner.signer.key_id, 0)
    assert data["key_id"] != old.signer.key_id
    assert owner.pay(**pay_arguments(pay_body(network)))["state"] == "SETTLED"
    assert_problem(send(network, early), 401, "KEY_REVOKED")
    assert old.rotate_key(keys[1], idempotency_key="fourth") == data  # as if the first answer had been lost
    assert old.signer.key_id == owner.signer.key_id
    with pytest.raises(ProblemError, match="KEY_EXISTS"):
        owner.rotate_key(keys[0])
    lost = network.client("SH", keys[0])
    with pytest.raises(ProblemError, match="KEY_UNKNOWN"):
        lost.rotate_key(keys[2])
    assert lost.signer.key_id != owner.signer.key_id


def test_a_signature_of_another_shape_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A signature whose label or components are not those of the profile is malformed."""
    outgoing = signed_pay(network, customer, pay_body(network))
    relabelled = {
        name.replace("-", "_"): outgoing.headers[name].replace("hugang=", "sig1=", 1)
        for name in ("Signature", "Signature-Input")
    }
    assert_problem(send(network, outgoing, **relabelled), 400, "SIGNATURE_PROFILE")


# --- attacks on the content -------------------------------------------------------------------------------------------


def test_another_body_than_the_signed_one_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A body that does not match the signed digest is refused."""
    outgoing = signed_pay(network, customer, pay_body(network))
    richer = dataclasses.replace(outgoing, body=outgoing.body.replace(b'"100"', b'"999"'))
    assert_problem(send(network, richer), 401, "DIGEST_MISMATCH")


def test_another_body_with_a_fitting_digest_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """Changing the digest beside the body breaks the signature."""
    outgoing = signed_pay(network, customer, pay_body(network))
    other = outgoing.body.replace(b'"100"', b'"999"')
    digest = signed_pay(network, customer, other).headers["Content-Digest"]
    richer = dataclasses.replace(outgoing, body=other)
    assert_problem(send(network, richer, Content_Digest=digest), 401, "SIGNATURE_INVALID")


def test_nobody_debits_somebody_elses_account(network: Network, customer: Client, unmoved: None) -> None:
    """A good key of one party cannot debit the account of another."""
    body = pay_body(network, debtor=network.wallets["SH"]["b"], creditor=network.wallets["SH"]["a"])
    assert_problem(send(network, signed_pay(network, customer, body)), 403, "NOT_OWNER")


@pytest.mark.parametrize(
    "amount", ["0", "-5", "1.5", "9223372036854775808", "1e3", "007", "", " 5", "٣", 5, 1.5, None, True]
)
def test_an_amount_that_is_none_is_refused(network: Network, customer: Client, unmoved: None, amount: Any) -> None:
    """Zero, negative, fractional, too large, padded or unquoted amounts are malformed."""
    body = pay_body(network, money={"asset": "CNY", "amount": amount})
    assert_problem(send(network, signed_pay(network, customer, body)), 400, "AMOUNT_INVALID")


def test_the_largest_amount_is_understood(network: Network, customer: Client, unmoved: None) -> None:
    """The largest amount passes the form, and is refused because the payee's total would pass the bound (I3)."""
    body = pay_body(network, money={"asset": "CNY", "amount": str(2**63 - 1)})
    assert_problem(send(network, signed_pay(network, customer, body)), 422, "OVERFLOW")


@pytest.mark.parametrize(
    ("field", "address", "status", "code"),
    [
        ("debtor", "SH119999999999", 400, "ADDRESS_INVALID"),
        ("debtor", address_of("SH", 9999), 403, "NOT_OWNER"),
        ("creditor", address_of("SH", 9999), 422, "PAYEE_NOT_FOUND"),
        ("creditor", "SH119999999999", 400, "ADDRESS_INVALID"),
        ("creditor", "nowhere", 400, "ADDRESS_INVALID"),
    ],
)
def test_an_unknown_account_is_refused(
    network: Network, customer: Client, unmoved: None, *, field: str, address: str, status: int, code: str
) -> None:
    """An account that does not exist neither pays nor is paid."""
    body = pay_body(network, **{field: address})
    assert_problem(send(network, signed_pay(network, customer, body)), status, code)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"money": {"asset": "HKD", "amount": "100"}}, 422, "DEBTOR_ASSET"),
        ({"creditor": "other"}, 422, "PAYEE_ASSET"),
        ({"creditor_asset": "HKD"}, 400, "QUOTE_MISSING"),
        ({"money": {"asset": "XAU", "amount": "100"}}, 400, "ASSET_UNKNOWN"),
        ({"fee": {"asset": "HKD", "amount": "1"}}, 400, "FEE_ASSET"),
    ],
)
def test_two_assets_never_meet_in_one_transfer(
    network: Network, customer: Client, unmoved: None, *, changes: dict[str, Any], status: int, code: str
) -> None:
    """A payment between accounts of two assets, without a quote, is refused."""
    if changes.get("creditor") == "other":
        changes = {"creditor": network.wallets["SH"]["other"]}
    response = send(network, signed_pay(network, customer, pay_body(network, **changes)))
    assert_problem(response, status, code)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "BODY_MALFORMED"),
        (b"", "BODY_MALFORMED"),
        (b"[]", "BODY_MALFORMED"),
        (b"\xff\xfe", "BODY_MALFORMED"),
        (b"[" * 100_000, "BODY_TOO_LARGE"),
    ],
)
def test_a_body_that_is_no_payment_is_refused(
    network: Network, customer: Client, unmoved: None, text: bytes, code: str
) -> None:
    """Bytes that are no object of the form are refused, however they are signed."""
    status = 413 if code == "BODY_TOO_LARGE" else 400
    assert_problem(send(network, signed_pay(network, customer, text)), status, code)


def test_unknown_fields_are_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A field that the API does not know is refused, with its place."""
    body = pay_body(network, urgent=True)
    problem = assert_problem(send(network, signed_pay(network, customer, body)), 400, "BODY_MALFORMED")
    assert problem["fields"]["path"]


def test_a_repeated_field_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A field that stands twice in an object is refused: two readers could take different ones."""
    text = json.dumps(pay_body(network), separators=(",", ":"))
    twice = text[:-1] + ',"debtor":"SH000000000000"}'
    assert_problem(send(network, signed_pay(network, customer, twice.encode())), 400, "FIELD_TWICE")


def test_an_oversized_body_is_refused(network: Network, customer: Client, unmoved: None) -> None:
    """A body beyond the limit is refused, with its length announced and without."""
    outgoing = signed_pay(network, customer, pay_body(network, reference="x" * 100_000))
    assert_problem(send(network, outgoing), 413, "BODY_TOO_LARGE")

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(outgoing.body), 10_000):
            yield outgoing.body[start : start + 10_000]

    response = network.http.post(network.urls["SH"] + PAYMENTS, headers=outgoing.headers, content=pieces())
    assert_problem(response, 413, "BODY_TOO_LARGE")


def test_a_truncated_body_is_no_payment(network: Network, customer: Client, unmoved: None) -> None:
    """A connection that ends before the announced length leaves nothing behind, and the node goes on."""
    outgoing = signed_pay(network, customer, pay_body(network))
    host, port = network.urls["SH"].removeprefix("http://").split(":")
    lines = [f"POST {PAYMENTS} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(outgoing.body)}"]
    lines += [f"{name}: {value}" for name, value in outgoing.headers.items()]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + outgoing.body[:-20])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
    with pytest.raises(ProblemError) as caught:
        customer.payment(json.loads(outgoing.body)["uetr"])
    assert caught.value.code == "PAYMENT_NOT_FOUND"
    assert customer.health()["status"] == "ok"


def test_the_media_type_must_be_json(network: Network, customer: Client, unmoved: None) -> None:
    """A body of another media type is not taken."""
    outgoing = signed_pay(network, customer, pay_body(network))
    assert_problem(send(network, outgoing, Content_Type="text/plain"), 415, "MEDIA_TYPE_UNSUPPORTED")


def test_huge_headers_are_refused(network: Network, customer: Client, unmoved: None) -> None:
    """Headers beyond the limit are refused before anything is read."""
    outgoing = signed_pay(network, customer, pay_body(network))
    assert_problem(send(network, outgoing, X_Filler="x" * 17_000), 431, "HEADERS_TOO_LARGE")


# --- what is answered -------------------------------------------------------------------------------------------------


def test_a_payment_moves_money_and_can_be_read(network: Network, customer: Client) -> None:
    """A payment inside a ledger is settled at once, changes both balances by the amount, and reads the same after."""
    wallets = network.wallets["SH"]
    before = int(customer.account(wallets["a"])["posted"])
    receipt = customer.pay(debtor=wallets["a"], creditor=wallets["b"], asset="CNY", amount=250)
    assert (receipt["state"], receipt["iso_status"]) == ("SETTLED", "ACSC")
    assert int(customer.account(wallets["a"])["posted"]) == before - 250
    view = customer.payment(receipt["uetr"])
    assert (view["state"], view["money"]) == ("SETTLED", {"asset": "CNY", "amount": "250"})
    assert view["settled_at"] == customer.block(receipt["block_height"])["timestamp"]
    assert view["record_position"] == receipt["position"] + 1
    assert "position" not in view
    assert next(customer.records(wallets["a"]))["uetr"] == receipt["uetr"]
    header = customer.block(receipt["block_height"])
    assert header["hash"] == receipt["block_hash"]


def test_a_refused_payment_says_why_and_can_be_read(network: Network, customer: Client, unmoved: None) -> None:
    """A payment beyond the balance is a 422 with its UETR and ISO reason, and reads as refused."""
    body = pay_body(network, money={"asset": "CNY", "amount": str(100 * FUNDS)})
    outgoing = signed_pay(network, customer, body)
    problem = assert_problem(send(network, outgoing), 422, "DEBIT_LIMIT")
    assert (problem["uetr"], problem["iso_reason"], problem["state"]) == (body["uetr"], "AM04", "REFUSED")
    view = customer.payment(body["uetr"])
    assert (view["state"], view["iso_status"], view["reason"]) == ("REFUSED", "RJCT", "DEBIT_LIMIT")
    again = send(network, outgoing)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (422, "true")


def test_one_key_names_one_message(network: Network, customer: Client) -> None:
    """An idempotency key used again for another body is a conflict and moves nothing (I8)."""
    assert send(network, signed_pay(network, customer, pay_body(network), key="one-key")).status_code == CREATED
    digest = network.digest("SH")
    other = signed_pay(network, customer, pay_body(network), key="one-key")
    assert_problem(send(network, other), 409, "IDEMPOTENCY_CONFLICT")
    assert network.digest("SH") == digest


def test_a_value_date_is_shown(network: Network, customer: Client) -> None:
    """A payment shows its value date, one without shows none, and one too far away is refused."""
    today = dt.datetime.fromtimestamp(network.runtime.now_ns() // 10**9, dt.UTC).date()
    plain, dated = pay_body(network), pay_body(network, value_date=str(today + dt.timedelta(days=30)))
    for body in (plain, dated):
        customer.pay(**pay_arguments(body), value_date=body.get("value_date"))
    shown = [customer.payment(body["uetr"])["value_date"] for body in (plain, dated)]
    assert shown == [None, dated["value_date"]]
    far = pay_body(network, value_date=str(today + dt.timedelta(days=368)))
    problem = assert_problem(send(network, signed_pay(network, customer, far)), 422, "VALUE_DATE_RANGE")
    assert (problem["iso_reason"], problem["fields"]) == ("DT01", {"item": 0})


def test_a_used_uetr_leads_to_the_first_payment(network: Network, customer: Client) -> None:
    """The refusal names message and record of the first use, reading gives that one, and a retry says the same."""
    body = pay_body(network, money={"asset": "CNY", "amount": "999999999"})
    first = assert_problem(send(network, signed_pay(network, customer, body)), 422, "DEBIT_LIMIT")
    other = body | {"money": {"asset": "CNY", "amount": "7"}}
    told = assert_problem(send(network, signed_pay(network, customer, other, key="again")), 422, "ID_EXISTS")
    view = customer.payment(body["uetr"])
    assert told["first_position"] == first["position"] < told["position"]
    assert told["field"] == "$.money.amount"
    assert told["first_record_position"] == view["record_position"] == first["position"] + 1
    assert (view["state"], view["reason"], view["money"]) == ("REFUSED", "DEBIT_LIMIT", body["money"])
    again = send(network, signed_pay(network, customer, other, key="again"))
    assert again.headers["idempotent-replayed"] == "true"
    assert {**again.json(), "request_id": ""} == {**told, "request_id": ""}


def test_an_issuance_used_twice_leads_to_the_first_one(network: Network) -> None:
    """An issuer that repeats an issuance's id under another key is told where the first one stands."""
    issuer, identifier = network.client("SH", network.keys.pboc), str(network.runtime.uuid4())
    first = issuer.issue(participant="bank-SH", asset="CNY", amount=5, identifier=identifier)
    with pytest.raises(ProblemError) as caught:
        issuer.issue(participant="bank-SH", asset="CNY", amount=5, identifier=identifier)
    assert caught.value.code == "ID_EXISTS"
    assert caught.value.problem["first_position"] == first["position"]


def test_what_a_key_was_used_for_can_be_read(network: Network, customer: Client) -> None:
    """The signer finds its payment by the idempotency key, and nobody else does."""
    body = pay_body(network)
    send(network, signed_pay(network, customer, body, key="found-by-key"))
    found = customer.payment_by_key("found-by-key")
    assert (found["topic"], found["uetr"]) == (PAYMENTS, body["uetr"])
    with pytest.raises(ProblemError) as caught:
        network.client("SH", key_of("shop-SH")).payment_by_key("found-by-key")
    assert (caught.value.status, caught.value.code) == (404, "MESSAGE_NOT_FOUND")


def test_a_batch_is_answered_with_the_place_of_its_results(network: Network, customer: Client) -> None:
    """A batch is a 202 whose Location leads to one result an item, refused ones with their reasons, page by page."""
    amounts = ("10", str(50 * FUNDS), "20")
    payments = [pay_body(network, money={"asset": "CNY", "amount": amount}) for amount in amounts]
    response = customer.post("/v1/batches", {"payments": payments})
    data = response.json()["data"]
    assert (response.status_code, response.headers["location"]) == (202, f"/v1/batches/{data['position']}/results")
    assert (data["item_count"], data["accepted_count"], data["refused_count"]) == (3, 2, 1)
    results = list(customer.batch_results(data["position"]))
    assert [entry["result"] for entry in results] == ["OK", "DEBIT_LIMIT", "OK"]
    assert [entry["uetr"] for entry in results] == [payment["uetr"] for payment in payments]
    with pytest.raises(ProblemError) as caught:
        list(network.client("SH", key_of("shop-SH")).batch_results(data["position"]))
    assert caught.value.code == "MESSAGE_NOT_FOUND"


def test_columns_move_money_inside_one_book(network: Network, customer: Client) -> None:
    """Transfers in columns are a 202 whose results have one entry an item, under the signer's own ids."""
    wallets = [parse_address(network.wallets["SH"][name])[1] for name in ("a", "b")]
    commands = transfers(3)
    commands["id_lo"] = [1, 2, 3]
    commands["amount"] = [10, 50 * FUNDS, 20]
    commands["debit"], commands["credit"] = wallets
    before = int(customer.account(network.wallets["SH"]["a"])["posted"])
    data = customer.transfer_columns(columns.encode(commands))
    assert (data["item_count"], data["accepted_count"], data["refused_count"]) == (3, 2, 1)
    results = list(customer.batch_results(data["position"]))
    assert [entry["result"] for entry in results] == ["OK", "DEBIT_LIMIT", "OK"]
    assert [entry["id"][-1] for entry in results] == ["1", "2", "3"]
    assert int(customer.account(network.wallets["SH"]["a"])["posted"]) == before - 30


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"HGT0", "application/octet-stream", 400, "COLUMNS_MALFORMED"),
        (b"{}", "application/json", 415, "MEDIA_TYPE_UNSUPPORTED"),
    ],
)
def test_columns_that_are_none_are_refused(
    network: Network, customer: Client, unmoved: None, *, body: bytes, media_type: str, status: int, code: str
) -> None:
    """Bytes that are no columns, and columns under another media type, are refused."""
    with pytest.raises(ProblemError) as caught:
        customer.post("/v1/transfers", body, content_type=media_type)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_nobody_moves_somebody_elses_money_in_columns(network: Network, customer: Client, unmoved: None) -> None:
    """One foreign debit refuses all columns, and names the item."""
    wallets = [parse_address(network.wallets["SH"][name])[1] for name in ("a", "b")]
    commands = transfers(2)
    commands["id_lo"], commands["amount"] = [11, 12], [1, 1]
    commands["debit"], commands["credit"] = wallets, wallets[::-1]
    with pytest.raises(ProblemError) as caught:
        customer.transfer_columns(columns.encode(commands))
    assert (caught.value.status, caught.value.code, caught.value.fields) == (403, "NOT_OWNER", {"item": 1})


def test_a_window_settles_over_http(network: Network, customer: Client) -> None:
    """A payment across the border is accepted, settled by a cycle, and then final at both nodes."""
    target = network.wallets["HK"]["other"]
    receipt = customer.pay(debtor=network.wallets["SH"]["a"], creditor=target, asset="CNY", amount=777)
    assert (receipt["state"], receipt["iso_status"]) == ("ACCEPTED", "ACSP")
    cycle = network.settle()
    assert (cycle["window"], cycle["state"]) == (receipt["window"], "SETTLED")
    assert customer.payment(receipt["uetr"])["state"] == "SETTLED"
    payee = network.customer("HK")
    view = payee.payment(receipt["uetr"])
    assert (view["direction"], view["state"], view["creditor_amount"]) == ("incoming", "SETTLED", "777")
    assert payee.account(target)["posted"] == "777"
    assert customer.window(receipt["window"])["state"] == "SETTLED"
    with pytest.raises(ProblemError) as caught:
        customer.cancel(receipt["uetr"])
    assert (caught.value.status, caught.value.code) == (409, "PAYMENT_DECIDED")


def test_a_payment_can_be_cancelled_while_its_window_is_open(network: Network, customer: Client) -> None:
    """A cancelled payment gives its money back."""
    wallet = network.wallets["SH"]["a"]
    before = customer.account(wallet)["available"]
    target = network.wallets["HK"]["other"]
    receipt = customer.pay(debtor=wallet, creditor=target, asset="CNY", amount=55)
    assert int(customer.account(wallet)["available"]) == int(before) - 55
    assert customer.cancel(receipt["uetr"])["state"] == "CANCELLED"
    assert customer.account(wallet)["available"] == before
    assert customer.payment(receipt["uetr"])["iso_status"] == "CANC"


def test_only_the_settlement_key_begins_a_cycle(network: Network, unmoved: None) -> None:
    """Nobody but the settlement operator's own key starts a cycle or reads its positions."""
    stranger = network.client("operator", key_of("stranger"))
    for ask in (stranger.start_cycle, lambda: stranger.cycle_positions(1)):
        with pytest.raises(ProblemError) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (401, "KEY_UNKNOWN")
