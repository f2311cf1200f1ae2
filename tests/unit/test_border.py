"""Payments across the border: waiting, carried, accepted and cancelled."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from ledger.errors import Conflict, NotFound
from ledger.machine import Context
from ledger.registry import IdStatus
from ledger.transfers import Result, id_halves, transfers
from settlement import incoming
from settlement.book import Group, group_of
from settlement.legs import Leg, leg_id
from settlement.places import incoming_base, outgoing_place
from settlement.views import PaymentStatus
from tests.cycle_steps import Steps
from tests.settlement_fixture import World, money, uetr_of


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


@pytest.fixture
def rich() -> World:
    """Two ledgers, with CNY in Hong Kong too."""
    return World.everywhere()


def number_of(payment: dict[str, Any]) -> int:
    """Give a payment's UETR as a number."""
    return uuid.UUID(payment["uetr"]).int


def test_a_refused_payment_at_the_end_leaves_no_gap(world: World) -> None:
    """Numbers are reused when everything behind the last held payment was refused."""
    batch = [
        world.payment("SH/WALLET.ann", "HK/WALLET.dan", 1, uetr=uetr_of(1)),
        world.payment("SH/WALLET.ann", "HK/WALLET.dan", 200_000_00, uetr=uetr_of(2)),
    ]
    world.sh.pay("ann", *batch)
    world.sh.refused("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 200_000_00, uetr=uetr_of(3)))

    assert world.sh.book.open_window.outgoing.count == 1


def test_rows_know_their_position(world: World) -> None:
    """A row's position is that of the payer's leg in the journal."""
    position = world.sh.machine.position
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)

    party = world.sh.machine.directory.by_code("ann").number
    entry = world.sh.machine.state.lookup(party, leg_id(number_of(payment), Leg.PAYER))
    assert entry is not None
    assert (entry.position, entry.status) == (position + 1, IdStatus.HOLD_OPEN)
    assert world.sh.book.open_window.outgoing.rows["position"].tolist() == [position + 1]


def test_a_carried_payment_settles_later(world: World) -> None:
    """A payment that two windows leave out is listed anew each time, with fresh ids, and settles in the third."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)

    for _ in range(2):
        assert world.settle([payment["uetr"]])
        assert world.sh.view("ann", payment).status is PaymentStatus.ACCEPTED
        assert world.hk.view("dan", payment).status is PaymentStatus.ACCEPTED
        world.check()
    assert world.settle()

    assert world.hk.balance("WALLET.dan") == 5_00
    for node, who in ((world.sh, "ann"), (world.hk, "dan")):
        view = node.view(who, payment)
        assert (view.status, view.window) == (PaymentStatus.SETTLED, 3)
    assert world.hk.book.incoming_waiting == set()


def test_a_carried_payment_that_skips_a_window_gets_fresh_ids(world: World) -> None:
    """A payment carried out of one window and listed two windows later has fresh ids then; others keep theirs."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)
    assert world.settle([payment["uetr"]])
    book, uetr = world.hk.book, number_of(payment)
    rows = np.repeat(world.sh.book.open_window.outgoing.rows[:1], 3)
    rows["uetr_lo"][1] += 1
    rows["uetr_hi"][2] += 1
    book.incoming_waiting.add(uetr)
    book.windows[book.current].number = book.current + 1

    high, low, again = incoming._incoming_halves(book, book.windows[book.current], rows)

    assert (high[0], low[0]) == id_halves(incoming_base(uetr, book.current + 1))
    assert again.tolist() == [True, False, False]
    assert (high[1:].tolist(), low[1:].tolist()) == (rows["uetr_hi"][1:].tolist(), rows["uetr_lo"][1:].tolist())


def cancelled_when_carried(world: World) -> dict[str, Any]:
    """Give a payment that a window has carried out and that its payer has cancelled then."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)
    assert world.settle([payment["uetr"]])
    world.sh.post("ann", "/v1/cancellations", {"uetr": payment["uetr"]})
    return payment


def test_a_payment_cancelled_after_it_was_carried_is_cancelled_for_its_payee(world: World) -> None:
    """The payee's ledger shows a carried payment as accepted until the next list lacks it, and then as cancelled."""
    payment = cancelled_when_carried(world)
    assert world.hk.view("dan", payment).status is PaymentStatus.ACCEPTED

    steps = Steps(world, world.hk.book.current)
    steps.close()
    assert world.hk.view("dan", payment).status is PaymentStatus.ACCEPTED
    steps.list()
    shown = world.hk.view("dan", payment)
    assert (shown.status, shown.reason, shown.window) == (PaymentStatus.CANCELLED, Result.OK, 1)
    assert world.hk.book.incoming_waiting == set()
    world.check()


