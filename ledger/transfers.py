"""The columnar transfer: one dtype for what is asked, what happened and what is hashed.

A command is a transfer whose ``result`` is still zero. The kernel fills in ``result``, the applied ``amount`` and the
two ``*_previous`` links, and the same 112 bytes become a record of the journal and, behind a type byte, a leaf of its
tree.

Field by field (little-endian, no padding that is not named):

==================  =====  ==========================================================================================
``id_hi id_lo``     u64    the item's id, big-endian halves of a 128-bit number; unique for ever within ``party``
``related_*``       u64    POST, VOID, EXPIRE: the hold's id; REVERSAL: the original's; otherwise zero
``amount``          i64    minor units, positive; POST, REVERSAL, BALANCING: zero asks for all there is
``minimum``         i64    MIN_AVAILABLE: what must stay available on the debit account, minor units; otherwise zero
``message``         u64    journal position of the message that derives it; ``NO_MESSAGE`` for the node's own expiries
``debit_previous``  u64    1 + position of the debit account's previous record, 0 if none; filled by the kernel. Of a
                           refusal with ID_EXISTS 1 + position of the id's first record, of any other refusal 0
``credit_previous`` u64    the same for the credit account
``debit credit``    u32    account numbers; POST, VOID and EXPIRE take them from the hold
``item``            u32    index of the item inside its message
``timeout_s``       u32    PENDING: seconds until the hold expires, 0 for never
``group``           u32    PENDING: a window's group, 0 for none; POST and VOID name the same
``member``          u32    PENDING: index of the whole this hold belongs to, inside its group
``party``           u32    number of the signing party: the scope of the id
``code``            u16    what the transfer is for; given meaning by the layer above
``flags``           u16    ``Flag`` bits
``result``          u16    ``Result``; a command that arrives with a result is a refusal already made by its interpreter
``leg``             u16    which posting of its payment this is
``value_day``       u32    days since 1970-01-01 from which it bears value, 0 for the day of booking; no effect here
==================  =====  ==========================================================================================
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

from ledger.compiled import Number, kernel

__all__ = [
    "HOLD_GROUP_COUNT_MAX",
    "NO_MESSAGE",
    "REVERSAL_COUNT_MAX",
    "TRANSFER",
    "VALUE_DAY_MAX",
    "Flag",
    "Result",
    "Transfers",
    "count_up",
    "id_halves",
    "id_of",
    "label",
    "transfers",
]

NO_MESSAGE = 2**64 - 1
HOLD_GROUP_COUNT_MAX = 256
"""Holds of one hold group. Each of its ends, and each that is tried, costs time in proportion to its size."""
VALUE_DAY_MAX = 2**16 - 1
"""The latest value day: 2149-06-06."""
REVERSAL_COUNT_MAX = 4_096
"""Reversals of one message. The original of each may have to be read from the journal; decoders refuse more."""

TRANSFER = np.dtype(
    [
        ("id_hi", "<u8"),
        ("id_lo", "<u8"),
        ("related_hi", "<u8"),
        ("related_lo", "<u8"),
        ("amount", "<i8"),
        ("minimum", "<i8"),
        ("message", "<u8"),
        ("debit_previous", "<u8"),
        ("credit_previous", "<u8"),
        ("debit", "<u4"),
        ("credit", "<u4"),
        ("item", "<u4"),
        ("timeout_s", "<u4"),
        ("group", "<u4"),
        ("member", "<u4"),
        ("party", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("result", "<u2"),
        ("leg", "<u2"),
        ("value_day", "<u4"),
    ]
)
"""One transfer: 112 bytes."""

Transfers = npt.NDArray[np.void]
"""Shape (n,), dtype ``TRANSFER``."""


class Flag(enum.IntFlag):
    """What kind of command a transfer is. At most one of PENDING, POST, VOID and EXPIRE; none of them: post at once.

    Which of the others stand with which is said in ``docs/results.md``.
    """

    NONE = 0
    PENDING = 1
    """Reserve the amount on both sides; a later POST, VOID or EXPIRE ends it."""
    POST = 2
    """Post the related hold, wholly (amount zero or equal) or partly (the rest is released)."""
    VOID = 4
    """Release the related hold."""
    EXPIRE = 8
    """Release the related hold because its deadline has passed; only the node's own decisions carry it."""
    LINKED = 16
    """All-or-nothing with the next command; the last of a chain does not carry it."""
    BOUND = 32
    """PENDING: bound from the start: no expiry and no single POST or VOID until its group is decided."""
    REVERSAL = 64
    """Take back the related transfer, wholly (amount zero or the rest) or partly: sides swapped, pointing back."""
    BALANCING_DEBIT = 128
    """Move at most the amount (zero: no bound), and no more than the debit account has room for."""
    BALANCING_CREDIT = 256
    """Move at most the amount (zero: no bound), and no more than the credit account has room for."""
    MIN_AVAILABLE = 512
    """Apply it only if afterwards ``minimum`` is available on the debit account."""
    GROUP = 1024
    """PENDING: one of the holds that its run in the chain makes a group. POST, VOID, EXPIRE: end the whole group."""


