"""Balancing commands move what there is room for; a condition lets a command pass only if enough stays available."""

from __future__ import annotations

import pytest

from ledger.accounts import AccountFlag
from ledger.state import State
from ledger.transfers import Flag, Result, Transfers
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, Ledger, command, state_of

DEBIT, CREDIT_SIDE = Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT
NORMAL = AccountFlag.NONE


def ledger_of(*accounts: tuple[AccountFlag, int]) -> Ledger:
    """Open accounts with these flags and minimums; the last one, unlimited and debit-normal, is where money is."""
    state = State(b"a secret of the tests")
    for flags, minimum in (*accounts, (NORMAL, 0)):
        state.open_account(owner=1, asset=1, code=7, flags=flags, minimum=minimum)
    return Ledger(state)


def fund(ledger: Ledger, number: int, amount: int, identifier: int = 900) -> None:
    """Bring money in."""
    source = ledger.state.account_count
    assert ledger.result(command(identifier, debit=source, credit=number, amount=amount)) is Result.OK


def applied(ledger: Ledger, one: Transfers) -> int:
    """Post one command that passes; gives what it moved."""
    record = ledger.post(one)[0]
    assert record["result"] == Result.OK
    return int(record["amount"])


# --- balancing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
@pytest.mark.parametrize(("asked", "moved"), [(0, 70), (69, 69), (70, 70), (71, 70), (AMOUNT_MAX, 70)])
def test_a_balancing_debit_moves_what_is_there(flags: Flag, asked: int, moved: int) -> None:
    """The applied amount is the least of what is asked and what the debit account has, and stands in the record."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 100)
    ledger.post(command(1, amount=20), command(2, amount=10, flags=Flag.PENDING))
    assert applied(ledger, command(3, amount=asked, flags=DEBIT | flags)) == moved
    assert ledger.state.account(1).available == 70 - moved


@pytest.mark.parametrize(("flags", "minimum", "moved"), [(CREDIT, 30, 100), (CREDIT | LIMITED, 30, 70)])
def test_only_a_limited_account_keeps_its_minimum(flags: AccountFlag, minimum: int, moved: int) -> None:
    """The room stops at the minimum of a limited account, and at zero of one that has none."""
    ledger = ledger_of((flags, minimum), (CREDIT, 0))
    fund(ledger, 1, 100)
    assert applied(ledger, command(1, amount=0, flags=DEBIT)) == moved


def test_a_credit_line_is_room() -> None:
    """A minimum below zero is room beyond the balance."""
    ledger = ledger_of((CREDIT | LIMITED, -50), (CREDIT, 0))
    fund(ledger, 1, 100)
    assert applied(ledger, command(1, amount=0, flags=DEBIT)) == 150
    assert ledger.result(command(2, amount=0, flags=DEBIT)) is Result.NOTHING_AVAILABLE


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
@pytest.mark.parametrize(("asked", "moved"), [(0, 60), (59, 59), (61, 60)])
def test_a_balancing_credit_fills_what_is_owed(flags: Flag, asked: int, moved: int) -> None:
    """On the credit account the room is its posted debits less its credits, pending ones too."""
    ledger = ledger_of((CREDIT, 0), (NORMAL, 0))
    ledger.post(command(1, debit=2, credit=3, amount=100), command(2, amount=30), command(3, amount=10, flags=1))
    assert applied(ledger, command(4, amount=asked, flags=CREDIT_SIDE | flags)) == moved


def test_both_sides_bound_the_amount() -> None:
    """With both flags the smaller room decides."""
    for there, owed in ((40, 60), (60, 40)):
        ledger = ledger_of((CREDIT, 0), (NORMAL, 0))
        fund(ledger, 1, there)
        ledger.post(command(1, debit=2, credit=3, amount=owed))
        assert applied(ledger, command(2, amount=0, flags=DEBIT | CREDIT_SIDE)) == 40


@pytest.mark.parametrize("flags", [DEBIT, CREDIT_SIDE, DEBIT | CREDIT_SIDE])
def test_without_room_nothing_moves(flags: Flag) -> None:
    """Room of zero or less is NOTHING_AVAILABLE; the record keeps what was asked."""
    ledger = ledger_of((CREDIT, 0), (NORMAL, 0))
    ledger.post(command(1, amount=5))
    before = ledger.state.money_digest()
    for asked in (0, 3):
        record = ledger.post(command(10 + asked, amount=asked, flags=flags))[0]
        assert (record["result"], record["amount"]) == (Result.NOTHING_AVAILABLE, asked)
    assert ledger.state.money_digest() == before


def test_the_other_rules_look_at_the_applied_amount() -> None:
    """A huge amount that would overflow passes when little moves, and a limit of the other side still refuses."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0), (LIMITED, -5))
    fund(ledger, 2, AMOUNT_MAX - 40)
    fund(ledger, 1, 10, 901)
    assert applied(ledger, command(1, amount=AMOUNT_MAX, flags=DEBIT)) == 10
    fund(ledger, 1, 10, 902)
    record = ledger.post(command(2, credit=3, amount=0, flags=DEBIT))[0]
    assert (record["result"], record["amount"]) == (Result.CREDIT_LIMIT, 0)


