"""Exports of two moments: the older one is named, what both have is checked, and a contradiction stays one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ledger.messages import Message
from settlement.book import PEER, WindowState
from settlement.chart import AccountCode
from settlement.reconcile import Finding, Older, Outcome, Reach, find_older, is_sound, reconcile
from settlement.statements import LEDGERS, CloseBody, VoteReason
from tests.cycle_steps import Steps, world_with_payments
from tests.settlement_fixture import Node, World

Block = tuple[int, tuple[Message, ...]]


class Noted(list[Block]):
    """A node's blocks; each is noted in the order of both ledgers when it is made."""

    def __init__(self, ledger: str, blocks: list[Block], order: list[str]) -> None:
        super().__init__(blocks)
        self.ledger, self.order = ledger, order

    def append(self, block: Block) -> None:
        """Note whose it is."""
        super().append(block)
        self.order.append(self.ledger)


@dataclass
class Story:
    """Windows settled one after another: both journals, and the order in which their blocks were made.

    ``first`` is, by ledger, the number of blocks before the first window closes.
    """

    world: World
    order: list[str]
    first: dict[str, int]

    def moments(self, ledger: str) -> list[int]:
        """Give the moment at which each block of a ledger was made."""
        early = [0] * self.first[ledger]
        return early + [1 + moment for moment, at in enumerate(self.order) if at == ledger]


@functools.cache
def story() -> Story:
    """Settle five windows: payments both ways, one left out and carried, an attempt aborted, none at all, and one open.

    The last window is closed, listed and accepted, and no more.
    """
    world = world_with_payments()
    order: list[str] = []
    first = {ledger: len(world.node(ledger).blocks) for ledger in LEDGERS}
    for node in world.nodes:
        node.blocks = Noted(node.ledger, node.blocks, order)
    one = Steps(world, 1).to_acceptance()
    one.propose(one.proposal(leave_out={"SH": [0]}))
    one.vote()
    one.decide()
    world.hk.pay("FX", world.payment("HK/POSITION.FX", "SH/WALLET.ann", 7_00))
    two = Steps(world, 2).to_acceptance()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("settlement.answers.shortage", lambda *_: VoteReason.BORDER_SHORT)
        two.propose()
        two.vote()
    two.decide()
    two.propose(two.proposal(2))
    two.vote()
    two.decide()
    Steps(world, 3).to_decision()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 11_00))
    Steps(world, 4).to_decision()
    Steps(world, 5).to_acceptance()
    return Story(world, order, first)


@functools.cache
def cut(ledger: str, count: int) -> Node:
    """Give a ledger as an export of its first blocks shows it."""
    node = Node.of(ledger)
    for timestamp_ns, block in story().world.node(ledger).blocks[:count]:
        node.apply(block, at_ns=timestamp_ns)
    return node


def counts(ledger: str) -> range:
    """Give every number of blocks from the first close on."""
    return range(story().first[ledger], len(story().world.node(ledger).blocks) + 1)


def compared(*nodes: Node) -> tuple[list[Finding], Older | None]:
    """Reconcile two exports."""
    sides = {node.ledger: (node.machine, node.book) for node in nodes}
    return reconcile(sides), find_older(sides)


def at(ledger: str, name: str, window: int) -> Node:
    """Give a ledger as it was just after it journaled a statement of a window."""
    for count in counts(ledger):
        found = cut(ledger, count).book.windows.get(window)
        if found is not None and name in found.statements:
            return cut(ledger, count)
    raise LookupError(name)


def whole(ledger: str) -> Node:
    """Give a ledger at the end of the story."""
    return cut(ledger, counts(ledger)[-1])


# --- every pair of moments --------------------------------------------------------------------------------------------


def test_no_two_moments_look_like_a_contradiction() -> None:
    """Whenever each export was taken the pair is sound, and one called older is older, never one of the same moment."""
    moments = {ledger: story().moments(ledger) for ledger in LEDGERS}
    end = len(story().order) + 1
    named = 0
    for shanghai in counts("SH"):
        for hong_kong in counts("HK"):
            found, older = compared(cut("SH", shanghai), cut("HK", hong_kong))
            assert is_sound(found), (shanghai, hong_kong, found)
            assert (older is not None) is any(item.outcome is Outcome.NOT_YET for item in found)
            ended = {"SH": shanghai, "HK": hong_kong}
            last = {ledger: moments[ledger][count - 1] for ledger, count in ended.items()}
            missing = {at: next(iter(moments[at][count:]), end) for at, count in ended.items()}
            one_moment = max(last.values()) < min(missing.values())
            assert older is None or not one_moment
            if older is not None:
                assert missing[older.ledger] <= last[older.newer]
                named += 1
    assert named > 100


