"""The posting kernel: commands become records, in exactly the order in which they come.

``post`` applies commands to a ``State`` in place, with the effect of doing them one by one. Nothing here reads a
clock, does IO or makes a Python object for a transfer. The same source runs compiled or, with ``compiled=False``, as
a plain Python loop.

Each command is checked in the order of ``PRECEDENCE``; the first rule it breaks is its result. A refusal changes no
money: it uses up the command's id and fails its chain. Chains (``Flag.LINKED``) are applied member by member and
taken back as a whole when a member is refused, so a member sees what the members before it did.

What may refuse a POST is checked when the hold is made: pending amounts count for the overflow of both accounts and
against the limit of the side they draw on. That is why a POST, VOID or EXPIRE of a living hold can only be refused
for what it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ledger.accounts import AccountFlag
from ledger.compiled import Number, Row, kernel, plain
from ledger.errors import InvariantViolation
from ledger.groups import STAY, group_bind, group_holds, group_move, group_post, group_release, group_void
from ledger.holds import (
    ACCOUNT_COUNT,
    BOUND,
    FREE,
    OPEN,
    due_slots,
    end_hold,
    give_back,
    make_hold,
    push_deadline,
    revive_hold,
)
from ledger.registry import COUNT, POSITION_LIMIT, Array, IdStatus, append, find, hash_id, home_slot, tag_of
from ledger.state import State
from ledger.transfers import NO_MESSAGE, TRANSFER, Flag, Result, Transfers, transfers

__all__ = [
    "DUE_COUNT_MAX",
    "PRECEDENCE",
    "STAY",
    "due",
    "group_bind",
    "group_holds",
    "group_move",
    "group_post",
    "group_release",
    "group_void",
    "post",
]

PRECEDENCE: tuple[Result, ...] = (
    Result.CHAIN_OPEN,
    Result.LINKED_FAILED,
    Result.FLAGS_INVALID,
    Result.AMOUNT_INVALID,
    Result.VALUE_DAY_INVALID,
    Result.SAME_ACCOUNT,
    Result.ID_EXISTS,
    Result.DEBIT_NOT_FOUND,
    Result.CREDIT_NOT_FOUND,
    Result.ASSET_MISMATCH,
    Result.DEBIT_CLOSED,
    Result.CREDIT_CLOSED,
    Result.HOLD_NOT_FOUND,
    Result.HOLD_POSTED,
    Result.HOLD_VOIDED,
    Result.HOLD_EXPIRED,
    Result.HOLD_BOUND,
    Result.HOLD_GROUPED,
    Result.HOLD_NOT_GROUPED,
    Result.HOLD_EXCEEDED,
    Result.REVERSAL_NOT_FOUND,
    Result.REVERSAL_MISMATCH,
    Result.REVERSAL_EXCEEDED,
    Result.NOTHING_AVAILABLE,
    Result.OVERFLOW,
    Result.DEBIT_LIMIT,
    Result.CREDIT_LIMIT,
    Result.MIN_AVAILABLE,
    Result.DEBIT_MAXIMUM,
    Result.CREDIT_MAXIMUM,
    Result.ITEM_LIMIT,
    Result.DAY_LIMIT,
    Result.YEAR_LIMIT,
)
"""Which refusal a command gets when it earns several: the first of these. A result it arrives with goes before all."""

DUE_COUNT_MAX = 2**20
"""Holds that expire at the head of one block, half of what a block can hold; the next block goes on with the others."""
_AMOUNT_MAX = 2**63 - 1
_TIMESTAMP_LIMIT = 2**62  # so that a timestamp plus the longest timeout stays below 2^63

# The compiled functions know plain integers only.
_OK = int(Result.OK)
_LINKED_FAILED = int(Result.LINKED_FAILED)
_CHAIN_OPEN = int(Result.CHAIN_OPEN)
_ID_EXISTS = int(Result.ID_EXISTS)
_FLAGS_INVALID = int(Result.FLAGS_INVALID)
_AMOUNT_INVALID = int(Result.AMOUNT_INVALID)
_SAME_ACCOUNT = int(Result.SAME_ACCOUNT)
_DEBIT_NOT_FOUND = int(Result.DEBIT_NOT_FOUND)
_CREDIT_NOT_FOUND = int(Result.CREDIT_NOT_FOUND)
_ASSET_MISMATCH = int(Result.ASSET_MISMATCH)
_DEBIT_CLOSED = int(Result.DEBIT_CLOSED)
_CREDIT_CLOSED = int(Result.CREDIT_CLOSED)
_HOLD_NOT_FOUND = int(Result.HOLD_NOT_FOUND)
_HOLD_POSTED = int(Result.HOLD_POSTED)
_HOLD_VOIDED = int(Result.HOLD_VOIDED)
_HOLD_EXPIRED = int(Result.HOLD_EXPIRED)
_HOLD_BOUND = int(Result.HOLD_BOUND)
_HOLD_EXCEEDED = int(Result.HOLD_EXCEEDED)
_OVERFLOW = int(Result.OVERFLOW)
_DEBIT_LIMIT = int(Result.DEBIT_LIMIT)
_CREDIT_LIMIT = int(Result.CREDIT_LIMIT)

_PENDING, _POST, _VOID, _EXPIRE = int(Flag.PENDING), int(Flag.POST), int(Flag.VOID), int(Flag.EXPIRE)
_LINKED, _BOUND = int(Flag.LINKED), int(Flag.BOUND)
_KINDS = _PENDING | _POST | _VOID | _EXPIRE
_ENDS = _POST | _VOID | _EXPIRE
_FLAGS = _KINDS | _LINKED | _BOUND

_CREDIT_NORMAL, _LIMITED = int(AccountFlag.CREDIT_NORMAL), int(AccountFlag.LIMITED)
_CLOSED = int(AccountFlag.CLOSED)
_SIDE = _CREDIT_NORMAL | _LIMITED

_ID_POSTED, _ID_REFUSED, _ID_HOLD = int(IdStatus.POSTED), int(IdStatus.REFUSED), int(IdStatus.HOLD_OPEN)
_ID_HOLD_POSTED, _ID_HOLD_VOIDED = int(IdStatus.HOLD_POSTED), int(IdStatus.HOLD_VOIDED)
_ID_HOLD_EXPIRED, _ID_OTHER = int(IdStatus.HOLD_EXPIRED), int(IdStatus.OTHER)

_ONE, _S32, _WORD = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)

# How many commands ahead the kernel reaches for the memory it will need.
_REACH = 32
_NEXT_LINE = np.uint64(7)  # slots: a search often runs on into the next line of the cache


# --- checks: pure, in the order of PRECEDENCE
# ---------------------------------------------------------------------------


@kernel
def _static_refusal(command: Row) -> Number:
    """What is wrong with a command whatever the state."""
    flags = np.int64(command["flags"])
    kind = flags & _KINDS
    amount = command["amount"]
    if flags & ~_FLAGS or kind & (kind - 1):
        return _FLAGS_INVALID
    if flags & _BOUND and (kind != _PENDING or command["group"] == 0):
        return _FLAGS_INVALID
    if kind == _EXPIRE and flags & _LINKED:
        return _FLAGS_INVALID
    if amount < 0 or (amount == 0 and not kind & _ENDS):
        return _AMOUNT_INVALID
    if command["debit"] == command["credit"] and not kind & _ENDS:
        return _SAME_ACCOUNT
    return _OK


@kernel
def _transfer_refusal(command: Row, accounts: Array, account_count: Number) -> Number:
    """What refuses a transfer or a new hold, given the accounts."""
    debit_number, credit_number = np.int64(command["debit"]), np.int64(command["credit"])
    if debit_number == 0 or debit_number > account_count:
        return _DEBIT_NOT_FOUND
    if credit_number == 0 or credit_number > account_count:
        return _CREDIT_NOT_FOUND
    debit, credit, amount = accounts[debit_number], accounts[credit_number], command["amount"]
    debit_flags, credit_flags = np.int64(debit["flags"]), np.int64(credit["flags"])
    if debit["asset"] != credit["asset"]:
        return _ASSET_MISMATCH
    if debit_flags & _CLOSED:
        return _DEBIT_CLOSED
    if credit_flags & _CLOSED:
        return _CREDIT_CLOSED
    # Posted plus pending of a side never exceeds _AMOUNT_MAX, so no later post can overflow, nor any sum below.
    debit_total = debit["debits_posted"] + debit["debits_pending"]
    credit_total = credit["credits_posted"] + credit["credits_pending"]
    if amount > _AMOUNT_MAX - debit_total or amount > _AMOUNT_MAX - credit_total:
        return _OVERFLOW
    if debit_flags & _SIDE == _SIDE and debit["credits_posted"] - (debit_total + amount) < debit["minimum"]:
        return _DEBIT_LIMIT
    if credit_flags & _SIDE == _LIMITED and credit["debits_posted"] - (credit_total + amount) < credit["minimum"]:
        return _CREDIT_LIMIT
    return _OK


@kernel
def _end_refusal(command: Row, status: Number, hold: Row, timestamp_ns: Number) -> Number:
    """What refuses a POST, VOID or EXPIRE of an id that exists; ``hold`` is read only if the id's hold lives."""
    if status == _ID_HOLD_POSTED:
        return _HOLD_POSTED
    if status == _ID_HOLD_VOIDED:
        return _HOLD_VOIDED
    if status == _ID_HOLD_EXPIRED:
        return _HOLD_EXPIRED
    if status != _ID_HOLD:
        return _HOLD_NOT_FOUND
    if hold["status"] == BOUND:
        return _HOLD_BOUND
    is_over = hold["deadline"] != 0 and hold["deadline"] <= timestamp_ns
    if np.int64(command["flags"]) & _EXPIRE:
        return _OK if is_over else _HOLD_NOT_FOUND
    if is_over:
        return _HOLD_EXPIRED
    if np.int64(command["flags"]) & _POST and command["amount"] > hold["amount"]:
        return _HOLD_EXCEEDED
    return _OK


