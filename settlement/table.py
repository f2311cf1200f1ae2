"""Columns that grow together: what settlement remembers of many payments, a few bytes each and never an object.

>>> places = Table(position=np.uint64, member=np.uint32)
>>> places.append(position=[7, 9], member=[0, 1])
0
>>> places["member"].tolist()
[0, 1]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Table"]

_COUNT_MIN = 64


class Table:
    """Arrays of one length, by name; rows are only ever added at the end."""

    def __init__(self, **dtypes: npt.DTypeLike) -> None:
        """Start empty with one column for each name."""
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(_COUNT_MIN, dtype) for name, dtype in dtypes.items()
        }
        self._count = 0
        self._capacity = _COUNT_MIN

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """The columns' names and types."""
        return {name: column.dtype for name, column in self._columns.items()}

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Give the filled part of every column, by name."""
        return {name: self[name] for name in self._columns}

    @classmethod
    def restore(cls, kept: dict[str, npt.NDArray[Any]]) -> Table:
        """Make a table of its columns.

        Raises:
            ValueError: they are not all as long.
        """
        table = cls(**{name: column.dtype for name, column in kept.items()})
        if len({len(column) for column in kept.values()}) != 1:
            raise ValueError("the columns of a table differ in length")
        table.append(**kept)
        return table

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Give the filled part of a column: contiguous, valid until the next ``append``."""
        return self._columns[name][: self._count]

    def append(self, **values: npt.ArrayLike) -> int:
        """Add rows given as one sequence for each column; gives the first one's index."""
        first = self._count
        arrays = {name: np.asarray(values[name], column.dtype) for name, column in self._columns.items()}
        end = first + len(next(iter(arrays.values())))
        if end > self._capacity:
            self._capacity = max(end, 2 * self._capacity)
            for name, column in self._columns.items():
                bigger = np.zeros(self._capacity, column.dtype)
                bigger[:first] = column[:first]
                self._columns[name] = bigger
        for name, array in arrays.items():
            self._columns[name][first:end] = array
        self._count = end
        return first

    def find(self, name: str, value: int) -> int | None:
        """Give the first row that has ``value`` in a column whose values never fall, ``None`` if there is none."""
        column = self[name]
        index = int(np.searchsorted(column, np.asarray(value, column.dtype)))
        return index if index < self._count and int(column[index]) == value else None
