"""Maximums, classes of limits, and the meters that count what leaves an account.

An account with limits beyond its minimum has a row in the table of meters. Its ``class`` names a row of limits that
many accounts share; class 0 limits nothing. A meter counts by business day and by year: a new day sets all meters back
in one pass, so nothing here looks at a clock.

A hold remembers the day on which it was counted. When it is released, its amount goes back to the day and to the year
if they are still the same; so a meter never falls below zero, and what it has counted this year never exceeds what the
account has been debited.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from ledger.accounts import AccountFlag
from ledger.compiled import Number, Row, kernel
from ledger.control import BUSINESS_DAY, YEAR_START
from ledger.registry import Array
from ledger.transfers import Result

__all__ = [
    "BUSINESS_DAY_OFFSET_S",
    "CLASS_LIMIT",
    "METER",
    "UNLIMITED",
    "ClassLimits",
    "business_day",
    "business_day_start_ns",
    "year_start",
]

BUSINESS_DAY_OFFSET_S = 28_800
"""Both cities keep UTC+8 without summer time; a business day begins at midnight there."""
UNLIMITED = 2**63 - 1

METER = np.dtype(
    [
        ("maximum", "<i8"),
        ("day_used", "<i8"),
        ("year_used", "<i8"),
        ("account", "<u4"),
        ("class", "<u2"),
        ("zero", "<u2"),
    ]
)
"""One meter, 32 bytes. Row 0 belongs to nobody."""

CLASS_LIMIT = np.dtype([("maximum", "<i8"), ("item_max", "<i8"), ("day_max", "<i8"), ("year_max", "<i8")])
"""The limits of one class, 32 bytes; ``UNLIMITED`` is none."""

_DAY_S = 86_400
_SECOND_NS = 1_000_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()

_OK = int(Result.OK)
_DEBIT_MAXIMUM, _CREDIT_MAXIMUM = int(Result.DEBIT_MAXIMUM), int(Result.CREDIT_MAXIMUM)
_ITEM_LIMIT, _DAY_LIMIT, _YEAR_LIMIT = int(Result.ITEM_LIMIT), int(Result.DAY_LIMIT), int(Result.YEAR_LIMIT)
_CREDIT_NORMAL, _CAPPED, _METERED = (
    int(AccountFlag.CREDIT_NORMAL),
    int(AccountFlag.CAPPED),
    int(AccountFlag.METERED),
)
_SIDE = _CREDIT_NORMAL | _CAPPED


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """What the accounts of one class may hold and let out, in minor units, from 0 to ``UNLIMITED``."""

    maximum: int = UNLIMITED
    item_max: int = UNLIMITED
    day_max: int = UNLIMITED
    year_max: int = UNLIMITED


def business_day(timestamp_ns: int) -> int:
    """Give the business day of an instant, in days since 1970-01-01.

    >>> business_day(1_767_196_799_999_999_999), business_day(1_767_196_800_000_000_000)
    (20453, 20454)
    """
    return (timestamp_ns // _SECOND_NS + BUSINESS_DAY_OFFSET_S) // _DAY_S


def business_day_start_ns(day: int) -> int:
    """Give the first instant of a business day.

    >>> business_day_start_ns(20_454)
    1767196800000000000
    """
    return (day * _DAY_S - BUSINESS_DAY_OFFSET_S) * _SECOND_NS


def year_start(day: int) -> int:
    """Give the first day of the year of a day, both in days since 1970-01-01.

    >>> year_start(20_453), year_start(20_454)
    (20089, 20454)
    """
    return dt.date(dt.date.fromordinal(_EPOCH + day).year, 1, 1).toordinal() - _EPOCH


@kernel
def maximum_of(meter: Row, classes: Array) -> Number:
    """Give the lower of an account's maximum and its class's."""
    return min(meter["maximum"], classes[np.int64(meter["class"])]["maximum"])


@kernel
def policy_refusal(amount: Number, debit: Row, credit: Row, meters: Array, classes: Array) -> Number:
    """What refuses an amount that no minimum refuses: maximums, then the limits of the debit account's class."""
    debit_flags, credit_flags = np.int64(debit["flags"]), np.int64(credit["flags"])
    if debit_flags & _SIDE == _CAPPED:
        total = debit["debits_posted"] + debit["debits_pending"] + amount
        if total - debit["credits_posted"] > maximum_of(meters[debit["meter"]], classes):
            return _DEBIT_MAXIMUM
    if credit_flags & _SIDE == _SIDE:
        total = credit["credits_posted"] + credit["credits_pending"] + amount
        if total - credit["debits_posted"] > maximum_of(meters[credit["meter"]], classes):
            return _CREDIT_MAXIMUM
    if debit_flags & _METERED:
        meter = meters[debit["meter"]]
        limits = classes[np.int64(meter["class"])]
        if amount > limits["item_max"]:
            return _ITEM_LIMIT
        # What a meter has counted is at most what the account was debited, so neither sum can pass 2^63.
        if meter["day_used"] + amount > limits["day_max"]:
            return _DAY_LIMIT
        if meter["year_used"] + amount > limits["year_max"]:
            return _YEAR_LIMIT
    return _OK


@kernel
def count_use(meter: Row, amount: Number) -> None:
    """Count what is debited; a negative amount takes that back."""
    meter["day_used"] += amount
    meter["year_used"] += amount


@kernel
def give_back(meter: Row, counted: Number, amount: Number, control: Array) -> None:
    """Give back what a hold releases that was ``counted`` (1 + the day); a negative amount takes that back."""
    if counted - 1 == control[BUSINESS_DAY]:
        meter["day_used"] -= amount
    if counted - 1 >= control[YEAR_START]:
        meter["year_used"] -= amount
