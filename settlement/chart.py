"""The chart of accounts: what each account is, on whose book, with which normal side and limit.

The postings of every flow are in ``docs/accounts.md``; this table is what the interpreter opens accounts by.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ledger.accounts import AccountFlag

__all__ = ["CHART", "AccountCode", "AccountKind"]


class AccountCode(enum.IntEnum):
    """The number an account carries in the ledger's ``code`` column. Never reused."""

    ISSUE = 1
    SETTLE = 2
    OMNIBUS = 3
    MIRROR = 4
    NETTING = 5
    FUNDS = 6
    CLEARING = 7
    POSITION = 8
    WALLET = 9
    FEES = 10
    SUSPENSE = 11
    QUOTES = 12
    QUOTE = 13


@dataclass(frozen=True, slots=True)
class AccountKind:
    """How accounts of one code are opened: normal side and whether they may not fall below zero."""

    code: AccountCode
    flags: AccountFlag


_CREDIT = AccountFlag.CREDIT_NORMAL
_LIMITED = AccountFlag.LIMITED
_DEBIT = AccountFlag(0)

CHART: dict[AccountCode, AccountKind] = {
    code: AccountKind(code, flags)
    for code, flags in (
        (AccountCode.ISSUE, _DEBIT),
        (AccountCode.SETTLE, _CREDIT | _LIMITED),
        (AccountCode.OMNIBUS, _CREDIT | _LIMITED),
        (AccountCode.MIRROR, _LIMITED),
        (AccountCode.NETTING, _CREDIT),
        (AccountCode.FUNDS, _LIMITED),
        (AccountCode.CLEARING, _CREDIT),
        (AccountCode.POSITION, _CREDIT | _LIMITED),
        (AccountCode.WALLET, _CREDIT | _LIMITED),
        (AccountCode.FEES, _CREDIT | _LIMITED),
        (AccountCode.SUSPENSE, _CREDIT | _LIMITED),
        (AccountCode.QUOTES, _DEBIT),
        (AccountCode.QUOTE, _CREDIT | _LIMITED),
    )
}
