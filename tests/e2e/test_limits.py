"""Limits over HTTP and on the command line: closed accounts, caps, classes of wallets, and the test clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.client import Client, ProblemError
from gateway.names import add_party_key
from ledger import columns
from ledger.accounts import parse_address
from ledger.sealed import verify_balance
from ledger.transfers import Flag, transfers
from settlement import rules
from tests.http_fixture import pay_arguments, pay_body
from tests.network_fixture import READY_S_MAX, Network, key_of, running_network

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


# --- classes of wallets -----------------------------------------------------------------------------------------------


def rules_of(network: Network, name: str, **limits: str) -> dict[str, object]:
    """Give rules for one class that hold from today on."""
    today = network.client("SH", network.keys.auditor).account(network.wallets["SH"]["a"])["limits"]["business_day"]
    entry = {"class": name, **dict.fromkeys(("balance", "payment", "day", "year")), **limits}
    return {"rules": f"rules-{name.lower()}", "valid_from": today, "asset": "CNY", "classes": [entry]}


def wallet_of(network: Network, bank: Client, name: str, amount: int = 10_000, **limits: str) -> str:
    """Bring rules for a class, and open a wallet of the customer in it with some money."""
    network.client("SH", network.keys.registrar_sh).bring_rules(rules_of(network, name, **limits))
    opened = bank.open_accounts([("customer-SH", "CNY")], klass=name)["accounts"][0]
    assert opened["class"] == name
    position = next(one for one in bank.accounts() if (one["code"], one["asset"]) == ("POSITION", "CNY"))
    bank.pay(debtor=position["address"], creditor=opened["address"], asset="CNY", amount=amount)
    return str(opened["address"])


@pytest.mark.parametrize(
    ("limits", "code", "iso"),
    [
        ({"payment": "99"}, "ITEM_LIMIT", "AM02"),
        ({"day": "99"}, "DAY_LIMIT", "AM14"),
        ({"year": "99"}, "YEAR_LIMIT", "AM14"),
    ],
)
def test_a_payment_beyond_a_class_is_a_problem(
    network: Network, bank: Client, customer: Client, *, limits: dict[str, str], code: str, iso: str
) -> None:
    """It is a 422 in plain words with its ISO reason, journaled, and the reason is read again; one below it passes."""
    wallet = wallet_of(network, bank, code.replace("_", "-"), **limits)
    payment = pay_arguments(pay_body(network, debtor=wallet))
    problem = problem_of(customer.pay, **payment)
    assert (problem.status, problem.code, problem.iso_reason) == (422, code, iso)
    assert problem.problem["title"].endswith(".")
    assert customer.payment(payment["uetr"])["reason"] == code
    assert customer.pay(**payment | {"uetr": None, "amount": 99})["state"] == "SETTLED"


def test_a_wallet_shows_what_is_left(network: Network, bank: Client, customer: Client) -> None:
    """Each limit is shown with what is used and left; a payee that may hold no more refuses."""
    wallet = wallet_of(network, bank, "SHOWN", balance="10000", payment="500", day="700")
    customer.pay(**pay_arguments(pay_body(network, debtor=wallet)) | {"amount": 450})
    found = customer.account(wallet)
    limits = found["limits"]
    assert (found["class"], limits["payment"]) == ("SHOWN", {"maximum": "500"})
    assert limits["balance"] == {"maximum": "10000", "used": "9550", "left": "450"}
    assert limits["day"] == {"maximum": "700", "used": "450", "left": "250"}
    assert limits["year"] == {"maximum": None, "used": "450", "left": None}

    full = pay_arguments(pay_body(network, creditor=wallet)) | {"amount": 451}
    problem = problem_of(customer.pay, **full)
    assert (problem.status, problem.code, problem.iso_reason) == (422, "CREDIT_MAXIMUM", "AM13")
    bank.set_classes({wallet: None})
    assert customer.account(wallet)["class"] is None
    assert customer.pay(**full | {"uetr": None})["state"] == "SETTLED"


def test_the_balance_of_a_wallet_with_a_class_is_proved(network: Network, bank: Client, customer: Client) -> None:
    """Sealed balances know accounts with maximums and meters."""
    wallet = wallet_of(network, bank, "SEALED", balance="20000")
    assert network.settle()["state"] == "SETTLED"
    found = verify_balance(customer.balance_proof(wallet), network.nodes["SH"].genesis)
    assert found.account.balance == 10_000


def test_everybody_reads_the_rules(network: Network, bank: Client) -> None:
    """Versions are listed with their dates and whether they hold; only the registrar brings one."""
    registrar = network.client("SH", network.keys.registrar_sh)
    made = registrar.bring_rules(rules.body("ecny-wallets", "2099-12-31"))
    assert made["classes"] == ["II", "IV"]
    listed = [version for version in network.client("SH", None).rules() if version["rules"] == "ecny-wallets"]
    assert [(version["state"], version["valid_from"]) for version in listed] == [("WAITING", "2099-12-31")]
    assert listed[0]["position"] == made["position"]
    assert listed[0]["classes"][1] == {
        "class": "IV", "balance": "1000000", "payment": "200000", "day": "500000", "year": "5000000"
    }  # fmt: skip
    page = network.http.get(network.urls["SH"] + "/v1/rules?limit=1").json()
    assert len(page["data"]) == 1
    assert problem_of(bank.bring_rules, rules.body("ecny-wallets", "2099-12-31")).code == "ROLE_MISSING"
    early = problem_of(registrar.bring_rules, rules.body("ecny-wallets", "2001-01-01"))
    assert (early.status, early.code) == (422, "RULES_PAST")


def test_the_command_line_brings_rules_and_gives_classes(
    network: Network, bank: Client, tmp_path: Path, capsys: Output
) -> None:
    """`hugang rules` shows and brings versions, `hugang account --class` gives a wallet one of their classes."""
    folder = ["--dir", str(network.folder.root)]
    body = tmp_path / "rules.json"
    body.write_text(json.dumps(rules_of(network, "CLI", balance="100", day="5")))
    assert run(["rules", "sh", "--bring", str(body), *folder]) == ExitCode.OK
    assert "rules-cli" in capsys.readouterr().out
    assert run(["rules", "hk", "--bring", "hong-kong-wallets", "--valid-from", "2099-12-31", "--json", *folder]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["state"] == "WAITING"

    fresh = bank.open_accounts([("shop-SH", "CNY")])["accounts"][0]["address"]
    assert run(["account", fresh, "--class", "CLI", *folder]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "class CLI  left: balance 1.00 of 1.00, day 0.05 of 0.05, year unlimited  at once unlimited" in shown
    assert run(["account", fresh, "--class", "none", *folder]) == ExitCode.OK
    assert "class" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--bring", "ecny-wallets"], ["--valid-from", "2099-12-31"]])
def test_a_day_stands_with_the_packages_rules_alone(network: Network, arguments: list[str], capsys: Output) -> None:
    """A file says its day itself, and showing takes none."""
    assert run(["rules", "sh", *arguments, "--dir", str(network.folder.root)]) == ExitCode.USAGE
    assert "--valid-from" in capsys.readouterr().err


def test_a_file_that_holds_no_rules_is_refused(network: Network, tmp_path: Path, capsys: Output) -> None:
    """A broken file, and one that is not there, are one line and no traceback."""
    (tmp_path / "broken").write_text("[1]")
    for name, code in (("broken", "RULES_MALFORMED"), ("missing", "FILE_UNUSABLE")):
        place = str(tmp_path / name)
        assert run(["rules", "sh", "--bring", place, "--dir", str(network.folder.root)]) == ExitCode.REFUSED
        assert code in capsys.readouterr().err


# --- the test clock ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network with test clocks."""
    with running_network(tmp_path_factory.mktemp("timed") / "net", test_clock=True) as running:
        yield running


