"""Reversals point back: to what was moved, never beyond it, and gone with their chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ledger import posting
from ledger.control import REVERSAL_COUNT
from ledger.errors import IntegrityFailure, InvariantViolation
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import Flag, Result, Transfers
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, NOW, Ledger, command, end, state_of

FAILED = Result.LINKED_FAILED


def back(identifier: int, related: int, amount: int = 0, **fields: Any) -> Transfers:
    """Make a reversal of what went from account 1 to account 2."""
    flags = Flag.REVERSAL | fields.pop("flags", Flag.NONE)
    values = {"debit": 2, "credit": 1, "amount": amount, "related": related, **fields}
    return command(identifier, flags=int(flags), **values)


def ledger_with(*commands: Transfers, compiled: bool = True) -> Ledger:
    """Two accounts and what these commands do."""
    ledger = Ledger(state_of(CREDIT, CREDIT), compiled=compiled)
    assert set(ledger.post(*commands)["result"].tolist()) == {Result.OK}
    return ledger


# --- what can be reversed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("asked", "moved"), [(0, 10), (10, 10), (4, 4)])
def test_a_transfer_is_taken_back_wholly_or_partly(asked: int, moved: int, compiled: bool) -> None:
    """A reversal posts on the other sides; the original's counters stay, its id knows that it was reversed."""
    ledger = ledger_with(command(1), compiled=compiled)
    record = ledger.post(back(2, 1, asked))[0]
    assert (record["result"], record["amount"], record["debit"], record["credit"]) == (Result.OK, moved, 2, 1)
    assert (ledger.counters(1), ledger.counters(2)) == ((10, 0, moved, 0), (moved, 0, 10, 0))
    original, own = ledger.state.lookup(1, 1), ledger.state.lookup(1, 2)
    assert (original.position, original.status) == (100, IdStatus.REVERSED)
    assert (own.position, own.status) == (101, IdStatus.POSTED)


def test_reversals_add_up_to_the_original_and_no_more() -> None:
    """Partial reversals leave a rest; zero asks for exactly that, and afterwards nothing is left."""
    ledger = ledger_with(command(1))
    assert ledger.results(back(2, 1, 3), back(3, 1, 8), back(4, 1, 2)) == [
        Result.OK,
        Result.REVERSAL_EXCEEDED,
        Result.OK,
    ]
    assert ledger.post(back(5, 1))["amount"].tolist() == [5]
    assert ledger.results(back(6, 1), back(7, 1, 1)) == [Result.REVERSAL_EXCEEDED] * 2
    assert ledger.counters(1) == (10, 0, 10, 0)


@pytest.mark.parametrize(("posted", "rest"), [(0, 10), (6, 6)])
def test_the_post_of_a_hold_is_reversed_by_its_own_id(posted: int, rest: int) -> None:
    """What a POST has moved can be taken back, up to what it posted; the hold's id is not the one to name."""
    ledger = ledger_with(command(1, flags=Flag.PENDING), end(2, 1, amount=posted, flags=Flag.POST))
    assert ledger.results(back(3, 1), back(4, 2, rest + 1)) == [Result.REVERSAL_NOT_FOUND, Result.REVERSAL_EXCEEDED]
    assert ledger.post(back(5, 2))["amount"].tolist() == [rest]
    assert ledger.state.lookup(1, 2).status is IdStatus.REVERSED


def test_what_a_balancing_transfer_moved_can_be_taken_back() -> None:
    """The rest is counted from the applied amount, not from what was asked."""
    ledger = ledger_with(command(1, debit=2, credit=1, amount=30), command(2, amount=0, flags=Flag.BALANCING_DEBIT))
    assert ledger.results(back(3, 2, 31), back(4, 2, 30)) == [Result.REVERSAL_EXCEEDED, Result.OK]


