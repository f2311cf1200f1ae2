"""Closing accounts and opening them again: who may, when, and what payments then read."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.accounts import address
from ledger.errors import Forbidden, MalformedInput, Rejected
from ledger.transfers import Result
from tests.settlement_fixture import World, party, uetr_of

CLOSINGS, REOPENINGS = "/v1/accounts/closings", "/v1/accounts/reopenings"


@pytest.fixture
def world() -> World:
    """Two ledgers where ann, ben and cai have CNY in Shanghai, and FX sells both in Hong Kong."""
    return World.everywhere()


def named(*addresses: str) -> dict[str, Any]:
    """Give the body that names some accounts."""
    return {"accounts": list(addresses)}


def emptied(world: World, bank: str = "ALPHA", customer: str = "ben") -> str:
    """Let a customer pay away everything; gives the address of its wallet."""
    wallet = f"SH/WALLET.{customer}"
    world.sh.pay(customer, world.payment(wallet, f"SH/POSITION.{bank}", 100_000_00))
    return world.address(wallet)


def test_a_participant_closes_an_empty_wallet(world: World) -> None:
    """From then on nothing is paid into it or out of it, from inside the ledger as well as from across the border."""
    ben = emptied(world)
    world.sh.post("ALPHA", CLOSINGS, named(ben))

    assert world.sh.machine.state.account(world.sh.account("WALLET.ben")).is_closed
    inward = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5)
    assert world.sh.refused("ann", inward) == [Result.PAYEE_CLOSED]
    outward = world.payment("SH/WALLET.ben", "SH/WALLET.ann", 5)
    assert world.sh.refused("ben", outward) == [Result.DEBIT_CLOSED]
    across = world.payment("HK/WALLET.dan", "SH/WALLET.ben", 5)
    world.hk.pay("dan", across)
    assert world.settle()
    assert world.hk.view("dan", across).reason is Result.PAYEE_CLOSED
    world.check()


def test_a_closed_account_is_opened_again_as_it_was(world: World) -> None:
    """A reopened wallet takes payments, and can be closed again."""
    ben = emptied(world)
    for _ in range(2):
        world.sh.post("ALPHA", CLOSINGS, named(ben))
        world.sh.post("ALPHA", REOPENINGS, named(ben))

    records = world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5))
    assert records["result"].tolist() == [Result.OK]


@pytest.mark.parametrize(("topic", "code"), [(CLOSINGS, "ACCOUNT_CLOSED"), (REOPENINGS, "ACCOUNT_OPEN")])
def test_what_is_done_already_is_refused(world: World, topic: str, code: str) -> None:
    """A closed account is not closed again, an open one not opened."""
    ben = emptied(world)
    if topic == CLOSINGS:
        world.sh.post("ALPHA", CLOSINGS, named(ben))

    error = world.sh.refusal("ALPHA", topic, named(ben))
    assert (type(error), error.code) == (Rejected, code)


def test_one_account_that_cannot_be_closed_refuses_all(world: World) -> None:
    """Neither a balance nor a pending amount is left behind, and the empty one beside it stays open."""
    ben = emptied(world)
    ann = world.address("SH/WALLET.ann")
    assert world.sh.refusal("ALPHA", CLOSINGS, named(ben, ann)).code == "ACCOUNT_NOT_EMPTY"

    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5))
    assert world.sh.refusal("ALPHA", CLOSINGS, named(ben, ann)).code == "ACCOUNT_PENDING"
    assert not world.sh.machine.state.account(world.sh.account("WALLET.ben")).is_closed


@pytest.mark.parametrize("topic", [CLOSINGS, REOPENINGS])
@pytest.mark.parametrize(
    ("who", "account"),
    [
        ("BETA", "WALLET.ben"),
        ("ALPHA", "WALLET.cai"),
        ("ALPHA", "SETTLE.ALPHA"),
        ("ALPHA", "FUNDS.ALPHA"),
        ("ALPHA", "CLEARING.ALPHA"),
        ("ALPHA", "NETTING"),
        ("PBOC", "ISSUE"),
        ("ALPHA", ""),
    ],
)
def test_nobody_changes_what_is_not_on_its_book(world: World, topic: str, who: str, account: str) -> None:
    """Other books, what settlement works with and accounts that do not exist are refused alike."""
    number = world.sh.account(account) if account else world.sh.machine.state.account_count + 1

    error = world.sh.refusal(who, topic, named(address("SH", number)))
    assert (type(error), error.code) == (Forbidden, "NOT_ON_BOOK")


def test_only_a_participant_closes(world: World) -> None:
    """The owner of a wallet does not close it: its participant does."""
    error = world.sh.refusal("ben", CLOSINGS, named(emptied(world)))

    assert (type(error), error.code) == (Forbidden, "NOT_PARTICIPANT")


@pytest.mark.parametrize(
    ("accounts", "code", "path"),
    [
        ([address("SH", 12), address("SH", 12)], "BODY_MALFORMED", "$.accounts"),
        ([address("SH", 12), address("HK", 12)], "ACCOUNT_ELSEWHERE", "$.accounts[1]"),
        (["SH000000000012"], "ADDRESS_INVALID", "$.accounts[0]"),
        ([], "BODY_MALFORMED", "$.accounts"),
    ],
)
def test_accounts_are_named_once_and_of_this_ledger(world: World, accounts: list[str], code: str, path: str) -> None:
    """Addresses are checked before anything is asked of the ledger."""
    with pytest.raises(MalformedInput) as caught:
        world.sh.post("ALPHA", CLOSINGS, {"accounts": accounts})
    assert (caught.value.code, caught.value.fields["path"]) == (code, path)


@pytest.mark.parametrize("kind", ["POSITION", "FEES", "SUSPENSE"])
def test_a_participant_closes_its_own_accounts(world: World, kind: str) -> None:
    """What a participant keeps for itself can be closed when it is empty."""
    world.sh.post("REGISTRAR-SH", "/v1/parties", {"parties": [party("NEW", "participant")]})
    world.sh.post("NEW", "/v1/participants", {"assets": ["CNY"]})

    world.sh.post("NEW", CLOSINGS, named(world.address(f"SH/{kind}.NEW")))
    assert world.sh.machine.state.account(world.sh.account(f"{kind}.NEW")).is_closed


def test_a_fee_needs_an_open_account(world: World) -> None:
    """Where the participant has closed its account for fees, a payment with a fee is refused and one without passes."""
    world.sh.post("ALPHA", CLOSINGS, named(world.address("SH/FEES.ALPHA")))
    fee = {"asset": "CNY", "amount": "3"}

    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5)
    assert world.sh.refused("ann", payment | {"fee": fee}) == [Result.FEE_ACCOUNT]
    assert world.sh.pay("ann", payment | {"uetr": uetr_of("again")})["result"].tolist() == [Result.OK]


def test_a_provider_without_its_account_exchanges_nothing(world: World) -> None:
    """When an FX provider has closed what its quote needs, the payer reads that the provider cannot pay."""
    quote = world.quote(sell="HKD", maximum=100_00, buy="CNY", rate="1.00000000")
    world.hk.pay("FX", world.payment("HK/POSITION.FX", "HK/WALLET.dan", 1_000_000_00, "HKD"))
    world.hk.post("FX", CLOSINGS, named(world.address("HK/POSITION.FX", "HKD")))

    payment = world.payment("HK/WALLET.dan", "HK/WALLET.eva", 5, creditor_asset="HKD", quote=quote)
    assert world.hk.refused("dan", payment) == [Result.PROVIDER_LIMIT]
