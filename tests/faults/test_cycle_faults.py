"""Both or neither: two whole nodes and an operator that die at every crossing, over a network that loses and repeats.

Every schedule ends with both ledgers exactly as after an undisturbed run: the same statements, the same counters, the
same payments settled (I14), clearing at zero (I11), the border even (I12).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ledger.errors import LedgerError, Unavailable
from ledger.state import State
from settlement import answers, coordinator
from settlement.book import Book, WindowState
from settlement.coordinator import CycleReport
from settlement.reconcile import Outcome, is_sound, reconcile
from settlement.statements import LEDGERS, ProposalBody, VoteBody, VoteReason
from tests.cycle_fixture import Crash, Pair, Weather
from tests.settlement_fixture import NETWORK_HASH, World, key_of, uetr_of

pytestmark = pytest.mark.anyio

RUNS_MAX = 200
COUNTERS = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"]


def busy_world() -> World:
    """Give a world with payments both ways, one of them with FX, one astray, all in the first window."""
    world = World.funded()
    world.quote(sell="HKD", maximum=1_000_000, buy="CNY", rate="1.08430000")
    for customer, payee, amount in (("ann", "dan", 500), ("ben", "eva", 700), ("ann", "eva", 11)):
        world.sh.pay(customer, world.payment(f"SH/WALLET.{customer}", f"HK/WALLET.{payee}", amount))
    fx = {"creditor_asset": "HKD", "quote": uetr_of("quote")}
    world.sh.pay("cai", world.payment("SH/WALLET.cai", "HK/WALLET.eva", 10_000, **fx))
    astray = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 3) | {"uetr": uetr_of("astray")}
    world.sh.pay("ann", astray | {"creditor": world.address("HK/CLEARING.GAMMA")})
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "HK/WALLET.eva", 40, "HKD"))
    return world


def picture(pair: Pair) -> dict[str, object]:
    """Say how everything stands: counters, payments, statements; on both ledgers."""
    found: dict[str, object] = {}
    for ledger, node in pair.nodes.items():
        node.machine.state.check()
        found[f"{ledger} counters"] = node.machine.state.accounts[COUNTERS].tolist()
        for number, window in node.book.windows.items():
            found[f"{ledger} {number}"] = (
                window.state.value,
                window.attempt,
                window.outgoing.states.tolist(),
                window.incoming.states.tolist(),
                dict(window.statements),
            )
    return found


def findings(pair: Pair) -> list[Outcome]:
    """Reconcile both ledgers and give the outcomes."""
    found = reconcile({ledger: (node.machine, node.book) for ledger, node in pair.nodes.items()})
    assert is_sound(found), [finding for finding in found if finding.outcome is Outcome.BROKEN]
    return [finding.outcome for finding in found]


async def finish(
    pair: Pair, windows: range, ports: dict[str, Weather], *, patience: int = RUNS_MAX, reverse: bool = False
) -> list[CycleReport]:
    """Run the operator again and again, opening dead nodes, until the windows are settled."""
    reports = []
    for window in windows:
        for _ in range(patience):
            try:
                reports.append(await pair.settle(window, ports))
                break
            except Unavailable:
                order = reversed(LEDGERS) if reverse else LEDGERS
                for ledger in order:
                    if pair.nodes[ledger].is_dead or pair.nodes[ledger].writer.failure is not None:
                        await pair.reopen(ledger)
                findings(pair)
        else:
            pytest.fail(f"window {window} was not settled in {patience} runs")
    return reports


async def undisturbed(world: World, windows: range) -> dict[str, object]:
    """Give the picture after a run without any fault."""
    async with Pair.make(world) as pair:
        await finish(pair, windows, pair.ports(), patience=1)
        assert set(findings(pair)) == {Outcome.OK}
        return picture(pair)


@dataclass
class Killer:
    """Kills a node at the n-th crossing from now on, once."""

    at: int
    crossed: list[str] = field(default_factory=list)

    def __call__(self, point: str) -> bool:
        """Say whether to die here."""
        self.crossed.append(point)
        return len(self.crossed) == self.at


async def kill_once(world: World, ledger: str, at: int, expected: dict[str, object]) -> str | None:
    """Kill a node at one crossing of the cycle and finish; give where it died, ``None`` if it lived to the end."""
    async with Pair.make(world) as pair:
        killer = Killer(at)
        pair.nodes[ledger].kill_at = killer
        await finish(pair, range(1, 3), pair.ports())
        assert picture(pair) == expected, f"killed {ledger} at crossing {at}: {killer.crossed[-1]}"
        assert set(findings(pair)) == {Outcome.OK}
        return killer.crossed[at - 1] if len(killer.crossed) >= at else None


@pytest.mark.faults
@pytest.mark.parametrize("ledger", LEDGERS)
async def test_a_node_may_die_at_every_crossing(ledger: str) -> None:
    """Whichever crossing of two cycles a node dies at, both ledgers end as if nothing had happened (I14)."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 3))
    points = []
    for at in itertools.count(1):
        point = await kill_once(world, ledger, at, expected)
        if point is None:
            break
        points.append(point)
    wanted = {"conduct.before_list", "conduct.before_acceptance", "conduct.before_vote", "conduct.before_decision"}
    assert wanted | {"conduct.after_own", "conduct.before_deliver", "conduct.after_deliver"} <= set(points)
    assert {"writer.before_commit", "writer.after_commit", "store.before_commit", "store.after_commit"} <= set(points)


