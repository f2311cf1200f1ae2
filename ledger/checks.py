"""What refuses a command: pure compiled functions, each in the order of ``posting.PRECEDENCE``.

Each gives the first rule that a command breaks, as the number of its ``Result``. None of them changes anything, and all
arithmetic stays within 64 bits: debits and credits of an account, posted and pending together, never exceed
``AMOUNT_MAX``, so no difference of two of them can wrap.
"""

from __future__ import annotations

import numpy as np

from ledger.accounts import AccountFlag
from ledger.compiled import Number, Row, inlined, kernel
from ledger.holds import BOUND
from ledger.meters import policy_refusal
from ledger.registry import Array, IdStatus
from ledger.transfers import HOLD_GROUP_COUNT_MAX, VALUE_DAY_MAX, Flag, Result

__all__ = [
    "AMOUNT_MAX",
    "balanced_amount",
    "condition_refusal",
    "end_refusal",
    "is_ordinary",
    "limit_refusal",
    "place_refusal",
    "static_refusal",
    "unusual_refusal",
]

AMOUNT_MAX = 2**63 - 1

# The compiled functions know plain integers only.
_OK = int(Result.OK)
_FLAGS_INVALID = int(Result.FLAGS_INVALID)
_AMOUNT_INVALID = int(Result.AMOUNT_INVALID)
_VALUE_DAY_INVALID = int(Result.VALUE_DAY_INVALID)
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
_HOLD_IN_WINDOW = int(Result.HOLD_IN_WINDOW)
_HOLD_GROUPED = int(Result.HOLD_GROUPED)
_HOLD_NOT_GROUPED = int(Result.HOLD_NOT_GROUPED)
_HOLD_EXCEEDED = int(Result.HOLD_EXCEEDED)
_OVERFLOW = int(Result.OVERFLOW)
_DEBIT_LIMIT = int(Result.DEBIT_LIMIT)
_CREDIT_LIMIT = int(Result.CREDIT_LIMIT)
_MIN_AVAILABLE = int(Result.MIN_AVAILABLE)

_PENDING, _POST, _VOID, _EXPIRE = int(Flag.PENDING), int(Flag.POST), int(Flag.VOID), int(Flag.EXPIRE)
_LINKED, _BOUND = int(Flag.LINKED), int(Flag.BOUND)
_BALANCING_DEBIT, _BALANCING_CREDIT = int(Flag.BALANCING_DEBIT), int(Flag.BALANCING_CREDIT)
_BALANCING = _BALANCING_DEBIT | _BALANCING_CREDIT
_HAS_MINIMUM, _REVERSAL, _GROUP = int(Flag.MIN_AVAILABLE), int(Flag.REVERSAL), int(Flag.GROUP)
_KINDS = _PENDING | _POST | _VOID | _EXPIRE
_ENDS = _POST | _VOID | _EXPIRE
_FLAGS = sum(int(flag) for flag in Flag)
_TAKES_ZERO = _ENDS | _BALANCING | _REVERSAL
_MEMBER = _PENDING | _GROUP

_CREDIT_NORMAL, _LIMITED = int(AccountFlag.CREDIT_NORMAL), int(AccountFlag.LIMITED)
_CLOSED = int(AccountFlag.CLOSED)
_SIDE = _CREDIT_NORMAL | _LIMITED

_ID_HOLD = int(IdStatus.HOLD_OPEN)
_ID_HOLD_POSTED, _ID_HOLD_VOIDED = int(IdStatus.HOLD_POSTED), int(IdStatus.HOLD_VOIDED)
_ID_HOLD_EXPIRED = int(IdStatus.HOLD_EXPIRED)