def test_a_full_list_cancels_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While lists are full a carried payment may yet come; the first one with room for it cancels what it lacks."""
    monkeypatch.setattr(incoming, "LIST_COUNT_MAX", 1)
    payment = cancelled_when_carried(world)
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 1_00))
    assert world.settle()
    assert world.hk.view("dan", payment).status is PaymentStatus.ACCEPTED
    assert world.hk.book.incoming_waiting == {number_of(payment)}

    assert world.settle()
    assert world.hk.view("dan", payment).status is PaymentStatus.CANCELLED
    assert world.hk.book.incoming_waiting == set()


def test_what_was_cancelled_does_not_come_back(world: World) -> None:
    """Somebody else's payment under the UETR of a cancelled one is rejected: its ids there are used up."""
    payment = cancelled_when_carried(world)
    assert world.settle()
    again = payment | {"debtor": world.address("SH/WALLET.ben")}
    world.sh.pay("ben", again)
    assert world.settle()

    assert world.sh.view("ben", again).reason is Result.ID_EXISTS
    assert world.hk.view("dan", payment).status is PaymentStatus.CANCELLED
    world.check()


def test_an_id_of_another_kind_is_no_payment(world: World) -> None:
    """A transfer that was not derived by a payment is found under no UETR."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)
    machine = world.sh.machine
    party = machine.directory.by_code("ann").number
    command = transfers(1)
    command["id_hi"], command["id_lo"] = id_halves(leg_id(number_of(payment), Leg.PAYER))
    command["debit"], command["credit"] = world.sh.account("WALLET.ann"), world.sh.account("WALLET.ben")
    command["amount"], command["party"] = 1, party
    Context(machine, position=machine.position, timestamp_ns=machine.timestamp_ns + 1).post(command)
    machine.position += 2

    assert outgoing_place(world.sh.book, machine.state, party, number_of(payment)) is None
    with pytest.raises(NotFound):
        world.sh.view("ann", payment)


def test_a_carried_payment_can_be_rejected_later(world: World) -> None:
    """An account that closes while a payment waits rejects it when it is listed again."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.eva", 5_00)
    world.sh.pay("ann", payment)
    assert world.settle([payment["uetr"]])
    world.hk.machine.state.close_account(world.hk.account("WALLET.eva"))

    assert world.settle()

    view = world.sh.view("ann", payment)
    assert (view.status, view.reason) == (PaymentStatus.REJECTED, Result.PAYEE_CLOSED)
    assert world.hk.view("eva", payment).status is PaymentStatus.REJECTED
    world.check()


def test_a_stolen_uetr_does_not_get_into_the_way_of_a_carried_payment(world: World) -> None:
    """Another party's payment under the UETR of one that waits is the one to be rejected."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, uetr=uetr_of("wanted"))
    world.sh.pay("ann", payment)
    assert world.settle([payment["uetr"]])
    thief = world.payment("SH/WALLET.ben", "HK/WALLET.eva", 1_00, uetr=uetr_of("wanted"))
    world.sh.pay("ben", thief)

    assert world.settle()

    assert world.sh.view("ann", payment).status is PaymentStatus.SETTLED
    assert world.sh.view("ben", thief).reason is Result.ID_EXISTS


def test_a_foreseen_id_does_not_get_into_the_way_of_a_carried_payment(world: World) -> None:
    """What a carried payment's next ids are made from can be foreseen; a payment of that UETR takes none of them."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, uetr=uetr_of("wanted"))
    foreseen = str(uuid.UUID(int=incoming_base(number_of(payment), 2)))
    thief = world.payment("SH/WALLET.ben", "HK/WALLET.eva", 1_00, uetr=foreseen)
    world.sh.pay("ann", payment)
    world.sh.pay("ben", thief)
    assert world.settle([payment["uetr"]])
    assert world.sh.view("ben", thief).status is PaymentStatus.SETTLED

    assert world.settle()

    assert world.sh.view("ann", payment).status is PaymentStatus.SETTLED
    world.check()


