"""Three real processes of one network on loopback that start fast, because a fork server has imported everything.

Each child is a process of its own with its own memory; it can be armed to kill itself at its n-th crossing, as
``HUGANG_CRASH`` does, and leaves the crossing's name behind. Only processes started here are ever signalled.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Self

import httpx

from gateway.cli.connect import hash_of, loopback, url_of
from gateway.client import Client
from gateway.config import network_folder
from gateway.serve import serve_node, serve_operator
from ledger.runtime import CrashPlan, SystemRuntime

__all__ = ["NAMES", "Processes"]

NAMES = ("sh", "hk", "operator")
READY_S_MAX = 60
POLL_S = 0.02
PRELOAD = ["benchmarks.preload"]


class _NamedPlan(CrashPlan):
    """A crash plan that writes down at which crossing it killed, and how many a clean run has."""

    last = ""

    def cross(self, point: str) -> None:
        """Count one crossing; die when it is the one."""
        self.last = point
        super().cross(point)


def _serve(name: str, folder: Path, crash_at: int | None, trace: Path) -> None:
    """Serve one process of the network until a signal ends it; runs in the child."""
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    plan = None
    if crash_at is not None:
        environment = {"HUGANG_CRASH": str(crash_at)}
        read = CrashPlan.from_environment(environment)
        plan = _NamedPlan(read.at if read is not None else 0)

        def die() -> None:
            trace.write_text(plan.last)
            os.kill(os.getpid(), signal.SIGKILL)

        plan.kill = die
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the server raises its signal again after a clean end
    runtime = SystemRuntime(crash_plan=plan)
    layout = network_folder(folder)
    try:
        if name == "operator":
            serve_operator(layout.operator, runtime)
        else:
            serve_node(layout.node(name), runtime)
    finally:
        if plan is not None:
            trace.write_text(str(plan.crossed))


@dataclass
class Processes:
    """The processes of one network."""

    folder: Path
    context: ForkServerContext = field(default_factory=lambda: multiprocessing.get_context("forkserver"))
    children: dict[str, ForkServerProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let the fork server import what the children need."""
        self.context.set_forkserver_preload(PRELOAD)
        self.urls = {name: url_of(self.folder, name) for name in NAMES}

    def trace(self, name: str) -> Path:
        """Name the file in which an armed child leaves its crossing."""
        return self.folder / f"{name}.crossing"

    def start(self, name: str, *, crash_at: int | None = None) -> None:
        """Start one process, armed or not; it may die before it is ready."""
        self.trace(name).unlink(missing_ok=True)
        child = self.context.Process(target=_serve, args=(name, self.folder, crash_at, self.trace(name)), daemon=True)
        child.start()
        self.children[name] = child

    def wait_ready(self, name: str) -> bool:
        """Wait until a process answers; ``False`` when it has died instead."""
        deadline = time.monotonic() + READY_S_MAX
        with httpx.Client(transport=loopback(), timeout=2) as http:
            while time.monotonic() < deadline:
                if not self.is_alive(name):
                    return False
                try:
                    if http.get(f"{self.urls[name]}/v1/health").status_code == 200:
                        return True
                except httpx.TransportError:
                    pass
                time.sleep(POLL_S)
        raise TimeoutError(f"{name} did not become ready; see {self.folder / name}.log")

    def is_alive(self, name: str) -> bool:
        """Whether the process started last under this name still runs."""
        return self.children[name].is_alive()

    def kill(self, name: str) -> None:
        """End a process without any farewell."""
        self.children[name].kill()
        self.children[name].join()

    def stop(self) -> None:
        """Ask everything to end, then end it."""
        for child in self.children.values():
            if child.is_alive():
                child.terminate()
        for child in self.children.values():
            child.join(20)
            if child.is_alive():
                child.kill()
                child.join()

    def client(self, name: str, key: Any, *, try_count: int = 6, timeout_s: int = 20) -> Client:
        """Open a client of a process."""
        return Client(
            self.urls[name],
            key,
            hash_of(self.folder, name),
            transport=loopback(),
            try_count=try_count,
            timeout_s=timeout_s,
        )

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that was started."""
        self.stop()


def environment() -> Mapping[str, Any]:
    """Describe the machine."""
    return {"cores": os.cpu_count(), "python": sys.version.split()[0]}
