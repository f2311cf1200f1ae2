"""Limits over HTTP and on the command line: closed accounts, caps, classes of wallets, and the test clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.client import Client, ProblemError
from gateway.names import add_party_key
from tests.http_fixture import pay_arguments, pay_body
from tests.network_fixture import Network, key_of, running_network

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file; the keys of its banks lie in its folder."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        for ledger in ("SH", "HK"):
            add_party_key(running.folder.root, f"bank-{ledger}", key_of(f"bank-{ledger}"))
        yield running


@pytest.fixture
def bank(network: Network) -> Client:
    """The bank of the Shanghai side."""
    return network.client("SH", key_of("bank-SH"))


@pytest.fixture
def customer(network: Network) -> Client:
    """The customer of the Shanghai side."""
    return network.customer("SH")


def problem_of(call: object, *arguments: object, **named: object) -> ProblemError:
    """Give the problem that a call ends with."""
    if not callable(call):
        raise TypeError("nothing to call")
    with pytest.raises(ProblemError) as caught:
        call(*arguments, **named)
    return caught.value


# --- closing ----------------------------------------------------------------------------------------------------------


def test_a_closed_account_says_so_to_who_pays_it(network: Network, bank: Client, customer: Client) -> None:
    """It is shown as closed, a payment to it is a 422 with its ISO reason, and it opens again."""
    fresh = bank.open_accounts([("shop-SH", "CNY")])["accounts"][0]["address"]
    assert bank.close_accounts([fresh])["accounts"] == [fresh]
    assert bank.account(fresh)["is_closed"] is True

    problem = problem_of(customer.pay, **pay_arguments(pay_body(network, creditor=fresh)))
    assert (problem.status, problem.code, problem.iso_reason) == (422, "PAYEE_CLOSED", "AC07")
    assert bank.reopen_accounts([fresh])["accounts"] == [fresh]
    assert customer.pay(**pay_arguments(pay_body(network, creditor=fresh)))["state"] == "SETTLED"
    full = problem_of(bank.close_accounts, [fresh])
    assert (full.status, full.code) == (422, "ACCOUNT_NOT_EMPTY")


def test_the_command_line_closes_and_reopens(network: Network, bank: Client, capsys: Output) -> None:
    """`hugang account --close` and `--reopen` sign with the key of the participant on whose book the account is."""
    fresh = bank.open_accounts([("shop-SH", "CNY")])["accounts"][0]["address"]
    folder = ["--dir", str(network.folder.root)]

    assert run(["account", fresh, "--close", *folder]) == ExitCode.OK
    assert "closed" in capsys.readouterr().out
    assert run(["account", fresh, "--close", *folder]) == ExitCode.REFUSED
    assert "ACCOUNT_CLOSED" in capsys.readouterr().err
    assert run(["account", fresh, "--reopen", *folder]) == ExitCode.OK
    assert "closed" not in capsys.readouterr().out
    assert run(["account", "--close", *folder]) == ExitCode.USAGE


# --- net debit caps ---------------------------------------------------------------------------------------------------


def test_a_cap_is_shown_and_refuses(network: Network, bank: Client, customer: Client) -> None:
    """A payment across the border over the cap is a 422 with its ISO reason; lifting the cap lets it pass."""
    registrar = network.client("SH", network.keys.registrar_sh)
    made = registrar.set_caps([("bank-SH", "CNY", 10), ("bank-SH", "HKD", None)])
    assert made["caps"][0] == {"participant": "bank-SH", "asset": "CNY", "maximum": "10"}
    shown = {entry["code"]: entry["caps"] for entry in bank.participants()}
    assert shown["bank-SH"] == [{"asset": "CNY", "maximum": "10"}]

    abroad = pay_arguments(pay_body(network, creditor=network.wallets["HK"]["other"]))
    problem = problem_of(customer.pay, **abroad)
    assert (problem.status, problem.code, problem.iso_reason) == (422, "CREDIT_MAXIMUM", "AM13")
    assert customer.payment(abroad["uetr"])["reason"] == "CREDIT_MAXIMUM"
    registrar.set_caps([("bank-SH", "CNY", None)])
    assert customer.pay(**abroad | {"uetr": None})["state"] == "ACCEPTED"
    assert problem_of(bank.set_caps, [("bank-SH", "CNY", None)]).code == "ROLE_MISSING"


def test_the_command_line_caps(network: Network, bank: Client, capsys: Output) -> None:
    """`hugang cap` sets, closes down and lifts a cap with the registrar's key."""
    folder = ["--dir", str(network.folder.root)]
    for amount, shown in (("88.50", "8850"), ("0", "0"), ("none", None)):
        assert run(["cap", "sh", "bank-SH", "CNY", amount, *folder]) == ExitCode.OK
        assert ("no cap" if shown is None else "at most") in capsys.readouterr().out
        caps = next(entry["caps"] for entry in bank.participants() if entry["code"] == "bank-SH")
        assert caps == ([] if shown is None else [{"asset": "CNY", "maximum": shown}])
    assert run(["cap", "sh", "nobody", "CNY", "1", "--json", *folder]) == ExitCode.REFUSED
    assert "PARTICIPANT_NOT_FOUND" in capsys.readouterr().err
    assert run(["cap", "sh", "bank-SH", "HKD", "1", "--json", *folder]) == ExitCode.OK
    assert '"maximum": "100"' in capsys.readouterr().out
