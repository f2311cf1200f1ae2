"""Groups of a window: compiled passes over the hold table that bind, release, move, post or void all holds of a group.

A group operation makes no record and cannot be refused: what it does follows from a journaled message, and whatever
could refuse a post was checked when each hold was made. A *member* of a group is the index of the whole (a payment)
that a hold belongs to. What changes balances names the position at which it does: the last one that was given out.
``ledger.posting`` offers these functions. The hold groups that clients make are not meant here: their ``group`` is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.compiled import Number, kernel
from ledger.control import HOLD_TOP
from ledger.errors import InvariantViolation
from ledger.holds import BOUND, FREE, OPEN, end_hold, give_back, release_use
from ledger.points import write_point
from ledger.registry import Array, IdStatus
from ledger.state import State

__all__ = ["STAY", "group_bind", "group_holds", "group_move", "group_post", "group_release", "group_void"]

STAY = 2**32 - 1
"""In ``group_move``: this member stays where it is."""

_POSTED, _VOIDED = int(IdStatus.HOLD_POSTED), int(IdStatus.HOLD_VOIDED)


@kernel
def _collect(holds: Array, top: Number, group: Number, chosen: Array, choose_all: bool, slots: Array) -> Number:
    """Write the slots of a group's chosen living holds; give their count, -1 if a member is beyond ``chosen``."""
    count = 0
    for slot in range(top):
        hold = holds[slot]
        if hold["group"] != group or hold["status"] == FREE:
            continue
        if not choose_all:
            member = np.int64(hold["member"])
            if member >= chosen.size:
                return -1
            if not chosen[member]:
                continue
        slots[count] = slot
        count += 1
    return count


@kernel
def _end_all(
    slots: Array,
    holds: Array,
    links: Array,
    accounts: Array,
    meters: Array,
    entries: Array,
    free: Array,
    control: Array,
    is_post: bool,
) -> Number:
    """End holds by slot; give the lowest pending counter seen, negative only if a counter was wrong before."""
    lowest = np.int64(0)
    status = _POSTED if is_post else _VOIDED
    for i in range(slots.size):
        slot = np.int64(slots[i])
        hold = holds[slot]
        debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
        posted = np.int64(hold["amount"]) if is_post else np.int64(0)
        if hold["counted"] != 0:
            release_use(hold, debit, hold["amount"] - posted, meters, control)
        end_hold(hold, debit, credit, posted, entries[links[slot]["entry"]], status)
        lowest = min(lowest, debit["debits_pending"], credit["credits_pending"])
        give_back(slot, free, control)
    return lowest


@kernel
def _set_status(slots: Array, holds: Array, status: Number) -> Number:
    """Bind or release holds by slot; give how many of those that changed have a deadline."""
    count = 0
    for i in range(slots.size):
        hold = holds[np.int64(slots[i])]
        if hold["status"] != status:
            hold["status"] = status
            count += hold["deadline"] != 0
    return count


@kernel
def _move_all(slots: Array, holds: Array, group: Number, members: Array) -> None:
    """Give holds by slot their new group and member."""
    for i in range(slots.size):
        hold = holds[np.int64(slots[i])]
        hold["group"] = group
        hold["member"] = members[hold["member"]]


@kernel
def _write_points(points: Array, control: Array, accounts: Array, numbers: Array, position: Number) -> None:
    """Write a point of each of some accounts."""
    for number in numbers:
        write_point(points, control, accounts, number, position)


def group_holds(state: State, group: int) -> Array:
    """Give the living holds of a group in order of position, dtype ``HOLD``: a copy.

    Raises:
        InvariantViolation: 0 is no group.
    """
    return state.holds_at(_slots_of(state, group, None))


def group_bind(state: State, group: int) -> int:
    """Bind all holds of a group: no expiry and no single POST or VOID until it is decided. Gives how many there are.

    Raises:
        InvariantViolation: 0 is no group.
    """
    slots = _slots_of(state, group, None)
    _set_status(slots, state.hold_table.array, BOUND)
    return len(slots)


def group_release(state: State, group: int) -> int:
    """Release all holds of a group: their deadlines count again. Gives how many there are.

    Raises:
        InvariantViolation: 0 is no group.
    """
    slots = _slots_of(state, group, None)
    if _set_status(slots, state.hold_table.array, OPEN):
        # Some of them may still be in the heap from before they were bound; building it anew keeps each there once.
        state.sweep_deadlines()
    return len(slots)


def group_post(state: State, group: int, selected: npt.NDArray[np.bool_] | None, *, position: int) -> int:
    """Post the holds of a group, bound and open alike, wholly; gives how many.

    Args:
        state: changed in place.
        group: the group.
        selected: for each member whether it is posted; ``None`` posts all.
        position: the last journal position that was given out, that of the message that asks for it: no record stands
            there, so that a point at a record's place tells of that record alone (``ledger.asof``).

    Raises:
        InvariantViolation: 0 is no group, or a member lies beyond ``selected``; nothing has changed. Or a counter was
            wrong before.
    """
    return _end(state, group, selected, position, is_post=True)


def group_void(state: State, group: int, selected: npt.NDArray[np.bool_] | None, *, position: int) -> int:
    """Void the holds of a group, bound and open alike; gives how many. Arguments and errors as for ``group_post``."""
    return _end(state, group, selected, position, is_post=False)


def group_move(state: State, source: int, target: int, members: npt.NDArray[np.uint32]) -> int:
    """Move holds from one group to another; gives how many. Bound ones stay bound.

    Args:
        state: changed in place.
        source: the group they are in.
        target: the group they go to.
        members: the new member by old member; ``STAY`` leaves the member where it is.

    Raises:
        InvariantViolation: 0 is no group, or a member lies beyond ``members``; nothing has changed.
    """
    _check_group(target)
    renumbered = np.ascontiguousarray(members, np.uint32)
    slots = _slots_of(state, source, renumbered != STAY)
    _move_all(slots, state.hold_table.array, target, renumbered)
    return len(slots)


def _end(state: State, group: int, selected: Any, position: int, *, is_post: bool) -> int:
    slots = _slots_of(state, group, selected)
    holds = state.hold_table.array
    numbers = np.unique(np.concatenate((holds["debit"][slots], holds["credit"][slots])))
    lowest = _end_all(
        slots,
        holds,
        state.hold_links.array,
        state.account_rows,
        state.meters.array,
        state.registry.entries,
        state.free_slots.array,
        state.control,
        is_post,
    )
    if lowest < 0:
        raise InvariantViolation("I3: a group was ended whose holds were not all counted as pending")
    if len(slots):
        state.reserve_points(len(numbers))
        _write_points(state.points.array, state.control, state.account_rows, numbers, position)
    return len(slots)


def _slots_of(state: State, group: int, selected: Any) -> Array:
    """Give the slots of the chosen living holds of a group; order means nothing."""
    _check_group(group)
    chosen = np.zeros(0, np.bool_) if selected is None else np.ascontiguousarray(selected, np.bool_)
    slots = np.empty(state.hold_count, np.uint32)
    count = _collect(state.hold_table.array, state.control[HOLD_TOP], group, chosen, selected is None, slots)
    if count < 0:
        raise InvariantViolation(f"a hold of group {group} has a member beyond the {len(chosen)} that were named")
    return slots[:count]


def _check_group(group: int) -> None:
    if not 0 < group < 2**32:
        raise InvariantViolation(f"{group} is no group")
