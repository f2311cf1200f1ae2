"""Accounts, sums, digests and what a state checks about itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.control import METER_COUNT, REVERSAL_COUNT
from ledger.errors import InvariantViolation, NotFound, Rejected
from ledger.holds import BOUND
from ledger.meters import ClassLimits
from ledger.state import ACCOUNT, HOLD, AssetTotal, State
from ledger.transfers import Flag, Result
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, Ledger, command, end, state_of

KEY = b"a secret of the tests"


def busy() -> Ledger:
    """Three accounts of asset 1 and two of asset 2 with money, open holds and one ended one."""
    state = state_of(CREDIT, CREDIT | LIMITED, AccountFlag.NONE)
    for _ in range(2):
        state.open_account(owner=4, asset=2, code=8, flags=CREDIT)
    ledger = Ledger(state)
    ledger.post(
        command(1, amount=100),
        command(2, debit=2, credit=3, amount=30, flags=Flag.PENDING, group=1, timeout_s=5),
        command(3, debit=2, credit=1, amount=20, flags=Flag.PENDING),
        command(4, debit=5, credit=4, amount=9),
        command(5, debit=2, credit=3, amount=5, flags=Flag.PENDING),
        end(6, 5, flags=Flag.POST),
        command(7, debit=99),
    )
    return ledger


# --- accounts --------------------------------------------------------------------------------------------------------


def test_dtypes_have_64_bytes() -> None:
    """An account and a hold each fill one cache line."""
    assert (ACCOUNT.itemsize, HOLD.itemsize) == (64, 64)


def test_accounts_are_numbered_in_order_of_opening() -> None:
    """The first account is 1, the next 2, far beyond the first table."""
    state = State(KEY)
    numbers = [state.open_account(owner=number, asset=1, code=2, flags=CREDIT) for number in range(100)]
    assert numbers == list(range(1, 101))
    assert state.account_count == 100
    assert state.accounts["owner"].tolist() == [0, *range(100)]


def test_a_view_tells_all_about_an_account() -> None:
    """An account comes back with what it was opened with and its counters, as plain integers."""
    state = State(KEY)
    number = state.open_account(owner=3, asset=4, code=5, flags=CREDIT | LIMITED, minimum=-6)
    view = state.account(number)
    assert (view.number, view.owner, view.asset, view.code, view.minimum) == (1, 3, 4, 5, -6)
    assert (view.flags, view.is_credit_normal, view.is_closed, view.last) == (CREDIT | LIMITED, True, False, 0)
    assert type(view.debits_posted) is int


def test_balance_and_available_follow_the_normal_side() -> None:
    """A balance is on the normal side; what is pending to flow out is not available."""
    ledger = busy()
    views = [ledger.state.account(number) for number in (1, 2, 3)]
    assert [view.balance for view in views] == [-100, 95, -5]
    assert [view.available for view in views] == [-100, 45, -35]
    assert ledger.state.balance(2) == 95


@pytest.mark.parametrize("number", [0, -1, 6, 2**40])
def test_what_is_no_account_is_not_found(number: int) -> None:
    """Account 0 and numbers beyond the last are ACCOUNT_NOT_FOUND for every question."""
    state = busy().state
    for ask in (state.account, state.balance, state.close_account, state.reopen_account):
        with pytest.raises(NotFound, match="ACCOUNT_NOT_FOUND"):
            ask(number)


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": -1},
        {"owner": 2**32},
        {"asset": 0},
        {"asset": 2**16},
        {"code": -1},
        {"code": 2**16},
        {"flags": AccountFlag.CLOSED},
        {"flags": AccountFlag(8)},
        {"minimum": 2**63},
        {"minimum": -(2**63)},
    ],
)
def test_accounts_open_within_their_ranges(fields: dict[str, int]) -> None:
    """A field out of range is our own mistake, and no account is opened."""
    state = State(KEY)
    with pytest.raises(InvariantViolation):
        state.open_account(**{"owner": 1, "asset": 1, "code": 1, "flags": CREDIT, **fields})  # type: ignore[arg-type]  # on purpose
    assert state.account_count == 0


def test_the_accounts_cannot_be_written_from_outside() -> None:
    """The view of all accounts is read-only, indexed by number, with an empty row 0."""
    state = busy().state
    assert len(state.accounts) == 6
    assert state.accounts[0].tobytes() == bytes(64)
    with pytest.raises(ValueError, match="read-only"):
        state.accounts["owner"][1] = 7


def test_an_empty_account_closes_and_opens_again() -> None:
    """A closed account refuses transfers and holds on both sides until it is opened again."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.state.close_account(1)
    assert ledger.state.account(1).is_closed
    assert ledger.results(command(1), command(2, debit=2, credit=1, flags=Flag.PENDING)) == [
        Result.DEBIT_CLOSED,
        Result.CREDIT_CLOSED,
    ]
    ledger.state.reopen_account(1)
    assert ledger.result(command(3)) is Result.OK


