"""The single writer: what queues up becomes one block, one commit, and only then answers.

The front is asyncio, the work runs on one thread of its own (a ``Lane``), commits on another. While a block is being
committed, new messages queue up and make the next one: group commit without a timer. When so much has queued that it
fills a block anyway, it is applied meanwhile, and large blocks are sealed on a third thread: one block is written while
the next is hashed and the one after that is applied. The answers of each still wait for its own commit, and for those
before it. One callback of the event loop delivers a whole block's answers. Reads and decisions run when all blocks have
landed, so that the machine is what is durable.

The first failure ends it: a commit that fails, a broken invariant, anything unforeseen. Whoever waits gets
``WRITER_STOPPED``, ``failure`` says why, and only a new start, which replays the journal, goes on from there. An answer
that never came may have been journaled; a retry tells (I8).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import journal, posting
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError, Unavailable
from ledger.journal import Block
from ledger.line import Line, Waiting, Work
from ledger.machine import Admitted, Answer, Draft, Machine
from ledger.points import PointSink
from ledger.reader import Reader
from ledger.registry import Array
from ledger.reopen import open_machine
from ledger.runtime import Runtime
from ledger.store import Store

__all__ = ["Writer", "open_machine"]

QUEUE_LIMIT = 20_000
"""Messages and decisions that may wait, and as many reads."""
BATCH_LIMIT = 4_096
"""Messages of one block."""
BATCH_POSITION_COUNT = 2**16
"""Positions of one block, expiries included, after which it takes no more messages: larger blocks would cost no less a
record, and whoever comes behind one would wait longer."""
FLIGHT_COUNT_MAX = 3
"""Blocks that have been applied and are not durable yet: one is committed, one sealed, one waits for either."""
ASIDE_COUNT = 1_024
"""Records from which on a block is sealed on a thread of its own: a smaller one is sealed before a thread has woken."""
TICK_S = 1
"""How often an idle node looks for holds that are due."""

T = TypeVar("T")
Outcome = tuple["asyncio.Future[Any]", Any, Exception | None]
"""Whom to answer, with what, or with which failure."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A block between its application and its durability, and who waits for it to land."""

    outcomes: list[Outcome]
    is_sealed: bool = False


@dataclass(frozen=True, slots=True)
class _Query(Generic[T]):
    """A read and who waits for it."""

    query: Callable[[Machine], T]
    future: asyncio.Future[T]


