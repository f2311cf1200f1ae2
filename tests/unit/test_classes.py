"""Dated rules and the classes of wallets: who may, what holds from when on, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.errors import Conflict, Forbidden, LedgerError, MalformedInput, NotFound, Rejected
from ledger.meters import business_day, business_day_start_ns
from ledger.transfers import Result
from settlement import classes, rules, views
from tests.settlement_fixture import CREATED_NS, SECOND, Node, World

RULES, CLASSES = "/v1/rules", "/v1/accounts/classes"
TODAY, TOMORROW, LATER, NEW_YEAR = "2025-06-18", "2025-06-19", "2025-06-21", "2026-01-01"
DAY = business_day(CREATED_NS)


@pytest.fixture
def world() -> World:
    """Two ledgers with money of both kinds in Hong Kong."""
    return World.everywhere()


def klass(name: str = "IV", balance: int | None = None, **limits: int) -> dict[str, Any]:
    """Give one class of a body; what is not named is not limited."""
    values = {"balance": balance, **dict.fromkeys(("payment", "day", "year")), **limits}
    return {"class": name, **{key: None if value is None else str(value) for key, value in values.items()}}


def version(*entries: dict[str, Any], valid_from: str = TODAY, name: str = "wallets", asset: str = "CNY") -> Any:
    """Give the body of one version."""
    return {"rules": name, "valid_from": valid_from, "asset": asset, "classes": list(entries)}


def bring(node: Node, *entries: dict[str, Any], **more: str) -> None:
    """Let the registrar of a ledger bring a version."""
    node.post(f"REGISTRAR-{node.ledger}", RULES, version(*entries, **more))


def give(world: World, name: str | None = "IV", customer: str = "ann", bank: str = "ALPHA") -> None:
    """Let a bank in Shanghai give its customer's wallet a class."""
    body = {"accounts": [{"account": world.address(f"SH/WALLET.{customer}"), "class": name}]}
    world.sh.post(bank, CLASSES, body)


def pay(world: World, amount: int, to: str = "SH/WALLET.ben", at_ns: int | None = None) -> Result:
    """Let ann pay; gives the result."""
    records = world.sh.pay("ann", world.payment("SH/WALLET.ann", to, amount), at_ns=at_ns)
    return Result(int(records["result"][0]))


def limits(world: World, customer: str = "ann") -> views.LimitsView:
    """Show the limits of a wallet in Shanghai."""
    return views.account_view(world.sh.machine, world.sh.book, world.sh.account(f"WALLET.{customer}")).limits


def on_day(days: int) -> int:
    """Give the first instant of the business day so many days after the first one."""
    return business_day_start_ns(DAY + days)


# --- what a class refuses ---------------------------------------------------------------------------------------------


def test_a_payment_has_a_top(world: World) -> None:
    """What goes out at once is bounded, inside the ledger and across the border."""
    bring(world.sh, klass(payment=2_000_00))
    give(world)

    for to in ("SH/WALLET.ben", "SH/WALLET.cai", "HK/WALLET.dan"):
        assert (pay(world, 2_000_01, to), pay(world, 2_000_00, to)) == (Result.ITEM_LIMIT, Result.OK)


def test_a_day_has_a_top_and_ends(world: World) -> None:
    """What left a wallet on a business day counts, what is held for a window too; the next day begins anew."""
    bring(world.sh, klass(day=5_000_00))
    give(world)
    assert (pay(world, 3_000_00), pay(world, 2_000_00, "HK/WALLET.dan")) == (Result.OK, Result.OK)
    assert pay(world, 1) is Result.DAY_LIMIT
    assert (limits(world).day_used, limits(world).day) == (5_000_00, 5_000_00)

    assert pay(world, 5_000_00, at_ns=on_day(1)) is Result.OK
    assert pay(world, 1) is Result.DAY_LIMIT


