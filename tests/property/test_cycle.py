"""Random windows over two whole nodes with scarce liquidity, against a model that only adds up what settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.messages import Message
from ledger.transfers import id_of
from settlement import certificate
from settlement.book import PEER, PaymentState
from settlement.port import PositionsView
from settlement.reconcile import Outcome, reconcile
from settlement.statements import LEDGERS
from tests.cycle_fixture import Pair, Weather
from tests.settlement_fixture import World, genesis_of, uetr_of

CUSTOMERS = {"SH": ("ann", "ben", "cai"), "HK": ("dan", "eva")}
QUOTES = {"CNY": ("HKD", "1.08430000"), "HKD": ("CNY", "0.92000000")}
ENDED = {PaymentState.SETTLED, PaymentState.CARRIED, PaymentState.REJECTED}


@dataclass(frozen=True)
class Payment:
    """One payment across the border: ``bought`` is what the payee gets, in another asset if ``asset`` differs."""

    uetr: str
    payer: str
    payee: str
    asset: str
    creditor_asset: str
    amount: int

    @property
    def bought(self) -> int:
        """What the payee gets, by the rate of the quote, rounded down."""
        if self.asset == self.creditor_asset:
            return self.amount
        digits = QUOTES[self.asset][1].replace(".", "")
        return self.amount * int(digits) // 10**8


@dataclass
class Stingy(Weather):
    """A port that tells the operator of less money than there is; ``budgets`` are dealt out to the slots in turn."""

    budgets: Sequence[int] = field(default=())

    async def positions(self, number: int) -> PositionsView:
        """Give positions with the budgets as available balances."""
        view = await super().positions(number)
        if not self.budgets:
            return view
        slots = tuple(
            msgspec.structs.replace(slot, available=min(slot.available, self.budgets[place % len(self.budgets)]))
            if slot.available is not None
            else slot
            for place, slot in enumerate(view.slots)
        )
        return msgspec.structs.replace(view, slots=slots)


# One minor unit of HKD is less than one of CNY and would be refused.
payment_plans = st.tuples(
    st.sampled_from(LEDGERS),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from((("CNY", "CNY"), ("CNY", "HKD"), ("HKD", "CNY"))),
    st.integers(2, 900),
)
window_plans = st.tuples(st.lists(payment_plans, max_size=8), st.lists(st.integers(0, 900), max_size=4))


def make_payments(world: World, plans: Sequence[tuple[str, int, int, tuple[str, str], int]]) -> list[Payment]:
    """Have customers send what was planned, as far as the chart allows; Shanghai has no HKD."""
    made = []
    for ledger, payer, payee, assets, amount in plans:
        peer = PEER[ledger]
        in_shanghai = assets[0] if ledger == "SH" else assets[1]
        asset, creditor_asset = assets if in_shanghai == "CNY" else ("CNY", "CNY")
        names = [CUSTOMERS[at][index % len(CUSTOMERS[at])] for at, index in ((ledger, payer), (peer, payee))]
        more = {} if asset == creditor_asset else {"creditor_asset": creditor_asset, "quote": uetr_of(f"buy {asset}")}
        body = world.payment(f"{ledger}/WALLET.{names[0]}", f"{peer}/WALLET.{names[1]}", amount, asset, **more)
        world.node(ledger).pay(names[0], body)
        made.append(Payment(body["uetr"], f"{ledger}/{names[0]}", f"{peer}/{names[1]}", asset, creditor_asset, amount))
    return made


def outcomes(pair: Pair) -> dict[str, Counter[PaymentState]]:
    """Count, for each payment by UETR, the states it has been in over all windows, the same on both ledgers."""
    found: dict[str, Counter[PaymentState]] = {}
    for ledger in LEDGERS:
        here, there = pair.nodes[ledger].book, pair.nodes[PEER[ledger]].book
        for number, window in here.windows.items():
            mine, theirs = (
                {
                    f"{id_of(row['uetr_hi'], row['uetr_lo']):032x}": PaymentState(int(state))
                    for row, state in zip(table.rows, table.states, strict=True)
                    if state != PaymentState.REFUSED
                }
                for table in (window.outgoing, there.windows[number].incoming)
            )
            if number < here.current:
                assert mine == theirs
            for uetr, state in mine.items():
                found.setdefault(uetr, Counter())[state] += 1
    return found


def balances(pair: Pair) -> dict[tuple[str, str], int]:
    """Give the customers' balances."""
    return {
        (f"{ledger}/{name}", asset): pair.balance(f"{ledger}/WALLET.{name}", asset)
        for ledger, names in CUSTOMERS.items()
        for name in names
        for asset in (("CNY",) if ledger == "SH" else ("CNY", "HKD"))
    }


