"""Records that reversals need: from the block being made, from the last ones, from the journal or an export of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from ledger import journal
from ledger.audit import verify
from ledger.errors import IntegrityFailure, InvariantViolation, NotFound
from ledger.exports import ExportFile
from ledger.machine import Context
from ledger.messages import Message
from ledger.reader import Reader
from ledger.recall import BLOCK_COUNT, RecentRecords
from ledger.runtime import SystemRuntime
from ledger.store import PART_SIZE
from ledger.transfers import Flag, Result, Transfers
from ledger.writer import FLIGHT_COUNT_MAX, open_machine
from tests.ledger_fixture import (
    CREDIT,
    HASH_KEY,
    Chain,
    FixtureInterpreter,
    export_bytes,
    many_transfers,
    open_body,
    statement,
    transfer,
)

RUNTIME = SystemRuntime()


def post(serial: int, *commands: Transfers) -> Message:
    """Let Alice post commands."""
    return statement("alice", "post", np.concatenate(commands).tobytes(), serial=serial)


def back(identifier: int, related: int, amount: int = 0) -> Transfers:
    """Take back what went from account 1 to account 2."""
    return transfer(identifier, debit=2, credit=1, amount=amount, related=related, flags=Flag.REVERSAL)


def opened(chain: Chain | None = None) -> Chain:
    """Let Alice open two accounts in block 1."""
    chain = Chain() if chain is None else chain
    chain.add(*(statement("alice", "open", open_body(flags=CREDIT), serial=serial) for serial in (1, 2)))
    return chain


def results(chain: Chain) -> list[int]:
    """Give the results of the last block."""
    found: list[int] = chain.blocks[-1].transfers["result"].tolist()
    return found


def long_chain(distance: int) -> Chain:
    """Make a transfer, some blocks that do not matter, and then a part of its reversal."""
    chain = opened()
    chain.machine.history = Reader(LiveStore(chain)).recall
    chain.add(post(3, many_transfers(600, debit=1, credit=2, first_id=1_000)))
    chain.add(post(4, transfer(1, debit=1, credit=2, amount=10)))
    for serial in range(distance):
        chain.add(post(10 + serial, transfer(10 + serial, debit=1, credit=2, amount=1)))
    chain.add(post(90, back(900, 1, 4), back(901, 1_300)))
    chain.add(post(91, back(902, 1)))
    return chain


class LiveStore:
    """Reads the blocks of a chain that still grows, as a store does that keeps up with its writer."""

    def __init__(self, chain: Chain) -> None:
        """Look at a chain."""
        self._chain = chain

    def header(self, height: int) -> bytes:
        """Give one block's header."""
        return self._chain.store().header(height)

    def body_part(self, height: int, part: int) -> bytes:
        """Give one part of a body."""
        return self._chain.store().body_part(height, part)

    def height_of(self, position: int) -> int:
        """Give the height of the block with a position."""
        return self._chain.store().height_of(position)


# --- recent records ---------------------------------------------------------------------------------------------------


def rows(first: int, count: int) -> Transfers:
    """Give records whose ids are their positions."""
    return many_transfers(count, debit=1, credit=2, first_id=first)


def test_recent_records_are_given_by_position() -> None:
    """Every record that was added is found at its position, in whatever chunk and block it lies."""
    recent = RecentRecords()
    recent.add(1, rows(1, 3))
    recent.add(5, rows(5, 2))
    recent.end_block()
    recent.add(8, rows(8, 4))
    wanted = np.array([1, 3, 5, 6, 8, 11], np.uint64)
    assert recent.take(wanted)["id_lo"].tolist() == wanted.tolist()
    assert recent.count_before(np.array([0, 1, 2], np.uint64)) == 1