@pytest.mark.parametrize("minimum", [-(2**63) + 1, 2**63 - 1])
def test_room_near_the_ends_of_the_numbers_does_not_wrap(minimum: int) -> None:
    """The lowest and the highest minimum against a full or an empty account give a bounded room."""
    ledger = ledger_of((CREDIT | LIMITED, minimum), (CREDIT, 0))
    fund(ledger, 1, AMOUNT_MAX)
    one = command(1, amount=0, flags=DEBIT)
    if minimum < 0:
        assert applied(ledger, one) == AMOUNT_MAX
    else:
        assert ledger.result(one) is Result.NOTHING_AVAILABLE
    empty = ledger_of((CREDIT | LIMITED, minimum), (CREDIT, 0))
    one = command(1, amount=0, flags=DEBIT)
    if minimum < 0:
        assert applied(empty, one) == AMOUNT_MAX
    else:
        assert empty.result(one) is Result.NOTHING_AVAILABLE


def test_a_chain_gives_back_what_was_asked() -> None:
    """A balancing member of a failed chain has its asked amount in the record again, and moves nothing."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 100)
    before = ledger.state.money_digest()
    asked = [
        command(1, amount=0, flags=DEBIT | Flag.LINKED),
        command(2, debit=2, credit=1, amount=500, flags=DEBIT | Flag.PENDING | Flag.LINKED),
        command(3, amount=0),
    ]
    records = ledger.post(*(one.copy() for one in asked))
    assert records["amount"].tolist() == [0, 500, 0]
    assert records["result"].tolist() == [Result.LINKED_FAILED, Result.LINKED_FAILED, Result.AMOUNT_INVALID]
    assert ledger.state.money_digest() == before


def test_a_member_sees_what_the_one_before_left() -> None:
    """Two balancing members of one chain share the room."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 100)
    records = ledger.post(command(1, amount=60, flags=DEBIT | Flag.LINKED), command(2, amount=60, flags=DEBIT))
    assert records["amount"].tolist() == [60, 40]


def test_a_balanced_record_posted_again_gives_itself() -> None:
    """The applied amount asks for itself."""
    first, second = (ledger_of((CREDIT, 0), (CREDIT, 0)) for _ in range(2))
    for ledger in (first, second):
        fund(ledger, 1, 100)
    records = first.post(command(1, amount=0, flags=DEBIT), command(2, debit=2, credit=1, amount=30, flags=DEBIT))
    assert second.post(records.copy()).tobytes() == records.tobytes()


