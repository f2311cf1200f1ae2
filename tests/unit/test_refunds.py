"""Refunds: back to who had paid, by who was paid, and never more than was received."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ledger.transfers import Result
from settlement import drafts, payments
from settlement.book import PAYMENT
from settlement.legs import Leg
from settlement.views import PaymentStatus
from tests.settlement_fixture import World, money, uetr_of


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


def cancel(payment: dict[str, Any]) -> dict[str, str]:
    """Write a cancellation."""
    return {"uetr": payment["uetr"]}


def refund(world: World, original: dict[str, Any], amount: int, name: object, **more: Any) -> dict[str, Any]:
    """Write a refund of a payment, back the way it came."""
    fields = {"debtor": original["creditor"], "creditor": original["debtor"], "uetr": uetr_of(name)}
    return original | fields | {"money": money(amount), "refund_of": original["uetr"]} | more


def test_a_local_payment_is_refunded_up_to_its_amount(world: World) -> None:
    """Refunds of a payment inside one ledger add up to at most what was received."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)

    assert set(world.sh.pay("cai", refund(world, original, 6_00, 1))["result"].tolist()) == {Result.OK}
    assert world.sh.refused("cai", refund(world, original, 4_01, 2)) == [Result.REFUND_EXCEEDED]
    assert set(world.sh.pay("cai", refund(world, original, 4_00, 3))["result"].tolist()) == {Result.OK}
    assert world.sh.refused("cai", refund(world, original, 1, 4)) == [Result.REFUND_EXCEEDED]


def test_refunds_in_one_batch_are_counted_in_order(world: World) -> None:
    """The second refund of a batch sees the first, and a refund that fails gives its part back for the next."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)
    batch = [refund(world, original, amount, amount) for amount in (6_00, 5_00, 4_00)]
    spent = world.payment("SH/WALLET.cai", "SH/WALLET.ann", 100_000_00 + 10_00 - 10_00, uetr=uetr_of("spent"))

    records = world.sh.pay("cai", *batch)
    results = [
        drafts.reason_of(part["leg"], part["result"]) if part["result"].any() else Result.OK
        for part in (records[records["item"] == item] for item in range(3))
    ]

    assert results == [Result.OK, Result.REFUND_EXCEEDED, Result.OK]
    assert set(world.sh.pay("cai", spent)["result"].tolist()) == {Result.OK}


def test_a_refund_without_money_gives_its_part_back(world: World) -> None:
    """A refused refund does not count: with money again, the whole can be refunded."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)
    empty = world.payment("SH/WALLET.cai", "SH/WALLET.ann", 100_010_00, uetr=uetr_of("empty"))
    world.sh.pay("cai", empty)

    assert world.sh.refused("cai", refund(world, original, 10_00, 1)) == [Result.DEBIT_LIMIT]
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00, uetr=uetr_of("more")))
    assert set(world.sh.pay("cai", refund(world, original, 10_00, 2))["result"].tolist()) == {Result.OK}


def test_an_incoming_payment_is_refunded_across_the_border(world: World) -> None:
    """What arrived through a window goes back through a window, at most once; a cancelled refund does not count."""
    original = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 10_00)
    world.sh.pay("ann", original)
    assert world.hk.refused("dan", refund(world, original, 1, 0)) == [Result.REFUND_NOT_FOUND]
    assert world.settle()

    whole = refund(world, original, 10_00, 1)
    world.hk.pay("dan", whole)
    assert world.hk.refused("dan", refund(world, original, 1, 2)) == [Result.REFUND_EXCEEDED]
    world.hk.post("dan", "/v1/cancellations", cancel(whole))
    again = refund(world, original, 10_00, 3)
    world.hk.pay("dan", again)
    assert world.settle()

    assert world.hk.view("dan", again).status is PaymentStatus.SETTLED
    assert world.sh.balance("WALLET.ann") == 100_000_00
    world.check()


def test_a_rejected_refund_gives_its_part_back(world: World) -> None:
    """A refund that the other ledger rejects can be sent again."""
    original = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 10_00)
    world.sh.pay("ann", original)
    assert world.settle()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 99_990_00))
    ann = world.sh.account("WALLET.ann")
    world.sh.machine.state.close_account(ann)
    world.hk.pay("dan", refund(world, original, 10_00, 1))
    assert world.settle()
    world.sh.machine.state.reopen_account(ann)

    world.hk.pay("dan", refund(world, original, 10_00, 2))
    assert world.settle()

    assert world.sh.balance("WALLET.ann") == 10_00
    world.check()


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"refund_of": uetr_of("never")}, "dan"),
        ({"creditor": "SH/WALLET.ben"}, "dan"),
        ({"debtor": "HK/WALLET.eva"}, "eva"),
    ],
)
def test_only_the_payee_refunds_and_only_to_the_payer(world: World, changes: dict[str, str], who: str) -> None:
    """A refund of an unknown payment, to another account, or by another account is refused."""
    world = World.everywhere()
    original = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 10_00)
    world.sh.pay("ann", original)
    assert world.settle()
    named = {key: value if key == "refund_of" else world.address(value) for key, value in changes.items()}

    assert world.hk.refused(who, refund(world, original, 10_00, 1) | named) == [Result.REFUND_NOT_FOUND]


