"""Hold groups that clients make: one run of a chain makes one, one command or one deadline ends it."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import posting
from ledger.errors import InvariantViolation, Rejected
from ledger.registry import IdStatus
from ledger.transfers import HOLD_GROUP_COUNT_MAX, Flag, Result, Transfers
from tests.posting_fixture import CREDIT, LIMITED, NOW, SECOND, Ledger, command, end, state_of

MEMBER = Flag.PENDING | Flag.GROUP
WHOLE = {"post": Flag.POST | Flag.GROUP, "void": Flag.VOID | Flag.GROUP}
FAILED = Result.LINKED_FAILED


def run(*members: Transfers, linked: bool = False) -> list[Transfers]:
    """Link holds to a run; ``linked``: the chain goes on behind it."""
    for index, member in enumerate(members):
        is_last = index == len(members) - 1
        member["flags"] |= np.uint16(MEMBER if is_last and not linked else MEMBER | Flag.LINKED)
    return list(members)


def grouped(*, compiled: bool = True) -> Ledger:
    """Four accounts; three holds of 1, 2 and 4 in one group, over several of them, and one hold in none."""
    ledger = Ledger(state_of(*[CREDIT] * 4), compiled=compiled)
    members = run(
        command(1, amount=1), command(2, amount=2, credit=3, timeout_s=5), command(3, amount=4, debit=3, credit=4)
    )
    assert ledger.results(*members, command(9, amount=100, flags=Flag.PENDING)) == [Result.OK] * 4
    return ledger


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("named", [1, 2, 3])
def test_post_ends_all_members_wholly(named: int, compiled: bool) -> None:
    """Naming any member posts all of them; the record has the one that was named, and only its accounts are linked."""
    ledger = grouped(compiled=compiled)
    record = ledger.post(end(20, named, flags=WHOLE["post"]))[0]
    debit, credit, amount = {1: (1, 2, 1), 2: (1, 3, 2), 3: (3, 4, 4)}[named]
    assert (record["result"], record["debit"], record["credit"], record["amount"]) == (0, debit, credit, amount)
    assert [ledger.counters(number) for number in (1, 2, 3, 4)] == [
        (3, 100, 0, 0),
        (0, 0, 1, 100),
        (4, 0, 2, 0),
        (0, 0, 4, 0),
    ]
    assert {ledger.state.lookup(1, member).status for member in (1, 2, 3)} == {IdStatus.HOLD_POSTED}
    assert ledger.state.lookup(1, 20).status is IdStatus.OTHER
    touched = {number for number in (1, 2, 3, 4) if ledger.state.account(number).last == 105}
    assert touched == {debit, credit}
    assert ledger.state.hold_count == 1


def test_void_ends_all_members() -> None:
    """VOID with GROUP releases every member."""
    ledger = grouped()
    assert ledger.result(end(20, 3, flags=WHOLE["void"])) is Result.OK
    assert [ledger.counters(number) for number in (1, 2, 3)] == [(0, 100, 0, 0), (0, 0, 0, 100), (0, 0, 0, 0)]
    assert (
        ledger.results(*(end(30 + member, member, flags=WHOLE["post"]) for member in (1, 2, 3)))
        == [Result.HOLD_VOIDED] * 3
    )


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID])
def test_a_member_does_not_end_alone(flags: Flag) -> None:
    """Without GROUP a member is HOLD_GROUPED, and with it a hold by itself is HOLD_NOT_GROUPED."""
    ledger = grouped()
    before = ledger.state.money_digest()
    assert ledger.results(*(end(20 + member, member, flags=flags) for member in (1, 2, 3))) == [Result.HOLD_GROUPED] * 3
    assert ledger.result(end(30, 9, flags=flags | Flag.GROUP)) is Result.HOLD_NOT_GROUPED
    assert ledger.state.money_digest() == before


def test_a_group_is_found_in_the_scope_of_its_party() -> None:
    """Another party can neither end a group nor put its holds into one by linking them."""
    ledger = grouped()
    assert ledger.result(end(20, 1, flags=WHOLE["void"], party=2)) is Result.HOLD_NOT_FOUND


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_of_one_is_no_group() -> None:
    """A single PENDING with GROUP is FLAGS_INVALID, alone and in a chain, and fails it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.result(command(1, flags=MEMBER)) is Result.FLAGS_INVALID
    assert ledger.results(
        command(2, flags=Flag.LINKED), command(3, flags=MEMBER | Flag.LINKED), command(4, flags=Flag.PENDING)
    ) == [FAILED, Result.FLAGS_INVALID, FAILED]


