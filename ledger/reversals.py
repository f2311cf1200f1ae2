"""Reversals: how much of an earlier transfer has been taken back, and how the kernel learns what it was.

A transfer that was never reversed leaves nothing in memory but its id; what it moved is read from the journal when it
is first reversed, before the kernel runs. From then on it has a row in the table of reversals, and its id points there.
Rows are made in the order of first reversals and never removed, unless the chain that made them is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ledger.compiled import Number, Row, kernel
from ledger.control import REVERSAL_COUNT
from ledger.errors import IntegrityFailure, InvariantViolation
from ledger.registry import Array, IdStatus, find, position_of, tag_of
from ledger.transfers import TRANSFER, Flag, Result, Transfers

if TYPE_CHECKING:
    from ledger.state import State

__all__ = ["REVERSAL", "Recall", "recalled"]

REVERSAL = np.dtype(
    [
        ("position", "<u8"),
        ("amount", "<i8"),
        ("reversed", "<i8"),
        ("debit", "<u4"),
        ("credit", "<u4"),
        ("entry", "<u4"),
        ("status", "<u2"),
        ("zero", "<u2"),
    ]
)
"""One original, 40 bytes: its position, its applied amount (0: it cannot be reversed), what reversals have taken back,
its accounts, the number of its registry entry, and the status that its id had before."""

Recall = Callable[[npt.NDArray[np.uint64]], Transfers]
"""Gives the records at some positions, which are strictly ascending."""

_POST = int(Flag.POST)
_REVERSAL_FLAG = int(Flag.REVERSAL)
_IRREVERSIBLE = int(Flag.PENDING | Flag.VOID | Flag.EXPIRE | Flag.REVERSAL | Flag.GROUP)
_ID_POSTED, _ID_OTHER, _ID_REVERSED = int(IdStatus.POSTED), int(IdStatus.OTHER), int(IdStatus.REVERSED)
_OK = int(Result.OK)
_NOT_FOUND, _MISMATCH = int(Result.REVERSAL_NOT_FOUND), int(Result.REVERSAL_MISMATCH)
_EXCEEDED = int(Result.REVERSAL_EXCEEDED)
_WORD = np.uint64(0xFFFFFFFF)


# --- before the kernel
# --------------------------------------------------------------------------------------------------


@kernel
def find_originals(
    commands: Array, named: Array, ids: tuple[Array, Array, Array], numbers: Array, positions: Array
) -> Number:
    """Write entry number and position of each id that a REVERSAL names and the journal must be asked for."""
    entries, index, id_control = ids
    count = 0
    for i in range(commands.size):
        command = commands[i]
        if not np.int64(command["flags"]) & _REVERSAL_FLAG:
            continue
        party = np.uint64(command["party"])
        fingerprint = np.uint64(named[i])
        number = find(entries, index, id_control, fingerprint, command["related_hi"], command["related_lo"], party)
        if number < 0:
            continue
        status = np.int64(entries[number]["tag"]) & 15
        if status in (_ID_POSTED, _ID_OTHER):
            numbers[count] = number
            positions[count] = position_of(entries[number])
            count += 1
    return count


def recalled(
    state: State, commands: Transfers, named: Array, recall: Recall | None, finder: Callable[..., int]
) -> Array:
    """Read the originals of reversals that are not in memory.

    Args:
        state: not changed.
        commands: with reversals among them.
        named: fingerprints of their related ids.
        recall: reads records.
        finder: the function of this name, compiled or plain.

    Returns:
        Rows of ``REVERSAL`` in order of position, as the table will have them.

    Raises:
        InvariantViolation: there is nobody to ask.
        IntegrityFailure: the journal has something else at a position than the registry of ids says.
    """
    registry = state.registry
    numbers, positions = np.empty(len(commands), np.int64), np.empty(len(commands), np.uint64)
    ids = (registry.entries, registry.index, registry.control)
    count = finder(commands, named, ids, numbers, positions)
    wanted, first = np.unique(positions[:count], return_index=True)
    rows = np.zeros(len(wanted), REVERSAL)
    if not count:
        return rows
    if recall is None:
        raise InvariantViolation("a transfer is reversed whose record nobody can recall")
    records = recall(wanted)
    entries = registry.entries[numbers[first]]
    _check_recalled(records, entries, wanted)
    is_reversible = records["flags"] & _IRREVERSIBLE == 0
    rows["position"], rows["entry"], rows["status"] = wanted, numbers[first], entries["tag"] & 15
    rows["amount"] = np.where(is_reversible, records["amount"], 0)
    rows["debit"], rows["credit"] = records["debit"], records["credit"]
    return rows


def _check_recalled(records: Transfers, entries: Array, positions: npt.NDArray[np.uint64]) -> None:
    """Hold recalled records against the registry."""
    if records.dtype != TRANSFER or len(records) != len(entries):
        raise InvariantViolation("another number of records was recalled than was asked for")
    differs = records["result"] != Result.OK
    for name in ("id_hi", "id_lo", "party"):
        differs |= records[name] != entries[name]
    for position in positions[differs][:1].tolist():
        sentence = "The journal has another record here than the one whose id was used up."
        raise IntegrityFailure("RECORD_RECALLED", sentence, position=position)


# --- inside the kernel
# --------------------------------------------------------------------------------------------------


Past = tuple[Array, Array, Array, Array]
"""Entries of ids, the table of reversals, the rows that were recalled, and the commands of this call."""


@kernel
def _original_of(number: Number, past: Past, first_position: Number) -> tuple[Number, Number, Number, Number]:
    """Give applied amount, rest, debit and credit account of what an id stands for; amount 0: it cannot be reversed."""
    entries, reversals, originals, commands = past
    entry = entries[number]
    nothing = np.int64(0)
    status = np.int64(entry["tag"]) & 15
    if status == _ID_REVERSED:
        row = reversals[entry["low"]]
        amount = np.int64(row["amount"])
        return amount, amount - row["reversed"], np.int64(row["debit"]), np.int64(row["credit"])
    if status not in (_ID_POSTED, _ID_OTHER):
        return nothing, nothing, nothing, nothing
    position = np.int64(position_of(entry))
    if position >= first_position:
        record = commands[position - first_position]
        if np.int64(record["flags"]) & _IRREVERSIBLE:
            return nothing, nothing, nothing, nothing
        amount = np.int64(record["amount"])
        return amount, amount, np.int64(record["debit"]), np.int64(record["credit"])
    low, high = 0, originals.size
    while low < high:
        middle = (low + high) // 2
        if np.int64(originals[middle]["position"]) < position:
            low = middle + 1
        else:
            high = middle
    row = originals[low]
    amount = np.int64(row["amount"])
    return amount, amount, np.int64(row["debit"]), np.int64(row["credit"])


@kernel
def reversal_refusal(command: Row, number: Number, past: Past, first_position: Number) -> tuple[Number, Number]:
    """Say what refuses a REVERSAL of the id of an entry, and what it takes back."""
    asked = np.int64(command["amount"])
    amount, rest, debit, credit = _original_of(number, past, first_position)
    if amount == 0:
        return _NOT_FOUND, asked
    if np.int64(command["debit"]) != credit or np.int64(command["credit"]) != debit:
        return _MISMATCH, asked
    if rest == 0 or asked > rest:
        return _EXCEEDED, asked
    return _OK, rest if asked == 0 else asked


@kernel
def take_back(number: Number, amount: Number, past: Past, first_position: Number, control: Array) -> None:
    """Count what a REVERSAL takes back; with the first one its original gets a row."""
    entries, reversals, _, _ = past
    entry = entries[number]
    status = np.int64(entry["tag"]) & 15
    if status != _ID_REVERSED:
        whole, _, debit, credit = _original_of(number, past, first_position)
        position = position_of(entry)
        slot = np.int64(control[REVERSAL_COUNT])
        control[REVERSAL_COUNT] += 1
        row = reversals[slot]
        row["position"] = position
        row["amount"] = whole
        row["reversed"] = 0
        row["debit"] = debit
        row["credit"] = credit
        row["entry"] = number
        row["status"] = status
        row["zero"] = 0
        entry["low"] = slot
        entry["tag"] = tag_of(_ID_REVERSED, position)
    reversals[entry["low"]]["reversed"] += amount


@kernel
def take_back_no_more(slot: Number, amount: Number, entries: Array, reversals: Array, control: Array) -> None:
    """Undo ``take_back``; a row that this empties is the last that was made."""
    row = reversals[slot]
    row["reversed"] -= amount
    if row["reversed"] == 0:
        entry = entries[row["entry"]]
        entry["low"] = row["position"] & _WORD
        entry["tag"] = tag_of(np.int64(row["status"]), row["position"])
        control[REVERSAL_COUNT] -= 1
