"""What an accepted command does, and how a chain takes it back: compiled functions that refuse nothing.

Everything that a command changes can be told from its record, from what is kept of it while its chain may still fail
(``saved``), and from rows that are not used again before the chain is over. So a chain is taken back member by member,
the last one first, by doing the opposite; afterwards every table is as it was, but for the ids, which are used up.

A function gets the tables it needs as few tuples: ``money`` has accounts, meters, points and control, ``holding`` the
holds, their links, the free slots and control.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ledger.accounts import AccountFlag
from ledger.compiled import Number, Row, inlined, kernel
from ledger.control import POINT_COUNT
from ledger.holds import (
    FREE,
    end_hold,
    give_back,
    give_back_circle,
    release_use,
    revive_hold,
    write_circle_points,
)
from ledger.meters import count_use
from ledger.points import uncount_record
from ledger.registry import Array, IdStatus, position_of, tag_of
from ledger.reversals import take_back_no_more
from ledger.transfers import Flag, Result

__all__ = [
    "NO_SLOT",
    "apply_end",
    "apply_transfer",
    "copy_filled",
    "end_others",
    "finish_chain",
    "first_position_of",
    "refuse",
    "undo",
]

Tables = Any
"""A tuple of arrays."""

_LINKED_FAILED = int(Result.LINKED_FAILED)
_PENDING, _POST, _VOID, _EXPIRE = int(Flag.PENDING), int(Flag.POST), int(Flag.VOID), int(Flag.EXPIRE)
_ENDS = _POST | _VOID | _EXPIRE
_GROUP, _REVERSAL = int(Flag.GROUP), int(Flag.REVERSAL)
_ADJUSTED = int(Flag.REVERSAL | Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
_KEPT = _ENDS | _ADJUSTED
_ID_REFUSED, _ID_HOLD, _ID_REVERSED = int(IdStatus.REFUSED), int(IdStatus.HOLD_OPEN), int(IdStatus.REVERSED)
_ID_HOLD_POSTED, _ID_HOLD_VOIDED = int(IdStatus.HOLD_POSTED), int(IdStatus.HOLD_VOIDED)
_ID_HOLD_EXPIRED = int(IdStatus.HOLD_EXPIRED)
_METERED = int(AccountFlag.METERED)
_ONE, _WORD = np.uint64(1), np.uint64(0xFFFFFFFF)

NO_SLOT = -1
"""Kept beside a balancing command. Beside the end of a hold its slot is kept, beside a reversal -2 - the row."""


@kernel
def refuse(command: Row, result: Number) -> None:
    """Make a command the record of its refusal."""
    command["result"] = result
    command["debit_previous"] = 0
    command["credit_previous"] = 0


@kernel
def first_position_of(entry: Row, holds: Array, reversals: Array) -> Number:
    """Give the position of an id's first record (unsigned 64-bit)."""
    status = np.int64(entry["tag"]) & 15
    if status == _ID_HOLD:
        return np.uint64(holds[entry["low"]]["position"])
    if status == _ID_REVERSED:
        return np.uint64(reversals[entry["low"]]["position"])
    return position_of(entry)


@kernel
def _thread(command: Row, debit: Row, credit: Row, position: Number) -> None:
    """Link the record to the previous ones of its two accounts."""
    command["debit_previous"] = debit["last"]
    command["credit_previous"] = credit["last"]
    debit["last"] = position + _ONE
    credit["last"] = position + _ONE


@kernel
def apply_transfer(command: Row, flags: Number, amount: Number, position: Number, debit: Row, credit: Row) -> None:
    """Post at once, or reserve."""
    if flags & _PENDING:
        debit["debits_pending"] += amount
        credit["credits_pending"] += amount
    else:
        debit["debits_posted"] += amount
        credit["credits_posted"] += amount
    _thread(command, debit, credit, position)


@inlined
def apply_end(command: Row, flags: Number, position: Number, hold: Row, debit: Row, credit: Row, entry: Row) -> None:
    """End a hold; the record takes from it what the command did not say."""
    if not flags & _POST or command["amount"] == 0:
        command["amount"] = hold["amount"]
    command["debit"] = hold["debit"]
    command["credit"] = hold["credit"]
    command["group"] = hold["group"]
    command["member"] = hold["member"]
    end_hold(hold, debit, credit, _posted(command, flags), entry, _ending(flags))
    _thread(command, debit, credit, position)


@kernel
def _posted(command: Row, flags: Number) -> Number:
    """Give what the end of a hold posts."""
    return np.int64(command["amount"]) if flags & _POST else np.int64(0)