@pytest.mark.parametrize("same_call", [True, False])
def test_what_cannot_be_reversed_is_not_found(same_call: bool) -> None:
    """Unused and refused ids, holds, voids, posts of groups and reversals are REVERSAL_NOT_FOUND."""
    member = Flag.PENDING | Flag.GROUP
    made = [
        command(1),
        command(2, amount=0),
        command(3, flags=Flag.PENDING),
        command(4, flags=Flag.PENDING),
        end(5, 4, flags=Flag.VOID),
        command(6, flags=member | Flag.LINKED),
        command(7, flags=member),
        end(8, 6, flags=Flag.POST | Flag.GROUP),
        back(9, 1, 1),
    ]
    tries = [back(20 + related, related) for related in (2, 3, 4, 5, 6, 7, 8, 9, 77)]
    ledger = Ledger(state_of(CREDIT, CREDIT))
    if same_call:
        results = ledger.results(*made, *tries)[len(made) :]
    else:
        ledger.post(*made)
        results = ledger.results(*tries)
    assert results == [Result.REVERSAL_NOT_FOUND] * len(tries)


def test_a_transfer_is_found_in_the_scope_of_its_party() -> None:
    """Only the party that made a transfer can reverse it."""
    ledger = ledger_with(command(1))
    assert ledger.results(back(2, 1, party=2), back(3, 1)) == [Result.REVERSAL_NOT_FOUND, Result.OK]


@pytest.mark.parametrize("fields", [{"debit": 1, "credit": 2}, {"debit": 3}, {"credit": 3}])
def test_the_accounts_are_those_of_the_original_swapped(fields: dict[str, int]) -> None:
    """Any other accounts are REVERSAL_MISMATCH, whether the original was reversed before or not."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
    ledger.post(command(1))
    assert ledger.result(back(2, 1, 1, **fields)) is Result.REVERSAL_MISMATCH
    assert ledger.result(back(3, 1, 1)) is Result.OK
    assert ledger.result(back(4, 1, 1, **fields)) is Result.REVERSAL_MISMATCH


def test_a_reversal_meets_the_limits_of_its_accounts() -> None:
    """What has gone on cannot be taken back from an account that must not fall below its minimum."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED, CREDIT))
    ledger.post(command(1), command(2, debit=2, credit=3, amount=4))
    assert ledger.results(back(3, 1), back(4, 1, 6)) == [Result.DEBIT_LIMIT, Result.OK]
    assert ledger.result(back(5, 1, 1, flags=Flag.MIN_AVAILABLE, minimum=0)) is Result.DEBIT_LIMIT


def test_a_reversal_may_carry_a_condition() -> None:
    """MIN_AVAILABLE looks at the account that the reversal debits."""
    ledger = ledger_with(command(1))
    condition = {"flags": Flag.MIN_AVAILABLE, "minimum": 5}
    assert ledger.results(back(2, 1, 6, **condition), back(3, 1, 5, **condition)) == [Result.MIN_AVAILABLE, Result.OK]


def test_the_largest_transfer_can_be_taken_back() -> None:
    """2^63 - 1 goes and comes back in two pieces."""
    ledger = ledger_with(command(1, amount=AMOUNT_MAX))
    assert ledger.results(back(2, 1, AMOUNT_MAX - 1), back(3, 1, 2), back(4, 1)) == [
        Result.OK,
        Result.REVERSAL_EXCEEDED,
        Result.OK,
    ]


