"""The table of living holds and the heap of their deadlines: what the kernels do to them.

A hold lies in a slot; a slot is used again as soon as its hold has ended. The slots of a hold group make a circle, a
hold in no group is a circle by itself, and a circle ends as a whole. The heap has one element for each deadline that
was set. Elements are not removed when their hold ends or is bound: they are stale, and go when they come to the top and
would be due, or all at once when they are the majority.

Everything here is compiled and trusts its arguments; ``ledger.state`` owns the arrays and makes room in them.
"""

from __future__ import annotations

import numpy as np

from ledger.compiled import Number, Row, kernel
from ledger.control import DEADLINE_COUNT, FREE_COUNT, HOLD_COUNT, HOLD_TOP
from ledger.meters import give_back as give_back_use
from ledger.points import write_point
from ledger.registry import Array, IdStatus, tag_of
from ledger.transfers import Flag

__all__ = ["DEADLINE", "HOLD", "HOLD_LINK"]

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
        ("status", "<u2"),
        ("counted", "<u2"),
    ]
)
"""One hold, 64 bytes. ``deadline``: nanoseconds, 0 for none. ``status``: 0 free, 1 open, 2 bound. ``counted``: 1 + the
business day on which the debit account's meter counted it, 0 if it did not."""

HOLD_LINK = np.dtype([("entry", "<u4"), ("next", "<u4")])
"""Beside each hold: the number of its registry entry, and the next slot of its circle."""

DEADLINE = np.dtype([("deadline", "<i8"), ("position", "<u8"), ("slot", "<u8")])
"""One element of the heap: stale once its slot holds no open hold of that position."""

FREE, OPEN, BOUND = 0, 1, 2

NANOSECONDS = 1_000_000_000

_BOUND_FLAG = int(Flag.BOUND)
_LIVING = int(IdStatus.HOLD_OPEN)
_WORD = np.uint64(0xFFFFFFFF)
_MARK = 2**15  # no flag of an account


@kernel
def take_slot(free: Array, control: Array) -> Number:
    """Give a slot for a new hold."""
    control[HOLD_COUNT] += 1
    if control[FREE_COUNT] > 0:
        control[FREE_COUNT] -= 1
        return np.int64(free[control[FREE_COUNT]])
    slot = np.int64(control[HOLD_TOP])
    control[HOLD_TOP] += 1
    return slot


@kernel
def fill_hold(command: Row, position: Number, timestamp_ns: Number, counted: Number, hold: Row) -> None:
    """Make a hold of a command; ``counted`` as in ``HOLD``."""
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
    hold["counted"] = counted


@kernel
def join_circle(links: Array, slot: Number, fresh: Number) -> None:
    """Put the hold of a fresh slot, which is by itself, into another one's circle."""
    links[fresh]["next"] = links[slot]["next"]
    links[slot]["next"] = fresh


@kernel
def is_over(hold: Row, timestamp_ns: Number) -> Number:
    """Whether a hold's own deadline has come."""
    return hold["deadline"] != 0 and hold["deadline"] <= timestamp_ns


@kernel
def is_circle_over(holds: Array, links: Array, slot: Number, timestamp_ns: Number) -> Number:
    """Whether the deadline of any hold of a circle has come."""
    place = np.int64(slot)
    while True:
        if is_over(holds[place], timestamp_ns):
            return True
        place = np.int64(links[place]["next"])
        if place == slot:
            return False


@kernel
def end_hold(hold: Row, debit: Row, credit: Row, posted: Number, entry: Row, status: Number) -> None:
    """End a living hold, posting ``posted`` of it: its id knows the position again; its slot is not given back yet."""
    amount = hold["amount"]
    debit["debits_pending"] -= amount
    credit["credits_pending"] -= amount
    debit["debits_posted"] += posted
    credit["credits_posted"] += posted
    hold["status"] = FREE
    entry["low"] = hold["position"] & _WORD
    entry["tag"] = tag_of(status, hold["position"])


@kernel
def revive_hold(hold: Row, slot: Number, debit: Row, credit: Row, posted: Number, entry: Row) -> None:
    """Take back ``end_hold``."""
    amount = hold["amount"]
    debit["debits_pending"] += amount
    credit["credits_pending"] += amount
    debit["debits_posted"] -= posted
    credit["credits_posted"] -= posted
    hold["status"] = OPEN
    entry["low"] = slot
    entry["tag"] = tag_of(_LIVING, hold["position"])


@kernel
def release_use(hold: Row, debit: Row, released: Number, meters: Array, control: Array) -> None:
    """Give back to the debit account's meter what a hold releases that it counted; below zero takes that back."""
    give_back_use(meters[debit["meter"]], np.int64(hold["counted"]), released, control)


@kernel
def give_back(slot: Number, free: Array, control: Array) -> None:
    """Let a slot be used again."""
    free[control[FREE_COUNT]] = slot
    control[FREE_COUNT] += 1
    control[HOLD_COUNT] -= 1


@kernel
def give_back_circle(slot: Number, links: Array, free: Array, control: Array) -> None:
    """Let all slots of a circle be used again."""
    place = np.int64(slot)
    while True:
        give_back(place, free, control)
        place = np.int64(links[place]["next"])
        if place == slot:
            return


@kernel
def write_circle_points(
    slot: Number, holds: Array, links: Array, points: Array, accounts: Array, control: Array, position: Number
) -> None:
    """Write a point of each account of a circle's holds, once; an account is marked until all have theirs."""
    for is_marking in (True, False):
        place = np.int64(slot)
        while True:
            for number in (np.int64(holds[place]["debit"]), np.int64(holds[place]["credit"])):
                flags = np.int64(accounts[number]["flags"])
                if is_marking and not flags & _MARK:
                    write_point(points, control, accounts, number, position)
                accounts[number]["flags"] = flags | _MARK if is_marking else flags & ~_MARK
            place = np.int64(links[place]["next"])
            if place == slot:
                break


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


@kernel
def first_of_circles(slots: Array, links: Array, top: Number) -> Array:
    """Say which of some slots are the first of their circle among them, in the order they come in."""
    is_first = np.ones(slots.size, np.bool_)
    is_seen = np.zeros(top, np.bool_)
    for i in range(slots.size):
        slot = np.int64(slots[i])
        if is_seen[slot]:
            is_first[i] = False
            continue
        place = np.int64(links[slot]["next"])
        while place != slot:
            is_seen[place] = True
            place = np.int64(links[place]["next"])
    return is_first
