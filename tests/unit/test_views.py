"""Read models: what parties are shown, and what they are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ledger.accounts import address
from ledger.errors import NotFound
from ledger.transfers import Result
from settlement import views
from settlement.table import Table
from settlement.views import PaymentStatus
from tests.settlement_fixture import World, check_each_book, money, uetr_of


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


def test_every_reason_and_status_has_an_iso_code() -> None:
    """Each result maps to a four-character reason (success to none), each status to a four-letter code."""
    assert set(views.ISO_REASON) == set(Result)
    assert all((len(code) == 4) is (result is not Result.OK) for result, code in views.ISO_REASON.items())
    assert views.ISO_STATUS == {
        PaymentStatus.ACCEPTED: "ACSP",
        PaymentStatus.SETTLED: "ACSC",
        PaymentStatus.REFUSED: "RJCT",
        PaymentStatus.CANCELLED: "CANC",
        PaymentStatus.REJECTED: "RJCT",
    }


def test_a_payment_inside_the_ledger_is_shown_to_both_sides(world: World) -> None:
    """The payer finds it by its UETR, the payee by naming the payer too."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 5_00)
    position = world.sh.machine.position + 1
    world.sh.pay("ann", payment)

    view = world.sh.view("ann", payment)

    assert view == world.sh.view("cai", payment, payer="ann")
    assert (view.status, view.reason, view.iso_status, view.iso_reason) == (
        PaymentStatus.SETTLED,
        Result.OK,
        "ACSC",
        "",
    )
    assert (view.debtor, view.creditor) == (payment["debtor"], payment["creditor"])
    assert (view.asset, view.amount, view.creditor_asset, view.creditor_amount) == ("CNY", 5_00, "CNY", 5_00)
    assert (view.record_position, view.settled_position) == (position, position)
    assert (view.window, view.incoming) == (None, False)


def test_a_payment_across_the_border_is_shown_on_both_ledgers(world: World) -> None:
    """Payer and payee see the same payment, each on its own ledger, with the decision's position there."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)
    waiting = world.sh.view("ann", payment)
    assert (waiting.status, waiting.window, waiting.settled_position) == (PaymentStatus.ACCEPTED, 1, None)
    with pytest.raises(NotFound):
        world.hk.view("dan", payment)

    assert world.settle()

    paid, received = world.sh.view("ann", payment), world.hk.view("dan", payment)
    assert (paid.status, paid.incoming, received.incoming) == (PaymentStatus.SETTLED, False, True)
    same = (
        "uetr",
        "status",
        "reason",
        "debtor",
        "creditor",
        "asset",
        "amount",
        "creditor_amount",
        "record_position",
        "window",
    )
    assert all(getattr(paid, name) == getattr(received, name) for name in same)
    for view, node in ((paid, world.sh), (received, world.hk)):
        window = node.book.windows[1]
        assert (view.settled_position, view.settled_ns) == (window.settled_position, window.settled_ns)


@pytest.mark.parametrize("who", ["ben", "ALPHA", "AUDITOR"])
def test_others_find_nothing(world: World, who: str) -> None:
    """A party that takes no part in a payment is answered as if it did not exist."""
    inside = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 5_00, uetr=uetr_of(1))
    refused = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 500_000_00, uetr=uetr_of(2))
    world.sh.pay("ann", inside)
    world.sh.refused("ann", refused)

    for payment in (inside, refused):
        for payer in ("", "ann", "cai"):
            with pytest.raises(NotFound, match="PAYMENT_NOT_FOUND"):
                world.sh.view(who, payment, payer=payer)


def test_an_incoming_payment_is_its_payees_alone(world: World) -> None:
    """On the payee's ledger another party does not find it, and neither does anybody if the account is unknown."""
    good = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, uetr=uetr_of(1))
    lost = good | {"uetr": uetr_of(2), "creditor": address("HK", 4_000)}
    world.sh.pay("ann", good, lost)
    assert world.settle()

    assert world.hk.view("dan", good).status is PaymentStatus.SETTLED
    for who, payment in (("eva", good), ("dan", lost), ("NODE-SH", good)):
        with pytest.raises(NotFound):
            world.hk.view(who, payment)