def test_exports_windows_apart_are_always_told_apart() -> None:
    """Whatever each export has of its last window, one that is two windows behind the other is called older."""
    for shanghai in counts("SH"):
        for hong_kong in counts("HK"):
            nodes = cut("SH", shanghai), cut("HK", hong_kong)
            behind, ahead = sorted(nodes, key=lambda node: node.book.current)
            if ahead.book.current - behind.book.current < 2:
                continue
            _, older = compared(*nodes)
            assert older is not None
            assert (older.ledger, older.newer) == (behind.ledger, ahead.ledger)


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", LEDGERS)
def test_the_older_export_is_named_with_how_far_each_has_come(ledger: str) -> None:
    """The older one, the newer one, how far each has come, and that what the older one's node has signed proves it."""
    old, new = at(ledger, "acceptance/SH", 2), whole(PEER[ledger])
    found, older = compared(old, new)
    reached = {ledger: Reach(2, old.book.windows[2].state, 0), new.ledger: Reach(5, WindowState.ACCEPTED, 0)}
    assert older == Older(ledger, new.ledger, reached, is_signed=True)
    outcomes = {item.subject: item.outcome for item in found if item.invariant == "I14"}
    assert outcomes == {
        "window 1": Outcome.OK,
        "window 2": Outcome.NOT_YET,
        "window 3": Outcome.NOT_YET,
        "window 4": Outcome.NOT_YET,
        "window 5": Outcome.NOT_YET,
    }


def test_an_attempt_that_is_being_voted_on_is_named() -> None:
    """An export that ends in a window's second attempt says so."""
    _, older = compared(at("SH", "proposal/--/2", 2), whole("HK"))
    assert older is not None
    assert older.reached["SH"] == Reach(2, WindowState.NETTED, 2)


def test_an_export_before_the_first_window() -> None:
    """An export that has closed no window yet is the older one of any other, and its sentence counts to none."""
    found, older = compared(cut("SH", story().first["SH"]), whole("HK"))
    assert older is not None
    assert older.reached["SH"] == Reach(0, WindowState.OPEN, 0)
    assert "SH's export has 0 of its 9 statements" in next(
        item.sentence for item in found if item.subject == "window 1"
    )


def test_a_node_that_has_not_heard_of_a_decision() -> None:
    """Where one ledger has closed the next window and the other lacks the last decision, no signature proves it."""
    found, older = compared(at("SH", "close", 4), at("HK", "vote/SH/1", 3))
    reached = {"SH": Reach(4, WindowState.CLOSED, 0), "HK": Reach(3, WindowState.VOTED, 1)}
    assert older == Older("HK", "SH", reached, is_signed=False)
    assert {item.outcome for item in found if item.invariant == "I14"} == {Outcome.OK, Outcome.NOT_YET}


def test_the_border_differs_by_exactly_what_the_older_export_has_not() -> None:
    """OMNIBUS and MIRROR of two moments are explained by the windows between, to the last fen."""
    found, _ = compared(at("SH", "close", 2), whole("HK"))
    border = {item.subject: item for item in found if item.invariant == "I12"}
    assert border["CNY"].outcome is Outcome.NOT_YET
    assert border["CNY"].amounts["OMNIBUS"] < border["CNY"].amounts["MIRROR"]


# --- contradictions ---------------------------------------------------------------------------------------------------


def bend_mirror(old: Node, new: Node) -> None:
    """Have one fen more abroad than the windows between explain."""
    rows = new.machine.state.account_rows
    rows["debits_posted"][new.book.institution[AccountCode.MIRROR, 1]] += 1


def other_statement(old: Node, new: Node) -> None:
    """Have the older export hold another close of a window that both hold."""
    steps = Steps(World())
    old.book.windows[2].statements["close"] = steps.say("--", CloseBody(9))


def more_than_the_newer(old: Node, new: Node) -> None:
    """Have the older export hold a statement of a settled window that the newer one lacks."""
    statements = old.book.windows[2].statements
    statements["vote/SH/9"] = statements["list/SH"]


def unsettled_before_another(old: Node, new: Node) -> None:
    """Have the newer export settled a later window without an earlier one."""
    new.book.windows[2].state = WindowState.NETTED


def each_lacks_its_own(old: Node, new: Node) -> None:
    """Have each export hold what the other's node has signed and the other's export lacks."""
    old.book.windows[2].statements["vote/HK/7"] = old.book.windows[2].statements["list/HK"]


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (bend_mirror, ("I12", "CNY")),
        (other_statement, ("I14", "window 2")),
        (more_than_the_newer, ("I14", "window 2")),
        (unsettled_before_another, ("I14", "window 2")),
        (each_lacks_its_own, ("I14", "both ledgers")),
    ],
)
def test_a_contradiction_of_two_moments(harm: Callable[[Node, Node], None], named: tuple[str, str]) -> None:
    """Whatever the windows between do not explain is broken, not older."""
    old, new = at("SH", "acceptance/HK", 2).replayed(), whole("HK").replayed()
    harm(old, new)
    found, _ = compared(old, new)
    broken = [(item.invariant, item.subject) for item in found if item.outcome is Outcome.BROKEN]
    assert named in broken


def test_an_older_export_that_has_settled_more() -> None:
    """An export that ends earlier, and has settled a window that the other one has not, is broken."""
    old, new = at("HK", "decision/HK/2", 2), whole("SH").replayed()
    new.book.windows[2] = at("SH", "vote/HK/2", 2).book.windows[2]
    found, older = compared(old, new)
    assert older is not None
    assert older.ledger == "HK"
    assert ("window 2", Outcome.BROKEN) in [(item.subject, item.outcome) for item in found]
