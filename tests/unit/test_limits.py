"""Maximums, and limits that change while accounts are open."""

from __future__ import annotations

import pytest

from ledger.accounts import AccountFlag
from ledger.balances import AccountLimits
from ledger.errors import InvariantViolation, NotFound, Rejected
from ledger.meters import UNLIMITED, ClassLimits
from ledger.transfers import Flag, Result
from tests.limits_fixture import NORMAL, ledger_of, used
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, command, end

# --- maximums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
def test_a_maximum_of_a_credit_normal_account(flags: Flag) -> None:
    """Credits pass up to the maximum and not above it; what is pending to come in counts."""
    ledger = ledger_of({"maximum": 100})
    ledger.post(command(1, debit=2, credit=1, amount=60), command(2, debit=2, credit=1, amount=30, flags=Flag.PENDING))
    inward = {"debit": 2, "credit": 1, "flags": flags}
    assert ledger.results(command(3, amount=11, **inward), command(4, amount=10, **inward)) == [
        Result.CREDIT_MAXIMUM,
        Result.OK,
    ]


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
def test_a_maximum_of_a_debit_normal_account_is_the_mirror_image(flags: Flag) -> None:
    """Debits to a debit-normal account pass up to its maximum."""
    ledger = ledger_of({"maximum": 100, "flags": NORMAL})
    ledger.post(command(1, amount=60), command(2, amount=30, flags=Flag.PENDING))
    assert ledger.results(command(3, amount=11, flags=flags), command(4, amount=10, flags=flags)) == [
        Result.DEBIT_MAXIMUM,
        Result.OK,
    ]


def test_a_maximum_looks_at_the_balance_only() -> None:
    """What has gone out makes room again; what is pending to go out does not."""
    ledger = ledger_of({"maximum": 100})
    inward = {"debit": 2, "credit": 1}
    ledger.post(command(1, amount=100, **inward), command(2, amount=40), command(3, amount=60, flags=Flag.PENDING))
    assert ledger.results(command(4, amount=41, **inward), command(5, amount=40, **inward)) == [
        Result.CREDIT_MAXIMUM,
        Result.OK,
    ]
    ledger.post(end(6, 3, flags=Flag.POST))
    assert ledger.result(command(7, amount=60, **inward)) is Result.OK


def test_the_lower_of_two_maximums_counts() -> None:
    """An account's own maximum and its class's both hold."""
    for own, of_class, top in ((50, 80, 50), (80, 50, 50), (None, 50, 50), (50, UNLIMITED, 50)):
        ledger = ledger_of({"klass": 1, "maximum": own}, classes=(ClassLimits(maximum=of_class),))
        inward = {"debit": 2, "credit": 1}
        assert ledger.results(command(1, amount=top + 1, **inward), command(2, amount=top, **inward)) == [
            Result.CREDIT_MAXIMUM,
            Result.OK,
        ]


def test_a_net_debit_cap_is_a_maximum() -> None:
    """What a participant may owe is bounded by its clearing account's maximum; what comes in makes room."""
    ledger = ledger_of({"maximum": 1_000}, {})
    owes = {"debit": 2, "credit": 1}
    assert ledger.results(command(1, amount=900, **owes), command(2, amount=101, **owes)) == [
        Result.OK,
        Result.CREDIT_MAXIMUM,
    ]
    ledger.post(command(3, debit=1, credit=2, amount=500))
    assert ledger.result(command(4, amount=600, **owes)) is Result.OK


@pytest.mark.parametrize("maximum", [-5, 0, 5])
def test_a_maximum_may_be_any_number(maximum: int) -> None:
    """A maximum below zero asks for an overdraft that must remain."""
    ledger = ledger_of({"maximum": maximum})
    ledger.post(command(1, amount=10))
    inward = {"debit": 2, "credit": 1}
    assert ledger.results(command(2, amount=11 + maximum, **inward), command(3, amount=10 + maximum, **inward)) == [
        Result.CREDIT_MAXIMUM,
        Result.OK,
    ]


