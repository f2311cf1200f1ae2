"""Who reads: the signature of a GET, the party behind it, and the query parameters that an address takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gateway.admission import reading_of
from gateway.node import Node
from ledger.accounts import parse_address
from ledger.balances import AccountView
from ledger.errors import Forbidden, MalformedInput, NotFound
from ledger.machine import Machine
from ledger.parties import Role

__all__ = ["Page", "Reader", "Signed", "only", "page_of", "read_signature", "readable"]

_CURSOR_SIZE_MAX = 20


@dataclass(frozen=True, slots=True)
class Reader:
    """Who signed a read: the party's number and roles on this ledger."""

    party: int
    roles: frozenset[Role]

    def has(self, *roles: Role) -> bool:
        """Whether the reader has one of these roles."""
        return not self.roles.isdisjoint(roles)

    def require(self, *roles: Role) -> None:
        """Let only a reader with one of these roles pass.

        Raises:
            Forbidden: ``READ_FORBIDDEN``.
        """
        if not self.has(*roles):
            raise Forbidden("READ_FORBIDDEN", "The signer may not read this.")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: ``limit`` items after ``cursor``, which is what the page before gave, or ``None``."""

    cursor: int | None
    limit: int


async def read_signature(request: Request) -> Reader:
    """Say who signed a read; the application's state names the node.

    Raises:
        Unauthenticated: nobody who is known here, or not in a way that holds.
        MalformedInput: the signature is not of the profile.
    """
    node: Node = request.app.state.node
    node.check_serving()
    ledgers = (node.machine.genesis_hash,)
    reading = reading_of(request.scope, authorities=node.authorities, ledgers=ledgers, at_ns=node.runtime.now_ns())
    party = await node.admission.verify(reading)
    return Reader(party, node.machine.directory.party(party).roles)


Signed = Annotated[Reader, Depends(read_signature)]
"""What a signed read depends on."""


def readable(node: Node, machine: Machine, reader: Reader, address: str) -> AccountView:
    """Find an account that the reader may see.

    Raises:
        MalformedInput: ``ADDRESS_INVALID``.
        NotFound: ``ACCOUNT_NOT_FOUND``, no such account on this ledger.
        Forbidden: ``READ_FORBIDDEN``.
    """
    ledger, number = parse_address(address)
    if ledger != node.genesis.ledger:
        raise NotFound("ACCOUNT_NOT_FOUND", "The address is of the other ledger.")
    account = machine.state.account(number)
    book = int(node.book.participant_of[number])
    is_on_book = book != 0 and node.book.participant(book).party == reader.party
    if account.owner != reader.party and not is_on_book and not reader.has(Role.AUDITOR):
        raise Forbidden("READ_FORBIDDEN", "The account is somebody else's.")
    return account


def only(*names: str) -> Callable[[Request], Awaitable[None]]:
    """Make a check that refuses query parameters which are not among ``names``, or there twice.

    Raises:
        MalformedInput: ``PARAMETER_INVALID``.
    """

    async def check(request: Request) -> None:
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in names or name in seen:
                raise MalformedInput("PARAMETER_INVALID", "A parameter is unknown or there twice.", parameter=name[:64])
            seen.add(name)

    return check


def page_of(node: Node, *, cursor: str | None, limit: str | None) -> Page:
    """Read the two parameters that every list takes.

    Raises:
        MalformedInput: ``CURSOR_INVALID`` or ``LIMIT_INVALID``.
    """
    limits = node.config.limits
    if limit is not None and (not _is_digits(limit) or not 1 <= int(limit) <= limits.page_count_max):
        raise MalformedInput("LIMIT_INVALID", "The limit is out of range.", limit_max=limits.page_count_max)
    if cursor is not None and not _is_digits(cursor):
        raise MalformedInput("CURSOR_INVALID", "The cursor is none that was given.")
    return Page(None if cursor is None else int(cursor), limits.page_count if limit is None else int(limit))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _CURSOR_SIZE_MAX
