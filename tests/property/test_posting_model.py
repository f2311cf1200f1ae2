"""The kernel, compiled and plain, against the dictionary model: small universes, so that everything collides."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import posting
from ledger.transfers import Flag, Result
from tests.property.drivers import Pair, Trio
from tests.property.model import Command
from tests.property.steps import take_steps
from tests.property.universe import (
    ACCOUNTS,
    CLASSES,
    FLAGS,
    GROUPS,
    HUGE,
    IDENTIFIERS,
    MEMBERS,
    PARTIES,
    array_of,
    random_commands,
)


def random_step(generator: np.random.Generator, trio: Any) -> None:
    """Do one of the things that no command does."""
    if generator.random() < 0.5:
        random_group_step(generator, trio)
    else:
        random_rule_step(generator, trio)


def random_group_step(generator: np.random.Generator, trio: Any) -> None:
    """Do something to a window's group."""
    group = int(generator.integers(1, GROUPS + 1))
    selected = generator.random(MEMBERS) < 0.5
    match int(generator.integers(0, 7)):
        case 0 | 1:
            trio.bind(group, bound=True)
        case 2:
            trio.bind(group, bound=False)
        case 3:
            trio.end(group, selected, posts=True)
        case 4:
            trio.end(group, None if selected[0] else selected, posts=False)
        case 5:
            members = generator.integers(0, MEMBERS, MEMBERS).astype(np.uint32)
            members[selected] = posting.STAY
            trio.move(group, int(generator.integers(1, GROUPS + 1)), members)


def random_rule_step(generator: np.random.Generator, trio: Any) -> None:
    """Close an account, change what limits one, or begin a day."""
    number = int(generator.integers(1, ACCOUNTS + 1))
    match int(generator.integers(0, 6)):
        case 0:
            trio.close(number)
        case 1:
            minimum, maximum = (int(limit) for limit in generator.integers((-600, 200), (50, 1_200)))
            kept = int(generator.integers(0, 3))
            trio.set_limit(number, minimum=minimum if kept else None, maximum=maximum if kept < 2 else None)
        case 2:
            trio.set_class(number, int(generator.integers(0, CLASSES + 1)))
        case 3:
            maximum, item, day, year = (int(limit) for limit in generator.integers((300, 20, 100, 300), 1_500))
            klass = int(generator.integers(1, CLASSES + 1))
            trio.set_class_limits(klass, maximum=maximum, item=item, day=day, year=year)
        case 4 | 5:
            trio.begin_day(int(generator.choice([1, 1, 1, 200])))


@st.composite
def batches(draw: st.DrawFn) -> list[Command]:
    """Draw a short batch of commands."""
    command = st.fixed_dictionaries(
        {
            "id": st.sampled_from(IDENTIFIERS),
            "related": st.sampled_from(IDENTIFIERS),
            "amount": st.one_of(st.integers(-1, 20), st.sampled_from([HUGE, HUGE - 5, 2**62])),
            "debit": st.integers(0, ACCOUNTS + 1),
            "credit": st.integers(0, ACCOUNTS + 1),
            "flags": st.sampled_from([int(flag) for flag in FLAGS]),
            "timeout_s": st.integers(0, 2),
            "group": st.integers(0, GROUPS),
            "member": st.integers(0, MEMBERS - 1),
            "party": st.integers(0, PARTIES - 1),
            "minimum": st.sampled_from([0, 0, 0, -20, 5, HUGE, -HUGE]),
            "value_day": st.sampled_from([0, 0, 0, 20_000, 2**16]),
            "result": st.sampled_from([0, 0, 0, 0, 0, 0, 0, int(Result.PAYEE_CLOSED)]),
        }
    )
    return draw(st.lists(command, min_size=1, max_size=8))


GROUP = st.integers(1, GROUPS)
CHOICE = st.lists(st.booleans(), min_size=MEMBERS, max_size=MEMBERS)