def test_maximums_near_the_ends_of_the_numbers_do_not_wrap() -> None:
    """The largest amounts against the extreme maximums are compared exactly."""
    ledger = ledger_of({"maximum": -(2**63) + 1}, {"maximum": UNLIMITED}, {"flags": NORMAL, "maximum": -1})
    assert ledger.results(
        command(1, debit=1, credit=4, amount=AMOUNT_MAX),
        command(2, debit=2, credit=1, amount=1),
        command(3, debit=4, credit=2, amount=AMOUNT_MAX),
        command(4, debit=1, credit=3, amount=1),
        command(5, debit=3, credit=1, amount=AMOUNT_MAX),
    ) == [Result.OK, Result.CREDIT_MAXIMUM, Result.OK, Result.OVERFLOW, Result.DEBIT_MAXIMUM]


# --- changing limits --------------------------------------------------------------------------------------------------


def test_limits_say_what_bounds_an_account() -> None:
    """An account without limits has none; minimum, maximum, class and use come back as they are."""
    ledger = ledger_of(
        {}, {"flags": CREDIT | LIMITED, "minimum": -3, "maximum": 70, "klass": 1}, classes=(ClassLimits(maximum=60),)
    )
    assert ledger.state.limits(1) == AccountLimits(minimum=None, maximum=None, klass=0, day_used=0, year_used=0)
    ledger.post(command(1, debit=2, credit=1, amount=2))
    assert ledger.state.limits(2) == AccountLimits(minimum=-3, maximum=70, klass=1, day_used=2, year_used=2)
    flags = ledger.state.account(2).flags
    assert flags == CREDIT | LIMITED | AccountFlag.CAPPED | AccountFlag.METERED
    with pytest.raises(NotFound):
        ledger.state.limits(9)


def test_a_minimum_that_is_raised_breaches_and_binds() -> None:
    """An account below a new minimum pays nothing out, and may be paid into in every step on the way up."""
    ledger = ledger_of({})
    ledger.post(command(1, debit=2, credit=1, amount=10))
    ledger.state.set_limit(1, minimum=50)
    assert ledger.result(command(2, amount=1)) is Result.DEBIT_LIMIT
    assert ledger.results(*(command(10 + step, debit=2, credit=1, amount=20) for step in range(3))) == [Result.OK] * 3
    assert ledger.results(command(3, amount=21), command(4, amount=20)) == [Result.DEBIT_LIMIT, Result.OK]


@pytest.mark.parametrize("flags", [CREDIT, NORMAL])
def test_a_maximum_that_is_lowered_breaches_and_binds(flags: AccountFlag) -> None:
    """An account above a new maximum takes nothing in, and may pay out in every step on the way down."""
    ledger = ledger_of({"flags": flags})
    inward, outward = {"debit": 2, "credit": 1}, {"debit": 1, "credit": 2}
    if flags is NORMAL:
        inward, outward = outward, inward
    refusal = Result.CREDIT_MAXIMUM if flags is CREDIT else Result.DEBIT_MAXIMUM
    ledger.post(command(1, amount=100, **inward))
    ledger.state.set_limit(1, maximum=50)
    assert ledger.result(command(2, amount=1, **inward)) is refusal
    assert ledger.results(*(command(10 + step, amount=20, **outward) for step in range(3))) == [Result.OK] * 3
    assert ledger.results(command(3, amount=11, **inward), command(4, amount=10, **inward)) == [refusal, Result.OK]


def test_a_limit_can_be_taken_away() -> None:
    """The extreme numbers bound nothing."""
    ledger = ledger_of({"flags": CREDIT | LIMITED, "maximum": 10})
    ledger.state.set_limit(1, minimum=-(2**63) + 1, maximum=UNLIMITED)
    assert ledger.results(command(1, amount=500), command(2, debit=2, credit=1, amount=900)) == [Result.OK] * 2
    assert ledger.state.limits(1).maximum is None


def test_what_is_not_named_stays() -> None:
    """Changing one limit leaves the other, and the class."""
    ledger = ledger_of({"maximum": 10, "klass": 1}, classes=(ClassLimits(),))
    ledger.state.set_limit(1, minimum=5)
    assert ledger.state.limits(1) == AccountLimits(minimum=5, maximum=10, klass=1, day_used=0, year_used=0)
    ledger.state.set_limit(1, maximum=12)
    assert ledger.state.limits(1) == AccountLimits(minimum=5, maximum=12, klass=1, day_used=0, year_used=0)