# --- writes: never refused
# ----------------------------------------------------------------------------------------------


@kernel
def _thread(command: Row, debit: Row, credit: Row, position: Number) -> None:
    """Link the record to the previous ones of its two accounts."""
    command["debit_previous"] = debit["last"]
    command["credit_previous"] = credit["last"]
    debit["last"] = position + _ONE
    credit["last"] = position + _ONE


@kernel
def _apply_transfer(command: Row, accounts: Array, position: Number) -> None:
    """Post at once, or reserve."""
    debit, credit, amount = accounts[command["debit"]], accounts[command["credit"]], command["amount"]
    if np.int64(command["flags"]) & _PENDING:
        debit["debits_pending"] += amount
        credit["credits_pending"] += amount
    else:
        debit["debits_posted"] += amount
        credit["credits_posted"] += amount
    _thread(command, debit, credit, position)


@kernel
def _apply_end(command: Row, hold: Row, accounts: Array, entry: Row, position: Number) -> None:
    """End a hold; the record takes from it what the command did not say."""
    flags = np.int64(command["flags"])
    if flags & _VOID or flags & _EXPIRE or command["amount"] == 0:
        command["amount"] = hold["amount"]
    command["debit"] = hold["debit"]
    command["credit"] = hold["credit"]
    command["group"] = hold["group"]
    command["member"] = hold["member"]
    if flags & _POST:
        end_hold(hold, accounts, command["amount"], entry, _ID_HOLD_POSTED)
    elif flags & _VOID:
        end_hold(hold, accounts, 0, entry, _ID_HOLD_VOIDED)
    else:
        end_hold(hold, accounts, 0, entry, _ID_HOLD_EXPIRED)
    _thread(command, accounts[hold["debit"]], accounts[hold["credit"]], position)