def test_a_year_has_a_top_and_ends(world: World) -> None:
    """What left a wallet in a calendar year counts over its days."""
    bring(world.sh, klass(year=5_000_00))
    give(world)
    assert (pay(world, 3_000_00), pay(world, 2_000_00, at_ns=on_day(1))) == (Result.OK, Result.OK)
    assert pay(world, 1) is Result.YEAR_LIMIT

    assert pay(world, 5_000_00, at_ns=on_day(200)) is Result.OK
    assert limits(world).year_used == 5_000_00


def test_a_wallet_holds_only_so_much(world: World) -> None:
    """A payee's wallet that would hold too much takes nothing, from its own ledger and from the other."""
    bring(world.sh, klass(balance=100_010_00))
    give(world, customer="ben")

    assert (pay(world, 10_01), pay(world, 10_00)) == (Result.CREDIT_MAXIMUM, Result.OK)
    across = world.payment("HK/WALLET.dan", "SH/WALLET.ben", 1)
    world.hk.pay("dan", across)
    assert world.settle()
    assert world.hk.view("dan", across).reason is Result.CREDIT_MAXIMUM
    world.check()


def test_what_comes_back_does_not_count(world: World) -> None:
    """A cancelled payment, and one that the other ledger rejects, give the day and the year back."""
    bring(world.sh, klass(day=5_000_00, year=5_000_00))
    give(world)
    cancelled = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_000_00)
    world.sh.pay("ann", cancelled)
    world.sh.post("ann", "/v1/cancellations", {"uetr": cancelled["uetr"]})
    assert (limits(world).day_used, limits(world).year_used) == (0, 0)

    astray = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_000_00)
    world.sh.pay("ann", astray | {"creditor": world.address("HK/CLEARING.GAMMA")})
    assert pay(world, 1) is Result.DAY_LIMIT
    assert world.settle()
    assert pay(world, 5_000_00) is Result.OK
    world.check()


def test_a_fee_counts(world: World) -> None:
    """What a payment costs leaves the wallet like what it pays."""
    bring(world.sh, klass(day=5_000_00))
    give(world)
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_000_00, fee={"asset": "CNY", "amount": "1"})

    assert world.sh.refused("ann", payment) == [Result.DAY_LIMIT]


# --- which class a wallet has -----------------------------------------------------------------------------------------


def test_a_wallet_is_opened_in_a_class(world: World) -> None:
    """The class counts from the first payment on, and beside it others have none."""
    bring(world.sh, klass("II", payment=7), klass("IV", balance=5))
    first = world.sh.machine.state.account_count + 1
    accounts = [{"owner": "ben", "asset": "CNY", "class": name} for name in ("IV", "II")]
    world.sh.post("ALPHA", "/v1/accounts", {"accounts": [*accounts, {"owner": "ben", "asset": "CNY"}]})

    shown = [views.account_view(world.sh.machine, world.sh.book, first + index).limits for index in range(3)]
    assert [view.klass for view in shown] == ["IV", "II", None]
    assert [(view.balance, view.payment) for view in shown] == [(5, None), (None, 7), (None, None)]


def test_a_class_is_changed_and_taken_away(world: World) -> None:
    """What has been counted stays with the wallet; without a class nothing is refused."""
    bring(world.sh, klass("II", day=9), klass("IV", day=5))
    give(world, "IV")
    assert (pay(world, 5), pay(world, 1)) == (Result.OK, Result.DAY_LIMIT)
    give(world, "II")
    assert (pay(world, 5), pay(world, 4)) == (Result.DAY_LIMIT, Result.OK)

    give(world, None)
    assert pay(world, 1_000_00) is Result.OK
    assert limits(world).klass is None


def test_a_class_may_find_a_wallet_too_full(world: World) -> None:
    """A wallet above its new maximum pays out freely and takes nothing until there is room."""
    bring(world.sh, klass(balance=99_999_00))
    give(world, customer="ben")
    out = world.payment("SH/WALLET.ben", "SH/WALLET.ann", 2_00)

    assert pay(world, 1) is Result.CREDIT_MAXIMUM
    assert world.sh.pay("ben", out)["result"].tolist() == [Result.OK]
    assert pay(world, 1_00) is Result.OK


