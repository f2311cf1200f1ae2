"""Snapshots: what a machine is after some block, so that reopening need not replay what lies before.

A snapshot is a projection: it may be lost, and it is believed only where it fits the journal. Its block must stand at
its height with its hash, and that block's header must name its tree; its parts must hash to what the node signed, and
make a sound state. One that does not is put aside with a plain warning, and an older one is taken, or the journal from
its first block: never a wrong answer. That no byte *before* a snapshot has changed is not asked when a node starts;
whoever reads it asks, and so does the verifier.

``Snapshots`` is the folder in which the newest two lie. Whoever writes there locks it, so that two processes cannot
get into each other's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import journal
from ledger.answers import ANSWER, Answers
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput, NotFound, Unavailable
from ledger.genesis import Genesis, genesis_hash
from ledger.machine import Interpreter, Machine
from ledger.merkle import Frontier
from ledger.parties import Directory, Key, Party, Role
from ledger.registry import ENTRY, Registry
from ledger.reversals import Recall
from ledger.runtime import Runtime
from ledger.snapshot_file import Pieces, Place, SnapshotFile, write_snapshot
from ledger.state_parts import restore_state, state_arrays
from ledger.store import Store
from ledger.values import Codec

__all__ = ["KEPT_COUNT", "Snapshots", "machine_parts", "restore_machine"]

KEPT_COUNT = 2
"""Snapshots that are kept: the newest, and one to fall back upon."""
ASIDE = "refused.hgs"
_NAME = re.compile(r"snapshot-([0-9]{16})\.hgs")
_ROOM = 1_024
_DIRECTORY = Codec(classes=(Directory, Key, Party, Role), dtypes={})

_log = logging.getLogger("hugang.snapshot")


class Snapshots:
    """A folder with the snapshots of one ledger."""

    def __init__(self, folder: Path, *, runtime: Runtime) -> None:
        """Look into a folder, which need not be there."""
        self._folder = folder
        self._runtime = runtime

    def heights(self) -> list[int]:
        """Give the heights of which there is a snapshot, the newest first; none where nothing can be listed."""
        try:
            names = sorted((path.name for path in self._folder.iterdir()), reverse=True)
        except OSError:
            return []
        return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]

    def path(self, height: int) -> Path:
        """Give the file of a snapshot."""
        return self._folder.joinpath(f"snapshot-{height:016d}.hgs")

    def save(self, machine: Machine, private_key: Ed25519PrivateKey) -> Path:
        """Write a snapshot of a machine that stands between two durable blocks; older ones but one are removed.

        Raises:
            InvariantViolation: the machine is not what a replay gives (``Machine.is_exact``).
            Unavailable: ``SNAPSHOT_BUSY``, another process writes here; ``SNAPSHOT_FAILED``, the disk does not take it.
        """
        if not machine.is_exact:
            raise InvariantViolation("a machine is kept only where a replay would stand, after a block")
        path = self.path(machine.height)
        try:
            with self._locked():
                parts = machine_parts(machine)
                write_snapshot(path, _place(machine), parts, private_key=private_key, runtime=self._runtime)
                for height in [one for one in self.heights() if one <= machine.height][KEPT_COUNT:]:
                    self.path(height).unlink()
        except OSError as error:
            raise Unavailable(
                "SNAPSHOT_FAILED", f"A snapshot cannot be written: {error.strerror}.", retry_after_s=60
            ) from error
        return path

    def load(
        self,
        store: Store,
        genesis: Genesis,
        interpreter_factory: Callable[[], Interpreter],
        hash_key: bytes,
        *,
        history: Recall,
        height_max: int | None = None,
        compiled: bool = True,
    ) -> Machine | None:
        """Give the machine of the newest snapshot that stands, ``None`` if none does; see ``open_machine``.

        Those behind ``height_max`` are passed over: what somebody else needs of the blocks before would be missing.
        What cannot be used is put aside, so that it is said once.
        """
        public_key = bytes.fromhex(genesis.node(genesis.ledger).public_key)
        for height in self.heights():
            if height_max is not None and height > height_max:
                continue
            try:
                with SnapshotFile.open(self.path(height), public_key) as file:
                    _check_place(file.place, height, store, genesis)
                    machine = Machine(
                        genesis, interpreter_factory(), hash_key=hash_key, history=history, compiled=compiled
                    )
                    restore_machine(machine, file, hash_key)
                    return machine
            except OSError as error:
                _log.warning("the snapshot of block %d cannot be read: %s", height, error.strerror)
            except (IntegrityFailure, MalformedInput) as error:
                _log.warning("the snapshot of block %d is not used: %s", height, error)
                self._put_aside(height)
        return None

    def _put_aside(self, height: int) -> None:
        """Let a snapshot that was refused be found by people and by nobody else; only the last one is kept."""
        with contextlib.suppress(OSError):
            self.path(height).replace(self._folder.joinpath(ASIDE))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one who writes here.

        Raises:
            Unavailable: ``SNAPSHOT_BUSY``.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(self._folder.joinpath("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Unavailable(
                    "SNAPSHOT_BUSY", "Another process writes a snapshot of this ledger.", retry_after_s=60
                ) from error
            yield
        finally:
            os.close(file)


def machine_parts(machine: Machine) -> dict[str, Pieces]:
    """Give all that a machine is between two blocks, in the order in which a snapshot has it.

    Raises:
        InvariantViolation: it holds something that cannot be kept.
    """
    answers = machine.answers
    arrays = state_arrays(machine.state) | {
        "answer-ids": answers.registry.entries[: len(answers)],
        "answers": answers.rows.array[: len(answers)],
        "blocks": answers.first_positions.array[: answers.block_count],
    }
    return {
        "frontier": [machine.frontier.to_bytes()],
        "directory": _DIRECTORY.pack(machine.directory),
        "interpreter": machine.interpreter.dump(),
        **{
            name: [np.ascontiguousarray(rows).view(np.uint8).data] if len(rows) else [] for name, rows in arrays.items()
        },
    }


def restore_machine(machine: Machine, file: SnapshotFile, hash_key: bytes) -> None:
    """Bring a fresh machine to where a snapshot was taken.

    Raises:
        IntegrityFailure: the parts contradict each other, or something that must always hold.
        MalformedInput: a part is not of its form.
    """
    place = file.place
    machine.frontier = Frontier.from_bytes(bytes(file.data("frontier")))
    if (machine.frontier.size, machine.frontier.root()) != (place.position, place.tree_root):
        raise IntegrityFailure("SNAPSHOT_UNSOUND", "A snapshot's tree is not the one that it names.")
    machine.directory = _DIRECTORY.unpack(file.data("directory"))
    machine.state = restore_state(hash_key, file.array)
    machine.answers = _restore_answers(file, hash_key)
    if machine.answers.block_count != place.height:
        raise IntegrityFailure("SNAPSHOT_UNSOUND", "A snapshot knows another number of blocks than its own.")
    machine.interpreter.load(file.data("interpreter"))
    machine.height, machine.position = place.height, place.position
    machine.timestamp_ns, machine.previous_hash = place.timestamp_ns, place.block_hash
    if not machine.is_exact:
        raise IntegrityFailure("SNAPSHOT_UNSOUND", "A snapshot's business day is not that of its block.")


def _restore_answers(file: SnapshotFile, hash_key: bytes) -> Answers:
    """Make the table of answers again."""
    entries, count = file.array("answer-ids", ENTRY, _ROOM)
    rows, row_count = file.array("answers", ANSWER, _ROOM)
    answers = Answers(hash_key)
    answers.first_positions, answers.block_count = file.array("blocks", np.uint64, _ROOM)
    if row_count != count:
        raise IntegrityFailure("SNAPSHOT_UNSOUND", "A snapshot's answers are not as many as their ids.")
    try:
        answers.registry = Registry.restore(hash_key, entries, count)
    except InvariantViolation as error:
        raise IntegrityFailure("SNAPSHOT_UNSOUND", f"A snapshot's answers are unsound: {error}.") from error
    answers.rows = rows
    return answers


def _place(machine: Machine) -> Place:
    return Place(
        genesis_hash=machine.genesis_hash,
        height=machine.height,
        block_hash=machine.previous_hash,
        position=machine.position,
        timestamp_ns=machine.timestamp_ns,
        tree_root=machine.frontier.root(),
    )


def _check_place(place: Place, height: int, store: Store, genesis: Genesis) -> None:
    """Hold a snapshot against the journal.

    Raises:
        IntegrityFailure: ``SNAPSHOT_OTHER``, it was taken of another journal, or lies beyond the end of this one.
    """
    if place.genesis_hash != genesis_hash(genesis):
        raise IntegrityFailure("SNAPSHOT_OTHER", "The snapshot belongs to another ledger.")
    try:
        data = store.header(height)
    except NotFound as error:
        sentence = "The journal does not come as far as the snapshot: it is an older copy, or has lost blocks."
        raise IntegrityFailure("SNAPSHOT_OTHER", sentence, block=height) from error
    header = journal.decode_header(data)
    stored = (header.height, header.first_position + header.position_count, header.timestamp_ns, header.tree_root)
    taken = (place.height, place.position, place.timestamp_ns, place.tree_root)
    is_same = hashlib.sha256(data).digest() == place.block_hash and stored == taken and place.height == height
    if not is_same or header.tree_size != place.position:
        raise IntegrityFailure("SNAPSHOT_OTHER", "The snapshot was taken of another journal.", block=height)
