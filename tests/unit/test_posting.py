"""Static rules, ids, posting, limits and overflow."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import posting
from ledger.errors import InvariantViolation
from ledger.registry import IdStatus
from ledger.transfers import TRANSFER, Flag, Result, Transfers, transfers
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, NOW, SECOND, Ledger, command, end, state_of

ENDS = int(Flag.POST | Flag.VOID | Flag.EXPIRE)


# --- static rules -----------------------------------------------------------------------------------------------------

LINKS = (Flag.NONE, Flag.LINKED)
CONDITIONS = [link | minimum for link in LINKS for minimum in (Flag.NONE, Flag.MIN_AVAILABLE)]
BALANCES = [Flag.NONE, Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT, Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT]


def valid_flags(*, group: int) -> set[Flag]:
    """Give the flags of the table in docs/results.md, for commands with and without a window's group."""
    place = Flag.BOUND if group else Flag.GROUP
    transfers_and_holds = {
        condition | balance | kind
        for condition in CONDITIONS
        for balance in BALANCES
        for kind in (Flag.NONE, Flag.PENDING, Flag.PENDING | place)
    }
    ends = {link | kind | whole for link in LINKS for kind in (Flag.POST, Flag.VOID) for whole in (0, Flag.GROUP)}
    reversals = {condition | Flag.REVERSAL for condition in CONDITIONS}
    return transfers_and_holds | reversals | ends | {Flag.EXPIRE, Flag.EXPIRE | Flag.GROUP}


@pytest.mark.parametrize("group", [0, 1])
def test_exactly_the_meaningful_flags_are_valid(group: int) -> None:
    """Of all 65,536 values of the flags, those of the page's table are no FLAGS_INVALID, and no others."""
    commands = transfers(3 * 2**16)
    commands["id_lo"] = np.arange(3 * 2**16)
    commands["debit"], commands["credit"], commands["amount"] = 1, 2, 1
    before, middle, after = commands[::3], commands[1::3], commands[2::3]
    middle["flags"], middle["group"] = np.arange(2**16), group
    middle["amount"][middle["flags"] & ENDS != 0] = 0
    # One that may belong to a hold group gets another member before it; what follows ends every chain.
    member = int(Flag.PENDING | Flag.GROUP)
    before["flags"][middle["flags"] & member == member] = member | Flag.LINKED
    after["flags"] = Flag.NONE
    posting.post(state_of(CREDIT, CREDIT), commands, timestamp_ns=1, first_position=0)
    good = middle["flags"][middle["result"] != Result.FLAGS_INVALID]
    assert set(good.tolist()) == {int(flag) for flag in valid_flags(group=group)}


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING, Flag.POST, Flag.REVERSAL, Flag.BALANCING_DEBIT])
def test_a_minimum_needs_its_flag(flags: Flag) -> None:
    """A minimum without MIN_AVAILABLE is FLAGS_INVALID, whatever else is asked."""
    for minimum in (-1, 1):
        one = command(1, flags=flags, minimum=minimum)
        assert Ledger(state_of(CREDIT, CREDIT)).result(one) is Result.FLAGS_INVALID


@pytest.mark.parametrize(("day", "result"), [(2**16 - 1, Result.OK), (2**16, Result.VALUE_DAY_INVALID)])
def test_a_value_day_is_recorded_and_does_nothing(day: int, result: Result) -> None:
    """A value day up to 65,535 stays in the record and moves nothing; a later one is refused."""
    ledger, plain = Ledger(state_of(CREDIT, CREDIT)), Ledger(state_of(CREDIT, CREDIT))
    record = ledger.post(command(1, value_day=day))[0]
    assert (record["result"], record["value_day"]) == (result, day)
    plain.post(command(1, amount=10 if result is Result.OK else 0))
    assert ledger.state.money_digest() == plain.state.money_digest()