def held_by(payments: Sequence[Payment], states: dict[str, Counter[PaymentState]]) -> tuple[list[Payment], int]:
    """Give the payments that settled, and how many did not."""
    settled = [payment for payment in payments if states[payment.uetr.replace("-", "")][PaymentState.SETTLED]]
    return settled, len(payments) - len(settled)


def check_against_model(
    pair: Pair, before: dict[tuple[str, str], int], payments: list[Payment]
) -> tuple[list[Payment], int]:
    """Customers hold what they held, less what they paid and more what they were paid; nothing settles twice."""
    states = outcomes(pair)
    settled, waiting = held_by(payments, states)
    expected = dict(before)
    for payment in settled:
        assert states[payment.uetr.replace("-", "")][PaymentState.SETTLED] == 1
        expected[payment.payer, payment.asset] -= payment.amount
        expected[payment.payee, payment.creditor_asset] += payment.bought
    assert balances(pair) == expected
    found = reconcile({ledger: (node.machine, node.book) for ledger, node in pair.nodes.items()})
    assert {finding.outcome for finding in found} == {Outcome.OK}
    for node in pair.nodes.values():
        node.machine.state.check()
    return settled, waiting


async def run(windows: Sequence[tuple[Sequence[tuple[str, int, int, tuple[str, str], int]], Sequence[int]]]) -> int:
    """Play windows with scarce liquidity, then one with enough; gives how many payments had to wait."""
    world = World.everywhere()
    for asset, (sell, rate) in QUOTES.items():
        world.quote(sell=sell, maximum=10_000_000, buy=asset, rate=rate, name=f"buy {asset}")
    async with Pair.make(world) as pair:
        before = balances(pair)
        first = pair.nodes["SH"].book.current
        payments: list[Payment] = []
        waited = 0
        for number, (plans, budgets) in enumerate([*windows, ((), ())], start=first):
            payments += make_payments(world, plans)
            await pair.catch_up()
            ports = {ledger: Stingy(pair, ledger, budgets=budgets) for ledger in LEDGERS}
            report = await pair.settle(number, ports)
            settled, waiting = check_against_model(pair, before, payments)
            assert sum(direction.carried_out for direction in report.window.directions.values()) == waiting
            waited += waiting
        assert len(settled) == len(payments)
        statements: list[dict[str, Message]] = [
            await pair.nodes["HK"].conduct.statements(number) for number in range(1, pair.nodes["HK"].book.current)
        ]
        certificate.verify_chain([certificate.build(each) for each in statements], (genesis_of("SH"), genesis_of("HK")))
        return waited


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(window_plans, min_size=1, max_size=3))
def test_windows_add_up(windows: list[tuple[list[tuple[str, int, int, tuple[str, str], int]], list[int]]]) -> None:
    """Whatever is paid and however scarce liquidity is said to be, balances are what the settled payments give."""
    asyncio.run(run(windows))


@pytest.mark.long
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(window_plans, min_size=2, max_size=5))
def test_many_windows_add_up(windows: list[tuple[list[tuple[str, int, int, tuple[str, str], int]], list[int]]]) -> None:
    """The same over more and longer runs."""
    asyncio.run(run(windows))


def test_scarcity_makes_payments_wait() -> None:
    """The schedules above do reach what they are for: with nothing to pay with, one-way payments are carried."""
    plans = [("SH", 0, 0, ("CNY", "CNY"), 500), ("HK", 1, 1, ("HKD", "CNY"), 300), ("SH", 2, 1, ("CNY", "HKD"), 7)]
    assert asyncio.run(run([(plans, (0,))])) == 3
    assert asyncio.run(run([(plans, (230,))])) == 2
    assert asyncio.run(run([(plans, (450,))])) == 0
