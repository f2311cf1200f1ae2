"""Classes of limits, and meters that count by business day and year."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import posting
from ledger.errors import InvariantViolation
from ledger.meters import CLASS_LIMIT, METER, UNLIMITED, ClassLimits, business_day, business_day_start_ns, year_start
from ledger.state import State
from ledger.transfers import Flag, Result
from tests.limits_fixture import DAY_1, DAY_2, NEXT_YEAR, ledger_of, metered, used
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, SECOND, Ledger, command, end

# --- limits of a class ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING, Flag.BALANCING_DEBIT])
def test_each_command_meets_the_limit_of_an_item(flags: Flag) -> None:
    """A single amount above the class's limit is refused, whatever was used before."""
    ledger = metered(item_max=50)
    ledger.post(command(1, debit=2, credit=1, amount=1_000))
    assert ledger.results(
        command(2, amount=51, flags=flags), command(3, amount=50, flags=flags), command(4, amount=50, flags=flags)
    ) == [Result.ITEM_LIMIT, Result.OK, Result.OK]


@pytest.mark.parametrize("name", ["day_max", "year_max"])
def test_what_is_debited_adds_up(name: str) -> None:
    """Transfers and holds count from their making; what is credited does not."""
    result = {"day_max": Result.DAY_LIMIT, "year_max": Result.YEAR_LIMIT}[name]
    ledger = metered(**{name: 100})
    assert ledger.results(
        command(1, amount=60),
        command(2, amount=30, flags=Flag.PENDING),
        command(3, debit=2, credit=1, amount=500),
        command(4, amount=11),
        command(5, amount=10),
    ) == [Result.OK, Result.OK, Result.OK, result, Result.OK]
    assert used(ledger) == (100, 100)


def test_a_refusal_counts_nothing() -> None:
    """Whatever refuses a command, its meter stays, and so does the money digest that covers it."""
    ledger = ledger_of(
        {"klass": 1, "flags": CREDIT | LIMITED}, classes=(ClassLimits(item_max=90, day_max=100, year_max=120),)
    )
    ledger.post(command(1, debit=2, credit=1, amount=300), command(2, amount=50))
    before = ledger.state.money_digest()
    for identifier, amount in enumerate((91, 51, 300, 0), 10):
        assert ledger.result(command(identifier, amount=amount)) is not Result.OK
    assert (used(ledger), ledger.state.money_digest()) == ((50, 50), before)


def test_a_new_day_begins_to_count_anew() -> None:
    """A day's use goes with the day, a year's with the year; holds keep their own day."""
    ledger = metered(day_max=100, year_max=150)
    assert ledger.results(command(1, amount=100), command(2, amount=1)) == [Result.OK, Result.DAY_LIMIT]
    ledger.state.begin_day(DAY_1)
    assert used(ledger) == (0, 100)
    assert ledger.results(command(3, amount=51), command(4, amount=50)) == [Result.YEAR_LIMIT, Result.OK]
    ledger.state.begin_day(NEXT_YEAR)
    assert used(ledger) == (0, 0)
    assert ledger.result(command(5, amount=100)) is Result.OK


ENDINGS = ("void", "expire", "part", "group void", "window")


