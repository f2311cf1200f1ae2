"""The book as bytes: everything settlement remembers comes back, and nothing can be forgotten quietly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ledger.errors import InvariantViolation, MalformedInput
from settlement import rules
from settlement.book import Book, PaymentTable, WindowState
from settlement.keeping import CODEC, GIVEN, dump_book, load_book
from settlement.table import Table
from tests.cycle_steps import Steps
from tests.settlement_fixture import World, genesis_of, uetr_of


def busy() -> World:
    """Give a world with rules, a cap, a settled window, quotes, refused and waiting payments, and a window half way."""
    world = World.everywhere()
    for node in world.nodes:
        registrar = f"REGISTRAR-{node.ledger}"
        node.post(registrar, "/v1/rules", rules.body("ecny-wallets", "2025-06-18"))
        node.post(registrar, "/v1/rules", rules.body("ecny-wallets", "2025-06-19"))
    cap = {"participant": "GAMMA", "asset": "CNY", "maximum": "100000"}
    world.hk.post("REGISTRAR-HK", "/v1/caps", {"caps": [cap]})
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500, uetr=uetr_of(1)))
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.ben", 200, uetr=uetr_of(2)))
    steps = Steps(world, world.sh.book.current)
    steps.close()
    steps.list()
    steps.accept()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5, uetr=uetr_of(3)))
    return world


def again(book: Book) -> Book:
    """Write a book and read it."""
    fresh = Book(book.genesis)
    load_book(fresh, memoryview(b"".join(dump_book(book))))
    return fresh


def plain(value: Any) -> Any:
    """Give a value in a form that can be compared."""
    return b"".join(CODEC.pack(value))


@pytest.fixture(scope="module")
def world() -> World:
    """Give the busy world."""
    return busy()


@pytest.mark.parametrize("ledger", ["SH", "HK"])
def test_a_book_comes_back(world: World, ledger: str) -> None:
    """Every attribute of a book is afterwards what it was, on both ledgers."""
    book = world.node(ledger).book
    found = again(book)
    assert set(vars(found)) == set(vars(book))
    for name in set(vars(book)) - GIVEN:
        assert plain(getattr(found, name)) == plain(getattr(book, name)), name
    assert found.windows[1].state is WindowState.SETTLED
    assert len(found.windows) == 3
    assert found.rules == book.rules
    assert found.class_in_force(1, "IV") == book.class_in_force(1, "IV")


def test_every_attribute_is_kept_or_follows_from_the_genesis(world: World) -> None:
    """What is added to the book later is kept too, or cannot be written: nothing is left out quietly."""
    book = world.sh.book
    kept = CODEC.unpack(memoryview(b"".join(dump_book(book))))
    assert set(kept) == set(vars(book)) - GIVEN
    fresh = Book(genesis_of("SH"))
    for name in GIVEN:
        assert getattr(fresh, name) == getattr(book, name)


def test_an_attribute_of_an_unknown_kind_cannot_be_written() -> None:
    """A new class in the book must be listed before anything is kept."""

    @dataclass
    class Novelty:
        """Something that nobody has listed."""

        number: int = 1

    book = Book(genesis_of("SH"))
    vars(book)["novelty"] = Novelty()
    with pytest.raises(InvariantViolation, match="Novelty"):
        dump_book(book)


def test_a_participant_is_one_object(world: World) -> None:
    """By number and by party a participant is the same object, so that what is added to it is seen by both."""
    found = again(world.sh.book)
    for participant in found.participants:
        assert found.by_party[participant.party] is participant


def test_columns_go_on_growing(world: World) -> None:
    """What was read is added to like what was never written."""
    found = again(world.sh.book)
    for book in (found, world.sh.book):
        for account in (100, 1_000):
            book.set_participant(account, 3, clearing=4)
    assert plain(found._participant_of) == plain(world.sh.book._participant_of)
    window = found.windows[2].outgoing
    count = window.count
    window.append(np.concatenate([window.rows] * 20))
    assert window.count == 21 * count


@pytest.mark.parametrize(
    "change",
    [
        {"current": "3"},
        {"extra": 1},
        {"windows": None},
        {"gross": Table(position=np.uint64)},
        {"_fees_of": np.zeros(4, np.uint64)},
    ],
)
def test_a_book_of_another_version_is_refused(change: dict[str, Any]) -> None:
    """An attribute too many, or of another kind, is refused."""
    book = Book(genesis_of("SH"))
    kept = {name: value for name, value in vars(book).items() if name not in GIVEN} | change
    with pytest.raises(MalformedInput, match="version"):
        load_book(book, memoryview(b"".join(CODEC.pack(kept))))


def test_a_missing_attribute_is_refused() -> None:
    """A book with an attribute too few is refused, and so is what is no book."""
    book = Book(genesis_of("SH"))
    kept = {name: value for name, value in vars(book).items() if name not in GIVEN}
    kept.pop("quotes")
    for value in (kept, [kept]):
        with pytest.raises(MalformedInput, match="version"):
            load_book(book, memoryview(b"".join(CODEC.pack(value))))


def test_tables_are_restored_whole() -> None:
    """Columns of different lengths, or of another table, make none."""
    with pytest.raises(ValueError, match="length"):
        Table.restore({"a": np.zeros(1, np.uint8), "b": np.zeros(2, np.uint8)})
    columns = PaymentTable().dump()
    with pytest.raises(ValueError, match="columns"):
        PaymentTable.restore(columns | {"states": np.zeros(0, np.uint16)})
    with pytest.raises(ValueError, match="length"):
        PaymentTable.restore(columns | {"states": np.zeros(1, np.uint8)})
