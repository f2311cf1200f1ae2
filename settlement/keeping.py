"""The book as bytes: what a snapshot has of settlement's memory.

Every attribute of ``Book`` is kept but those that follow from the genesis, whatever is added to it later; what is of a
class that is not listed here cannot be written. Reading wants exactly the attributes that this version has, of the
same kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.errors import MalformedInput
from ledger.messages import Kind, Message
from ledger.values import Codec
from settlement.book import (
    PAYMENT,
    Book,
    ClassRule,
    Participant,
    PaymentTable,
    Quote,
    RulesVersion,
    Window,
    WindowState,
)
from settlement.chart import AccountCode
from settlement.table import Table

__all__ = ["CODEC", "GIVEN", "dump_book", "load_book"]

CODEC = Codec(
    classes=(
        AccountCode,
        ClassRule,
        Kind,
        Message,
        Participant,
        PaymentTable,
        Quote,
        RulesVersion,
        Table,
        Window,
        WindowState,
    ),
    dtypes={"payment": PAYMENT},
)
"""All that can stand in a book."""
GIVEN = frozenset({"genesis", "ledger", "peer"})
"""Attributes that follow from the genesis."""


def dump_book(book: Book) -> Sequence[bytes | memoryview]:
    """Give a book's bytes in pieces, as they are now: the arrays among them change with the book.

    Raises:
        InvariantViolation: something in it is of no known kind.
    """
    return CODEC.pack({name: value for name, value in vars(book).items() if name not in GIVEN})


def load_book(book: Book, data: memoryview) -> None:
    """Make a fresh book what another was.

    Raises:
        MalformedInput: ``VALUE_MALFORMED``, these are not the bytes of a book of this version.
    """
    kept = CODEC.unpack(data)
    if not isinstance(kept, dict) or _kinds(kept) != _kinds(
        {name: value for name, value in vars(book).items() if name not in GIVEN}
    ):
        raise MalformedInput("VALUE_MALFORMED", "A kept book is not one of this version.")
    vars(book).update(kept)


def _kinds(attributes: dict[Any, Any]) -> dict[Any, Any]:
    """Say of what kind each attribute is; of a table also its columns, of an array its elements."""
    return {
        name: (type(value), value.dtypes if isinstance(value, Table) else getattr(value, "dtype", None))
        for name, value in attributes.items()
    }
