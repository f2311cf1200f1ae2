"""The door to the operating system: the real one, the hand-moved one, and processes that are meant to die."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from ledger.errors import MalformedInput
from ledger.runtime import SECOND_NS, CrashPlan, ManualRuntime, Runtime, SystemRuntime, free_port, keep_memory

# --- the real world ---------------------------------------------------------------------------------------------------


def test_the_clock_goes_on() -> None:
    """The wall clock is in this century and the other one does not go back."""
    runtime = SystemRuntime()
    assert runtime.now_ns() > 1_700_000_000 * SECOND_NS
    assert runtime.monotonic_ns() <= runtime.monotonic_ns()


def test_randomness_has_the_size_asked_for() -> None:
    """Random bytes come in the number asked for and differ; ids are UUIDs of version 4."""
    runtime = SystemRuntime()
    assert len(runtime.random_bytes(16)) == 16
    assert runtime.random_bytes(16) != runtime.random_bytes(16)
    assert runtime.uuid4().version == 4
    assert runtime.uuid4() != runtime.uuid4()


def test_a_free_port_can_be_bound() -> None:
    """The port that is given can be bound on loopback."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_freed_memory_is_kept() -> None:
    """The C library of this platform is told, or it is said that it was not."""
    assert keep_memory() is (platform.libc_ver()[0] == "glibc")


def test_another_library_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library has no such setting, that is said and nothing else happens."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_memory() is False


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SystemRuntime, ManualRuntime])
async def test_a_lane_takes_work_from_any_thread(make: Callable[[], Runtime]) -> None:
    """Work can be put on a lane without an event loop, and its failure is found where its end is waited for."""
    lane = make().lane("test")
    done: list[int] = []
    for number in range(5):
        lane.submit(functools.partial(done.append, number)).result()
    assert done == list(range(5))

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        lane.submit(fail).result()
    lane.close()


@pytest.mark.anyio
async def test_work_is_done_beside_the_loop() -> None:
    """Offloaded work runs on another thread, and its result or its exception comes back."""
    runtime = SystemRuntime()
    assert await runtime.offload(threading.get_ident) != threading.get_ident()
    assert await runtime.offload(int, "ff", base=16) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        await runtime.offload(int, "x")
    runtime.close()


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SystemRuntime, ManualRuntime])
async def test_a_lane_keeps_the_order(make: Callable[[], Runtime]) -> None:
    """What is started on a lane runs one after another in order, all on one thread, and tells its end."""
    lane = make().lane("test")
    done: list[int] = []
    threads: set[int] = set()

    def step(number: int) -> None:
        threads.add(threading.get_ident())
        done.append(number)

    await asyncio.gather(*(lane.start(lambda number=number: step(number)) for number in range(20)))  # type: ignore[misc]
    lane.close()
    assert done == list(range(20))
    assert len(threads) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SystemRuntime, ManualRuntime])
async def test_a_lane_tells_what_failed(make: Callable[[], Runtime]) -> None:
    """An exception on a lane comes back through its future, and the lane goes on."""

    def fail() -> None:
        raise KeyError("x")

    lane = make().lane("test")
    with pytest.raises(KeyError):
        await lane.start(fail)
    await lane.start(lambda: None)
    lane.close()


@pytest.mark.anyio
async def test_real_sleep_passes_time() -> None:
    """Sleeping takes at least the time asked for."""
    runtime = SystemRuntime()
    before = runtime.monotonic_ns()
    await runtime.sleep(0.01)
    assert runtime.monotonic_ns() - before >= 9_000_000


# --- the hand-moved world ---------------------------------------------------------------------------------------------


def test_a_seed_repeats() -> None:
    """The same seed gives the same bytes and ids, another one gives others."""
    first, second, third = ManualRuntime(seed=1), ManualRuntime(seed=1), ManualRuntime(seed=2)
    assert first.random_bytes(8) == second.random_bytes(8) != third.random_bytes(8)
    assert first.uuid4() == second.uuid4()
    assert first.uuid4().version == 4


