"""Holds: pending, and their ends by post, void, expiry or with their group."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import posting
from ledger.errors import InvariantViolation, Rejected
from ledger.posting import STAY
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import NO_MESSAGE, Flag, Result, transfers
from tests.posting_fixture import CREDIT, LIMITED, NOW, SECOND, Ledger, command, end, state_of

BOUND = Flag.PENDING | Flag.BOUND


def ledger_with_hold(**fields: object) -> Ledger:
    """Two accounts and one hold of 10, id 1, from the first to the second."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    assert ledger.result(command(1, **{"flags": Flag.PENDING, **fields})) is Result.OK
    return ledger


def grouped(*, flags: Flag = Flag.PENDING, timeout_s: int = 0) -> Ledger:
    """Six holds of 1, 2, 4 ... minor units in group 5, members 0 to 2 twice, and one hold in group 6."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(
        *(
            command(index + 1, amount=2**index, flags=flags, group=5, member=index % 3, timeout_s=timeout_s)
            for index in range(6)
        ),
        command(99, amount=1_000, flags=flags, group=6, member=2**32 - 2, timeout_s=timeout_s),
    )
    return ledger


# --- single ends -----------------------------------------------------------------------------------------------------


def test_pending_reserves_on_both_sides() -> None:
    """A hold is pending on both accounts and posted on none."""
    ledger = ledger_with_hold()
    assert (ledger.counters(1), ledger.counters(2)) == ((0, 10, 0, 0), (0, 0, 0, 10))
    hold = ledger.state.hold(1, 1)
    assert hold is not None
    assert (hold["amount"], hold["deadline"], hold["position"]) == (10, 0, 100)
    assert (hold["debit"], hold["credit"], hold["party"], hold["status"]) == (1, 2, 1, 1)
    assert ledger.state.hold(1, 2) is None


@pytest.mark.parametrize(("asked", "posted"), [(0, 10), (10, 10), (4, 4)])
def test_post_ends_a_hold_wholly_or_partly(asked: int, posted: int) -> None:
    """POST posts the amount asked for, all of it for zero, and releases the rest."""
    ledger = ledger_with_hold(group=3, member=7)
    record = ledger.post(end(2, 1, amount=asked, flags=Flag.POST, group=3))[0]
    assert (ledger.counters(1), ledger.counters(2)) == ((posted, 0, 0, 0), (0, 0, posted, 0))
    assert (record["amount"], record["debit"], record["credit"]) == (posted, 1, 2)
    assert (record["group"], record["member"]) == (3, 7)
    assert ledger.state.hold_count == 0


@pytest.mark.parametrize("asked", [0, 3, 10, 99])
def test_void_releases_a_hold_whatever_amount_it_names(asked: int) -> None:
    """VOID releases the whole hold; its record carries the hold's amount."""
    ledger = ledger_with_hold()
    record = ledger.post(end(2, 1, amount=asked, flags=Flag.VOID))[0]
    assert (ledger.counters(1), ledger.counters(2)) == ((0, 0, 0, 0), (0, 0, 0, 0))
    assert record["amount"] == 10


@pytest.mark.parametrize(("first", "reason"), [(Flag.POST, Result.HOLD_POSTED), (Flag.VOID, Result.HOLD_VOIDED)])
@pytest.mark.parametrize("second", [Flag.POST, Flag.VOID, Flag.EXPIRE])
def test_a_hold_ends_once(first: Flag, reason: Result, second: Flag) -> None:
    """After its end, every further end of a hold says how it ended."""
    ledger = ledger_with_hold(timeout_s=1)
    assert ledger.result(end(2, 1, flags=first)) is Result.OK
    assert ledger.result(end(3, 1, flags=second)) is reason


def test_a_hold_is_found_in_the_scope_of_its_party() -> None:
    """Another party's hold of the same id is not found."""
    ledger = ledger_with_hold()
    assert ledger.result(end(2, 1, flags=Flag.POST, party=2)) is Result.HOLD_NOT_FOUND
    assert ledger.result(command(1, flags=Flag.PENDING, party=2, amount=3)) is Result.OK
    assert ledger.post(end(2, 1, flags=Flag.VOID))["amount"][0] == 10


@pytest.mark.parametrize("related", [2, 3, 4, 77])
def test_only_a_hold_can_be_ended(related: int) -> None:
    """A transfer, a refusal, an end and an unused id are HOLD_NOT_FOUND."""
    ledger = ledger_with_hold()
    ledger.post(command(2), command(3, amount=0), end(4, 1, flags=Flag.POST))
    assert ledger.result(end(9, related, flags=Flag.VOID)) is Result.HOLD_NOT_FOUND


