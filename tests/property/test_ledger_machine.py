"""A whole ledger on a database against a model in plain dictionaries: messages, keys, days, new starts, on both stores.

``LedgerMachine`` sends groups of signed messages of every kind through a node's writer into SQLite or PostgreSQL, lets
time pass, stops and opens again. After each step everything is compared (``ledger_driver``) with a model that is
written from the docs (``ledger_model``, ``ledger_rules``), and at the end of a run the verifier replays the journal.

A step sends one to four messages. It takes about 20 ms of a processor on SQLite in memory and 25 ms on PostgreSQL, of
which the replays of new starts and of the verifier, signatures and Hypothesis itself are most.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.property.ledger_driver import START_NS, LedgerBesideModel, PlaceIn
from tests.property.ledger_model import SECOND
from tests.property.ledger_plans import PAYMENT_PLANS, PLANS, Plan, Scribe, beginning
from tests.property.steps import take_steps
from tests.store_places import PostgresqlPlace, SqlitePlace

INTERRUPTIONS = ["reopen", "keep", "keep", "midnight", -20, -1, 1, 1, 60, 3_600, 86_400]
"""Numbers are seconds by which the clock leaps."""


class LedgerMachine(RuleBasedStateMachine):
    """Drives one ledger through its lives; a subclass says on which store."""

    place_in: PlaceIn
    seen: set[str]

    def __init__(self) -> None:
        super().__init__()
        self.ledger = LedgerBesideModel(type(self).place_in)
        self.scribe = Scribe()

    @initialize()
    def begin(self) -> None:
        """Let banks and customers join, and have money."""
        for group in beginning(self.scribe, self.ledger.model, START_NS // SECOND):
            self.ledger.send(group)

    def say(self, plans: list[Plan]) -> None:
        """Send some messages at once."""
        now_s = self.ledger.runtime.now_ns() // SECOND
        self.ledger.send([self.scribe.write(self.ledger.model, now_s, plan) for plan in plans])

    # Hypothesis leaves rules out of some runs, so each of them moves money.

    @rule(plans=st.lists(PAYMENT_PLANS, min_size=1, max_size=4))
    def pay(self, plans: list[Plan]) -> None:
        """Send messages that move money, new ones and earlier ones."""
        self.say(plans)

    @rule(plans=st.lists(PLANS, min_size=1, max_size=4))
    def send(self, plans: list[Plan]) -> None:
        """Send messages of every kind."""
        self.say(plans)

    @rule(seconds=st.sampled_from([1, 1, 1, 3]), plan=PLANS)
    def wait(self, seconds: int, plan: Plan) -> None:
        """Let time pass on an idle node."""
        self.say([plan])
        self.ledger.wait(seconds)

    @rule(what=st.sampled_from(INTERRUPTIONS), plan=PLANS)
    def interrupt(self, what: str | int, plan: Plan) -> None:
        """Stop and start again, keep a snapshot, or set the clock on or back, also over a midnight and back."""
        if what == "reopen":
            self.ledger.reopen()
        elif what == "keep":
            self.ledger.keep()
        else:
            self.ledger.leap(self.ledger.midnight_s() if what == "midnight" else int(what))
        self.say([plan])
        if what == "midnight":
            self.ledger.leap(-20)

    @invariant()
    def agree(self) -> None:
        """Everything agrees."""
        self.ledger.check()

    def teardown(self) -> None:
        """Have the journal verified, unless something failed before."""
        try:
            if self.ledger.is_compared:
                self.ledger.end()
            type(self).seen |= self.ledger.seen
        finally:
            self.ledger.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> type[LedgerMachine]:
    """Give the machine on each store in turn: each run has a file or a schema of its own."""
    if request.param == "sqlite":
        return on_store("SqliteLedgerMachine", lambda folder: SqlitePlace(folder / "journal.db"))
    server = request.getfixturevalue("postgresql_server")
    return on_store("PostgresqlLedgerMachine", lambda _folder: PostgresqlPlace(server))


def on_store(name: str, place_in: PlaceIn) -> type[LedgerMachine]:
    """Make the machine of one store."""
    return type(name, (LedgerMachine,), {"place_in": staticmethod(place_in), "seen": set()})


SHORT = settings(
    max_examples=5, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def test_the_ledger_agrees_with_the_model(machine: type[LedgerMachine]) -> None:
    """Runs of messages, waits and new starts on a store end, step by step, as the model says."""
    run_state_machine_as_test(machine, settings=SHORT)


@pytest.mark.long
def test_the_ledger_agrees_with_the_model_for_long(machine: type[LedgerMachine]) -> None:
    """Very many steps (HUGANG_LEDGER_STEPS) on each store agree with the model."""
    seed = int(os.environ.get("HUGANG_SEED", "1"))
    count = int(os.environ.get("HUGANG_LEDGER_STEPS", "100000"))
    assert take_steps(machine, count, first_seed=seed) >= count
    sys.stdout.write(f"met: {sorted(machine.seen)}\n")