def test_neighbours_in_other_chains_do_not_count() -> None:
    """Two grouped holds that stand side by side in two chains are two runs of one."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(command(1, flags=MEMBER), command(2, flags=MEMBER)) == [Result.FLAGS_INVALID] * 2
    assert ledger.results(*run(command(3), command(4)), *run(command(5), command(6))) == [Result.OK] * 4
    assert ledger.result(end(7, 3, flags=WHOLE["void"])) is Result.OK
    assert ledger.state.holds["id_lo"].tolist() == [5, 6]


def test_a_chain_may_make_several_groups() -> None:
    """What stands between two runs parts them: another command, or a hold without GROUP."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    members = [
        *run(command(1), command(2), linked=True),
        command(3, flags=Flag.PENDING | Flag.LINKED),
        *run(command(4), command(5), command(6)),
    ]
    assert ledger.results(*members) == [Result.OK] * 6
    assert ledger.result(end(10, 2, flags=WHOLE["void"])) is Result.OK
    assert ledger.state.holds["id_lo"].tolist() == [3, 4, 5, 6]
    assert ledger.result(end(11, 6, flags=WHOLE["post"])) is Result.OK
    assert ledger.state.holds["id_lo"].tolist() == [3]


def test_an_open_run_is_an_open_chain() -> None:
    """A run whose last member is still linked has no end."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(*run(command(1), command(2), linked=True)) == [FAILED, Result.CHAIN_OPEN]


@pytest.mark.parametrize("fields", [{"group": 3}, {"flags": Flag.BOUND, "group": 3}, {"flags": Flag.BOUND}])
def test_a_clients_group_is_no_windows_group(fields: dict[str, int]) -> None:
    """A member names no window's group and is not bound; the other member fails with it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.results(*run(command(1, **fields), command(2))) == [Result.FLAGS_INVALID, FAILED]


def test_a_window_cannot_reach_a_clients_group() -> None:
    """Group operations by number never see holds of group 0, so members are neither bound nor moved."""
    ledger = grouped()
    with pytest.raises(InvariantViolation):
        posting.group_bind(ledger.state, 0)
    assert posting.group_bind(ledger.state, 1) == 0
    assert ledger.result(end(20, 1, flags=WHOLE["post"])) is Result.OK


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_one_deadline_ends_the_whole_group() -> None:
    """When one member is due, one EXPIRE with GROUP is, and it ends all."""
    ledger = grouped()
    assert len(posting.due(ledger.state, NOW + 5 * SECOND - 1)) == 0
    ledger.now += 5 * SECOND
    expired = posting.due(ledger.state, ledger.now)
    assert expired[["related_lo", "flags"]].tolist() == [(2, Flag.EXPIRE | Flag.GROUP)]
    record = ledger.post(expired)[0]
    assert (record["result"], record["amount"], record["debit"], record["credit"]) == (Result.OK, 2, 1, 3)
    assert {ledger.state.lookup(1, member).status for member in (1, 2, 3)} == {IdStatus.HOLD_EXPIRED}
    assert ledger.state.holds["id_lo"].tolist() == [9]
    assert len(posting.due(ledger.state, 2**61)) == 0