class Result(enum.IntEnum):
    """The outcome of one command. Explicit, never reused. Precedence is ``posting.PRECEDENCE``, not the number."""

    OK = 0
    LINKED_FAILED = 1
    """Another member of the chain was refused."""
    CHAIN_OPEN = 2
    """The last command of the batch still carried LINKED."""
    ID_EXISTS = 3
    """The id is used up within this party; the first record stands."""
    FLAGS_INVALID = 4
    AMOUNT_INVALID = 5
    """Zero or negative (POST: negative)."""
    SAME_ACCOUNT = 6
    DEBIT_NOT_FOUND = 7
    CREDIT_NOT_FOUND = 8
    ASSET_MISMATCH = 9
    DEBIT_CLOSED = 10
    CREDIT_CLOSED = 11
    HOLD_NOT_FOUND = 12
    HOLD_POSTED = 13
    HOLD_VOIDED = 14
    HOLD_EXPIRED = 15
    HOLD_BOUND = 16
    """The hold belongs to a group that is being decided."""
    HOLD_EXCEEDED = 17
    """A partial POST asked for more than the hold."""
    OVERFLOW = 18
    """A counter, or posted plus pending, would reach 2^63."""
    DEBIT_LIMIT = 19
    """The debit account's available balance would fall below its minimum."""
    CREDIT_LIMIT = 20
    """The credit account's available balance (debit-normal side) would fall below its minimum."""
    REVERSAL_NOT_FOUND = 21
    """The related id names nothing that can be reversed."""
    REVERSAL_MISMATCH = 22
    """A reversal has the two accounts of its original, swapped."""
    REVERSAL_EXCEEDED = 23
    """The reversals of a transfer would exceed it."""
    NOTHING_AVAILABLE = 24
    """A balancing transfer has no room."""
    MIN_AVAILABLE = 25
    """Less than the command's minimum would be available on the debit account."""
    DEBIT_MAXIMUM = 26
    """The debit account's balance (debit-normal side), pending inflow included, would exceed its maximum."""
    CREDIT_MAXIMUM = 27
    """The credit account's balance, pending inflow included, would exceed its maximum."""
    ITEM_LIMIT = 28
    """More than the debit account's class lets out at once."""
    DAY_LIMIT = 29
    """More than the debit account's class lets out in a business day."""
    YEAR_LIMIT = 30
    """More than the debit account's class lets out in a calendar year."""
    HOLD_GROUPED = 31
    """The hold belongs to a hold group, which ends only as a whole."""
    HOLD_NOT_GROUPED = 32
    """The hold belongs to no hold group."""
    VALUE_DAY_INVALID = 33
    """Beyond ``VALUE_DAY_MAX``."""
    HOLD_IN_WINDOW = 34
    """The hold is in another group than its POST or VOID names: what waits in a window ends with it."""
    # 100 and above are refusals made by the interpreter; see settlement/payments.py
    QUOTE_NOT_FOUND = 100
    QUOTE_EXPIRED = 101
    QUOTE_MISMATCH = 102
    """The quote is for another pair or another provider."""
    PAYEE_NOT_FOUND = 103
    PAYEE_ASSET = 104
    """The payee's account holds another asset."""
    PAYEE_CLOSED = 105
    REFUND_NOT_FOUND = 106
    REFUND_EXCEEDED = 107
    """The refunds of a payment would exceed what was received."""
    CONVERTED_TO_ZERO = 108
    """The amount is too small to give one minor unit of the other asset."""
    DEBTOR_ASSET = 109
    """The debtor's account holds another asset than the money named."""
    QUOTE_EXHAUSTED = 110
    """Less than this payment needs is left of the quote's maximum."""
    FEE_ACCOUNT = 111
    """The payer's participant keeps no account for fees."""
    PROVIDER_LIMIT = 112
    """The FX provider has too little of the asset that it sells."""
    PARTICIPANT_LIMIT = 113
    """The payer's participant has too little settlement money."""


def transfers(count: int) -> Transfers:
    """Give ``count`` zeroed transfers."""
    return np.zeros(count, TRANSFER)


@kernel
def label(commands: Transfers, message: Number, party: Number, code: Number) -> None:
    """Say of all commands of a message from which one they come, of whom and what for, in one pass."""
    for i in range(commands.size):
        command = commands[i]
        command["message"] = message
        command["party"] = party
        command["code"] = code


@kernel
def count_up(commands: Transfers) -> None:
    """Number the commands of a message from zero."""
    for i in range(commands.size):
        commands[i]["item"] = np.uint32(i)


def id_halves(identifier: int) -> tuple[int, int]:
    """Split a 128-bit id into its big-endian halves."""
    return identifier >> 64, identifier & (2**64 - 1)


def id_of(high: int, low: int) -> int:
    """Join two halves: the inverse of ``id_halves``."""
    return (int(high) << 64) | int(low)
