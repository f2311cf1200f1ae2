"""The command line: what it ends with, where it prints, and that its page says all of it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest

from gateway.cli import COMMANDS, cli, doctor, run
from gateway.cli.exits import MEANINGS, ExitCode, exit_code_of
from gateway.cli.options import DEFAULT_FOLDER
from gateway.cli.page import cli_page
from gateway.cli.pay import uetr_by
from gateway.cli.resync import divergence
from gateway.cli.settle import STAGES, show
from gateway.cli.terminal import ReaderGone, Terminal, invocation, money, program_name
from gateway.client import ProblemError, ServerUnreachable
from gateway.config import init_network
from gateway.supervisor import free_ports
from ledger.errors import (
    Conflict,
    Forbidden,
    IntegrityFailure,
    MalformedInput,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from ledger.runtime import ManualRuntime
from settlement.legs import parse_uetr

ROOT = Path(__file__).resolve().parent.parent.parent
Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network that does not run."""
    init_network(tmp_path / "network", ManualRuntime(), ports=free_ports())
    return tmp_path / "network"


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_commands_say() -> None:
    """docs/cli.md is exactly what the commands make of it."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_page()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """The page has a section for each command, and in it every option that is not hidden, with a help text."""
    root = click.Context(cli, info_name="hugang")
    command = cli.get_command(root, name)
    assert command is not None
    assert command.help
    section = cli_page().split(f"\n### hugang {name}\n")[1].split("\n### ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert f"`{parameter.opts[0]}" in section


def test_every_exit_code_is_documented() -> None:
    """Each exit code has a meaning, and a row of its own on the page."""
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | `{code.name}` | {meaning} |" in cli_page()


def test_every_module_of_a_command_is_listed() -> None:
    """A file of gateway/cli that has a command is found under the command's own name."""
    home = ROOT / "gateway" / "cli"
    files = {path.stem.replace("_", "-") for path in home.glob("*.py") if "@click.command(" in path.read_text()}
    assert files - {"--init--"} == set(COMMANDS)