@kernel
def _copy_filled(source: Row, target: Row) -> None:
    """Copy the fields that the end of a hold fills in."""
    target["amount"] = source["amount"]
    target["debit"] = source["debit"]
    target["credit"] = source["credit"]
    target["group"] = source["group"]
    target["member"] = source["member"]


@kernel
def _undo(
    commands: Array,
    first: Number,
    applied: Number,
    ending: Any,
    accounts: Array,
    holds: Array,
    hold_entries: Array,
    free: Array,
    control: Array,
    entries: Array,
    number: Number,
) -> None:
    """Take back the members ``first`` ... ``applied`` - 1 of a chain, the last one first; their ids stay, as refused.

    ``number`` is the registry entry of the last of them; ``ending`` has the commands that ended a hold, as they came,
    the slots of these holds, and their count.
    """
    saved, ended, ended_count = ending
    for i in range(applied - 1, first - 1, -1):
        command = commands[i]
        flags = np.int64(command["flags"])
        debit, credit, amount = accounts[command["debit"]], accounts[command["credit"]], command["amount"]
        position = np.uint64(debit["last"]) - _ONE
        debit["last"] = command["debit_previous"]
        credit["last"] = command["credit_previous"]
        if flags & _ENDS:
            ended_count -= 1
            slot = np.int64(ended[ended_count])
            revive_hold(holds[slot], slot, accounts, amount if flags & _POST else 0, entries[hold_entries[slot]])
            _copy_filled(saved[ended_count], command)
        elif flags & _PENDING:
            debit["debits_pending"] -= amount
            credit["credits_pending"] -= amount
            slot = np.int64(entries[number]["low"])
            holds[slot]["status"] = FREE
            give_back(slot, free, control)
        else:
            debit["debits_posted"] -= amount
            credit["credits_posted"] -= amount
        _refuse(command, _LINKED_FAILED)
        entries[number]["low"] = position & _WORD
        entries[number]["tag"] = tag_of(_ID_REFUSED, position)
        number -= 1