def test_bound_needs_a_group() -> None:
    """A hold that is bound in group 0 could never be decided, and is FLAGS_INVALID."""
    bound = command(1, flags=Flag.PENDING | Flag.BOUND)
    assert Ledger(state_of(CREDIT, CREDIT)).result(bound) is Result.FLAGS_INVALID


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
@pytest.mark.parametrize("amount", [0, -1, -(2**63)])
def test_transfers_and_holds_need_a_positive_amount(flags: Flag, amount: int) -> None:
    """Zero and negative amounts are AMOUNT_INVALID."""
    one = command(1, amount=amount, flags=flags)
    assert Ledger(state_of(CREDIT, CREDIT)).result(one) is Result.AMOUNT_INVALID


@pytest.mark.parametrize("flags", [Flag.REVERSAL, Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT | Flag.PENDING])
def test_what_can_ask_for_all_there_is_needs_no_amount(flags: Flag) -> None:
    """A reversal and a balancing command may name zero, and nothing below it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.result(command(1, amount=-1, flags=flags)) is Result.AMOUNT_INVALID
    assert ledger.result(command(2, amount=0, flags=flags)) in {Result.REVERSAL_NOT_FOUND, Result.NOTHING_AVAILABLE}


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID, Flag.EXPIRE])
def test_the_end_of_a_group_names_no_amount(flags: Flag) -> None:
    """With GROUP an end that names an amount, even the right one, is AMOUNT_INVALID."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    for amount in (-1, 1, 10):
        one = end(amount + 10, 5, amount=amount, flags=flags | Flag.GROUP)
        assert ledger.result(one) is Result.AMOUNT_INVALID


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID, Flag.EXPIRE])
@pytest.mark.parametrize("amount", [-1, -(2**63)])
def test_ends_refuse_only_negative_amounts(flags: Flag, amount: int) -> None:
    """A negative amount is AMOUNT_INVALID for an end too; zero is not."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.result(end(1, 5, amount=amount, flags=flags)) is Result.AMOUNT_INVALID
    assert ledger.result(end(2, 5, flags=flags)) is Result.HOLD_NOT_FOUND


# --- ids --------------------------------------------------------------------------------------------------------------


def test_an_id_is_used_once_within_its_party() -> None:
    """The same id is refused to the same party and free to another one."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(command(5), command(5), command(5, party=2)) == [Result.OK, Result.ID_EXISTS, Result.OK]
    assert ledger.result(command(5)) is Result.ID_EXISTS


@pytest.mark.parametrize("other", [5 + 2**64, 5 + 2**127, 4, 0, 2**128 - 1])
def test_all_128_bits_of_an_id_count(other: int) -> None:
    """Ids that differ anywhere are different ids."""
    assert Ledger(state_of(CREDIT, CREDIT)).results(command(5), command(other)) == [Result.OK, Result.OK]


def test_a_repeated_id_names_its_first_record() -> None:
    """The record of ID_EXISTS has 1 + the position of the id's first record, whatever became of that."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(
        command(1),
        command(2, amount=0),
        command(3, flags=Flag.PENDING),
        command(4, flags=Flag.PENDING),
        end(5, 4, flags=Flag.POST),
        command(6, debit=2, credit=1, related=1, amount=3, flags=Flag.REVERSAL),
    )
    records = ledger.post(*(command(identifier) for identifier in range(1, 7)))
    assert set(records["result"].tolist()) == {Result.ID_EXISTS}
    assert records["debit_previous"].tolist() == [101, 102, 103, 104, 105, 106]
    assert set(records["credit_previous"].tolist()) == {0}


def test_a_repeated_id_names_a_first_record_of_the_same_batch() -> None:
    """It also names one that was applied, refused or taken back just before it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    records = ledger.post(
        command(1),
        command(1),
        command(2, flags=Flag.PENDING | Flag.LINKED),
        command(3, amount=0, flags=Flag.LINKED),
        command(2),
        command(2),
        command(3),
    )
    assert records["debit_previous"].tolist() == [0, 101, 0, 0, 0, 103, 104]
    assert records["result"][4] == Result.LINKED_FAILED


