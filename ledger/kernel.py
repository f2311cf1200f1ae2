"""The kernel's loop: commands one by one in order, each checked, then carried out or refused.

The order in which things are checked and written is the proof that a batch has exactly the effect of its items alone,
so it stands here in one piece; what a check or an effect is by itself is in ``ledger.checks`` and ``ledger.effects``.
``ledger.posting`` makes room and calls it.
"""

from __future__ import annotations

import numpy as np

from ledger.accounts import AccountFlag
from ledger.checks import (
    balanced_amount,
    condition_refusal,
    end_refusal,
    is_ordinary,
    limit_refusal,
    place_refusal,
    static_refusal,
    unusual_refusal,
)
from ledger.compiled import Number, Row, kernel
from ledger.control import ACCOUNT_COUNT, BUSINESS_DAY, POINT_COUNT
from ledger.effects import (
    NO_SLOT,
    apply_end,
    apply_transfer,
    copy_filled,
    end_others,
    finish_chain,
    first_position_of,
    refuse,
    undo,
)
from ledger.holds import (
    OPEN,
    fill_hold,
    give_back,
    give_back_circle,
    is_circle_over,
    is_over,
    join_circle,
    push_deadline,
    release_use,
    take_slot,
)
from ledger.meters import count_use
from ledger.points import POINT_INTERVAL, count_record, write_due_points
from ledger.registry import COUNT, Array, IdStatus, append, find, hash_id, home_slot
from ledger.reversals import Past, reversal_refusal, take_back
from ledger.transfers import Flag, Result

__all__ = ["apply_commands", "survey"]

# The compiled functions know plain integers only.
_OK = int(Result.OK)
_LINKED_FAILED = int(Result.LINKED_FAILED)
_CHAIN_OPEN = int(Result.CHAIN_OPEN)
_ID_EXISTS = int(Result.ID_EXISTS)
_HOLD_NOT_FOUND = int(Result.HOLD_NOT_FOUND)
_REVERSAL_NOT_FOUND = int(Result.REVERSAL_NOT_FOUND)
_NOTHING_AVAILABLE = int(Result.NOTHING_AVAILABLE)