@kernel
def _refuse(command: Row, result: Number) -> None:
    """Make a command the record of its refusal."""
    command["result"] = result
    command["debit_previous"] = 0
    command["credit_previous"] = 0


# --- the kernel
# -----------------------------------------------------------------------------------------------------------


@kernel
def _survey(commands: Array, key_0: Number, key_1: Number, fingerprints: Array) -> tuple[int, int]:
    """Hash every id; give how many holds are asked for and the length of the longest chain."""
    hold_count, length, longest = 0, 1, 1
    for i in range(commands.size):
        command = commands[i]
        flags = np.int64(command["flags"])
        party = np.uint64(command["party"])
        fingerprints[i, 0] = hash_id(command["id_hi"], command["id_lo"], party, key_0, key_1) >> _S32
        if flags & _ENDS:
            fingerprints[i, 1] = hash_id(command["related_hi"], command["related_lo"], party, key_0, key_1) >> _S32
        if flags & _PENDING:
            hold_count += 1
        if flags & _LINKED:
            length += 1
            longest = max(longest, length)
        else:
            length = 1
    return hold_count, longest


@kernel
def _reach(
    commands: Array, start: Number, fingerprints: Array, accounts: Array, index: Array, id_control: Array
) -> Number:
    """Touch what the next commands will need, so that the processor fetches it all at once and not bit by bit."""
    touched: Number = np.uint64(0)
    for i in range(start, min(start + _REACH, commands.size)):
        command = commands[i]
        slot = home_slot(id_control, np.uint64(fingerprints[i, 0]))
        touched ^= index[slot] ^ index[slot + _NEXT_LINE]
        if np.int64(command["flags"]) & _ENDS:
            slot = home_slot(id_control, np.uint64(fingerprints[i, 1]))
            touched ^= index[slot] ^ index[slot + _NEXT_LINE]
        else:
            if command["debit"] < accounts.size:
                touched ^= accounts[command["debit"]]["last"]
            if command["credit"] < accounts.size:
                touched ^= accounts[command["credit"]]["last"]
    return touched


@kernel
def _register(
    command: Row,
    fingerprint: Number,
    position: Number,
    status: Number,
    slot: Number,
    entries: Array,
    index: Array,
    id_control: Array,
) -> Number:
    """Use a command's id up; ``slot`` is the place in the index that ``find`` gave. Gives the entry number."""
    high, low, party = command["id_hi"], command["id_lo"], np.uint64(command["party"])
    return append(entries, index, id_control, slot, fingerprint, high, low, party, position, status)


