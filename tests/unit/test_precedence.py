"""Which result a command gets that breaks several rules: every pair, in the order of PRECEDENCE."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ledger.accounts import AccountFlag
from ledger.meters import ClassLimits
from ledger.posting import PRECEDENCE
from ledger.transfers import Flag, Result, Transfers
from tests.posting_fixture import AMOUNT_MAX, CREDIT, LIMITED, SECOND, Ledger, command, end, state_of

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {result for result in Result if 0 < result < 100}

# --- a world in which one command can earn any combination of refusals ------------------------------------------------

USED_ID, HOLD, HOLD_POSTED, HOLD_VOIDED, HOLD_EXPIRED, HOLD_BOUND, HOLD_OVER = range(1, 8)
GROUPED, GROUPED_TOO, GROUPED_OVER, GROUPED_OVER_TOO, ORIGINAL, FRESH = range(20, 26)

DEBIT_FAULTS = {
    Result.ASSET_MISMATCH: "asset",
    Result.DEBIT_CLOSED: "closed",
    Result.OVERFLOW: "overflow",
    Result.DEBIT_LIMIT: "limit",
    Result.DEBIT_MAXIMUM: "maximum",
    Result.ITEM_LIMIT: "item",
    Result.DAY_LIMIT: "day",
    Result.YEAR_LIMIT: "year",
}
CREDIT_FAULTS = {Result.CREDIT_CLOSED: "closed", Result.CREDIT_LIMIT: "limit", Result.CREDIT_MAXIMUM: "maximum"}
REVERSALS = {Result.REVERSAL_NOT_FOUND, Result.REVERSAL_MISMATCH, Result.REVERSAL_EXCEEDED}


class World(Ledger):
    """One hold for each way to be refused; accounts with faults are opened when they are asked for."""

    def __init__(self) -> None:
        """Make the holds that the ends refer to, and a transfer."""
        super().__init__(state_of(CREDIT, AccountFlag.NONE))
        self.next_id = 1_000
        pending = {"flags": Flag.PENDING}
        grouped = {"flags": Flag.PENDING | Flag.GROUP}
        self.now -= 10 * SECOND
        results = self.results(
            command(USED_ID),
            command(ORIGINAL),
            command(HOLD, **pending),
            command(HOLD_POSTED, **pending),
            command(HOLD_VOIDED, **pending),
            command(HOLD_EXPIRED, timeout_s=1, **pending),
            command(HOLD_BOUND, group=1, flags=Flag.PENDING | Flag.BOUND),
            command(HOLD_OVER, timeout_s=5, **pending),
            command(GROUPED, flags=Flag.PENDING | Flag.GROUP | Flag.LINKED),
            command(GROUPED_TOO, **grouped),
            command(GROUPED_OVER, flags=Flag.PENDING | Flag.GROUP | Flag.LINKED),
            command(GROUPED_OVER_TOO, timeout_s=5, **grouped),
            end(11, HOLD_POSTED, flags=Flag.POST),
            end(12, HOLD_VOIDED, flags=Flag.VOID),
        )
        self.now += 2 * SECOND
        results += self.results(end(0, HOLD_EXPIRED, flags=Flag.EXPIRE))
        self.now += 8 * SECOND
        assert set(results) == {Result.OK}

    def again(self) -> World:
        """Give a copy, so that every test finds the same world."""
        copy = object.__new__(World)
        copy.__dict__.update(self.__dict__)
        copy.state = self.state.copy()
        return copy

    def open(self, side: str, faults: set[str]) -> int:
        """Open an account for a side that has these faults for an amount of 2.

        Near overflow both its sides are full, so that its balance is zero and it can be closed.
        """
        asset = 2 if "asset" in faults else 1
        is_credit_normal = (side == "debit") != ("maximum" in faults)
        flags = CREDIT if is_credit_normal else AccountFlag.NONE
        number = self.state.open_account(
            owner=1, asset=asset, code=7, flags=flags | LIMITED if "limit" in faults else flags
        )
        if "overflow" in faults:
            self.fill(number, asset, inward_first=side == "debit")
        if "maximum" in faults:
            self.state.set_limit(number, maximum=0)
        if faults & {"item", "day", "year"}:
            limits = {f"{name}_max": 1 for name in ("item", "day", "year") if name in faults}
            self.state.set_class_limits(1, ClassLimits(**limits))
            self.state.set_class(number, 1)
        if "closed" in faults:
            self.state.close_account(number)
        return number

    def fill(self, number: int, asset: int, *, inward_first: bool) -> None:
        """Let all but one minor unit of the largest amount pass through an account."""
        helper = self.state.open_account(owner=1, asset=asset, code=7, flags=AccountFlag.NONE)
        inward = {"debit": helper, "credit": number, "amount": AMOUNT_MAX - 1}
        outward = {"debit": number, "credit": helper, "amount": AMOUNT_MAX - 1}
        self.next_id += 2
        order = (inward, outward) if inward_first else (outward, inward)
        assert not any(self.post(*(command(self.next_id + i, **fields) for i, fields in enumerate(order)))["result"])

    def transfer(self, faults: frozenset[Result]) -> Transfers:
        """Make a transfer that earns exactly these refusals (and OVERFLOW on the side that exists)."""
        debit_faults = {DEBIT_FAULTS[fault] for fault in faults if fault in DEBIT_FAULTS}
        credit_faults = {CREDIT_FAULTS[fault] for fault in faults if fault in CREDIT_FAULTS}
        if Result.DEBIT_NOT_FOUND in faults:
            credit_faults |= debit_faults & {"overflow"}
        debit = 5_000 if Result.DEBIT_NOT_FOUND in faults else self.open("debit", debit_faults)
        credit = 5_001 if Result.CREDIT_NOT_FOUND in faults else self.open("credit", credit_faults)
        if Result.SAME_ACCOUNT in faults:
            debit = credit = credit if faults & {*CREDIT_FAULTS, Result.CREDIT_NOT_FOUND} else debit
        return command(
            USED_ID if Result.ID_EXISTS in faults else FRESH,
            related=FRESH + 1 if Result.REVERSAL_NOT_FOUND in faults else ORIGINAL,
            debit=debit,
            credit=credit,
            amount=-1 if Result.AMOUNT_INVALID in faults else 2,
            flags=self.flags_of(faults),
            minimum=10**6 if Result.MIN_AVAILABLE in faults else 0,
            value_day=2**16 if Result.VALUE_DAY_INVALID in faults else 0,
        )

    @staticmethod
    def flags_of(faults: frozenset[Result]) -> int:
        """Give the flags that let a transfer earn some refusals."""
        flags = 2048 if Result.FLAGS_INVALID in faults else 0
        if faults & REVERSALS:
            flags |= Flag.REVERSAL
        if Result.NOTHING_AVAILABLE in faults:
            flags |= Flag.BALANCING_DEBIT
        if Result.MIN_AVAILABLE in faults:
            flags |= Flag.MIN_AVAILABLE
        return flags

    def hold_end(self, faults: frozenset[Result]) -> Transfers:
        """Make a POST that earns exactly these refusals."""
        related = {
            Result.HOLD_NOT_FOUND: FRESH + 1,
            Result.HOLD_POSTED: HOLD_POSTED,
            Result.HOLD_VOIDED: HOLD_VOIDED,
            Result.HOLD_EXPIRED: GROUPED_OVER if Result.HOLD_GROUPED in faults else HOLD_OVER,
            Result.HOLD_BOUND: HOLD_BOUND,
            Result.HOLD_GROUPED: GROUPED,
        }
        named = [related[fault] for fault in PRECEDENCE if fault in faults and fault in related]
        flags = Flag.POST | (Flag.GROUP if Result.HOLD_NOT_GROUPED in faults else Flag.NONE)
        return end(
            USED_ID if Result.ID_EXISTS in faults else FRESH,
            named[0] if named else HOLD,
            amount=-1 if Result.AMOUNT_INVALID in faults else 11 if Result.HOLD_EXCEEDED in faults else 0,
            flags=int(flags) | (2048 if Result.FLAGS_INVALID in faults else 0),
            value_day=2**16 if Result.VALUE_DAY_INVALID in faults else 0,
            group=(Result.HOLD_BOUND in faults) + 2 * (Result.HOLD_IN_WINDOW in faults),
        )

    def one(self, faults: frozenset[Result]) -> Transfers:
        """Make a command that earns exactly these refusals, and let its original be one that fits them."""
        if not faults <= TRANSFERS:
            return self.hold_end(faults)
        asked = self.transfer(faults)

        def recall(positions: npt.NDArray[np.uint64]) -> Transfers:
            debit, credit = (asked["debit"][0], asked["credit"][0])
            if Result.REVERSAL_MISMATCH not in faults:
                debit, credit = credit, debit
            amount = 1 if Result.REVERSAL_EXCEEDED in faults else 10
            assert len(positions) == 1
            return command(ORIGINAL, debit=debit, credit=credit, amount=amount)

        self.recall = recall
        return asked


ANY = {Result.FLAGS_INVALID, Result.AMOUNT_INVALID, Result.VALUE_DAY_INVALID, Result.ID_EXISTS}
TRANSFERS = ANY | {
    Result.SAME_ACCOUNT,
    Result.DEBIT_NOT_FOUND,
    Result.CREDIT_NOT_FOUND,
    Result.NOTHING_AVAILABLE,
    Result.MIN_AVAILABLE,
    *DEBIT_FAULTS,
    *CREDIT_FAULTS,
    *REVERSALS,
}
ENDS = ANY | {
    Result.HOLD_NOT_FOUND,
    Result.HOLD_POSTED,
    Result.HOLD_VOIDED,
    Result.HOLD_EXPIRED,
    Result.HOLD_BOUND,
    Result.HOLD_IN_WINDOW,
    Result.HOLD_GROUPED,
    Result.HOLD_NOT_GROUPED,
    Result.HOLD_EXCEEDED,
}
CHAINS = {Result.CHAIN_OPEN, Result.LINKED_FAILED}
FAULTS = sorted(TRANSFERS | ENDS)

# What one command can never earn together: two of a set, or the first with any of the second.
EXCLUSIVE = [
    {Result.HOLD_NOT_FOUND, Result.HOLD_POSTED, Result.HOLD_VOIDED, Result.HOLD_EXPIRED, Result.HOLD_BOUND},  # one fate
    {Result.HOLD_GROUPED, Result.HOLD_NOT_GROUPED},  # one group at most
    {Result.HOLD_GROUPED, Result.HOLD_BOUND},  # a hold of a client's group belongs to no window
    {Result.HOLD_NOT_GROUPED, Result.HOLD_EXCEEDED},  # with GROUP no amount is named
    {
        Result.REVERSAL_NOT_FOUND,
        Result.REVERSAL_MISMATCH,
    },  # what is not there has no accounts, and nothing is left of it
    {Result.REVERSAL_NOT_FOUND, Result.REVERSAL_EXCEEDED},
    {Result.DEBIT_LIMIT, Result.DEBIT_MAXIMUM},  # each is a matter of one normal side
    {Result.CREDIT_LIMIT, Result.CREDIT_MAXIMUM},
]
DEAD = {Result.HOLD_NOT_FOUND, Result.HOLD_POSTED, Result.HOLD_VOIDED}
LIMITS = {
    Result.OVERFLOW,
    Result.DEBIT_LIMIT,
    Result.CREDIT_LIMIT,
    Result.MIN_AVAILABLE,
    Result.DEBIT_MAXIMUM,
    Result.CREDIT_MAXIMUM,
    Result.ITEM_LIMIT,
    Result.DAY_LIMIT,
    Result.YEAR_LIMIT,
}
EXCLUSIVE_WITH = {
    Result.HOLD_EXCEEDED: DEAD,  # only a living hold has an amount to exceed, or a group
    Result.HOLD_IN_WINDOW: DEAD,
    Result.HOLD_GROUPED: DEAD,
    Result.HOLD_NOT_GROUPED: DEAD,
    Result.AMOUNT_INVALID: LIMITS | {Result.HOLD_EXCEEDED, Result.REVERSAL_EXCEEDED},  # too small or too large
    Result.NOTHING_AVAILABLE: LIMITS | REVERSALS,  # nothing moves, and a reversal is not balanced
    Result.SAME_ACCOUNT: {Result.ASSET_MISMATCH, Result.DEBIT_MAXIMUM, Result.CREDIT_MAXIMUM, *REVERSALS},
    # What does not exist has no asset, state or limit, and was never credited or debited.
    Result.DEBIT_NOT_FOUND: {*DEBIT_FAULTS, Result.MIN_AVAILABLE, *REVERSALS} - {Result.OVERFLOW},
    Result.CREDIT_NOT_FOUND: {Result.ASSET_MISMATCH, *CREDIT_FAULTS, *REVERSALS},
    Result.DEBIT_MAXIMUM: {
        Result.ITEM_LIMIT,
        Result.DAY_LIMIT,
        Result.YEAR_LIMIT,
    },  # only credit-normal ones are metered
}


def is_possible(pair: set[Result]) -> bool:
    """Whether one command can earn both."""
    if not (pair <= TRANSFERS or pair <= ENDS) or any(pair <= exclusive for exclusive in EXCLUSIVE):
        return False
    return not any(pair - {one} <= others for one, others in EXCLUSIVE_WITH.items() if one in pair)


PAIRS = [pair for pair in itertools.combinations(PRECEDENCE, 2) if is_possible(set(pair))]


@pytest.fixture(scope="module")
def world() -> World:
    """Build the world once; every test takes a copy."""
    return World()


def refusal(world: World, faults: frozenset[Result]) -> Result:
    """Post a command with these faults in a copy of the world; a refusal must leave money as it is."""
    ledger = world.again()
    one = ledger.one(faults)
    before = ledger.state.money_digest()
    record = ledger.post(one)[0]
    assert ledger.state.money_digest() == before
    is_repeated = record["result"] == Result.ID_EXISTS
    assert (record["debit_previous"], record["credit_previous"]) == (101 if is_repeated else 0, 0)
    return Result(int(record["result"]))


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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_alone_has_its_own_result(world: World, fault: Result) -> None:
    """A command with one fault gets that fault's result, and money stays as it was (I9)."""
    assert refusal(world, frozenset({fault})) is fault