def test_the_first_by_deadline_id_and_party_is_named() -> None:
    """Of several due members the first in the order of expiry is named; single holds keep their own places."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(
        *run(command(30, timeout_s=3), command(20, timeout_s=2), command(10, timeout_s=3), command(40)),
        command(25, flags=Flag.PENDING, timeout_s=2),
        *run(command(5, timeout_s=3), command(4, timeout_s=3)),
    )
    due = posting.due(ledger.state, NOW + 3 * SECOND)
    assert due[["related_lo", "flags"]].tolist() == [
        (20, Flag.EXPIRE | Flag.GROUP),
        (25, Flag.EXPIRE),
        (4, Flag.EXPIRE | Flag.GROUP),
    ]
    ledger.now += 3 * SECOND
    assert set(ledger.post(due)["result"].tolist()) == {Result.OK}
    assert ledger.state.hold_count == 0


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID, Flag.POST | Flag.GROUP, Flag.VOID | Flag.GROUP])
def test_a_group_past_a_deadline_is_over(flags: Flag) -> None:
    """From the first deadline on, no member can be posted or voided, whichever is named, with GROUP or without."""
    ledger = grouped()
    ledger.now += 5 * SECOND
    for member in (1, 2, 3):
        assert ledger.result(end(20 + member, member, flags=flags)) is Result.HOLD_EXPIRED


@pytest.mark.parametrize(
    ("seconds", "flags", "result"),
    [
        (4, Flag.EXPIRE | Flag.GROUP, Result.HOLD_NOT_FOUND),
        (5, Flag.EXPIRE, Result.HOLD_GROUPED),
        (5, Flag.EXPIRE | Flag.GROUP, Result.OK),
    ],
)
def test_an_expire_of_a_group_needs_its_flag_and_its_time(seconds: int, flags: Flag, result: Result) -> None:
    """A group expires when a deadline has come, and only as a whole."""
    ledger = grouped()
    ledger.now += seconds * SECOND
    assert ledger.result(end(0, 1, flags=flags)) is result


def test_a_single_hold_expires_without_the_flag() -> None:
    """EXPIRE with GROUP of a hold in no group is refused."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(command(1, flags=Flag.PENDING, timeout_s=1))
    ledger.now += SECOND
    assert ledger.result(end(0, 1, flags=Flag.EXPIRE | Flag.GROUP)) is Result.HOLD_NOT_GROUPED


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("ending", sorted(WHOLE))
def test_a_broken_chain_revives_all_members(ending: str, compiled: bool) -> None:
    """A group that a chain ended lives on as a group when a later member is refused."""
    ledger = grouped(compiled=compiled)
    before, ids = ledger.state.money_digest(), [ledger.state.lookup(1, member) for member in (1, 2, 3)]
    asked = end(20, 2, flags=WHOLE[ending] | Flag.LINKED)
    records = ledger.post(asked.copy(), command(21, flags=Flag.PENDING | Flag.LINKED), command(22, amount=0))
    asked["result"] = FAILED
    assert records[:1].tobytes() == asked.tobytes()
    assert ledger.state.money_digest() == before
    assert [ledger.state.lookup(1, member) for member in (1, 2, 3)] == ids
    assert ledger.result(end(30, 1, flags=Flag.VOID)) is Result.HOLD_GROUPED
    assert posting.due(ledger.state, NOW + 5 * SECOND)["related_lo"].tolist() == [2]
    assert ledger.result(end(31, 1, flags=WHOLE["post"])) is Result.OK
    assert ledger.state.hold_count == 1


def test_a_group_made_and_ended_in_a_broken_chain_never_was() -> None:
    """Run, end and refusal in one chain leave nothing but used-up ids."""
    ledger = grouped()
    before = ledger.state.money_digest()
    members = run(command(40), command(41), linked=True)
    results = ledger.results(*members, end(42, 41, flags=WHOLE["post"] | Flag.LINKED), command(43, amount=0))
    assert results == [FAILED, FAILED, FAILED, Result.AMOUNT_INVALID]
    assert ledger.state.money_digest() == before
    assert ledger.result(end(44, 40, flags=WHOLE["post"])) is Result.HOLD_NOT_FOUND


def test_a_group_may_be_made_and_ended_in_one_chain() -> None:
    """The slots of its holds are free again when the chain is over."""
    ledger = grouped()
    members = run(command(40), command(41), linked=True)
    assert ledger.results(*members, end(42, 40, flags=WHOLE["void"])) == [Result.OK] * 3
    assert ledger.state.hold_count == 4
    ledger.post(*run(command(50), command(51)))
    assert len(ledger.state.hold_table.array) == 16


