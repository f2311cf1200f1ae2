"""Balance points: what an account's counters were at some positions, so that no old balance needs a long walk.

After every 64th record that touches an account, the kernel writes a point with the counters as they then are. Between
two points an account's history is at most 64 records long, and each of them says what it did to the counters; the few
things that do not say so write a point themselves: a POST of part of a hold, which leaves open how much was released,
and whatever ends holds that have no record of their own. ``ledger.asof`` walks from point to point.

Points are a projection: they follow from the journal, are not hashed, and may be lost and made again.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ledger.compiled import Number, Row, kernel
from ledger.control import POINT_COUNT
from ledger.registry import Array

__all__ = ["POINT", "POINT_INTERVAL", "PointSink"]


class PointSink(Protocol):
    """Takes the points of each block that is durable."""

    @property
    def height(self) -> int:
        """The last block whose points are all there: the next one that is wanted follows it."""

    def add(self, height: int, block_hash: bytes, points: Array) -> None:
        """Take a block's points, dtype ``POINT``; blocks come in order, and some may come that are known already."""

    def tick(self) -> None:
        """Begin to put away what has waited long enough; called now and then."""

    def keep_up(self) -> None:
        """Wait until what was added is mostly put away."""


POINT_INTERVAL = 64
"""Records between two points of one account; a power of two."""

POINT = np.dtype(
    [
        ("account", "<u4"),
        ("zero", "<u4"),
        ("position", "<u8"),
        ("last", "<u8"),
        ("debits_pending", "<i8"),
        ("debits_posted", "<i8"),
        ("credits_pending", "<i8"),
        ("credits_posted", "<i8"),
    ]
)
"""One point, 56 bytes: an account's counters and its ``last`` after everything up to ``position`` has happened. Where
two points of one account have the same position, the one that was written later counts."""

_MASK = POINT_INTERVAL - 1
_COUNT_MASK = 2**16 - 1


@kernel
def write_point(points: Array, control: Array, accounts: Array, number: Number, position: Number) -> None:
    """Write a point of an account as it stands."""
    account = accounts[number]
    point = points[control[POINT_COUNT]]
    control[POINT_COUNT] += 1
    point["account"] = number
    point["zero"] = 0
    point["position"] = position
    point["last"] = account["last"]
    point["debits_pending"] = account["debits_pending"]
    point["debits_posted"] = account["debits_posted"]
    point["credits_pending"] = account["credits_pending"]
    point["credits_posted"] = account["credits_posted"]


@kernel
def count_record(debit: Row, credit: Row) -> Number:
    """Count a record that touches two accounts, modulo 2^16; zero if a point of one of them is due."""
    debit_count = (np.int64(debit["count"]) + 1) & _COUNT_MASK
    credit_count = (np.int64(credit["count"]) + 1) & _COUNT_MASK
    debit["count"] = debit_count
    credit["count"] = credit_count
    return (debit_count & _MASK) * (credit_count & _MASK)


@kernel
def uncount_record(debit: Row, credit: Row) -> None:
    """Take back ``count_record``."""
    debit["count"] = (np.int64(debit["count"]) - 1) & _COUNT_MASK
    credit["count"] = (np.int64(credit["count"]) - 1) & _COUNT_MASK


@kernel
def write_due_points(
    points: Array, control: Array, accounts: Array, command: Row, position: Number, interval: Number
) -> None:
    """Write a point of each of a record's accounts that has come to a multiple of ``interval``, a power of two."""
    for number in (np.int64(command["debit"]), np.int64(command["credit"])):
        if np.int64(accounts[number]["count"]) & (interval - 1) == 0:
            write_point(points, control, accounts, number, position)
