"""The table of living holds and the heap of their deadlines: what the kernels do to them.

A hold lies in a slot; a slot is used again as soon as its hold has ended. The heap has one element for each deadline
that was set. Elements are not removed when their hold ends or is bound: they are stale, and go when they come to the
top and would be due, or all at once when they are the majority.

Everything here is compiled and trusts its arguments; ``ledger.state`` owns the arrays and makes room in them.
"""

from __future__ import annotations

import numpy as np

from ledger.compiled import Number, Row, kernel
from ledger.registry import Array, IdStatus, tag_of
from ledger.transfers import Flag

__all__ = ["DEADLINE", "HOLD"]

HOLD = np.dtype(
    [
        ("id_hi", "<u8"),
        ("id_lo", "<u8"),
        ("amount", "<i8"),
        ("deadline", "<i8"),
        ("position", "<u8"),
        ("debit", "<u4"),
        ("credit", "<u4"),
        ("group", "<u4"),
        ("member", "<u4"),
        ("party", "<u4"),
        ("status", "<u4"),
    ]
)
"""One hold, 64 bytes. ``deadline``: nanoseconds, 0 for none. ``status``: 0 free, 1 open, 2 bound."""

DEADLINE = np.dtype([("deadline", "<i8"), ("position", "<u8"), ("slot", "<u8")])
"""One element of the heap: stale once its slot holds no open hold of that position."""

FREE, OPEN, BOUND = 0, 1, 2

# Fields of the state's ``control``, which the compiled functions share.
ACCOUNT_COUNT = 0
HOLD_TOP = 1
FREE_COUNT = 2
HOLD_COUNT = 3
DEADLINE_COUNT = 4

NANOSECONDS = 1_000_000_000

_BOUND_FLAG = int(Flag.BOUND)
_LIVING = int(IdStatus.HOLD_OPEN)
_WORD = np.uint64(0xFFFFFFFF)


@kernel
def make_hold(
    command: Row,
    position: Number,
    timestamp_ns: Number,
    number: Number,
    holds: Array,
    hold_entries: Array,
    free: Array,
    control: Array,
) -> Number:
    """Give a new hold a slot; ``number`` is the number of its registry entry."""
    if control[FREE_COUNT] > 0:
        control[FREE_COUNT] -= 1
        slot = np.int64(free[control[FREE_COUNT]])
    else:
        slot = np.int64(control[HOLD_TOP])
        control[HOLD_TOP] += 1
    control[HOLD_COUNT] += 1
    hold_entries[slot] = number
    hold = holds[slot]
    hold["id_hi"] = command["id_hi"]
    hold["id_lo"] = command["id_lo"]
    hold["amount"] = command["amount"]
    timeout_s = np.int64(command["timeout_s"])
    hold["deadline"] = timestamp_ns + timeout_s * NANOSECONDS if timeout_s != 0 else 0
    hold["position"] = position
    hold["debit"] = command["debit"]
    hold["credit"] = command["credit"]
    hold["group"] = command["group"]
    hold["member"] = command["member"]
    hold["party"] = command["party"]
    hold["status"] = BOUND if np.int64(command["flags"]) & _BOUND_FLAG else OPEN
    return slot


@kernel
def end_hold(hold: Row, accounts: Array, posted: Number, entry: Row, status: Number) -> None:
    """End a living hold, posting ``posted`` of it: its id knows the position again; its slot is not given back yet."""
    amount = hold["amount"]
    debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
    debit["debits_pending"] -= amount
    credit["credits_pending"] -= amount
    debit["debits_posted"] += posted
    credit["credits_posted"] += posted
    hold["status"] = FREE
    entry["low"] = hold["position"] & _WORD
    entry["tag"] = tag_of(status, hold["position"])


@kernel
def revive_hold(hold: Row, slot: Number, accounts: Array, posted: Number, entry: Row) -> None:
    """Take back ``end_hold``."""
    amount = hold["amount"]
    debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
    debit["debits_pending"] += amount
    credit["credits_pending"] += amount
    debit["debits_posted"] -= posted
    credit["credits_posted"] -= posted
    hold["status"] = OPEN
    entry["low"] = slot
    entry["tag"] = tag_of(_LIVING, hold["position"])


@kernel
def give_back(slot: Number, free: Array, control: Array) -> None:
    """Let a slot be used again."""
    free[control[FREE_COUNT]] = slot
    control[FREE_COUNT] += 1
    control[HOLD_COUNT] -= 1


@kernel
def _copy_element(source: Row, target: Row) -> None:
    """Copy field by field: assigning whole rows compiles to one move a byte."""
    target["deadline"] = source["deadline"]
    target["position"] = source["position"]
    target["slot"] = source["slot"]


@kernel
def push_deadline(heap: Array, control: Array, hold: Row, slot: Number) -> None:
    """Add a hold's deadline. The parent of element i is (i - 1) // 2 and is never later."""
    i = np.int64(control[DEADLINE_COUNT])
    control[DEADLINE_COUNT] += 1
    deadline = hold["deadline"]
    while i > 0 and heap[(i - 1) // 2]["deadline"] > deadline:
        _copy_element(heap[(i - 1) // 2], heap[i])
        i = (i - 1) // 2
    heap[i]["deadline"] = deadline
    heap[i]["position"] = hold["position"]
    heap[i]["slot"] = slot


@kernel
def is_stale(element: Row, holds: Array) -> Number:
    """Whether an element's hold is gone or bound; a release pushes it anew."""
    hold = holds[element["slot"]]
    return hold["status"] != OPEN or hold["position"] != element["position"]


@kernel
def drop_stale(heap: Array, control: Array, holds: Array, timestamp_ns: Number) -> None:
    """Remove stale elements for as long as one that would be due is at the top."""
    while control[DEADLINE_COUNT] > 0 and heap[0]["deadline"] <= timestamp_ns and is_stale(heap[0], holds):
        control[DEADLINE_COUNT] -= 1
        count = np.int64(control[DEADLINE_COUNT])
        deadline = heap[count]["deadline"]
        i = np.int64(0)
        while 2 * i + 1 < count:
            child = 2 * i + 1
            if child + 1 < count and heap[child + 1]["deadline"] < heap[child]["deadline"]:
                child += 1
            if heap[child]["deadline"] >= deadline:
                break
            _copy_element(heap[child], heap[i])
            i = child
        _copy_element(heap[count], heap[i])


@kernel
def due_slots(heap: Array, control: Array, holds: Array, timestamp_ns: Number) -> Array:
    """Give the slots of the open holds due by now, in no order; only due elements and their children are visited."""
    drop_stale(heap, control, holds, timestamp_ns)
    count = np.int64(control[DEADLINE_COUNT])
    if count == 0 or heap[0]["deadline"] > timestamp_ns:
        return np.empty(0, np.int64)
    visit = np.empty(count, np.int64)
    visit[0] = 0
    seen, found, kept = 0, 1, 0
    while seen < found:
        i = visit[seen]
        seen += 1
        for child in (2 * i + 1, 2 * i + 2):
            if child < count and heap[child]["deadline"] <= timestamp_ns:
                visit[found] = child
                found += 1
        if not is_stale(heap[i], holds):
            visit[kept] = np.int64(heap[i]["slot"])
            kept += 1
    return visit[:kept].copy()
