"""Old balances: points and walks give what a naive fold over all records gives, at every position."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.asof import Counters, counters_as_of, counters_now, last_as_of
from ledger.errors import IntegrityFailure
from ledger.points import POINT, POINT_INTERVAL
from ledger.state import State
from ledger.transfers import Flag, Result, Transfers
from tests.posting_fixture import CREDIT, NOW, SECOND, Ledger, command, end, state_of
from tests.property.universe import ACCOUNTS, GROUPS, MEMBERS, Log, random_commands

Snapshot = tuple[int, int, int, int]


class Points:
    """All points that were written, found as a table in a database would find them."""

    def __init__(self) -> None:
        """Have none."""
        self.rows: dict[int, list[np.void]] = defaultdict(list)

    def add(self, points: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Keep the points of a block."""
        for row in points:
            self.rows[int(row["account"])].append(row)

    def _place(self, account: int, position: int) -> int:
        return bisect_right([int(row["position"]) for row in self.rows[account]], position)

    def at_or_before(self, account: int, position: int) -> np.void | None:
        """Give the newest point at or before a position."""
        place = self._place(account, position)
        return self.rows[account][place - 1] if place else None

    def after(self, account: int, position: int) -> np.void | None:
        """Give the oldest point after a position."""
        place = self._place(account, position)
        return self.rows[account][place] if place < len(self.rows[account]) else None


class Fold:
    """Counters by position, from every record in order and what groups did: slow, and knows no points."""

    def __init__(self) -> None:
        """Stand before everything."""
        self.counters = {number: [0, 0, 0, 0, 0] for number in range(1, ACCOUNTS + 1)}
        self.holds: dict[tuple[int, int], tuple[int, int, int, list[tuple[int, int]]]] = {}
        self.seen: dict[int, dict[int, Counters]] = {}

    def records(self, first: int, records: Transfers) -> None:
        """Apply records, and remember what every account looks like after each."""
        run: list[tuple[int, int]] = []
        for index, row in enumerate(records):
            member = Flag.PENDING | Flag.GROUP
            if row["flags"] & member != member:
                run = []
            if row["result"] == Result.OK:
                run = self.apply(row, run, last=first + index + 1)
            if not row["flags"] & Flag.LINKED:
                run = []
            self.remember(first + index)

    def apply(self, row: np.void, run: list[tuple[int, int]], *, last: int) -> list[tuple[int, int]]:
        """Apply one record; gives the run of grouped holds that it belongs to."""
        flags, amount = int(row["flags"]), int(row["amount"])
        party, own = int(row["party"]), int(row["id_hi"]) << 64 | int(row["id_lo"])
        related = (party, int(row["related_hi"]) << 64 | int(row["related_lo"]))
        debit, credit = int(row["debit"]), int(row["credit"])
        if flags & Flag.PENDING:
            run = run if flags & Flag.GROUP else []
            run.append((party, own))
            self.holds[party, own] = (amount, debit, credit, run)
            self.move(debit, credit, pending=amount)
        elif flags & (Flag.POST | Flag.VOID | Flag.EXPIRE):
            for key in list(self.holds[related][3]) if flags & Flag.GROUP else [related]:
                posted = amount if key == related else self.holds[key][0]
                self.end(key, posted if flags & Flag.POST else 0)
        else:
            self.move(debit, credit, posted=amount)
        for number in (debit, credit):
            self.counters[number][4] = last
        return run

    def end(self, key: tuple[int, int], posted: int) -> None:
        """End one hold."""
        amount, debit, credit, _ = self.holds.pop(key)
        self.move(debit, credit, pending=-amount, posted=posted)

    def move(self, debit: int, credit: int, *, pending: int = 0, posted: int = 0) -> None:
        """Add to the counters of two accounts."""
        self.counters[debit][0] += pending
        self.counters[debit][1] += posted
        self.counters[credit][2] += pending
        self.counters[credit][3] += posted

    def remember(self, position: int) -> None:
        """Keep all counters as of a position; what happens again at the same position replaces them."""
        self.seen[position] = {number: Counters(*row) for number, row in self.counters.items()}