def test_a_post_passes_whatever_the_limit_is_by_then() -> None:
    """A hold that was made within the limit posts though the account has been emptied around it."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED, LIMITED))
    ledger.post(command(1), command(2, debit=2, credit=1, flags=Flag.PENDING))
    ledger.state.account_rows["minimum"][2] = 50  # nothing in the ledger can do this: a limit stands for ever
    assert ledger.result(command(3, debit=2, credit=1, amount=1)) is Result.DEBIT_LIMIT
    assert ledger.result(end(4, 2, flags=Flag.POST)) is Result.OK


def test_what_a_partial_post_releases_is_available_at_once() -> None:
    """The rest of a partly posted hold can be spent by the next command."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED))
    ledger.post(command(1), command(2, debit=2, credit=1, flags=Flag.PENDING))
    assert ledger.results(
        command(3, debit=2, credit=1, amount=1),
        end(4, 2, amount=7, flags=Flag.POST),
        command(5, debit=2, credit=1, amount=4),
        command(6, debit=2, credit=1, amount=3),
    ) == [Result.DEBIT_LIMIT, Result.OK, Result.DEBIT_LIMIT, Result.OK]


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_deadline_counts_from_the_block_in_nanoseconds() -> None:
    """The deadline is the block's instant plus the timeout; zero is never."""
    ledger = ledger_with_hold(timeout_s=3)
    ledger.post(command(2, flags=Flag.PENDING), command(3, flags=Flag.PENDING, timeout_s=2**32 - 1))
    assert ledger.state.holds["deadline"].tolist() == [NOW + 3 * SECOND, 0, NOW + (2**32 - 1) * SECOND]


def test_a_hold_is_due_from_its_deadline_on() -> None:
    """Nothing is due a nanosecond before the deadline, the hold is due at it."""
    ledger = ledger_with_hold(timeout_s=3)
    assert len(posting.due(ledger.state, NOW + 3 * SECOND - 1)) == 0
    expired = posting.due(ledger.state, NOW + 3 * SECOND)
    assert (expired["related_lo"][0], expired["party"][0], expired["flags"][0]) == (1, 1, Flag.EXPIRE)
    assert (expired["id_hi"][0], expired["id_lo"][0], expired["message"][0]) == (0, 0, NO_MESSAGE)
    assert len(posting.due(ledger.state, 2**61)) == 1


def test_expiry_releases_the_hold() -> None:
    """A posted EXPIRE takes the amount out of pending and fills in what the hold knows."""
    ledger = ledger_with_hold(timeout_s=3)
    ledger.now += 3 * SECOND
    record = ledger.post(posting.due(ledger.state, ledger.now))[0]
    assert (record["result"], record["amount"], record["debit"], record["credit"]) == (Result.OK, 10, 1, 2)
    assert (ledger.counters(1), ledger.counters(2)) == ((0, 0, 0, 0), (0, 0, 0, 0))
    assert len(posting.due(ledger.state, 2**61)) == 0
    assert ledger.state.lookup(1, 1).status is IdStatus.HOLD_EXPIRED


@pytest.mark.parametrize("timeout_s", [0, 4])
def test_an_expire_before_its_time_is_refused(timeout_s: int) -> None:
    """A hold without deadline, or before it, cannot be expired."""
    ledger = ledger_with_hold(timeout_s=timeout_s)
    ledger.now += 4 * SECOND - 1
    assert ledger.result(end(0, 1, flags=Flag.EXPIRE)) is Result.HOLD_NOT_FOUND


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID])
def test_a_hold_past_its_deadline_cannot_be_posted_or_voided(flags: Flag) -> None:
    """From its deadline on, a hold that nobody has expired yet is HOLD_EXPIRED all the same."""
    ledger = ledger_with_hold(timeout_s=4)
    ledger.now += 4 * SECOND - 1
    assert Ledger(ledger.state.copy()).result(end(3, 1, flags=flags)) is Result.OK
    ledger.now += 1
    assert ledger.result(end(2, 1, flags=flags)) is Result.HOLD_EXPIRED


