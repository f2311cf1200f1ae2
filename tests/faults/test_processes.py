"""The fault run and the settlement measurement themselves: a few points each, as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.exits import ExitCode

ROOT = Path(__file__).resolve().parent.parent.parent
TIME_S_MAX = 600


def benchmark(module: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark that prints one JSON document, and give it."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_S_MAX, check=False)
    assert result.returncode == ExitCode.OK, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.faults
def test_killed_processes_lose_nothing() -> None:
    """Two nodes and the settlement operator, each killed while they work, recover with every acknowledged payment."""
    seed = 20_260_201
    found = benchmark("faults", "--points", "9", "--seed", str(seed))
    assert found["tried"] == found["recovered"] >= 5, found
    assert (found["lost"], found["failures"], found["seed"]) == (0, [], seed)
    assert found["acknowledged"] == 6 * (9 + 1)
    assert found["verifier"]["verdict"] == "verified"
    assert found["verifier"]["payments"] == found["acknowledged"] + 2


@pytest.mark.long
def test_a_small_day_is_measured() -> None:
    """The settlement measurement settles what it sends and gives the time of every stage."""
    found = benchmark("settlement", "--payments", "300", "--participants", "8", "--runs", "2", "--seed", "3", "--json")
    assert found["workload"] == {"seed": 3, "payments": 300, "participants": 8}
    assert [run["payments"] for run in found["runs"]] == [300, 300]
    for run in found["runs"]:
        assert {"sign", "hold", "cycle: close", "cycle: decide", "cycle: apply"} <= set(run["stages_s"])
        assert int(run["net"]) <= int(run["gross"])
