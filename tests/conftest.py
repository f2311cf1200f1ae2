"""What every test may rely on: loopback only, no process left behind, and every random choice named by a seed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.postgresql_server import PostgresqlServer, new_server, remove
from tests.store_places import Database, PostgresqlPlace, SqlitePlace

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined] # set while numba.config runs
    np.seterr(over="ignore")  # the hash of ids wraps on purpose; compiled it does so silently

LOOPBACK_HOSTS = frozenset({"", "127.0.0.1", "::1", "localhost"})
NETWORK_EVENTS = frozenset({"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"})

# No deadline: a shared machine is slow now and then, and a test never depends on time. The seed of the run is printed
# by pytest-randomly; print_blob adds how to repeat the one failing example.
settings.register_profile(
    "fast", deadline=None, print_blob=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", parent=settings.get_profile("fast"), max_examples=1_000)
settings.load_profile("fast")


def _stay_on_loopback(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse every name and address but loopback; unix sockets have a path, not a host, and pass."""
    if event not in NETWORK_EVENTS:
        return
    address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = address[0] if isinstance(address, tuple) else address if event == "socket.getaddrinfo" else ""
    name = host.decode() if isinstance(host, bytes) else host
    if name is not None and name not in LOOPBACK_HOSTS:
        raise RuntimeError(f"a test reached for {name!r}: tests use loopback only ({event})")


sys.addaudithook(_stay_on_loopback)


def _children() -> dict[int, str]:
    """Give the command of each living child process; Python's own resource tracker stays as long as we do."""
    found: dict[int, str] = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        for child in listing.read_text().split():
            try:
                command = Path("/proc", child, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "resource_tracker" not in command:
                found[int(child)] = command.strip() or "(ended, not waited for)"
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fail the run when a test has started a process and not ended it."""
    before = _children()
    yield
    left = {child: command for child, command in _children().items() if child not in before}
    if left:
        pytest.fail(f"tests of process {os.getpid()} left processes behind: {left}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run coroutine tests (``pytest.mark.anyio``) on asyncio, as production does."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Give a private PostgreSQL server, one for the whole run; skip where its programs are missing."""
    server = new_server()
    yield server
    remove(server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Give an empty place for each kind of store on a database in turn."""
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "journal.db")
    return PostgresqlPlace(request.getfixturevalue("postgresql_server"))