class World:
    """A state that lives through random commands and group operations, and a fold that watches."""

    def __init__(self, seed: int) -> None:
        """Open accounts of all kinds, without limits, so that much is applied."""
        self.generator = np.random.default_rng(seed)
        self.state = State(b"a secret of the tests")
        for number in range(1, ACCOUNTS + 1):
            asset = 1 if number < ACCOUNTS - 1 else 2
            self.state.open_account(owner=1, asset=asset, code=1, flags=AccountFlag(number % 2))
        self.log, self.points, self.fold = Log(), Points(), Fold()
        self.position, self.now = 5, NOW

    def post(self, count: int) -> None:
        """Post random commands, after what is due."""
        self.now += SECOND
        due = posting.due(self.state, self.now)
        fresh = random_commands(self.generator, count, ids=500, log=self.log)
        commands = np.concatenate([due, fresh])
        posting.post(self.state, commands, timestamp_ns=self.now, first_position=self.position, recall=self.log)
        self.log.add(self.position, commands)
        self.fold.records(self.position, commands)
        self.position += len(commands)

    def end_group(self) -> None:
        """Post or void some members of a window's group, at the position of the message that asks for it."""
        self.position += 1
        group, selected = int(self.generator.integers(1, GROUPS + 1)), self.generator.random(MEMBERS) < 0.5
        holds = posting.group_holds(self.state, group)
        ended = holds[selected[holds["member"]]]
        act = posting.group_post if self.generator.random() < 0.5 else posting.group_void
        assert act(self.state, group, selected, position=self.position - 1) == len(ended)
        for hold in ended:
            key = (int(hold["party"]), int(hold["id_hi"]) << 64 | int(hold["id_lo"]))
            self.fold.end(key, int(hold["amount"]) if act is posting.group_post else 0)
        self.fold.remember(self.position - 1)

    def check(self, position: int) -> None:
        """Compare every account as of a position."""
        reads: list[int] = []

        def record(place: int) -> np.void:
            reads.append(place)
            return self.log.record(place)

        for number in range(1, ACCOUNTS + 1):
            reads.clear()
            now = counters_now(self.state.account(number))
            found = counters_as_of(number, position, points=self.points, now=now, record=record)
            assert found == self.fold.seen[position][number], (number, position)
            assert len(reads) <= POINT_INTERVAL
            reads.clear()
            assert last_as_of(number, position, points=self.points, last=now.last, record=record) == found.last
            assert len(reads) <= POINT_INTERVAL


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_old_balance_is_what_a_fold_gives(seed: int) -> None:
    """At every position of a random journal, each account's counters come out as the fold has seen them."""
    world = World(seed)
    for _ in range(30):
        world.post(int(world.generator.integers(1, 40)))
        if world.generator.random() < 0.4:
            world.end_group()
        if world.generator.random() < 0.2:
            world.end_group()
        world.points.add(world.state.take_points())
    for position in range(5, world.position):
        world.check(position)
    assert sum(len(rows) for rows in world.points.rows.values()) > 30


def counted(count: int) -> tuple[Ledger, Points]:
    """Give a ledger of two accounts and so many transfers of 1 between them, and its points."""
    ledger, points = Ledger(state_of(CREDIT, CREDIT)), Points()
    for start in range(0, count, 50):
        ledger.post(*(command(start + index, amount=1) for index in range(min(50, count - start))))
        points.add(ledger.state.take_points())
    return ledger, points


