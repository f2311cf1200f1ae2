"""What must hold over a whole state (I2, I3): each check raises with its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ledger.accounts import AccountFlag
from ledger.balances import ACCOUNT, trial_balance
from ledger.control import FREE_COUNT, HOLD_TOP, METER_COUNT, REVERSAL_COUNT
from ledger.errors import InvariantViolation
from ledger.holds import BOUND, FREE
from ledger.registry import IdStatus

if TYPE_CHECKING:
    from ledger.state import State

__all__ = ["check_state", "check_tables"]

_HAS_METER = AccountFlag.CAPPED | AccountFlag.METERED


def check_state(state: State) -> None:
    """Check counters, holds, meters, reversals and ids against each other, and the index of ids.

    Raises:
        InvariantViolation: something does not fit; ``State.check`` lists what.
    """
    check_tables(state)
    state.registry.check()


def check_tables(state: State) -> None:
    """Check all but the index of ids, for whoever has just made that.

    Raises:
        InvariantViolation: something does not fit; ``State.check`` lists what.
    """
    for total in trial_balance(state.accounts[1:]):
        if total.debits_posted != total.credits_posted or total.debits_pending != total.credits_pending:
            raise InvariantViolation(f"I2: debits and credits of asset {total.asset} differ")
    accounts = state.accounts
    for side in ("debits", "credits"):
        pending, posted = accounts[side + "_pending"], accounts[side + "_posted"]
        if np.any(pending < 0) or np.any(posted < 0) or np.any(posted > np.iinfo(np.int64).max - pending):
            raise InvariantViolation(f"I3: a counter of {side} is negative or reaches 2^63")
    if accounts[0].tobytes() != bytes(ACCOUNT.itemsize):
        raise InvariantViolation("account 0 was touched")
    _check_holds(state)
    _check_circles(state)
    _check_meters(state)
    _check_reversals(state)


def _check_holds(state: State) -> None:
    holds, accounts = state.holds, state.accounts
    for side in ("debit", "credit"):
        expected = np.zeros(len(accounts), np.int64)
        np.add.at(expected, holds[side], holds["amount"])
        if np.any(expected != accounts[side + "s_pending"]):
            raise InvariantViolation(f"I2: pending {side}s differ from the living holds")
    if len(holds) != state.hold_count or np.any(holds["amount"] <= 0):
        raise InvariantViolation("the living holds are not as many as were counted, or one is empty")
    table = state.hold_table.array[: state.control[HOLD_TOP]]
    free = state.free_slots.array[: state.control[FREE_COUNT]]
    if not np.array_equal(np.sort(free), np.flatnonzero(table["status"] == FREE)):
        raise InvariantViolation("the free slots are not those without a hold")
    slots = np.flatnonzero(table["status"])
    entries = state.registry.entries[state.hold_links.array["entry"][slots]]
    for name in ("id_hi", "id_lo", "party"):
        if np.any(entries[name] != table[name][slots]):
            raise InvariantViolation("a hold does not know its id")
    tags = state.registry.entries["tag"][: len(state.registry)]
    living = np.count_nonzero(tags & 15 == IdStatus.HOLD_OPEN)
    if np.any(entries["low"] != slots) or np.any(entries["tag"] & 15 != IdStatus.HOLD_OPEN) or living != len(slots):
        raise InvariantViolation("an id does not know its hold")


def _check_circles(state: State) -> None:
    """Check that the living holds stand in circles, and that those of a group are neither bound nor a window's."""
    table = state.hold_table.array[: state.control[HOLD_TOP]]
    slots = np.flatnonzero(table["status"])
    following = state.hold_links.array["next"][slots]
    if not np.array_equal(np.sort(following), slots):
        raise InvariantViolation("the living holds do not stand in circles")
    grouped = slots[following != slots]
    if np.any(table["group"][grouped]) or np.any(table["status"][grouped] == BOUND):
        raise InvariantViolation("a hold of a hold group belongs to a window")


def _check_meters(state: State) -> None:
    accounts = state.accounts
    meters = state.meters.array[1 : state.control[METER_COUNT] + 1]
    owners = np.flatnonzero(accounts["meter"])
    numbers = accounts["meter"][owners]
    if not np.array_equal(np.sort(numbers), np.arange(1, len(meters) + 1)):
        raise InvariantViolation("the meters do not each belong to one account")
    if np.any(meters["account"][numbers - 1] != owners):
        raise InvariantViolation("a meter does not know its account")
    has_meter = np.flatnonzero(accounts["flags"] & int(_HAS_METER))
    if not np.array_equal(has_meter, owners):
        raise InvariantViolation("an account that is capped or metered has no meter, or another has one")
    day, year, debited = meters["day_used"], meters["year_used"], accounts[meters["account"]]
    total = debited["debits_posted"] + debited["debits_pending"]
    if np.any(day < 0) or np.any(day > year) or np.any(year > total):
        raise InvariantViolation("a meter counts less than nothing, or more than was debited")
    if np.any(meters["class"] >= len(state.class_rows)):
        raise InvariantViolation("a meter names a class that does not exist")


def _check_reversals(state: State) -> None:
    rows = state.reversals.array[: state.control[REVERSAL_COUNT]]
    if np.any(rows["reversed"] <= 0) or np.any(rows["reversed"] > rows["amount"]):
        raise InvariantViolation("nothing of a transfer is reversed, or more than it moved")
    entries = state.registry.entries[rows["entry"]]
    is_known = (entries["tag"] & 15 == IdStatus.REVERSED) & (entries["low"] == np.arange(len(rows)))
    tags = state.registry.entries["tag"][: len(state.registry)]
    if not np.all(is_known) or np.count_nonzero(tags & 15 == IdStatus.REVERSED) != len(rows):
        raise InvariantViolation("an id does not know its reversal")