# --- MIN_AVAILABLE ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.PENDING])
@pytest.mark.parametrize(("minimum", "result"), [(60, Result.OK), (61, Result.MIN_AVAILABLE), (-5, Result.OK)])
def test_a_condition_holds_afterwards(flags: Flag, minimum: int, result: Result) -> None:
    """What must stay available is counted after the command, a transfer or a hold alike."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 100)
    ledger.post(command(1, amount=10), command(2, amount=20, flags=Flag.PENDING))
    one = command(3, amount=10, flags=Flag.MIN_AVAILABLE | flags, minimum=minimum)
    before = ledger.state.money_digest()
    record = ledger.post(one)[0]
    assert (record["result"], record["minimum"]) == (result, minimum)
    assert (ledger.state.money_digest() == before) == (result != Result.OK)


def test_a_condition_of_zero_is_one() -> None:
    """The flag alone asks that the account is not overdrawn."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 10)
    assert ledger.results(
        command(1, amount=11, flags=Flag.MIN_AVAILABLE), command(2, amount=10, flags=Flag.MIN_AVAILABLE)
    ) == [Result.MIN_AVAILABLE, Result.OK]


def test_a_condition_may_lie_below_zero() -> None:
    """An overdraft may be bounded by a condition too."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    asked = {"flags": Flag.MIN_AVAILABLE, "minimum": -10}
    assert ledger.results(command(1, amount=11, **asked), command(2, amount=10, **asked)) == [
        Result.MIN_AVAILABLE,
        Result.OK,
    ]


@pytest.mark.parametrize(("flags", "left"), [(Flag.NONE, 110), (Flag.PENDING, 100)])
def test_debiting_a_debit_normal_account_adds_to_it(flags: Flag, left: int) -> None:
    """On a debit-normal account a transfer adds what it moves, and a hold adds nothing before it is posted."""
    for minimum, result in ((left, Result.OK), (left + 1, Result.MIN_AVAILABLE)):
        ledger = ledger_of((NORMAL, 0), (CREDIT, 0))
        ledger.post(command(1, amount=100))
        one = command(2, amount=10, flags=Flag.MIN_AVAILABLE | flags, minimum=minimum)
        assert ledger.result(one) is result


def test_a_balanced_amount_meets_the_condition() -> None:
    """What a balancing command would move must leave the minimum; it is not made smaller to do so."""
    ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
    fund(ledger, 1, 100)
    asked = {"amount": 0, "flags": DEBIT | Flag.MIN_AVAILABLE}
    assert ledger.results(command(1, minimum=1, **asked), command(2, minimum=0, **asked)) == [
        Result.MIN_AVAILABLE,
        Result.OK,
    ]


@pytest.mark.parametrize("minimum", [-(2**63), 2**63 - 1])
def test_conditions_near_the_ends_of_the_numbers_do_not_wrap(minimum: int) -> None:
    """The extremes are compared exactly, on a full and on an overdrawn account."""
    expected = Result.OK if minimum < 0 else Result.MIN_AVAILABLE
    for funded in (0, AMOUNT_MAX):
        ledger = ledger_of((CREDIT, 0), (CREDIT, 0))
        if funded:
            fund(ledger, 1, funded)
        one = command(1, amount=AMOUNT_MAX, flags=Flag.MIN_AVAILABLE, minimum=minimum)
        assert ledger.result(one) is expected


def test_plain_and_compiled_agree_at_the_ends_of_the_numbers() -> None:
    """The plain loop gives what the compiled one gives where numbers are largest."""
    results = []
    for compiled in (True, False):
        ledger = Ledger(state_of(CREDIT | LIMITED, CREDIT, minimum=-(2**63) + 1), compiled=compiled)
        results.append(
            ledger.results(
                command(1, amount=0, flags=DEBIT),
                command(2, amount=AMOUNT_MAX, debit=2, credit=1),
                command(3, amount=1, flags=Flag.MIN_AVAILABLE, minimum=2**63 - 1),
            )
        )
    assert results[0] == results[1] == [Result.OK, Result.OK, Result.OVERFLOW]