@pytest.mark.parametrize("position", [0, 4, 7, 12])
def test_where_no_record_stands_none_is_given(position: int) -> None:
    """A position before all, of a message or after all is our own mistake."""
    recent = RecentRecords()
    recent.add(1, rows(1, 3))
    recent.add(5, rows(5, 2))
    recent.add(8, rows(8, 4))
    with pytest.raises(InvariantViolation, match="no record"):
        recent.take(np.array([position], np.uint64))


def test_old_blocks_are_forgotten() -> None:
    """The blocks beyond the last few are gone; without any record everything lies before."""
    recent = RecentRecords()
    assert recent.count_before(np.array([3, 4], np.uint64)) == 2
    for block in range(10):
        recent.add(10 * block, rows(10 * block, 2))
        recent.add(10 * block + 5, rows(10 * block + 5, 2))
        recent.end_block()
    first = 10 * (10 - BLOCK_COUNT)
    positions = np.arange(first - 1, first + 2, dtype=np.uint64)
    assert recent.count_before(positions) == 1
    assert recent.take(np.array([first, 96], np.uint64))["id_lo"].tolist() == [first, 96]


# --- the machine ------------------------------------------------------------------------------------------------------


def test_an_original_in_the_same_block_is_found() -> None:
    """A later message of a block, and a later post of one message, reverse what came before."""
    chain = opened()
    chain.add(post(3, transfer(1, debit=1, credit=2, amount=10)), post(4, back(2, 1, 3), back(3, 1)))
    assert results(chain) == [0, 0, 0]
    machine = chain.machine
    context = Context(machine, position=machine.position, timestamp_ns=machine.timestamp_ns + 1)
    first, second = transfer(5, debit=1, credit=2, amount=10), back(6, 5)
    first["party"] = second["party"] = 3
    context.post(first)
    assert context.latest_position == machine.position + 1
    assert context.post(second)["result"].tolist() == [Result.OK]


@pytest.mark.parametrize("distance", [0, 1, BLOCK_COUNT - 2])
def test_an_original_of_the_last_blocks_needs_no_history(distance: int) -> None:
    """What was made a few blocks ago is recalled from memory: it may not be durable yet."""
    chain = opened()
    chain.add(post(3, transfer(1, debit=1, credit=2, amount=10)))
    for serial in range(distance):
        chain.add(post(10 + serial, transfer(10 + serial, debit=1, credit=2, amount=1)))
    chain.add(post(90, back(900, 1)))
    assert results(chain) == [0]


def test_an_original_of_long_ago_needs_a_history() -> None:
    """Without one the machine says so, before the message has any effect."""
    chain = opened()
    chain.add(post(3, transfer(1, debit=1, credit=2, amount=10)))
    for serial in range(BLOCK_COUNT):
        chain.add(post(10 + serial, transfer(10 + serial, debit=1, credit=2, amount=1)))
    with pytest.raises(InvariantViolation, match="no history"):
        chain.add(post(90, back(900, 1)))


def test_more_blocks_are_kept_than_can_be_on_their_way() -> None:
    """What a writer has applied and not yet made durable is always in memory."""
    assert BLOCK_COUNT > FLIGHT_COUNT_MAX


def test_an_attempt_without_a_block_forgets_nothing() -> None:
    """Drafts that become no block do not push the last blocks out."""
    chain = opened()
    chain.add(post(3, transfer(1, debit=1, credit=2, amount=10)))
    for step in range(2 * BLOCK_COUNT):
        assert chain.machine.apply([], chain.machine.timestamp_ns + 1 + step).is_empty
    chain.add(post(90, back(900, 1)))
    assert results(chain) == [0]


@pytest.mark.parametrize("distance", [0, 3, 4, 7])
def test_old_and_recent_originals_come_together(distance: int) -> None:
    """One message may reverse what lies in memory and what lies in the journal."""
    chain = long_chain(distance)
    assert [block.transfers["amount"].tolist() for block in chain.blocks[-2:]] == [
        [4, int(chain.blocks[1].transfers["amount"][300])],
        [6],
    ]