def test_due_holds_come_by_deadline_then_id_then_party() -> None:
    """The order of expiry is (deadline, id, party), not the order of making."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    holds = [(3, 2**64, 1), (3, 5, 2), (3, 5, 1), (1, 9, 1), (2, 2**127, 1), (3, 2**64 - 1, 1)]
    for seconds, identifier, party in holds:
        ledger.post(command(identifier, flags=Flag.PENDING, timeout_s=seconds, party=party))
    rows = posting.due(ledger.state, NOW + 3 * SECOND)
    found = [(int(row["related_hi"]) << 64 | int(row["related_lo"]), int(row["party"])) for row in rows]
    assert found == [(9, 1), (2**127, 1), (5, 1), (5, 2), (2**64 - 1, 1), (2**64, 1)]


def test_the_heap_of_deadlines_gives_what_a_scan_gives() -> None:
    """Through many random holds and ends, what is due is what a scan of all holds says."""
    seed = 5
    generator = np.random.default_rng(seed)
    ledger = Ledger(state_of(CREDIT, CREDIT))
    alive: dict[int, int] = {}
    for identifier in range(600):
        seconds = int(generator.integers(0, 40))
        ledger.post(command(identifier, amount=1, flags=Flag.PENDING, timeout_s=seconds))
        alive[identifier] = ledger.now + seconds * SECOND if seconds else 2**62
        if generator.random() < 0.5:
            victim = int(generator.choice(list(alive)))
            assert ledger.result(end(10_000 + identifier, victim, flags=Flag.VOID)) is Result.OK
            del alive[victim]
        if generator.random() < 0.3:
            ledger.now += SECOND
            expected = sorted((deadline, number) for number, deadline in alive.items() if deadline <= ledger.now)
            rows = posting.due(ledger.state, ledger.now)
            assert rows["related_lo"].tolist() == [number for _, number in expected], f"seed {seed}"
            ledger.post(rows)
            alive = {number: deadline for number, deadline in alive.items() if deadline > ledger.now}
    assert ledger.state.hold_count == len(alive)


def test_stale_deadlines_do_not_pile_up() -> None:
    """Holds with a far deadline that end at once leave the heap no larger than its room for the living."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    far = command(0, amount=1, flags=Flag.PENDING, timeout_s=10**6)
    ledger.post(far)
    for identifier in range(1, 500):
        ledger.post(
            command(identifier, amount=1, flags=Flag.PENDING, timeout_s=2 * 10**6),
            end(10_000 + identifier, identifier, flags=Flag.VOID),
        )
    assert len(ledger.state.deadlines.array) < 50
    assert len(posting.due(ledger.state, NOW + 10**6 * SECOND)) == 1