@pytest.mark.parametrize(("debtor", "who"), [("SH/WALLET.ben", "ben"), ("SH/POSITION.BETA", "BETA")])
def test_a_local_refund_by_another_account_is_refused(world: World, debtor: str, who: str) -> None:
    """Inside one ledger too, another account than the one that received gives nothing back, even of the same book."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)

    wrong = refund(world, original, 10_00, 1) | {"debtor": world.address(debtor)}

    assert world.sh.refused(who, wrong) == [Result.REFUND_NOT_FOUND]


def test_suspense_returns_what_its_own_book_received(world: World) -> None:
    """The suspense account beside the payee gives back in its place; that of another book does not."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)
    world.sh.pay("cai", world.payment("SH/WALLET.cai", "SH/SUSPENSE.BETA", 10_00))
    world.sh.pay("ben", world.payment("SH/WALLET.ben", "SH/SUSPENSE.ALPHA", 10_00))
    beside, elsewhere = (world.address(f"SH/SUSPENSE.{name}") for name in ("BETA", "ALPHA"))

    assert world.sh.refused("ALPHA", refund(world, original, 10_00, 1) | {"debtor": elsewhere}) == [
        Result.REFUND_NOT_FOUND
    ]
    assert set(world.sh.pay("BETA", refund(world, original, 10_00, 2) | {"debtor": beside})["result"].tolist()) == {0}
    assert world.sh.balance("WALLET.ann") == 100_000_00


def test_a_refused_payment_cannot_be_refunded(world: World) -> None:
    """What was never received is not given back, and neither is a payment that only waits."""
    refused = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 200_000_00, uetr=uetr_of(1))
    world.sh.refused("ann", refused)

    assert world.sh.refused("ben", refund(world, refused, 1, 2)) == [Result.REFUND_NOT_FOUND]
    assert world.sh.refused("ben", refund(world, refused, 1, 3, refund_of=uetr_of(9))) == [Result.REFUND_NOT_FOUND]


def test_a_refund_of_a_fee_paying_refund_counts_the_amount_alone(world: World) -> None:
    """A refund may carry a fee; what counts against the original is its amount."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)

    records = world.sh.pay("cai", refund(world, original, 10_00, 1, fee=money(25)))

    assert set(records["result"].tolist()) == {Result.OK}
    assert world.sh.balance("FEES.BETA") == 25


def test_a_refund_that_cannot_be_planned_gives_its_part_back(world: World) -> None:
    """A refund refused for its quote or its fee does not count either."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 10_00)
    world.sh.pay("ann", original)
    abroad = refund(world, original, 10_00, 1, quote=uetr_of("none"), creditor_asset="HKD")

    assert world.sh.refused("cai", abroad) == [Result.PAYEE_ASSET]
    issued = world.payment("SH/ISSUE", "SH/POSITION.ALPHA", 10_00)
    world.sh.pay("PBOC", issued)
    back = world.payment("SH/POSITION.ALPHA", "SH/ISSUE", 10_00, refund_of=issued["uetr"])
    again = refund(world, back, 10_00, 2)
    world.sh.pay("ALPHA", back)
    assert world.sh.refused("PBOC", again | {"fee": money(1)}) == [Result.FEE_ACCOUNT]
    assert set(world.sh.pay("PBOC", again | {"uetr": uetr_of(3)})["result"].tolist()) == {Result.OK}


def test_a_flood_of_refunds_costs_no_flood_of_parts(world: World) -> None:
    """However often a batch refunds one payment, it is cut into a bounded number of parts, and the sum still holds."""
    original = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 3_00)
    world.sh.pay("ann", original)
    flood = [refund(world, original, 1, name) for name in range(400)]

    records = world.sh.pay("cai", *flood)

    paid = records["result"][records["leg"] == Leg.PAYEE] == Result.OK
    assert (int(paid.sum()), int((records["result"] == Result.REFUND_EXCEEDED).sum())) == (300, 100)
    rows = np.zeros(400, PAYMENT)
    rows["refund_lo"] = 7
    parts = list(payments._parts(rows))
    assert len(parts) == payments.PART_COUNT_MAX
    assert [end for _, end in parts][:-1] == [first for first, _ in parts][1:]
    assert (parts[0][0], parts[-1][1]) == (0, 400)
