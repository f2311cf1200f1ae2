"""Ledgers of a few accounts with maximums, classes and meters."""

from __future__ import annotations

from typing import Any

from ledger.accounts import AccountFlag
from ledger.meters import ClassLimits
from ledger.state import State
from tests.posting_fixture import CREDIT, Ledger

NORMAL = AccountFlag.NONE
DAY_1, DAY_2, NEXT_YEAR = 20_453, 20_450, 20_454
"""2025-12-31, three days before it, and 2026-01-01."""


def ledger_of(*accounts: dict[str, Any], classes: tuple[ClassLimits, ...] = ()) -> Ledger:
    """Open accounts; the last one, unlimited, is where money comes from and goes to. The day is 2025-12-28."""
    state = State(b"a secret of the tests")
    state.begin_day(DAY_2)
    for number, limits in enumerate(classes, 1):
        state.set_class_limits(number, limits)
    for fields in (*accounts, {}):
        state.open_account(**{"owner": 1, "asset": 1, "code": 7, "flags": CREDIT, **fields})
    return Ledger(state)


def metered(**limits: int) -> Ledger:
    """Give a ledger whose account 1 has a class with these limits, and an account 2."""
    return ledger_of({"klass": 1}, classes=(ClassLimits(**limits),))


def used(ledger: Ledger, number: int = 1) -> tuple[int, int]:
    """Give what an account's meter has counted on this day and in this year."""
    limits = ledger.state.limits(number)
    return limits.day_used, limits.year_used
