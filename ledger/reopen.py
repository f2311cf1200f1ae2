"""Opening a journal again: the machine that it determines, from the newest snapshot that stands or from the start."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ledger import genesis as genesis_format
from ledger import journal
from ledger.errors import IntegrityFailure, MalformedInput
from ledger.machine import Interpreter, Machine
from ledger.points import PointSink
from ledger.reader import Reader
from ledger.replay import Applied, Follower, Prepared
from ledger.runtime import Lane, Runtime
from ledger.snapshot import Snapshots
from ledger.store import Store

__all__ = ["follow", "open_machine"]

AHEAD_COUNT = 3
"""Runs of blocks that are read ahead of the one that is applied."""
RUN_COUNT, RUN_SIZE = 64, 2**20
"""Blocks of a run, and the bytes of bodies with which one ends: small blocks are handed over together."""
BEHIND_COUNT = 2
"""Blocks that may wait to be compared."""
ASIDE_COUNT = 1_024
"""Records from which on a block is compared on a thread of its own: a smaller one is done before a thread has woken."""

_Run = list[Prepared | IntegrityFailure]


def open_machine(
    store: Store,
    interpreter_factory: Callable[[], Interpreter],
    hash_key: bytes,
    *,
    snapshots: Snapshots | None = None,
    points: PointSink | None = None,
    runtime: Runtime | None = None,
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
        runtime: gives the threads on which blocks are read and compared beside the fold; without one all is done here.
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
    follow(machine, store, points=points, runtime=runtime, progress=progress)
    return machine


def follow(
    machine: Machine,
    store: Store,
    *,
    points: PointSink | None = None,
    runtime: Runtime | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Lead a machine along its journal to the end, comparing everything.

    With a runtime three threads share the work: one reads and hashes the blocks that come, this one applies, and one
    compares what has been applied and lets the tree grow. Whatever fails first in the journal is what is raised.

    Raises:
        IntegrityFailure: the stored journal contradicts itself.
    """
    follower = Follower(machine, check_signatures=False)

    def accept(applied: Applied) -> None:
        """Say what has been found to be the journal's."""
        if points is not None:
            points.add(applied.draft.height, journal.block_hash(applied.prepared.encoded.header), applied.draft.points)
            points.keep_up()
        if progress is not None:
            progress(applied.draft.height)

    if runtime is None:
        for encoded in store.blocks(machine.height + 1):
            applied = follower.apply(follower.prepare(encoded))
            follower.finish(applied)
            accept(applied)
        return
    lanes = runtime.lane("read"), runtime.lane("compare")
    try:
        _Pipeline(follower, store, *lanes, accept).run()
    finally:
        for lane in lanes:
            lane.close()


class _Pipeline:
    """Follows a journal on three threads."""

    def __init__(
        self, follower: Follower, store: Store, read: Lane, compare: Lane, accept: Callable[[Applied], None]
    ) -> None:
        self._follower = follower
        self._blocks = store.blocks(follower.machine.height + 1)
        self._read = read
        self._compare = compare
        self._accept = accept
        self._ahead: deque[Future[_Run]] = deque()
        self._behind: deque[tuple[Applied, Future[None]]] = deque()

    def run(self) -> None:
        """Follow to the end; what is still being compared comes before whatever fails further ahead."""
        try:
            while run := self._next():
                for prepared in run:
                    if isinstance(prepared, IntegrityFailure):
                        raise prepared
                    self._finish(self._follower.apply(prepared))
        finally:
            self._settle(0)

    def _next(self) -> _Run:
        """Give the next blocks, while those behind them are read; none at the end."""
        while len(self._ahead) < AHEAD_COUNT:
            self._ahead.append(self._read.submit(self._prepare))
        return self._ahead.popleft().result()

    def _prepare(self) -> _Run:
        """Read some blocks and prepare them, on the reading thread; what cannot be read stands in its place."""
        run: _Run = []
        size = 0
        try:
            for encoded in self._blocks:
                run.append(self._follower.prepare(encoded))
                size += len(encoded.body)
                if size >= RUN_SIZE or len(run) == RUN_COUNT:
                    break
        except IntegrityFailure as error:
            run.append(error)
        return run

    def _finish(self, applied: Applied) -> None:
        """Let a block be compared: a small one here and now, unless others are still before it."""
        if not self._behind and len(applied.draft.transfers) < ASIDE_COUNT:
            self._follower.finish(applied)
            self._accept(applied)
            return
        finishing = self._compare.submit(partial(self._follower.finish, applied))
        self._behind.append((applied, finishing))
        self._settle(BEHIND_COUNT)

    def _settle(self, count: int) -> None:
        """Wait until no more than ``count`` blocks are being compared; the first that fails is what counts."""
        while len(self._behind) > count or (self._behind and self._behind[0][1].done()):
            applied, finishing = self._behind.popleft()
            error = finishing.exception()
            if error is not None:
                self._behind.clear()
                raise error
            self._accept(applied)