# --- what it ends with ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedInput("A", "b"), ExitCode.REFUSED),
        (Unauthenticated("A", "b"), ExitCode.REFUSED),
        (Forbidden("A", "b"), ExitCode.REFUSED),
        (Rejected("A", "b"), ExitCode.REFUSED),
        (NotFound("A", "b"), ExitCode.REFUSED),
        (Conflict("A", "b"), ExitCode.REFUSED),
        (Unavailable("A", "b"), ExitCode.UNAVAILABLE),
        (IntegrityFailure("A", "b"), ExitCode.INTEGRITY),
        (httpx.ConnectError("gone"), ExitCode.UNAVAILABLE),
        (ServerUnreachable("http://127.0.0.1:1", ""), ExitCode.UNAVAILABLE),
        (ProblemError(503, {"code": "BUSY"}), ExitCode.UNAVAILABLE),
        (ProblemError(422, {"code": "DEBIT_LIMIT"}), ExitCode.REFUSED),
        (ProblemError(500, {"code": "INTERNAL_ERROR"}), ExitCode.REFUSED),
    ],
)
def test_each_failure_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    """The kind of a failure decides the exit code."""
    assert exit_code_of(error) is code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], ExitCode.OK),
        (["--help"], ExitCode.OK),
        (["pay", "--help"], ExitCode.OK),
        ([], ExitCode.USAGE),
        (["fly"], ExitCode.USAGE),
        (["pay"], ExitCode.USAGE),
        (["status", "--fast"], ExitCode.USAGE),
        (["init", "--ports", "1,2"], ExitCode.USAGE),
        (["init", "--ports", "1,1,2"], ExitCode.USAGE),
        (["init", "--ports", "0,1,2"], ExitCode.USAGE),
        (["verify", "nowhere"], ExitCode.USAGE),
        (["verify", ".", "--genesis-hash", "12"], ExitCode.USAGE),
        (["verify", "."], ExitCode.REFUSED),
        (["certificate"], ExitCode.USAGE),
        (["certificate", "0"], ExitCode.USAGE),
        (["down"], ExitCode.OK),
        (["status"], ExitCode.REFUSED),
        (["pay", "lin", "tea-house", "1"], ExitCode.REFUSED),
        (["trial-balance"], ExitCode.REFUSED),
        (["doctor"], ExitCode.OK),
    ],
)
def test_exit_codes_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: ExitCode
) -> None:
    """In an empty folder each command line ends with its documented code."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code


def test_a_network_is_laid_out_once(tmp_path: Path, capsys: Output) -> None:
    """A folder that holds a network is refused, and its keys stay."""
    where = ["init", "--dir", str(tmp_path / "n"), "--network", "hugang-test"]
    assert run(where) == ExitCode.OK
    key = (tmp_path / "n" / "keys" / "pboc.pem").read_bytes()
    assert "genesis SH" in capsys.readouterr().out
    assert run(where) == ExitCode.REFUSED
    assert "NETWORK_EXISTS" in capsys.readouterr().err
    assert (tmp_path / "n" / "keys" / "pboc.pem").read_bytes() == key


def test_a_network_that_does_not_run_is_unavailable(folder: Path, capsys: Output) -> None:
    """Status and reads of a stopped network end with the code for trying again later."""
    assert run(["status", "--json", "--dir", str(folder)]) == ExitCode.UNAVAILABLE
    found = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["state"]) for entry in found] == [
        ("sh", "stopped"),
        ("hk", "stopped"),
        ("operator", "stopped"),
    ]


def test_a_missing_network_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """In the wrong folder a command and ``hugang down`` say where they have looked, and advise no second network."""
    monkeypatch.chdir(tmp_path)
    where = tmp_path.resolve() / DEFAULT_FOLDER
    assert run(["status"]) == ExitCode.REFUSED
    said = capsys.readouterr().err
    assert f"(folder={where})" in " ".join(said.split())
    assert "hugang demo" not in said
    assert run(["down"]) == ExitCode.OK
    assert capsys.readouterr().out == f"nothing was running in {where}, where no network lies\n"


def test_a_line_to_type_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is advised works as it is printed: with --dir, quoted, wherever that is not the default."""
    monkeypatch.delenv("HUGANG_DIR", raising=False)
    assert invocation("down", Path(DEFAULT_FOLDER)) == f"{program_name()} down"
    assert invocation("down", tmp_path / "a b") == f"{program_name()} down --dir '{tmp_path / 'a b'}'"
    monkeypatch.setenv("HUGANG_DIR", "elsewhere")
    assert invocation("down", Path(DEFAULT_FOLDER)) == f"{program_name()} down --dir {DEFAULT_FOLDER}"


