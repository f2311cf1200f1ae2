"""What an account's counters were as of any position: from the balance points around it and at most 64 records.

An account's records are a chain of links back through the journal. The newest point at or before a position says what
the counters were there; the records after it, up to the position, say what has happened since. They are found by
walking back from the oldest point after the position, or from the account as it stands now.

A record says what it did to the counters, but for two kinds: a POST of part of a hold, and the end of a hold group.
Those have a point of their own, so no walk ever has to apply one.

Nothing vouches for a point that is not there: without one of those two kinds, a walk would apply what it cannot. So the
records are applied up to where the walk began, and the outcome is held against the point there, or the account as it
stands. Only where that point's own record may have done more than it says is a difference believed, and only a release:
pending amounts fall, and posted ones rise by no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ledger.balances import AccountView
from ledger.errors import IntegrityFailure
from ledger.points import POINT_INTERVAL
from ledger.transfers import Flag, Result

__all__ = ["Counters", "PointLookup", "counters_as_of", "counters_now", "last_as_of"]

_ENDS = Flag.POST | Flag.VOID | Flag.EXPIRE


class PointLookup(Protocol):
    """Finds an account's points; of several with one position the one that was written last counts."""

    def at_or_before(self, account: int, position: int) -> np.void | None:
        """Give the newest point at or before a position, dtype ``POINT``."""

    def after(self, account: int, position: int) -> np.void | None:
        """Give the oldest point after a position, dtype ``POINT``."""


@dataclass(frozen=True, slots=True)
class Counters:
    """An account's counters as of a position, in minor units, and 1 + the position of its last record until then."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    last: int = 0


def counters_now(account: AccountView) -> Counters:
    """Give the counters of an account as it stands."""
    return Counters(
        debits_pending=account.debits_pending,
        debits_posted=account.debits_posted,
        credits_pending=account.credits_pending,
        credits_posted=account.credits_posted,
        last=account.last,
    )


def counters_as_of(
    account: int, position: int, *, points: PointLookup, now: Counters, record: Callable[[int], np.void]
) -> Counters:
    """Give an account's counters after everything that happened up to and at a position.

    Args:
        account: the account's number.
        position: a position of the journal that is taken.
        points: all points of the account, up to ``now`` at least.
        now: the account as it stands, at this position or later.
        record: gives the record at a position, such as ``Reader.record``.

    Raises:
        IntegrityFailure: ``POINTS_INCOMPLETE``, points and records do not fit together, or a point is missing.
    """
    before, after = points.at_or_before(account, position), points.after(account, position)
    counters = Counters() if before is None else _counters_of(before)
    end = now if after is None else _counters_of(after)
    cursor = end.last
    rows: list[tuple[int, np.void]] = []
    while cursor > counters.last and len(rows) < POINT_INTERVAL:
        row = record(cursor - 1)
        if not _touches(row, account):
            break
        rows.append((cursor, row))
        cursor = _previous(row, account)
    if cursor != counters.last:
        raise _incomplete(account, position)
    then = counters
    for place, row in reversed(rows):
        counters = _after(counters, row, account, last=place)
        then = counters if place <= position + 1 else then
    if counters != end and (after is None or not (_may_release(after, rows) and _is_release(counters, end))):
        raise _incomplete(account, position)
    return then


def last_as_of(account: int, position: int, *, points: PointLookup, last: int, record: Callable[[int], np.void]) -> int:
    """Give 1 + the position of an account's newest record up to and at a position, 0 if there is none by then.

    Arguments and failures are those of ``counters_as_of``, but for ``last``: where its newest record stands now. At
    most 64 records are read.
    """
    after = points.after(account, position)
    cursor = last if after is None else int(after["last"])
    for _ in range(POINT_INTERVAL):
        if cursor <= position + 1:
            return cursor
        row = record(cursor - 1)
        if not _touches(row, account):
            break
        cursor = _previous(row, account)
    if cursor > position + 1:
        raise _incomplete(account, position)
    return cursor


def _may_release(point: np.void, rows: list[tuple[int, np.void]]) -> bool:
    """Say whether what a point stands for may have done more to the counters than the newest of some records says.

    A point at another place than its account's newest record is that of a group of holds. At the record's own place it
    is due after every 64th record, or the record has ended a part of a hold or a hold group.
    """
    if not rows or int(point["last"]) != int(point["position"]) + 1:
        return True
    flags = int(rows[0][1]["flags"])
    return bool(flags & Flag.POST or (flags & Flag.GROUP and flags & _ENDS))


def _is_release(walked: Counters, end: Counters) -> bool:
    """Say whether holds that ended lead from one to the other: on each side, what is posted was pending before."""
    sides = (
        (walked.debits_pending - end.debits_pending, end.debits_posted - walked.debits_posted),
        (walked.credits_pending - end.credits_pending, end.credits_posted - walked.credits_posted),
    )
    return all(0 <= posted <= released for released, posted in sides)


def _touches(row: np.void, account: int) -> bool:
    return bool(row["result"] == Result.OK and account in (row["debit"], row["credit"]))


def _previous(row: np.void, account: int) -> int:
    """Give where the account's record before this one stands, as its ``last`` was then."""
    return int(row["debit_previous"] if row["debit"] == account else row["credit_previous"])


def _incomplete(account: int, position: int) -> IntegrityFailure:
    sentence = "The balance points of an account do not fit its records."
    return IntegrityFailure("POINTS_INCOMPLETE", sentence, position=position, account=account)


def _counters_of(point: np.void) -> Counters:
    """Read a point."""
    return Counters(
        debits_pending=int(point["debits_pending"]),
        debits_posted=int(point["debits_posted"]),
        credits_pending=int(point["credits_pending"]),
        credits_posted=int(point["credits_posted"]),
        last=int(point["last"]),
    )


def _after(counters: Counters, row: np.void, account: int, *, last: int) -> Counters:
    """Apply a record that says what it does; its position is ``last - 1``."""
    flags, amount = int(row["flags"]), int(row["amount"])
    pending = amount if flags & Flag.PENDING else -amount if flags & _ENDS else 0
    posted = amount if not flags & (Flag.PENDING | Flag.VOID | Flag.EXPIRE) else 0
    is_debit = row["debit"] == account
    return Counters(
        debits_pending=counters.debits_pending + (pending if is_debit else 0),
        debits_posted=counters.debits_posted + (posted if is_debit else 0),
        credits_pending=counters.credits_pending + (0 if is_debit else pending),
        credits_posted=counters.credits_posted + (0 if is_debit else posted),
        last=last,
    )
