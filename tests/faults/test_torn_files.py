"""Files as a power cut or a bad disk may leave them: a node starts with a beginning of its journal, or says damage."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ledger.errors import IntegrityFailure, MalformedInput
from ledger.journal import Block
from ledger.store import SqliteStore
from ledger.writer import open_machine
from tests.ledger_fixture import GENESIS_BYTES, HASH_KEY, FixtureInterpreter, make_runtime, reference_chain, statement

pytestmark = pytest.mark.long

NAME = "sh.db"
LOG_NAME = "sh.db-wal"
SEED = 20_260_401
DAMAGE_COUNT = 150


def make_blocks() -> list[Block]:
    """Make the reference journal and some notes after it."""
    chain = reference_chain()
    for serial in range(100, 107):
        chain.add(statement("alice", "note", bytes(serial), serial=serial))
    return chain.blocks


BLOCKS = make_blocks()
HASHES = [block.hash for block in BLOCKS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give ``cut``, copied from a living writer with all blocks in its log, and ``closed``, left in peace."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("live", "cut", "closed"):
        (folder / name).mkdir()
    store = SqliteStore.create(folder / "live" / NAME, GENESIS_BYTES, runtime=make_runtime())
    for block in BLOCKS:
        store.append(block)
    for name in (NAME, LOG_NAME):
        shutil.copy(folder / "live" / name, folder / "cut" / name)
    store.close()
    shutil.copy(folder / "live" / NAME, folder / "closed" / NAME)
    return folder


def start(folder: Path) -> int:
    """Start as a node does; give the height, once the journal up to there is the one that was written."""
    store = SqliteStore.open(folder / NAME, runtime=make_runtime())
    try:
        machine = open_machine(store, FixtureInterpreter, HASH_KEY)
        if machine.height:
            assert machine.previous_hash == HASHES[machine.height - 1]
        if machine.height < len(BLOCKS):
            store.append(BLOCKS[machine.height])
        return machine.height
    finally:
        store.close()


def damaged(original: Path, target: Path, name: str, data: bytes) -> Path:
    """Copy a store and put other bytes into one of its files."""
    shutil.copytree(original, target)
    (target / name).write_bytes(data)
    return target


def test_the_copies_have_everything(folder: Path, tmp_path: Path) -> None:
    """The files of a living writer and those of a closed one have every acknowledged block (I7)."""
    for name in ("cut", "closed"):
        shutil.copytree(folder / name, tmp_path / name)
        assert start(tmp_path / name) == len(BLOCKS)


def test_a_torn_log_gives_a_beginning(folder: Path, tmp_path: Path) -> None:
    """A log cut anywhere gives the blocks whose commits lie before the cut, each whole, and takes the next one."""
    data = (folder / "cut" / LOG_NAME).read_bytes()
    cuts = np.linspace(0, len(data), 80).astype(int).tolist()
    heights = [start(damaged(folder / "cut", tmp_path / str(cut), LOG_NAME, data[:cut])) for cut in cuts]
    assert heights == sorted(heights)
    assert set(heights) == set(range(len(BLOCKS) + 1))


@pytest.mark.parametrize(("kind", "name"), [("cut", LOG_NAME), ("cut", NAME), ("closed", NAME)])
def test_a_changed_byte_is_damage_or_a_beginning(folder: Path, tmp_path: Path, kind: str, name: str) -> None:
    """Whatever byte of the files changes, a node never starts with anything but a beginning of its journal."""
    sys.stdout.write(f"seed {SEED}\n")
    random = np.random.default_rng([SEED, len(kind), len(name)])
    original = (folder / kind / name).read_bytes()
    outcomes: list[int | str] = []
    for number in range(DAMAGE_COUNT):
        data = bytearray(original)
        data[int(random.integers(0, len(data)))] ^= int(random.integers(1, 256))
        try:
            outcomes.append(start(damaged(folder / kind, tmp_path / str(number), name, bytes(data))))
        except (IntegrityFailure, MalformedInput) as error:
            outcomes.append(error.code)
    heights = {outcome for outcome in outcomes if isinstance(outcome, int)}
    reports = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if kind == "closed":
        assert len(reports) > DAMAGE_COUNT // 10
        assert heights == {len(BLOCKS)}
    else:  # the log covers the database, and ends where a frame does not fit
        assert len(heights) > (name == LOG_NAME)