def test_a_refused_id_is_used_up_with_its_first_position() -> None:
    """A refusal registers its id; a later use is ID_EXISTS and changes nothing about it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(command(5, amount=0), command(5)) == [Result.AMOUNT_INVALID, Result.ID_EXISTS]
    entry = ledger.state.lookup(1, 5)
    assert entry is not None
    assert (entry.position, entry.status) == (100, IdStatus.REFUSED)


def test_expire_uses_up_no_id() -> None:
    """An EXPIRE registers nothing, applied or refused."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(command(5, flags=Flag.PENDING, timeout_s=1))
    ledger.now += SECOND
    assert ledger.results(end(0, 5, flags=Flag.EXPIRE), end(0, 5, flags=Flag.EXPIRE)) == [
        Result.OK,
        Result.HOLD_EXPIRED,
    ]
    assert ledger.state.lookup(1, 0) is None


def test_lookup_tells_what_became_of_an_id() -> None:
    """Transfers, refusals, holds and ends of holds each have their status and position."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(
        command(1),
        command(2, amount=0),
        command(3, flags=Flag.PENDING),
        command(4, flags=Flag.PENDING | Flag.BOUND, group=1),
        command(5, flags=Flag.PENDING),
        end(6, 5, flags=Flag.POST),
        command(7, flags=Flag.PENDING),
        end(8, 7, flags=Flag.VOID),
    )
    found = [ledger.state.lookup(1, identifier) for identifier in range(1, 9)]
    assert [entry.status for entry in found if entry] == [
        IdStatus.POSTED,
        IdStatus.REFUSED,
        IdStatus.HOLD_OPEN,
        IdStatus.HOLD_BOUND,
        IdStatus.HOLD_POSTED,
        IdStatus.OTHER,
        IdStatus.HOLD_VOIDED,
        IdStatus.OTHER,
    ]
    assert [entry.position for entry in found if entry] == list(range(100, 108))
    assert ledger.state.lookup(2, 1) is None


# --- posting ----------------------------------------------------------------------------------------------------------


def test_a_transfer_moves_its_amount_from_debit_to_credit() -> None:
    """The debit account's debits and the credit account's credits grow by the amount, nothing else does (I1)."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
    ledger.post(command(1, amount=7), command(2, debit=2, credit=3, amount=4))
    assert [ledger.counters(number) for number in (1, 2, 3)] == [(7, 0, 0, 0), (4, 0, 7, 0), (0, 0, 4, 0)]
    assert [ledger.state.balance(number) for number in (1, 2, 3)] == [-7, 3, 4]