def test_closing_has_its_reasons_to_refuse() -> None:
    """A closed account, one with a balance and one with pending amounts do not close; an open one is not opened."""
    ledger = busy()
    with pytest.raises(Rejected, match="ACCOUNT_NOT_EMPTY"):
        ledger.state.close_account(4)
    for number in (1, 2, 3):
        with pytest.raises(Rejected, match="ACCOUNT_PENDING"):
            ledger.state.close_account(number)
    with pytest.raises(Rejected, match="ACCOUNT_OPEN"):
        ledger.state.reopen_account(4)
    ledger.post(command(50, debit=4, credit=5, amount=9))
    ledger.state.close_account(4)
    with pytest.raises(Rejected, match="ACCOUNT_CLOSED"):
        ledger.state.close_account(4)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_the_trial_balance_sums_each_asset() -> None:
    """Debits equal credits per asset, posted and pending (I2)."""
    assert busy().state.trial_balance() == [AssetTotal(1, 105, 105, 50, 50), AssetTotal(2, 9, 9, 0, 0)]


def test_sums_beyond_64_bits_are_exact() -> None:
    """Three accounts full to 2^63 - 1 sum exactly."""
    ledger = Ledger(state_of(*[CREDIT] * 6))
    ledger.post(*(command(i, debit=i, credit=i + 3, amount=AMOUNT_MAX) for i in (1, 2, 3)))
    assert ledger.state.trial_balance() == [AssetTotal(1, 3 * AMOUNT_MAX, 3 * AMOUNT_MAX, 0, 0)]


def test_an_empty_state_is_in_order() -> None:
    """A state without accounts has an empty trial balance, no holds, and passes its check."""
    state = State(KEY)
    state.check()
    assert state.trial_balance() == []
    assert (state.hold_count, len(state.holds)) == (0, 0)


def _counter(name: str, number: int, change: int) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        state.account_rows[name][number] += change

    return tamper


def _both(first: Callable[[State], None], second: Callable[[State], None]) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        first(state)
        second(state)

    return tamper


def _hold(name: str, change: int) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        state.hold_table.array[name][0] += change

    return tamper


def _entry(name: str) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        state.registry.entries[name][1] += 1

    return tamper


def _row(table: str, name: str, row: int, value: int) -> Callable[[State], None]:
    def tamper(state: State) -> None:
        getattr(state, table).array[name][row] = value

    return tamper


