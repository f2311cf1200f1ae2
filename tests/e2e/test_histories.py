"""What was, over HTTP: balances as of a position or an instant, histories by time and kind, transfers by their id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gateway.client import Client, ProblemError
from ledger import columns
from ledger.accounts import parse_address
from ledger.errors import IntegrityFailure, Unavailable
from ledger.transfers import Flag, transfers
from tests.http_fixture import assert_problem, pay_arguments, pay_body
from tests.network_fixture import Network, key_of, running_network

COUNT = 150


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network in which a customer has made some payments and many book transfers."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        customer = running.customer("SH")
        for number in range(3):
            customer.pay(**pay_arguments(pay_body(running)))
            book(running, customer, first_id=100 * number + 1, count=COUNT // 3)
        yield running


@pytest.fixture
def customer(network: Network) -> Client:
    """The customer of the Shanghai side."""
    return network.customer("SH")


def book(network: Network, customer: Client, *, first_id: int, count: int, **fields: int) -> int:
    """Move 1 so many times from the customer's wallet to the shop's; gives the message's position."""
    wallets = network.wallets["SH"]
    commands = transfers(count)
    commands["id_lo"], commands["amount"] = np.arange(first_id, first_id + count), 1
    commands["debit"], commands["credit"] = (parse_address(wallets[name])[1] for name in ("a", "b"))
    for name, value in fields.items():
        commands[name] = value
    position: int = customer.transfer_columns(columns.encode(commands))["position"]
    return position


def uuid_of(number: int) -> str:
    """Write a small id."""
    return f"00000000-0000-0000-0000-{number:012x}"


def balance_of(view: dict[str, Any]) -> tuple[int, int, int]:
    """Give posted, pending out and pending in."""
    return int(view["posted"]), int(view["pending_out"]), int(view["pending_in"])