def test_a_class_changes_for_one_and_for_all() -> None:
    """An account may change its class, a class its limits; what the meter has counted stays."""
    ledger = ledger_of({"klass": 1}, {"klass": 1}, classes=(ClassLimits(day_max=10), ClassLimits(day_max=30)))
    ledger.post(command(1, amount=10, credit=3), command(2, debit=2, credit=3, amount=10))
    ledger.state.set_class(1, 2)
    assert ledger.results(command(3, amount=20, credit=3), command(4, debit=2, credit=3, amount=1)) == [
        Result.OK,
        Result.DAY_LIMIT,
    ]
    ledger.state.set_class_limits(1, ClassLimits(day_max=11))
    assert ledger.result(command(5, debit=2, credit=3, amount=1)) is Result.OK
    ledger.state.set_class(2, 0)
    assert ledger.result(command(6, debit=2, credit=3, amount=500)) is Result.OK
    assert used(ledger, 2) == (511, 511)


def test_class_0_limits_nothing() -> None:
    """An account that never had a class gets no meter by leaving it, and class 0 itself cannot be changed."""
    ledger = ledger_of({})
    ledger.state.set_class(1, 0)
    assert ledger.state.accounts["meter"][1] == 0
    with pytest.raises(InvariantViolation):
        ledger.state.set_class_limits(0, ClassLimits())


def test_closed_accounts_keep_their_limits() -> None:
    """Limits and class of a closed account cannot be changed, nor those of one that does not exist."""
    ledger = ledger_of({})
    ledger.state.close_account(1)
    for change in (lambda number: ledger.state.set_limit(number, minimum=1), lambda n: ledger.state.set_class(n, 0)):
        with pytest.raises(Rejected, match="ACCOUNT_CLOSED"):
            change(1)
        with pytest.raises(NotFound, match="ACCOUNT_NOT_FOUND"):
            change(9)


@pytest.mark.parametrize("limit", [-(2**63), 2**63])
def test_limits_stay_in_range(limit: int) -> None:
    """A limit that no counter can be compared with is our own mistake."""
    ledger = ledger_of({})
    for fields in ({"minimum": limit}, {"maximum": limit}):
        with pytest.raises(InvariantViolation):
            ledger.state.set_limit(1, **fields)
        with pytest.raises(InvariantViolation):
            ledger.state.open_account(owner=1, asset=1, code=1, flags=CREDIT, **fields)
    assert ledger.state.limits(1).minimum is None
    assert ledger.state.account_count == 2


@pytest.mark.parametrize("field", ["maximum", "item_max", "day_max", "year_max"])
@pytest.mark.parametrize("value", [-1, 2**63])
def test_limits_of_a_class_stay_in_range(field: str, value: int) -> None:
    """A class's limits run from 0 to 2^63 - 1, its number from 1 to 65,535."""
    state = ledger_of({}).state
    with pytest.raises(InvariantViolation):
        state.set_class_limits(1, ClassLimits(**{field: value}))
    for number in (-1, 2**16):
        with pytest.raises(InvariantViolation):
            state.set_class_limits(number, ClassLimits())
    state.set_class_limits(2**16 - 1, ClassLimits(item_max=0))
    state.set_class(1, 2**16 - 1)
    assert state.limits(1).klass == 2**16 - 1
    state.set_class(1, 7)
    assert state.class_rows[7].tolist() == (UNLIMITED,) * 4


def test_a_class_must_exist_and_fit() -> None:
    """An unknown class, and a class for a debit-normal account, are our own mistakes."""
    ledger = ledger_of({"flags": NORMAL}, {}, classes=(ClassLimits(),))
    for number, klass in ((1, 1), (2, 2), (2, -1)):
        with pytest.raises(InvariantViolation):
            ledger.state.set_class(number, klass)
    with pytest.raises(InvariantViolation):
        ledger.state.open_account(owner=1, asset=1, code=1, flags=NORMAL, klass=1)
    with pytest.raises(InvariantViolation):
        ledger.state.open_account(owner=1, asset=1, code=1, flags=CREDIT, klass=2)
    assert ledger.state.account_count == 3


@pytest.mark.parametrize("flags", [AccountFlag.CAPPED, AccountFlag.METERED])
def test_what_limits_an_account_is_not_set_by_flags(flags: AccountFlag) -> None:
    """CAPPED and METERED follow from the maximum and the class alone."""
    with pytest.raises(InvariantViolation):
        ledger_of({"flags": CREDIT | flags})
