"""The fields of ``State.control``, which the compiled functions share: how full each table is, and the business day."""

from __future__ import annotations

__all__ = [
    "ACCOUNT_COUNT",
    "BUSINESS_DAY",
    "DEADLINE_COUNT",
    "FREE_COUNT",
    "HOLD_COUNT",
    "HOLD_TOP",
    "METER_COUNT",
    "POINT_COUNT",
    "REVERSAL_COUNT",
    "SIZE",
    "YEAR_START",
]

ACCOUNT_COUNT = 0
HOLD_TOP = 1
"""Slots of holds that were ever used."""
FREE_COUNT = 2
HOLD_COUNT = 3
DEADLINE_COUNT = 4
METER_COUNT = 5
POINT_COUNT = 6
REVERSAL_COUNT = 7
BUSINESS_DAY = 8
"""Days since 1970-01-01."""
YEAR_START = 9
"""The first day of its year, counted in the same way."""
SIZE = 10
