"""SQL tables from an export, without any node: those the node would keep, and none of a journal that does not stand."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import run
from gateway.cli.following import claimed_block_count, following, following_exports
from gateway.cli.terminal import Terminal
from gateway.projection.database import Projection
from gateway.projection.exported import project_export
from gateway.projection.rows import money_of
from gateway.projection.tables import PROJECTED
from ledger.errors import IntegrityFailure, Unavailable
from ledger.exports import write_export
from ledger.runtime import SystemRuntime
from settlement.statements import LEDGERS
from tests.receipt_fixture import journals

TABLES = ("watermarks", *PROJECTED)


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A folder as ``hugang export`` writes it."""
    for ledger in LEDGERS:
        folder = tmp_path / "exports" / ledger.lower()
        folder.mkdir(parents=True)
        with (folder / "journal.hgx").open("wb") as file:
            write_export(journals().stores[ledger], file)
    return tmp_path / "exports"


def content(file: Path) -> dict[str, list[Any]]:
    """Read all tables of a file."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in TABLES}


@pytest.mark.parametrize("ledger", LEDGERS)
def test_an_exports_tables_are_the_nodes(exports: Path, ledger: str) -> None:
    """The tables of an export are those that the node would keep of the same journal, to the last row."""
    file, told = exports.parent / "out.db", []
    export = exports / ledger.lower() / "journal.hgx"
    made = project_export(export, file, SystemRuntime(), progress=told.append)
    projection = Projection.open("journal.db", exports.parent)
    store = journals().stores[ledger]
    projection.check(store)
    projection.update(store, money_of(journals().machines[ledger]), with_transfers=True)
    expected = projection.watermarks()
    projection.close()
    assert content(file) == content(exports.parent / "journal-projection.db")
    assert (made.ledger, made.watermarks) == (ledger, expected)
    assert told == list(range(1, claimed_block_count(export) + 1))


@pytest.mark.parametrize("what", ["changed", "cut"])
def test_a_refused_export_leaves_nothing(exports: Path, what: str) -> None:
    """Of a journal that does not stand, however late that is found out, no file is left, whole or half."""
    export = exports / "sh" / "journal.hgx"
    data = bytearray(export.read_bytes())
    data[-200] ^= 1
    export.write_bytes(data if what == "changed" else data[:-60])
    with pytest.raises(IntegrityFailure):
        project_export(export, exports.parent / "out.db", SystemRuntime())
    assert [path.name for path in exports.parent.iterdir()] == ["exports"]


def test_a_place_that_cannot_be_written_is_unavailable(exports: Path) -> None:
    """A folder that is not there is told apart from a bad export."""
    with pytest.raises(Unavailable, match="PROJECTION_FAILED"):
        project_export(exports / "sh" / "journal.hgx", exports / "nowhere" / "out.db", SystemRuntime())


def test_the_command_makes_a_file_for_each_ledger(exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder with both journals each gets a file that bears its name; of one journal the file that was named."""
    file = exports.parent / "day.db"
    assert run(["project", str(exports), "--out", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    for ledger in LEDGERS:
        made = exports.parent / f"day-{ledger.lower()}.db"
        assert shown[ledger]["file"] == str(made)
        assert shown[ledger]["tables"]["transfers"]["row_count"] == len(content(made)["transfers"])
    assert run(["project", str(exports / "hk"), "--out", str(file)]) == 0
    assert "verified by itself from genesis HK" in capsys.readouterr().out
    assert content(file) == content(exports.parent / "day-hk.db")


def test_no_file_is_overwritten(exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is there already is left alone, also one that the command would name by itself."""
    taken = exports.parent / "day-hk.db"
    taken.write_text("mine")
    for file in (taken, exports.parent / "day.db"):
        assert run(["project", str(exports), "--out", str(file)]) == 2
        assert "is there already" in capsys.readouterr().err
    assert taken.read_text() == "mine"
    assert not (exports.parent / "day-sh.db").exists()


@pytest.mark.parametrize("where", ["", "sh", "sh/journal.hgx"])
def test_an_export_without_a_file_is_told_what_to_do(
    exports: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names an export and no file is told that it has no node, and which option to use."""
    assert run(["project", str(exports / where)]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_bar_shows_on_a_terminal_alone(is_terminal: bool) -> None:
    """A terminal's stderr shows the step and the count; a pipe or a file gets nothing."""
    written, terminal = io.StringIO(), Terminal()
    terminal.err = Console(file=written, force_terminal=is_terminal, width=80, _environ={"TERM": "xterm"})
    with following(terminal, "replaying sh") as progress:
        progress(7, 9)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert ("replaying sh" in shown, "7/9" in shown) == (is_terminal, is_terminal)
    assert bool(shown) == is_terminal


def test_a_bar_goes_over_all_exports(exports: Path) -> None:
    """Of two exports one bar counts the blocks of both."""
    written, terminal = io.StringIO(), Terminal()
    terminal.err = Console(file=written, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    places = [exports / ledger.lower() / "journal.hgx" for ledger in LEDGERS]
    heights = [journals().stores[ledger].last_height() for ledger in LEDGERS]
    with following_exports(terminal, places) as progress:
        progress(places[0], heights[0])
        progress(places[1], 1)
    assert f"{heights[0] + 1}/{sum(heights)}" in written.getvalue()


def test_a_file_too_short_to_say_claims_no_blocks(tmp_path: Path) -> None:
    """What has no trailer is shown without a count; whether it is an export is the verifier's to say."""
    (tmp_path / "short").write_bytes(b"hugangEX")
    assert claimed_block_count(tmp_path / "short") == 0