def test_a_point_is_written_every_64_records() -> None:
    """Every 64th record that touches an account leaves a point with the counters after it, none before."""
    ledger, points = counted(200)
    record, last = read_of(ledger), counters_now(ledger.state.account(1)).last
    assert last_as_of(1, 163, points=points, last=last, record=record) == 164  # as far as a walk ever goes
    for number, side in ((1, "debits_posted"), (2, "credits_posted")):
        rows = points.rows[number]
        assert [int(row["position"]) for row in rows] == [163, 227, 291]
        assert [int(row[side]) for row in rows] == [64, 128, 192]
        assert [int(row["last"]) for row in rows] == [164, 228, 292]
        assert all(row["zero"] == 0 for row in rows)
        assert ledger.state.accounts["count"][number] == 200


def test_the_count_of_records_wraps_round() -> None:
    """The count is modulo 2^16, and a point falls due at the wrap as at every other multiple of 64."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.state.account_rows["count"][1] = 2**16 - 2
    ledger.post(command(1), command(2), command(3))
    assert ledger.state.accounts["count"].tolist() == [0, 1, 3]
    assert ledger.state.take_points()[["account", "position"]].tolist() == [(1, 101)]


def test_what_refuses_or_is_taken_back_writes_no_point() -> None:
    """Points and counts of a chain that fails are taken back with it."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(*(command(index, amount=1) for index in range(63)))
    before = ledger.state.money_digest()
    ledger.post(command(70, flags=Flag.LINKED), command(71, amount=0), command(72, debit=9))
    assert ledger.state.money_digest() == before
    assert len(ledger.state.take_points()) == 0
    ledger.post(command(73))
    assert ledger.state.take_points()["account"].tolist() == [1, 2]


def test_the_post_of_a_part_writes_points() -> None:
    """Where a record does not say how much was released, both accounts get a point; the post of a whole needs none."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    ledger.post(command(1, flags=Flag.PENDING), command(2, flags=Flag.PENDING), end(3, 1, flags=Flag.POST))
    assert len(ledger.state.take_points()) == 0
    ledger.post(end(4, 2, amount=4, flags=Flag.POST))
    points = ledger.state.take_points()
    assert points["account"].tolist() == [1, 2]
    assert set(points["position"].tolist()) == {103}
    assert points[["debits_pending", "debits_posted"]][0].tolist() == (0, 14)


def test_a_window_writes_one_point_an_account() -> None:
    """Ending a group of a window writes a point of each account it touched, once, at the position it was given."""
    ledger = Ledger(state_of(CREDIT, CREDIT, CREDIT))
    ledger.post(
        *(command(index, flags=Flag.PENDING, group=5, credit=2 + index % 2) for index in range(4)),
        command(9, flags=Flag.PENDING, group=6),
    )
    ledger.state.take_points()
    posting.group_bind(ledger.state, 5)
    posting.group_move(ledger.state, 5, 7, np.array([0], np.uint32))
    assert len(ledger.state.take_points()) == 0
    assert posting.group_post(ledger.state, 7, None, position=104) == 4
    points = ledger.state.take_points()
    assert points["account"].tolist() == [1, 2, 3]
    assert set(points["position"].tolist()) == {104}
    assert points["last"].tolist() == [ledger.state.account(number).last for number in (1, 2, 3)]
    assert points["debits_pending"].tolist() == [10, 0, 0]
    assert posting.group_void(ledger.state, 7, None, position=104) == 0
    assert len(ledger.state.take_points()) == 0


def test_a_missing_point_is_noticed() -> None:
    """Without a point that belongs between, the walk would be too long, and says so."""
    ledger, points = counted(200)
    del points.rows[1][1]
    now = counters_now(ledger.state.account(1))
    last = now.last
    (_, records) = ledger.records[0]
    assert len(records) == 50

    def record(position: int) -> np.void:
        row: np.void = ledger.recalled(np.array([position], np.uint64))[0]
        return row

    assert counters_as_of(1, 130, points=points, now=now, record=record).debits_posted == 31
    with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
        counters_as_of(1, 200, points=points, now=now, record=record)
    del points.rows[1][1]
    with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
        last_as_of(1, 170, points=points, last=last, record=record)
    assert last_as_of(1, 270, points=points, last=last, record=record) == 271


def read_of(ledger: Ledger) -> Callable[[int], np.void]:
    """Give the reader of a ledger's records."""

    def record(position: int) -> np.void:
        row: np.void = ledger.recalled(np.array([position], np.uint64))[0]
        return row

    return record


