"""Snapshots: the machine that a journal determines, kept in a file, and refused wherever it does not fit."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger import messages, snapshot, snapshot_file
from ledger.control import ACCOUNT_COUNT, BUSINESS_DAY, POINT_COUNT, YEAR_START
from ledger.errors import IntegrityFailure, InvariantViolation, Unavailable
from ledger.machine import Machine
from ledger.meters import ClassLimits, business_day
from ledger.reopen import open_machine
from ledger.snapshot import ASIDE, KEPT_COUNT, Snapshots
from ledger.snapshot_file import SnapshotFile, write_snapshot
from ledger.store import MemoryStore
from tests.ledger_fixture import (
    GENESIS_BYTES,
    LEDGER,
    START_S,
    Chain,
    FixtureInterpreter,
    make_machine,
    make_runtime,
    private_key,
    public_hex,
    reference_chain,
    statement,
    transfer,
)
from tests.snapshot_fixture import parts_of

NODE = private_key("node")
PUBLIC = bytes.fromhex(public_hex("node"))
VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "snapshots.json").read_text("utf-8"))
OTHER_KEY = bytes(range(100, 116))


def folder_of(path: Path) -> Snapshots:
    """Give the folder of snapshots below a path."""
    return Snapshots(path / "snapshots", runtime=make_runtime())


def assert_same(one: Machine, other: Machine) -> None:
    """Two machines are the same in everything that a journal determines."""
    assert parts_of(one) == parts_of(other)
    assert one.state.money_digest() == other.state.money_digest()
    assert one.frontier.root() == other.frontier.root()
    places = [(one.height, one.position, one.timestamp_ns, one.previous_hash) for one in (one, other)]
    assert places[0] == places[1]


def opened(store: MemoryStore, snapshots: Snapshots) -> tuple[Machine, list[int]]:
    """Open a journal with its snapshots; gives the machine and the heights that were replayed."""
    heights: list[int] = []
    machine = open_machine(store, FixtureInterpreter, OTHER_KEY, snapshots=snapshots, progress=heights.append)
    machine.state.check()
    machine.answers.registry.check()
    return machine, heights


def chain_of(length: int) -> Chain:
    """Give the first blocks of the reference journal."""
    chain, whole = Chain(), reference_chain()
    for block in whole.blocks[:length]:
        messages = [entry.message for entry in block.entries]
        chain.add(*messages, at_s=None if block.header.timestamp_ns == 0 else _second(block.header.timestamp_ns))
    return chain


def _second(timestamp_ns: int) -> int:
    return timestamp_ns // 10**9 - make_runtime().now_ns() // 10**9


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5])
def test_a_snapshot_and_the_rest_make_the_whole(tmp_path: Path, height: int) -> None:
    """From a snapshot of any block, with what follows it, comes the machine that a replay of everything gives."""
    whole = reference_chain()
    chain = chain_of(height)
    assert chain.blocks[-1].hash == whole.blocks[height - 1].hash
    folder_of(tmp_path).save(chain.machine, NODE)
    machine, heights = opened(whole.store(), folder_of(tmp_path))
    assert heights == list(range(height + 1, 6))
    assert_same(machine, whole.machine)


def test_what_was_reopened_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A machine from a snapshot takes the next messages exactly as the one that was kept does."""
    chain = chain_of(2)
    folder_of(tmp_path).save(chain.machine, NODE)
    machine, _ = opened(chain.store(), folder_of(tmp_path))
    twin = Chain(machine, list(chain.blocks))
    for one in (chain, twin):
        one.add(statement("alice", "post", transfer(77, debit=1, credit=3, amount=5).tobytes(), serial=99), at_s=50)
        one.add(at_s=100)
    assert chain.blocks[-1].hash == twin.blocks[-1].hash
    assert_same(chain.machine, twin.machine)