@pytest.mark.parametrize("point", ["conduct.before_decision", "store.before_commit", "store.after_commit"])
async def test_a_decider_may_die_around_finality(point: str) -> None:
    """Killed right before or after the block of the decision, the last voter decides once."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 2))
    async with Pair.make(world) as pair:
        last, seen = pair.nodes["SH"], []

        def at_decision(crossed: str) -> bool:
            seen.append(crossed)
            return crossed == point and "conduct.before_decision" in seen

        last.kill_at = at_decision
        await finish(pair, range(1, 2), pair.ports())
        assert pair.nodes["SH"] is not last
        assert picture(pair) == expected


@pytest.mark.faults
@pytest.mark.parametrize("fate", ["lost", "answer lost"])
async def test_the_operator_may_die_at_every_call(fate: str) -> None:
    """An operator that dies before or after any call, and forgets everything, is followed by one that finishes."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 2))
    for at in itertools.count(1):
        calls = itertools.count(1)

        def once(calls: itertools.count[int] = calls, at: int = at) -> str:
            return fate if next(calls) == at else "pass"

        async with Pair.make(world) as pair:
            ports = {ledger: Weather(pair, ledger, once) for ledger in LEDGERS}
            await finish(pair, range(1, 2), ports)
            assert picture(pair) == expected, f"call {at}"
            if next(calls) <= at:
                break
    assert at > 10


def storm(seed: int, *, dies: bool) -> tuple[random.Random, Callable[[], str], Callable[[str], bool]]:
    """Give a seeded weather: a tenth of all calls fails one way or the other, and nodes die now and then."""
    chance = random.Random(seed)

    def fate() -> str:
        return chance.choices(("pass", "lost", "answer lost"), (18, 1, 1))[0]

    def kill(_: str) -> bool:
        return dies and chance.random() < 0.005

    return chance, fate, kill


async def weather_run(seed: int, world: World, expected: dict[str, object]) -> None:
    """Run two cycles in a storm; everything old is delivered again in between."""
    chance, fate, kill = storm(seed, dies=True)
    async with Pair.make(world) as pair:
        for ledger in LEDGERS:
            pair.nodes[ledger].kill_at = kill
        ports = {ledger: Weather(pair, ledger, fate, repeats=True) for ledger in LEDGERS}
        await finish(pair, range(1, 3), ports, reverse=chance.random() < 0.5)
        assert picture(pair) == expected, f"seed {seed}"
        assert set(findings(pair)) == {Outcome.OK}, f"seed {seed}"


async def test_a_storm_changes_nothing() -> None:
    """Lost, repeated and late messages and dying nodes leave both ledgers as without them."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 3))
    for seed in range(5):
        await weather_run(seed, world, expected)


@pytest.mark.faults
@pytest.mark.parametrize("first_seed", range(0, 100, 25))
async def test_many_storms_change_nothing(first_seed: int) -> None:
    """A hundred seeded storms leave both ledgers as without them."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 3))
    for seed in range(first_seed, first_seed + 25):
        await weather_run(1_000 + seed, world, expected)


async def test_two_operators_do_no_harm() -> None:
    """Two operators that run at once over the same nodes settle the window once."""
    world = busy_world()
    expected = await undisturbed(world, range(1, 2))
    async with Pair.make(world) as pair:
        runs = await asyncio.gather(*(pair.settle(1) for _ in range(3)), return_exceptions=True)
        assert any(isinstance(run, CycleReport) for run in runs)
        for run in runs:
            assert isinstance(run, CycleReport | LedgerError)
        await finish(pair, range(1, 2), pair.ports())
        assert picture(pair) == expected


