"""Old balances over settled windows: what ends groups of holds fits the records around it, for every account."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from ledger.asof import Counters, counters_as_of, counters_now
from ledger.machine import Draft, Machine
from ledger.points import POINT_INTERVAL
from tests.settlement_fixture import World
from tests.unit.test_asof import Points


class Watched:
    """What one ledger's blocks left: records and points, and every account's counters after each block."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self.points = Points()
        self.records: dict[int, np.void] = {}
        self.seen: dict[int, list[Counters]] = {}

    def add(self, machine: Machine, draft: Draft) -> None:
        """Take a block."""
        position, row = draft.first_position, draft.expired_count
        for index in range(draft.expired_count):
            self.records[position + index] = draft.transfers[index]
        position += draft.expired_count
        for entry in draft.entries:
            for index in range(entry.count):
                self.records[position + 1 + index] = draft.transfers[row + index]
            position, row = position + 1 + entry.count, row + entry.count
        self.points.add(draft.points)
        numbers = range(1, machine.state.account_count + 1)
        self.seen[position - 1] = [counters_now(machine.state.account(number)) for number in numbers]


def test_no_settled_window_makes_points_look_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """After windows that settle and carry, each account of both ledgers has its old balance at every position."""
    watched: dict[Machine, Watched] = defaultdict(Watched)
    plain = Machine.apply

    def apply(machine: Machine, *args: object, **kwargs: object) -> Draft:
        draft = plain(machine, *args, **kwargs)  # type: ignore[arg-type]
        watched[machine].add(machine, draft)
        return draft

    monkeypatch.setattr(Machine, "apply", apply)
    world = World.everywhere()
    for window in range(5):
        sent = []
        for amount in range(100, 115):
            there = world.payment("SH/WALLET.ann", "HK/WALLET.dan", amount + window)
            back = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 50)
            world.sh.pay("ann", there)
            world.hk.pay("dan", back)
            sent.append(there["uetr"])
        world.settle(sent[:3] if window % 2 else [])
    world.settle()

    for machine, journal in watched.items():
        for number in range(1, machine.state.account_count + 1):
            now = counters_now(machine.state.account(number))
            for position in range(machine.position):
                found = counters_as_of(
                    number, position, points=journal.points, now=now, record=journal.records.__getitem__
                )
                if position in journal.seen and number <= len(journal.seen[position]):
                    assert found == journal.seen[position][number - 1], (number, position)
    assert len(watched) == 2
    assert sum(len(rows) for journal in watched.values() for rows in journal.points.rows.values()) > POINT_INTERVAL