@pytest.mark.parametrize(
    ("who", "account", "name", "kind", "code"),
    [
        ("ann", "WALLET.ann", "IV", Forbidden, "ROLE_MISSING"),
        ("BETA", "WALLET.ann", "IV", Forbidden, "NOT_ON_BOOK"),
        ("ALPHA", "POSITION.ALPHA", "IV", Forbidden, "NOT_ON_BOOK"),
        ("ALPHA", "WALLET.ann", "II", NotFound, "CLASS_NOT_FOUND"),
        ("ALPHA", "WALLET.ann", "LATER", NotFound, "CLASS_NOT_FOUND"),
        ("ALPHA", "WALLET.ann", "NEVER", NotFound, "CLASS_NOT_FOUND"),
        ("ALPHA", "WALLET.ann", "HKD", NotFound, "CLASS_NOT_FOUND"),
    ],
)
def test_a_class_is_given_by_the_operator_and_in_force(
    world: World, who: str, account: str, name: str, *, kind: type[LedgerError], code: str
) -> None:
    """Nobody else gives one, only wallets have one, and only one of their asset for which limits hold today."""
    bring(world.sh, klass("IV"))
    bring(world.sh, klass("IV"), klass("LATER"), valid_from=TOMORROW)
    bring(world.sh, klass("NEVER"), valid_from=TOMORROW, name="others")
    bring(world.sh, klass("HKD"), asset="HKD", name="hkd")
    body = {"accounts": [{"account": world.address(f"SH/{account}"), "class": name}]}

    error = world.sh.refusal(who, CLASSES, body)
    assert (type(error), error.code) == (kind, code)


def test_a_closed_wallet_keeps_its_class(world: World) -> None:
    """The class of a closed wallet is not changed, and it has it again when it is opened again."""
    bring(world.sh, klass(payment=5))
    give(world, customer="ben")
    give(world, None, customer="ben")
    world.sh.pay("ben", world.payment("SH/WALLET.ben", "SH/WALLET.ann", 100_000_00))
    give(world, customer="ben")
    ben = world.address("SH/WALLET.ben")
    world.sh.post("ALPHA", "/v1/accounts/closings", {"accounts": [ben]})

    body = {"accounts": [{"account": ben, "class": None}]}
    assert world.sh.refusal("ALPHA", CLASSES, body).code == "ACCOUNT_CLOSED"
    world.sh.post("ALPHA", "/v1/accounts/reopenings", {"accounts": [ben]})
    assert limits(world, "ben").klass == "IV"


def test_a_wallet_is_not_opened_in_a_class_that_is_none(world: World) -> None:
    """An unknown class refuses the whole message."""
    body = {"accounts": [{"owner": "ben", "asset": "CNY", "class": "IV"}]}

    assert world.sh.refusal("ALPHA", "/v1/accounts", body).code == "CLASS_NOT_FOUND"


# --- when rules hold --------------------------------------------------------------------------------------------------


def test_rules_begin_with_the_first_block_of_their_day(world: World) -> None:
    """Until midnight in Shanghai the old limit holds, from then on the new one, for the very first message."""
    bring(world.sh, klass(payment=5))
    bring(world.sh, klass(payment=7), valid_from=TOMORROW)
    give(world)
    midnight = on_day(1)

    assert pay(world, 6, at_ns=midnight - 1) is Result.ITEM_LIMIT
    assert pay(world, 6, at_ns=midnight) is Result.OK
    assert pay(world, 8) is Result.ITEM_LIMIT


def test_several_versions_wait_and_none_is_skipped(world: World) -> None:
    """Days without a block put nothing off: the newest version that has begun is in force."""
    bring(world.sh, klass(payment=5))
    bring(world.sh, klass(payment=6), valid_from=TOMORROW)
    bring(world.sh, klass(payment=7), klass("NEW", payment=1), valid_from=LATER)
    bring(world.sh, klass(payment=8), klass("NEW", payment=1), valid_from=NEW_YEAR)
    give(world)
    states = [view.state for view in views.rules_view(world.sh.book)]
    assert states == ["IN_FORCE", "WAITING", "WAITING", "WAITING"]

    assert (pay(world, 8, at_ns=on_day(5)), pay(world, 7)) == (Result.ITEM_LIMIT, Result.OK)
    states = [view.state for view in views.rules_view(world.sh.book)]
    assert states == ["PAST", "PAST", "IN_FORCE", "WAITING"]
    give(world, "NEW", customer="ben")
    assert pay(world, 8, at_ns=on_day(300)) is Result.OK