def effect(record: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Say what a record does to a wallet's posted, pending out and pending in."""
    amount, is_out = int(record["money"]["amount"]), record["side"] == "debit"
    posted = {"posted": 1, "post": 1}.get(record["kind"], 0) * amount
    pending = {"pending": 1, "post": -1, "void": -1, "expire": -1}.get(record["kind"], 0) * amount
    return np.array([-posted if is_out else posted, pending * is_out, pending * (not is_out)])


def test_old_balances_are_what_the_records_say(network: Network, customer: Client) -> None:
    """Going back record by record from the present balance gives the balance as of each position."""
    wallet = network.wallets["SH"]["a"]
    now = np.array(balance_of(customer.account(wallet)))
    records = list(customer.records(wallet))
    assert len(records) > COUNT
    for record in records:
        if int(record["position"]) % 7 == 0:
            then = customer.account(wallet, as_of=record["position"])
            assert balance_of(then) == tuple(now)
            assert then["timestamp"] == customer.block_of(record["position"])["timestamp"]
            assert balance_of(customer.account(wallet, as_of=record["position"] - 1)) == tuple(now - effect(record))
        now = now - effect(record)
    assert balance_of(customer.account(wallet, as_of=0)) == (0, 0, 0)


def test_an_instant_means_the_blocks_up_to_it(network: Network, customer: Client) -> None:
    """A block's own time gives the balance after that block, a nanosecond less the one before."""
    wallet = network.wallets["SH"]["a"]
    record = next(customer.records(wallet))
    block = customer.block_of(record["position"])
    end = block["first_position"] + block["message_count"] + block["record_count"]
    seconds, nanoseconds = block["timestamp"][:-1].split(".")
    then = customer.account(wallet, as_of=block["timestamp"])
    assert then == customer.account(wallet, as_of=end - 1)
    assert int(nanoseconds) > 0
    before = customer.account(wallet, as_of=f"{seconds}.{int(nanoseconds) - 1:09d}Z")
    assert before == customer.account(wallet, as_of=block["first_position"] - 1)
    assert customer.account(wallet, as_of="2100-01-01T00:00:00Z")["posted"] == customer.account(wallet)["posted"]


@pytest.mark.parametrize(
    ("as_of", "status", "code"),
    [
        ("2000-01-01T00:00:00Z", 404, "INSTANT_NOT_FOUND"),
        (10**9, 404, "POSITION_NOT_FOUND"),
        (9 * 10**18, 404, "POSITION_NOT_FOUND"),
        ("-1", 400, "PARAMETER_INVALID"),
        ("01", 400, "PARAMETER_INVALID"),
        ("yesterday", 400, "PARAMETER_INVALID"),
        ("2026-02-30T00:00:00Z", 400, "PARAMETER_INVALID"),
        ("2026-01-01T00:00:00", 400, "PARAMETER_INVALID"),
        ("2026-01-01T00:00:00.0000000001Z", 400, "PARAMETER_INVALID"),
        ("0" * 65, 400, "PARAMETER_INVALID"),
    ],
)
def test_what_is_no_moment_of_the_journal_is_refused(
    network: Network, customer: Client, as_of: int | str, status: int, code: str
) -> None:
    """Positions that are not taken, instants before the first block, and whatever is neither, are refused."""
    with pytest.raises(ProblemError) as caught:
        customer.account(network.wallets["SH"]["a"], as_of=as_of)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_old_balances_are_for_those_who_see_the_present_one(network: Network, customer: Client) -> None:
    """A stranger reads neither old balances nor histories."""
    wallet, shop = network.wallets["SH"]["a"], network.client("SH", key_of("shop-SH"))
    for ask in (lambda: shop.account(wallet, as_of=0), lambda: list(shop.history(wallet))):
        with pytest.raises(ProblemError) as caught:
            ask()
        assert caught.value.code == "READ_FORBIDDEN"


def test_a_history_between_two_instants(network: Network, customer: Client) -> None:
    """From and to are times of blocks, both included; each pair gives exactly the records in between."""
    wallet = network.wallets["SH"]["a"]
    records = list(customer.records(wallet))
    times = {record["position"]: customer.block_of(record["position"])["timestamp"] for record in records[::25]}
    moments = ["2000-01-01T00:00:00Z", *sorted(set(times.values())), "2100-01-01T00:00:00Z"]
    every = {record["position"]: customer.block_of(record["position"])["timestamp"] for record in records}
    for since in moments:
        for to in moments:
            expected = [record for record in records if since <= every[record["position"]] <= to]
            assert list(customer.history(wallet, since=since, to=to, limit=40)) == expected
    assert list(customer.history(wallet)) == records


def test_a_history_by_purpose_and_other_side(network: Network, customer: Client) -> None:
    """Only the records with the purpose, or with the account on the other side, are given."""
    wallet, other = network.wallets["SH"]["a"], network.wallets["SH"]["b"]
    records = list(customer.records(wallet))
    for chosen in ({"code": "PAYMENT"}, {"code": "BOOK"}, {"counterparty": other}, {"code": "NET"}):
        expected = [
            record
            for record in records
            if chosen.get("code") in (None, record["purpose"]) and chosen.get("counterparty") in (None, record["other"])
        ]
        assert list(customer.history(wallet, **chosen, limit=10)) == expected
    assert len(list(customer.history(wallet, counterparty=other, code="BOOK"))) >= COUNT


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        ({"code": "RENT"}, "PARAMETER_INVALID"),
        ({"since": "today"}, "PARAMETER_INVALID"),
        ({"to": "1"}, "PARAMETER_INVALID"),
        ({"counterparty": "SH00"}, "ADDRESS_INVALID"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    network: Network, customer: Client, chosen: dict[str, Any], code: str
) -> None:
    """Purposes, instants and addresses that are none are refused."""
    with pytest.raises(ProblemError) as caught:
        list(customer.history(network.wallets["SH"]["a"], **chosen))
    assert caught.value.code == code


def test_a_counterparty_of_the_other_ledger_is_not_found(network: Network, customer: Client) -> None:
    """Accounts of the other ledger are on no side of a record here."""
    with pytest.raises(ProblemError) as caught:
        list(customer.history(network.wallets["SH"]["a"], counterparty=network.wallets["HK"]["a"]))
    assert caught.value.code == "ACCOUNT_NOT_FOUND"


def test_a_transfer_is_read_by_its_id(network: Network, customer: Client) -> None:
    """Right after the answer an id gives its record, its place and what became of it."""
    wallets = network.wallets["SH"]
    position = book(network, customer, first_id=9_001, count=2, flags=int(Flag.PENDING))
    found = customer.transfer(uuid_of(9_002))
    assert found == {
        "id": uuid_of(9_002),
        "result": "OK",
        "status": "HOLD_OPEN",
        "position": position + 2,
        "timestamp": customer.block_of(position)["timestamp"],
        "message": position,
        "item": 1,
        "debit": wallets["a"],
        "credit": wallets["b"],
        "money": {"asset": "CNY", "amount": "1"},
        "kind": "pending",
        "purpose": "BOOK",
        "related": None,
        "value_date": None,
    }
    ended = book(network, customer, first_id=9_003, count=1, flags=int(Flag.VOID), related_lo=9_002, amount=0)
    assert customer.transfer(uuid_of(9_002)) == {**found, "status": "HOLD_VOIDED"}
    end = customer.transfer(uuid_of(9_003))
    assert (end["status"], end["related"], end["position"]) == ("OTHER", uuid_of(9_002), ended + 1)


def test_a_refused_transfer_is_read_by_its_id(network: Network, customer: Client) -> None:
    """A refusal gives its result, also where an account cannot be."""
    book(network, customer, first_id=9_101, count=1, credit=0)
    found = customer.transfer(uuid_of(9_101))
    assert (found["result"], found["status"], found["credit"]) == ("CREDIT_NOT_FOUND", "REFUSED", None)
    assert found["money"] == {"asset": "CNY", "amount": "1"}


def test_ids_are_for_their_party(network: Network, customer: Client) -> None:
    """An id is its party's: others find nothing of that name, and only an auditor learns which parties exist."""
    auditor, shop = network.client("SH", network.keys.auditor), network.client("SH", key_of("shop-SH"))
    assert auditor.transfer(uuid_of(1), party="customer-SH") == customer.transfer(uuid_of(1))
    assert customer.transfer(uuid_of(1), party="customer-SH") == customer.transfer(uuid_of(1))
    for ask, code in (
        (lambda: shop.transfer(uuid_of(1)), "TRANSFER_NOT_FOUND"),
        (lambda: shop.transfer(uuid_of(1), party="customer-SH"), "READ_FORBIDDEN"),
        (lambda: shop.transfer(uuid_of(1), party="nobody"), "READ_FORBIDDEN"),
        (lambda: auditor.transfer(uuid_of(1), party="nobody"), "PARTY_NOT_FOUND"),
        (lambda: customer.transfer("1"), "PARAMETER_INVALID"),
        (lambda: customer.transfer(uuid_of(1).replace("-", "")), "PARAMETER_INVALID"),
    ):
        with pytest.raises(ProblemError) as caught:
            ask()
        assert caught.value.code == code


def test_a_block_is_found_by_any_of_its_positions(network: Network, customer: Client) -> None:
    """Each position of a block gives its header; one beyond the end, or none, gives a problem."""
    block = customer.block(3)
    count = block["message_count"] + block["record_count"]
    for position in range(block["first_position"], block["first_position"] + count):
        assert customer.block_of(position) == block
    address = network.urls["SH"] + "/v1/blocks"
    assert_problem(network.http.get(f"{address}?position=1000000"), 404, "POSITION_NOT_FOUND")
    for query in ("", "?position=-1", "?position=x", "?position=1&position=1"):
        assert_problem(network.http.get(address + query), 400, "PARAMETER_INVALID")


@pytest.mark.parametrize("name", ["counters_as_of", "last_as_of"])
def test_points_that_do_not_fit_stop_nobody(
    network: Network, customer: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where points do not fit the records, old balances are refused until the next start, and the node works on."""

    def fail(*_: object, **__: object) -> None:
        raise IntegrityFailure("POINTS_INCOMPLETE", "They do not fit.")

    refusal = Unavailable("POINTS_MISSING", "They come back.", retry_after_s=60)
    wallet, points = network.wallets["SH"]["a"], network.nodes["SH"].points
    monkeypatch.setattr(points, "distrust", lambda: refusal)
    monkeypatch.setattr(f"gateway.routes.histories.{name}", fail)
    with pytest.raises(ProblemError) as caught:
        _ = customer.account(wallet, as_of=30), list(customer.history(wallet, to="2100-01-01T00:00:00Z"))
    assert (caught.value.status, caught.value.code) == (503, "POINTS_MISSING")
    assert customer.health()["status"] == "ok"
