"""Business days: the first block of a later day begins it, in the node that writes and in every replay."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.accounts import AccountFlag
from ledger.errors import InvariantViolation
from ledger.machine import Machine
from ledger.messages import Message
from ledger.meters import BUSINESS_DAY_OFFSET_S, business_day, business_day_start_ns
from ledger.runtime import SECOND_NS
from ledger.transfers import Flag, Result, Transfers
from ledger.writer import open_machine
from tests.ledger_fixture import (
    CREDIT,
    DAY_MAX,
    GENESIS,
    HASH_KEY,
    START_S,
    Chain,
    FixtureInterpreter,
    open_body,
    statement,
    transfer,
)
from tests.writer_fixture import running

DAY_S = 86_400
START_DAY = (START_S + BUSINESS_DAY_OFFSET_S) // DAY_S
MIDNIGHT_S = (START_DAY + 1) * DAY_S - BUSINESS_DAY_OFFSET_S - START_S
"""Seconds from the fixture's start until its first midnight."""
METERED = CREDIT | AccountFlag.METERED


def post(serial: int, *commands: Transfers) -> Message:
    """Let Alice post commands."""
    return statement("alice", "post", np.concatenate(commands).tobytes(), serial=serial)


def pay(identifier: int, amount: int, **fields: int) -> Message:
    """Let Alice pay from her metered account, as a message of its own."""
    return post(identifier, transfer(identifier, debit=1, credit=2, amount=amount, **fields))


def opened() -> Chain:
    """Let Alice open a metered account and another one in block 1."""
    chain = Chain()
    chain.add(
        *(
            statement("alice", "open", open_body(flags=flags), serial=serial)
            for serial, flags in enumerate((METERED, CREDIT), 1)
        ),
        at_s=1,
    )
    return chain


def used(machine: Machine) -> tuple[int, int]:
    """Give what the metered account has used of the day and of the year."""
    limits = machine.state.limits(1)
    return limits.day_used, limits.year_used


def test_a_machine_stands_in_the_day_of_its_genesis() -> None:
    """Before block 1 it is the business day of the genesis, and nobody was told of a new one."""
    machine = Chain().machine
    assert machine.state.business_day == business_day(GENESIS.created_ns) == START_DAY
    assert machine.interpreter.days == []


def test_the_first_block_of_a_day_begins_it() -> None:
    """At midnight in both cities, not a nanosecond before, the meters of the day begin again."""
    chain = opened()
    chain.add(pay(10, DAY_MAX), pay(11, 1), at_s=MIDNIGHT_S - 1)
    assert chain.blocks[-1].transfers["result"].tolist() == [Result.OK, Result.DAY_LIMIT]
    chain.add(pay(12, DAY_MAX), pay(13, 1), at_s=MIDNIGHT_S)
    assert chain.blocks[-1].transfers["result"].tolist() == [Result.OK, Result.DAY_LIMIT]
    assert used(chain.machine) == (DAY_MAX, 2 * DAY_MAX)
    assert chain.machine.interpreter.days == [START_DAY + 1]


def test_a_day_begins_before_anything_expires() -> None:
    """A hold that expires with the first block of a new day gives back to the year and not to the day."""
    chain = opened()
    chain.add(pay(10, 300, flags=Flag.PENDING, timeout_s=60), at_s=MIDNIGHT_S - 30)
    chain.add(pay(11, 5), at_s=MIDNIGHT_S + 100)
    assert chain.blocks[-1].transfers["flags"].tolist() == [Flag.EXPIRE, Flag.NONE]
    assert used(chain.machine) == (5, 5)


def test_days_without_blocks_are_passed_over() -> None:
    """After a pause of days, and of a year, one day begins: that of the next block."""
    chain = opened()
    chain.add(pay(10, 300), at_s=2)
    chain.add(pay(11, 40), at_s=MIDNIGHT_S + 9 * DAY_S)
    assert used(chain.machine) == (40, 340)
    chain.add(pay(12, 7), at_s=MIDNIGHT_S + 400 * DAY_S)
    assert used(chain.machine) == (7, 7)
    assert chain.machine.interpreter.days == [START_DAY + 10, START_DAY + 401]