def limited() -> Ledger:
    """Two accounts with a class, a maximum and a meter that has counted; two hold groups; two reversals."""
    state = state_of(CREDIT)
    state.set_class_limits(1, ClassLimits(day_max=1_000))
    for _ in range(2):
        state.open_account(owner=4, asset=1, code=8, flags=CREDIT, klass=1, maximum=500)
    ledger = Ledger(state)
    member = Flag.PENDING | Flag.GROUP
    ledger.post(
        command(1, amount=100),
        command(2, debit=2, credit=1, amount=60),
        command(3, debit=2, credit=3, amount=2, flags=member | Flag.LINKED),
        command(4, debit=2, credit=3, amount=3, flags=member),
        command(5, debit=2, credit=1, amount=4, flags=member | Flag.LINKED),
        command(6, debit=2, credit=1, amount=5, flags=member),
        command(7, debit=2, credit=1, amount=30, related=1, flags=Flag.REVERSAL),
        command(8, debit=1, credit=2, amount=20, related=2, flags=Flag.REVERSAL),
    )
    return ledger


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (_row("hold_links", "next", 1, 1), "in circles"),
        (_row("hold_table", "group", 1, 7), "belongs to a window"),
        (_row("hold_table", "status", 2, BOUND), "belongs to a window"),
        (_row("meters", "account", 1, 3), "know its account"),
        (_row("meters", "day_used", 1, -1), "less than nothing"),
        (_row("meters", "day_used", 1, 105), "less than nothing"),
        (_row("meters", "year_used", 1, 105), "less than nothing"),
        (_row("meters", "class", 2, 2), "class that does not exist"),
        (_row("reversals", "reversed", 0, 101), "more than it moved"),
        (_row("reversals", "reversed", 1, 0), "more than it moved"),
        (_row("reversals", "entry", 1, 2), "know its reversal"),
        (lambda state: state.control.__setitem__(REVERSAL_COUNT, 1), "know its reversal"),
        (lambda state: state.control.__setitem__(METER_COUNT, 1), "each belong"),
        (lambda state: state.account_rows["meter"].__setitem__(1, 2), "each belong"),
        (lambda state: state.account_rows["flags"].__setitem__(1, int(CREDIT | AccountFlag.CAPPED)), "no meter"),
    ],
)
def test_wrong_limits_groups_and_reversals_are_noticed(tamper: Callable[[State], None], says: str) -> None:
    """Each thing that can be wrong about them fails the check with its own words."""
    state = limited().state
    state.check()
    tamper(state)
    with pytest.raises(InvariantViolation, match=says):
        state.check()


@pytest.mark.parametrize("name", ["position", "amount", "reversed", "debit", "credit"])
def test_every_fact_of_a_reversal_is_in_the_digest(name: str) -> None:
    """A change of what is known of an original changes the digest; where its row lies does not matter."""
    state = limited().state
    before = state.money_digest()
    rows = state.reversals.array
    rows[[0, 1]] = rows[[1, 0]]
    assert state.money_digest() == before
    rows[name][0] += 1
    assert state.money_digest() != before


def test_how_holds_are_grouped_is_in_the_digest() -> None:
    """The same holds in other groups are other money."""
    state = limited().state
    before = state.money_digest()
    state.hold_links.array["next"][:4] = [3, 2, 1, 0]
    state.check()
    assert state.money_digest() != before


def test_an_ended_circle_leaves_nothing_in_the_digest() -> None:
    """Links and counts of free slots are no money."""
    ledger = limited()
    ledger.post(end(20, 3, flags=Flag.VOID | Flag.GROUP))
    before = ledger.state.money_digest()
    ledger.state.hold_links.array["next"][:2] = 7
    ledger.state.hold_table.array["counted"][:2] = 9
    assert ledger.state.money_digest() == before


def _forget_an_id(state: State) -> None:
    state.registry.index[np.flatnonzero(state.registry.index)[0]] = 0


def _lose_a_free_slot(state: State) -> None:
    state.free_slots.array[0] = 0


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (_counter("debits_posted", 1, 1), "I2"),
        (_counter("credits_posted", 4, -1), "I2"),
        (_counter("debits_pending", 2, 1), "I2"),
        (_both(_counter("debits_posted", 5, -10), _counter("credits_posted", 4, -10)), "I3"),
        (_both(_counter("debits_posted", 2, AMOUNT_MAX - 20), _counter("credits_posted", 1, AMOUNT_MAX - 20)), "I3"),
        (_both(_counter("debits_pending", 5, 1), _counter("credits_pending", 4, 1)), "I2: pending"),
        (_counter("last", 0, 1), "account 0"),
        (_hold("amount", 1), "I2: pending"),
        (_hold("id_lo", 1), "know its id"),
        (_hold("party", 1), "know its id"),
        (_entry("low"), "know its hold"),
        (_entry("tag"), "know its hold"),
        (_lose_a_free_slot, "free slots"),
        (_forget_an_id, "index of ids"),
        (lambda state: state.control.__setitem__(3, 7), "counted"),
    ],
)
def test_a_wrong_state_is_noticed(tamper: Callable[[State], None], says: str) -> None:
    """Each thing that can be wrong fails the check with its own words."""
    state = busy().state
    state.check()
    tamper(state)
    with pytest.raises(InvariantViolation, match=says):
        state.check()