def test_slots_are_used_again() -> None:
    """A thousand holds, one after the other, need the room of one."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    for identifier in range(1_000):
        ledger.post(command(identifier, flags=Flag.PENDING), end(10_000 + identifier, identifier, flags=Flag.POST))
    assert len(ledger.state.hold_table.array) == 16


@pytest.mark.parametrize("flag", [Flag.POST, Flag.VOID])
@pytest.mark.parametrize(("group", "named"), [(3, 0), (3, 4), (0, 3)])
def test_an_end_names_the_group_of_its_hold(flag: Flag, group: int, named: int) -> None:
    """What waits in a window is not ended by a command that does not say so, nor does one say so of another hold."""
    ledger = ledger_with_hold(group=group)
    before = ledger.state.money_digest()
    assert ledger.result(end(2, 1, flags=flag, group=named)) is Result.HOLD_IN_WINDOW
    assert ledger.state.money_digest() == before
    assert ledger.result(end(3, 1, flags=flag, group=group)) is Result.OK


# --- bound holds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.POST, Flag.VOID, Flag.EXPIRE])
def test_a_bound_hold_refuses_single_ends(flags: Flag) -> None:
    """A hold that is bound from the start is HOLD_BOUND, before and after its deadline."""
    ledger = ledger_with_hold(flags=BOUND, group=5, timeout_s=1)
    assert ledger.result(end(2, 1, flags=flags)) is Result.HOLD_BOUND
    ledger.now += 2 * SECOND
    assert ledger.result(end(3, 1, flags=flags)) is Result.HOLD_BOUND
    assert len(posting.due(ledger.state, ledger.now)) == 0


def test_binding_a_group_stops_its_clock_and_releasing_starts_it() -> None:
    """Bound holds are not due; after the release they are, each once, however often it happens."""
    ledger = grouped(timeout_s=5)
    for _ in range(3):
        assert posting.group_bind(ledger.state, 5) == 6
        assert ledger.result(end(50 + _, 1, flags=Flag.POST)) is Result.HOLD_BOUND
        assert posting.due(ledger.state, NOW + 9 * SECOND)["related_lo"].tolist() == [99]
        assert posting.group_release(ledger.state, 5) == 6
    assert posting.due(ledger.state, NOW + 9 * SECOND)["related_lo"].tolist() == [1, 2, 3, 4, 5, 6, 99]
    ledger.state.check()


def test_what_is_bound_stays_bound() -> None:
    """Binding a group again, or releasing it again, finds all its holds and changes none."""
    ledger = grouped(timeout_s=5)
    for act in (posting.group_bind, posting.group_release):
        assert act(ledger.state, 5) == 6
        before = ledger.state.hold_table.array.tobytes()
        assert act(ledger.state, 5) == 6
        assert ledger.state.hold_table.array.tobytes() == before
    ledger.state.check()


def test_a_hold_bound_from_the_start_counts_after_its_release() -> None:
    """Its deadline was set when it was made."""
    ledger = grouped(flags=BOUND, timeout_s=5)
    assert posting.group_release(ledger.state, 5) == 6
    assert len(posting.due(ledger.state, NOW + 5 * SECOND - 1)) == 0
    assert len(posting.due(ledger.state, NOW + 5 * SECOND)) == 6


# --- groups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [Flag.PENDING, BOUND])
def test_a_group_posts_whole(flags: Flag) -> None:
    """group_post ends bound and open holds of its group, and of no other."""
    ledger = grouped(flags=flags)
    assert posting.group_post(ledger.state, 5, None, position=150) == 6
    assert (ledger.counters(1), ledger.counters(2)) == ((63, 1_000, 0, 0), (0, 0, 63, 1_000))
    assert ledger.state.lookup(1, 3).status is IdStatus.HOLD_POSTED
    assert ledger.state.lookup(1, 3).position == 102
    assert posting.group_post(ledger.state, 5, None, position=150) == 0
    assert ledger.result(end(50, 3, flags=Flag.POST)) is Result.HOLD_POSTED
    ledger.state.check()


@pytest.mark.parametrize("flags", [Flag.PENDING, BOUND])
def test_a_group_voids_whole(flags: Flag) -> None:
    """group_void releases all holds of its group."""
    ledger = grouped(flags=flags)
    assert posting.group_void(ledger.state, 5, None, position=150) == 6
    assert (ledger.counters(1), ledger.counters(2)) == ((0, 1_000, 0, 0), (0, 0, 0, 1_000))
    assert ledger.result(end(50, 3, flags=Flag.POST)) is Result.HOLD_VOIDED
    ledger.state.check()


def test_selected_members_end_and_the_others_stay() -> None:
    """A selection is by member: all holds of a selected member end, the rest lives on."""
    ledger = grouped()
    assert posting.group_post(ledger.state, 5, np.array([False, True, False]), position=150) == 2
    assert ledger.counters(1) == (2 + 16, 1_000 + 1 + 4 + 8 + 32, 0, 0)
    assert posting.group_void(ledger.state, 5, np.array([True, True, False]), position=150) == 2
    assert ledger.counters(1) == (2 + 16, 1_000 + 4 + 32, 0, 0)
    assert posting.group_holds(ledger.state, 5)["member"].tolist() == [2, 2]


def test_a_member_beyond_the_selection_changes_nothing() -> None:
    """A selection that does not reach all members is our own mistake and is found before anything happens."""
    ledger = grouped()
    before = ledger.state.money_digest()
    for act in (posting.group_post, posting.group_void):
        with pytest.raises(InvariantViolation):
            act(ledger.state, 5, np.array([True, True]), position=150)
    with pytest.raises(InvariantViolation):
        posting.group_move(ledger.state, 5, 6, np.array([1, 1], np.uint32))
    assert ledger.state.money_digest() == before


def test_group_holds_come_in_order_of_position() -> None:
    """Holds of a group come by position although later ones use earlier slots."""
    ledger = grouped()
    ledger.post(end(50, 1, flags=Flag.VOID, group=5), end(51, 4, flags=Flag.VOID, group=5))
    ledger.post(*(command(60 + index, flags=Flag.PENDING, group=5) for index in range(3)))
    rows = posting.group_holds(ledger.state, 5)
    assert rows["id_lo"].tolist() == [2, 3, 5, 6, 60, 61, 62]
    assert rows["position"].tolist() == sorted(rows["position"].tolist())
    rows["amount"] = 0
    ledger.state.check()


def test_moving_renumbers_members_and_leaves_some() -> None:
    """group_move gives the moved members their new group and number; STAY stays; money is not touched."""
    ledger = grouped(flags=BOUND)
    counters = ledger.counters(1)
    assert posting.group_move(ledger.state, 5, 6, np.array([7, STAY, 0], np.uint32)) == 4
    assert posting.group_holds(ledger.state, 5)["id_lo"].tolist() == [2, 5]
    moved = posting.group_holds(ledger.state, 6)
    assert moved["member"].tolist() == [7, 0, 7, 0, 2**32 - 2]
    assert set(moved["status"].tolist()) == {2}
    assert ledger.counters(1) == counters
    ledger.state.check()


def test_moving_within_a_group_renumbers_once() -> None:
    """Source and target may be the same group; each hold is renumbered once."""
    ledger = grouped()
    assert posting.group_move(ledger.state, 5, 5, np.array([1, 2, 0], np.uint32)) == 6
    assert posting.group_holds(ledger.state, 5)["member"].tolist() == [1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("group", [0, -1, 2**32])
def test_zero_is_no_group(group: int) -> None:
    """Group operations refuse 0, the mark of holds without a group, and what is no group number."""
    state = ledger_with_hold().state
    nothing = np.zeros(0, np.uint32)
    for act in (posting.group_bind, posting.group_release, posting.group_holds):
        with pytest.raises(InvariantViolation):
            act(state, group)
    for act in (posting.group_post, posting.group_void):
        with pytest.raises(InvariantViolation):
            act(state, group, None, position=150)
    for source, target in ((group, 1), (1, group)):
        with pytest.raises(InvariantViolation):
            posting.group_move(state, source, target, nothing)


def test_an_unknown_group_is_empty() -> None:
    """A group nobody has used has no holds, and every operation on it does nothing."""
    state = ledger_with_hold().state
    nothing = np.zeros(0, np.uint32)
    assert len(posting.group_holds(state, 9)) == 0
    assert (
        posting.group_bind(state, 9)
        == posting.group_release(state, 9)
        == posting.group_post(state, 9, None, position=150)
        == 0
    )
    assert (
        posting.group_void(state, 9, nothing.astype(bool), position=150)
        == posting.group_move(state, 9, 8, nothing)
        == 0
    )


def test_a_wrong_counter_is_found_when_a_group_ends() -> None:
    """A pending counter that falls below zero shows that the state was wrong before, and is not passed over."""
    state = grouped().state
    state.account_rows["debits_pending"][1] = 5
    with pytest.raises(InvariantViolation, match="I3"):
        posting.group_post(state, 5, None, position=150)


def test_an_account_with_pending_amounts_does_not_close() -> None:
    """Both accounts of a hold stay open as long as it lives."""
    ledger = ledger_with_hold()
    for number in (1, 2):
        with pytest.raises(Rejected, match="ACCOUNT_PENDING"):
            ledger.state.close_account(number)
    ledger.post(end(2, 1, flags=Flag.VOID))
    ledger.state.close_account(1)
    assert ledger.result(command(3)) is Result.DEBIT_CLOSED


def test_results_do_not_depend_on_slots() -> None:
    """Two states with the same holds in other slots have the same money, and do the same afterwards."""
    first, second = Ledger(state_of(CREDIT, CREDIT)), Ledger(State(b"quite another secret"))
    for _ in range(2):
        second.state.open_account(owner=1, asset=1, code=7, flags=CREDIT)
    second.post(*(command(900 + index, flags=Flag.PENDING) for index in range(4)))
    second.post(*(end(910 + index, 900 + index, flags=Flag.VOID) for index in (2, 0, 3, 1)))
    for state in (first.state, second.state):
        state.account_rows["last"] = state.account_rows["count"] = 0
    first.position = second.position
    batch = [command(index, flags=Flag.PENDING, group=1, timeout_s=index % 3) for index in range(5)]
    records = [ledger.post(*(one.copy() for one in batch)).tobytes() for ledger in (first, second)]
    assert records[0] == records[1]
    assert first.state.hold_table.array[:5]["id_lo"].tolist() != second.state.hold_table.array[:5]["id_lo"].tolist()
    assert first.state.holds.tobytes() == second.state.holds.tobytes()
    assert first.state.money_digest() == second.state.money_digest()
    assert np.array_equal(posting.due(first.state, 2**61), posting.due(second.state, 2**61))
    assert transfers(0).dtype == posting.due(first.state, 0).dtype