def test_records_thread_through_their_accounts() -> None:
    """Each applied record names, one higher, the position of the previous applied record of either account."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
    records = ledger.post(
        command(1),
        command(2, amount=0),
        command(3, debit=2, credit=3, flags=Flag.PENDING),
        end(4, 3, flags=Flag.VOID),
        command(5, debit=3, credit=1),
    )
    assert records["debit_previous"].tolist() == [0, 0, 101, 103, 104]
    assert records["credit_previous"].tolist() == [0, 0, 0, 103, 101]
    assert [ledger.state.account(number).last for number in (1, 2, 3)] == [105, 104, 105]


def test_a_record_posted_again_gives_itself() -> None:
    """Records are commands: a fresh state that posts them makes the same records and the same money."""
    first, second = Ledger(state_of(CREDIT, CREDIT)), Ledger(state_of(CREDIT, CREDIT))
    records = first.post(
        command(1),
        command(2, flags=Flag.PENDING, group=3, member=4),
        end(3, 2, flags=Flag.POST),
        command(4, amount=0),
        command(5, flags=Flag.PENDING, timeout_s=9),
        end(6, 5, flags=Flag.VOID),
        command(7, flags=Flag.LINKED),
        command(8, debit=9),
    )
    again = second.post(records.copy())
    assert again.tobytes() == records.tobytes()
    assert first.state.money_digest() == second.state.money_digest()


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limited_credit_normal_account_pays_out_what_it_has() -> None:
    """Debits pass down to the minimum and not below it."""
    ledger = Ledger(state_of(CREDIT | LIMITED, CREDIT))
    ledger.post(command(1, debit=2, credit=1, amount=10))
    assert ledger.results(command(2, amount=11), command(3, amount=10), command(4, amount=1)) == [
        Result.DEBIT_LIMIT,
        Result.OK,
        Result.DEBIT_LIMIT,
    ]


def test_a_limited_debit_normal_account_is_the_mirror_image() -> None:
    """Credits to a debit-normal account pass down to the minimum and not below it."""
    ledger = Ledger(state_of(CREDIT, LIMITED))
    ledger.post(command(1, debit=2, credit=1, amount=10))
    assert ledger.results(command(2, amount=11), command(3, amount=10), command(4, amount=1)) == [
        Result.CREDIT_LIMIT,
        Result.OK,
        Result.CREDIT_LIMIT,
    ]


@pytest.mark.parametrize("minimum", [-5, 5])
def test_a_minimum_may_be_any_number(minimum: int) -> None:
    """A negative minimum is a credit line, a positive one a reserve."""
    state = state_of(CREDIT)
    state.open_account(owner=1, asset=1, code=7, flags=CREDIT | LIMITED, minimum=minimum)
    ledger = Ledger(state)
    ledger.post(command(1, amount=10))
    assert ledger.result(command(2, debit=2, credit=1, amount=11 - minimum)) is Result.DEBIT_LIMIT
    assert ledger.result(command(3, debit=2, credit=1, amount=10 - minimum)) is Result.OK


def test_money_that_is_pending_to_come_in_does_not_count() -> None:
    """An account cannot pay out what is only held for it."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED))
    ledger.post(command(1, flags=Flag.PENDING))
    assert ledger.result(command(2, debit=2, credit=1, amount=1)) is Result.DEBIT_LIMIT


def test_money_that_is_pending_to_go_out_counts() -> None:
    """An account cannot pay out twice what it holds for somebody else, on either normal side."""
    ledger = Ledger(state_of(CREDIT | LIMITED, CREDIT, LIMITED))
    ledger.post(command(1, debit=2, credit=1, amount=10), command(2, debit=3, credit=2, amount=10))
    assert ledger.results(
        command(3, amount=6, flags=Flag.PENDING),
        command(4, amount=5),
        command(5, amount=4),
        command(6, debit=2, credit=3, amount=6, flags=Flag.PENDING),
        command(7, debit=2, credit=3, amount=5),
        command(8, debit=2, credit=3, amount=4),
    ) == [Result.OK, Result.DEBIT_LIMIT, Result.OK, Result.OK, Result.CREDIT_LIMIT, Result.OK]


def test_a_credit_into_a_breached_account_passes() -> None:
    """An account below its minimum may always be paid into, on either normal side."""
    state = state_of(CREDIT)
    state.open_account(owner=1, asset=1, code=7, flags=CREDIT | LIMITED, minimum=100)
    state.open_account(owner=1, asset=1, code=7, flags=LIMITED, minimum=100)
    ledger = Ledger(state)
    assert ledger.results(command(1, amount=1), command(2, debit=3, credit=1, amount=1)) == [Result.OK, Result.OK]


def test_the_other_side_of_a_limited_account_is_not_checked() -> None:
    """An unlimited side passes whatever the amount, and a limit of one account does not bind the other."""
    ledger = Ledger(state_of(LIMITED, CREDIT | LIMITED))
    assert ledger.result(command(1, amount=AMOUNT_MAX)) is Result.OK