def with_part(count: int) -> tuple[Ledger, Points]:
    """Give a ledger in which 40 of a hold of 100 were posted at 101, and so many transfers of 1 after that."""
    ledger, points = Ledger(state_of(CREDIT, CREDIT)), Points()
    ledger.post(command(1, amount=100, flags=Flag.PENDING), end(2, 1, amount=40, flags=Flag.POST))
    ledger.post(*(command(10 + index, amount=1) for index in range(count)))
    points.add(ledger.state.take_points())
    return ledger, points


@pytest.mark.parametrize("count", [1, 62, 70])
@pytest.mark.parametrize("account", [1, 2])
def test_the_lost_point_of_a_part_is_no_balance(account: int, count: int) -> None:
    """Without the point of a part that was posted, the walk does not come to the next point, or to what is now."""
    ledger, points = with_part(count)
    now, before = counters_now(ledger.state.account(account)), ledger.state.money_digest()
    then = counters_as_of(account, 102, points=points, now=now, record=read_of(ledger))
    assert sum((then.debits_pending, then.credits_pending)) == 0
    assert sum((then.debits_posted, then.credits_posted)) == 41

    del points.rows[account][0]

    for position in (100, 101, 102):
        with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
            counters_as_of(account, position, points=points, now=now, record=read_of(ledger))
    assert ledger.state.money_digest() == before


@pytest.mark.parametrize("name", ["debits_pending", "debits_posted", "credits_pending", "credits_posted"])
@pytest.mark.parametrize("change", [1, -1])
def test_a_changed_point_is_no_balance(name: str, change: int) -> None:
    """A point that says another amount is noticed from both sides of it."""
    ledger, points = counted(100)
    now = counters_now(ledger.state.account(1))
    points.rows[1][0] = points.rows[1][0].copy()
    points.rows[1][0][name] += change

    for position in (120, 163, 180):
        with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
            counters_as_of(1, position, points=points, now=now, record=read_of(ledger))


@pytest.mark.parametrize(("name", "change"), [("debits_pending", 61), ("debits_posted", 101), ("debits_posted", -1)])
def test_a_part_releases_no_more_than_was_held(name: str, change: int) -> None:
    """Where a record may have released more than it says, a point that shows anything but a release is noticed."""
    ledger, points = with_part(1)
    now = counters_now(ledger.state.account(1))
    assert counters_as_of(1, 100, points=points, now=now, record=read_of(ledger)).debits_pending == 100
    points.rows[1][0] = points.rows[1][0].copy()
    points.rows[1][0][name] += change

    with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
        counters_as_of(1, 100, points=points, now=now, record=read_of(ledger))


def test_a_record_of_somebody_else_is_noticed() -> None:
    """A walk that comes to a record which does not touch the account, or was refused, ends there."""
    ledger, points = counted(3)
    for wrong in (command(1, debit=3, credit=4), command(1, amount=0, result=Result.AMOUNT_INVALID)):
        with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
            counters_as_of(1, 102, points=points, now=Counters(last=103), record=lambda _, row=wrong: row[0])
        with pytest.raises(IntegrityFailure, match="POINTS_INCOMPLETE"):
            last_as_of(1, 101, points=points, last=103, record=lambda _, row=wrong: row[0])
    assert counters_as_of(3, 102, points=points, now=Counters(), record=ledger.recalled) == Counters()


def test_points_have_56_bytes() -> None:
    """A point fits seven words."""
    assert POINT.itemsize == 56