def test_a_retry_is_answered_the_same_after_a_snapshot(tmp_path: Path) -> None:
    """What was journaled before a snapshot is a retry after it, with its first answer (I8)."""
    chain = reference_chain()
    folder_of(tmp_path).save(chain.machine, NODE)
    machine, heights = opened(chain.store(), folder_of(tmp_path))
    assert heights == []
    for block in chain.blocks:
        for entry in block.entries:
            envelope = messages.parse(entry.message)
            party = machine.directory.keys[envelope.key_id].party
            found = [one.answers.get(party, envelope.idempotency_key) for one in (machine, chain.machine)]
            assert found[0] is not None
            assert found[0] == found[1]


def test_nothing_of_a_machine_is_left_out() -> None:
    """Each attribute of machine, state, answers and registry is kept, or is listed here with what it follows from."""
    machine = reference_chain().machine
    named = {
        Machine: {"state", "directory", "frontier", "answers", "height", "position", "timestamp_ns"}
        | {"previous_hash", "interpreter"},
    }
    given = {"genesis", "genesis_hash", "network_hash", "compiled", "history"}  # whoever opens the machine gives these
    fresh = {"recent", "real_ns"}  # what is recent is durable by then, and each block says its own time
    assert set(vars(machine)) == named[Machine] | given | fresh
    kept = {"control", "account_rows", "meters", "class_rows", "hold_table", "hold_links", "free_slots", "reversals"}
    anew = {"registry", "deadlines", "points", "scratch"}
    assert set(vars(machine.state)) == kept | anew
    assert set(vars(machine.answers)) == {"registry", "rows", "first_positions", "block_count", "_room"}
    assert set(vars(machine.state.registry)) == {"keys", "key_0", "key_1", "_entries", "_index", "control"}


def test_limits_and_classes_come_back(tmp_path: Path) -> None:
    """Meters, maximums and classes are kept as they are, and growth goes on after them."""
    chain = reference_chain()
    state = chain.machine.state
    state.set_class_limits(3, ClassLimits(maximum=10**9))
    state.set_limit(1, maximum=10**12)
    state.set_limit(2, maximum=10**11)
    folder_of(tmp_path).save(chain.machine, NODE)
    machine, _ = opened(chain.store(), folder_of(tmp_path))
    assert machine.state.limits(1) == state.limits(1)
    assert machine.state.money_digest() == state.money_digest()
    state.set_limit(3, maximum=7)
    machine.state.set_limit(3, maximum=7)
    assert machine.state.money_digest() == state.money_digest()


def test_two_snapshots_are_kept(tmp_path: Path) -> None:
    """The newest two stay, so that one is left when the newest cannot be used."""
    snapshots, chain = folder_of(tmp_path), Chain()
    for block in reference_chain().blocks:
        chain.add(*(entry.message for entry in block.entries), at_s=_second(block.header.timestamp_ns))
        snapshots.save(chain.machine, NODE)
    assert snapshots.heights() == [5, 4]
    assert KEPT_COUNT == 2
    snapshots.path(5).write_bytes(snapshots.path(5).read_bytes()[:-1])
    machine, heights = opened(chain.store(), snapshots)
    assert heights == [5]
    assert_same(machine, chain.machine)
    assert snapshots.heights() == [4]


def test_without_snapshots_everything_is_replayed(tmp_path: Path) -> None:
    """A folder that is not there, or holds other things, changes nothing."""
    chain = reference_chain()
    assert opened(chain.store(), folder_of(tmp_path))[1] == [1, 2, 3, 4, 5]
    (tmp_path / "snapshots").mkdir()
    for name in ("snapshot-5.hgs", "snapshot-0000000000000005.hgs.new", "notes"):
        (tmp_path / "snapshots" / name).write_bytes(b"")
    assert opened(chain.store(), folder_of(tmp_path))[1] == [1, 2, 3, 4, 5]


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(caplog: pytest.LogCaptureFixture, store: MemoryStore, path: Path) -> str:
    """Open a journal whose only snapshot must be refused and put aside; give the warning."""
    snapshots = folder_of(path)
    (height,) = snapshots.heights()
    with caplog.at_level(logging.WARNING, "hugang.snapshot"):
        machine, heights = opened(store, snapshots)
    assert heights[0] == 1 or store.last_height() == 0
    assert machine.height == store.last_height()
    assert snapshots.heights() == []
    assert (path / "snapshots" / ASIDE).exists()
    (record,) = caplog.records
    caplog.clear()
    assert f"block {height}" in record.getMessage()
    return record.getMessage()


