"""One account as it is kept and as it is seen, and the sums over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ledger.accounts import AccountFlag
from ledger.registry import Array

__all__ = ["ACCOUNT", "AccountLimits", "AccountView", "AssetTotal", "trial_balance"]

ACCOUNT = np.dtype(
    [
        ("debits_pending", "<i8"),
        ("debits_posted", "<i8"),
        ("credits_pending", "<i8"),
        ("credits_posted", "<i8"),
        ("last", "<u8"),
        ("minimum", "<i8"),
        ("owner", "<u4"),
        ("asset", "<u2"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("count", "<u2"),
        ("meter", "<u4"),
    ]
)
"""One account, 64 bytes. ``last``: 1 + position of the last record that touched it, 0 if none. ``count``: how many
records have touched it, modulo 2^16. ``meter``: its row in the table of meters, 0 if it has none."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account as it stands now; amounts in minor units."""

    number: int
    owner: int
    asset: int
    code: int
    flags: AccountFlag
    minimum: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    last: int

    @property
    def is_credit_normal(self) -> bool:
        """Whether the balance is credits minus debits."""
        return bool(self.flags & AccountFlag.CREDIT_NORMAL)

    @property
    def is_closed(self) -> bool:
        """Whether new transfers and holds are refused."""
        return bool(self.flags & AccountFlag.CLOSED)

    @property
    def balance(self) -> int:
        """The posted balance on the account's normal side."""
        posted = self.credits_posted - self.debits_posted
        return posted if self.is_credit_normal else -posted

    @property
    def available(self) -> int:
        """The posted balance minus what is pending to flow out: what a limit watches (I4)."""
        return self.balance - (self.debits_pending if self.is_credit_normal else self.credits_pending)


@dataclass(frozen=True, slots=True)
class AssetTotal:
    """One line of the trial balance: the sums over all accounts of an asset."""

    asset: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What limits an account, and how much of it is used up; ``None`` where nothing does. Amounts in minor units.

    ``minimum`` and ``maximum`` are the account's own; its class may have a lower maximum.
    """

    minimum: int | None
    maximum: int | None
    klass: int
    day_used: int
    year_used: int


def trial_balance(accounts: Array) -> list[AssetTotal]:
    """Give the sums over all accounts per asset, in order of asset (I2)."""
    return [
        AssetTotal(
            asset=int(asset),
            debits_posted=_sum(accounts["debits_posted"][accounts["asset"] == asset]),
            credits_posted=_sum(accounts["credits_posted"][accounts["asset"] == asset]),
            debits_pending=_sum(accounts["debits_pending"][accounts["asset"] == asset]),
            credits_pending=_sum(accounts["credits_pending"][accounts["asset"] == asset]),
        )
        for asset in np.unique(accounts["asset"])
    ]


def _sum(counters: Array) -> int:
    """Add up counters exactly: each is below 2^63, their sum may not be."""
    return (int(np.sum(counters >> 32)) << 32) + int(np.sum(counters & 0xFFFFFFFF))
