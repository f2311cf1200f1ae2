"""The load test, run as its users run it: one line where it cannot begin, and payments where it can.

Its own process each time, because locust patches the standard library of the process it is in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.runtime import free_port
from tests.network_fixture import Network, running_network

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


def load(folder: Path, *arguments: str, ledger: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run the load test against a network for two seconds."""
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless", "--only-summary"]
    return subprocess.run(
        [*command, "-u", "2", "-r", "2", "-t", "2s", *arguments],
        cwd=ROOT,
        env={**os.environ, "HUGANG_DIR": str(folder), "HUGANG_LEDGER": ledger},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(run: subprocess.CompletedProcess[str]) -> str:
    """Give the one line, beside what locust itself notes, with which a run was refused."""
    lines = [line for line in run.stderr.splitlines() if "/INFO/" not in line]
    assert run.returncode == 1, run.stderr
    assert len(lines) == 1, run.stderr
    return lines[0]


@pytest.mark.parametrize("ledger", ["sh", "HK"])
def test_it_pays(network: Network, ledger: str) -> None:
    """Against a node that works it pays, and nothing fails, however the ledger is written."""
    before = network.digest(ledger.upper())
    run = load(network.folder.root, ledger=ledger)
    assert run.returncode == 0, run.stderr
    assert network.digest(ledger.upper()) != before


def test_a_ledger_that_is_none_is_refused(network: Network) -> None:
    """A ledger of another name is refused with those that there are."""
    assert "sh or hk" in refusal(load(network.folder.root, ledger="nowhere"))


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    """In a folder without a network it says how to come by one."""
    assert "`make demo` makes one" in refusal(load(tmp_path))


def test_a_network_that_is_down_is_refused(network: Network) -> None:
    """Where nobody answers it ends at once and with a failure, instead of trying until its time is over."""
    assert "`make up`" in refusal(load(network.folder.root, "--host", f"http://127.0.0.1:{free_port()}"))


def test_another_server_is_refused(network: Network) -> None:
    """A node of the other ledger is not driven with this one's keys, and no machine but this one."""
    assert "is not the node of SH" in refusal(load(network.folder.root, "--host", network.urls["HK"]))
    assert "HUGANG_REMOTE" in refusal(load(network.folder.root, "--host", "http://192.0.2.1:8701"))
