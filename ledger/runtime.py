"""The one door to the operating system: time, sleep, randomness, ids, threads, ports and failpoints.

The composition root makes a ``Runtime`` and passes it in; nothing else asks the operating system for these.
``SystemRuntime`` is the real one. ``ManualRuntime`` moves time by hand, draws from a seed and runs everything on the
event loop's own thread, so that a test or a simulation repeats exactly.

A *crossing* is a named place where a process may die: before and after everything that becomes durable. Production
passes through; a ``CrashPlan`` kills the process at the n-th one. ``CrashPlan.from_environment`` reads ``HUGANG_CRASH``
(n, from 1) and ``HUGANG_CRASH_POINT`` (count only crossings of this name); a runtime honours it only when it is handed
one.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from ledger.errors import MalformedInput

__all__ = [
    "CrashPlan",
    "Lane",
    "ManualRuntime",
    "Runtime",
    "SystemRuntime",
    "free_port",
    "keep_memory",
    "port_is_free",
]

SECOND_NS = 1_000_000_000
OFFLOAD_THREAD_COUNT = 8
"""Threads for offloaded work; verifying signatures releases the interpreter lock, so more than the cores do no harm."""
SETTLE_TURN_COUNT = 64
"""Turns of the event loop a hand-moved clock gives to what it has woken before it moves on."""

_KEPT_MEMORY = {-1: 2**30, -3: 2**25}
"""Parameters of ``mallopt``: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes; the second may not be larger."""

P = ParamSpec("P")
T = TypeVar("T")


class Lane(Protocol):
    """One thread of its own: what is started on it runs one after another, in order."""

    def start(self, function: Callable[[], None]) -> asyncio.Future[None]:
        """Run ``function`` after all that was started before; the future tells its end. Call it from the event loop."""

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Do the same from any thread. Where everything is one thread, ``function`` runs, and may raise, at once."""

    def close(self) -> None:
        """Take no more; what was started still runs to its end."""


class Runtime(Protocol):
    """What a process asks of the world around it."""

    def now_ns(self) -> int:
        """Give the wall clock: nanoseconds since 1970, UTC."""

    def monotonic_ns(self) -> int:
        """Give a clock that only measures spans."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def random_bytes(self, count: int) -> bytes:
        """Give ``count`` unpredictable bytes."""

    def uuid4(self) -> uuid.UUID:
        """Give a random UUID, version 4."""

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking or long function beside the event loop."""

    def lane(self, name: str) -> Lane:
        """Give a thread of its own."""

    def crossing(self, point: str) -> None:
        """Pass a named place where a process may die."""


@dataclass(slots=True)
class CrashPlan:
    """Kill the process at the ``at``-th crossing (from 1) of the point named ``point``, or of any point.

    ``kill`` is what dies; the default takes no farewell, so that nothing is flushed that the disk does not have.
    """

    at: int
    point: str | None = None
    kill: Callable[[], None] = field(default=lambda: os.kill(os.getpid(), signal.SIGKILL))
    crossed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CrashPlan | None:
        """Read ``HUGANG_CRASH`` and ``HUGANG_CRASH_POINT``; without the first there is no plan.

        Raises:
            MalformedInput: the number is not a number from 1.
        """
        number = environment.get("HUGANG_CRASH")
        if number is None:
            return None
        if not (number.isascii() and number.isdecimal() and 1 <= len(number) <= 9 and int(number) >= 1):
            raise MalformedInput("CRASH_PLAN_MALFORMED", "HUGANG_CRASH is not a whole number from 1.")
        return cls(int(number), environment.get("HUGANG_CRASH_POINT"))

    def cross(self, point: str) -> None:
        """Count one crossing; die when it is the one."""
        if self.point is not None and point != self.point:
            return
        with self._lock:
            self.crossed += 1
            is_last = self.crossed == self.at
        if is_last:
            self.kill()


