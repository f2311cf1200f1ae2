"""Liquidity: which payments of a window the balances allow, in integers, by a policy that anybody can repeat.

``fifo-readd/1``, the one policy there is:

1. Start with all payments. While an account is short, drop the last payment, in order of rank, that draws on it;
   accounts are served in the order in which they became short, those short from the start by their index. A payment
   goes with all its entries, so the legs of a PvP pair leave together.
2. Then go through the dropped payments in order of rank and take back whatever fits; repeat until nothing does
   (at most ``PASSES_MAX`` times).
3. Compare with plain gross settlement, the second step alone from nothing. The greater value wins, the first on a tie.

What comes out is *feasible* (no account falls below zero) and *maximal* (no single payment that was left out would
fit). Rank is the explicit key that breaks every tie, so two payments must not share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ledger.compiled import plain
from ledger.errors import InvariantViolation, Rejected
from settlement.netting import Amounts, Entries, exact_sum

__all__ = ["PASSES_MAX", "POLICY", "POLICY_EMPTY", "UNLIMITED", "Queue", "gross_selection", "select", "shortfalls"]

POLICY = "fifo-readd/1"
POLICY_EMPTY = "empty/1"
"""Nothing settles, everything is carried: always possible."""
PASSES_MAX = 1_000
UNLIMITED = 2**61
"""What an account may have to pay with at most; also what an issuer has."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Queue:
    """The payments that wait, and what there is to settle them with.

    ``rows``: what each payment does to each slot. ``available``: by slot, minor units; clipped to 0 … ``UNLIMITED``.
    ``rank``: by payment, distinct, the lower the earlier. ``value``: by payment, what selections are compared by.
    """

    rows: Entries
    available: Amounts
    rank: npt.NDArray[np.int64]
    value: Amounts


@dataclass(frozen=True, slots=True)
class _Plan:
    """A queue made ready: payments renumbered by rank, entries by payment, and for each slot who draws on it."""

    order: npt.NDArray[np.int64]
    effects: tuple[Amounts, Amounts, Amounts]
    """Where the entries of each payment start, then their slots and their amounts."""
    drawn: tuple[Amounts, Amounts]
    """Where the payments that draw on each slot start, then these payments, by rank."""
    available: Amounts


def select(queue: Queue, *, compiled: bool = True) -> Mask:
    """Choose payments by ``POLICY``; gives for each payment whether it settles.

    Args:
        queue: the payments and balances.
        compiled: ``False`` runs the same source as plain Python.

    Raises:
        Rejected: ``NET_OVERFLOW``, the payments of one slot reach 2^61.
        InvariantViolation: two payments share a rank.
    """
    plan = _plan(queue)
    drop, fill = (_drop, _fill) if compiled else (plain(_drop), plain(_fill))
    netted = np.ones(len(plan.order), np.bool_)
    balances = plan.available.copy()
    drop(plan.effects, plan.drawn, balances, netted)
    fill(plan.effects, balances, netted, PASSES_MAX)
    gross = np.zeros(len(plan.order), np.bool_)
    fill(plan.effects, plan.available.copy(), gross, PASSES_MAX)
    value = queue.value[plan.order]
    better = gross if exact_sum(value[gross]) > exact_sum(value[netted]) else netted
    return _by_payment(plan, better)


def gross_selection(queue: Queue, *, compiled: bool = True) -> Mask:
    """Choose what would settle one payment after the other, in order of rank, without any netting.

    Raises:
        Rejected: ``NET_OVERFLOW``.
        InvariantViolation: two payments share a rank.
    """
    plan = _plan(queue)
    gross = np.zeros(len(plan.order), np.bool_)
    fill = _fill if compiled else plain(_fill)
    fill(plan.effects, plan.available.copy(), gross, PASSES_MAX)
    return _by_payment(plan, gross)


def shortfalls(queue: Queue, selected: Mask) -> Amounts:
    """Give by slot what a selection would lack, zero everywhere if it is feasible."""
    balances = np.clip(queue.available, 0, UNLIMITED)
    chosen = queue.rows[selected[queue.rows["payment"]]]
    np.add.at(balances, chosen["slot"], chosen["amount"])
    return np.maximum(-balances, 0)


