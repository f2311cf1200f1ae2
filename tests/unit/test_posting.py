"""Results and their precedence, posting, limits, overflow and chains."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.errors import InvariantViolation
from ledger.posting import PRECEDENCE
from ledger.registry import IdStatus
from ledger.transfers import TRANSFER, Flag, Result, Transfers, transfers
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, NOW, SECOND, Ledger, command, end, state_of

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {result for result in Result if 0 < result < 100}

# --- a world in which one command can earn any combination of refusals ------------------------------------------------

ACCOUNT_FAULTS = ("asset", "closed", "overflow", "limit")
USED_ID, HOLD, HOLD_POSTED, HOLD_VOIDED, HOLD_EXPIRED, HOLD_BOUND, HOLD_OVER = range(1, 8)
FRESH = 99


class World(Ledger):
    """For each side sixteen accounts, one for each combination of faults, and one hold for each way to be refused."""

    def __init__(self) -> None:
        """Open accounts, fill, use up ids, close."""
        super().__init__(state_of())
        self.accounts: dict[tuple[str, frozenset[str]], int] = {}
        self.next_id = 1_000
        for side in ("debit", "credit"):
            for count in range(len(ACCOUNT_FAULTS) + 1):
                for faults in itertools.combinations(ACCOUNT_FAULTS, count):
                    self.accounts[side, frozenset(faults)] = self.open(side, frozenset(faults))
        for (_, faults), number in self.accounts.items():
            if "closed" in faults:
                self.state.close_account(number)
        self.make_holds()

    def open(self, side: str, faults: frozenset[str]) -> int:
        """Open one account; near overflow both its sides are full, so that its balance is zero and it can be closed."""
        asset = 2 if "asset" in faults else 1
        flags = (CREDIT if side == "debit" else AccountFlag.NONE) | (LIMITED if "limit" in faults else AccountFlag.NONE)
        number = self.state.open_account(owner=1, asset=asset, code=7, flags=flags)
        if "overflow" in faults:
            helper = self.state.open_account(owner=1, asset=asset, code=7, flags=AccountFlag.NONE)
            inward = {"debit": helper, "credit": number, "amount": AMOUNT_MAX - 1}
            outward = {"debit": number, "credit": helper, "amount": AMOUNT_MAX - 1}
            self.next_id += 2
            order = (inward, outward) if side == "debit" else (outward, inward)
            assert not any(
                self.post(*(command(self.next_id + i, **fields) for i, fields in enumerate(order)))["result"]
            )
        return number

    def make_holds(self) -> None:
        """Make the holds that the ends refer to."""
        debit, credit = self.account("debit"), self.account("credit")
        pending = {"debit": debit, "credit": credit, "flags": Flag.PENDING}
        self.now -= 10 * SECOND
        results = self.results(
            command(USED_ID, debit=debit, credit=credit),
            command(HOLD, **pending),
            command(HOLD_POSTED, **pending),
            command(HOLD_VOIDED, **pending),
            command(HOLD_EXPIRED, timeout_s=1, **pending),
            command(HOLD_BOUND, group=1, **{**pending, "flags": Flag.PENDING | Flag.BOUND}),
            command(HOLD_OVER, timeout_s=5, **pending),
            end(11, HOLD_POSTED, flags=Flag.POST),
            end(12, HOLD_VOIDED, flags=Flag.VOID),
        )
        self.now += 2 * SECOND
        results += self.results(end(0, HOLD_EXPIRED, flags=Flag.EXPIRE))
        self.now += 8 * SECOND
        assert set(results) == {Result.OK}

    def account(self, side: str, *faults: str) -> int:
        """Give the account of a side with exactly these faults."""
        return self.accounts[side, frozenset(faults)]

    def transfer(self, faults: frozenset[Result]) -> Transfers:
        """Make a transfer that earns exactly these refusals (and OVERFLOW on the side that exists)."""
        debit_faults = {
            Result.ASSET_MISMATCH: "asset",
            Result.DEBIT_CLOSED: "closed",
            Result.OVERFLOW: "overflow",
            Result.DEBIT_LIMIT: "limit",
        }
        credit_faults = {Result.CREDIT_CLOSED: "closed", Result.CREDIT_LIMIT: "limit"}
        if Result.DEBIT_NOT_FOUND in faults:
            credit_faults[Result.OVERFLOW] = "overflow"
        debit = self.account("debit", *(debit_faults[fault] for fault in faults if fault in debit_faults))
        credit = self.account("credit", *(credit_faults[fault] for fault in faults if fault in credit_faults))
        if Result.DEBIT_NOT_FOUND in faults:
            debit = 5_000
        if Result.CREDIT_NOT_FOUND in faults:
            credit = 5_001
        if Result.SAME_ACCOUNT in faults:
            debit = credit = credit if faults & {Result.CREDIT_CLOSED, Result.CREDIT_NOT_FOUND} else debit
        return command(
            USED_ID if Result.ID_EXISTS in faults else FRESH,
            debit=debit,
            credit=credit,
            amount=0 if Result.AMOUNT_INVALID in faults else 2,
            flags=64 if Result.FLAGS_INVALID in faults else 0,
        )

    def hold_end(self, faults: frozenset[Result]) -> Transfers:
        """Make a POST that earns exactly these refusals."""
        related = {
            Result.HOLD_NOT_FOUND: FRESH + 1,
            Result.HOLD_POSTED: HOLD_POSTED,
            Result.HOLD_VOIDED: HOLD_VOIDED,
            Result.HOLD_EXPIRED: HOLD_OVER,
            Result.HOLD_BOUND: HOLD_BOUND,
        }
        return end(
            USED_ID if Result.ID_EXISTS in faults else FRESH,
            next((related[fault] for fault in faults if fault in related), HOLD),
            amount=-1 if Result.AMOUNT_INVALID in faults else 11 if Result.HOLD_EXCEEDED in faults else 0,
            flags=Flag.POST | (64 if Result.FLAGS_INVALID in faults else 0),
        )


ANY = {Result.FLAGS_INVALID, Result.AMOUNT_INVALID, Result.ID_EXISTS}
TRANSFERS = ANY | {
    Result.SAME_ACCOUNT,
    Result.DEBIT_NOT_FOUND,
    Result.CREDIT_NOT_FOUND,
    Result.ASSET_MISMATCH,
    Result.DEBIT_CLOSED,
    Result.CREDIT_CLOSED,
    Result.OVERFLOW,
    Result.DEBIT_LIMIT,
    Result.CREDIT_LIMIT,
}
ENDS = ANY | {
    Result.HOLD_NOT_FOUND,
    Result.HOLD_POSTED,
    Result.HOLD_VOIDED,
    Result.HOLD_EXPIRED,
    Result.HOLD_BOUND,
    Result.HOLD_EXCEEDED,
}
CHAINS = {Result.CHAIN_OPEN, Result.LINKED_FAILED}

# Pairs that one command can never earn together, by what they have in common.
EXCLUSIVE = [
    {Result.HOLD_NOT_FOUND, Result.HOLD_POSTED, Result.HOLD_VOIDED, Result.HOLD_EXPIRED, Result.HOLD_BOUND},  # one fate
    {Result.HOLD_NOT_FOUND, Result.HOLD_EXCEEDED},  # only a living hold has an amount to exceed
    {Result.HOLD_POSTED, Result.HOLD_EXCEEDED},
    {Result.HOLD_VOIDED, Result.HOLD_EXCEEDED},
    {Result.AMOUNT_INVALID, Result.HOLD_EXCEEDED},  # too small or too large
    {Result.AMOUNT_INVALID, Result.OVERFLOW},
    {Result.AMOUNT_INVALID, Result.DEBIT_LIMIT},
    {Result.AMOUNT_INVALID, Result.CREDIT_LIMIT},
    {Result.SAME_ACCOUNT, Result.ASSET_MISMATCH},  # one account, one asset, one normal side
    {Result.DEBIT_NOT_FOUND, Result.ASSET_MISMATCH},  # what does not exist has no asset, state or limit
    {Result.DEBIT_NOT_FOUND, Result.DEBIT_CLOSED},
    {Result.DEBIT_NOT_FOUND, Result.DEBIT_LIMIT},
    {Result.CREDIT_NOT_FOUND, Result.ASSET_MISMATCH},
    {Result.CREDIT_NOT_FOUND, Result.CREDIT_CLOSED},
    {Result.CREDIT_NOT_FOUND, Result.CREDIT_LIMIT},
]


def is_possible(pair: set[Result]) -> bool:
    """Whether one command can earn both."""
    same_family = pair <= TRANSFERS or pair <= ENDS
    return same_family and not any(pair <= exclusive for exclusive in EXCLUSIVE)


PAIRS = [pair for pair in itertools.combinations(PRECEDENCE, 2) if is_possible(set(pair))]


@pytest.fixture(scope="module")
def world() -> World:
    """Build the world once; the tests below only refuse, which uses up no more than the fresh id of a copy."""
    return World()


def refusal(world: World, faults: frozenset[Result]) -> Result:
    """Post a command with these faults on a copy of the world; a refusal must leave money as it is."""
    ledger = Ledger(world.state.copy())
    one = world.transfer(faults) if faults <= TRANSFERS else world.hold_end(faults)
    before = ledger.state.money_digest()
    result = ledger.result(one)
    assert ledger.state.money_digest() == before
    assert (one["debit_previous"][0], one["credit_previous"][0]) == (0, 0)
    return result


# --- precedence -------------------------------------------------------------------------------------------------------


def test_precedence_names_every_result_of_the_kernel_once() -> None:
    """PRECEDENCE has each of the kernel's results exactly once."""
    assert len(PRECEDENCE) == len(set(PRECEDENCE))
    assert set(PRECEDENCE) == KERNEL