class SystemRuntime:
    """The real world."""

    def __init__(self, *, crash_plan: CrashPlan | None = None) -> None:
        """Pass a plan only in a process that is meant to die."""
        self._crash_plan = crash_plan
        self._executor = ThreadPoolExecutor(OFFLOAD_THREAD_COUNT, thread_name_prefix="offload")

    def now_ns(self) -> int:
        """Give the wall clock: nanoseconds since 1970, UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Give a clock that only measures spans."""
        return time.perf_counter_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def random_bytes(self, count: int) -> bytes:
        """Give ``count`` unpredictable bytes."""
        return os.urandom(count)

    def uuid4(self) -> uuid.UUID:
        """Give a random UUID, version 4."""
        return uuid.uuid4()

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking or long function on one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def lane(self, name: str) -> Lane:
        """Give a thread of its own."""
        return _ThreadLane(name)

    def crossing(self, point: str) -> None:
        """Pass, or die as planned."""
        if self._crash_plan is not None:
            self._crash_plan.cross(point)

    def close(self) -> None:
        """Let the threads for offloaded work end."""
        self._executor.shutdown(wait=False)


class _ThreadLane:
    """A lane that is a thread."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def start(self, function: Callable[[], None]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        return self._executor.submit(function)

    def close(self) -> None:
        self._executor.shutdown(wait=False)


class ManualRuntime:
    """A world for tests and simulations: hand-moved time, randomness from ``seed``, one thread for everything.

    ``on_crossing`` sees every crossing by name, and may raise to play a crash.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start_ns: int = 1_767_225_600 * SECOND_NS,
        on_crossing: Callable[[str], None] | None = None,
    ) -> None:
        """Stand at ``start_ns`` (by default the first instant of 2026, UTC)."""
        self._now_ns = start_ns
        self._start_ns = start_ns
        self._random = random.Random(seed)
        self._on_crossing = on_crossing
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def now_ns(self) -> int:
        """Give the time as it was last moved."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Give the time moved since the start."""
        return self._now_ns - self._start_ns

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved far enough; zero gives others a turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        due_ns = self._now_ns + round(seconds * SECOND_NS)
        heapq.heappush(self._sleepers, (due_ns, next(self._sequence), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each sleeper's instant on the way, in order, to let it run."""
        target_ns = self._now_ns + round(seconds * SECOND_NS)
        while True:
            await self._settle()
            if not self._sleepers or self._sleepers[0][0] > target_ns:
                break
            due_ns, _, future = heapq.heappop(self._sleepers)
            self._now_ns = max(self._now_ns, due_ns)
            if not future.done():
                future.set_result(None)
        self._now_ns = target_ns
        await self._settle()

    def next_due_ns(self) -> int | None:
        """Give the instant at which the next sleeper wakes, if somebody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def move_to(self, now_ns: int) -> None:
        """Set the clock without waking anybody, also backwards: what a real wall clock may do."""
        self._now_ns = now_ns

    def random_bytes(self, count: int) -> bytes:
        """Give ``count`` bytes of the seeded sequence."""
        return self._random.randbytes(count)

    def uuid4(self) -> uuid.UUID:
        """Give a UUID of version 4 from the seeded sequence."""
        return uuid.UUID(bytes=self.random_bytes(16), version=4)

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function here and now."""
        return function(*args, **kwargs)

    def lane(self, name: str) -> Lane:
        """Give a lane on the event loop's own thread."""
        return _LoopLane(name)

    def crossing(self, point: str) -> None:
        """Show the crossing to whoever watches."""
        if self._on_crossing is not None:
            self._on_crossing(point)

    async def _settle(self) -> None:
        """Let everything that can run come to rest."""
        for _ in range(SETTLE_TURN_COUNT):
            await asyncio.sleep(0)


class _LoopLane:
    """A lane on the event loop's own thread: each function is one callback of the loop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, function: Callable[[], None]) -> asyncio.Future[None]:
        async def run() -> None:
            function()

        return asyncio.ensure_future(run())

    def submit(self, function: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(function())
        return done

    def close(self) -> None:
        """Nothing to let go of."""


def keep_memory() -> bool:
    """Let the C library keep freed memory for the next block instead of giving it back; say whether it will.

    Blocks are megabytes that come and go. Memory that was given back is mapped anew page by page, which costs several
    times what is done with it. For processes that write or verify journals; only the GNU C library knows how.
    """
    setter = getattr(ctypes.CDLL(None), "mallopt", None)
    if setter is None:
        return False
    return all(setter(parameter, size) == 1 for parameter, size in _KEPT_MEMORY.items())


def free_port() -> int:
    """Give a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on this TCP port of the loopback interface now."""
    return listen_fault("127.0.0.1", port) is None


def listen_fault(host: str, port: int) -> OSError | None:
    """Say why no server could listen on a host's TCP port now; ``None`` if one could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
