"""The kernel, compiled and plain, against the dictionary model: small universes, so that everything collides."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.errors import Rejected
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import NO_MESSAGE, Flag, Result, Transfers, transfers
from tests.property.model import Account, Command, Model

ACCOUNTS = 6
IDS = 40
PARTIES = 2
GROUPS = 3
MEMBERS = 4
SECOND = 10**9
HUGE = 2**63 - 1

STATUSES = {
    "transfer": IdStatus.POSTED,
    "refused": IdStatus.REFUSED,
    "other": IdStatus.OTHER,
    "posted": IdStatus.HOLD_POSTED,
    "voided": IdStatus.HOLD_VOIDED,
    "expired": IdStatus.HOLD_EXPIRED,
}

# The ids have both halves in use, so that a kernel that forgot one of them is found out.
IDENTIFIERS = [(number % 3) << 64 | number // 3 for number in range(IDS)]

FLAGS = [
    Flag.NONE,
    Flag.PENDING,
    Flag.POST,
    Flag.VOID,
    Flag.EXPIRE,
    Flag.LINKED,
    Flag.PENDING | Flag.LINKED,
    Flag.POST | Flag.LINKED,
    Flag.VOID | Flag.LINKED,
    Flag.PENDING | Flag.BOUND,
    Flag.PENDING | Flag.BOUND | Flag.LINKED,
    Flag.POST | Flag.VOID,
    Flag.EXPIRE | Flag.LINKED,
    Flag.BOUND,
]
WEIGHTS = [20, 20, 12, 8, 3, 8, 6, 5, 3, 5, 2, 1, 1, 1]


def array_of(commands: list[Command]) -> Transfers:
    """Make the kernel's form of the model's commands."""
    result = transfers(len(commands))
    for row, command in zip(result, commands, strict=True):
        for name, value in command.items():
            if name in {"id", "related"}:
                row[name + "_hi"], row[name + "_lo"] = value >> 64, value & (2**64 - 1)
            else:
                row[name] = value
    return result


def commands_of(array: Transfers) -> list[Command]:
    """Make the model's form of the kernel's commands."""
    return [
        {
            "id": int(row["id_hi"]) << 64 | int(row["id_lo"]),
            "related": int(row["related_hi"]) << 64 | int(row["related_lo"]),
            **{name: int(row[name]) for name in array.dtype.names or () if not name.startswith(("id_", "related_"))},
        }
        for row in array
    ]


class Trio:
    """The compiled kernel, the plain loop and the model, side by side and always compared."""

    def __init__(self, minimums: list[int]) -> None:
        """Open the same accounts everywhere: all combinations of side and limit, the last two in another asset."""
        self.compiled, self.plain = State(b"one secret key of many bytes"), State(b"another key of many bytes")
        self.model = Model()
        self.position = 7
        self.now = 1
        self.seen: set[Result] = set()
        for number in range(1, ACCOUNTS + 1):
            flags = AccountFlag(number % 4)
            asset = 1 if number < ACCOUNTS - 1 else 2
            for state in (self.compiled, self.plain):
                state.open_account(owner=1, asset=asset, code=9, flags=flags, minimum=minimums[number % len(minimums)])
            self.model.accounts[number] = Account(
                asset,
                bool(flags & AccountFlag.CREDIT_NORMAL),
                bool(flags & AccountFlag.LIMITED),
                minimums[number % len(minimums)],
            )

    def post(self, commands: Transfers, *, seconds: int) -> None:
        """Expire what is due, then post, everywhere; compare all there is."""
        self.now += seconds * SECOND // 2 + 1
        due = posting.due(self.compiled, self.now)
        assert np.array_equal(due, posting.due(self.plain, self.now))
        keys = self.model.due(self.now)
        assert [(row["party"], row["related"]) for row in commands_of(due)] == keys
        assert np.all(due["message"] == NO_MESSAGE)
        records = self.compare(np.concatenate([due, commands]))
        assert not np.any(records["result"][: len(due)])

    def compare(self, commands: Transfers) -> Transfers:
        """Post the same commands three times."""
        before = self.compiled.money_digest()
        again = commands.copy()
        expected = self.model.post(commands_of(commands), now=self.now, first=self.position)
        posting.post(self.compiled, commands, timestamp_ns=self.now, first_position=self.position)
        posting.post(self.plain, again, timestamp_ns=self.now, first_position=self.position, compiled=False)
        assert commands.tobytes() == again.tobytes()
        assert commands_of(commands) == expected
        if not np.any(commands["result"] == Result.OK):
            assert self.compiled.money_digest() == before
        self.position += len(commands)
        self.seen |= {Result(int(result)) for result in np.unique(commands["result"])}
        return commands

    def bind(self, group: int, *, bound: bool) -> None:
        """Bind or release a group."""
        members = self.model.members(group)
        for state in (self.compiled, self.plain):
            assert (posting.group_bind if bound else posting.group_release)(state, group) == len(members)
        for hold in members.values():
            hold.bound = bound

    def end(self, group: int, selected: npt.NDArray[np.bool_] | None, *, posts: bool) -> None:
        """Post or void the selected members of a group."""
        members = self.model.members(group)
        chosen = [key for key, hold in members.items() if selected is None or selected[hold.member]]
        for state in (self.compiled, self.plain):
            assert (posting.group_post if posts else posting.group_void)(state, group, selected) == len(chosen)
        for key in chosen:
            self.model.end(key, "posted" if posts else "voided", members[key].amount)

    def move(self, source: int, target: int, members: npt.NDArray[np.uint32]) -> None:
        """Move some members of a group to another one."""
        moving = [hold for hold in self.model.members(source).values() if members[hold.member] != posting.STAY]
        for state in (self.compiled, self.plain):
            assert posting.group_move(state, source, target, members) == len(moving)
        for hold in moving:
            hold.group, hold.member = target, int(members[hold.member])

    def close(self, number: int) -> None:
        """Close an account, or open it again."""
        account = self.model.accounts[number]
        is_idle = not account.pending_debits and not account.pending_credits and account.debits == account.credits
        for state in (self.compiled, self.plain):
            if account.closed:
                state.reopen_account(number)
            elif is_idle:
                state.close_account(number)
            else:
                with pytest.raises(Rejected):
                    state.close_account(number)
        account.closed = not account.closed and is_idle

    def check(self) -> None:
        """Compare counters, holds, ids and digests, and let the states check themselves."""
        for state in (self.compiled, self.plain):
            state.check()
        assert self.compiled.money_digest() == self.plain.money_digest()
        for number, account in self.model.accounts.items():
            view = self.compiled.account(number)
            assert (view.debits_posted, view.credits_posted) == (account.debits, account.credits)
            assert (view.debits_pending, view.credits_pending) == (account.pending_debits, account.pending_credits)
            assert (view.last, view.available, view.is_closed) == (account.last, account.available(), account.closed)
        assert self.compiled.hold_count == len(self.model.holds)
        rows = self.compiled.holds
        for row, (key, hold) in zip(
            rows, sorted(self.model.holds.items(), key=lambda item: item[1].position), strict=True
        ):
            assert (int(row["party"]), int(row["id_hi"]) << 64 | int(row["id_lo"])) == key
            assert (row["amount"], row["deadline"], row["position"]) == (hold.amount, hold.deadline, hold.position)
            assert (row["debit"], row["credit"]) == (hold.debit, hold.credit)
            assert (row["group"], row["member"], row["status"]) == (hold.group, hold.member, 1 + hold.bound)
        for party, identifier in {*self.model.ids, *((party, IDENTIFIERS[-1]) for party in range(PARTIES))}:
            self.check_id(party, identifier)

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
            else:
                assert entry.status is STATUSES[known[1]]


def random_commands(generator: np.random.Generator, count: int, *, ids: int) -> Transfers:
    """Make commands in which everything happens, from a small universe of ids."""
    result = transfers(count)
    for name in ("id", "related"):
        number = generator.integers(0, ids, count)
        result[name + "_hi"], result[name + "_lo"] = number % 3, number // 3
    result["debit"] = generator.integers(1, ACCOUNTS + 1, count)
    result["credit"] = generator.integers(1, ACCOUNTS + 1, count)
    for side in ("debit", "credit"):
        result[side][generator.random(count) < 0.02] = generator.choice([0, ACCOUNTS + 1, 2**32 - 1])
    result["amount"] = generator.integers(0, 60, count)
    huge = generator.random(count) < 0.02
    result["amount"][huge] = HUGE - generator.integers(0, 3, int(huge.sum()))
    result["amount"][generator.random(count) < 0.01] = -1
    result["flags"] = generator.choice(FLAGS, count, p=np.array(WEIGHTS) / sum(WEIGHTS))
    result["flags"][generator.random(count) < 0.003] = 64
    result["timeout_s"] = generator.integers(0, 3, count)
    result["group"] = generator.integers(0, GROUPS + 1, count)
    result["member"] = generator.integers(0, MEMBERS, count)
    result["party"] = generator.integers(0, PARTIES, count)
    result["code"] = generator.integers(0, 2**16, count)
    result["result"][generator.random(count) < 0.01] = Result.QUOTE_EXPIRED
    return result


def random_group_step(generator: np.random.Generator, trio: Any) -> None:
    """Do one of the things that no command does."""
    group = int(generator.integers(1, GROUPS + 1))
    selected = generator.random(MEMBERS) < 0.5
    match int(generator.integers(0, 8)):
        case 0 | 1:
            trio.bind(group, bound=True)
        case 2:
            trio.bind(group, bound=False)
        case 3:
            trio.end(group, selected, posts=True)
        case 4:
            trio.end(group, None if selected[0] else selected, posts=False)
        case 5:
            members = generator.integers(0, MEMBERS, MEMBERS).astype(np.uint32)
            members[selected] = posting.STAY
            trio.move(group, int(generator.integers(1, GROUPS + 1)), members)
        case 6:
            trio.close(int(generator.integers(1, ACCOUNTS + 1)))


@st.composite
def batches(draw: st.DrawFn) -> list[Command]:
    """Draw a short batch of commands."""
    command = st.fixed_dictionaries(
        {
            "id": st.sampled_from(IDENTIFIERS),
            "related": st.sampled_from(IDENTIFIERS),
            "amount": st.one_of(st.integers(-1, 20), st.sampled_from([HUGE, HUGE - 5, 2**62])),
            "debit": st.integers(0, ACCOUNTS + 1),
            "credit": st.integers(0, ACCOUNTS + 1),
            "flags": st.sampled_from([int(flag) for flag in FLAGS]),
            "timeout_s": st.integers(0, 2),
            "group": st.integers(0, GROUPS),
            "member": st.integers(0, MEMBERS - 1),
            "party": st.integers(0, PARTIES - 1),
            "result": st.sampled_from([0, 0, 0, 0, 0, 0, 0, int(Result.PAYEE_CLOSED)]),
        }
    )
    return draw(st.lists(command, min_size=1, max_size=8))


GROUP = st.integers(1, GROUPS)
CHOICE = st.lists(st.booleans(), min_size=MEMBERS, max_size=MEMBERS)


class PostingMachine(RuleBasedStateMachine):
    """Drive all three; Hypothesis looks for the shortest way to make them differ."""

    @initialize(minimums=st.lists(st.integers(-30, 10), min_size=1, max_size=3))
    def begin(self, minimums: list[int]) -> None:
        """Open the accounts."""
        self.trio = Trio(minimums)

    @rule(commands=batches(), seconds=st.integers(0, 3))
    def post(self, commands: list[Command], seconds: int) -> None:
        """Post a batch."""
        self.trio.post(array_of(commands), seconds=seconds)

    @rule(group=GROUP, bound=st.booleans())
    def bind(self, group: int, bound: bool) -> None:
        """Bind or release a group."""
        self.trio.bind(group, bound=bound)

    @rule(group=GROUP, chosen=CHOICE, every=st.booleans(), posts=st.booleans())
    def end(self, group: int, chosen: list[bool], every: bool, posts: bool) -> None:
        """Post or void a group."""
        self.trio.end(group, None if every else np.array(chosen), posts=posts)

    @rule(
        source=GROUP,
        destination=GROUP,
        members=st.lists(st.integers(-1, MEMBERS - 1), min_size=MEMBERS, max_size=MEMBERS),
    )
    def move(self, source: int, destination: int, members: list[int]) -> None:
        """Move members between groups."""
        mapping = np.array([posting.STAY if member < 0 else member for member in members], np.uint32)
        self.trio.move(source, destination, mapping)

    @rule(number=st.integers(1, ACCOUNTS))
    def close(self, number: int) -> None:
        """Close or reopen an account."""
        self.trio.close(number)

    @invariant()
    def agree(self) -> None:
        """Everything agrees, and every state passes its own check."""
        if hasattr(self, "trio"):
            self.trio.check()


PostingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPostingMachine = PostingMachine.TestCase


def test_the_kernel_agrees_with_the_model() -> None:
    """Seeded batches of everything give the model's records, counters, holds and ids, compiled and plain."""
    seed = 20_250_618
    generator = np.random.default_rng(seed)
    seen: set[Result] = set()
    for minimums in ([-200, 0, 20], [-50]):
        trio = Trio(minimums)
        for _ in range(40):
            trio.post(random_commands(generator, int(generator.integers(1, 20)), ids=300), seconds=1)
            random_group_step(generator, trio)
        trio.check()
        seen |= trio.seen
    sys.stdout.write(f"seed {seed}: results {sorted(seen)}" + "\n")


