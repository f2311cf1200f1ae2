"""Very many steps of a state machine: run after run under seeds that follow from one, until enough steps were taken."""

from __future__ import annotations

import itertools
import sys

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

__all__ = ["take_steps"]

RUN_COUNT_MAX = 500
"""Runs under one seed; after each seed it says how far it has come."""


def take_steps(machine: type[RuleBasedStateMachine], count: int, *, first_seed: int, steps_a_run: int = 100) -> int:
    """Run a machine until its invariants were checked ``count`` times, and say so with the seeds; gives the number."""

    class Counted(machine):  # type: ignore[misc,valid-type]
        taken = 0

        @invariant()
        def counts(self) -> None:
            """Count a step."""
            Counted.taken += 1

    for number in itertools.count(first_seed):
        seed(number)(Counted)
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=min(RUN_COUNT_MAX, 1 + (count - Counted.taken) // steps_a_run),
                stateful_step_count=steps_a_run,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
        sys.stdout.write(f"{machine.__name__}: {Counted.taken:,} steps, seeds {first_seed} to {number}\n")
        sys.stdout.flush()
        if Counted.taken >= count:
            return Counted.taken
    raise AssertionError("counting ends")
