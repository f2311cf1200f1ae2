"""One small value that must outlive the process: written whole, synced, and then there.

A ``FileCell`` replaces its file by a synced one, so that a reader finds the old value or the new one and never half of
either. It passes the crossings ``cell.before_write`` and ``cell.after_write``. After a write that failed nothing is
written any more: whether the disk holds the value shows when the cell is opened again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ledger.errors import IntegrityFailure, Unavailable
from ledger.runtime import Runtime

__all__ = ["SIZE_MAX", "Cell", "FileCell", "MemoryCell"]

SIZE_MAX = 2**20
"""Bytes of one value."""


class Cell(Protocol):
    """Where one value is kept."""

    def read(self) -> bytes | None:
        """Give the value, ``None`` before the first."""

    def write(self, value: bytes) -> None:
        """Replace the value; when this returns, it survives a crash and a power loss.

        Raises:
            Unavailable: ``CELL_FAILED``, it could not be made durable, now or earlier.
        """


class MemoryCell:
    """A value without a disk, for simulations and tests: it is there as long as the object is."""

    def __init__(self, value: bytes | None = None) -> None:
        """Start with a value, or none."""
        self._value = value

    def read(self) -> bytes | None:
        """Give the value."""
        return self._value

    def write(self, value: bytes) -> None:
        """Replace the value."""
        self._value = value


class FileCell:
    """A value in a file."""

    def __init__(self, path: Path, *, runtime: Runtime) -> None:
        """Keep the value at ``path``; nothing is read or written yet."""
        self._path = path
        self._runtime = runtime
        self._is_failed = False

    def read(self) -> bytes | None:
        """Give the value, ``None`` if there is no file.

        Raises:
            IntegrityFailure: ``CELL_UNREADABLE``.
        """
        try:
            with self._path.open("rb") as file:
                value = file.read(SIZE_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IntegrityFailure("CELL_UNREADABLE", f"A kept value cannot be read: {error.strerror}.") from error
        if len(value) > SIZE_MAX:
            raise IntegrityFailure("CELL_UNREADABLE", "A kept value is larger than any that was written.")
        return value

    def write(self, value: bytes) -> None:
        """Replace the file; see ``Cell.write``."""
        if self._is_failed:
            raise Unavailable("CELL_FAILED", "An earlier value could not be made durable.", retry_after_s=60)
        self._is_failed = True
        self._runtime.crossing("cell.before_write")
        draft = self._path.with_name(self._path.name + ".new")
        try:
            _write_synced(draft, value)
            draft.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise Unavailable("CELL_FAILED", "A value could not be made durable.", retry_after_s=60) from error
        self._runtime.crossing("cell.after_write")
        self._is_failed = False


def _write_synced(path: Path, value: bytes) -> None:
    with path.open("wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make the new name of a file durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
