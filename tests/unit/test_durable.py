"""Kept values: whole or not at all, and nothing more after a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledger import durable
from ledger.durable import Cell, FileCell, MemoryCell
from ledger.errors import IntegrityFailure, Unavailable
from ledger.runtime import ManualRuntime


class Dies(BaseException):
    """The process ends here."""


def cell_at(path: Path, *, dies_at: str = "") -> FileCell:
    """Give a cell whose process dies at a crossing."""

    def cross(point: str) -> None:
        if point == dies_at:
            raise Dies

    return FileCell(path, runtime=ManualRuntime(on_crossing=cross))


@pytest.fixture(params=["memory", "file"])
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Cell:
    """Give each kind of cell in turn."""
    return MemoryCell() if request.param == "memory" else cell_at(tmp_path / "cell")


def test_the_last_value_counts(cell: Cell) -> None:
    """A cell has no value at first, and then the one that was written last, an empty one too."""
    assert cell.read() is None
    for value in (b"first", b"", b"last"):
        cell.write(value)
        assert cell.read() == value


def test_the_next_process_finds_the_value(tmp_path: Path) -> None:
    """A value in a file is there for whoever opens it next, and nothing lies beside it."""
    cell_at(tmp_path / "cell").write(b"value")
    assert cell_at(tmp_path / "cell").read() == b"value"
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]


@pytest.mark.parametrize(("point", "found"), [("cell.before_write", b"old"), ("cell.after_write", b"new")])
def test_a_process_that_dies(tmp_path: Path, point: str, found: bytes) -> None:
    """A process that dies before the write leaves the old value, after it the new one."""
    cell_at(tmp_path / "cell").write(b"old")
    with pytest.raises(Dies):
        cell_at(tmp_path / "cell", dies_at=point).write(b"new")
    assert cell_at(tmp_path / "cell").read() == found


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_value_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """After a sync or a rename that failed, the cell takes no further value, and the old one is still there."""
    cell = cell_at(tmp_path / "cell")
    cell.write(b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os if function == "fsync" else Path, function, fail)
        with pytest.raises(Unavailable, match="CELL_FAILED"):
            cell.write(b"new")
    with pytest.raises(Unavailable, match="CELL_FAILED"):
        cell.write(b"newer")
    assert cell_at(tmp_path / "cell").read() == b"old"


def test_a_value_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in the file's place, and a file that is too large, are integrity failures."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(bytes(durable.SIZE_MAX + 1))
    for name in ("folder", "large"):
        with pytest.raises(IntegrityFailure, match="CELL_UNREADABLE"):
            cell_at(tmp_path / name).read()
