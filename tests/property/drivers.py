"""Things side by side: the kernel compiled, as a plain loop, and the model; every step is done by all and compared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.control import REVERSAL_COUNT
from ledger.errors import Rejected
from ledger.meters import UNLIMITED, ClassLimits
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import NO_MESSAGE, Flag, Result, Transfers
from tests.property.model import Account, Model
from tests.property.universe import (
    ACCOUNTS,
    CLASSES,
    IDENTIFIERS,
    PARTIES,
    Log,
    commands_of,
)

SECOND = 10**9

STATUSES = {
    "transfer": IdStatus.POSTED,
    "refused": IdStatus.REFUSED,
    "other": IdStatus.OTHER,
    "posted": IdStatus.HOLD_POSTED,
    "voided": IdStatus.HOLD_VOIDED,
    "expired": IdStatus.HOLD_EXPIRED,
}
CLASSED, CAPPED = (1, 3, 5), (2, 3, 4)
"""Accounts that have a class (all of them credit-normal), and accounts that have a maximum."""


class Trio:
    """The compiled kernel, the plain loop and the model, side by side and always compared."""

    def __init__(self, minimums: list[int], maximums: list[int] | None = None) -> None:
        """Open the same accounts everywhere: all combinations of side and limit, the last two in another asset."""
        self.compiled, self.plain = State(b"one secret key of many bytes"), State(b"another key of many bytes")
        self.history: list[Callable[[State], object]] = []
        self.points = bytearray()
        self.model = Model(year=1970, year_of={0: 1970})
        self.log = Log()
        self.position = 7
        self.now = 1
        self.seen: set[Result] = set()
        tops = maximums or [150]
        for klass in range(1, CLASSES + 1):
            self.set_class_limits(klass, maximum=UNLIMITED, item=45 * klass, day=200 * klass, year=900 * klass)
        for number in range(1, ACCOUNTS + 1):
            minimum, maximum = minimums[number % len(minimums)], tops[number % len(tops)]
            self.open(number, minimum, maximum if number in CAPPED else None, 1 if number in CLASSED else 0)

    def everywhere(self, change: Callable[[State], object]) -> None:
        """Do something to both states, and remember it."""
        self.history.append(change)
        for state in (self.compiled, self.plain):
            change(state)

    def open(self, number: int, minimum: int, maximum: int | None, klass: int) -> None:
        """Open an account."""
        flags, asset = AccountFlag(number % 4), 1 if number < ACCOUNTS - 1 else 2
        self.everywhere(
            lambda state: state.open_account(
                owner=1, asset=asset, code=9, flags=flags, minimum=minimum, maximum=maximum, klass=klass
            )
        )
        self.model.accounts[number] = Account(
            asset=asset,
            credit_normal=bool(flags & AccountFlag.CREDIT_NORMAL),
            limited=bool(flags & AccountFlag.LIMITED),
            minimum=minimum,
            maximum=maximum,
            klass=klass or None,
        )

    def post(self, commands: Transfers, *, seconds: int) -> None:
        """Expire what is due, then post, everywhere; compare all there is."""
        self.now += seconds * SECOND // 2 + 1
        due = posting.due(self.compiled, self.now)
        assert np.array_equal(due, posting.due(self.plain, self.now))
        named = [((row["party"], row["related"]), bool(row["flags"] & Flag.GROUP)) for row in commands_of(due)]
        assert named == self.model.due(self.now)
        assert np.all(due["message"] == NO_MESSAGE)
        records = self.compare(np.concatenate([due, commands]))
        assert not np.any(records["result"][: len(due)])

    def compare(self, commands: Transfers) -> Transfers:
        """Post the same commands three times."""
        before = self.compiled.money_digest()
        asked, again = commands.copy(), commands.copy()
        first, now = self.position, self.now
        expected = self.model.post(commands_of(commands), now=now, first=first)

        def do(state: State, rows: Transfers, *, compiled: bool) -> None:
            posting.post(state, rows, timestamp_ns=now, first_position=first, recall=self.log, compiled=compiled)

        do(self.compiled, commands, compiled=True)
        do(self.plain, again, compiled=False)
        self.history.append(lambda state: do(state, asked.copy(), compiled=True))
        assert commands.tobytes() == again.tobytes()
        assert commands_of(commands) == expected
        self.take_points()
        if not np.any(commands["result"] == Result.OK):
            assert self.compiled.money_digest() == before
        self.log.add(first, commands)
        self.position += len(commands)
        self.seen |= {Result(int(result)) for result in np.unique(commands["result"])}
        return commands

    def take_points(self) -> None:
        """Take the balance points that were written since the last time, the same ones from both."""
        points = self.compiled.take_points().tobytes()
        assert points == self.plain.take_points().tobytes()
        self.points += points

    def bind(self, group: int, *, bound: bool) -> None:
        """Bind or release a group."""
        members = self.model.members(group)
        act = posting.group_bind if bound else posting.group_release
        self.everywhere(lambda state: _expect(act(state, group), len(members)))
        for hold in members.values():
            hold.bound = bound

    def end(self, group: int, selected: npt.NDArray[np.bool_] | None, *, posts: bool) -> None:
        """Post or void the selected members of a group."""
        members = self.model.members(group)
        chosen = [key for key, hold in members.items() if selected is None or selected[hold.member]]
        act, position = posting.group_post if posts else posting.group_void, self.position - 1
        self.everywhere(lambda state: _expect(act(state, group, selected, position=position), len(chosen)))
        for key in chosen:
            self.model.end(key, "posted" if posts else "voided", members[key].amount)

    def move(self, source: int, target: int, members: npt.NDArray[np.uint32]) -> None:
        """Move some members of a group to another one."""
        moving = [hold for hold in self.model.members(source).values() if members[hold.member] != posting.STAY]
        self.everywhere(lambda state: _expect(posting.group_move(state, source, target, members), len(moving)))
        for hold in moving:
            hold.group, hold.member = target, int(members[hold.member])

    def close(self, number: int) -> None:
        """Close an account, or open it again."""
        account = self.model.accounts[number]
        is_idle = not account.pending_debits and not account.pending_credits and account.debits == account.credits
        if account.closed:
            self.everywhere(lambda state: state.reopen_account(number))
        elif is_idle:
            self.everywhere(lambda state: state.close_account(number))
        else:
            for state in (self.compiled, self.plain):
                with pytest.raises(Rejected):
                    state.close_account(number)
        account.closed = not account.closed and is_idle

    def set_limit(self, number: int, *, minimum: int | None, maximum: int | None) -> None:
        """Change an open account's limits."""
        account = self.model.accounts[number]
        if account.closed:
            return
        self.everywhere(lambda state: state.set_limit(number, minimum=minimum, maximum=maximum))
        if minimum is not None:
            account.limited, account.minimum = True, minimum
        account.maximum = account.maximum if maximum is None else maximum

    def set_class(self, number: int, klass: int) -> None:
        """Give an open credit-normal account another class."""
        account = self.model.accounts[number]
        if account.closed or not account.credit_normal:
            return
        self.everywhere(lambda state: state.set_class(number, klass))
        if klass or account.maximum is not None or account.klass is not None:
            account.klass = klass

    def set_class_limits(self, klass: int, *, maximum: int, item: int, day: int, year: int) -> None:
        """Change the limits of a class."""
        limits = ClassLimits(maximum, item, day, year)
        self.everywhere(lambda state: state.set_class_limits(klass, limits))
        self.model.classes[klass] = {"maximum": maximum, "item": item, "day": day, "year": year}

    def begin_day(self, days: int) -> None:
        """Begin a business day some days later."""
        day = self.model.day + days
        self.everywhere(lambda state: state.begin_day(day))
        self.model.begin_day(day, (dt.date(1970, 1, 1) + dt.timedelta(days=day)).year)

    def reopen(self) -> None:
        """Make a state anew from all that happened; it must be the same money and points, and goes on instead."""
        self.take_points()
        state = State(b"the key of another process")
        for change in self.history:
            change(state)
        assert state.take_points().tobytes() == bytes(self.points)
        assert state.money_digest() == self.compiled.money_digest()
        self.compiled = state

    def check(self) -> None:
        """Compare counters, holds, ids and digests, and let the states check themselves."""
        for state in (self.compiled, self.plain):
            state.check()
        assert self.compiled.money_digest() == self.plain.money_digest()
        for number, account in self.model.accounts.items():
            view, limits = self.compiled.account(number), self.compiled.limits(number)
            assert (view.debits_posted, view.credits_posted) == (account.debits, account.credits)
            assert (view.debits_pending, view.credits_pending) == (account.pending_debits, account.pending_credits)
            assert (view.last, view.available, view.is_closed) == (account.last, account.available(), account.closed)
            assert limits.minimum == (account.minimum if account.limited else None)
            assert (limits.maximum, limits.klass) == (account.maximum, account.klass or 0)
            assert (limits.day_used, limits.year_used) == (account.day_used, account.year_used)
            assert self.compiled.accounts["count"][number] == account.records % 2**16
        self.check_holds()
        rows = self.compiled.reversals.array[: self.compiled.control[REVERSAL_COUNT]]
        found = {int(row["position"]): (int(row["amount"]), int(row["reversed"])) for row in rows}
        expected = {self.model.ids[key][0]: (self.model.moved[key][0], n) for key, n in self.model.reversed.items()}
        assert found == expected
        for party, identifier in {*self.model.ids, *((party, IDENTIFIERS[-1]) for party in range(PARTIES))}:
            self.check_id(party, identifier)

    def check_holds(self) -> None:
        """Compare the living holds."""
        assert self.compiled.hold_count == len(self.model.holds)
        rows = self.compiled.holds
        for row, (key, hold) in zip(
            rows, sorted(self.model.holds.items(), key=lambda item: item[1].position), strict=True
        ):
            assert (int(row["party"]), int(row["id_hi"]) << 64 | int(row["id_lo"])) == key
            assert (row["amount"], row["deadline"], row["position"]) == (hold.amount, hold.deadline, hold.position)
            assert (row["debit"], row["credit"]) == (hold.debit, hold.credit)
            assert (row["group"], row["member"], row["status"]) == (hold.group, hold.member, 1 + hold.bound)
            assert row["counted"] == (0 if hold.counted_on is None else hold.counted_on + 1)

    def check_id(self, party: int, identifier: int) -> None:
        """Compare what an id became."""
        known = self.model.ids.get((party, identifier))
        for state in (self.compiled, self.plain):
            entry = state.lookup(party, identifier)
            if known is None:
                assert entry is None
                continue
            assert entry is not None
            assert entry.position == known[0]
            if known[1] == "hold":
                bound = self.model.holds[party, identifier].bound
                assert entry.status is (IdStatus.HOLD_BOUND if bound else IdStatus.HOLD_OPEN)
            elif (party, identifier) in self.model.reversed:
                assert entry.status is IdStatus.REVERSED
            else:
                assert entry.status is STATUSES[known[1]]


