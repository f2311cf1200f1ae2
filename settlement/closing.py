"""Closing accounts and opening them again: what a participant may do with the accounts on its book.

An account is closed when it is empty and nothing is pending on it. Whoever pays into it then reads so in the result of
the payment; what it was is kept for ever, and it can be opened again as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ledger.accounts import parse_address
from ledger.errors import Forbidden
from ledger.machine import Admitted, Context, Machine
from settlement.bodies import AddressesBody
from settlement.book import Book
from settlement.chart import AccountCode
from settlement.opening import signing_participant

__all__ = [
    "authorise_closings",
    "authorise_reopenings",
    "execute_closings",
    "execute_reopenings",
    "require_on_book",
]

_CLOSABLE = (AccountCode.WALLET, AccountCode.POSITION, AccountCode.FEES, AccountCode.SUSPENSE)
"""What a window's settlement does not need: its own accounts stay open as long as the participant takes part."""


def authorise_closings(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a participant close accounts on its book that are open, empty and without holds; one wrong refuses all.

    Raises:
        Forbidden: ``NOT_PARTICIPANT``, ``NOT_ON_BOOK``.
        Rejected: ``ACCOUNT_CLOSED``, ``ACCOUNT_PENDING``, ``ACCOUNT_NOT_EMPTY``.
    """
    _check_each(book, admitted, machine, machine.state.check_closable)


def execute_closings(_book: Book, admitted: Admitted, context: Context) -> None:
    """Close the accounts."""
    for number in _numbers(admitted.content):
        context.state.close_account(number)


def authorise_reopenings(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a participant open closed accounts on its book again; one wrong refuses all.

    Raises:
        Forbidden: ``NOT_PARTICIPANT``, ``NOT_ON_BOOK``.
        Rejected: ``ACCOUNT_OPEN``.
    """
    _check_each(book, admitted, machine, machine.state.check_reopenable)


def execute_reopenings(_book: Book, admitted: Admitted, context: Context) -> None:
    """Open the accounts again, with the limits they had."""
    for number in _numbers(admitted.content):
        context.state.reopen_account(number)


def require_on_book(book: Book, machine: Machine, party: int, address: str, *, codes: tuple[AccountCode, ...]) -> int:
    """Give the number of an account that stands on the signer's book and is one of ``codes``.

    Raises:
        Forbidden: ``NOT_PARTICIPANT``; ``NOT_ON_BOOK``, also where there is no such account: nothing is learnt by
            asking.
    """
    participant = signing_participant(book, party)
    number = parse_address(address)[1]
    accounts = machine.state.accounts
    known = number < len(accounts)
    if not known or book.participant_of[number] != participant.number or not np.isin(accounts["code"][number], codes):
        raise Forbidden("NOT_ON_BOOK", "The account is none that the signer keeps on its book.", account=address)
    return number


def _check_each(book: Book, admitted: Admitted, machine: Machine, check: Callable[[int], None]) -> None:
    body: AddressesBody = admitted.content
    for address in body.accounts:
        check(require_on_book(book, machine, admitted.party, address, codes=_CLOSABLE))


def _numbers(body: AddressesBody) -> list[int]:
    return [parse_address(address)[1] for address in body.accounts]