def test_a_reversed_record_posted_again_gives_itself() -> None:
    """Records of reversals are commands for the same amounts."""
    first, second = Ledger(state_of(CREDIT, CREDIT)), Ledger(state_of(CREDIT, CREDIT))
    records = first.post(command(1), back(2, 1, 3), back(3, 1), back(4, 1))
    assert second.post(records.copy()).tobytes() == records.tobytes()
    assert first.state.money_digest() == second.state.money_digest()


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
def test_a_broken_chain_takes_its_reversals_back(compiled: bool) -> None:
    """After a refusal the original is as it was, bit for bit, and can be reversed wholly."""
    ledger = ledger_with(command(1), compiled=compiled)
    before, entry = ledger.state.money_digest(), ledger.state.lookup(1, 1)
    members = [back(2, 1, 3, flags=Flag.LINKED), back(3, 1, flags=Flag.LINKED), command(4, amount=0)]
    records = ledger.post(*members)
    assert records["result"].tolist() == [FAILED, FAILED, Result.AMOUNT_INVALID]
    assert records["amount"].tolist() == [3, 0, 0]
    assert ledger.state.money_digest() == before
    assert ledger.state.lookup(1, 1) == entry
    assert ledger.state.control[REVERSAL_COUNT] == 0
    assert ledger.post(back(5, 1))["amount"].tolist() == [10]


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.POST])
def test_an_original_whose_reversal_is_taken_back_is_what_it_was(flags: Flag) -> None:
    """The id of a transfer, and of a post, has its first status and position again."""
    made = [command(1, flags=Flag.PENDING), end(2, 1, flags=Flag.POST)] if flags else [command(2)]
    ledger = ledger_with(*made)
    entry = ledger.state.lookup(1, 2)
    ledger.post(back(3, 2, flags=Flag.LINKED), command(4, amount=0))
    assert ledger.state.lookup(1, 2) == entry
    assert entry.status is (IdStatus.OTHER if flags else IdStatus.POSTED)


def test_a_broken_chain_leaves_earlier_reversals_alone() -> None:
    """What was reversed before the chain stays reversed, of this original and of others."""
    ledger = ledger_with(command(1), command(2), command(3), back(4, 1, 2))
    before = ledger.state.money_digest()
    members = [back(10 + related, related, 1, flags=Flag.LINKED) for related in (1, 2, 3, 1)]
    members[3]["id_lo"] = 20
    ledger.post(*members, command(30, amount=0))
    assert ledger.state.money_digest() == before
    assert [ledger.post(back(40 + related, related))["amount"][0] for related in (3, 2, 1)] == [10, 10, 8]


def test_an_original_and_its_reversal_may_share_a_chain() -> None:
    """A chain may take back what it has just done; broken, neither was."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    before = ledger.state.money_digest()
    made = command(1, flags=Flag.LINKED)
    held = command(2, flags=Flag.PENDING | Flag.LINKED)
    members = [made, held, end(3, 2, flags=Flag.POST | Flag.LINKED), back(4, 1, 4, flags=Flag.LINKED)]
    broken = [*(one.copy() for one in members), back(5, 3, 11)]
    assert ledger.results(*broken)[4] is Result.REVERSAL_EXCEEDED
    assert ledger.state.money_digest() == before
    for one in members:
        one["id_lo"] += 100
        one["related_lo"] += np.uint64(100) * (one["related_lo"] > 0)
    assert ledger.results(*members, back(105, 103, 10)) == [Result.OK] * 5
    assert ledger.counters(1) == (20, 0, 14, 0)


def test_a_transfer_taken_back_with_its_chain_cannot_be_reversed() -> None:
    """What never happened is not found, in the same call and later."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(command(1, flags=Flag.LINKED), command(2, amount=0), back(3, 1)) == [
        FAILED,
        Result.AMOUNT_INVALID,
        Result.REVERSAL_NOT_FOUND,
    ]
    assert ledger.result(back(4, 1)) is Result.REVERSAL_NOT_FOUND


def test_the_order_of_reversals_is_no_part_of_money() -> None:
    """Originals reversed in another order give the same money."""
    digests = set()
    for order in ((1, 2), (2, 1)):
        ledger = ledger_with(command(1), command(2))
        ledger.post(*(back(10 + index, related, 3) for index, related in enumerate(order)))
        ledger.state.account_rows["last"] = 0
        digests.add(ledger.state.money_digest())
    assert len(digests) == 1


# --- recall -----------------------------------------------------------------------------------------------------------


