"""Signed reads of what was: balances as of a position, an account's history by time and kind, a transfer by its id."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from gateway import schemas
from gateway.examples import RECORD, TRANSFER, UETR
from gateway.node import Node
from gateway.openapi import answers
from gateway.routes.access import Page, Reader, Signed, only, page_of, readable
from gateway.routes.public import Cursor, Limit
from ledger.accounts import parse_address
from ledger.asof import counters_as_of, counters_now, last_as_of
from ledger.balances import AccountView
from ledger.errors import Forbidden, IntegrityFailure, MalformedInput, NotFound
from ledger.machine import Machine
from ledger.parties import Role
from ledger.reader import Choice, History
from ledger.registry import Entry
from settlement.legs import TransferCode

__all__ = ["balances_as_of", "router"]

_SEES_ALL = (Role.AUDITOR, Role.SETTLEMENT)
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z")
_POSITION = re.compile(r"0|[1-9][0-9]{0,18}")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Text = Annotated[str | None, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class _Now:
    """An account, and where the journal stands with it."""

    account: AccountView
    height: int
    position: int


def router(node: Node) -> APIRouter:
    """Give the routes of one node."""
    routes = APIRouter(tags=["signed reads"])

    @routes.get(
        "/v1/accounts/{address}/history",
        dependencies=[Depends(only("from", "to", "code", "counterparty", "cursor", "limit"))],
        responses=answers(
            {"data": [RECORD], "next_cursor": None},
            "ACCOUNT_NOT_FOUND",
            "ADDRESS_INVALID",
            "CURSOR_INVALID",
            "PARAMETER_INVALID",
            "POINTS_MISSING",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
        ),
    )
    async def history(
        reader: Signed,
        address: str,
        *,
        since: Annotated[str | None, Query(alias="from", max_length=64)] = None,
        to: Text = None,
        code: Text = None,
        counterparty: Text = None,
        cursor: Cursor = None,
        limit: Limit = None,
    ) -> Response:
        """Give an account's records from one instant to another, the newest first, by purpose or other side.

        A page may have fewer records than its limit, even none, and go on all the same.
        """
        page = page_of(node, cursor=cursor, limit=limit)
        first_ns, last_ns = instant_ns("from", since), instant_ns("to", to)
        choice = Choice(code=_code(code), other=_number(node, counterparty))
        now = await node.writer.read(lambda machine: _now(node, machine, reader, address))
        found = await node.runtime.offload(_history, node, now, page, choice, first_ns=first_ns, last_ns=last_ns)
        records = schemas.records(found, node.genesis, now.account.number, now.account.asset)
        return schemas.listing(records, found.next_cursor)

    @routes.get(
        "/v1/transfers/{id}",
        dependencies=[Depends(only("party"))],
        responses=answers(
            {"data": TRANSFER}, "TRANSFER_NOT_FOUND", "PARAMETER_INVALID", "READ_FORBIDDEN", "SIGNATURE_MISSING"
        ),
    )
    async def transfer(
        reader: Signed,
        identifier: Annotated[str, Path(alias="id", pattern=_UUID, description=f"Such as {UETR}.")],
        party: Annotated[str | None, Query(description="Code of the party whose id it is, for an auditor.")] = None,
    ) -> Response:
        """Give what became of an id of the signer's: its record, with its result and its place in the journal."""
        wanted = int(identifier.replace("-", ""), 16)
        entry = await node.writer.read(lambda machine: _entry(machine, reader, wanted, party))
        record = await node.runtime.offload(node.reader.record, entry.position)
        asset = await node.writer.read(lambda machine: _asset_of(machine, record))
        timestamp_ns = await node.runtime.offload(_instant_of, node, entry.position)
        return schemas.answer(schemas.transfer(record, node.genesis, entry, asset=asset, timestamp_ns=timestamp_ns))

    return routes


async def balances_as_of(node: Node, reader: Reader, address: str, as_of: str) -> dict[str, Any]:
    """Show an account's balances as they were at a position, or at an instant.

    Raises:
        MalformedInput: ``PARAMETER_INVALID``, neither a position nor an instant.
        NotFound: ``POSITION_NOT_FOUND``, not taken yet; ``INSTANT_NOT_FOUND``, before the first block.
        Unavailable: ``POINTS_MISSING``.
    """
    is_position = _POSITION.fullmatch(as_of) is not None
    at_ns = None if is_position else instant_ns("as_of", as_of)
    now = await node.writer.read(lambda machine: _now(node, machine, reader, address))
    if at_ns is None:
        position = int(as_of)
    else:
        position = await node.runtime.offload(_end_of, node, now, at_ns) - 1
        if position < 0:
            raise NotFound("INSTANT_NOT_FOUND", "There was no block yet.")
    if position >= now.position:
        raise NotFound("POSITION_NOT_FOUND", "The journal has not come to this position yet.", position=position)
    return await node.runtime.offload(_balances, node, now.account, position)


