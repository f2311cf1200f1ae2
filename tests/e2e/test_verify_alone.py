"""``hugang verify`` says how far its verdict goes: of one ledger alone, and of a genesis that nobody has named."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from ledger.exports import FILE_NAME, ExportFile
from tests.network_fixture import running_network

Output = pytest.CaptureFixture[str]
TAKES_BOTH = ["both ledgers together: I11, I12, I14", "the certificates of the windows"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exports of a network after one window (``exports``), and Shanghai's checkpoint of later."""
    home = tmp_path_factory.mktemp("alone")
    with running_network(home / "net") as network:
        wallets = network.wallets
        customer = network.customer("SH")
        customer.pay(debtor=wallets["SH"]["a"], creditor=wallets["HK"]["other"], asset="CNY", amount=1_234)
        assert network.settle()["state"] == "SETTLED"
        for ledger in ("SH", "HK"):
            place = home / "exports" / ledger.lower()
            place.mkdir(parents=True)
            network.client(ledger, network.keys.auditor).export_to(place / FILE_NAME)
        customer.pay(debtor=wallets["SH"]["a"], creditor=wallets["SH"]["b"], asset="CNY", amount=1)
        (home / "later.note").write_bytes(network.http.get(f"{network.urls['SH']}/v1/checkpoint").content)
    return home


@pytest.fixture
def half(home: Path, tmp_path: Path) -> Path:
    """A folder for both ledgers that holds Shanghai's alone."""
    shutil.copytree(home / "exports" / "sh", tmp_path / "half" / "sh")
    return tmp_path / "half"


def hashes(home: Path) -> list[str]:
    """Give the options that name both genesis hashes."""
    options = []
    for ledger in ("sh", "hk"):
        with ExportFile(home / "exports" / ledger / FILE_NAME) as export:
            options += ["--genesis-hash", hashlib.sha256(export.genesis()).hexdigest()]
    return options


def test_half_a_folder_is_incomplete(half: Path, capsys: Output) -> None:
    """A folder for both ledgers that lacks one ends with code 7, says which, and what was not checked."""
    assert run(["verify", str(half)]) == ExitCode.INCOMPLETE
    shown = capsys.readouterr().out
    assert "VERIFIED" not in shown
    assert shown.splitlines()[-1].startswith(
        "INCOMPLETE: the export of HK is missing. That of SH holds by itself; nothing was compared with HK (I11, I12, "
        "I14), and no window was proved by its certificate. "
    )


def test_programs_read_what_half_a_folder_lacks(half: Path, capsys: Output) -> None:
    """With --json the verdict is incomplete, and the missing ledger and what was not checked are fields."""
    assert run(["verify", str(half), "--json"]) == ExitCode.INCOMPLETE
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["missing"]) == ("incomplete", "HK")
    assert found["not_checked"] == ["the journal of HK", *TAKES_BOTH]


@pytest.mark.parametrize("place", ["hk", f"hk/{FILE_NAME}"])
def test_one_ledger_on_purpose_is_verified_alone(home: Path, capsys: Output, place: str) -> None:
    """One ledger's folder or file, named directly, is verified with code 0, and never without saying that it is one."""
    assert run(["verify", str(home / "exports" / place)]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == (
        "VERIFIED, HK alone: nothing was compared with SH (I11, I12, I14), and no window was proved by its certificate"
    )
    assert run(["verify", str(home / "exports" / place), "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["missing"]) == ("verified", None)
    assert found["not_checked"] == ["the journal of SH", *TAKES_BOTH]


def test_a_whole_pair_leaves_nothing_unchecked(home: Path, capsys: Output) -> None:
    """Of both ledgers' exports of one moment everything is checked, and the refused records are called records."""
    assert run(["verify", str(home / "exports"), "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["not_checked"], found["missing"]) == ([], None)
    assert run(["verify", str(home / "exports")]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[4:6] == ["refused records", "replayed in"]
    assert "both ledgers together (docs/architecture.md#invariants)" in lines
    assert lines[-1] == "VERIFIED"


def test_a_genesis_that_was_named_is_told_from_one_that_was_not(home: Path, capsys: Output) -> None:
    """Screen and --json say of each ledger whether its genesis is the auditor's or was taken from the export."""
    for options, source, trusted in (
        ([], "taken from the export: compare it with one from elsewhere", False),
        (hashes(home), "the one you gave", True),
    ):
        assert run(["verify", str(home / "exports"), *options]) == ExitCode.OK
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("genesis ")]
        assert [line.split(maxsplit=3)[3] for line in lines] == [f"({source})"] * 2
        assert run(["verify", str(home / "exports"), *options, "--json"]) == ExitCode.OK
        found = json.loads(capsys.readouterr().out)["ledgers"]
        assert {ledger: entry["genesis_trusted"] for ledger, entry in found.items()} == {"SH": trusted, "HK": trusted}


def test_a_refused_file_is_named_as_it_lies(
    home: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single file is named without a slash before it, and no place is told that is not known."""
    monkeypatch.chdir(tmp_path)
    Path("r.bin").write_bytes(b"x" * 99)
    data = (home / "exports" / "sh" / FILE_NAME).read_bytes()
    Path("cut.hgx").write_bytes(data[: len(data) // 2])
    for name in ("r.bin", "cut.hgx"):
        assert run(["verify", name]) == ExitCode.INTEGRITY
        shown = capsys.readouterr().out
        assert shown.startswith(f"REFUSED {name}: EXPORT_")
        assert "None" not in shown
    assert run(["verify", "r.bin", "--json"]) == ExitCode.INTEGRITY
    assert json.loads(capsys.readouterr().out)["not_checked"] == ["whatever follows the failure"]


def test_a_journal_that_is_cut_names_a_position_alone(home: Path, capsys: Output) -> None:
    """Where no block is known, as where a journal ends before a checkpoint, a position is told and no block."""
    place = str(home / "exports" / "sh")
    assert run(["verify", place, "--checkpoint", str(home / "later.note")]) == ExitCode.INTEGRITY
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("REFUSED sh/journal.hgx: JOURNAL_CUT, position ")
    assert "block" not in last.split(": ")[1]


def test_a_wrong_place_leads_to_the_right_one(home: Path, tmp_path: Path, capsys: Output) -> None:
    """A folder above an export names it, one without any names the command, and a node's database is called one."""
    shutil.copytree(home / "exports", tmp_path / "demo" / "exports")
    (tmp_path / "empty").mkdir()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database:
        database.execute("CREATE TABLE block (height INTEGER)")
    for place, says in (
        ("demo", f"No export lies there; {tmp_path / 'demo' / 'exports'} looks like one."),
        ("empty", "No export lies there; hugang export writes one."),
        ("journal.db", "This is a node's database; hugang export writes what can be verified."),
    ):
        assert run(["verify", str(tmp_path / place)]) == ExitCode.REFUSED
        printed = capsys.readouterr()
        assert printed.out == ""
        assert f"EXPORT_NOT_FOUND: {says}" in printed.err