def test_an_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """Ctrl-C ends any command with 130 and one line."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.supervisor.stop_processes", interrupted)
    assert run(["down"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.strip() == "hugang: interrupted"


@pytest.mark.parametrize("end", [KeyboardInterrupt, ReaderGone])
def test_a_step_ends_what_it_is_a_step_of(monkeypatch: pytest.MonkeyPatch, end: type[BaseException]) -> None:
    """A command that is a step of a longer one does not keep its interruption to itself."""

    def ended(*_: object) -> None:
        raise end

    monkeypatch.setattr("gateway.supervisor.stop_processes", ended)
    with pytest.raises(end):
        run(["down"], is_step=True)
    assert run(["down"]) == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("end", "failure"), [(KeyboardInterrupt, "interrupted"), (ReaderGone, "nobody read the output any more")]
)
def test_an_unfinished_demonstration_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, end: type[BaseException], failure: str
) -> None:
    """A demonstration that is ended before its end says so in its report, and to who interrupts it how to go on."""

    def ended(_: object) -> None:
        raise end

    monkeypatch.setattr("gateway.demo.script.Demonstration.run", ended)
    folder = tmp_path / "day"
    assert run(["demo", "--short", "--payments", "100", "--dir", str(folder)]) == ExitCode.INTERRUPTED
    again = f"{folder} holds an unfinished day: `{invocation('demo', folder)}` plays it anew"
    line = f"hugang: interrupted; nothing runs; {again}\n" if end is KeyboardInterrupt else ""
    assert capsys.readouterr().err == line
    assert json.loads((folder / "report.json").read_text())["failure"] == failure


@pytest.mark.parametrize("amount", [0, 7])
def test_a_window_without_payments_shows_no_empty_tables(capsys: Output, amount: int) -> None:
    """What a settled window came to is in tables where there is something, and in a word where there is nothing."""
    report = {"gross": str(amount), "net": str(amount), "saving_bp": 0}
    position = {"participant": "BANK", "ledger": "SH", "asset": "CNY", "amount": str(amount)}
    result = {
        "window": 3,
        "state": "SETTLED",
        "stages_us": {"close": 1_000},
        "settled": min(amount, 1),
        "rejected": 0,
        "cancelled": 0,
        "carried_out": 0,
        "net_sums": {"CNY": "0"} if amount else {},
        "assets": {"CNY": report} if amount else {},
        "positions": [position] if amount else [],
    }
    show(Terminal(), result)
    lines = capsys.readouterr().out.splitlines()
    counts = "1 payment, rejected 0, carried out 0; sum of net positions: CNY 0" if amount else "no payments"
    assert lines[-1] == f"window 3 SETTLED on both ledgers in 0.00 s: {counts}"
    assert len(lines) == (8 if amount else 3)


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expects is raised, so that the traceback says where."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.supervisor.stop_processes", broken)
    with pytest.raises(ZeroDivisionError):
        run(["down"])


# --- where it prints --------------------------------------------------------------------------------------------------


def test_results_and_progress_go_their_own_ways(capsys: Output) -> None:
    """A result stands on stdout; a note, a failure and progress stand on stderr."""
    terminal = Terminal()
    terminal.say("result")
    terminal.note("note")
    terminal.fail("failure")
    with terminal.progress("work", 3) as meter:
        meter.advance(2)
        meter.advance()
    printed = capsys.readouterr()
    assert printed.out == "result\n"
    assert printed.err == "note\nhugang: failure\nwork: 3 of 3\n"


def test_what_is_no_terminal_gets_plain_text(capsys: Output) -> None:
    """Without a terminal there are no escape codes, no blanks at line ends, and no line is broken."""
    terminal = Terminal()
    terminal.say("x" * 300, style="bold red")
    terminal.table("title", ("name", "amount"), [("a", "1"), ("bb", "1,000")], right=(1,))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.splitlines()[0] == "x" * 300
    assert printed.splitlines()[1:] == ["title", "name  amount", "a          1", "bb     1,000"]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours away even where a terminal is claimed."""
    environment = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm-256color"}
    code = "from gateway.cli.terminal import Terminal; Terminal().say('plain', style='red')"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, cwd=ROOT)
    assert b"\x1b[31m" not in found.stdout
    assert b"plain" in found.stdout


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 CNY"),
        (5, "0.05 CNY"),
        (123_456_789, "1,234,567.89 CNY"),
        (-150, "-1.50 CNY"),
        (10**17, "1" + ",000" * 5 + ".00 CNY"),
    ],
)
def test_amounts_are_written_for_people(amount: int, text: str) -> None:
    """Minor units become decimals with separators, and no digit is lost."""
    assert money(amount, "CNY") == text


def test_the_version_is_the_distributions(capsys: Output) -> None:
    """--version prints the version of the installed distribution."""
    run(["--version"])
    assert capsys.readouterr().out == f"hugang, version {importlib.metadata.version('hugang')}\n"


# --- what it finds on a machine ---------------------------------------------------------------------------------------


def test_doctor_names_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """A runtime package that is not installed is a fault, and the command ends with the code for it."""
    version = importlib.metadata.version

    def without_rich(name: str) -> str:
        if name == "rich":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", without_rich)
    assert run(["doctor", "--dir", str(tmp_path / "none"), "--json"]) == ExitCode.ENVIRONMENT
    found = {entry["subject"]: entry["verdict"] for entry in json.loads(capsys.readouterr().out)}
    assert found["rich"] == "fault"
    assert found["numpy"] == "ok"
    assert found["data folder"] == "note"


def test_doctor_looks_at_keys(folder: Path) -> None:
    """A private key that others may read is a fault."""
    verdicts = {finding.subject: finding.verdict for finding in doctor.findings(folder)}
    assert verdicts["data folder"] == "ok"
    (folder / "keys" / "hkma.pem").chmod(0o644)
    found = {finding.subject: finding for finding in doctor.findings(folder)}
    assert found["data folder"].verdict == "fault"
    assert "KEY_FILE_OPEN" in found["data folder"].text


