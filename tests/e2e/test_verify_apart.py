"""``hugang verify`` over exports of one moment and of two, written by running nodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from ledger.exports import FILE_NAME
from tests.network_fixture import Network, running_network
from tests.pty_fixture import hugang_on_terminal

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exports of one network after one window (``one``) and after three (``three``)."""
    home = tmp_path_factory.mktemp("apart")
    with running_network(home / "net") as network:
        settle(network, 1_234)
        export(network, home / "one")
        settle(network, 50)
        settle(network, 700_000)
        export(network, home / "three")
    return home


def settle(network: Network, amount: int) -> None:
    """Have a payment cross the border and settle its window."""
    wallets = network.wallets
    network.customer("SH").pay(debtor=wallets["SH"]["a"], creditor=wallets["HK"]["other"], asset="CNY", amount=amount)
    assert network.settle()["state"] == "SETTLED"


def export(network: Network, folder: Path) -> None:
    """Write both journals."""
    for ledger in ("SH", "HK"):
        place = folder / ledger.lower()
        place.mkdir(parents=True)
        network.client(ledger, network.keys.auditor).export_to(place / FILE_NAME)


def mixed(places: Path, folder: Path, *, sh: str, hk: str) -> Path:
    """Put the exports of two moments, or of two ledgers, into one folder."""
    for name, source in (("sh", sh), ("hk", hk)):
        (folder / name).mkdir(parents=True)
        shutil.copy(places / source / FILE_NAME, folder / name / FILE_NAME)
    return folder


def test_exports_of_one_moment_are_verified(places: Path, capsys: Output) -> None:
    """Two exports of one moment are verified, and their border is shown with decimals and currency."""
    assert run(["verify", str(places / "three")]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "OMNIBUS and MIRROR agree: OMNIBUS 7,012.84 CNY, MIRROR 7,012.84 CNY" in shown
    assert shown.splitlines()[-1] == "VERIFIED"


def test_exact_amounts_for_programs(places: Path, capsys: Output) -> None:
    """For programs the border's amounts are minor units as digits."""
    assert run(["verify", str(places / "three"), "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    (border,) = [item for item in found["findings"] if (item["invariant"], item["subject"]) == ("I12", "CNY")]
    assert border["amounts"] == {"OMNIBUS": "701284", "MIRROR": "701284"}
    assert (found["verdict"], found["older"]) == ("verified", None)


def test_findings_are_whole_on_a_terminal(places: Path) -> None:
    """On 80 columns each finding shows its outcome, its invariant and its subject, and no sentence is cut."""
    code, shown = hugang_on_terminal("verify", str(places / "three"))
    assert code == ExitCode.OK
    assert "…" not in shown
    firsts = [line.split()[:3] for line in shown.splitlines()]
    assert ["ok", "I11", "SH"] in firsts
    assert ["ok", "I12", "CNY"] in firsts
    assert ["ok", "I14", "window"] in firsts
    assert "OMNIBUS 7,012.84 CNY, MIRROR 7,012.84 CNY" in " ".join(shown.split())


@pytest.mark.parametrize("older", ["sh", "hk"])
def test_windows_apart_are_incomplete(places: Path, tmp_path: Path, capsys: Output, older: str) -> None:
    """Exports that are windows apart end with a code of their own, and say which one is older and what each has."""
    newer = "hk" if older == "sh" else "sh"
    folder = mixed(places, tmp_path / "mixed", **{older: f"one/{older}", newer: f"three/{newer}"})
    assert run(["verify", str(folder)]) == ExitCode.INCOMPLETE
    shown = capsys.readouterr().out
    last = shown.splitlines()[-1]
    assert last.startswith(
        f"INCOMPLETE: the export of {older.upper()} is older (window 1, SETTLED in attempt 1) than that of "
        f"{newer.upper()} (window 3, SETTLED in attempt 1): "
    )
    assert f"{newer.upper()}'s export holds what {older.upper()}'s node has signed since" in last
    assert "VERIFIED" not in shown
    assert "3 windows with 3 payments proved by their certificates" in shown


def test_programs_read_that_a_pair_is_incomplete(places: Path, tmp_path: Path, capsys: Output) -> None:
    """With --json the verdict, the older ledger, and how far each has come are fields; nothing has failed."""
    folder = mixed(places, tmp_path / "mixed", sh="one/sh", hk="three/hk")
    assert run(["verify", str(folder), "--json"]) == ExitCode.INCOMPLETE
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["failure"]) == ("incomplete", None)
    assert found["older"] == {
        "ledger": "SH",
        "newer": "HK",
        "is_signed": True,
        "reached": {
            "HK": {"window": 3, "state": "SETTLED", "attempt": 1},
            "SH": {"window": 1, "state": "SETTLED", "attempt": 1},
        },
    }
    outcomes = {item["subject"]: item["outcome"] for item in found["findings"] if item["invariant"] == "I14"}
    assert outcomes == {"window 1": "ok", "window 2": "not yet", "window 3": "not yet"}
    (border,) = [item for item in found["findings"] if (item["invariant"], item["subject"]) == ("I12", "CNY")]
    assert (border["outcome"], border["amounts"]) == ("not yet", {"OMNIBUS": "1234", "MIRROR": "701284"})


def test_an_older_export_with_a_changed_byte_is_refused(places: Path, tmp_path: Path, capsys: Output) -> None:
    """That a pair is of two moments excuses nothing: a changed byte of the older one is refused as ever."""
    folder = mixed(places, tmp_path / "mixed", sh="one/sh", hk="three/hk")
    file = folder / "sh" / FILE_NAME
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert run(["verify", str(folder)]) == ExitCode.INTEGRITY
    assert "REFUSED sh/journal.hgx" in capsys.readouterr().out


def test_one_ledger_twice_is_no_pair(places: Path, tmp_path: Path, capsys: Output) -> None:
    """Two exports of one ledger are refused, instead of one of them standing for both."""
    folder = mixed(places, tmp_path / "mixed", sh="one/sh", hk="three/sh")
    assert run(["verify", str(folder)]) == ExitCode.INTEGRITY
    assert "REFUSED genesis: GENESIS_PAIR" in capsys.readouterr().out


def test_a_third_export_beside_a_pair(places: Path, tmp_path: Path, capsys: Output) -> None:
    """A folder with a journal of its own beside both ledgers' is refused: nothing may be verified and not compared."""
    folder = mixed(places, tmp_path / "mixed", sh="one/sh", hk="one/hk")
    shutil.copy(places / "three" / "sh" / FILE_NAME, folder / FILE_NAME)
    assert run(["verify", str(folder)]) == ExitCode.INTEGRITY
    assert "REFUSED genesis: GENESIS_PAIR" in capsys.readouterr().out