class Writer:
    """The one writer of one ledger. All its methods belong to the event loop that called ``start``."""

    def __init__(
        self,
        machine: Machine,
        store: Store,
        private_key: Ed25519PrivateKey,
        runtime: Runtime,
        *,
        points: PointSink | None = None,
        queue_limit: int = QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        """Take a machine that stands where the store ends.

        Raises:
            InvariantViolation: they do not stand at the same place, or the key is not the node's.
        """
        node = machine.genesis.node(machine.genesis.ledger)
        if private_key.public_key().public_bytes_raw().hex() != node.public_key:
            raise InvariantViolation("the writer's key is not the one the genesis names")
        if store.last_height() != machine.height:
            raise InvariantViolation("I5: the machine and the store stand at different blocks")
        self.failure: BaseException | None = None
        """Why the writer has stopped by itself; ``None`` while it works."""
        self._machine = machine
        self._machine.history = Reader(store).recall
        self._store = store
        self._private_key = private_key
        self._runtime = runtime
        self._points = points
        self._queue_limit = queue_limit
        self._lock = threading.Condition()
        self._line = Line(batch_limit)
        self._queries: deque[_Query[Any]] = deque()
        self._in_turn: list[Waiting | _Query[Any]] = []
        self._flights: deque[_Flight] = deque()
        self._broken: BaseException | None = None
        self._is_tick_due = False
        self._is_draining = False
        self._is_open = False
        self._lane = runtime.lane("writer")
        self._seal_lane = runtime.lane("seal")
        self._commit_lane = runtime.lane("commit")
        self._ticks: list[asyncio.Task[None]] = []
        self._drains: set[asyncio.Future[None]] = set()

    # --- the front: event loop only -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take messages."""
        self._is_open = True
        self._ticks.append(asyncio.create_task(self._tick()))

    async def stop(self) -> None:
        """Take no more, finish what has queued, and end the thread. The store stays open."""
        self._close()
        while self._drains:
            await asyncio.wait(self._drains)
        for lane in (self._lane, self._seal_lane, self._commit_lane):
            lane.close()

    async def submit(self, admitted: Admitted) -> Answer:
        """Journal a message and give its place; returns after the commit. A retry gets the first answer again (I8).

        Raises:
            LedgerError: it was refused, and is not journaled.
            Unavailable: ``BUSY``, the queue is full; ``WRITER_STOPPED``, and it may or may not be journaled.
        """
        answer: Answer = await self._enqueue(admitted, None)
        return answer

    async def decide(self, work: Work) -> tuple[Answer, ...]:
        """Run ``work`` in the writer's turn and journal what it gives as one block of its own.

        When ``work`` runs, every hold that is due has expired. Nothing comes between it and its block. The messages are
        journaled whole or, if the first is refused, not at all. Nothing to journal gives no answers.

        Raises:
            LedgerError: from ``work``, or the refusal of the first message; nothing is journaled.
            Unavailable: as for ``submit``; a refusal of a later message stops the writer, since it breaks the bundle.
        """
        answers: tuple[Answer, ...] = await self._enqueue(None, work)
        return answers

    async def read(self, query: Callable[[Machine], T]) -> T:
        """Run ``query`` between two blocks, when the machine is exactly what is durable. It must change nothing.

        Raises:
            Exception: whatever ``query`` raises.
            Unavailable: ``BUSY`` or ``WRITER_STOPPED``.
        """
        future: asyncio.Future[T] = self._future(len(self._queries))
        with self._lock:
            self._queries.append(_Query(query, future))
        self._wake()
        return await future

    @property
    def waiting_count(self) -> int:
        """How many messages and decisions wait for their turn."""
        return len(self._line)

    def _enqueue(self, admitted: Admitted | None, work: Work | None) -> asyncio.Future[Any]:
        future = self._future(len(self._line))
        with self._lock:
            self._line.add(Waiting(admitted, work, future))
            if self._flights and self._is_worth_overlapping():
                self._lock.notify()
        self._wake()
        return future

    def _future(self, waiting_count: int) -> asyncio.Future[Any]:
        """Make the place where an answer will appear, unless there is no room for a question."""
        if not self._is_open:
            raise _stopped()
        if waiting_count >= self._queue_limit:
            raise Unavailable("BUSY", "Too many requests are waiting.", retry_after_s=1)
        return asyncio.get_running_loop().create_future()

    def _wake(self) -> None:
        """Start draining the queue unless somebody does."""
        with self._lock:
            if self._is_draining:
                return
            self._is_draining = True
        draining = self._lane.start(self._drain)
        self._drains.add(draining)
        draining.add_done_callback(self._drained)

    def _close(self) -> None:
        """Take no more."""
        self._is_open = False
        for task in self._ticks:
            task.cancel()

    def _drained(self, future: asyncio.Future[None]) -> None:
        """When draining ended with a failure, stop for good and tell everybody who waits."""
        self._drains.discard(future)
        error = future.exception()
        if error is None:
            return
        self.failure = error
        self._close()
        unanswered = [future for flight in self._flights for future, _, _ in flight.outcomes]
        unanswered += [item.future for item in (*self._in_turn, *self._line, *self._queries)]
        for waiting in unanswered:
            if not waiting.done():
                waiting.set_exception(_stopped())
        self._line.clear()
        self._queries.clear()

    async def _tick(self) -> None:
        """Let holds expire on an idle node."""
        while True:
            await self._runtime.sleep(TICK_S)
            self._is_tick_due = True
            self._wake()
            if self._points is not None:
                self._points.tick()

    @staticmethod
    def _answer(outcomes: Iterable[Outcome]) -> None:
        """Deliver a whole turn's answers in one callback."""
        for future, value, error in outcomes:
            if future.done():
                continue  # whoever asked has gone
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

    # --- the work: the lane only --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Serve what has queued, turn by turn, until nothing is left."""
        while True:
            self._await_turn()
            turn = self._take()
            if turn is None:
                return
            queries, waiting = turn
            if queries:
                self._deliver([_ask(query, self._machine) for query in queries])
            if waiting and waiting[0].work is not None:
                self._deliver([self._bundle_turn(waiting[0].work, waiting[0].future)])
            elif waiting:
                self._message_turn(waiting)
            elif self._is_tick_due:
                self._is_tick_due = False
                self._expire()

    def _is_worth_overlapping(self) -> bool:
        """Whether a block can be applied while others are under way. Call it with the lock."""
        return self._line.is_worth_overlapping and not self._queries

    def _await_turn(self, *, landed: bool = False) -> None:
        """Wait until all blocks have landed, or, unless told to, until enough has queued to apply another meanwhile."""
        with self._lock:
            self._lock.wait_for(
                lambda: (
                    self._broken is not None
                    or not self._flights
                    or (not landed and len(self._flights) < FLIGHT_COUNT_MAX and self._is_worth_overlapping())
                )
            )
        if self._broken is not None:
            raise self._broken

    def _take(self) -> tuple[list[_Query[Any]], list[Waiting]] | None:
        """Take all reads, unless a commit is under way, and the next bundle or block's messages; ``None``: no more."""
        with self._lock:
            queries = []
            if not self._flights:
                queries = list(self._queries)
                self._queries.clear()
            waiting = self._line.take()
            self._in_turn = [*queries, *waiting]
            # Decided under the lock, so that whoever comes later starts draining again.
            self._is_draining = bool(queries or waiting or self._is_tick_due)
            return (queries, waiting) if self._is_draining else None

    def _deliver(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            outcomes[0][0].get_loop().call_soon_threadsafe(self._answer, outcomes)

    def _message_turn(self, waiting: list[Waiting]) -> None:
        """Make a block of messages and start its commit; each message gets its own answer afterwards."""
        batch = self._until_full(waiting, self._machine.position)
        draft = self._apply(batch, self._next_timestamp_ns())
        self._put_back(waiting[len(draft.outcomes) :])
        outcomes: list[Outcome] = [
            (item.future, None, outcome) if isinstance(outcome, LedgerError) else (item.future, outcome, None)
            for item, outcome in zip(waiting, draft.outcomes, strict=False)
        ]
        self._launch(draft, outcomes)

    def _until_full(self, waiting: list[Waiting], first_position: int) -> Iterator[Admitted]:
        """Give the messages until the block that begins at ``first_position`` is full."""
        for item in waiting:
            if self._machine.position - first_position >= BATCH_POSITION_COUNT:
                return
            if item.admitted is not None:  # pragma: no branch - work comes alone, and not here
                yield item.admitted

    def _put_back(self, rest: list[Waiting]) -> None:
        """Let what had no room stand at the head of the queue again."""
        with self._lock:
            self._line.put_back(rest)
            self._in_turn = self._in_turn[: len(self._in_turn) - len(rest)]

    def _bundle_turn(self, work: Work, future: asyncio.Future[Any]) -> Outcome:
        """Let a decision be made, and make a block of it."""
        timestamp_ns = self._expire()
        try:
            bundle = tuple(work(self._machine))
        except LedgerError as error:
            return future, None, error
        if not bundle:
            return future, (), None
        draft = self._block(self._whole(bundle), timestamp_ns)
        first = draft.outcomes[0]
        if isinstance(first, LedgerError):
            return future, None, first
        return future, draft.outcomes, None

    def _whole(self, bundle: Sequence[Admitted]) -> Iterator[Admitted]:
        """Give a bundle's messages; end with the first if it is refused, break if a later one is."""
        for index, admitted in enumerate(bundle):
            yield admitted
            if not self._machine.has_journaled(admitted):
                if index:
                    raise InvariantViolation(f"message {index} of a bundle was refused after the first was taken")
                return

    def _expire(self) -> int:
        """Make blocks of what is due; give an instant for the next block at which nothing more is due."""
        while len(posting.due(self._machine.state, timestamp_ns := self._next_timestamp_ns())):
            self._block((), timestamp_ns)
        return timestamp_ns

    def _next_timestamp_ns(self) -> int:
        """Give the next block's time: the clock's, with a test clock's moves, or the first that is possible (I5)."""
        now_ns = self._runtime.now_ns() + self._machine.interpreter.clock_offset_ns
        return max(now_ns, self._machine.earliest_ns)

    def _block(self, batch: Iterable[Admitted], timestamp_ns: int) -> Draft:
        """Make one block and wait until it is durable; a draft without records is none."""
        draft = self._apply(batch, timestamp_ns)
        self._launch(draft, [])
        self._await_turn(landed=True)
        return draft

    def _apply(self, batch: Iterable[Admitted], timestamp_ns: int) -> Draft:
        self._runtime.crossing("writer.before_apply")
        draft = self._machine.apply(batch, timestamp_ns)
        self._runtime.crossing("writer.after_apply")
        return draft

    def _launch(self, draft: Draft, outcomes: list[Outcome]) -> None:
        """Send a block on its way, if there is one."""
        if draft.is_empty:
            self._deliver(self._left_waiting(outcomes))
            return
        flight = _Flight(outcomes)
        with self._lock:
            is_next_to_seal = all(other.is_sealed for other in self._flights)
            self._flights.append(flight)
        if is_next_to_seal and len(draft.transfers) < ASIDE_COUNT:
            self._seal(draft, flight)
        else:
            sealing = self._seal_lane.submit(functools.partial(self._seal, draft, flight))
            sealing.add_done_callback(self._note_failure)

    def _left_waiting(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Give what can be answered at once: a retry may be answered from a block that has not landed yet."""
        with self._lock:
            if not self._flights:
                return outcomes
            self._flights[-1].outcomes.extend(outcomes)
            return []

    def _seal(self, draft: Draft, flight: _Flight) -> None:
        """Seal a draft and start its commit; drafts are sealed in order, and none after one that failed."""
        if self._broken is not None:
            return
        link = self._machine.grow(draft)
        block = journal.seal(draft, link, self._private_key, ledger=self._machine.genesis.ledger)
        self._machine.seal(block.hash)
        flight.is_sealed = True
        self._runtime.crossing("writer.before_commit")
        committing = self._commit_lane.submit(functools.partial(self._commit, block, draft.points, flight))
        committing.add_done_callback(self._note_failure)

    def _commit(self, block: Block, points: Array, flight: _Flight) -> None:
        """Make a block durable, then give its answers."""
        self._store.append(block)
        if self._points is not None:
            self._points.add(block.header.height, block.hash, points)
        self._runtime.crossing("writer.after_commit")
        with self._lock:
            self._flights.remove(flight)
            self._lock.notify()
        self._deliver(flight.outcomes)

    def _note_failure(self, future: Future[None]) -> None:
        """Let the lane know of a block that will never land."""
        error = future.exception()
        if error is not None:
            with self._lock:
                self._broken = self._broken or error
                self._lock.notify()


class _Capture:
    """Keeps an exception for whoever asked, instead of raising it here; broken integrity still goes on its way."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, IntegrityFailure | InvariantViolation):
            return False
        self.error = error
        return True


def _ask(query: _Query[Any], machine: Machine) -> Outcome:
    """Run one read; its failure belongs to whoever asked."""
    value: Any = None
    with _Capture() as capture:
        value = query.query(machine)
    return query.future, value, capture.error


def _stopped() -> Unavailable:
    return Unavailable("WRITER_STOPPED", "The ledger takes no messages now.", retry_after_s=1)
