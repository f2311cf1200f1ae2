"""Refunds: payments that point back at what was received, and never exceed it in total.

A refund goes from the account that received (or the suspense account beside it) to the account that had paid. What
refunds have taken is counted per original; a refund that ends without settling gives its part back.
"""

from __future__ import annotations

import numpy as np

from ledger.machine import Machine
from ledger.registry import IdStatus
from ledger.transfers import Result, id_of
from settlement.book import Book, Payments, PaymentState
from settlement.chart import AccountCode
from settlement.legs import Leg, leg_id
from settlement.places import incoming_place, peer_party

__all__ = ["refund_of", "release", "take"]

Key = tuple[int, int, bool]


def refund_of(row: np.void) -> int:
    """Give the UETR of the payment that a row refunds, zero for none."""
    return id_of(row["refund_hi"], row["refund_lo"])


def take(book: Book, machine: Machine, row: np.void, *, across: bool) -> Result:
    """Count a refund against its original, if that allows it; what it took must be released if it does not settle."""
    received = _received(book, machine, row, across=across)
    if received is None:
        return Result.REFUND_NOT_FOUND
    key = _key(row, across=across)
    total = book.refunded.get(key, 0) + int(row["amount"])
    if total > received:
        return Result.REFUND_EXCEEDED
    book.refunded[key] = total
    return Result.OK


def release(book: Book, rows: Payments, *, across: bool = True) -> None:
    """Give back what refunds among these payments had taken: they were refused, cancelled or rejected."""
    for row in rows[(rows["refund_hi"] != 0) | (rows["refund_lo"] != 0)]:
        book.refunded[_key(row, across=across)] -= int(row["amount"])


def _key(row: np.void, *, across: bool) -> Key:
    return refund_of(row), int(row["creditor"]), across


def _received(book: Book, machine: Machine, row: np.void, *, across: bool) -> int | None:
    """Give what the refunding account received from the account to be refunded, ``None`` if no such payment settled."""
    uetr, payee, payer = refund_of(row), int(row["debtor"]), int(row["creditor"])
    if across:
        place = incoming_place(book, machine.state, peer_party(machine), uetr)
        if place is None:
            return None
        table = book.windows[place.window].incoming
        original = table.rows[place.index]
        settled = table.states[place.index] == PaymentState.SETTLED
        debtor, creditor, amount = original["debtor"], original["creditor"], original["creditor_amount"]
    else:
        owner = machine.state.account(payer).owner
        entry = machine.state.lookup(owner, leg_id(uetr, Leg.PAYER))
        index = None if entry is None else book.gross.find("position", entry.position)
        if entry is None or index is None:
            return None
        gross = book.gross
        settled = entry.status is IdStatus.POSTED and not gross["across"][index]
        debtor, creditor, amount = gross["debtor"][index], gross["creditor"][index], gross["creditor_amount"][index]
    if not settled or int(debtor) != payer or not _stands_for(book, machine, payee, int(creditor)):
        return None
    return int(amount)


def _stands_for(book: Book, machine: Machine, account: int, payee: int) -> bool:
    """Whether an account may give back what a payee received: the payee itself, or the suspense account of its book."""
    if account == payee:
        return True
    accounts = machine.state.accounts[[account, payee]]
    same_book = book.participant_of[account] == book.participant_of[payee]
    return bool(
        accounts["code"][0] == AccountCode.SUSPENSE and accounts["asset"][0] == accounts["asset"][1] and same_book
    )
