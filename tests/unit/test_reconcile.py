"""Reconciliation: two ledgers that agree are said to agree; every way in which they could differ is named."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ledger.errors import IntegrityFailure
from ledger.machine import Machine
from settlement.book import WindowState
from settlement.chart import AccountCode
from settlement.interpreter import Settlement
from settlement.reconcile import Finding, Outcome, is_sound, reconcile
from settlement.statements import CloseBody, DecisionBody, body_of
from tests.cycle_steps import Steps, TwiceSigned
from tests.settlement_fixture import CREATED_NS, World, genesis_of


@pytest.fixture
def steps() -> Steps:
    """Give a world with one payment in its open window."""
    world = World.funded()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500))
    return Steps(world)


def findings(steps: Steps) -> list[Finding]:
    """Reconcile both ledgers."""
    return reconcile({at: (node.machine, node.book) for at, node in steps.nodes.items()})


def broken(steps: Steps) -> list[tuple[str, str]]:
    """Give what is broken: invariant and subject."""
    found = findings(steps)
    named = [(finding.invariant, finding.subject) for finding in found if finding.outcome is Outcome.BROKEN]
    assert is_sound(found) is (not named)
    return named


def test_agreement_is_said_line_by_line(steps: Steps) -> None:
    """Each ledger, each window and each asset has a line; the open window has none."""
    found = findings(steps.to_decision())
    assert [(finding.invariant, finding.subject) for finding in found] == [
        ("I11", "HK"),
        ("I11", "SH"),
        ("I14", "window 1"),
        ("I12", "CNY"),
        ("I12", "HKD"),
    ]
    assert {finding.outcome for finding in found} == {Outcome.OK}
    assert found[3].amounts == {"OMNIBUS": 500, "MIRROR": 500}


def test_fresh_ledgers_agree() -> None:
    """Two ledgers without a settled window agree."""
    assert broken(Steps(World.funded())) == []


def test_journals_of_two_networks_are_not_compared(steps: Steps) -> None:
    """A journal of another network, though it has the same name and keys, is refused before anything is compared."""
    genesis = msgspec.structs.replace(genesis_of("HK"), created_ns=CREATED_NS + 1)
    settlement = Settlement(genesis)
    stranger = Machine(genesis, settlement, hash_key=bytes(16))
    own = steps.nodes["SH"]
    with pytest.raises(IntegrityFailure, match="GENESIS_PAIR"):
        reconcile({"SH": (own.machine, own.book), "HK": (stranger, settlement.book)})


def test_an_undecided_window_is_in_flight(steps: Steps) -> None:
    """A closed window is in flight until it is decided, wherever it stands."""
    steps.deliver(steps.say("--", CloseBody(1)), ("SH",))
    assert [finding.outcome for finding in findings(steps) if finding.invariant == "I14"] == [Outcome.IN_FLIGHT]
    assert broken(steps) == []


def vote_and_decide_alone(steps: Steps) -> None:
    """Settle at the last voter; the first has voted and hears nothing."""
    steps.to_acceptance()
    steps.propose()
    steps.vote()
    message = steps.say("SH", steps.decision())
    steps.deliver(message, ("SH",))


def test_a_decision_on_its_way_explains_the_border(steps: Steps) -> None:
    """The omnibus account is ahead of its mirror by exactly the window that is on its way."""
    vote_and_decide_alone(steps)
    found = {(finding.invariant, finding.subject): finding for finding in findings(steps)}
    assert found["I14", "window 1"].outcome is Outcome.IN_FLIGHT
    assert found["I12", "CNY"].outcome is Outcome.IN_FLIGHT
    assert found["I12", "HKD"].outcome is Outcome.OK
    assert broken(steps) == []


def test_the_mirror_may_be_ahead_as_well(steps: Steps) -> None:
    """When Hong Kong decides, the mirror is ahead of the omnibus account."""
    steps.to_decision()
    steps.world.sh.pay("ben", steps.world.payment("SH/WALLET.ben", "HK/WALLET.dan", 70))
    second = Steps(steps.world, 2).to_acceptance()
    second.propose()
    second.vote()
    second.deliver(second.say("HK", second.decision()), ("HK",))
    found = {(finding.invariant, finding.subject): finding for finding in findings(second)}
    assert found["I12", "CNY"].outcome is Outcome.IN_FLIGHT
    assert found["I12", "CNY"].amounts == {"OMNIBUS": 500, "MIRROR": 570}


def test_statements_that_were_signed_twice_agree() -> None:
    """One statement under two signatures of its speaker is one statement: no speaker makes two ledgers look broken."""
    world = World.funded()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500))
    steps = TwiceSigned(world).to_decision()
    assert steps.window("SH").statements != steps.window("HK").statements
    assert broken(steps) == []


def bend_border(steps: Steps) -> None:
    """Move a mirror."""
    rows = steps.world.hk.machine.state.account_rows
    rows["debits_posted"][steps.world.hk.book.institution[AccountCode.MIRROR, 1]] += 1


def bend_clearing(steps: Steps) -> None:
    """Leave something in clearing."""
    rows = steps.world.sh.machine.state.account_rows
    rows["debits_posted"][steps.world.sh.account("CLEARING.BETA")] += 1


def lose_statement(steps: Steps) -> None:
    """Forget a statement at one node."""
    steps.window("HK").statements.pop("list/HK")


def change_statement(steps: Steps) -> None:
    """Hold another list at one node."""
    steps.window("HK").statements["list/SH"] = steps.messages["list/HK"]


def forget_window(steps: Steps) -> None:
    """Have one node not settled, and a later window closed at the other."""
    steps.window("HK").state = WindowState.VOTED
    steps.deliver(Steps(steps.world, 2).say("--", CloseBody(2)), ("SH",))


def undecide_last(steps: Steps) -> None:
    """Have the first voter settled and the last one not."""
    steps.window("SH").state = WindowState.VOTED


def unvote(steps: Steps) -> None:
    """Have the last voter settled and the first one never voted."""
    steps.window("HK").state = WindowState.NETTED


def abort(steps: Steps) -> None:
    """Have both settled by an abort."""
    body = body_of(steps.messages["decision/SH/1"], DecisionBody)
    message = steps.say("SH", msgspec.structs.replace(body, commit=False, directions=()))
    for ledger in ("SH", "HK"):
        steps.window(ledger).statements["decision/SH/1"] = message


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (bend_border, [("I12", "CNY")]),
        (bend_clearing, [("I11", "SH")]),
        (lose_statement, [("I14", "window 1")]),
        (change_statement, [("I14", "window 1")]),
        (forget_window, [("I14", "window 1")]),
        (undecide_last, [("I14", "window 1"), ("I12", "CNY")]),
        (unvote, [("I14", "window 1"), ("I12", "CNY")]),
        (abort, [("I14", "window 1")]),
    ],
)
def test_every_difference_is_named(steps: Steps, harm: Callable[[Steps], None], named: list[tuple[str, str]]) -> None:
    """Whatever is changed on one side after the settlement is found, and nothing else is."""
    harm(steps.to_decision())
    assert broken(steps) == named