def test_a_limit_in_the_run_fails_the_whole_group() -> None:
    """Members reserve one after another; the one that is too much takes all back."""
    ledger = Ledger(state_of(CREDIT | LIMITED, CREDIT))
    ledger.post(command(1, debit=2, credit=1, amount=15))
    before = ledger.state.money_digest()
    assert ledger.results(*run(command(2), command(3))) == [FAILED, Result.DEBIT_LIMIT]
    assert ledger.state.money_digest() == before
    assert ledger.results(*run(command(4), command(5, amount=5))) == [Result.OK] * 2


def test_accounts_of_a_group_do_not_close() -> None:
    """Every member keeps its accounts open until the group has ended."""
    ledger = grouped()
    with pytest.raises(Rejected, match="ACCOUNT_PENDING"):
        ledger.state.close_account(4)
    ledger.post(end(20, 1, flags=WHOLE["void"]))
    ledger.state.close_account(4)


def many(count: int) -> Transfers:
    """Give a run of so many holds of 1, from account 1 to the accounts 2 and 3 by turns."""
    members = np.concatenate([command(0, amount=1)] * count)
    members["id_lo"] = np.arange(count)
    members["credit"] = 2 + np.arange(count) % 2
    members["flags"] = MEMBER | Flag.LINKED
    members["flags"][-1] = MEMBER
    return members


def test_the_largest_group_ends_in_one_command() -> None:
    """Every account of a group gets one point when it ends, however many of its holds it had."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
    assert set(ledger.post(many(HOLD_GROUP_COUNT_MAX))["result"].tolist()) == {Result.OK}
    ledger.state.take_points()
    assert ledger.result(end(1_000, 77, flags=WHOLE["post"])) is Result.OK
    assert ledger.state.take_points()["account"].tolist() == [1, 3, 2]
    assert ledger.counters(1) == (HOLD_GROUP_COUNT_MAX, 0, 0, 0)
    assert set(ledger.state.accounts["flags"].tolist()) == {0, int(CREDIT)}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_group_has_a_limited_size(compiled: bool) -> None:
    """The member that is one too many is refused, and its chain with it; after a pause a new run begins."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT), compiled=compiled)
    too_many = ledger.post(many(HOLD_GROUP_COUNT_MAX + 1))["result"].tolist()
    assert too_many == [FAILED] * HOLD_GROUP_COUNT_MAX + [Result.FLAGS_INVALID]
    first, second = many(HOLD_GROUP_COUNT_MAX), many(2)
    first["flags"][-1] |= np.uint16(Flag.LINKED)
    first["id_lo"] += 1_000
    second["id_lo"] += 2_000
    pause = command(3_000, flags=Flag.LINKED)
    assert set(ledger.post(first, pause, second)["result"].tolist()) == {Result.OK}


def test_results_do_not_depend_on_slots() -> None:
    """Groups that lie in other slots have the same money, and how holds are grouped is part of it."""
    first, second, third = (Ledger(state_of(CREDIT, CREDIT)) for _ in range(3))
    second.post(*(command(900 + index, flags=Flag.PENDING) for index in range(4)))
    second.post(*(end(910 + index, 900 + index, flags=Flag.VOID) for index in (2, 0, 3, 1)))
    second.state.account_rows["last"] = second.state.account_rows["count"] = 0
    second.position = first.position
    for ledger in (first, second):
        ledger.post(*run(command(1), command(2), command(3)), command(4, flags=Flag.PENDING))
    third.post(*run(command(1), command(2), linked=True), *(command(i, flags=Flag.PENDING) for i in (3, 4)))
    third.state.check()
    assert first.state.money_digest() == second.state.money_digest()
    assert first.state.holds.tobytes() == second.state.holds.tobytes()
    fourth = Ledger(state_of(CREDIT, CREDIT))
    fourth.post(*(command(index, flags=Flag.PENDING) for index in (1, 2, 3, 4)))
    assert fourth.state.holds.tobytes() == first.state.holds.tobytes()
    assert fourth.state.money_digest() != first.state.money_digest()
