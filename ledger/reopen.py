"""Opening a journal again: the machine that it determines, from the newest snapshot that stands or from the start."""

from __future__ import annotations

from collections.abc import Callable

from ledger import genesis as genesis_format
from ledger.errors import IntegrityFailure, MalformedInput
from ledger.machine import Interpreter, Machine
from ledger.points import PointSink
from ledger.reader import Reader
from ledger.replay import Follower
from ledger.snapshot import Snapshots
from ledger.store import Store

__all__ = ["open_machine"]


def open_machine(
    store: Store,
    interpreter_factory: Callable[[], Interpreter],
    hash_key: bytes,
    *,
    snapshots: Snapshots | None = None,
    points: PointSink | None = None,
    compiled: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Machine:
    """Rebuild a machine from its journal, comparing everything that is replayed.

    Args:
        store: the journal.
        interpreter_factory: makes a fresh interpreter; asked again when a snapshot had to be refused.
        hash_key: 16 secret bytes for the id table.
        snapshots: where to begin; what lies before the newest one that stands is not replayed.
        points: given the balance points of each block; no snapshot is used that lies behind what it has.
        compiled: whether the compiled kernel is used.
        progress: told each height that has been followed.

    Raises:
        IntegrityFailure: the stored journal contradicts itself; names the block and the first bad position.
    """
    try:
        genesis = genesis_format.decode(store.genesis())
    except MalformedInput as error:
        raise IntegrityFailure(error.code, error.sentence, block=0) from error
    history = Reader(store).recall
    machine = None
    if snapshots is not None:
        machine = snapshots.load(
            store,
            genesis,
            interpreter_factory,
            hash_key,
            history=history,
            height_max=None if points is None else points.height,
            compiled=compiled,
        )
    if machine is None:
        machine = Machine(genesis, interpreter_factory(), hash_key=hash_key, history=history, compiled=compiled)
    follow(machine, store, points=points, progress=progress)
    return machine


def follow(
    machine: Machine,
    store: Store,
    *,
    points: PointSink | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Lead a machine along its journal to the end, comparing everything.

    Raises:
        IntegrityFailure: the stored journal contradicts itself.
    """
    follower = Follower(machine, check_signatures=False)
    for encoded in store.blocks(machine.height + 1):
        _, draft = follower.follow(follower.prepare(encoded))
        if points is not None:
            points.add(machine.height, machine.previous_hash, draft.points)
            points.keep_up()
        if progress is not None:
            progress(machine.height)