def test_a_new_year_begins_the_years_meters_anew() -> None:
    """The fixture begins with 2026; its last day still counts for it."""
    chain = opened()
    chain.add(pay(10, 300), at_s=2)
    chain.add(pay(11, 40), at_s=MIDNIGHT_S + 363 * DAY_S)
    assert used(chain.machine) == (40, 340)
    chain.add(pay(12, 7), at_s=MIDNIGHT_S + 364 * DAY_S)
    assert used(chain.machine) == (7, 7)


def test_a_replay_begins_the_same_days() -> None:
    """Only the blocks' times decide, so a reopened machine has the same meters and told its interpreter the same."""
    chain = opened()
    for serial, at_s in enumerate((MIDNIGHT_S - 1, MIDNIGHT_S, MIDNIGHT_S + DAY_S + 7, MIDNIGHT_S + 500 * DAY_S), 10):
        chain.add(pay(serial, serial), at_s=at_s)
    machine = open_machine(chain.store(), FixtureInterpreter, HASH_KEY)
    assert machine.state.money_digest() == chain.machine.state.money_digest()
    assert machine.interpreter.days == chain.machine.interpreter.days
    assert machine.state.business_day == chain.machine.state.business_day


def test_an_attempt_may_begin_a_day_but_no_block_goes_back() -> None:
    """An attempt without a block begins the day too; then no block of the day before can be made any more."""
    chain = opened()
    chain.add(pay(10, 300), at_s=2)
    after_midnight_ns = (START_S + MIDNIGHT_S + 5) * SECOND_NS
    assert chain.machine.apply([], after_midnight_ns).is_empty
    assert chain.machine.interpreter.days == [START_DAY + 1]
    assert used(chain.machine) == (0, 300)
    first_ns = business_day_start_ns(START_DAY + 1)
    assert chain.machine.earliest_ns == first_ns
    with pytest.raises(InvariantViolation, match="I5"):
        chain.machine.apply([], first_ns - 1)
    chain.add(pay(11, 40), at_s=MIDNIGHT_S)
    assert chain.machine.earliest_ns == first_ns + 1
    machine = open_machine(chain.store(), FixtureInterpreter, HASH_KEY)
    assert machine.state.money_digest() == chain.machine.state.money_digest()


@pytest.mark.anyio
async def test_a_clock_that_falls_back_over_midnight_makes_no_other_ledger() -> None:
    """When the clock steps back after a refusal that began a day, the next block is of that day all the same."""
    async with running() as node:
        for serial, flags in enumerate((METERED, CREDIT), 1):
            await node.submit(statement("alice", "open", open_body(flags=flags), serial=serial))
        await node.submit(pay(10, DAY_MAX))
        node.runtime.move_to((START_S + MIDNIGHT_S + 5) * SECOND_NS)  # type: ignore[attr-defined] # by hand
        retried = await node.submit(pay(10, DAY_MAX))
        assert retried.height == 3
        assert node.machine.interpreter.days == [START_DAY + 1]
        node.runtime.move_to((START_S + MIDNIGHT_S - 60) * SECOND_NS)  # type: ignore[attr-defined] # by hand
        answer = await node.submit(pay(11, DAY_MAX))
        assert answer.height == 4
        assert node.machine.timestamp_ns == business_day_start_ns(START_DAY + 1)
    machine = open_machine(node.store, FixtureInterpreter, HASH_KEY)
    assert machine.state.money_digest() == node.machine.state.money_digest()
    assert used(machine) == (DAY_MAX, 2 * DAY_MAX)


def test_points_leave_with_their_draft() -> None:
    """Each draft has the points that fell due in it, in order, and the state keeps none."""
    chain = opened()
    chain.add(*(pay(100 + index, 1) for index in range(63)), at_s=2)
    drafts = [
        chain.draft([pay(200, 1), pay(201, 1)], (START_S + 3) * SECOND_NS),
        chain.machine.apply([], (START_S + 4) * SECOND_NS),
    ]
    points = drafts[0].points
    assert points[["account", "position", "debits_posted"]].tolist() == [(1, 129, 64), (2, 129, 0)]
    assert len(drafts[1].points) == 0
    assert len(chain.machine.state.take_points()) == 0