@kernel
def _post(
    commands: Array,
    fingerprints: Array,
    saved: Array,
    ended: Array,
    accounts: Array,
    holds: Array,
    hold_entries: Array,
    free: Array,
    deadlines: Array,
    control: Array,
    entries: Array,
    index: Array,
    id_control: Array,
    timestamp_ns: Number,
    first_position: Number,
) -> Number:
    """Apply commands one by one in order."""
    chain_start, ended_count = -1, 0
    is_broken = False
    touched: Number = np.uint64(0)
    last = commands.size - 1
    for i in range(commands.size):
        if i % _REACH == 0:
            touched ^= _reach(commands, i, fingerprints, accounts, index, id_control)
        command = commands[i]
        flags = np.int64(command["flags"])
        position = np.uint64(first_position + i)
        party = np.uint64(command["party"])
        kind = flags & _KINDS
        if chain_start < 0 and flags & _LINKED:
            chain_start, ended_count, is_broken = i, 0, False

        # An EXPIRE has no id of its own: it uses none up.
        has_id = not flags & _EXPIRE
        fingerprint = np.uint64(fingerprints[i, 0])
        number: Number = np.int64(-1)
        if has_id:
            number = find(entries, index, id_control, fingerprint, command["id_hi"], command["id_lo"], party)
        related: Number = np.int64(-1)
        slot: Number = np.int64(0)
        status: Number = np.int64(0)

        # Checks.
        result: Number = np.int64(command["result"])
        if result == _OK and flags & _LINKED and i == last:
            result = _CHAIN_OPEN
        if result == _OK and chain_start >= 0 and is_broken:
            result = _LINKED_FAILED
        if result == _OK:
            result = _static_refusal(command)
        if result == _OK and number >= 0:
            result = _ID_EXISTS
        if result == _OK:
            if kind & _ENDS:
                related_high, related_low = command["related_hi"], command["related_lo"]
                fingerprint_2 = np.uint64(fingerprints[i, 1])
                related = find(entries, index, id_control, fingerprint_2, related_high, related_low, party)
                if related < 0:
                    result = _HOLD_NOT_FOUND
                else:
                    status = np.int64(entries[related]["tag"]) & 15
                    slot = np.int64(entries[related]["low"]) if status == _ID_HOLD else np.int64(0)
                    result = _end_refusal(command, status, holds[slot], timestamp_ns)
            else:
                result = _transfer_refusal(command, accounts, control[ACCOUNT_COUNT])

        # Writes.
        if result != _OK:
            _refuse(command, result)
            if chain_start >= 0 and not is_broken:
                is_broken = True
                latest = np.int64(id_control[COUNT]) - 1
                ending = (saved, ended, ended_count)
                _undo(commands, chain_start, i, ending, accounts, holds, hold_entries, free, control, entries, latest)
            if has_id and number < 0:
                _register(command, fingerprint, position, _ID_REFUSED, -1 - number, entries, index, id_control)
        else:
            if kind & _ENDS:
                if chain_start >= 0:
                    _copy_filled(command, saved[ended_count])
                    ended[ended_count] = slot
                    ended_count += 1
                _apply_end(command, holds[slot], accounts, entries[related], position)
                if chain_start < 0:
                    give_back(slot, free, control)
                status = _ID_OTHER
            else:
                _apply_transfer(command, accounts, position)
                status = _ID_HOLD if kind == _PENDING else _ID_POSTED
            if has_id:
                number = _register(command, fingerprint, position, status, -1 - number, entries, index, id_control)
            if kind == _PENDING:
                slot = make_hold(command, position, timestamp_ns, number, holds, hold_entries, free, control)
                entries[number]["low"] = slot
                if holds[slot]["deadline"] != 0 and holds[slot]["status"] == OPEN:
                    push_deadline(deadlines, control, holds[slot], slot)

        # The end of a chain: slots of ended holds were kept until nothing can be taken back any more.
        if chain_start >= 0 and not flags & _LINKED:
            if not is_broken:
                for k in range(ended_count):
                    give_back(np.int64(ended[k]), free, control)
            chain_start = -1
    return touched


