"""Liquidity: feasible, maximal, never below gross, by rank, PvP pairs whole; against every subset on tiny queues."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvariantViolation, Rejected
from settlement import liquidity
from settlement.liquidity import UNLIMITED, Queue, gross_selection, select, shortfalls
from settlement.netting import entries

Payment = list[tuple[int, int]]
"""What one payment does: (slot, amount)."""


def queue_of(payments: list[Payment], available: list[int], rank: list[int] | None = None) -> Queue:
    """Make a queue of payments written out; each is worth what it pays."""
    flat = [(index, slot, amount) for index, payment in enumerate(payments) for slot, amount in payment]
    payment, slot, amount = zip(*flat, strict=True) if flat else ((), (), ())
    return Queue(
        rows=entries(payment=payment, slot=slot, amount=amount),
        available=np.array(available, np.int64),
        rank=np.arange(len(payments)) if rank is None else np.array(rank, np.int64),
        value=np.array([-sum(min(effect, 0) for _, effect in payment) for payment in payments], np.int64),
    )


def pay(payer: int, payee: int, amount: int) -> Payment:
    """Write out a plain payment."""
    return [(payer, -amount), (payee, amount)]


def fits(queue: Queue, selected: npt.NDArray[np.bool_]) -> bool:
    """Whether a selection leaves nobody short."""
    return not shortfalls(queue, selected).any()


def test_gridlock_is_resolved_together() -> None:
    """Three payments in a ring settle with no balance at all, though none could go first."""
    queue = queue_of([pay(0, 1, 5), pay(1, 2, 5), pay(2, 0, 5)], [0, 0, 0])
    assert select(queue).tolist() == [True, True, True]
    assert gross_selection(queue).tolist() == [False, False, False]


def test_the_last_payment_of_a_short_account_waits() -> None:
    """Of two payments that a balance cannot both bear, the one of the higher rank is left out."""
    payments = [pay(0, 1, 5), pay(0, 1, 5)]
    assert select(queue_of(payments, [5, 0])).tolist() == [True, False]
    assert select(queue_of(payments, [5, 0], rank=[1, 0])).tolist() == [False, True]


def test_dropped_payments_that_fit_come_back() -> None:
    """A small payment behind a large one that cannot settle is taken back."""
    queue = queue_of([pay(0, 1, 9), pay(0, 1, 2)], [3, 0])
    assert select(queue).tolist() == [False, True]


def test_a_receipt_makes_room_for_an_earlier_payment() -> None:
    """A payment refused on the first pass settles on the next, after its payer has been paid."""
    queue = queue_of([pay(1, 2, 4), pay(0, 1, 4)], [4, 0, 0])
    assert gross_selection(queue).tolist() == [True, True]


def test_the_legs_of_a_pvp_pair_go_together() -> None:
    """When the second leg's payer is short, the first leg is left out too."""
    exchange = [(0, -7), (1, 7), (2, -8), (3, 8)]
    assert select(queue_of([exchange], [7, 0, 7, 0])).tolist() == [False]
    assert select(queue_of([exchange], [7, 0, 8, 0])).tolist() == [True]


def test_a_debt_is_no_credit() -> None:
    """A balance below zero counts as nothing to pay with."""
    assert select(queue_of([pay(0, 1, 1)], [-3, 0])).tolist() == [False]


def test_an_empty_queue_selects_nothing() -> None:
    """A queue without payments has an empty selection."""
    assert select(queue_of([], [1, 2])).tolist() == []


def test_shared_ranks_are_a_mistake() -> None:
    """Two payments of one rank are refused, because nothing would say which is the last."""
    with pytest.raises(InvariantViolation, match="rank"):
        select(queue_of([pay(0, 1, 1), pay(0, 1, 1)], [1, 1], rank=[3, 3]))


@pytest.mark.parametrize("amount", [UNLIMITED, 2**63 - 1])
def test_sums_that_could_wrap_are_refused(amount: int) -> None:
    """Payments of one account that reach 2^61 together are refused, never wrapped."""
    with pytest.raises(Rejected, match="NET_OVERFLOW"):
        select(queue_of([pay(0, 1, amount)], [UNLIMITED, 0]))


def test_passes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one pass allowed, a payment that would fit on the second stays out."""
    monkeypatch.setattr(liquidity, "PASSES_MAX", 1)
    queue = queue_of([pay(1, 2, 4), pay(0, 1, 4)], [4, 0, 0])
    assert gross_selection(queue).tolist() == [False, True]
    assert gross_selection(queue, compiled=False).tolist() == [False, True]


SLOT_COUNT = 4
slots = st.integers(0, SLOT_COUNT - 1)
amounts = st.integers(1, 6)
plain_payments = st.builds(pay, slots, slots, amounts)
exchanges = st.builds(lambda first, second: [*first, *second], plain_payments, plain_payments)
queues = st.builds(
    queue_of,
    st.lists(st.one_of(plain_payments, exchanges), max_size=7),
    st.lists(st.integers(0, 8), min_size=SLOT_COUNT, max_size=SLOT_COUNT),
)


@given(queues)
def test_selections_are_feasible(queue: Queue) -> None:
    """What is selected leaves no account short."""
    assert fits(queue, select(queue))
    assert fits(queue, gross_selection(queue))


@given(queues)
def test_selections_are_maximal(queue: Queue) -> None:
    """No single payment that was left out would fit."""
    selected = select(queue)
    for payment in np.flatnonzero(~selected):
        more = selected.copy()
        more[payment] = True
        assert not fits(queue, more)


@given(queues)
def test_netting_never_settles_less_than_gross(queue: Queue) -> None:
    """The value selected lies between that of plain gross settlement and the best of all subsets."""
    value = int(queue.value[select(queue)].sum())
    masks = itertools.product((False, True), repeat=len(queue.rank))
    best = max(
        int(queue.value[mask].sum()) for mask in (np.array(mask, np.bool_) for mask in masks) if fits(queue, mask)
    )
    assert int(queue.value[gross_selection(queue)].sum()) <= value <= best


@given(queues)
def test_everything_settles_when_it_can(queue: Queue) -> None:
    """If all payments together are feasible, all are selected."""
    everything = np.ones(len(queue.rank), np.bool_)
    if fits(queue, everything):
        assert select(queue).all()


@given(queues)
def test_compiled_and_plain_agree(queue: Queue) -> None:
    """The compiled loops and the plain ones choose the same."""
    assert select(queue).tolist() == select(queue, compiled=False).tolist()
    assert gross_selection(queue).tolist() == gross_selection(queue, compiled=False).tolist()