def test_the_digest_covers_money_and_nothing_else() -> None:
    """Equal money has one digest, whatever the hash key, the room in the tables and the ids that were used up."""
    first = busy()
    second = busy()
    second.state.reserve(id_count=50_000, hold_count=5_000)
    second.post(command(60, amount=0))
    third = State(b"quite another secret key")
    for row in first.state.accounts[1:]:
        third.open_account(
            owner=int(row["owner"]),
            asset=int(row["asset"]),
            code=int(row["code"]),
            flags=AccountFlag(int(row["flags"])),
        )
    again = np.concatenate(
        [
            command(1, amount=100),
            command(2, debit=2, credit=3, amount=30, flags=Flag.PENDING, group=1, timeout_s=5),
            command(3, debit=2, credit=1, amount=20, flags=Flag.PENDING),
            command(4, debit=5, credit=4, amount=9),
            command(5, debit=2, credit=3, amount=5, flags=Flag.PENDING),
            end(6, 5, flags=Flag.POST),
        ]
    )
    posting.post(third, again, timestamp_ns=first.now, first_position=100, compiled=False)
    assert len({ledger.money_digest() for ledger in (first.state, second.state, third)}) == 1


@pytest.mark.parametrize("name", list(ACCOUNT.names or ()))
def test_every_field_of_an_account_is_in_the_digest(name: str) -> None:
    """A change of any field of any account changes the digest."""
    state = busy().state
    before = state.money_digest()
    state.account_rows[name][5] += 1
    assert state.money_digest() != before


@pytest.mark.parametrize("name", HOLD.names or ())
def test_every_field_of_a_hold_is_in_the_digest(name: str) -> None:
    """A change of any field of a living hold changes the digest."""
    state = busy().state
    before = state.money_digest()
    state.hold_table.array[name][0] += 1
    assert state.money_digest() != before


def test_ended_holds_are_not_in_the_digest() -> None:
    """What lies in a free slot is no money."""
    ledger = busy()
    before = ledger.state.money_digest()
    assert ledger.state.hold_table.array["status"][2] == 0
    ledger.state.hold_table.array["amount"][2] = 77
    assert ledger.state.money_digest() == before


def test_a_copy_goes_its_own_way() -> None:
    """A copy has the same money and ids, and neither sees what happens to the other."""
    ledger = busy()
    copy = Ledger(ledger.state.copy())
    assert copy.state.money_digest() == ledger.state.money_digest()
    copy.position = ledger.position
    copy.post(end(70, 2, flags=Flag.POST, group=1), command(71, debit=1, credit=3))
    copy.state.open_account(owner=1, asset=1, code=1, flags=CREDIT)
    assert ledger.state.hold_count == 2
    assert ledger.state.lookup(1, 70) is None
    assert ledger.state.account_count == 5
    ledger.state.check()
    assert ledger.result(end(80, 2, flags=Flag.VOID, group=1)) is Result.OK


def test_tables_grow_with_what_comes() -> None:
    """Thousands of holds with deadlines in one batch find their room."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    batch = np.concatenate([command(0, amount=1, flags=Flag.PENDING, timeout_s=1)] * 5_000)
    batch["id_lo"] = np.arange(5_000)
    assert set(ledger.post(batch)["result"].tolist()) == {0}
    assert ledger.state.hold_count == 5_000
    assert ledger.state.holds["id_lo"].tolist() == list(range(5_000))