# --- following a journal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0, 7])
def test_reopening_recalls_from_the_store(distance: int) -> None:
    """A journal with reversals reopens to the same money, and goes on reversing."""
    chain = long_chain(distance)
    store = chain.store()
    machine = open_machine(store, FixtureInterpreter, HASH_KEY)
    assert machine.state.money_digest() == chain.machine.state.money_digest()
    again = Chain(machine=machine)
    again.add(post(95, back(950, 1_301)))
    assert results(again) == [Result.OK]


@pytest.mark.parametrize("distance", [0, 7])
def test_the_verifier_recalls_from_what_it_reads(distance: int, tmp_path: Path) -> None:
    """An export in a file or in memory, and a store, verify with their reversals."""
    chain = long_chain(distance)
    path = tmp_path / "journal.hgx"
    path.write_bytes(export_bytes(chain.store()))
    with ExportFile(path) as export:
        sources = [path, export, ExportFile(io.BytesIO(path.read_bytes())), chain.store()]
        for source in sources:
            report = verify(source, interpreter_factory=FixtureInterpreter, runtime=RUNTIME)
            assert report.block_count == len(chain.blocks)
            assert report.machine.state.money_digest() == chain.machine.state.money_digest()


def test_a_reader_recalls_records() -> None:
    """Records come by position; where none stands the journal contradicts the ids."""
    chain = long_chain(7)
    reader = Reader(chain.store())
    wanted = np.array([4, 602, 604], np.uint64)
    assert reader.recall(wanted).tobytes() == np.array([reader.record(int(place)) for place in wanted]).tobytes()
    for place in (0, 10_000):
        with pytest.raises(IntegrityFailure, match="RECORD_RECALLED") as caught:
            reader.recall(np.array([4, place], np.uint64))
        assert caught.value.position == place


def test_an_export_gives_parts_of_what_it_has_read() -> None:
    """Headers and parts of bodies come again while reading goes on, of no block that was not read yet."""
    chain = long_chain(7)
    store = chain.store()
    file = io.BytesIO(b"before" + export_bytes(store))
    file.seek(6)
    export = ExportFile(file)
    for height, encoded in enumerate(export.blocks(), 1):
        assert encoded == store.block(height)
        header = journal.decode_header(encoded.header)
        for earlier in range(1, height + 1):
            assert export.header(earlier) == store.header(earlier)
            size = len(store.block(earlier).body)
            parts = range(-(-size // PART_SIZE))
            assert b"".join(export.body_part(earlier, part) for part in parts) == store.block(earlier).body
            with pytest.raises(NotFound):
                export.body_part(earlier, len(parts))
        for position in (0, header.first_position, header.first_position + header.position_count - 1):
            assert export.height_of(position) == store.height_of(position)
        for beyond in (0, height + 1):
            with pytest.raises(NotFound):
                export.header(beyond)
    with pytest.raises(NotFound):
        export.body_part(1, -1)


def test_a_header_that_lies_misplaces_no_other_block() -> None:
    """A first position that goes back or far ahead leaves the blocks before it where they are."""
    chain = opened()
    for serial in range(4):
        chain.add(post(10 + serial, transfer(10 + serial, debit=1, credit=2, amount=1)))
    data = bytearray(export_bytes(chain.store()))
    for height, lie in ((3, 0), (4, 2**63)):
        start = data.index(chain.blocks[height - 1].encoded.header)
        data[start + 24 : start + 32] = lie.to_bytes(8, "little")
        export = ExportFile(io.BytesIO(bytes(data)))
        blocks = export.blocks()
        for _ in range(height):
            next(blocks)
        assert [export.height_of(position) for position in (0, 1)] == [1, 1]
        with pytest.raises(IntegrityFailure, match="BLOCK_SIGNATURE"):
            verify(ExportFile(io.BytesIO(bytes(data))), interpreter_factory=FixtureInterpreter, runtime=RUNTIME)
