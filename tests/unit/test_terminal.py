"""What a terminal of 80 columns shows: every column, and every character of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.exits import ExitCode
from gateway.config import Ports, init_network
from ledger.runtime import ManualRuntime
from tests.pty_fixture import hugang_on_terminal, on_terminal

STATUS = (
    ("", "state", "process", "address", ""),
    ("sh", "running", "1845672", "http://127.0.0.1:56187", "block 95, position 35,612, window 3 is open"),
)
RULES = (
    ("from", "", "rules", "", "class", "balance", "at once", "a day", "a year"),
    ("2026-11-25", "in force", "hong-kong-wallets", "CNY", "HK", "10,000.00", "2,000.00", "5,000.00", "50,000.00"),
)


def shown(columns: tuple[str, ...], row: tuple[str, ...], *, right: tuple[int, ...] = (), width: int = 80) -> str:
    """Print a table of one row on a terminal."""
    program = f"from gateway.cli.terminal import Terminal; Terminal().table('', {columns}, [{row}], right={right})"
    code, printed = on_terminal("-c", program, columns=width)
    assert code == 0, printed
    return printed


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_no_column_is_shortened(width: int) -> None:
    """However narrow a terminal is, every cell but a last sentence stands whole, and of that every word."""
    printed = shown(*STATUS, width=width)
    assert "…" not in printed
    assert [cell for cell in STATUS[1][:-1] if cell not in printed] == []
    assert [word for word in STATUS[1][-1].split() if word not in printed.split()] == []


def test_a_last_sentence_goes_on_below_itself() -> None:
    """A sentence that does not fit is broken between words, and no line is longer than the terminal."""
    lines = shown(*STATUS).splitlines()
    assert max(map(len, lines)) <= 80
    place = lines[1].index("block")
    assert " ".join(line[place:].strip() for line in lines[1:]) == STATUS[1][-1]
    assert lines[2][:place].strip() == ""


def test_a_table_of_amounts_is_as_wide_as_it_is() -> None:
    """Columns that are flush right are never broken: a table of them is wider than the terminal rather than cut."""
    printed = shown(*RULES, right=(5, 6, 7, 8))
    assert [line.split() for line in printed.splitlines()[:2]] == [
        [word for cell in RULES[0] for word in cell.split()],
        [word for cell in RULES[1] for word in cell.split()],
    ]


def test_status_shows_the_whole_address_on_a_terminal(tmp_path: Path) -> None:
    """On 80 columns ``hugang status`` shows what each process is and that it is stopped, with no sign left out."""
    init_network(tmp_path / "network", ManualRuntime(), ports=Ports(56_187, 53_081, 41_731))
    code, printed = hugang_on_terminal("status", "--dir", str(tmp_path / "network"))
    assert code == ExitCode.UNAVAILABLE
    assert [line.split() for line in printed.splitlines()[1:]] == [
        [name, "stopped"] for name in ("sh", "hk", "operator")
    ]
