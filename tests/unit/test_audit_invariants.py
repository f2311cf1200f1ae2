"""A journal that its node signed and that breaks an invariant: the verifier names it, and never breaks on it."""

from __future__ import annotations

import dataclasses
import io

import pytest

from ledger.audit import verify
from ledger.errors import IntegrityFailure, InvariantViolation
from ledger.exports import ExportFile
from ledger.machine import Admitted, Context
from ledger.replay import Follower
from ledger.runtime import SECOND_NS
from tests.ledger_fixture import START_S, FixtureInterpreter
from tests.unit.test_audit import CHAIN, EXPORT, RUNTIME, lie, lying_chain, payment, sealed


@pytest.mark.parametrize("timestamp_ns", [2**62, 2**62 + 1, 2**63 - 1])
def test_a_block_with_an_impossible_time_is_refused(timestamp_ns: int) -> None:
    """A signed time that no block can bear is refused by name and place; the verifier does not break on it."""
    failure = lie(2, [payment()], lambda draft: dataclasses.replace(draft, timestamp_ns=timestamp_ns), at_s=3)
    first = CHAIN.blocks[2].header.first_position
    assert (failure.code, failure.block, failure.position) == ("BLOCK_TIME", 3, first)


def test_an_impossible_time_changes_nothing() -> None:
    """Money, tree and height of the machine that refuses such a header are what they were before."""
    chain, machine = lying_chain(2), lying_chain(2).machine
    draft = dataclasses.replace(chain.draft([payment()], (START_S + 3) * SECOND_NS), timestamp_ns=2**62)
    block = sealed(draft, chain.machine.grow(draft))
    before = (machine.state.money_digest(), machine.frontier.root(), machine.height, machine.position)

    follower = Follower(machine, check_signatures=True)
    with pytest.raises(IntegrityFailure, match="BLOCK_TIME"):
        follower.follow(follower.prepare(block.encoded))

    assert (machine.state.money_digest(), machine.frontier.root(), machine.height, machine.position) == before


class Breaking(FixtureInterpreter):
    """An interpreter for which one message of the reference chain breaks an invariant."""

    def execute(self, admitted: Admitted, context: Context) -> None:
        """Carry out as ever, but for the first message of block 3."""
        if context.position == CHAIN.blocks[2].header.first_position:
            raise InvariantViolation("I3: a counter")
        super().execute(admitted, context)


class Unsound(FixtureInterpreter):
    """An interpreter that leaves a counter wrong in the last block with messages, where no record shows it."""

    def execute(self, admitted: Admitted, context: Context) -> None:
        """Carry out as ever, and then add to one side of one account."""
        super().execute(admitted, context)
        if context.machine.height + 1 == max(block.header.height for block in CHAIN.blocks if block.entries):
            context.state.account_rows["debits_posted"][2] += 1


@pytest.mark.parametrize(
    ("interpreter", "code", "block", "position"),
    [
        (Breaking, "BLOCK_IMPOSSIBLE", 3, CHAIN.blocks[2].header.first_position),
        (Unsound, "STATE_UNSOUND", len(CHAIN.blocks), None),
    ],
)
def test_a_broken_invariant_is_a_finding_of_the_verifier(
    interpreter: type[FixtureInterpreter], code: str, block: int, position: int | None
) -> None:
    """What breaks an invariant in a journal of somebody else is named with its block like all other damage."""
    with pytest.raises(IntegrityFailure) as caught:
        verify(ExportFile(io.BytesIO(EXPORT)), interpreter_factory=interpreter, runtime=RUNTIME)
    assert (caught.value.code, caught.value.block, caught.value.position) == (code, block, position)