def read_whole(path: Path) -> None:
    """Read every part of a snapshot."""
    with SnapshotFile.open(path, PUBLIC) as file:
        for name in file.names:
            file.data(name)


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    """Whichever byte of a snapshot is another one, the snapshot is not used."""
    chain = chain_of(1)
    path = folder_of(tmp_path).save(chain.machine, NODE)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(IntegrityFailure):
            read_whole(path)


def test_every_torn_file_is_refused(tmp_path: Path) -> None:
    """A snapshot that ends anywhere too early, or goes on, is not used."""
    path = folder_of(tmp_path).save(chain_of(1).machine, NODE)
    data = path.read_bytes()
    for size in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(IntegrityFailure), SnapshotFile.open(path, PUBLIC):
            pass
    path.write_bytes(data + b"\0")
    with pytest.raises(IntegrityFailure, match="SNAPSHOT_TORN"), SnapshotFile.open(path, PUBLIC):
        pass


def test_a_changed_snapshot_costs_time_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot with a changed byte is said to be torn and put aside, and the journal is replayed."""
    chain = reference_chain()
    path = folder_of(tmp_path).save(chain.machine, NODE)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    assert "SNAPSHOT_TORN" in refused(caplog, chain.store(), tmp_path)


def test_a_snapshot_beyond_the_end_of_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A journal that was restored from an older copy does not take what was taken later."""
    folder_of(tmp_path).save(reference_chain().machine, NODE)
    assert "SNAPSHOT_OTHER" in refused(caplog, chain_of(3).store(), tmp_path)