@kernel
def unusual_refusal(commands: Array, i: Number, chain_start: Number) -> Number:
    """What is wrong with the flags of command ``i``, which is no ``is_ordinary`` one, or with the amount they call for.

    Its chain begins at ``chain_start``; below zero it stands in none.
    """
    if _flags_are_wrong(commands, i, chain_start):
        return _FLAGS_INVALID
    flags = np.int64(commands[i]["flags"])
    if flags & _GROUP and flags & _ENDS and commands[i]["amount"] != 0:
        return _AMOUNT_INVALID
    return _OK


@kernel
def is_ordinary(command: Row, flags: Number) -> Number:
    """Whether a command is a plain transfer, PENDING, POST or VOID, alone or in a chain, and nothing more."""
    bare = flags & ~_LINKED
    return bare <= _VOID and bare != _PENDING | _POST and command["minimum"] == 0


@inlined
def static_refusal(command: Row, flags: Number) -> Number:
    """What is wrong with a command whatever the state, when its flags are right and its amount is not below zero."""
    if command["amount"] <= 0 and (command["amount"] < 0 or not flags & _TAKES_ZERO):
        return _AMOUNT_INVALID
    if command["value_day"] > VALUE_DAY_MAX:
        return _VALUE_DAY_INVALID
    if command["debit"] == command["credit"] and not flags & _ENDS:
        return _SAME_ACCOUNT
    return _OK


@kernel
def _flags_are_wrong(commands: Array, i: Number, chain_start: Number) -> Number:
    """Whether the flags are not of the table in ``docs/results.md``, or a minimum stands without its flag."""
    command = commands[i]
    flags = np.int64(command["flags"])
    kind = flags & _KINDS
    if flags & ~_FLAGS or kind & (kind - 1):
        return True
    if flags & _BOUND and (kind != _PENDING or command["group"] == 0 or flags & _GROUP):
        return True
    if flags & _REVERSAL and (kind != 0 or flags & _BALANCING):
        return True
    if flags & (_BALANCING | _HAS_MINIMUM) and kind & _ENDS:
        return True
    if command["minimum"] != 0 and not flags & _HAS_MINIMUM:
        return True
    if flags & _GROUP and (kind == 0 or (kind == _PENDING and not _is_in_run(commands, i, chain_start))):
        return True
    return kind == _EXPIRE and flags & _LINKED != 0


@kernel
def _is_in_run(commands: Array, i: Number, chain_start: Number) -> Number:
    """Whether a PENDING with GROUP has another one beside it in its chain, is not one too many, and in no window."""
    command = commands[i]
    if command["group"] != 0:
        return False
    count = 1  # of its run, up to and with itself
    while 0 <= chain_start <= i - count and np.int64(commands[i - count]["flags"]) & _MEMBER == _MEMBER:
        count += 1
        if count > HOLD_GROUP_COUNT_MAX:
            return False
    if count > 1:
        return True
    if not np.int64(command["flags"]) & _LINKED or i + 1 >= commands.size:
        return False
    return np.int64(commands[i + 1]["flags"]) & _MEMBER == _MEMBER


@inlined
def place_refusal(command: Row, accounts: Array, account_count: Number) -> Number:
    """What refuses a transfer or a new hold because of where it is to go."""
    debit_number, credit_number = np.int64(command["debit"]), np.int64(command["credit"])
    if debit_number == 0 or debit_number > account_count:
        return _DEBIT_NOT_FOUND
    if credit_number == 0 or credit_number > account_count:
        return _CREDIT_NOT_FOUND
    debit, credit = accounts[debit_number], accounts[credit_number]
    if debit["asset"] != credit["asset"]:
        return _ASSET_MISMATCH
    if np.int64(debit["flags"]) & _CLOSED:
        return _DEBIT_CLOSED
    if np.int64(credit["flags"]) & _CLOSED:
        return _CREDIT_CLOSED
    return _OK