def release(ledger: Ledger, ending: str) -> int:
    """Release the hold with id 1, of 40, in some way; gives how much was released."""
    if ending == "window":
        assert posting.group_void(ledger.state, 5, None, position=200) == 1
        return 40
    if ending == "expire":
        ledger.now += 100 * SECOND
        assert ledger.post(posting.due(ledger.state, ledger.now))["result"].tolist() == [Result.OK]
        return 40
    flags = {"void": Flag.VOID, "part": Flag.POST, "group void": Flag.VOID | Flag.GROUP}[ending]
    assert ledger.result(end(50, 1, amount=15 if ending == "part" else 0, flags=flags)) is Result.OK
    return 25 if ending == "part" else 40


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("day", "to_day", "to_year"), [(DAY_2, True, True), (DAY_1, False, True), (NEXT_YEAR, 0, 0)])
def test_what_is_released_is_given_back(ending: str, day: int, to_day: bool, to_year: bool) -> None:
    """To the day if the hold was counted on this one, to the year if in this one, and never below zero."""
    ledger = metered()
    hold = command(1, amount=40, flags=Flag.PENDING, timeout_s=50)
    if ending == "window":
        hold["group"], hold["timeout_s"] = 5, 0
    if ending == "group void":
        hold["flags"] |= np.uint16(Flag.GROUP | Flag.LINKED)
        hold = np.concatenate([hold, command(2, debit=2, credit=1, flags=Flag.PENDING | Flag.GROUP)])
    ledger.post(hold, command(3, amount=7))
    assert used(ledger) == (47, 47)
    if day != DAY_2:
        ledger.state.begin_day(day)
    ledger.post(command(4, amount=2))
    before = used(ledger)
    released = release(ledger, ending)
    after = (before[0] - released * to_day, before[1] - released * to_year)
    assert used(ledger) == after
    ledger.state.check()


def test_a_post_counts_nothing() -> None:
    """The whole of a hold was counted when it was made; its post, by itself or with its window, changes no meter."""
    ledger = metered(day_max=100)
    ledger.post(
        command(1, amount=60, flags=Flag.PENDING), command(2, amount=40, flags=Flag.PENDING | Flag.BOUND, group=3)
    )
    assert ledger.result(end(3, 1, flags=Flag.POST)) is Result.OK
    assert posting.group_post(ledger.state, 3, None, position=200) == 1
    assert used(ledger) == (100, 100)


def test_a_hold_that_was_not_counted_gives_nothing_back() -> None:
    """An account that got its class later has holds of which its meter knows nothing."""
    ledger = ledger_of({}, classes=(ClassLimits(),))
    ledger.post(command(1, amount=40, flags=Flag.PENDING))
    ledger.state.set_class(1, 1)
    ledger.post(command(2, amount=5), end(3, 1, flags=Flag.VOID))
    assert used(ledger) == (5, 5)


def test_a_reversal_gives_nothing_back_and_counts_where_it_debits() -> None:
    """A reversal that credits a metered account leaves its meter; one that debits it is counted."""
    ledger = ledger_of({"klass": 1}, {"klass": 1}, classes=(ClassLimits(day_max=15),))
    ledger.post(command(1, amount=10))
    back = command(2, debit=2, credit=1, amount=10, related=1, flags=Flag.REVERSAL)
    assert ledger.result(back) is Result.OK
    assert (used(ledger, 1), used(ledger, 2)) == ((10, 10), (10, 10))
    ledger.post(command(3, debit=3, credit=2, amount=50), command(4, debit=3, credit=1, amount=5))
    ledger.post(command(5, debit=1, credit=2, amount=5))
    again = command(6, debit=2, credit=1, amount=5, related=5, flags=Flag.REVERSAL)
    assert ledger.results(command(7, debit=2, credit=3, amount=1), again) == [Result.OK, Result.DAY_LIMIT]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_broken_chain_takes_its_counts_back(compiled: bool) -> None:
    """Transfers, holds and every way of ending one leave the meter as it was when their chain breaks."""
    ledger = metered(day_max=1_000)
    ledger.compiled = compiled
    member = Flag.PENDING | Flag.GROUP
    ledger.post(
        command(1, amount=40, flags=Flag.PENDING),
        command(2, amount=50, flags=Flag.PENDING),
        command(3, amount=60, flags=member | Flag.LINKED),
        command(4, amount=70, flags=member),
    )
    before, counts = ledger.state.money_digest(), used(ledger)
    chain = [
        command(10, amount=5),
        command(11, amount=6, flags=Flag.PENDING),
        end(12, 1, amount=15, flags=Flag.POST),
        end(13, 2, flags=Flag.VOID),
        end(14, 4, flags=Flag.VOID | Flag.GROUP),
        command(15, amount=0, flags=Flag.BALANCING_DEBIT),
    ]
    for one in chain:
        one["flags"] |= np.uint16(Flag.LINKED)
    results = ledger.results(*chain, command(20, amount=0))
    assert set(results[:5]) == {Result.LINKED_FAILED}
    assert (used(ledger), ledger.state.money_digest()) == (counts, before)


