"""The demonstration as a user runs it: one command, three processes, exit codes, and what is left behind.

One short run serves most tests; the others start the network that it left and kill parts of it.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.exits import ExitCode
from gateway.supervisor import NAMES, Process, configured_ports, is_alive, running

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent.parent
PAYMENT_COUNT = 400
TIME_S_MAX = 240
Result = subprocess.CompletedProcess[str]


def hugang(*arguments: str) -> Result:
    """Run a command as its own process; nothing here is a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIME_S_MAX,
        check=False,
    )


@dataclass
class Played:
    """A demonstration that has run: where, and what it printed."""

    folder: Path
    result: Result

    @property
    def report(self) -> dict[str, Any]:
        """Read report.json."""
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    def command(self, *arguments: str) -> Result:
        """Run a command on the folder."""
        return hugang(*arguments, "--dir", str(self.folder))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One short demonstration."""
    folder = tmp_path_factory.mktemp("play") / "network"
    found = Played(folder, hugang("demo", "--short", "--payments", str(PAYMENT_COUNT), "--dir", str(folder)))
    assert found.result.returncode == ExitCode.OK, found.result.stdout[-3000:] + found.result.stderr[-3000:]
    return found


@pytest.fixture
def up(played: Played) -> Iterator[Played]:
    """The network of the demonstration, left running; it is ended by its process ids."""
    started = played.command("up", "--detach")
    try:
        assert started.returncode == ExitCode.OK, started.stderr
        assert f"hugang down --dir {played.folder}` ends them" in started.stderr
        yield played
    finally:
        played.command("down")
        assert running(played.folder) == []


def ended(processes: list[Process]) -> bool:
    """Wait until none of these processes is alive."""
    deadline = time.monotonic() + TIME_S_MAX
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, processes))


# --- what it says -----------------------------------------------------------------------------------------------------


def test_everything_that_was_expected_came(played: Played) -> None:
    """The report counts all payments, both windows are settled, and there is no mismatch."""
    report = played.report
    assert (report["mismatches"], report["failure"]) == ([], None)
    assert report["expectations"] > 20
    assert (report["payments"]["refused"], report["payments"]["replayed"]) == (2, 1)
    assert report["payments"]["stored"] > PAYMENT_COUNT
    assert {number: entry["state"] for number, entry in report["windows"].items()} == {"1": "SETTLED", "2": "SETTLED"}
    assert report["windows"]["2"]["settled"] == PAYMENT_COUNT + 5
    assert report["net_sums"] == {"CNY": "0", "HKD": "0"}


def test_the_auditor_was_convinced_and_not_fooled(played: Played) -> None:
    """The verifier accepted the exports and named the very record that was changed in the copy."""
    report = played.report
    assert report["verifier"]["verdict"] == "verified"
    assert report["tampered"]["refused"] is True
    assert report["tampered"]["position"] == report["tampered"]["expected_position"] > 0


def test_every_stage_was_measured(played: Played) -> None:
    """The report gives the seconds of each stage, and they add up to the total."""
    seconds = played.report["seconds"]
    stages = {name: spent for name, spent in seconds.items() if name != "total"}
    assert list(stages)[:3] == ["environment", "start", "open"]
    assert {"payments", "day", "settle", "export", "verify", "tamper"} <= set(stages)
    assert sum(stages.values()) == pytest.approx(seconds["total"], abs=0.01)


def test_each_command_is_shown_before_it_runs(played: Played) -> None:
    """The output shows every hugang command that was run, as one would type it, and plain text only."""
    lines = played.result.stdout.splitlines()
    shown = [line.split()[2] for line in lines if line.startswith("$ hugang ")]
    assert shown == [
        *("init", "up", "status", "pay", "settle", "rules", "account"),
        *["pay"] * 8,
        *("settle", "window", "trial-balance", "export", "verify", "verify"),
    ]
    assert "\x1b" not in played.result.stdout + played.result.stderr


def test_progress_goes_to_stderr(played: Played) -> None:
    """How far something has come stands on stderr alone."""
    line = f"payments sent: {PAYMENT_COUNT} of {PAYMENT_COUNT}"
    assert line in played.result.stderr
    assert line not in played.result.stdout


def test_the_readme_shows_what_is_printed(played: Played) -> None:
    """Every line of the README's demonstration is a line of a real one, apart from numbers, ids and the folder."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- demo -->\n```text\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    printed = {_shape(line) for line in played.result.stdout.splitlines()}
    strange = [line for line in block[1].splitlines() if line not in ("", "…") and _shape(line) not in printed]
    assert strange == []