@pytest.mark.long
def test_the_kernel_agrees_with_the_model_for_long() -> None:
    """Long seeded runs over fresh ids agree with the model and reach every result of the kernel."""
    seed = int(os.environ.get("HUGANG_SEED", "1"))
    count = int(os.environ.get("HUGANG_MODEL_COMMANDS", "30000"))
    generator = np.random.default_rng(seed)
    seen: set[Result] = set()
    records = 0
    while records < count:
        trio = Trio([int(minimum) for minimum in generator.integers(-300, 50, 3)])
        for _ in range(60):
            trio.post(random_commands(generator, int(generator.integers(1, 60)), ids=1_500), seconds=1)
            random_group_step(generator, trio)
        trio.check()
        seen |= trio.seen
        records += trio.position
    sys.stdout.write(f"seed {seed}: {records} records, results {sorted(seen)}" + "\n")
    assert {result for result in Result if result < 100} <= seen


class Pair:
    """The compiled kernel and the plain loop, without a model: as fast as the plain loop can."""

    def __init__(self, generator: np.random.Generator) -> None:
        """Open accounts with limits of all kinds."""
        self.states = (State(b"one secret key of many bytes"), State(b"another key of many bytes"))
        for number in range(1, ACCOUNTS + 1):
            minimum = int(generator.integers(-10_000, 50))
            for state in self.states:
                state.open_account(
                    owner=1, asset=1 + (number == ACCOUNTS), code=1, flags=AccountFlag(number % 4), minimum=minimum
                )
        self.position = 0
        self.now = 1

    def post(self, commands: Transfers) -> None:
        """Post with both and compare records and money."""
        self.now += SECOND // 3
        due = posting.due(self.states[0], self.now)
        assert np.array_equal(due, posting.due(self.states[1], self.now))
        first = np.concatenate([due, commands])
        second = first.copy()
        posting.post(self.states[0], first, timestamp_ns=self.now, first_position=self.position)
        posting.post(self.states[1], second, timestamp_ns=self.now, first_position=self.position, compiled=False)
        assert first.tobytes() == second.tobytes()
        self.position += len(first)

    def bind(self, group: int, *, bound: bool) -> None:
        """Bind or release a group."""
        counts = {(posting.group_bind if bound else posting.group_release)(state, group) for state in self.states}
        assert len(counts) == 1

    def end(self, group: int, selected: npt.NDArray[np.bool_] | None, *, posts: bool) -> None:
        """Post or void a group."""
        counts = {
            (posting.group_post if posts else posting.group_void)(state, group, selected) for state in self.states
        }
        assert len(counts) == 1

    def move(self, source: int, target: int, members: npt.NDArray[np.uint32]) -> None:
        """Move a group."""
        assert len({posting.group_move(state, source, target, members) for state in self.states}) == 1

    def close(self, number: int) -> None:
        """Leave the accounts as they are."""


@pytest.mark.long
def test_compiled_and_plain_agree_for_long() -> None:
    """Ten million random commands (HUGANG_RANDOM_COMMANDS) give the same records and money compiled and plain."""
    seed = int(os.environ.get("HUGANG_SEED", "2"))
    count = int(os.environ.get("HUGANG_RANDOM_COMMANDS", "300000"))
    generator = np.random.default_rng(seed)
    done = 0
    while done < count:
        pair = Pair(generator)
        for _ in range(50):
            pair.post(random_commands(generator, int(generator.integers(1, 2_000)), ids=60_000))
            random_group_step(generator, pair)
        for state in pair.states:
            state.check()
        assert pair.states[0].money_digest() == pair.states[1].money_digest()
        done += pair.position
    sys.stdout.write(f"seed {seed}: {done} records" + "\n")
