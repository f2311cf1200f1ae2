"""Book transfers in columns: an institution moves money between accounts of one book, thousands to the message.

The body of ``POST /v1/transfers`` is in columns (``ledger.columns``), because at this size JSON costs more than
everything else together.

An account is a bare number; on which ledger it is, the signature of the request says (``ledger/signatures.py``).
Ids are the signer's own: 128 bits, unique for ever. A hold made here is ended here, by a later post or void of the same
signer or by its timeout. Both accounts stand on one book and the signer owns the debited one, of a reversal too;
anything else refuses the whole message. What the kernel refuses is a result of the item.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ledger import columns
from ledger.compiled import Number, kernel
from ledger.errors import Forbidden, MalformedInput
from ledger.machine import Admitted, Context, Machine
from ledger.transfers import REVERSAL_COUNT_MAX, Flag, Transfers
from settlement.book import Book
from settlement.chart import AccountCode
from settlement.legs import TransferCode

__all__ = ["authorise", "decode", "execute"]

Array = npt.NDArray[Any]
_FORBIDDEN_FLAGS = 2**16 - 1 - sum(Flag) | Flag.EXPIRE | Flag.BOUND
_REVERSAL = np.uint16(Flag.REVERSAL)
_ENDS = int(Flag.POST | Flag.VOID)
_MOVABLE = np.zeros(2**16, np.bool_)
_MOVABLE[[AccountCode.WALLET, AccountCode.POSITION, AccountCode.FEES, AccountCode.SUSPENSE]] = True


def decode(body: bytes) -> Transfers:
    """Read a body into commands; ``party`` and ``code`` are still zero.

    Raises:
        MalformedInput: from ``ledger.columns.read``; ``COLUMNS_FLAGS``; ``COLUMNS_REVERSALS``, more than a message
            may have.
    """
    commands, flags = columns.read(body)
    if flags & _FORBIDDEN_FLAGS:
        raise MalformedInput("COLUMNS_FLAGS", "A flag is set that a book transfer cannot have.")
    if flags & Flag.REVERSAL and np.count_nonzero(commands["flags"] & _REVERSAL) > REVERSAL_COUNT_MAX:
        raise MalformedInput("COLUMNS_REVERSALS", "A message holds at most 4,096 reversals.")
    return commands


def authorise(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party move money between accounts of one book that it may debit.

    Raises:
        Forbidden: ``NOT_OWNER``, ``OTHER_BOOK``. One item among many refuses the whole message.
    """
    commands: Transfers = admitted.content
    accounts = machine.state.accounts
    item = int(_first_stranger(commands, accounts, book.participant_of, _MOVABLE, admitted.party))
    if item >= 0:
        raise Forbidden("NOT_OWNER", "A transfer debits an account that is not the signer's to debit.", item=item)
    if item < -1:
        raise Forbidden("OTHER_BOOK", "The two accounts of a transfer are not on one book.", item=-2 - item)


def execute(_book: Book, admitted: Admitted, context: Context) -> None:
    """Post what was decoded, as it stands."""
    context.post_columns(admitted.content, party=admitted.party, code=TransferCode.BOOK)


@kernel
def _first_stranger(
    commands: Array, accounts: Array, participant_of: npt.NDArray[np.uint32], movable: Array, party: Number
) -> Number:
    """Give the first item that the signer may not move; -1 if there is none, -2 - i if item i crosses two books.

    Accounts that do not exist are the kernel's to refuse, unless they are debited: nothing is learnt by asking.
    """
    for i in range(commands.size):
        command = commands[i]
        if np.int64(command["flags"]) & _ENDS:
            continue
        debit, credit = np.int64(command["debit"]), np.int64(command["credit"])
        if debit >= accounts.size or accounts[debit]["owner"] != party:
            return i
        if not movable[np.int64(accounts[debit]["code"])]:
            return i
        if credit < accounts.size and credit > 0:
            is_movable = movable[np.int64(accounts[credit]["code"])]
            if not is_movable or participant_of[debit] != participant_of[credit]:
                return -2 - i
    return -1