def test_the_last_version_of_a_day_counts(world: World) -> None:
    """What is brought again for the same day replaces what was brought before, also while it waits."""
    for day, when in ((0, TODAY), (1, TOMORROW)):
        for top in (5, 6):
            bring(world.sh, klass(payment=top), valid_from=when)
        give(world)
        assert (pay(world, 7, at_ns=on_day(day) if day else None), pay(world, 6)) == (Result.ITEM_LIMIT, Result.OK)


def test_a_replay_finds_every_day_under_its_own_rules(world: World) -> None:
    """The same blocks give the same money, rules and meters, by the compiled kernel and by the plain loop."""
    bring(world.sh, klass(day=5_00))
    bring(world.sh, klass(day=7_00), valid_from=TOMORROW)
    give(world)
    results = [pay(world, 6_00), pay(world, 5_00), pay(world, 6_00, at_ns=on_day(1)), pay(world, 2_00)]
    assert results == [Result.DAY_LIMIT, Result.OK, Result.OK, Result.DAY_LIMIT]

    for compiled in (True, False):
        again = world.sh.replayed(compiled=compiled)
        assert again.machine.state.money_digest() == world.sh.machine.state.money_digest()
        assert again.machine.frontier.root() == world.sh.machine.frontier.root()
        for name in ("rules", "rules_begun", "classes", "class_owners"):
            assert getattr(again.book, name) == getattr(world.sh.book, name)


def test_a_class_keeps_its_number(world: World) -> None:
    """Numbers follow the order in which classes were first named, and no later version changes them."""
    bring(world.sh, klass("II"), klass("IV"))
    bring(world.sh, klass("A"), name="others")
    bring(world.sh, klass("V"), klass("IV"), klass("II"))
    bring(world.sh, klass("II"), asset="HKD", name="hkd")

    assert world.sh.book.classes == {(1, "II"): 1, (1, "IV"): 2, (1, "A"): 3, (1, "V"): 4, (2, "II"): 5}


# --- who brings rules -------------------------------------------------------------------------------------------------


def test_only_a_registrar_brings_rules(world: World) -> None:
    """An operator sets no limits for its own customers."""
    error = world.sh.refusal("ALPHA", RULES, version(klass()))

    assert (type(error), error.code) == (Forbidden, "ROLE_MISSING")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (version(klass(), valid_from="2025-06-17"), Rejected, "RULES_PAST"),
        (version(klass(), asset="HKD"), Conflict, "RULES_ASSET"),
        (version(klass(), klass("II")), Conflict, "RULES_ORDER"),
        (version(klass("II"), valid_from=LATER), Conflict, "RULES_INCOMPLETE"),
        (version(klass(), name="others"), Conflict, "CLASS_TAKEN"),
    ],
)
def test_a_version_follows_those_before(world: World, body: Any, kind: type[LedgerError], code: str) -> None:
    """A version begins no earlier than the last one, is of its asset, names its classes, and takes no other's."""
    bring(world.sh, klass())
    bring(world.sh, klass(), valid_from=TOMORROW)

    error = world.sh.refusal("REGISTRAR-SH", RULES, body)
    assert (type(error), error.code) == (kind, code)