@pytest.mark.anyio
async def test_sleepers_wake_in_order_at_their_own_instants() -> None:
    """Moving the clock wakes each sleeper at the instant it waited for, also one that sleeps again on the way."""
    runtime = ManualRuntime(start_ns=0)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, *seconds: float) -> None:
        for span in seconds:
            await runtime.sleep(span)
            woken.append((name, runtime.now_ns() // SECOND_NS))

    tasks = [asyncio.ensure_future(sleeper("a", 5)), asyncio.ensure_future(sleeper("b", 2, 2, 9))]
    await runtime.advance(0)
    assert runtime.next_due_ns() == 2 * SECOND_NS
    await runtime.advance(10)
    assert woken == [("b", 2), ("b", 4), ("a", 5)]
    assert runtime.now_ns() == runtime.monotonic_ns() == 10 * SECOND_NS
    await runtime.advance(10)
    assert woken[-1] == ("b", 13)
    assert runtime.next_due_ns() is None
    await asyncio.gather(*tasks)


@pytest.mark.anyio
async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """Somebody who gave up waiting neither wakes nor keeps the clock from moving."""
    runtime = ManualRuntime()
    task = asyncio.ensure_future(runtime.sleep(5))
    await runtime.advance(1)
    task.cancel()
    await runtime.advance(0)
    assert runtime.next_due_ns() is None
    await runtime.advance(10)
    assert task.cancelled()
    task = asyncio.ensure_future(runtime.sleep(5))
    await runtime.advance(0)
    task.cancel()
    await runtime.advance(10)
    assert task.cancelled()


@pytest.mark.anyio
async def test_no_sleep_gives_a_turn() -> None:
    """Sleeping for nothing lets others run and returns without the clock being moved."""
    runtime = ManualRuntime()
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "other")
    await runtime.sleep(0)
    order.append("self")
    assert order == ["other", "self"]


@pytest.mark.anyio
async def test_offloaded_work_runs_here() -> None:
    """In the hand-moved world everything runs on one thread."""
    assert await ManualRuntime().offload(threading.get_ident) == threading.get_ident()


def test_the_clock_can_be_set() -> None:
    """The wall clock may also be moved back."""
    runtime = ManualRuntime(start_ns=100)
    runtime.move_to(7)
    assert runtime.now_ns() == 7


def test_crossings_can_be_watched() -> None:
    """Whoever asked to see crossings sees each by name."""
    seen: list[str] = []
    runtime = ManualRuntime(on_crossing=seen.append)
    runtime.crossing("a")
    runtime.crossing("b")
    assert seen == ["a", "b"]


# --- crash plans ------------------------------------------------------------------------------------------------------


def test_a_crash_plan_counts_crossings() -> None:
    """A plan kills at the n-th crossing, of any point or of the one it names, and once."""
    for at, point, expected in ((3, None, 3), (2, "b", 4)):
        deaths: list[int] = []
        plan = CrashPlan(at, point, kill=lambda deaths=deaths: deaths.append(1))  # type: ignore[misc]
        runtime = SystemRuntime(crash_plan=plan)
        for number, name in enumerate(["a", "b", "a", "b", "b"], start=1):
            runtime.crossing(name)
            assert len(deaths) == (number >= expected)


def test_a_plan_comes_from_the_environment() -> None:
    """The environment names the number and the point; without a number there is no plan."""
    assert CrashPlan.from_environment({}) is None
    plan = CrashPlan.from_environment({"HUGANG_CRASH": "7", "HUGANG_CRASH_POINT": "store.before_commit"})
    assert plan is not None
    assert (plan.at, plan.point) == (7, "store.before_commit")


@pytest.mark.parametrize("number", ["", "0", "-1", "x", "1.5", "²", "1" * 10])
def test_a_plan_that_is_none_is_refused(number: str) -> None:
    """Only a whole number from 1 is a plan."""
    with pytest.raises(MalformedInput, match="CRASH_PLAN_MALFORMED"):
        CrashPlan.from_environment({"HUGANG_CRASH": number})


def test_a_runtime_without_a_plan_passes() -> None:
    """Without a plan, crossings do nothing."""
    SystemRuntime().crossing("store.before_commit")
    ManualRuntime().crossing("store.before_commit")


def test_a_plan_kills_for_real() -> None:
    """The default way to die is SIGKILL: nothing after the crossing runs, nothing is flushed."""
    program = (
        "import os, sys\n"
        "from ledger.runtime import CrashPlan, SystemRuntime\n"
        "runtime = SystemRuntime(crash_plan=CrashPlan.from_environment(os.environ))\n"
        "for number in range(5):\n"
        "    print(number, flush=True)\n"
        "    runtime.crossing('loop')\n"
    )
    environment = {"HUGANG_CRASH": "3", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [b"0", b"1", b"2"]