def test_a_snapshot_of_another_history(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same ledger with another block at that height does not take it."""
    chain = chain_of(2)
    chain.add(statement("alice", "note", b"another third block", serial=50))
    folder_of(tmp_path).save(chain.machine, NODE)
    assert "SNAPSHOT_OTHER" in refused(caplog, reference_chain().store(), tmp_path)


def test_a_snapshot_under_another_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot counts only for the height at which it was taken."""
    snapshots = folder_of(tmp_path)
    path = snapshots.save(chain_of(2).machine, NODE)
    path.rename(snapshots.path(3))
    assert "SNAPSHOT_OTHER" in refused(caplog, reference_chain().store(), tmp_path)


def test_a_snapshot_that_somebody_else_signed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the node's own key makes a snapshot."""
    chain = reference_chain()
    folder_of(tmp_path).save(chain.machine, private_key("alice"))
    assert "SNAPSHOT_SIGNATURE" in refused(caplog, chain.store(), tmp_path)


def resaved(path: Path, chain: Chain, change: Callable[[dict[str, bytearray]], None], **place: Any) -> None:
    """Write a snapshot of a chain with some parts changed, and sign it as the node would."""
    parts = {name: bytearray(data) for name, data in parts_of(chain.machine).items()}
    change(parts)
    taken = snapshot._place(chain.machine)
    taken = snapshot_file.Place(**{name: getattr(taken, name) for name in taken.__slots__} | place)
    (path / "snapshots").mkdir()
    write_snapshot(
        folder_of(path).path(chain.machine.height),
        taken,
        {name: [bytes(data)] for name, data in parts.items()},
        private_key=NODE,
        runtime=make_runtime(),
    )


def control(index: int, value: int) -> Callable[[dict[str, bytearray]], None]:
    """Change one number of the state's own."""

    def change(parts: dict[str, bytearray]) -> None:
        struct.pack_into("<q", parts["control"], 8 * index, value)

    return change


def cut(name: str, size: int) -> Callable[[dict[str, bytearray]], None]:
    """Leave bytes at the end of a part out."""

    def change(parts: dict[str, bytearray]) -> None:
        del parts[name][len(parts[name]) - size :]

    return change


def twice(name: str, size: int) -> Callable[[dict[str, bytearray]], None]:
    """Let the last element of a part stand there twice."""

    def change(parts: dict[str, bytearray]) -> None:
        parts[name] += parts[name][-size:]

    return change


def drop(name: str) -> Callable[[dict[str, bytearray]], None]:
    """Leave a part out."""

    def change(parts: dict[str, bytearray]) -> None:
        del parts[name]

    return change


def flip(name: str, place: int) -> Callable[[dict[str, bytearray]], None]:
    """Change a byte of a part."""

    def change(parts: dict[str, bytearray]) -> None:
        parts[name][place] ^= 1

    return change


def answers_twice(parts: dict[str, bytearray]) -> None:
    """Let the last message stand in the table of answers twice."""
    parts["answer-ids"] += parts["answer-ids"][-26:]
    parts["answers"] += parts["answers"][-20:]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (control(ACCOUNT_COUNT, 2), "SNAPSHOT_UNSOUND"),
        (control(POINT_COUNT, 1), "SNAPSHOT_UNSOUND"),
        (control(BUSINESS_DAY, -1), "SNAPSHOT_UNSOUND"),
        (control(BUSINESS_DAY, 2**20), "SNAPSHOT_UNSOUND"),
        (control(YEAR_START, 1), "SNAPSHOT_UNSOUND"),
        (control(BUSINESS_DAY, business_day(START_S * 10**9) + 1), "SNAPSHOT_UNSOUND"),
        (cut("control", 8), "SNAPSHOT_UNSOUND"),
        (cut("control", 7), "SNAPSHOT_TORN"),
        (cut("accounts", 64), "SNAPSHOT_UNSOUND"),
        (flip("accounts", 64 + 8), "SNAPSHOT_UNSOUND"),
        (flip("holds", 16), "SNAPSHOT_UNSOUND"),
        (flip("hold-links", 3), "SNAPSHOT_UNSOUND"),
        (cut("classes", 64), "SNAPSHOT_UNSOUND"),
        (cut("ids", 26), "SNAPSHOT_UNSOUND"),
        (twice("ids", 26), "SNAPSHOT_UNSOUND"),
        (twice("answers", 20), "SNAPSHOT_UNSOUND"),
        (answers_twice, "SNAPSHOT_UNSOUND"),
        (cut("blocks", 8), "SNAPSHOT_UNSOUND"),
        (cut("frontier", 1), "FRONTIER_MALFORMED"),
        (flip("frontier", 20), "SNAPSHOT_UNSOUND"),
        (flip("directory", 12), "VALUE_MALFORMED"),
        (flip("interpreter", 0), "VALUE_MALFORMED"),
        (drop("frontier"), "SNAPSHOT_TORN"),
        (drop("ids"), "SNAPSHOT_TORN"),
    ],
)
def test_parts_that_contradict_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[dict[str, bytearray]], None], code: str
) -> None:
    """Whatever the node may have signed: parts that make no sound ledger are refused, and the journal is replayed."""
    chain = chain_of(2)
    resaved(tmp_path, chain, change)
    assert code in refused(caplog, chain.store(), tmp_path)


def nothing(_parts: dict[str, bytearray]) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ({"genesis_hash": bytes(32)}, "SNAPSHOT_OTHER"),
        ({"height": 4}, "SNAPSHOT_OTHER"),
        ({"block_hash": bytes(32)}, "SNAPSHOT_OTHER"),
        ({"position": 3}, "SNAPSHOT_OTHER"),
        ({"timestamp_ns": 3}, "SNAPSHOT_OTHER"),
        ({"tree_root": bytes(32)}, "SNAPSHOT_OTHER"),
    ],
)
def test_a_place_that_is_not_the_journals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: dict[str, Any], code: str
) -> None:
    """Each thing that a snapshot says of its place is held against the journal."""
    chain = chain_of(2)
    resaved(tmp_path, chain, nothing, **place)
    assert code in refused(caplog, chain.store(), tmp_path)