@pytest.mark.parametrize("faults", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_of_two_faults_the_first_in_the_order_is_the_result(world: World, faults: tuple[Result, Result]) -> None:
    """A command with two faults gets the result that stands first in PRECEDENCE."""
    assert refusal(world, frozenset(faults)) is faults[0]


def test_the_faultless_command_of_the_world_passes(world: World) -> None:
    """Without faults the same commands are applied, so that nothing else refuses them."""
    for flags in (Flag.NONE, Flag.REVERSAL, Flag.BALANCING_CREDIT, Flag.MIN_AVAILABLE):
        ledger = world.again()
        one = ledger.one(frozenset())
        one["flags"] |= np.uint16(flags)
        one["minimum"] = -2 if flags is Flag.MIN_AVAILABLE else 0
        ledger.state.set_limit(int(one["credit"][0]), minimum=-10 if flags is Flag.BALANCING_CREDIT else -(2**62))
        assert ledger.result(one) is Result.OK, flags
    assert world.again().result(world.hold_end(frozenset())) is Result.OK
    whole = world.hold_end(frozenset({Result.HOLD_GROUPED}))
    whole["flags"] |= np.uint16(Flag.GROUP)
    assert world.again().result(whole) is Result.OK


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_chain_results_stand_before_all_others(world: World, fault: Result) -> None:
    """A later member of a failed chain says LINKED_FAILED and an open last one CHAIN_OPEN, whatever else is wrong."""
    ledger = world.again()
    one = ledger.one(frozenset({fault}))
    bad = command(FRESH + 5, amount=0, flags=Flag.LINKED)
    assert ledger.again().results(bad, one.copy())[1] is Result.LINKED_FAILED
    one["flags"] |= np.uint16(Flag.LINKED)
    assert ledger.again().results(bad, one.copy())[1] is Result.CHAIN_OPEN
    assert ledger.again().results(one.copy()) == [Result.CHAIN_OPEN]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_result_that_arrives_stands_before_all_others(world: World, fault: Result) -> None:
    """A command that arrives with a result keeps it, in a failed or open chain too."""
    ledger = world.again()
    one = ledger.one(frozenset({fault}))
    one["result"] = Result.QUOTE_EXPIRED
    bad = command(FRESH + 5, amount=0, flags=Flag.LINKED)
    assert ledger.again().results(one.copy()) == [Result.QUOTE_EXPIRED]
    assert ledger.again().results(bad, one.copy())[1] is Result.QUOTE_EXPIRED
    one["flags"] |= np.uint16(Flag.LINKED)
    assert ledger.again().results(one.copy()) == [Result.QUOTE_EXPIRED]