class PostingMachine(RuleBasedStateMachine):
    """Drive all three; Hypothesis looks for the shortest way to make them differ."""

    @initialize(
        minimums=st.lists(st.integers(-30, 10), min_size=1, max_size=3),
        maximums=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    )
    def begin(self, minimums: list[int], maximums: list[int]) -> None:
        """Open the accounts."""
        self.trio = Trio(minimums, maximums)

    @rule(commands=batches(), seconds=st.integers(0, 3))
    def post(self, commands: list[Command], seconds: int) -> None:
        """Post a batch."""
        self.trio.post(array_of(commands), seconds=seconds)

    @rule(group=GROUP, bound=st.booleans())
    def bind(self, group: int, bound: bool) -> None:
        """Bind or release a group."""
        self.trio.bind(group, bound=bound)

    @rule(group=GROUP, chosen=CHOICE, every=st.booleans(), posts=st.booleans())
    def end(self, group: int, chosen: list[bool], every: bool, posts: bool) -> None:
        """Post or void a group."""
        self.trio.end(group, None if every else np.array(chosen), posts=posts)

    @rule(
        source=GROUP,
        destination=GROUP,
        members=st.lists(st.integers(-1, MEMBERS - 1), min_size=MEMBERS, max_size=MEMBERS),
    )
    def move(self, source: int, destination: int, members: list[int]) -> None:
        """Move members between groups."""
        mapping = np.array([posting.STAY if member < 0 else member for member in members], np.uint32)
        self.trio.move(source, destination, mapping)

    @rule(data=st.data(), amount=st.integers(0, 10), linked=st.booleans())
    def reverse(self, data: st.DataObject, amount: int, linked: bool) -> None:
        """Reverse something that was moved, in a chain that may fail behind it."""
        if not self.trio.model.moved:
            return
        (party, related), (_, debit, credit) = data.draw(st.sampled_from(sorted(self.trio.model.moved.items())))
        command = {"party": party, "related": related, "debit": credit, "credit": debit, "amount": amount}
        command |= {"id": data.draw(st.sampled_from(IDENTIFIERS)), "flags": int(Flag.REVERSAL)}
        follower = command | {"id": data.draw(st.sampled_from(IDENTIFIERS))}
        command["flags"] |= Flag.LINKED if linked else 0
        self.trio.post(array_of([command, follower]), seconds=0)

    @rule(number=st.integers(1, ACCOUNTS), minimum=st.integers(-50, 50), maximum=st.integers(-50, 50))
    def set_limit(self, number: int, minimum: int, maximum: int) -> None:
        """Change an account's limits; what is below zero leaves one as it is."""
        self.trio.set_limit(number, minimum=minimum, maximum=maximum if maximum >= 0 else None)

    @rule(number=st.integers(1, ACCOUNTS), klass=st.integers(0, CLASSES))
    def set_class(self, number: int, klass: int) -> None:
        """Change an account's class."""
        self.trio.set_class(number, klass)

    @rule(klass=st.integers(1, CLASSES), limits=st.tuples(*[st.integers(0, 60)] * 4))
    def set_class_limits(self, klass: int, limits: tuple[int, int, int, int]) -> None:
        """Change the rules."""
        maximum, item, day, year = limits
        self.trio.set_class_limits(klass, maximum=maximum, item=item, day=day, year=year)

    @rule(days=st.sampled_from([1, 2, 364, 365, 366]))
    def begin_day(self, days: int) -> None:
        """Let a day begin, of this year or a later one."""
        self.trio.begin_day(days)

    @rule()
    def reopen(self) -> None:
        """Make everything anew from what happened."""
        self.trio.reopen()

    @rule(number=st.integers(1, ACCOUNTS))
    def close(self, number: int) -> None:
        """Close or reopen an account."""
        self.trio.close(number)

    @invariant()
    def agree(self) -> None:
        """Everything agrees, and every state passes its own check."""
        if hasattr(self, "trio"):
            self.trio.check()


PostingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPostingMachine = PostingMachine.TestCase


def test_the_kernel_agrees_with_the_model() -> None:
    """Seeded batches of everything give the model's records, counters, holds and ids, compiled and plain."""
    seed = 20_250_618
    generator = np.random.default_rng(seed)
    seen: set[Result] = set()
    for minimums in ([-200, 0, 20], [-50]):
        trio = Trio(minimums)
        for _ in range(40):
            trio.post(random_commands(generator, int(generator.integers(1, 20)), ids=300, log=trio.log), seconds=1)
            random_step(generator, trio)
        trio.check()
        trio.reopen()
        seen |= trio.seen
    sys.stdout.write(f"seed {seed}: results {sorted(seen)}" + "\n")


def test_a_new_start_right_after_a_group_has_ended_loses_no_point() -> None:
    """The points of a group's end, which belong to no command, are those of a state made anew too."""
    trio = Trio([-21, -15, -22], [21, 0, 17])
    hold = {"id": IDENTIFIERS[0], "amount": 4, "debit": 3, "credit": 2, "group": 3}
    trio.post(array_of([hold | {"flags": int(Flag.PENDING | Flag.BOUND)}]), seconds=0)
    trio.end(3, np.array([True, False, False, False]), posts=False)
    trio.reopen()
    trio.post(array_of([{"id": IDENTIFIERS[1]}]), seconds=0)
    assert len(trio.points) > 0


@pytest.mark.long
def test_the_kernel_agrees_with_the_model_for_long() -> None:
    """Long seeded runs over fresh ids agree with the model and reach every result of the kernel."""
    seed = int(os.environ.get("HUGANG_SEED", "1"))
    count = int(os.environ.get("HUGANG_MODEL_COMMANDS", "30000"))
    generator = np.random.default_rng(seed)
    seen: set[Result] = set()
    records = 0
    while records < count:
        trio = Trio([int(minimum) for minimum in generator.integers(-300, 50, 3)])
        for _ in range(60):
            size = int(generator.integers(1, 60))
            trio.post(random_commands(generator, size, ids=1_500, log=trio.log), seconds=1)
            random_step(generator, trio)
        trio.check()
        trio.reopen()
        seen |= trio.seen
        records += trio.position
    sys.stdout.write(f"seed {seed}: {records} records, results {sorted(seen)}" + "\n")
    assert {result for result in Result if result < 100} <= seen


@pytest.mark.long
def test_compiled_and_plain_agree_for_long() -> None:
    """Ten million random commands (HUGANG_RANDOM_COMMANDS) give the same records and money compiled and plain."""
    seed = int(os.environ.get("HUGANG_SEED", "2"))
    count = int(os.environ.get("HUGANG_RANDOM_COMMANDS", "10000000"))
    generator = np.random.default_rng(seed)
    done = 0
    while done < count:
        pair = Pair(generator)
        for _ in range(50):
            pair.post(random_commands(generator, int(generator.integers(1, 2_000)), ids=60_000, log=pair.log))
            random_step(generator, pair)
        for state in pair.states:
            state.check()
        assert pair.states[0].money_digest() == pair.states[1].money_digest()
        done += pair.position
    sys.stdout.write(f"seed {seed}: {done} records" + "\n")


@pytest.mark.long
def test_a_million_steps_agree() -> None:
    """A million steps of the state machine (HUGANG_STEPS), each compared with the model, compiled and plain."""
    seed = int(os.environ.get("HUGANG_SEED", "1"))
    count = int(os.environ.get("HUGANG_STEPS", "1000000"))
    assert take_steps(PostingMachine, count, first_seed=seed) >= count
