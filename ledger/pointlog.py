"""All balance points of a running ledger: a table has those up to its watermark, memory those since.

Whoever makes blocks durable, or follows stored ones, adds their points here, before anybody hears of those blocks; a
thread of its own carries them into the table. So points are complete for whatever can be asked about, and no commit
waits for them. What was only in memory comes again when the journal is followed at the next start.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np

from ledger import journal
from ledger.errors import IntegrityFailure, LedgerError, Unavailable
from ledger.points import POINT
from ledger.registry import Array
from ledger.runtime import Runtime
from ledger.store import Store
from ledger.store.points import PointTable

__all__ = ["PointLog"]

FLUSH_COUNT = 2**14
"""Points that are carried into the table together."""
FLUSH_NS = 10**9
"""How long they are kept back while fewer come."""
KEPT_COUNT_MAX = 2**20
"""Points in memory, 56 MiB, from which on a table that cannot be written is given up until the next start."""


class PointLog:
    """Finds an account's points (``asof.PointLookup``) and takes new ones (``points.PointSink``), on any thread."""

    def __init__(self, table: PointTable, *, runtime: Runtime) -> None:
        """Stand where the table stands; ``align`` says whether that is a place in this journal."""
        self._table = table
        self._runtime = runtime
        self._lane = runtime.lane("points")
        self._lock = threading.Lock()
        self._height, self._hash = table.height, table.block_hash
        self._moving: Array = np.empty(0, POINT)
        self._chunks: list[Array] = []
        self._count = 0
        self._is_moving = False
        self._is_whole = True
        self._moved_ns = runtime.monotonic_ns()

    @property
    def height(self) -> int:
        """The last block whose points are all here."""
        return self._height

    def align(self, store: Store) -> None:
        """Begin anew if the table comes from another journal than the one in ``store``, such as a newer copy of it."""
        height = self._table.height
        is_ours = height <= store.last_height()
        if is_ours and height:
            is_ours = journal.block_hash(store.header(height)) == self._table.block_hash
        if not is_ours:
            self._table.begin_anew()
            self._height, self._hash = self._table.height, self._table.block_hash

    def add(self, height: int, block_hash: bytes, points: Array) -> None:
        """Take a block's points, in the order of what happened. Blocks come in order; one that is known is passed over.

        After a gap no point can be trusted to be the nearest one: whoever asks is told so until the next start.
        """
        with self._lock:
            if height <= self._height or not self._is_whole:
                return
            if height != self._height + 1 or self._count + len(points) > KEPT_COUNT_MAX:
                self._give_up()
                return
            self._height, self._hash = height, block_hash
            self._count += len(points)
            if len(points):
                self._chunks.append(points)
            if not self._is_due():
                return
            self._is_moving = True
        self._lane.submit(self._move)

    def tick(self) -> None:
        """Carry over what has waited for a second."""
        with self._lock:
            if self._height == self._table.height or not self._is_due():
                return
            self._is_moving = True
        self._lane.submit(self._move)

    def _is_due(self) -> bool:
        """Whether it is time to carry something over; call it with the lock."""
        is_late = self._runtime.monotonic_ns() - self._moved_ns >= FLUSH_NS
        return self._is_whole and not self._is_moving and (is_late or self._count >= FLUSH_COUNT)

    def keep_up(self) -> None:
        """Wait until the table has taken most; whoever follows a stored journal is faster than a disk."""
        if self._count >= KEPT_COUNT_MAX // 4:
            self._lane.submit(self._move).result()

    def at_or_before(self, account: int, position: int) -> np.void | None:
        """Give the newest point at or before a position.

        Raises:
            Unavailable: ``POINTS_MISSING``, until the next start; or the database does not answer.
        """
        for rows in reversed(self._in_memory()):
            found = rows[(rows["account"] == account) & (rows["position"] <= position)]
            if len(found):
                newest: np.void = found[-1]
                return newest
        return self._stored(self._table.at_or_before, account, position)

    def after(self, account: int, position: int) -> np.void | None:
        """Give the oldest point after a position.

        Raises:
            Unavailable: as for ``at_or_before``.
        """
        # Memory first: what is carried over meanwhile is then seen twice, and not missed.
        in_memory = self._in_memory()
        stored = self._stored(self._table.after, account, position)
        if stored is not None:
            return stored
        for rows in in_memory:
            found = rows[(rows["account"] == account) & (rows["position"] > position)]
            if len(found):
                oldest: np.void = found[found["position"] == found["position"][0]][-1]
                return oldest
        return None

    def distrust(self) -> Unavailable:
        """Forget all points, since one was found wrong: the next start makes them again. Gives what to say."""
        with self._lock:
            self._give_up()
        self._lane.submit(self._forget)
        return _missing()

    def close(self) -> None:
        """Carry over what is left, and let go of the table."""
        self._lane.submit(self._move).result()
        self._lane.close()
        self._table.close()

    def _stored(self, find: Callable[[int, int], np.void | None], account: int, position: int) -> np.void | None:
        """Ask the table; a point that was changed is a reason to trust none."""
        try:
            return find(account, position)
        except IntegrityFailure as error:
            raise self.distrust() from error

    def _in_memory(self) -> tuple[Array, Array]:
        """Give what the table may not have yet, in order."""
        with self._lock:
            if not self._is_whole:
                raise _missing()
            if len(self._chunks) > 1:
                self._chunks = [np.concatenate(self._chunks)]
            return self._moving, self._chunks[0] if self._chunks else np.empty(0, POINT)

    def _move(self) -> None:
        """Carry everything into the table; what cannot be carried stays, and is tried again with a later block.

        A table that turns out to be damaged when its points are joined with new ones is forgotten.
        """
        with self._lock:
            self._moving = np.concatenate([self._moving, *self._chunks])
            self._chunks = []
            points, height, block_hash = self._moving, self._height, self._hash
            is_due = self._is_whole and height > self._table.height
        try:
            if is_due:
                self._table.put(height, block_hash, points)
            is_carried = True
        except (LedgerError, IntegrityFailure) as error:
            is_carried = False
            if error.code == "POINTS_CORRUPT":
                self.distrust()
        with self._lock:
            self._moved_ns = self._runtime.monotonic_ns()
            self._is_moving = False
            if is_carried:
                self._count -= len(points)
                self._moving = np.empty(0, POINT)

    def _forget(self) -> None:
        with contextlib.suppress(LedgerError, IntegrityFailure):
            self._table.begin_anew()

    def _give_up(self) -> None:
        """Keep nothing any more; call it with the lock."""
        self._is_whole = False
        self._moving, self._chunks, self._count = np.empty(0, POINT), [], 0


def _missing() -> Unavailable:
    return Unavailable("POINTS_MISSING", "Old balances come back when the node is started again.", retry_after_s=60)