@pytest.mark.parametrize("offset", [0, 8, 10])
def test_another_format(tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: int) -> None:
    """A magic, a format version or a semantics version that is not known here is said to be so."""
    chain = chain_of(2)
    path = folder_of(tmp_path).save(chain.machine, NODE)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    assert "SNAPSHOT_FORMAT" in refused(caplog, chain.store(), tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot that the disk does not give is left where it is, and the journal is replayed."""
    snapshots = folder_of(tmp_path)
    snapshots.path(2).mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "hugang.snapshot"):
        _, heights = opened(reference_chain().store(), snapshots)
    assert heights == [1, 2, 3, 4, 5]
    assert "cannot be read" in caplog.text


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """A part that ends early under our hands is torn."""
    path = folder_of(tmp_path).save(chain_of(2).machine, NODE)
    with SnapshotFile.open(path, PUBLIC) as file:
        os.truncate(path, path.stat().st_size - 8)
        with pytest.raises(IntegrityFailure, match="cut short"):
            file.data("blocks")


# --- writing ----------------------------------------------------------------------------------------------------------


class Crash(Exception):
    """The process ends here."""


def test_a_crash_while_writing_leaves_the_older_snapshots(tmp_path: Path) -> None:
    """Wherever writing ends, what is found is whole: the older snapshot alone, or the newer one too."""
    chain, folder = reference_chain(), tmp_path / "snapshots"
    folder_of(tmp_path).save(chain_of(2).machine, NODE)
    crossings: list[str] = []
    Snapshots(tmp_path / "other", runtime=make_runtime(on_crossing=crossings.append)).save(chain.machine, NODE)
    for last in range(len(crossings)):
        left = iter(range(last + 1))

        def crash(_point: str, left: Any = left) -> None:
            if next(left) == last:  # noqa: B023 - called before the next turn
                raise Crash

        with pytest.raises(Crash):
            Snapshots(folder, runtime=make_runtime(on_crossing=crash)).save(chain.machine, NODE)
        is_named = crossings[last] == "snapshot.after_name"
        machine, heights = opened(chain.store(), folder_of(tmp_path))
        assert heights == ([] if is_named else [3, 4, 5])
        assert_same(machine, chain.machine)
    assert is_named


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    """Who finds the folder locked writes nothing."""
    chain, snapshots = reference_chain(), folder_of(tmp_path)
    (tmp_path / "snapshots").mkdir()
    with snapshots._locked(), pytest.raises(Unavailable, match="SNAPSHOT_BUSY"):
        folder_of(tmp_path).save(chain.machine, NODE)
    folder_of(tmp_path).save(chain.machine, NODE)


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    """A folder that cannot be made is said so, with a code."""
    (tmp_path / "snapshots").write_bytes(b"")
    with pytest.raises(Unavailable, match="SNAPSHOT_FAILED"):
        folder_of(tmp_path).save(reference_chain().machine, NODE)


def test_a_machine_is_kept_only_where_a_replay_would_stand(tmp_path: Path) -> None:
    """Neither before the first block, nor in a day that has begun without a block, is there anything to keep."""
    with pytest.raises(InvariantViolation, match="replay"):
        folder_of(tmp_path).save(make_machine(), NODE)
    machine = reference_chain().machine
    assert machine.is_exact
    machine.apply((), machine.timestamp_ns + 2 * 86_400 * 10**9)
    assert not machine.is_exact
    with pytest.raises(InvariantViolation, match="replay"):
        folder_of(tmp_path).save(machine, NODE)


def test_a_state_is_kept_between_two_blocks(tmp_path: Path) -> None:
    """Points that nobody has taken show that a block is being made: then nothing is kept."""
    chain = reference_chain()
    chain.machine.state.control[POINT_COUNT] = 1
    with pytest.raises(InvariantViolation, match="between two blocks"):
        folder_of(tmp_path).save(chain.machine, NODE)


def test_parts_have_bounds(tmp_path: Path) -> None:
    """More parts than there may be, or a name that is none, is a bug of the writer."""
    place = snapshot._place(reference_chain().machine)
    for names in ([f"part-{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(65)], ["Part"], [""], ["a" * 25]):
        with pytest.raises(InvariantViolation):
            write_snapshot(tmp_path / "s", place, dict.fromkeys(names, ()), private_key=NODE, runtime=make_runtime())


def example() -> bytes:
    """Give a snapshot of the whole reference journal."""
    with tempfile.TemporaryDirectory() as folder:
        return folder_of(Path(folder)).save(reference_chain().machine, NODE).read_bytes()


def example_changes(data: bytes) -> list[tuple[str, int, bytes, str]]:
    """Give changes of the example: why, where, the bytes that stand there instead, and the code that refuses them.

    The last ones are signed again, so that only what the node itself should never say is left to refuse.
    """
    flipped = [
        ("another magic", 0, "SNAPSHOT_FORMAT"),
        ("a later format", 8, "SNAPSHOT_FORMAT"),
        ("another genesis", 16, "SNAPSHOT_SIGNATURE"),
        ("another height", 48, "SNAPSHOT_SIGNATURE"),
        ("another size of a part", 136 + 24, "SNAPSHOT_SIGNATURE"),
        ("a changed part", len(data) - 8, "SNAPSHOT_TORN"),
    ]
    changes = [(why, place, bytes([data[place] ^ 1]), code) for why, place, code in flipped]
    table = 136 + 64 * int.from_bytes(data[12:16], "little")
    for why, place, code in (
        ("signed of another ledger", 16, "SNAPSHOT_OTHER"),
        ("signed of another", 60, "SNAPSHOT_OTHER"),
    ):
        head = bytearray(data[:table])
        head[place] ^= 1
        signature = NODE.sign(b"hugang-snapshot/1\n" + hashlib.sha256(head).digest())
        changes.append((why, 0, bytes(head) + signature, code))
    return changes


def test_the_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The snapshot of the vectors is what is written today, opens, and each change of it is refused with its code."""
    whole = base64.b64decode(VECTORS["whole"])
    assert whole == example()
    chain = reference_chain()
    path = folder_of(tmp_path).path(5)
    path.parent.mkdir()
    path.write_bytes(whole)
    assert_same(opened(chain.store(), folder_of(tmp_path))[0], chain.machine)
    assert len(VECTORS["refused"]) == 8
    for case in VECTORS["refused"]:
        changed = bytes.fromhex(case["hex"])
        path.write_bytes(whole[: case["offset"]] + changed + whole[case["offset"] + len(changed) :])
        assert case["code"] in refused(caplog, chain.store(), tmp_path), case["why"]


def test_the_example_of_the_page(tmp_path: Path) -> None:
    """The head of a snapshot is as the page says, byte for byte."""
    chain = chain_of(1)
    data = folder_of(tmp_path).save(chain.machine, NODE).read_bytes()
    count = len(parts_of(chain.machine))
    head = struct.pack("<8sHHI", b"hugangSN", 1, 1, count) + hashlib.sha256(GENESIS_BYTES).digest()
    head += struct.pack("<Q", 1) + chain.blocks[0].hash
    head += struct.pack("<QQ", chain.machine.position, chain.blocks[0].header.timestamp_ns)
    head += chain.blocks[0].header.tree_root
    assert data.startswith(head)
    table = 136
    offset = table + 64 * count + 64
    for name, part in parts_of(chain.machine).items():
        entry = name.encode().ljust(24, b"\0") + struct.pack("<Q", len(part)) + hashlib.sha256(part).digest()
        assert data[table : table + 64] == entry
        assert data[offset : offset + len(part)] == part
        table, offset = table + 64, offset + len(part)
    assert offset == len(data)
    NODE.public_key().verify(data[table : table + 64], b"hugang-snapshot/1\n" + hashlib.sha256(data[:table]).digest())
    assert chain.blocks[0].header.ledger == LEDGER
    assert np.frombuffer(parts_of(chain.machine)["control"], "<i8")[ACCOUNT_COUNT] == 3