def test_the_largest_amounts_are_counted_without_wrapping() -> None:
    """A meter holds 2^63 - 1, and one more is an overflow before it is a limit."""
    ledger = metered(day_max=UNLIMITED)
    assert ledger.results(command(1, amount=AMOUNT_MAX), command(2, amount=1)) == [Result.OK, Result.OVERFLOW]
    assert used(ledger) == (AMOUNT_MAX, AMOUNT_MAX)


# --- days -------------------------------------------------------------------------------------------------------------


def test_a_business_day_begins_at_midnight_in_both_cities() -> None:
    """Midnight at UTC+8 is 16:00 of the day before in UTC."""
    midnight = 1_767_196_800 * SECOND
    assert (business_day(midnight - 1), business_day(midnight)) == (DAY_1, NEXT_YEAR)
    assert business_day_start_ns(NEXT_YEAR) == midnight


@pytest.mark.parametrize(
    ("day", "first"),
    [(0, 0), (364, 0), (365, 365), (19_722, 19_358), (19_723, 19_723), (20_088, 19_723), (20_089, 20_089)],
)
def test_a_year_begins_on_its_first_day(day: int, first: int) -> None:
    """The first day of the year of any day, leap years included."""
    assert year_start(day) == first


def test_days_only_go_forward() -> None:
    """The same day, an earlier one and one that no hold could remember are our own mistakes."""
    state = ledger_of({}).state
    assert state.business_day == DAY_2
    for day in (DAY_2, DAY_2 - 1, 2**16 - 1):
        with pytest.raises(InvariantViolation):
            state.begin_day(day)
    state.begin_day(2**16 - 2)
    assert state.business_day == 2**16 - 2


def test_a_hold_remembers_the_last_possible_day() -> None:
    """The day after the last one still fits what a hold keeps of it."""
    ledger = metered()
    ledger.state.begin_day(2**16 - 2)
    ledger.post(command(1, flags=Flag.PENDING))
    assert ledger.state.holds["counted"].tolist() == [2**16 - 1]
    ledger.post(end(2, 1, flags=Flag.VOID))
    assert used(ledger) == (0, 0)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_rows_have_32_bytes() -> None:
    """A meter and a class each fill half a line of the cache."""
    assert (METER.itemsize, CLASS_LIMIT.itemsize) == (32, 32)


def test_only_limited_accounts_have_meters() -> None:
    """A thousand accounts, some with limits, have one meter for each that needs it, in the order of need."""
    state = State(b"a secret of the tests")
    for number in range(1, 1_001):
        state.open_account(owner=1, asset=1, code=1, flags=CREDIT, maximum=number if number % 10 == 0 else None)
    state.set_limit(5, maximum=7)
    assert state.accounts["meter"].max() == 101
    assert state.accounts["meter"][5] == 101
    assert [state.limits(number).maximum for number in (5, 10, 11, 1_000)] == [7, 10, None, 1_000]
    state.check()
    copy = state.copy()
    copy.set_limit(5, maximum=8)
    copy.set_class_limits(1, ClassLimits())
    assert state.limits(5).maximum == 7
    assert len(state.class_rows) == 1


@pytest.mark.parametrize("name", METER.names or ())
def test_every_field_of_a_meter_is_in_the_digest(name: str) -> None:
    """A change of any field of a meter changes the digest."""
    state = metered(day_max=5).state
    before = state.money_digest()
    state.meters.array[name][1] ^= 1
    assert state.money_digest() != before


@pytest.mark.parametrize("name", CLASS_LIMIT.names or ())
def test_every_limit_of_a_class_is_in_the_digest(name: str) -> None:
    """A change of any limit of a class changes the digest."""
    state = metered(day_max=5).state
    before = state.money_digest()
    state.class_rows[name][1] -= 1
    assert state.money_digest() != before