def post(state: State, commands: Transfers, *, timestamp_ns: int, first_position: int, compiled: bool = True) -> None:
    """Apply commands in order, each with exactly the effect it would have alone, and make them records in place.

    ``commands[i]`` gets journal position ``first_position + i``. Filled in: ``result``; for what is applied also
    ``debit_previous``, ``credit_previous`` (zero on a refusal) and, for POST, VOID and EXPIRE, the amount and what
    their hold knows: ``debit``, ``credit``, ``group``, ``member``. A command that arrives with a result is refused
    with it.

    Args:
        state: changed in place.
        commands: dtype ``TRANSFER``, one-dimensional, contiguous, writeable.
        timestamp_ns: the block's instant, below 2^62; holds made now get their deadline from it.
        first_position: journal position of the first command.
        compiled: ``False`` runs the same source as a plain Python loop, some thousand times slower.

    Raises:
        InvariantViolation: an argument is not of its form; nothing has changed.
    """
    _check_arguments(commands, timestamp_ns, first_position)
    if not len(commands):
        return
    if compiled:
        _run(state, commands, timestamp_ns, first_position, _survey, _post)
    else:
        with np.errstate(over="ignore"):  # the hash wraps on purpose, of which plain numpy integers would warn
            _run(state, commands, timestamp_ns, first_position, plain(_survey), plain(_post))


def _run(
    state: State,
    commands: Transfers,
    timestamp_ns: int,
    first_position: int,
    survey: Callable[..., Any],
    kernel_post: Callable[..., Any],
) -> None:
    """Make room, then apply."""
    registry, scratch = state.registry, state.scratch
    scratch.reserve(len(commands))
    hold_count, longest = survey(commands, registry.key_0, registry.key_1, scratch.fingerprints)
    scratch.reserve_chain(longest)
    state.reserve(id_count=len(commands), hold_count=hold_count)
    kernel_post(
        commands,
        scratch.fingerprints,
        scratch.saved,
        scratch.ended,
        state.account_rows,
        state.hold_table.array,
        state.hold_entries.array,
        state.free_slots.array,
        state.deadlines.array,
        state.control,
        registry.entries,
        registry.index,
        registry.control,
        timestamp_ns,
        first_position,
    )


def due(state: State, timestamp_ns: int) -> Transfers:
    """Give the EXPIRE commands for open holds whose deadline has come, in order of (deadline, id, party).

    No more than ``DUE_COUNT_MAX`` at once: an outage could make any number due together, and all of them would fit no
    block. One that waits for the next block can be neither posted nor voided any more.

    They carry no id of their own; the caller posts them at the head of a block. No money changes. A bound hold is never
    due. Costs one comparison when nothing is due, otherwise time in proportion to what is due, and a sort of it.
    """
    if not state.is_due(timestamp_ns):
        return transfers(0)
    slots = due_slots(state.deadlines.array, state.control, state.hold_table.array, timestamp_ns)
    holds = state.hold_table.array[slots]
    holds = holds[np.lexsort((holds["party"], holds["id_lo"], holds["id_hi"], holds["deadline"]))[:DUE_COUNT_MAX]]
    commands = transfers(len(holds))
    commands["related_hi"], commands["related_lo"] = holds["id_hi"], holds["id_lo"]
    commands["party"] = holds["party"]
    commands["flags"] = Flag.EXPIRE
    commands["message"] = NO_MESSAGE
    return commands


def _check_arguments(commands: Transfers, timestamp_ns: int, first_position: int) -> None:
    """The kernel trusts what it is given: no bounds are checked inside."""
    flags = commands.flags
    if commands.dtype != TRANSFER or commands.ndim != 1 or not flags.c_contiguous or not flags.writeable:
        raise InvariantViolation("commands are a writeable contiguous array of TRANSFER")
    if not 0 <= timestamp_ns < _TIMESTAMP_LIMIT:
        raise InvariantViolation(f"timestamp {timestamp_ns} is out of range")
    if not 0 <= first_position <= POSITION_LIMIT - len(commands):
        raise InvariantViolation(f"position {first_position} is out of range")