# --- overflow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
def test_a_counter_reaches_its_maximum_and_no_more(flags: Flag) -> None:
    """2^63 - 1 fits into a counter, posted or pending; one more is OVERFLOW on each side (I3)."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT, CREDIT))
    assert ledger.results(
        command(1, amount=AMOUNT_MAX, flags=flags),
        command(2, amount=1, credit=3),
        command(3, amount=1, debit=3),
        command(4, amount=1, credit=3, flags=Flag.PENDING),
        command(5, amount=1, debit=3, flags=Flag.PENDING),
        command(6, amount=1, debit=2, credit=1),
    ) == [Result.OK, Result.OVERFLOW, Result.OVERFLOW, Result.OVERFLOW, Result.OVERFLOW, Result.OK]


@pytest.mark.parametrize("first", [Flag.NONE, Flag.PENDING])
@pytest.mark.parametrize("second", [Flag.NONE, Flag.PENDING])
def test_posted_and_pending_overflow_together(first: Flag, second: Flag) -> None:
    """What refuses a post is refused when the hold is made: posted plus pending stays below 2^63 on both accounts."""
    for side in ("debit", "credit"):
        other = "credit" if side == "debit" else "debit"
        ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
        big = command(1, amount=AMOUNT_MAX - 4, flags=first, **{side: 1, other: 2})
        assert ledger.result(big) is Result.OK
        assert ledger.result(command(2, amount=5, flags=second, **{side: 1, other: 3})) is Result.OVERFLOW
        assert ledger.result(command(3, amount=4, flags=second, **{side: 1, other: 3})) is Result.OK


def test_a_full_hold_posts_at_the_maximum() -> None:
    """A hold of 2^63 - 1 can be posted, and released."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(command(1, amount=AMOUNT_MAX, flags=Flag.PENDING))
    assert ledger.result(end(2, 1, flags=Flag.POST)) is Result.OK
    assert ledger.counters(1) == (AMOUNT_MAX, 0, 0, 0)


def test_a_limit_near_the_ends_of_the_numbers_does_not_wrap() -> None:
    """The largest amount against the lowest minimum is compared exactly."""
    state = state_of(CREDIT)
    state.open_account(owner=1, asset=1, code=7, flags=CREDIT | LIMITED, minimum=-(2**63) + 1)
    state.open_account(owner=1, asset=1, code=7, flags=CREDIT | LIMITED, minimum=-(2**63) + 2)
    ledger = Ledger(state)
    assert ledger.result(command(1, debit=2, credit=1, amount=AMOUNT_MAX)) is Result.OK
    assert ledger.result(command(2, debit=3, credit=2, amount=AMOUNT_MAX)) is Result.DEBIT_LIMIT


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "timestamp_ns", "position"),
    [
        (np.zeros(1, np.uint8), 1, 0),
        (transfers(4).reshape(2, 2), 1, 0),
        (transfers(4)[::2], 1, 0),
        (np.frombuffer(bytes(TRANSFER.itemsize), TRANSFER), 1, 0),
        (transfers(1), -1, 0),
        (transfers(1), 2**62, 0),
        (transfers(1), 1, -1),
        (transfers(2), 1, 2**44 - 1),
    ],
)
def test_arguments_out_of_form_change_nothing(batch: Transfers, timestamp_ns: int, position: int) -> None:
    """A wrong array, time or position is our own mistake and is found before anything happens."""
    state = state_of(CREDIT, CREDIT)
    before = state.money_digest()
    with pytest.raises(InvariantViolation):
        posting.post(state, batch, timestamp_ns=timestamp_ns, first_position=position)
    assert state.money_digest() == before
    assert len(state.registry) == 0


def test_no_commands_are_no_work() -> None:
    """An empty batch is posted without a trace."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    before = ledger.state.money_digest()
    assert len(ledger.post(transfers(0))) == 0
    assert ledger.state.money_digest() == before


def test_the_last_position_is_kept_whole() -> None:
    """Positions up to 2^44 - 1 come back from the registry and from the accounts."""
    state = state_of(CREDIT, CREDIT)
    for position in (2**32 - 1, 2**32, 2**44 - 1):
        one = command(position)
        posting.post(state, one, timestamp_ns=NOW, first_position=position)
        entry = state.lookup(1, position)
        assert entry is not None
        assert entry.position == position
        assert state.account(1).last == position + 1
