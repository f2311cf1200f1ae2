"""Byte strings as columns: how statements carry a window's payments without an object a payment."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ledger.errors import MalformedInput
from settlement.book import PAYMENT, Payments

__all__ = ["CodeTable", "column", "pack_selection", "rows_of", "selected_of", "table_of"]

CodeTable = tuple[tuple[int, str], ...]
"""Numbers and their codes, ascending by number."""


class _List(Protocol):
    """What ``rows_of`` needs of a list's body."""

    @property
    def count(self) -> int: ...
    @property
    def rows(self) -> bytes: ...


def column(data: bytes, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
    """Read ``count`` little-endian values; a read-only view.

    Raises:
        MalformedInput: the bytes are not exactly as many.
    """
    little = np.dtype(dtype).newbyteorder("<")
    if len(data) != count * little.itemsize:
        raise MalformedInput("STATEMENT_MALFORMED", "A column has another length than its statement counts.")
    return np.frombuffer(data, little)


def rows_of(body: _List) -> Payments:
    """Read a list's payments, dtype ``PAYMENT``; a read-only view.

    Raises:
        MalformedInput: the bytes are not exactly as many as it counts.
    """
    if len(body.rows) != body.count * PAYMENT.itemsize:
        raise MalformedInput("STATEMENT_MALFORMED", "A list has another length than it counts.")
    return np.frombuffer(body.rows, PAYMENT)


def pack_selection(selected: npt.NDArray[np.bool_]) -> bytes:
    """Give one bit a payment, the first in the lowest bit of the first byte; unused bits are zero."""
    return np.packbits(selected, bitorder="little").tobytes()


def selected_of(data: bytes, count: int) -> npt.NDArray[np.bool_]:
    """Undo ``pack_selection``.

    Raises:
        MalformedInput: not exactly the bytes for ``count`` bits, or an unused bit is set.
    """
    if len(data) != (count + 7) // 8:
        raise MalformedInput("STATEMENT_MALFORMED", "A selection has another length than its list.")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if np.any(bits[count:]):
        raise MalformedInput("STATEMENT_MALFORMED", "A selection has a bit beyond its list.")
    return bits[:count].astype(np.bool_)


def table_of(used: npt.NDArray[Any], codes: dict[int, str]) -> CodeTable:
    """Give the code table of exactly the numbers used, zero left out, ascending."""
    return tuple((number, codes[number]) for number in np.unique(used).tolist() if number)