def test_a_new_day_begins_by_moving_the_clock(timed: Network, capsys: Output) -> None:
    """The limit of a day is used up, the command line moves the clock to the next one, and the same payment passes."""
    bank, customer = timed.client("SH", key_of("bank-SH")), timed.customer("SH")
    wallet = wallet_of(timed, bank, "TIMED", day="500", year="900")
    payment = pay_arguments(pay_body(timed, debtor=wallet)) | {"amount": 450, "uetr": None}
    customer.pay(**payment)
    assert problem_of(customer.pay, **payment).code == "DAY_LIMIT"

    folder = ["--dir", str(timed.folder.root)]
    moved = {ledger: timed.client(ledger, None).health()["clock_offset_s"] for ledger in ("SH", "HK")}
    assert run(["clock", "--advance", "1d", *folder]) == ExitCode.OK
    assert f"SH  {moved['SH'] + 86_400:,} seconds ahead" in capsys.readouterr().out
    assert customer.pay(**payment)["state"] == "SETTLED"
    shown = customer.account(wallet)["limits"]
    assert shown["day"]["used"] == "450"
    assert shown["year"]["left"] in ("0", "450")  # the day that has begun may be a new year's
    assert problem_of(customer.pay, **payment).code == "DAY_LIMIT"
    assert run(["clock", "--advance", "366d", "--ledger", "sh", "--json", *folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"SH": moved["SH"] + 367 * 86_400}
    assert customer.pay(**payment)["state"] == "SETTLED"
    assert run(["clock", "--json", *folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"SH": moved["SH"] + 367 * 86_400, "HK": moved["HK"] + 86_400}


def test_a_hold_expires_by_moving_the_clock(timed: Network) -> None:
    """A hold of an hour holds its money until the clock passes its deadline, on an idle node too."""
    customer, wallets = timed.customer("SH"), timed.wallets["SH"]
    before = int(customer.account(wallets["a"])["available"])
    fresh = timed.client("SH", key_of("bank-SH")).open_accounts([("customer-SH", "CNY")])["accounts"][0]["address"]
    hold = transfers(1)
    hold["id_lo"], hold["amount"], hold["flags"], hold["timeout_s"] = 77, 700, Flag.PENDING, 3_600
    hold["debit"], hold["credit"] = parse_address(wallets["a"])[1], parse_address(fresh)[1]
    assert customer.transfer_columns(columns.encode(hold))["accepted_count"] == 1
    assert int(customer.account(wallets["a"])["available"]) == before - 700

    timed.client("SH", timed.keys.registrar_sh).advance_clock(3_601)
    deadline = time.monotonic() + READY_S_MAX
    while int(customer.account(wallets["a"])["available"]) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert next(customer.records(wallets["a"]))["kind"] == "expire"
    assert int(customer.account(wallets["a"])["available"]) == before


def test_a_moved_ledger_settles_is_verified_and_opens_again(timed: Network, tmp_path: Path, capsys: Output) -> None:
    """Moves are part of the journal: the window settles, an auditor replays both exports, and a node starts anew."""
    registrar = timed.client("SH", timed.keys.registrar_sh)
    registrar.advance_clock(86_400)
    timed.customer("SH").pay(**pay_arguments(pay_body(timed, creditor=timed.wallets["HK"]["other"])))
    assert timed.settle()["state"] == "SETTLED"
    folder = ["--dir", str(timed.folder.root)]
    assert run(["export", str(tmp_path / "ex"), *folder]) == ExitCode.OK
    assert run(["verify", str(tmp_path / "ex")]) == ExitCode.OK, capsys.readouterr()

    offset_s = registrar.health()["clock_offset_s"]
    timed.servers["SH"].stop()
    timed.start_node("SH")
    assert registrar.health()["clock_offset_s"] == offset_s > 0
    assert timed.customer("SH").pay(**pay_arguments(pay_body(timed)))["state"] == "SETTLED"


def test_a_real_network_keeps_real_time(network: Network, capsys: Output) -> None:
    """Without a test clock in the genesis a move is refused, and a span that is none is not understood."""
    problem = problem_of(network.client("SH", network.keys.registrar_sh).advance_clock, 1)
    assert (problem.status, problem.code) == (403, "CLOCK_REAL")
    folder = ["--dir", str(network.folder.root)]
    assert run(["clock", "--advance", "1d", *folder]) == ExitCode.REFUSED
    assert "CLOCK_REAL" in capsys.readouterr().err
    assert run(["clock", "--advance", "1.5d", *folder]) == ExitCode.USAGE