def _expect(count: int, expected: int) -> None:
    assert count == expected


class Pair:
    """The compiled kernel and the plain loop, without a model: as fast as the plain loop can."""

    def __init__(self, generator: np.random.Generator) -> None:
        """Open accounts with limits of all kinds."""
        self.states = (State(b"one secret key of many bytes"), State(b"another key of many bytes"))
        self.log = Log()
        for klass in range(1, CLASSES + 1):
            limits = [int(limit) for limit in generator.integers(2_000, 200_000, 4)]
            self.set_class_limits(klass, maximum=limits[0], item=30 * klass, day=limits[2], year=limits[3])
        for number in range(1, ACCOUNTS + 1):
            minimum, maximum = (int(limit) for limit in generator.integers((-10_000, 1_000), (50, 30_000)))
            for state in self.states:
                state.open_account(
                    owner=1,
                    asset=1 + (number == ACCOUNTS),
                    code=1,
                    flags=AccountFlag(number % 4),
                    minimum=minimum,
                    maximum=maximum if number in CAPPED else None,
                    klass=1 if number in CLASSED else 0,
                )
        self.position = 0
        self.now = 1

    def post(self, commands: Transfers) -> None:
        """Post with both and compare records, points and money."""
        self.now += SECOND // 3
        due = posting.due(self.states[0], self.now)
        assert np.array_equal(due, posting.due(self.states[1], self.now))
        first = np.concatenate([due, commands])
        second = first.copy()
        for state, rows, compiled in zip(self.states, (first, second), (True, False), strict=True):
            posting.post(
                state,
                rows,
                timestamp_ns=self.now,
                first_position=self.position,
                recall=self.log,
                compiled=compiled,
            )
        assert first.tobytes() == second.tobytes()
        assert self.states[0].take_points().tobytes() == self.states[1].take_points().tobytes()
        self.log.add(self.position, first)
        self.position += len(first)

    def same(self, act: Callable[[State], object]) -> None:
        """Do something to both, to the same effect."""
        assert len({act(state) for state in self.states}) == 1

    def bind(self, group: int, *, bound: bool) -> None:
        """Bind or release a group."""
        self.same(lambda state: (posting.group_bind if bound else posting.group_release)(state, group))

    def end(self, group: int, selected: npt.NDArray[np.bool_] | None, *, posts: bool) -> None:
        """Post or void a group."""
        act, position = posting.group_post if posts else posting.group_void, self.position
        self.same(lambda state: act(state, group, selected, position=position))

    def move(self, source: int, target: int, members: npt.NDArray[np.uint32]) -> None:
        """Move a group."""
        self.same(lambda state: posting.group_move(state, source, target, members))

    def close(self, number: int) -> None:
        """Leave the accounts as they are."""

    def set_limit(self, number: int, *, minimum: int | None, maximum: int | None) -> None:
        """Change an account's limits, far out."""
        low = None if minimum is None else minimum * 20
        self.same(lambda state: state.set_limit(number, minimum=low, maximum=maximum and maximum * 20))

    def set_class(self, number: int, klass: int) -> None:
        """Change an account's class."""
        if number % 2:
            self.same(lambda state: state.set_class(number, klass))

    def set_class_limits(self, klass: int, *, maximum: int, item: int, day: int, year: int) -> None:
        """Change the limits of a class, so that an item hardly ever passes them by itself."""
        limits = ClassLimits(20 * maximum, item, 20 * day, 100 * year)
        self.same(lambda state: state.set_class_limits(klass, limits))

    def begin_day(self, days: int) -> None:
        """Begin a day."""
        self.same(lambda state: state.begin_day(state.business_day + days))
