"""What settlement remembers: tables that grow, names that are found or not."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.errors import NotFound
from settlement.book import PAYMENT, Book, Group, PaymentTable, group_of, window_of
from settlement.chart import AccountCode
from tests.settlement_fixture import World, genesis_of


def test_a_payment_table_grows_without_forgetting() -> None:
    """Rows and what stands beside them keep their place while the table doubles, and new ones start as pending."""
    table = PaymentTable()
    for part in range(20):
        rows = np.zeros(7, PAYMENT)
        rows["amount"] = part * 7 + np.arange(7)
        first = table.append(rows)
        assert first == part * 7
        table.states[first] = part
        table.reasons[first] = part
        table.moved_to[first] = part

    assert table.rows["amount"].tolist() == list(range(140))
    for column in (table.states, table.reasons, table.moved_to):
        assert column[::7].tolist() == list(range(20))
        assert not np.any(column.reshape(20, 7)[:, 1:])


@pytest.mark.parametrize("window", [1, 2, 2**30 - 1])
@pytest.mark.parametrize("kind", list(Group))
def test_a_group_leads_back_to_its_window(window: int, kind: Group) -> None:
    """Groups of windows are numbered without gaps between kinds, never zero, within 32 bits."""
    assert window_of(group_of(window, kind)) == (window, kind)
    assert 0 < group_of(window, kind) < 2**32


def test_what_is_not_there_is_not_found() -> None:
    """Unknown participants, accounts and windows each have their code."""
    book = World.with_banks().sh.book

    for code, ask in (
        ("PARTICIPANT_NOT_FOUND", lambda: book.participant_by_code("nobody")),
        ("PARTICIPANT_ASSET", lambda: book.participant_by_code("ALPHA").account(AccountCode.FUNDS, 2)),
        ("WINDOW_NOT_FOUND", lambda: book.window(2)),
    ):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.code == code


def test_a_book_starts_with_the_first_window_open() -> None:
    """Window 1 is open from the instant of the genesis."""
    genesis = genesis_of("HK")
    book = Book(genesis)

    assert (book.current, book.open_window.number, book.open_window.opened_ns) == (1, 1, genesis.created_ns)
    assert (book.ledger, book.peer) == ("HK", "SH")


def test_every_account_knows_through_what_it_pays() -> None:
    """Accounts that can pay lead to the clearing, funds, settlement and fees accounts of their own book and asset."""
    world = World.everywhere()

    for node in world.nodes:
        accounts = node.machine.state.accounts
        for participant in node.book.participants:
            for (code, asset), number in participant.accounts.items():
                if code in (AccountCode.POSITION, AccountCode.FEES, AccountCode.SUSPENSE):
                    found = [column[number] for column in _columns(node.book)]
                    wanted = ("CLEARING", "FUNDS", "SETTLE", "FEES")
                    assert found == [participant.accounts[AccountCode[name], asset] for name in wanted]
                    assert set(accounts["asset"][found].tolist()) == {asset}


def _columns(book: Book) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint32]], ...]:
    return book.clearing_of, book.funds_of, book.settle_of, book.fees_of