def _shape(line: str) -> str:
    """Reduce a line to its words: numbers, hexadecimal ids, addresses and blanks differ from run to run."""
    line = re.sub(r" --dir \S+|\S*/(?=exports|tampered|report)", "", line.replace("demo/", "/"))
    line = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{64}\b|hugang-[0-9a-f]{8}", "#", line)
    line = re.sub(r"\bQA[A-Z]{2}(CN|HK)[SH]0\b|\b(SH|HK)\b|\b(pays|receives)\b", "@", line)
    line = re.sub(r"\d+T?[\d,.:]*Z?", "#", line)
    return " ".join(line.split())


def test_private_keys_are_nobody_elses(played: Played) -> None:
    """Every private key in the folder is readable by its owner alone."""
    keys = list(played.folder.rglob("*.pem"))
    assert len(keys) > 40
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_nothing_runs_afterwards(played: Played) -> None:
    """The demonstration ends the processes that it started."""
    assert running(played.folder) == []
    assert not (played.folder / "run.json").exists()


# --- the auditor ------------------------------------------------------------------------------------------------------


def test_exports_are_verified_by_hash(played: Played) -> None:
    """With the genesis hashes that the demonstration printed, the exports are verified."""
    hashes = re.findall(r"^genesis (?:SH|HK) ([0-9a-f]{64})$", played.result.stdout, re.MULTILINE)[:2]
    options = [option for value in hashes for option in ("--genesis-hash", value)]
    found = hugang("verify", str(played.folder / "exports"), *options, "--json")
    assert found.returncode == ExitCode.OK
    assert json.loads(found.stdout)["verdict"] == "verified"


def test_a_foreign_genesis_is_refused(played: Played) -> None:
    """With another hash than the genesis has, the very first record is refused."""
    found = hugang("verify", str(played.folder / "exports"), "--genesis-hash", "00" * 32, "--json")
    assert found.returncode == ExitCode.INTEGRITY
    assert json.loads(found.stdout)["failure"]["code"] == "GENESIS_HASH"


def test_a_changed_copy_is_refused_with_its_position(played: Played) -> None:
    """The changed copy ends with the code for contradicting data, and names block and position."""
    found = hugang("verify", str(played.folder / "tampered"), "--json")
    failure = json.loads(found.stdout)["failure"]
    assert found.returncode == ExitCode.INTEGRITY
    assert (failure["position"], failure["block"]) == (
        played.report["tampered"]["position"],
        played.report["tampered"]["block"],
    )


def test_one_journal_is_verified_by_itself(played: Played) -> None:
    """The export of one ledger can be checked without the other, and the verdict says that it was."""
    found = hugang("verify", str(played.folder / "exports" / "hk" / "journal.hgx"))
    assert found.returncode == ExitCode.OK
    assert "\nVERIFIED, HK alone: nothing was compared with SH" in found.stdout


# --- ended before its end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line_count", "is_stderr_too"), [(12, False), (30, False), (12, True), (40, True)])
def test_a_reader_that_stops_ends_it(tmp_path: Path, line_count: int, *, is_stderr_too: bool) -> None:
    """When nobody reads on, the demonstration ends with 130 wherever it is, quietly, and nothing goes on running."""
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "demo",
        "--short",
        "--payments",
        "200",
        "--dir",
        str(tmp_path / "n"),
    ]
    with (
        (tmp_path / "stderr").open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if is_stderr_too else errors
        ) as process,
    ):
        assert process.stdout is not None
        for _ in range(line_count):
            assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(TIME_S_MAX) == ExitCode.INTERRUPTED
    assert b"hugang:" not in (tmp_path / "stderr").read_bytes()
    assert running(tmp_path / "n") == []
    assert not (tmp_path / "n" / "run.json").exists()


def test_an_interrupted_demonstration_says_what_it_leaves(tmp_path: Path) -> None:
    """Ctrl-C ends it with 130, one line says that nothing runs and how to play it anew, and the report says so too."""
    folder = tmp_path / "n"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--short", "--payments", "200", "--dir", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("4. "):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIME_S_MAX)
    assert process.returncode == ExitCode.INTERRUPTED
    said = [line for line in errors.splitlines() if line.startswith("hugang:")]
    assert len(said) == 1
    assert said[0].startswith(f"hugang: interrupted; nothing runs; {folder} holds an unfinished day: `")
    assert running(folder) == []
    assert json.loads((folder / "report.json").read_text())["failure"] == "interrupted"