@kernel
def _ending(flags: Number) -> Number:
    """Give what becomes of a hold's id."""
    if flags & _POST:
        return _ID_HOLD_POSTED
    return _ID_HOLD_VOIDED if flags & _VOID else _ID_HOLD_EXPIRED


@kernel
def end_others(flags: Number, slot: Number, position: Number, money: Tables, holding: Tables, entries: Array) -> None:
    """End the other holds of a circle as the first one was; every account of the circle gets a point."""
    accounts, meters, points, control = money
    holds, links, _, _ = holding
    place = np.int64(links[slot]["next"])
    while place != slot:
        hold = holds[place]
        debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
        posted = np.int64(hold["amount"]) if flags & _POST else np.int64(0)
        if hold["counted"] != 0:
            release_use(hold, debit, hold["amount"] - posted, meters, control)
        end_hold(hold, debit, credit, posted, entries[links[place]["entry"]], _ending(flags))
        place = np.int64(links[place]["next"])
    write_circle_points(slot, holds, links, points, accounts, control, position)


@kernel
def copy_filled(source: Row, target: Row) -> None:
    """Copy the fields that the kernel may fill in."""
    target["amount"] = source["amount"]
    target["debit"] = source["debit"]
    target["credit"] = source["credit"]
    target["group"] = source["group"]
    target["member"] = source["member"]


@kernel
def finish_chain(ended: Array, count: Number, holding: Tables) -> None:
    """Give the slots back that a chain has emptied, now that nothing of it can be taken back any more."""
    _, links, free, control = holding
    for k in range(count):
        if ended[k] >= 0:
            give_back_circle(np.int64(ended[k]), links, free, control)


@kernel
def _undo_end(command: Row, slot: Number, money: Tables, holding: Tables, entries: Array) -> None:
    """Revive the holds that a command has ended: the one it named, and with GROUP the others of its circle."""
    accounts, meters, _, control = money
    holds, links, _, _ = holding
    flags = np.int64(command["flags"])
    posted = _posted(command, flags)
    place = np.int64(slot)
    while True:
        hold = holds[place]
        debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
        if hold["counted"] != 0:
            release_use(hold, debit, posted - hold["amount"], meters, control)
        revive_hold(hold, place, debit, credit, posted, entries[links[place]["entry"]])
        place = np.int64(links[place]["next"])
        if place == slot:
            return
        posted = np.int64(holds[place]["amount"]) if flags & _POST else np.int64(0)


@kernel
def _undo_transfer(command: Row, debit: Row, credit: Row, meters: Array) -> None:
    """Take an amount out of the counters again."""
    amount = command["amount"]
    if np.int64(command["flags"]) & _PENDING:
        debit["debits_pending"] -= amount
        credit["credits_pending"] -= amount
    else:
        debit["debits_posted"] -= amount
        credit["credits_posted"] -= amount
    if np.int64(debit["flags"]) & _METERED:
        count_use(meters[debit["meter"]], -amount)


@kernel
def undo(
    commands: Array,
    first: Number,
    applied: Number,
    number: Number,
    kept: Tables,
    money: Tables,
    holding: Tables,
    entries: Array,
    reversals: Array,
) -> None:
    """Take back the members ``first`` ... ``applied`` - 1 of a chain, the last one first; their ids stay, as refused.

    ``number`` is the registry entry of the last of them; ``kept`` has the commands that were filled in, as they came,
    the slots they emptied, how many that are, and how many points there were before the chain.
    """
    saved, ended, kept_count, point_count = kept
    accounts, meters, _, control = money
    holds, _, free, _ = holding
    for i in range(applied - 1, first - 1, -1):
        command = commands[i]
        flags = np.int64(command["flags"])
        debit, credit = accounts[command["debit"]], accounts[command["credit"]]
        position = np.uint64(debit["last"]) - _ONE
        debit["last"] = command["debit_previous"]
        credit["last"] = command["credit_previous"]
        uncount_record(debit, credit)
        if flags & _ENDS:
            _undo_end(command, np.int64(ended[kept_count - 1]), money, holding, entries)
        else:
            _undo_transfer(command, debit, credit, meters)
            if flags & _PENDING:
                slot = np.int64(entries[number]["low"])
                holds[slot]["status"] = FREE
                give_back(slot, free, control)
            if flags & _REVERSAL:
                row = -2 - np.int64(ended[kept_count - 1])
                take_back_no_more(row, np.int64(command["amount"]), entries, reversals, control)
        if flags & _KEPT:
            kept_count -= 1
            copy_filled(saved[kept_count], command)
        refuse(command, _LINKED_FAILED)
        entries[number]["low"] = position & _WORD
        entries[number]["tag"] = tag_of(_ID_REFUSED, position)
        number -= 1
    control[POINT_COUNT] = point_count