_PENDING, _POST, _EXPIRE, _LINKED = int(Flag.PENDING), int(Flag.POST), int(Flag.EXPIRE), int(Flag.LINKED)
_REVERSAL, _GROUP = int(Flag.REVERSAL), int(Flag.GROUP)
_ENDS = int(Flag.POST | Flag.VOID | Flag.EXPIRE)
_KINDS = _PENDING | _ENDS
_POINTS_BACK = _ENDS | _REVERSAL
_ADJUSTED = int(Flag.REVERSAL | Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
_KEPT = _ENDS | _ADJUSTED
_MEMBER = _PENDING | _GROUP
_METERED, _POLICY = int(AccountFlag.METERED), int(AccountFlag.CAPPED | AccountFlag.METERED)
_HAS_MINIMUM = int(Flag.MIN_AVAILABLE)

_ID_POSTED, _ID_REFUSED, _ID_HOLD = int(IdStatus.POSTED), int(IdStatus.REFUSED), int(IdStatus.HOLD_OPEN)
_ID_OTHER = int(IdStatus.OTHER)

_ONE, _S32 = np.uint64(1), np.uint64(32)

# How many commands ahead the kernel reaches for the memory it will need.
_REACH = 32
_NEXT_LINE = np.uint64(7)  # slots: a search often runs on into the next line of the cache


@kernel
def survey(commands: Array, key_0: Number, key_1: Number, own: Array, named: Array) -> tuple[int, int, int]:
    """Hash every id, a command's own and one that it names.

    Gives how many holds are asked for, the length of the longest chain, and all flags that are set.
    """
    hold_count, length, longest = 0, 1, 1
    all_flags: Number = np.int64(0)
    for i in range(commands.size):
        command = commands[i]
        flags = np.int64(command["flags"])
        all_flags |= flags
        party = np.uint64(command["party"])
        own[i] = hash_id(command["id_hi"], command["id_lo"], party, key_0, key_1) >> _S32
        if flags & _POINTS_BACK:
            named[i] = hash_id(command["related_hi"], command["related_lo"], party, key_0, key_1) >> _S32
        if flags & _PENDING:
            hold_count += 1
        if flags & _LINKED:
            length += 1
            longest = max(longest, length)
        else:
            length = 1
    return hold_count, longest, all_flags


@kernel
def _reach(
    commands: Array, start: Number, own: Array, named: Array, accounts: Array, index: Array, id_control: Array
) -> Number:
    """Touch what the next commands will need, so that the processor fetches it all at once and not bit by bit."""
    touched: Number = np.uint64(0)
    for i in range(start, min(start + _REACH, commands.size)):
        command = commands[i]
        slot = home_slot(id_control, np.uint64(own[i]))
        touched ^= index[slot] ^ index[slot + _NEXT_LINE]
        if np.int64(command["flags"]) & _POINTS_BACK:
            slot = home_slot(id_control, np.uint64(named[i]))
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
def _amount_of(
    command: Row, related: Number, accounts: Array, past: Past, first_position: Number
) -> tuple[Number, Number]:
    """Say what refuses a reversal or a balancing command before its amount is known, and the amount that it moves."""
    asked = np.int64(command["amount"])
    if np.int64(command["flags"]) & _REVERSAL:
        if related < 0:
            return _REVERSAL_NOT_FOUND, asked
        return reversal_refusal(command, related, past, first_position)
    amount = balanced_amount(command, accounts[command["debit"]], accounts[command["credit"]])
    if amount <= 0:
        return _NOTHING_AVAILABLE, asked
    return _OK, amount


@kernel
def apply_commands(
    commands: Array,
    own: Array,
    named: Array,
    saved: Array,
    ended: Array,
    accounts: Array,
    meters: Array,
    classes: Array,
    points: Array,
    holds: Array,
    links: Array,
    free: Array,
    deadlines: Array,
    reversals: Array,
    originals: Array,
    control: Array,
    entries: Array,
    index: Array,
    id_control: Array,
    timestamp_ns: Number,
    first_position: Number,
) -> Number:
    """Apply commands one by one in order."""
    money, holding = (accounts, meters, points, control), (holds, links, free, control)
    chain_start, kept_count, point_count = -1, 0, np.int64(0)
    is_broken = False
    touched: Number = np.uint64(0)
    last = commands.size - 1
    for i in range(commands.size):
        if i % _REACH == 0:
            touched ^= _reach(commands, i, own, named, accounts, index, id_control)
        command = commands[i]
        flags = np.int64(command["flags"])
        position = np.uint64(first_position + i)
        party = np.uint64(command["party"])
        kind = flags & _KINDS
        if chain_start < 0 and flags & _LINKED:
            chain_start, kept_count, point_count, is_broken = i, 0, np.int64(control[POINT_COUNT]), False

        # An EXPIRE has no id of its own: it uses none up.
        has_id = not flags & _EXPIRE
        fingerprint = np.uint64(own[i])
        number: Number = np.int64(-1)
        if has_id:
            number = find(entries, index, id_control, fingerprint, command["id_hi"], command["id_lo"], party)
        related: Number = np.int64(-1)
        slot: Number = np.int64(0)
        status: Number = np.int64(0)
        amount: Number = np.int64(command["amount"])

        # Checks.
        result: Number = np.int64(command["result"])
        if result == _OK and flags & _LINKED and i == last:
            result = _CHAIN_OPEN
        if result == _OK and chain_start >= 0 and is_broken:
            result = _LINKED_FAILED
        if result == _OK:
            if not is_ordinary(command, flags):
                result = unusual_refusal(commands, i, chain_start)
            if result == _OK:
                result = static_refusal(command, flags)
        if result == _OK and number >= 0:
            result = _ID_EXISTS
        if result == _OK and flags & _POINTS_BACK:
            high, low = command["related_hi"], command["related_lo"]
            related = find(entries, index, id_control, np.uint64(named[i]), high, low, party)
        if result == _OK and kind & _ENDS:
            if related < 0:
                result = _HOLD_NOT_FOUND
            else:
                status = np.int64(entries[related]["tag"]) & 15
                slot = np.int64(entries[related]["low"]) if status == _ID_HOLD else np.int64(0)
                is_grouped = np.int64(links[slot]["next"]) != slot
                over = is_over(holds[slot], timestamp_ns)
                if is_grouped and status == _ID_HOLD and not over:
                    over = is_circle_over(holds, links, slot, timestamp_ns)
                result = end_refusal(command, flags, status, holds[slot], over, is_grouped)
        elif result == _OK:
            result = place_refusal(command, accounts, control[ACCOUNT_COUNT])
            if result == _OK and flags & _ADJUSTED:
                past = (entries, reversals, originals, commands)
                result, amount = _amount_of(command, related, accounts, past, first_position)
            if result == _OK:
                debit, credit = accounts[command["debit"]], accounts[command["credit"]]
                result = limit_refusal(amount, debit, credit)
                conditions = (np.int64(debit["flags"]) | np.int64(credit["flags"])) & _POLICY | flags & _HAS_MINIMUM
                if result == _OK and conditions:
                    result = condition_refusal(command, amount, debit, credit, meters, classes)

        # Writes.
        if result != _OK:
            refuse(command, result)
            if result == _ID_EXISTS and number >= 0:
                command["debit_previous"] = first_position_of(entries[number], holds, reversals) + _ONE
            if chain_start >= 0 and not is_broken:
                is_broken = True
                latest = np.int64(id_control[COUNT]) - 1
                kept = (saved, ended, kept_count, point_count)
                undo(commands, chain_start, i, latest, kept, money, holding, entries, reversals)
            if has_id and number < 0:
                _register(command, fingerprint, position, _ID_REFUSED, -1 - number, entries, index, id_control)
        else:
            if flags & _REVERSAL:
                past = (entries, reversals, originals, commands)
                take_back(related, amount, past, first_position, control)
                slot = -2 - np.int64(entries[related]["low"])
            if chain_start >= 0 and flags & _KEPT:
                copy_filled(command, saved[kept_count])
                ended[kept_count] = slot if flags & _POINTS_BACK else NO_SLOT
                kept_count += 1
            if kind & _ENDS:
                hold = holds[slot]
                debit, credit = accounts[hold["debit"]], accounts[hold["credit"]]
                apply_end(command, flags, position, hold, debit, credit, entries[links[slot]["entry"]])
                is_part = command["amount"] != hold["amount"]
                if hold["counted"] != 0:
                    released = hold["amount"] - command["amount"] if flags & _POST else hold["amount"]
                    release_use(hold, debit, released, meters, control)
                is_due = count_record(debit, credit) == 0
                if is_part or (is_due and not flags & _GROUP):
                    # How much the post of a part releases is not in its record.
                    write_due_points(points, control, accounts, command, position, 1 if is_part else POINT_INTERVAL)
                if flags & _GROUP:
                    end_others(flags, slot, position, money, holding, entries)
                if chain_start < 0:
                    if flags & _GROUP:
                        give_back_circle(slot, links, free, control)
                    else:
                        give_back(slot, free, control)
                status = _ID_OTHER
            else:
                debit, credit = accounts[command["debit"]], accounts[command["credit"]]
                if flags & _ADJUSTED:
                    command["amount"] = amount
                apply_transfer(command, flags, amount, position, debit, credit)
                if np.int64(debit["flags"]) & _METERED:
                    count_use(meters[debit["meter"]], amount)
                if count_record(debit, credit) == 0:
                    write_due_points(points, control, accounts, command, position, POINT_INTERVAL)
                status = _ID_HOLD if kind == _PENDING else _ID_POSTED
            if has_id:
                number = _register(command, fingerprint, position, status, -1 - number, entries, index, id_control)
            if kind == _PENDING:
                slot = take_slot(free, control)
                is_metered = np.int64(debit["flags"]) & _METERED != 0
                counted = control[BUSINESS_DAY] + 1 if is_metered else np.int64(0)
                fill_hold(command, position, timestamp_ns, counted, holds[slot])
                links[slot]["entry"] = number
                links[slot]["next"] = slot
                entries[number]["low"] = slot
                if holds[slot]["deadline"] != 0 and holds[slot]["status"] == OPEN:
                    push_deadline(deadlines, control, holds[slot], slot)
                if flags & _GROUP and chain_start < i and np.int64(commands[i - 1]["flags"]) & _MEMBER == _MEMBER:
                    # The command before made a hold of the same run; its id is the last but one.
                    join_circle(links, np.int64(entries[number - 1]["low"]), slot)

        # The end of a chain: slots of ended holds were kept until nothing can be taken back any more.
        if chain_start >= 0 and not flags & _LINKED:
            if kept_count > 0 and not is_broken:
                finish_chain(ended, kept_count, holding)
            chain_start = -1
    return touched
