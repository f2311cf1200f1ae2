"""A real ledger beside its model: signed messages go through the writer into a store, and everything is compared.

What is read back comes from the store: its blocks decoded, and what the gateway says of an id that is used again.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.repeats import FirstUses, repetition
from ledger import genesis, journal
from ledger.accounts import AccountFlag
from ledger.audit import verify
from ledger.balances import ACCOUNT
from ledger.errors import LedgerError
from ledger.machine import Admitted, Answer, Machine
from ledger.messages import Message
from ledger.meters import UNLIMITED
from ledger.parties import Role
from ledger.reader import Reader
from ledger.registry import IdStatus
from ledger.runtime import ManualRuntime
from ledger.snapshot import Snapshots
from ledger.store.sql import SqlStore
from ledger.transfers import Result
from ledger.writer import Writer, open_machine
from settlement.chart import AccountCode
from settlement.interpreter import Settlement
from settlement.repeats import requests_of
from tests.property.drivers import STATUSES
from tests.property.ledger_model import SECOND, Answered, Block, LedgerModel, Outcome
from tests.property.ledger_words import GENESIS, TRANSFERS, Sent, key_id, signed
from tests.property.model import Key
from tests.property.universe import array_of, commands_of
from tests.settlement_fixture import key_of
from tests.snapshot_fixture import parts_of
from tests.store_places import Database

PlaceIn = Callable[[Path], Database]
"""Gives an empty place for a run, in its folder if it is a file."""
HASH_KEY = bytes(range(7, 23))
NODE_KEY = key_of("NODE-SH")
MEMORY = Path("/dev/shm")
"""Where files are written that are of no use to anybody later, if this machine has it."""
START_NS = GENESIS.created_ns + SECOND


class LedgerBesideModel:
    """One ledger through all its lives, and what it must be."""

    def __init__(self, place_in: PlaceIn) -> None:
        """Make a ledger at the empty place that is given for a folder."""
        self.loop = asyncio.new_event_loop()
        self.runtime = ManualRuntime(start_ns=START_NS)
        self.model = LedgerModel(created_ns=GENESIS.created_ns)
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.place = place_in(Path(self.folder.name))
        self.snapshots = Snapshots(Path(self.folder.name, "snapshots"), runtime=self.runtime)
        self.seen: set[str] = set()
        self.is_compared = False
        """Whether all that was done has been compared."""
        self.start(self.place.create(runtime=self.runtime, genesis=genesis.encode(GENESIS)))

    # --- its lives ----------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something to its end."""
        return self.loop.run_until_complete(work)

    def start(self, store: SqlStore) -> None:
        """Open what is stored, from its first block and from a snapshot, and start a writer on it."""
        self.store = store
        whole = open_machine(store, new_interpreter, HASH_KEY)
        self.machine = open_machine(store, new_interpreter, HASH_KEY, snapshots=self.snapshots)
        assert parts_of(self.machine) == parts_of(whole)
        self.reader = Reader(store)
        self.writer = Writer(self.machine, store, NODE_KEY, self.runtime)
        self.tick_ns = self.runtime.now_ns() + SECOND
        self.run(self.writer.start())
        self.run(asyncio.sleep(0))

    def reopen(self) -> None:
        """Stop, and start again from what is stored."""
        self.is_compared = False
        self.run(self.writer.stop())
        self.store.close()
        self.model = self.model.reopened()
        self.start(self.place.open(runtime=self.runtime))

    def keep(self) -> None:
        """Keep a snapshot, if the machine stands where a replay would."""
        is_exact = self.model.durable is None
        assert self.machine.is_exact == is_exact
        if is_exact:
            self.run(self.writer.read(lambda machine: self.snapshots.save(machine, NODE_KEY)))

    def end(self) -> None:
        """Stop, let the verifier replay the journal, and compare what it finds."""
        self.reopen()
        self.run(self.writer.stop())
        report = verify(
            self.store,
            interpreter_factory=new_interpreter,
            trusted_genesis_hash=genesis.genesis_hash(GENESIS),
            runtime=self.runtime,
        )
        compare_machine(report.machine, self.model)
        for key in self.model.money.ids:
            compare_id(report.machine, self.model, key)
        assert report.machine.state.money_digest() == self.machine.state.money_digest()
        assert (report.tree_root, report.last_hash) == (self.machine.frontier.root(), self.machine.previous_hash)
        assert report.block_count == self.model.height
        assert report.message_count == len(self.model.answers)
        assert report.message_count + report.record_count == self.model.position

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()
        self.place.remove()
        self.folder.cleanup()
        self.loop.close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def wait(self, seconds: int) -> None:
        """Let time pass on an idle node, which looks every second for what is due."""
        self.is_compared = False
        now_ns = self.runtime.now_ns()
        target_ns = now_ns + seconds * SECOND
        while self.tick_ns <= target_ns:
            now_ns = max(now_ns, self.tick_ns)
            self.model.tick(now_ns)
            self.tick_ns = now_ns + SECOND
        self.run(self.runtime.advance(seconds))
        self.compare_blocks([])

    def midnight_s(self) -> int:
        """Say in how many seconds the ledger's next business day begins."""
        return 86_400 - (self.model.next_ns(self.runtime.now_ns()) // SECOND + 8 * 3_600) % 86_400

    def leap(self, seconds: int) -> None:
        """Set the clock, also back, with nobody looking."""
        self.runtime.move_to(self.runtime.now_ns() + seconds * SECOND)

    # --- messages -----------------------------------------------------------------------------------------------------

    def send(self, group: Sequence[Sent]) -> None:
        """Send a group at once: each is answered as the model says, and what is refused leaves money as it was."""
        self.is_compared = self.model.moves_money = False
        before = self.machine.state.money_digest()
        messages = [signed(sent) for sent in group]
        waiting: list[tuple[int, Sent, Admitted]] = []
        for place, (sent, message) in enumerate(zip(group, messages, strict=True)):
            expected, found = self.model.admit(sent, self.runtime.now_ns()), self.admit(message)
            assert (found if isinstance(found, str) else "") == expected
            self.seen.add(expected)
            if not isinstance(found, str):
                waiting.append((place, sent, found))
        expected_outcomes = (
            self.model.make_block([(place, sent) for place, sent, _ in waiting], self.runtime.now_ns())
            if waiting
            else []
        )
        found_outcomes = self.run(self.submit([admitted for _, _, admitted in waiting]))
        assert found_outcomes == expected_outcomes
        self.seen.update(outcome for outcome in found_outcomes if isinstance(outcome, str))
        self.compare_blocks(messages, group)
        assert (self.machine.state.money_digest() == before) or self.model.moves_money

    def admit(self, message: Message) -> Admitted | str:
        """Admit a message as a gateway does; gives the code of a refusal."""
        try:
            return self.machine.admit(message, at_ns=self.runtime.now_ns())
        except LedgerError as error:
            return error.code

    async def submit(self, group: list[Admitted]) -> list[Outcome]:
        """Submit together."""
        waiting = [self.writer.submit(admitted) for admitted in group]
        return [plain(outcome) for outcome in await asyncio.gather(*waiting, return_exceptions=True)]

    # --- what is compared ---------------------------------------------------------------------------------------------

    def compare_blocks(self, messages: list[Message], group: Sequence[Sent] = ()) -> None:
        """Compare the new blocks of the store with those of the model: times, messages, records, first uses of ids."""
        assert self.store.last_height() == self.model.height
        expected, self.model.blocks = self.model.blocks, []
        for height, block in enumerate(expected, self.model.height - len(expected) + 1):
            stored = journal.decode(self.store.block(height))
            header = stored.header
            assert (header.timestamp_ns, header.first_position) == (block.timestamp_ns, block.first_position)
            assert header.expired_count == block.expired_count
            assert [entry.message for entry in stored.entries] == [messages[place] for place in block.messages]
            assert commands_of(stored.transfers) == block.records
            self.seen.update(Result(record["result"]).name for record in block.records)
            self.compare_first_uses(block, group)
            for record in block.records:
                for identifier in (record["id"], record["related"]):
                    compare_id(self.machine, self.model, (record["party"], identifier))

    def compare_first_uses(self, block: Block, group: Sequence[Sent]) -> None:
        """Compare what is said of each id of a transfer that is used again, and the field that differs first."""
        firsts = FirstUses(SimpleNamespace(reader=self.reader, store=self.store))
        senders = dict(zip(block.positions, block.messages, strict=True))
        for record in block.records:
            if record["result"] != Result.ID_EXISTS or group[senders[record["message"]]].topic != TRANSFERS:
                continue
            sent = group[senders[record["message"]]]
            requests = requests_of(sent.topic, sent.body)
            first, field = repetition(firsts, array_of([record]), sent.topic, requests, record["item"])
            found = first.position, first.record_position, field
            assert found == self.model.difference(record, sent.content[record["item"]])
            self.seen.add(f"differs: {field}")

    def check(self) -> None:
        """Compare the machine, and let it check itself."""
        assert self.writer.failure is None
        compare_machine(self.machine, self.model)
        self.is_compared = True


def new_interpreter() -> Settlement:
    """Give a fresh interpreter."""
    return Settlement(GENESIS)


def plain(outcome: object) -> Outcome:
    """Give an outcome in the model's form."""
    if isinstance(outcome, Answer):
        return Answered(outcome.position, outcome.count, outcome.height)
    assert isinstance(outcome, LedgerError), outcome
    return outcome.code


def compare_machine(machine: Machine, model: LedgerModel) -> None:
    """Compare counters and limits of all accounts, holds, reversals, parties, keys and the place in the journal."""
    assert (machine.height, machine.position, machine.timestamp_ns) == (
        model.height,
        model.position,
        model.timestamp_ns,
    )
    assert machine.state.business_day == model.money.day
    assert machine.interpreter.clock_offset_ns == model.offset_ns
    assert len(machine.answers) == len(model.answers)
    assert len(machine.state.registry) == len(model.money.ids)
    compare_accounts(machine, model)
    compare_holds(machine, model)
    compare_directory(machine, model)
    machine.state.check()


def compare_accounts(machine: Machine, model: LedgerModel) -> None:
    """Compare accounts in all that is theirs, meters too."""
    state, numbers = machine.state, {code: party.number for code, party in model.parties.items()}
    rows, meters = state.accounts[1:], state.meters.array.tolist()
    found = {
        number: dict(zip(ACCOUNT.names or (), row, strict=True)) for number, row in enumerate(rows.tolist(), start=1)
    }
    for number, row in found.items():
        row["meter"] = meters[row["meter"]][:5] if row["meter"] else None
        assert row == expected_row(number, model, numbers)
    assert len(found) == len(model.places)


def expected_row(number: int, model: LedgerModel, parties: dict[str, int]) -> dict[str, Any]:
    """Give what an account must be, with its meter, if it has one: maximum, what is used of day and year, class."""
    account, place = model.money.accounts[number], model.places[number]
    flags = AccountFlag.CREDIT_NORMAL * account.credit_normal | AccountFlag.LIMITED * account.limited
    flags |= AccountFlag.CLOSED * account.closed
    meter = None
    if account.klass is not None or account.maximum is not None:
        flags |= AccountFlag.CAPPED | AccountFlag.METERED * (account.klass is not None)
        maximum = UNLIMITED if account.maximum is None else account.maximum
        meter = maximum, account.day_used, account.year_used, number, account.klass or 0
    return {
        "debits_pending": account.pending_debits,
        "debits_posted": account.debits,
        "credits_pending": account.pending_credits,
        "credits_posted": account.credits,
        "last": account.last,
        "minimum": account.minimum,
        "owner": parties[place.owner],
        "asset": account.asset,
        "code": AccountCode[place.kind],
        "flags": flags,
        "count": account.records % 2**16,
        "meter": meter,
    }


def compare_holds(machine: Machine, model: LedgerModel) -> None:
    """Compare the living holds and what was reversed."""
    names = ("amount", "deadline", "position", "debit", "credit", "group", "member")
    found = {
        (int(row["party"]), int(row["id_hi"]) << 64 | int(row["id_lo"])): tuple(int(row[name]) for name in names)
        for row in machine.state.holds
    }
    expected = {key: tuple(getattr(hold, name) for name in names) for key, hold in model.money.holds.items()}
    assert found == expected


def compare_directory(machine: Machine, model: LedgerModel) -> None:
    """Compare parties and keys."""
    parties = [(party.number, party.code, party.roles) for party in machine.directory.parties]
    roles = {code: frozenset(Role(role) for role in party.roles) for code, party in model.parties.items()}
    assert parties == [(party.number, code, roles[code]) for code, party in model.parties.items()]
    keys = {name: (key.party, key.revoked_at) for name, key in machine.directory.keys.items()}
    owners = {key: (model.parties[entry.party].number, entry.revoked_at) for key, entry in model.keys.items()}
    assert keys == {key_id(key): value for key, value in owners.items()}


def compare_id(machine: Machine, model: LedgerModel, key: Key) -> None:
    """Compare what became of an id."""
    entry, known = machine.state.lookup(*key), model.money.ids.get(key)
    if known is None:
        assert entry is None
        return
    assert entry is not None
    status = IdStatus.HOLD_OPEN if known[1] == "hold" else STATUSES[known[1]]
    expected = IdStatus.REVERSED if key in model.money.reversed else status
    assert (entry.position, entry.status) == (known[0], expected)