def test_doctor_looks_at_journals(folder: Path) -> None:
    """A journal that is not begun is worth knowing, one that is whole is fine, and one that is damaged is a fault."""
    assert {finding.subject: finding.verdict for finding in doctor.findings(folder)}["journal HK"] == "note"
    journal = folder / "hk" / "journal.db"
    with contextlib.closing(sqlite3.connect(journal)) as database:
        database.execute("CREATE TABLE block (height INTEGER)")
    assert {finding.subject: finding.verdict for finding in doctor.findings(folder)}["journal HK"] == "ok"
    journal.write_bytes(b"not a database, whatever it was before" * 100)
    found = {finding.subject: finding for finding in doctor.findings(folder)}["journal HK"]
    assert (found.verdict, "not a database" in found.text) == ("fault", True)


def test_a_foreign_package_is_named(tmp_path: Path) -> None:
    """When another package called ledger hides ours, the command says so instead of failing somewhere."""
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import gateway.cli; gateway.cli.main()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=ROOT)
    assert found.returncode == 1
    assert b"the package 'ledger' comes from" in found.stderr


# --- small parts ------------------------------------------------------------------------------------------------------


def entry(number: int, state: str, *statements: str) -> dict[str, object]:
    """A window as a node lists it."""
    return {"window": number, "state": state, "statements": list(statements)}


def test_nodes_that_agree_do_not_diverge() -> None:
    """Settled windows with the same statements and open ones without any are no divergence."""
    same = [entry(1, "SETTLED", "close", "list/SH"), entry(2, "OPEN")]
    assert divergence({"SH": same, "HK": same}) == []


def test_a_missing_statement_is_a_divergence() -> None:
    """What one node has journaled and the other has not is named at the one that lacks it."""
    found = divergence({"SH": [entry(1, "SETTLED", "close", "decision")], "HK": [entry(1, "VOTED", "close")]})
    assert found == [{"window": 1, "ledger": "HK", "state": "VOTED", "missing": ["decision"]}]


def test_a_window_that_one_node_never_opened_is_a_divergence() -> None:
    """A window that only one node has closed shows at both: unfinished there, not opened here."""
    found = divergence({"SH": [entry(2, "CLOSED", "close")], "HK": []})
    assert [(item["ledger"], item["state"]) for item in found] == [("SH", "CLOSED"), ("HK", "NOT OPENED")]


def test_refusals_print_one_line(folder: Path, tmp_path: Path, capsys: Output) -> None:
    """An expected failure is one line with its code on stderr, and nothing on stdout."""
    for place, code in ((folder, "NAME_NOT_FOUND"), (tmp_path, "NETWORK_MISSING")):
        assert run(["account", "nobody", "--dir", str(place)]) == ExitCode.REFUSED
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"hugang: {code}: ")
        assert len(printed.err.splitlines()) == 1


def test_a_problem_says_what_to_do() -> None:
    """A problem in one line has its code, what happened, what to do, and the fields; without a detail it has none."""
    problem = {"code": "A_CODE", "title": "It is so.", "detail": "Do this.", "fields": {"x": 1}}
    assert str(ProblemError(422, problem)) == "A_CODE: It is so. Do this. (HTTP 422, x=1)"
    assert str(ProblemError(422, {"code": "A_CODE", "title": "It is so."})) == "A_CODE: It is so. (HTTP 422)"


def test_the_same_key_names_the_same_payment() -> None:
    """A payment sent again under its key alone is the same payment; another payer's is another."""
    name = uetr_by("SH530000000012", "rent-1")

    assert name == uetr_by("SH530000000012", "rent-1")
    assert name not in (uetr_by("SH530000000013", "rent-1"), uetr_by("SH530000000012", "rent-2"))
    assert name is not None
    assert parse_uetr(name)
    assert uetr_by("SH530000000012", None) is None


def test_the_default_folder_is_ignored_by_git() -> None:
    """What a demonstration writes lies in a folder that git ignores."""
    assert f"/{DEFAULT_FOLDER}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_stage_of_a_cycle_has_a_meaning() -> None:
    """The stages that settle explains are exactly those that a cycle enters."""
    source = (ROOT / "settlement" / "coordinator.py").read_text(encoding="utf-8")
    assert set(STAGES) == set(re.findall(r"_enter\(\"([a-z]+)\"\)", source))