# --- leaving it running -----------------------------------------------------------------------------------------------


def test_a_network_goes_on_where_it_stopped(up: Played) -> None:
    """Started again, the network takes a payment once, settles it, agrees with itself and proves it."""
    assert up.command("status").returncode == ExitCode.OK
    day = time.strftime("%Y-%m-%d", time.gmtime())
    payment = ("pay", "lin", "book-shop", "1.00", "--value-date", day)
    paid = up.command(*payment, "--json")
    assert (paid.returncode, json.loads(paid.stdout)["state"]) == (ExitCode.OK, "ACCEPTED")
    again = up.command(*payment, "--uetr", json.loads(paid.stdout)["uetr"], "--key", "another")
    assert (again.returncode, "again: the first result" in again.stdout) == (ExitCode.OK, True)
    settled = up.command("settle", "--json")
    window = json.loads(settled.stdout)
    assert (window["state"], window["settled"], window["net_sums"]) == ("SETTLED", 1, {"CNY": "0"})
    seen = json.loads(up.command("payment", "hk", json.loads(paid.stdout)["uetr"]).stdout)
    assert (seen["state"], seen["direction"], seen["value_date"]) == ("SETTLED", "incoming", day)
    assert up.command("resync").returncode == ExitCode.OK
    proof = up.folder / "exports" / f"window-{window['window']}"
    assert up.command("certificate", str(window["window"]), "--out", str(proof)).returncode == ExitCode.OK
    assert "PROVED" in up.command("certificate", "--check", str(proof)).stdout
    proof.write_bytes(proof.read_bytes()[:-1] + b"?")
    assert up.command("certificate", "--check", str(proof)).returncode == ExitCode.INTEGRITY


def test_what_runs_is_neither_started_nor_played_again(up: Played) -> None:
    """A second start and a second demonstration in the same folder are refused, and nothing is touched."""
    before = running(up.folder)
    for again in (("up", "--detach"), ("demo", "--short")):
        found = up.command(*again)
        assert found.returncode == ExitCode.REFUSED
        assert "RUNNING" in found.stderr
    assert running(up.folder) == before
    assert (up.folder / "report.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_process_comes_back_with_everything(up: Played, name: str) -> None:
    """After kill -9 of any of the three and up again, what was acknowledged settles the same on both sides."""
    paid = json.loads(up.command("pay", "lin", "book-shop", "0.10", "--json").stdout)
    victim = next(process for process in running(up.folder) if process.name == name)
    os.kill(victim.pid, signal.SIGKILL)
    assert ended([victim])
    assert up.command("status").returncode == ExitCode.UNAVAILABLE
    assert up.command("up", "--detach").returncode == ExitCode.OK
    assert {process.name for process in running(up.folder)} == set(NAMES)
    settled = json.loads(up.command("settle", "--json").stdout)
    assert (settled["state"], settled["settled"]) == ("SETTLED", 1)
    for ledger in ("sh", "hk"):
        assert json.loads(up.command("payment", ledger, paid["uetr"]).stdout)["state"] == "SETTLED"
    assert up.command("resync").returncode == ExitCode.OK
    assert up.command("trial-balance").returncode == ExitCode.OK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_their_supervisor(played: Played, number: signal.Signals) -> None:
    """However the supervisor ends, even by kill -9, the three processes end with it."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "up", "--dir", str(played.folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert supervisor.stderr is not None
        assert "Ctrl-C" in supervisor.stderr.readline()
        started = running(played.folder)
        assert len(started) == len(NAMES)
        supervisor.send_signal(number)
        code = supervisor.wait(TIME_S_MAX)
        assert code == (-signal.SIGKILL if number is signal.SIGKILL else ExitCode.OK)
        assert ended(started)
    finally:
        supervisor.kill()
        supervisor.communicate()
        played.command("down")


def test_a_port_that_is_taken_is_named(played: Played) -> None:
    """When a port is taken, up says which, starts nothing, and goes on with other ports when it is given some."""
    port = configured_ports(played.folder).hk
    with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler):
        found = played.command("up", "--detach")
        assert found.returncode == ExitCode.UNAVAILABLE
        assert f"port={port}" in found.stderr
        assert running(played.folder) == []
        moved = played.command("up", "--detach", "--ports", "free")
        try:
            assert moved.returncode == ExitCode.OK
            assert configured_ports(played.folder).hk != port
        finally:
            played.command("down")
