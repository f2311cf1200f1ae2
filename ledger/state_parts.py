"""A state as named arrays, and the state that they make again: what a snapshot has of the money and the ids.

Only what is in use is kept, in the dtypes of the kernel. Three things are made anew instead: the index of ids, which
hangs on a secret key that is another one in each process, the heap of deadlines, which follows from the open holds, and
the working memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ledger.balances import ACCOUNT
from ledger.control import (
    ACCOUNT_COUNT,
    BUSINESS_DAY,
    DEADLINE_COUNT,
    FREE_COUNT,
    HOLD_TOP,
    METER_COUNT,
    POINT_COUNT,
    REVERSAL_COUNT,
    SIZE,
    YEAR_START,
)
from ledger.errors import IntegrityFailure, InvariantViolation
from ledger.holds import HOLD, HOLD_LINK
from ledger.meters import CLASS_LIMIT, METER, year_start
from ledger.registry import ENTRY, Array, Growable, Registry, aligned_zeros
from ledger.reversals import REVERSAL
from ledger.soundness import check_tables
from ledger.state import State

__all__ = ["DTYPES", "Read", "restore_state", "state_arrays"]

Read = Callable[[str, npt.DTypeLike, int], tuple[Growable, int]]
"""Gives a part by its name, its dtype, and how many more elements there shall be room for; and how many were read."""

DTYPES: dict[str, npt.DTypeLike] = {
    "control": np.int64,
    "accounts": ACCOUNT,
    "meters": METER,
    "classes": CLASS_LIMIT,
    "holds": HOLD,
    "hold-links": HOLD_LINK,
    "free-slots": np.uint32,
    "reversals": REVERSAL,
    "ids": ENTRY,
}
"""The parts of a state, in the order in which they are kept."""

_ROOM = 1_024
_ANEW = [DEADLINE_COUNT, POINT_COUNT]


def state_arrays(state: State) -> dict[str, Array]:
    """Give what is in use of a state's arrays, as they are; they change with the state.

    Raises:
        InvariantViolation: points that were written have not been taken.
    """
    control = state.control.copy()
    if control[POINT_COUNT]:
        raise InvariantViolation("a state is kept only between two blocks")
    control[_ANEW] = 0
    hold_top = control[HOLD_TOP]
    return {
        "control": control,
        "accounts": state.account_rows[: control[ACCOUNT_COUNT] + 1],
        "meters": state.meters.array[: control[METER_COUNT] + 1],
        "classes": state.class_rows,
        "holds": state.hold_table.array[:hold_top],
        "hold-links": state.hold_links.array[:hold_top],
        "free-slots": state.free_slots.array[: control[FREE_COUNT]],
        "reversals": state.reversals.array[: control[REVERSAL_COUNT]],
        "ids": state.registry.entries[: len(state.registry)],
    }


def restore_state(hash_key: bytes, read: Read) -> State:
    """Make a state of its parts, and check all that must hold over a state.

    Raises:
        IntegrityFailure: ``SNAPSHOT_UNSOUND``, they make no sound state.
    """
    state = State(hash_key)
    parts = {name: read(name, dtype, _ROOM) for name, dtype in DTYPES.items()}
    control = parts["control"][0].array[: parts["control"][1]]
    counts = {name: count for name, (_, count) in parts.items()}
    if not _fits(control, counts):
        raise _unsound("its tables are not as long as it says")
    state.control[:] = control
    rows = aligned_zeros(counts["accounts"] + _ROOM, ACCOUNT)
    rows[: counts["accounts"]] = parts["accounts"][0].array[: counts["accounts"]]
    state.account_rows = rows
    state.class_rows = parts["classes"][0].array[: counts["classes"]].copy()
    state.meters, state.reversals = parts["meters"][0], parts["reversals"][0]
    state.hold_table, state.hold_links = parts["holds"][0], parts["hold-links"][0]
    state.free_slots = parts["free-slots"][0]
    state.free_slots.grow(len(state.hold_table.array))
    try:
        state.registry = Registry.restore(hash_key, parts["ids"][0], counts["ids"])
        state.sweep_deadlines()
        check_tables(state)
    except (InvariantViolation, IndexError) as error:
        raise _unsound(str(error)) from error
    return state


def _fits(control: Array, counts: dict[str, int]) -> bool:
    """Whether the counts that a state keeps are those of its parts, and its days fit."""
    if len(control) != SIZE or np.any(control < 0) or np.any(control[_ANEW]):
        return False
    expected = {
        "accounts": control[ACCOUNT_COUNT] + 1,
        "meters": control[METER_COUNT] + 1,
        "holds": control[HOLD_TOP],
        "hold-links": control[HOLD_TOP],
        "free-slots": control[FREE_COUNT],
        "reversals": control[REVERSAL_COUNT],
    }
    day = int(control[BUSINESS_DAY])
    is_day = day < 2**16 and int(control[YEAR_START]) == year_start(day)
    return is_day and counts["classes"] > 0 and all(counts[name] == count for name, count in expected.items())


def _unsound(sentence: str) -> IntegrityFailure:
    return IntegrityFailure("SNAPSHOT_UNSOUND", f"A snapshot is not what a ledger could be: {sentence}.")