class Recalls:
    """Counts what the kernel asks for."""

    def __init__(self, ledger: Ledger) -> None:
        """Answer for a ledger."""
        self.asked: list[list[int]] = []
        self._answer = ledger.recalled
        ledger.recall = self

    def __call__(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Note the positions and give their records."""
        self.asked.append(positions.tolist())
        return self._answer(positions)


def test_the_journal_is_asked_once_for_each_original() -> None:
    """Only what was never reversed and lies before the call is recalled: once, ascending, whatever refuses it."""
    ledger = ledger_with(*(command(number) for number in range(1, 8)))
    recalls = Recalls(ledger)
    ledger.post(command(20), back(21, 20), back(22, 99))
    assert recalls.asked == []
    ledger.post(back(30, 5, 1), back(31, 2, 1), back(32, 5, 1), back(33, 3, 99), command(34), back(35, 30))
    assert recalls.asked == [[101, 102, 104]]
    ledger.post(back(40, 5, 1), back(41, 2, 1), back(42, 3, 1))
    assert recalls.asked[1:] == [[102]]


def test_without_recall_nothing_changes() -> None:
    """A reversal that needs the journal and has nobody to ask is our own mistake, found before anything happens."""
    ledger = ledger_with(command(1))
    before, ids = ledger.state.money_digest(), len(ledger.state.registry)
    with pytest.raises(InvariantViolation, match="recall"):
        posting.post(ledger.state, back(2, 1), timestamp_ns=NOW, first_position=500)
    assert (ledger.state.money_digest(), len(ledger.state.registry)) == (before, ids)
    posting.post(ledger.state, command(3), timestamp_ns=NOW, first_position=500)


@pytest.mark.parametrize(("name", "value"), [("id_lo", 2), ("id_hi", 1), ("party", 2), ("result", Result.DEBIT_LIMIT)])
def test_a_recalled_record_must_be_the_one(name: str, value: int) -> None:
    """A record of another id or party, or a refusal, contradicts the registry and names its position."""
    ledger = ledger_with(command(9), command(1))
    before = ledger.state.money_digest()

    def other(positions: npt.NDArray[np.uint64]) -> Transfers:
        rows = ledger.recalled(positions)
        rows[name] = value
        return rows

    ledger.recall = other
    with pytest.raises(IntegrityFailure, match="RECORD_RECALLED") as caught:
        ledger.post(back(2, 1))
    assert caught.value.position == 101
    assert ledger.state.money_digest() == before


def test_another_number_of_records_is_our_mistake() -> None:
    """A recall that gives too few records is found out before the kernel runs."""
    ledger = ledger_with(command(1), command(2))
    ledger.recall = lambda positions: ledger.recalled(positions[:1])
    with pytest.raises(InvariantViolation, match="recalled"):
        ledger.post(back(3, 1), back(4, 2))


def test_reversals_are_found_behind_far_positions() -> None:
    """An original beyond 2^32 is recalled and looked up with its whole position."""
    state = state_of(CREDIT, CREDIT)
    first = 2**43 + 5
    original = command(1)
    posting.post(state, original, timestamp_ns=NOW, first_position=first)
    asked: list[list[int]] = []

    def recall(positions: npt.NDArray[np.uint64]) -> Transfers:
        asked.append(positions.tolist())
        return original

    one = back(2, 1)
    posting.post(state, one, timestamp_ns=NOW, first_position=first + 1, recall=recall)
    assert (one["result"][0], asked) == (Result.OK, [[first]])
    assert state.lookup(1, 1).position == first
    state.check()


def test_a_copy_has_its_own_reversals() -> None:
    """A copied state goes on by itself."""
    ledger = ledger_with(command(1), back(2, 1, 4))
    copy: State = ledger.state.copy()
    ledger.post(back(3, 1))
    assert copy.reversals.array["reversed"][0] == 4
    copy.check()


def test_many_originals_grow_the_table() -> None:
    """A thousand transfers reversed in one call have their rows, and the state is sound."""
    count = 1_000
    batch = np.concatenate([command(0)] * count)
    batch["id_lo"] = np.arange(count)
    ledger = ledger_with(batch)
    reversals = np.concatenate([back(0, 0)] * count)
    reversals["id_lo"] = count + np.arange(count)
    reversals["related_lo"] = np.arange(count)[::-1]
    assert set(ledger.post(reversals)["result"].tolist()) == {Result.OK}
    assert ledger.state.control[REVERSAL_COUNT] == count
