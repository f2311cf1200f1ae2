"""Limits as plain dictionaries, written from ``docs/limits.md`` alone: versions, classes, meters and net debit caps."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from ledger.transfers import Result

__all__ = ["Limits", "LimitsModel"]

_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class Limits:
    """What wallets of the one class may hold and pay; ``None`` is no limit."""

    balance: int | None = None
    payment: int | None = None
    day: int | None = None
    year: int | None = None


@dataclass
class LimitsModel:
    """What limits the wallets and participants of one ledger, and how much of it is used."""

    day: int
    """Days since 1970-01-01."""
    versions: list[tuple[int, Limits]] = field(default_factory=list)
    """From which day on, and what: in the order in which they were brought."""
    members: set[str] = field(default_factory=set)
    """Wallets that have the class."""
    meters: dict[str, list[int]] = field(default_factory=dict)
    """What left each wallet that ever had it, on this day and in this year."""
    counted: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """By UETR: of which wallet, how much, on which day."""
    caps: dict[tuple[str, str], int] = field(default_factory=dict)
    """By participant and asset."""

    def in_force(self) -> Limits | None:
        """Give what the newest version that has begun says."""
        return next((limits for begins, limits in reversed(self.versions) if begins <= self.day), None)

    def limits_of(self, name: str) -> Limits:
        """Give what limits a wallet today."""
        return (self.in_force() if name in self.members else None) or Limits()

    def give(self, name: str) -> None:
        """Give a wallet the class: from its first time on it is metered."""
        self.members.add(name)
        self.meters.setdefault(name, [0, 0])

    def is_full(self, name: str, held: int, amount: int) -> bool:
        """Whether a wallet that holds so much may hold no more."""
        top = self.limits_of(name).balance
        return top is not None and held + amount > top

    def refusal(self, name: str, amount: int, *, before: int = 0) -> Result:
        """Say what refuses an amount that leaves a wallet, ``before`` having left it in the same payment."""
        limits, (day, year) = self.limits_of(name), self.meters.get(name, (0, 0))
        for top, used, result in (
            (limits.payment, 0, Result.ITEM_LIMIT),
            (limits.day, day + before, Result.DAY_LIMIT),
            (limits.year, year + before, Result.YEAR_LIMIT),
        ):
            if top is not None and used + amount > top:
                return result
        return Result.OK

    def count(self, uetr: str, name: str, amount: int) -> None:
        """Count what a payment takes out."""
        if name in self.meters:
            self.counted[uetr] = (name, amount, self.day)
            self.meters[name] = [used + amount for used in self.meters[name]]

    def give_back(self, uetr: str) -> None:
        """Give back what a payment took: to the day and the year if they are still the same."""
        name, amount, day = self.counted.pop(uetr, ("", 0, 0))
        if name:
            same = (day == self.day, _year(day) == _year(self.day))
            self.meters[name] = [used - amount * is_same for used, is_same in zip(self.meters[name], same, strict=True)]

    def begin_day(self, day: int) -> None:
        """Begin a later day, perhaps of another year."""
        is_new_year = _year(day) != _year(self.day)
        self.meters = {name: [0, 0 if is_new_year else year] for name, (_, year) in self.meters.items()}
        self.day = day


def _year(day: int) -> int:
    return (_EPOCH + dt.timedelta(days=day)).year