def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rule sets nor their versions grow without end."""
    monkeypatch.setattr(classes, "RULES_COUNT_MAX", 1)
    monkeypatch.setattr(classes, "VERSION_COUNT_MAX", 2)
    bring(world.sh, klass())
    assert world.sh.refusal("REGISTRAR-SH", RULES, version(klass("A"), name="others")).code == "RULES_FULL"
    bring(world.sh, klass())
    assert world.sh.refusal("REGISTRAR-SH", RULES, version(klass())).code == "RULES_FULL"


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (version(klass(), klass()), "BODY_MALFORMED", "$.classes"),
        (version(), "BODY_MALFORMED", "$.classes"),
        (version(klass(), asset="QCNY"), "ASSET_UNKNOWN", "$.asset"),
        (version(klass(), valid_from="2025-02-29"), "VALID_FROM_INVALID", "$.valid_from"),
        (version(klass(), valid_from="18/06/2025"), "VALID_FROM_INVALID", "$.valid_from"),
        (version(klass() | {"day": "-1"}), "BODY_MALFORMED", "$.classes[0].day"),
        (version(klass() | {"day": "1" + 18 * "0"}), "BODY_MALFORMED", "$.classes[0].day"),
        (version(klass("iv")), "BODY_MALFORMED", "$.classes[0].class"),
        (version(klass(), name="Wallets"), "BODY_MALFORMED", "$.rules"),
    ],
)
def test_rules_are_strictly_read(world: World, body: Any, code: str, path: str) -> None:
    """A version that could be read in two ways is refused before anything is asked of the ledger."""
    with pytest.raises(MalformedInput) as caught:
        world.sh.post("REGISTRAR-SH", RULES, body)
    assert (caught.value.code, caught.value.fields["path"]) == (code, path)


def test_one_account_is_given_one_class(world: World) -> None:
    """An address that stands twice, or is of the other ledger, refuses the body."""
    entry = {"account": world.address("SH/WALLET.ann"), "class": None}
    other = {"account": world.address("HK/WALLET.dan"), "class": None}
    for accounts, code in (([entry, entry], "BODY_MALFORMED"), ([entry, other], "ACCOUNT_ELSEWHERE")):
        with pytest.raises(MalformedInput, match=code):
            world.sh.post("ALPHA", CLASSES, {"accounts": accounts})


# --- the rules of the package -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rules.NAMES)
def test_the_packages_rules_can_be_brought(name: str) -> None:
    """Each file is called as its rule set, has a source beside every number, and its body is taken as it stands."""
    node = World.with_banks().sh
    found = rules.load(name)
    assert found.rules == name
    assert all(getattr(entry, part).source for entry in found.classes for part in ("balance", "payment", "day", "year"))
    node.post("REGISTRAR-SH", RULES, rules.body(name, TODAY))
    shown = views.rules_view(node.book)[0].version.classes
    assert [(rule.name, rule.balance, rule.payment, rule.day, rule.year) for rule in shown] == EXPECTED[name]


EXPECTED = {
    "ecny-wallets": [
        ("II", 500_000_00, 50_000_00, 100_000_00, None),
        ("IV", 10_000_00, 2_000_00, 5_000_00, 50_000_00),
    ],
    "hong-kong-wallets": [("HK", 10_000_00, 2_000_00, 5_000_00, 50_000_00)],
}


def test_limits_are_shown_where_there_are_none(world: World) -> None:
    """An account without a class shows no limit, and what it holds; a capped one shows its cap."""
    world.sh.post("REGISTRAR-SH", "/v1/caps", {"caps": [{"participant": "ALPHA", "asset": "CNY", "maximum": "5"}]})
    plain = limits(world)
    assert (plain.klass, plain.balance, plain.payment, plain.day, plain.year) == (None,) * 5
    assert plain.balance_used == 100_000_00
    clearing = views.account_view(world.sh.machine, world.sh.book, world.sh.account("CLEARING.ALPHA")).limits
    assert (clearing.klass, clearing.balance, clearing.day_counted) == (None, 5, DAY)


def test_a_retry_in_a_later_block_is_the_same_day(world: World) -> None:
    """A block a second later is of the same business day, so what was counted is still counted."""
    bring(world.sh, klass(day=5))
    give(world)
    assert pay(world, 5) is Result.OK
    assert pay(world, 1, at_ns=world.sh.machine.timestamp_ns + 3600 * SECOND) is Result.DAY_LIMIT