def test_the_page_of_results_follows_the_precedence() -> None:
    """docs/results.md has one heading for each result, with its number, in the order of PRECEDENCE."""
    text = (ROOT / "docs/results.md").read_text()
    headings = re.findall(r"^#{2,3} (\d+) ([A-Z_]+)$", text, re.MULTILINE)
    assert all(Result[name] == int(number) for number, name in headings)
    names = [Result[name] for _, name in headings]
    assert tuple(result for result in names if result < 100) == PRECEDENCE
    assert sorted(names) == sorted(result for result in Result if result)


@pytest.mark.parametrize("fault", sorted((TRANSFERS | ENDS) - CHAINS), ids=lambda fault: fault.name)
def test_each_fault_alone_has_its_own_result(world: World, fault: Result) -> None:
    """A command with one fault gets that fault's result, and money stays as it was (I9)."""
    assert refusal(world, frozenset({fault})) is fault


@pytest.mark.parametrize("faults", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_of_two_faults_the_first_in_the_order_is_the_result(world: World, faults: tuple[Result, Result]) -> None:
    """A command with two faults gets the result that stands first in PRECEDENCE."""
    assert refusal(world, frozenset(faults)) is faults[0]


def test_the_faultless_command_of_the_world_passes(world: World) -> None:
    """Without faults the same commands are applied, so that nothing else refuses them."""
    assert Ledger(world.state.copy()).result(world.transfer(frozenset())) is Result.OK
    assert Ledger(world.state.copy()).result(world.hold_end(frozenset())) is Result.OK


@pytest.mark.parametrize("fault", sorted((TRANSFERS | ENDS) - CHAINS), ids=lambda fault: fault.name)
def test_chain_results_stand_before_all_others(world: World, fault: Result) -> None:
    """A later member of a failed chain says LINKED_FAILED and an open last one CHAIN_OPEN, whatever else is wrong."""
    faults = frozenset({fault})
    one = world.transfer(faults) if faults <= TRANSFERS else world.hold_end(faults)
    bad = command(FRESH + 5, amount=0, flags=Flag.LINKED)
    assert Ledger(world.state.copy()).results(bad, one.copy())[1] is Result.LINKED_FAILED
    one["flags"] |= np.uint16(Flag.LINKED)
    assert Ledger(world.state.copy()).results(bad, one.copy())[1] is Result.CHAIN_OPEN
    assert Ledger(world.state.copy()).results(one.copy()) == [Result.CHAIN_OPEN]


@pytest.mark.parametrize("fault", sorted((TRANSFERS | ENDS) - CHAINS), ids=lambda fault: fault.name)
def test_a_result_that_arrives_stands_before_all_others(world: World, fault: Result) -> None:
    """A command that arrives with a result keeps it, in a failed or open chain too."""
    faults = frozenset({fault})
    one = world.transfer(faults) if faults <= TRANSFERS else world.hold_end(faults)
    one["result"] = Result.QUOTE_EXPIRED
    bad = command(FRESH + 5, amount=0, flags=Flag.LINKED)
    assert Ledger(world.state.copy()).results(one.copy()) == [Result.QUOTE_EXPIRED]
    assert Ledger(world.state.copy()).results(bad, one.copy())[1] is Result.QUOTE_EXPIRED
    one["flags"] |= np.uint16(Flag.LINKED)
    assert Ledger(world.state.copy()).results(one.copy()) == [Result.QUOTE_EXPIRED]


# --- static rules -----------------------------------------------------------------------------------------------------

VALID_FLAGS = {
    *(Flag.NONE, Flag.PENDING, Flag.POST, Flag.VOID, Flag.EXPIRE),
    *(Flag.LINKED, Flag.PENDING | Flag.LINKED, Flag.POST | Flag.LINKED, Flag.VOID | Flag.LINKED),
    *(Flag.PENDING | Flag.BOUND, Flag.PENDING | Flag.BOUND | Flag.LINKED),
}


def test_exactly_the_meaningful_flags_are_valid() -> None:
    """Of all 65,536 values of the flags, eleven are no FLAGS_INVALID."""
    commands = transfers(2**17)
    commands["id_lo"] = np.arange(2**17)
    commands["flags"][::2] = np.arange(2**16)  # each followed by a command that closes its chain
    commands["debit"], commands["credit"], commands["amount"], commands["group"] = 1, 2, 1, 1
    posting.post(state_of(CREDIT, CREDIT), commands, timestamp_ns=1, first_position=0)
    good = commands["flags"][::2][commands["result"][::2] != Result.FLAGS_INVALID]
    assert set(good.tolist()) == {int(flag) for flag in VALID_FLAGS}


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