def _balances(node: Node, account: AccountView, position: int) -> dict[str, Any]:
    timestamp_ns = _instant_of(node, position)
    try:
        counters = counters_as_of(
            account.number, position, points=node.points, now=counters_now(account), record=node.reader.record
        )
    except IntegrityFailure as error:
        raise _distrusted(node, error) from error
    then = replace(
        account,
        debits_pending=counters.debits_pending,
        debits_posted=counters.debits_posted,
        credits_pending=counters.credits_pending,
        credits_posted=counters.credits_posted,
    )
    return schemas.balances(then, node.genesis, position=position, timestamp_ns=timestamp_ns)


def _distrusted(node: Node, error: IntegrityFailure) -> Exception:
    """Tell damage of the journal from points that do not fit it: those are made again, and stop nobody."""
    return node.points.distrust() if error.code == "POINTS_INCOMPLETE" else error


def _instant_of(node: Node, position: int) -> int:
    """Give the time of the block that holds a position."""
    return node.reader.header(node.store.height_of(position)).timestamp_ns


def _now(node: Node, machine: Machine, reader: Reader, address: str) -> _Now:
    return _Now(readable(node, machine, reader, address), machine.height, machine.position)


def _end_of(node: Node, now: _Now, at_ns: int) -> int:
    """Give the position at which what comes after an instant begins; 0 if everything does."""
    height = node.reader.height_until(at_ns, now.height)
    if not height:
        return 0
    header = node.reader.header(height)
    return header.first_position + header.position_count


def _history(
    node: Node, now: _Now, page: Page, choice: Choice, *, first_ns: int | None, last_ns: int | None
) -> History:
    """Read one page; on a worker thread."""
    if first_ns is not None:
        choice = replace(choice, first_position=_end_of(node, now, first_ns - 1))
    account, cursor = now.account, page.cursor
    if cursor is None and last_ns is None:
        cursor = account.last
    elif cursor is None and last_ns is not None:
        end = _end_of(node, now, last_ns)
        try:
            cursor = end and last_as_of(
                account.number, end - 1, points=node.points, last=account.last, record=node.reader.record
            )
        except IntegrityFailure as error:
            raise _distrusted(node, error) from error
    return node.reader.history(account.number, cursor=cursor or 0, limit=page.limit, choice=choice)


def _entry(machine: Machine, reader: Reader, identifier: int, party: str | None) -> Entry:
    """Find an id of a party. Who may not read others' ids does not learn which parties there are.

    Raises:
        Forbidden: ``READ_FORBIDDEN``, it is somebody else's or nobody's.
        NotFound: ``PARTY_NOT_FOUND``, ``TRANSFER_NOT_FOUND``.
    """
    is_own = party is None or party == machine.directory.party(reader.party).code
    if not is_own and not reader.has(*_SEES_ALL):
        raise Forbidden("READ_FORBIDDEN", "The id is somebody else's.")
    number = reader.party if party is None else machine.directory.by_code(party).number
    entry = machine.state.lookup(number, identifier)
    if entry is None:
        raise NotFound("TRANSFER_NOT_FOUND", "The party has used no such id.")
    return entry


def _asset_of(machine: Machine, record: np.void) -> int:
    """Give the asset of a record's accounts, 0 if a refused one names none."""
    for number in (int(record["debit"]), int(record["credit"])):
        if 0 < number <= machine.state.account_count:
            return machine.state.account(number).asset
    return 0


def instant_ns(name: str, text: str | None) -> int | None:
    """Read an instant in UTC, such as 2026-01-05T08:12:30.123456789Z, as Unix nanoseconds.

    Raises:
        MalformedInput: ``PARAMETER_INVALID``, it is none.
    """
    if text is None:
        return None
    match = _INSTANT.fullmatch(text)
    refusal = MalformedInput("PARAMETER_INVALID", "An instant is RFC 3339 in UTC.", parameter=name)
    if match is None:
        raise refusal
    try:
        moment = dt.datetime.fromisoformat(match[1]).replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise refusal from error
    return (moment - _EPOCH) // dt.timedelta(seconds=1) * 10**9 + int((match[2] or "").ljust(9, "0"))


def _code(text: str | None) -> int | None:
    """Read a purpose by its name."""
    if text is None:
        return None
    if text not in TransferCode.__members__:
        raise MalformedInput("PARAMETER_INVALID", "There is no such purpose.", parameter="code")
    return TransferCode[text].value


def _number(node: Node, address: str | None) -> int | None:
    """Read the address of an account of this ledger."""
    if address is None:
        return None
    ledger, number = parse_address(address)
    if ledger != node.genesis.ledger:
        raise NotFound("ACCOUNT_NOT_FOUND", "The address is of the other ledger.")
    return number