@kernel
def balanced_amount(command: Row, debit: Row, credit: Row) -> Number:
    """Give what a balancing command moves; zero or less: there is no room."""
    flags = np.int64(command["flags"])
    asked: Number = np.int64(command["amount"])
    amount = asked if asked != 0 else np.int64(AMOUNT_MAX)
    if flags & _BALANCING_DEBIT:
        is_limited = np.int64(debit["flags"]) & _SIDE == _SIDE
        rest = debit["credits_posted"] - (debit["debits_posted"] + debit["debits_pending"])
        amount = min(amount, _room(rest, debit["minimum"] if is_limited else np.int64(0)))
    if flags & _BALANCING_CREDIT:
        is_limited = np.int64(credit["flags"]) & _SIDE == _LIMITED
        rest = credit["debits_posted"] - (credit["credits_posted"] + credit["credits_pending"])
        amount = min(amount, _room(rest, credit["minimum"] if is_limited else np.int64(0)))
    return amount


@kernel
def _room(rest: Number, minimum: Number) -> Number:
    """Give ``rest - minimum``, at most ``AMOUNT_MAX`` and zero where it would be less."""
    if rest <= minimum:
        return np.int64(0)
    if minimum < 0 and rest > AMOUNT_MAX + minimum:
        return np.int64(AMOUNT_MAX)
    return np.int64(rest - minimum)


@inlined
def limit_refusal(amount: Number, debit: Row, credit: Row) -> Number:
    """What refuses a transfer or a new hold because of how much it would move."""
    # Posted plus pending of a side never exceeds AMOUNT_MAX, so no later post can overflow, nor any sum below.
    debit_total = debit["debits_posted"] + debit["debits_pending"]
    credit_total = credit["credits_posted"] + credit["credits_pending"]
    if amount > AMOUNT_MAX - debit_total or amount > AMOUNT_MAX - credit_total:
        return _OVERFLOW
    is_limited = np.int64(debit["flags"]) & _SIDE == _SIDE
    if is_limited and debit["credits_posted"] - (debit_total + amount) < debit["minimum"]:
        return _DEBIT_LIMIT
    is_limited = np.int64(credit["flags"]) & _SIDE == _LIMITED
    if is_limited and credit["debits_posted"] - (credit_total + amount) < credit["minimum"]:
        return _CREDIT_LIMIT
    return _OK


@kernel
def condition_refusal(command: Row, amount: Number, debit: Row, credit: Row, meters: Array, classes: Array) -> Number:
    """What refuses an amount that no minimum refuses: the command's own condition, maximums, and limits of a class."""
    if np.int64(command["flags"]) & _HAS_MINIMUM and _available_after(command, amount, debit) < command["minimum"]:
        return _MIN_AVAILABLE
    return policy_refusal(amount, debit, credit, meters, classes)


@kernel
def _available_after(command: Row, amount: Number, debit: Row) -> Number:
    """Give what will be available on the account to be debited; a hold takes nothing from a debit-normal one."""
    if np.int64(debit["flags"]) & _CREDIT_NORMAL:
        return debit["credits_posted"] - (debit["debits_posted"] + debit["debits_pending"] + amount)
    posted = debit["debits_posted"]
    if not np.int64(command["flags"]) & _PENDING:
        posted += amount
    return posted - (debit["credits_posted"] + debit["credits_pending"])


@inlined
def end_refusal(command: Row, flags: Number, status: Number, hold: Row, is_over: Number, is_grouped: Number) -> Number:
    """What refuses a POST, VOID or EXPIRE of an id that exists; the rest is looked at only if the id's hold lives."""
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
    if flags & _EXPIRE:
        if not is_over:
            return _HOLD_NOT_FOUND
    elif is_over:
        return _HOLD_EXPIRED
    elif command["group"] != hold["group"]:
        return _HOLD_IN_WINDOW
    if is_grouped:
        if not flags & _GROUP:
            return _HOLD_GROUPED
    elif flags & _GROUP:
        return _HOLD_NOT_GROUPED
    if flags & _POST and command["amount"] > hold["amount"]:
        return _HOLD_EXCEEDED
    return _OK
