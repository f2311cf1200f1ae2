"""The measurements themselves: each command, in its smallest form, prints what its page says."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TIME_S_MAX = 300
STAGES = ("admit", "authorise", "kernel", "apply_rest", "tree", "encode", "compress", "commit")


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a module and give what it prints, on standard output and beside it."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_S_MAX, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def measured(*names: str, runs: int = 1) -> dict[str, Any]:
    """Measure what is named in the smallest form, and hold what all results have in common."""
    found: dict[str, Any] = json.loads(run("benchmarks", *names, "--tiny", "--runs", str(runs), "--json")[0])
    assert set(found) == {*names, "machine"}
    assert {"cores", "memory_gib", "python", "commit", "load_average"} <= set(found["machine"])
    for name in names:
        result = found[name]
        assert {"value", "unit", "runs", "conditions", "stages"} <= set(result), name
        assert len(result["runs"]) == runs
        assert result["value"] == statistics.median_low(result["runs"]) > 0
        assert "seed" in result["conditions"]
    return found


def test_the_engine_is_measured() -> None:
    """P1 to P4 and P7 give their value, and P1 batches, single transfers and stages beside what the machine can do."""
    found = measured("P1", "P2", "P3", "P4", "P7", runs=2)
    assert [found[name]["unit"] for name in found if name != "machine"] == ["transfers/s"] * 4 + ["s"]
    first = found["P1"]
    assert len(first["batch_8192"]["runs"]) == len(first["single_submit"]["runs"]) == 2
    assert all(run > 0 for run in first["single_behind_a_million"]["runs"])
    assert set(first["stages"]) == {f"{stage}_cpu_ns" for stage in STAGES} | {"commit_wall_ns"}
    assert set(first["limits"]) < set(first["stages"])
    assert all(limit["ns"] > 0 and limit["of"] for limit in first["limits"].values())
    assert first["rates"]["ed25519_verify_per_s"] > 0
    assert found["P3"]["pending_post"]["value"] > 0
    assert "hold" in found["P7"]["stages"]


def test_what_grows_is_measured() -> None:
    """P10, P11 and the reads give their value, and beside it pauses, bytes an id, random ids and percentiles."""
    found = measured("P10", "P11", "reads")
    growth, disk, reads = (found[name] for name in ("P10", "P11", "reads"))
    assert growth["conditions"]["journals"] == {"small": 2**16, "large": 2**18}
    assert growth["longest_reserve_ms"]["cpu"] > 0
    assert growth["longest_pause_ms"] > 0
    assert 26 < growth["bytes_per_id"] < 100
    assert disk["random_ids"]["value"] > disk["value"] > 0
    assert {"journal.db", "tree.tiles", "genesis.json"} <= set(disk["stages"])
    assert disk["stages"]["all"] == pytest.approx(sum(disk["stages"].values()) - disk["stages"]["all"], rel=0.01)
    (journal,) = reads["journals"].values()
    for question in ("by_id", "page_of_50"):
        for state in ("cold", "warm"):
            times = journal["runs"][0][question][state]
            assert 0 < times["p50_us"] <= times["p99_us"]


NAMES = ("with_snapshot", "with_snapshot_from_open")


def test_reopening_is_measured() -> None:
    """P12 kills a node that writes, opens its journal again, and misses nothing."""
    found = measured("P12")["P12"]
    assert found["conditions"]["missing"] == 0
    assert all(count >= 2**17 for count in found["conditions"]["transfers_acknowledged"])
    assert set(found["stages"]) == {"load_s", "open_s", "start_s"}
    assert all(all_s > open_s for all_s, open_s in zip(found["runs"], found["from_open"]["runs"], strict=True))
    assert all(whole > part > 0 for whole, part in zip(*(found[name]["runs"] for name in NAMES), strict=True))


def test_reopening_notices_what_is_missing(tmp_path: Path) -> None:
    """A message that was acknowledged and is not in the journal counts as missing."""
    command = [sys.executable, "-m", "benchmarks.reopen", "write", str(tmp_path), "65536"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        key, position, count = child.stdout.readline().split()
        os.kill(child.pid, signal.SIGKILL)
    answered = [(key, int(position), int(count)), ("never sent", int(position), int(count))]
    (tmp_path / "acknowledged.json").write_text(json.dumps(answered))
    assert json.loads(run("benchmarks.reopen", "open", str(tmp_path))[0])["missing"] == 1


def test_a_machine_that_is_too_small_is_told() -> None:
    """What would not come to its end for want of memory or disk is refused in a plain sentence before it begins."""
    code = "from pathlib import Path; from benchmarks.figures import demand; demand(folder=Path(), **{})"
    for sizes, sentence in (
        ("memory_size=10**15, disk_size=1", "needs 1000000.0 GB of free memory; there are"),
        ("memory_size=1, disk_size=10**16", "needs 10000000.0 GB of free disk; there are"),
    ):
        command = [sys.executable, "-c", code.replace("**{}", sizes)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_the_curves_are_measured_and_drawn(tmp_path: Path) -> None:
    """Each curve goes into a file of data, and the same data give the same drawing."""
    run("benchmarks.curves", "--tiny", "--runs", "1", "--out", str(tmp_path))
    names = {"contention", "batch_size", "account_count", "growth"}
    assert {path.stem for path in tmp_path.glob("*.json")} == names
    for name in names:
        data = json.loads((tmp_path / f"{name}.json").read_text())
        assert data["name"] == name
        assert {"x", "y", "points", "conditions", "machine"} <= set(data)
        assert [point["x"] for point in data["points"]] == sorted(point["x"] for point in data["points"])
        assert all(min(point["runs"]) <= point["value"] <= max(point["runs"]) for point in data["points"])
    drawings = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        run("benchmarks.plots", "--data", str(tmp_path), "--out", str(folder))
        drawings.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert drawings[0] == drawings[1]
    assert set(drawings[0]) == {f"{name}.svg" for name in names}


def test_the_drawings_are_those_of_the_data(tmp_path: Path) -> None:
    """Every drawing in the repository is what its data give."""
    results = ROOT / "benchmarks" / "results"
    run("benchmarks.plots", "--out", str(tmp_path))
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in results.glob("*.svg")}
    assert set(drawn) == {f"{name}.svg" for name in ("contention", "batch_size", "account_count", "growth")}


def test_the_tables_are_those_of_the_data() -> None:
    """Every table of docs/performance.md is what the data beside the benchmarks give."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.count("<!-- table: ") == page.count("<!-- end of table -->") == 6
    run("benchmarks.tables", "--check")


def test_a_regression_fails() -> None:
    """The comparison passes above its bounds, and fails below one with a sentence that names it."""
    bounds = ["--runs", "1", "--bound", "engine=0.0001"]
    found = json.loads(run("benchmarks.ratios", *bounds, "--bound", "kernel=2")[0])
    assert all(found[name]["value"] > found[name]["bound"] for name in ("kernel", "engine"))
    _, beside = run("benchmarks.ratios", *bounds, "--bound", "kernel=1e9", code=1)
    assert "kernel: the ratio" in beside
    assert "engine" not in beside


def test_peers_that_are_not_there_are_named() -> None:
    """Without a peer, the comparison says who is missing and ends well."""
    found = json.loads(run("benchmarks.peers", "--tiny", "--runs", "1", "--peers", "tigerbeetle", "--json")[0])
    assert found["missing"] == ["No TigerBeetle server was named (--tigerbeetle ADDRESS), so it is left out."]
    assert found["ratios"] == {}
    assert found["unit"] == "transfers/s"