async def test_a_decision_on_its_way_is_reported_as_such() -> None:
    """Between the last voter's block and its arrival the ledgers differ by one window, in flight and not broken."""
    async with Pair.make(busy_world()) as pair:
        calls = itertools.count(1)
        deliveries = {"HK": lambda: "pass" if next(calls) < 7 else "lost"}
        ports = {ledger: Weather(pair, ledger, deliveries.get(ledger, lambda: "pass")) for ledger in LEDGERS}
        while pair.nodes["SH"].book.windows[1].state is not WindowState.SETTLED:
            try:
                await pair.settle(1, ports)
            except Unavailable:
                break
        states = {ledger: pair.nodes[ledger].book.windows[1].state for ledger in LEDGERS}
        assert states == {"SH": WindowState.SETTLED, "HK": WindowState.VOTED}
        found = reconcile({ledger: (node.machine, node.book) for ledger, node in pair.nodes.items()})
        assert is_sound(found)
        in_flight = {(finding.invariant, finding.subject) for finding in found if finding.outcome is Outcome.IN_FLIGHT}
        assert in_flight == {("I14", "window 1"), ("I12", "CNY")}
        await finish(pair, range(1, 2), pair.ports())
        assert set(findings(pair)) == {Outcome.OK}


# --- aborts -----------------------------------------------------------------------------------------------------------


@dataclass
class Reluctant:
    """Makes a ledger's votes no in the first attempts of the first window."""

    ledger: str
    attempts: int
    honest: Callable[..., VoteBody] = answers.vote_of

    def __call__(self, book: Book, state: State, proposal: ProposalBody, **more: Any) -> VoteBody:
        """Vote as the node would, or short of funds."""
        if (book.ledger, proposal.window) == (self.ledger, 1) and proposal.attempt <= self.attempts:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(answers, "shortage", lambda *_: VoteReason.FUNDS_SHORT)
                return self.honest(book, state, proposal, **more)
        return self.honest(book, state, proposal, **more)


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_aborts_are_followed_by_the_next_attempt(
    ledger: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts that either side refuses are aborted on both; after three of them nothing settles and all is carried."""
    monkeypatch.setattr(answers, "vote_of", Reluctant(ledger, attempts))
    async with Pair.make(busy_world()) as pair:
        report = await pair.settle(1)
        assert report.window.attempt == attempts + 1
        is_empty = attempts == coordinator.ATTEMPTS_TO_SETTLE
        assert (report.window.settled, report.window.carried_out) == ((0, 4) if is_empty else (4, 0))
        assert report.window.nets == () if is_empty else report.window.nets
        assert set(findings(pair)) == {Outcome.OK}
        second = await pair.settle(2)
        assert second.window.settled == (4 if is_empty else 0)


@pytest.mark.faults
@pytest.mark.parametrize("ledger", LEDGERS)
async def test_aborting_nodes_may_die_anywhere(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm over cycles with aborted attempts ends as calm weather does."""
    monkeypatch.setattr(answers, "vote_of", Reluctant(ledger, 1))
    world = busy_world()
    expected = await undisturbed(world, range(1, 3))
    for seed in range(15):
        await weather_run(2_000 + seed, world, expected)


async def test_too_many_rounds_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator whose attempts are all refused gives up for now, and a later run finishes."""
    monkeypatch.setattr(coordinator, "ROUNDS_MAX", 2)
    with monkeypatch.context() as patched:
        patched.setattr(answers, "vote_of", Reluctant("HK", 2))
        async with Pair.make(busy_world()) as pair:
            with pytest.raises(Unavailable, match="CYCLE_UNDECIDED"):
                await pair.settle(1)
            report = await pair.settle(1)
            assert report.window.attempt == 3


# --- recovery without being told the window ---------------------------------------------------------------------------


async def recover(pair: Pair) -> CycleReport | None:
    """Run the operator's recovery."""
    return await coordinator.recover(
        pair.ports(), key=key_of("SETTLEMENT"), network_hash=NETWORK_HASH, runtime=pair.nodes["SH"].runtime
    )


async def test_recovery_finds_what_waits() -> None:
    """After a start the operator finishes the window that is closed and not settled everywhere, and only that."""
    async with Pair.make(busy_world()) as pair:
        assert await recover(pair) is None
        for at in range(1, 14):
            calls = itertools.count(1)

            def once(calls: itertools.count[int] = calls, at: int = at) -> str:
                return "answer lost" if next(calls) == at else "pass"

            window = pair.nodes["SH"].book.current
            ports = {ledger: Weather(pair, ledger, once) for ledger in LEDGERS}
            with pytest.raises(Unavailable):
                await pair.settle(window, ports)
            found = await recover(pair)
            assert found is None or found.window.window == window
            assert pair.nodes["SH"].book.current == pair.nodes["HK"].book.current
            assert await recover(pair) is None
            assert set(findings(pair)) == {Outcome.OK}


async def test_a_crash_is_not_an_error_to_catch() -> None:
    """A simulated death passes through every handler of the code under test."""
    assert not issubclass(Crash, Exception)