def test_a_refused_payment_abroad_is_not_shown_to_a_namesake(world: World) -> None:
    """A refused cross-border payment names an account of the other ledger; who owns that number here learns nothing."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500_000_00) | {"creditor": address("HK", 1)}
    world.sh.refused("ann", payment)
    namesake = world.sh.machine.directory.party(world.sh.machine.state.account(1).owner).code

    view = world.sh.view("ann", payment)

    assert (view.status, view.creditor, view.iso_reason) == (PaymentStatus.REFUSED, payment["creditor"], "AM04")
    with pytest.raises(NotFound):
        world.sh.view(namesake, payment, payer="ann")


def test_an_account_shows_what_is_posted_pending_and_available(world: World) -> None:
    """Pending outflow counts against what is available, pending inflow does not count yet, on either normal side."""
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 30_00, fee=money(1)))
    machine, book = world.sh.machine, world.sh.book

    wallet = views.account_view(machine, book, world.sh.account("WALLET.ann"))
    fees = views.account_view(machine, book, world.sh.account("FEES.ALPHA"))
    assert (wallet.address, wallet.owner, wallet.asset) == (world.sh.address("WALLET.ann"), "ann", "CNY")
    assert (wallet.code, wallet.book, wallet.closed) == ("WALLET", "ALPHA", False)
    assert (wallet.posted, wallet.pending_out, wallet.pending_in, wallet.available) == (100_000_00, 30_01, 0, 99_969_99)
    assert (fees.posted, fees.pending_out, fees.pending_in, fees.available) == (0, 0, 1, 0)

    number, signed = world.agree()
    proposal_open = world.decide(number, signed, {"SH": np.ones(1, bool), "HK": np.zeros(0, bool)})
    funds = views.account_view(machine, book, world.sh.account("FUNDS.ALPHA"))
    assert proposal_open
    assert (funds.posted, funds.pending_out, funds.book) == (999_970_00, 0, "ALPHA")
    with pytest.raises(NotFound, match="ACCOUNT_NOT_FOUND"):
        views.account_view(machine, book, 4_000)


def test_a_debit_normal_account_shows_its_outflow(world: World) -> None:
    """Credits held on a claim are what will flow out of it."""
    world.sh.pay("PBOC", world.payment("SH/ISSUE", "HK/POSITION.FX", 7_00))

    issue = views.account_view(world.sh.machine, world.sh.book, world.sh.account("ISSUE"))

    assert (issue.posted, issue.pending_out, issue.pending_in) == (2_000_000_00, 0, 7_00)
    assert (issue.owner, issue.book, issue.code) == ("PBOC", views.INSTITUTION, "ISSUE")


def test_a_party_finds_its_accounts(world: World) -> None:
    """All accounts of an owner are listed by number, and the addresses that a message opened by its position."""
    dan = world.hk.machine.directory.by_code("dan").number

    assert views.accounts_of(world.hk.machine, dan) == [
        world.hk.account("WALLET.dan", "CNY"),
        world.hk.account("WALLET.dan", "HKD"),
    ]
    position = world.hk.machine.position
    world.hk.post("GAMMA", "/v1/accounts", {"accounts": [{"owner": "dan", "asset": "CNY"}]})
    newest = views.accounts_of(world.hk.machine, dan)[-1]
    assert views.opened_accounts(world.hk.book, position) == [address("HK", newest)]
    assert views.opened_accounts(world.hk.book, position + 1) == []


def test_participants_are_listed_with_their_accounts(world: World) -> None:
    """Participants stand in the order of joining, their accounts in the order of opening."""
    shown = views.participants_view(world.hk.book)

    assert [one.code for one in shown] == ["HKMA", "GAMMA", "DELTA", "FX"]
    assert [one.number for one in shown] == [1, 2, 3, 4]
    codes = [(code, asset) for code, asset, _ in shown[1].accounts]
    assert codes[:6] == [(code, "CNY") for code in ("SETTLE", "FUNDS", "CLEARING", "POSITION", "FEES", "SUSPENSE")]
    assert all(left[2] < right[2] for left, right in zip(shown[1].accounts, shown[1].accounts[1:], strict=False))


def test_the_trial_balance_adds_up_in_each_book() -> None:
    """Posted and pending debits equal credits over each book and asset, in the middle of a window too."""
    world = World.everywhere()
    quote = world.quote(sell="CNY", maximum=500_00, buy="HKD", rate="0.92220000")
    abroad = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 9_00, "HKD", creditor_asset="CNY", quote=quote)
    world.hk.pay("dan", abroad)
    world.sh.pay("PBOC", world.payment("SH/ISSUE", "HK/WALLET.dan", 3_00))
    world.agree()

    for node in world.nodes:
        check_each_book(node)
        rows = views.trial_balance(node.machine, node.book)
        assert rows[0].book == views.INSTITUTION
        assert len({(row.book, row.asset, row.code) for row in rows}) == len(rows)
        assert sum(row.accounts for row in rows) == node.machine.state.account_count
        for total in node.machine.state.trial_balance():
            code = next(asset.code for asset in node.machine.genesis.assets if asset.number == total.asset)
            of_asset = [row for row in rows if row.asset == code]
            for name in ("debits_posted", "credits_posted", "debits_pending", "credits_pending"):
                assert sum(getattr(row, name) for row in of_asset) == getattr(total, name)


def test_views_cannot_be_changed(world: World) -> None:
    """What is shown is frozen."""
    view = views.account_view(world.sh.machine, world.sh.book, 1)

    with pytest.raises(dataclasses.FrozenInstanceError):
        view.posted = 1  # type: ignore[misc]  # that is the point


def test_a_table_grows_and_finds() -> None:
    """Rows keep their order and values while the columns double, and a rising column is searched."""
    table = Table(position=np.uint64, member=np.uint32)
    assert table.find("position", 1) is None

    firsts = [table.append(position=np.arange(10 * i, 10 * i + 5), member=np.full(5, i)) for i in range(40)]

    assert (firsts, len(table)) == ([5 * i for i in range(40)], 200)
    assert table["member"].tolist() == [i for i in range(40) for _ in range(5)]
    assert (table.find("position", 393), table.find("position", 397), table.find("position", 10**6)) == (
        198,
        None,
        None,
    )