def _by_payment(plan: _Plan, by_rank: Mask) -> Mask:
    selected = np.empty(len(plan.order), np.bool_)
    selected[plan.order] = by_rank
    return selected


def _plan(queue: Queue) -> _Plan:
    """Sort once, so that the loops only walk."""
    count, slot_count = len(queue.rank), len(queue.available)
    order = np.argsort(queue.rank, kind="stable")
    if np.any(np.diff(queue.rank[order]) == 0):
        raise InvariantViolation("two payments share a rank")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    payment, slot = place[queue.rows["payment"]], queue.rows["slot"].astype(np.int64)
    amount = queue.rows["amount"]
    _check_range(slot, amount, slot_count)
    by_payment = np.argsort(payment, kind="stable")
    payments, slots, amounts = payment[by_payment], slot[by_payment], amount[by_payment]
    drawing = np.flatnonzero(amounts < 0)
    by_slot = drawing[np.argsort(slots[drawing], kind="stable")]
    return _Plan(
        order=order,
        effects=(np.searchsorted(payments, np.arange(count + 1)), slots, amounts),
        drawn=(np.searchsorted(slots[by_slot], np.arange(slot_count + 1)), payments[by_slot]),
        available=np.clip(queue.available, 0, UNLIMITED),
    )


def _check_range(slot: npt.NDArray[np.int64], amount: Amounts, slot_count: int) -> None:
    """Make sure that no sum the loops can meet leaves 63 bits."""
    upper = np.zeros(slot_count, np.int64)
    np.add.at(upper, slot, (np.abs(amount) >> 32) + 1)
    if np.any(amount == -(2**63)) or np.any(upper >= UNLIMITED >> 32):
        raise Rejected("NET_OVERFLOW", "The payments of one account are too large.")


@njit(nogil=True, cache=True)
def _drop(effects: Any, drawn: Any, balances: Any, selected: Any) -> None:
    """Step 1: from all payments down to a selection that leaves no balance below zero."""
    starts, slots, amounts = effects
    draw_starts, draws = drawn
    slot_count = balances.size
    for i in range(slots.size):
        balances[slots[i]] += amounts[i]
    ends = draw_starts[1:].copy()
    queue = np.zeros(slot_count + 1, np.int64)
    waiting = np.zeros(slot_count, np.bool_)
    head, tail = 0, 0
    for slot in range(slot_count):
        if balances[slot] < 0:
            queue[tail] = slot
            waiting[slot] = True
            tail += 1
    while head != tail:
        slot = queue[head]
        head = (head + 1) % queue.size
        waiting[slot] = False
        while balances[slot] < 0:
            ends[slot] -= 1
            payment = draws[ends[slot]]
            if not selected[payment]:
                continue
            selected[payment] = False
            for i in range(starts[payment], starts[payment + 1]):
                other = slots[i]
                balances[other] -= amounts[i]
                if balances[other] < 0 and other != slot and not waiting[other]:
                    queue[tail] = other
                    waiting[other] = True
                    tail = (tail + 1) % queue.size


@njit(nogil=True, cache=True)
def _fill(effects: Any, balances: Any, selected: Any, passes_max: Any) -> None:
    """Step 2: take in whatever fits, in order of rank, until nothing does."""
    starts, slots, amounts = effects
    for _ in range(passes_max):
        changed = False
        for payment in range(selected.size):
            if selected[payment]:
                continue
            for i in range(starts[payment], starts[payment + 1]):
                balances[slots[i]] += amounts[i]
            fits = True
            for i in range(starts[payment], starts[payment + 1]):
                fits = fits and balances[slots[i]] >= 0
            if fits:
                selected[payment] = True
                changed = True
            else:
                for i in range(starts[payment], starts[payment + 1]):
                    balances[slots[i]] -= amounts[i]
        if not changed:
            return