def test_the_other_nodes_list_cannot_name_two_amounts_in_one_asset(world: World) -> None:
    """A list in which the payee would receive another amount of the same asset is rejected, row by row."""
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00))
    rows = world.sh.book.open_window.outgoing.rows.copy()
    rows["creditor_amount"] = 500_000_00

    reasons = accept(world, rows)

    assert reasons.tolist() == [Result.AMOUNT_INVALID]
    assert (rows["creditor_amount"][0], rows["creditor_participant"][0]) == (0, 0)


def accept(world: World, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Have Hong Kong accept rows outside any message."""
    machine = world.hk.machine
    context = Context(machine, position=machine.position, timestamp_ns=machine.timestamp_ns + 1)
    return incoming.accept_incoming(context, world.hk.book, world.hk.book.open_window, rows)


def test_acceptance_fills_in_what_only_the_payees_ledger_knows(world: World) -> None:
    """The payee's participant and amount are filled in, and the legs are bound from the start."""
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.eva", 5_00))
    rows = world.sh.book.open_window.outgoing.rows.copy()

    reasons = accept(world, rows)

    assert reasons.tolist() == [Result.OK]
    delta = world.hk.book.participant_by_code("DELTA").number
    assert (rows["creditor_participant"][0], rows["creditor_amount"][0]) == (delta, 5_00)
    hold = world.hk.machine.state.holds[0]
    assert (hold["group"], hold["member"], hold["status"]) == (group_of(1, Group.INCOMING), 0, 2)


# --- cancellation -----------------------------------------------------------------------------------------------------


def cancel(payment: dict[str, Any]) -> dict[str, str]:
    """Write a cancellation."""
    return {"uetr": payment["uetr"]}


def test_a_payer_cancels_before_the_cut_off(world: World) -> None:
    """Cancelling frees the money at once, and the payment is in no list."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, fee=money(1))
    before = world.sh.machine.state.account(world.sh.account("WALLET.ann")).available
    world.sh.pay("ann", payment)

    records = world.sh.post("ann", "/v1/cancellations", cancel(payment))

    assert records["result"].tolist() == [Result.OK] * 2
    assert world.sh.machine.state.account(world.sh.account("WALLET.ann")).available == before
    assert world.sh.view("ann", payment).status is PaymentStatus.CANCELLED
    assert world.agree()[1].count("SH") == 0


def test_a_converted_payment_is_cancelled_with_all_its_legs(rich: World) -> None:
    """The provider's legs and the use of the quote are voided with the payer's."""
    quote = rich.quote(sell="CNY", maximum=10_00, buy="HKD", rate="0.92220000")
    payment = rich.payment("HK/WALLET.dan", "SH/WALLET.ann", 10_00, "HKD", creditor_asset="CNY", quote=quote)
    rich.hk.pay("dan", payment)

    rich.hk.post("dan", "/v1/cancellations", cancel(payment))

    assert rich.hk.machine.state.hold_count == 0
    again = payment | {"uetr": uetr_of("again")}
    assert set(rich.hk.pay("dan", again)["result"].tolist()) == {Result.OK}


def test_nobody_cancels_anothers_payment(world: World) -> None:
    """To another party the payment does not exist."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)

    error = world.sh.refusal("ben", "/v1/cancellations", cancel(payment))

    assert (type(error), error.code) == (NotFound, "PAYMENT_NOT_FOUND")


def test_what_has_ended_cannot_be_cancelled(world: World) -> None:
    """A settled, refused or cancelled payment has ended already."""
    settled = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00, uetr=uetr_of(1))
    cancelled = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, uetr=uetr_of(2))
    world.sh.pay("ann", settled, cancelled)
    world.sh.post("ann", "/v1/cancellations", cancel(cancelled))

    for payment in (settled, cancelled):
        error = world.sh.refusal("ann", "/v1/cancellations", cancel(payment))
        assert (type(error), error.code) == (Conflict, "PAYMENT_DECIDED")


def test_after_the_cut_off_a_payment_waits_for_the_decision(world: World) -> None:
    """A payment of a closed window cannot be cancelled; one that was carried out of it can."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    world.sh.pay("ann", payment)
    number, signed = world.agree()

    assert world.sh.refusal("ann", "/v1/cancellations", cancel(payment)).code == "WINDOW_CLOSED"
    assert world.decide(number, signed, {"SH": np.zeros(1, bool), "HK": np.zeros(0, bool)})
    world.sh.post("ann", "/v1/cancellations", cancel(payment))

    assert world.sh.view("ann", payment).status is PaymentStatus.CANCELLED
    assert world.settle()
    world.check()
