"""Signed reads of accounts, records, the trial balance, windows' statements and positions, and the export."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response, StreamingResponse

from gateway import schemas
from gateway.examples import ACCOUNT, RECORD, TRIAL_BALANCE, WINDOW
from gateway.export import Exports
from gateway.node import Node
from gateway.openapi import answers
from gateway.routes.access import Signed, only, page_of, readable
from gateway.routes.histories import balances_as_of
from gateway.routes.public import Cursor, Limit
from ledger.exports import FILE_NAME
from ledger.machine import Machine
from ledger.parties import Role
from ledger.state import AssetTotal
from settlement import certificate, views

__all__ = ["MESSAGE_PACK", "router"]

MESSAGE_PACK = "application/vnd.msgpack"
WindowName = Annotated[str, Path(pattern="^(open|[1-9][0-9]{0,9})$", description="A number, or open.")]
_NONE = Depends(only())
_PAGED = Depends(only("cursor", "limit"))
_CYCLE = (Role.SETTLEMENT, Role.NODE, Role.AUDITOR)


def router(node: Node) -> APIRouter:
    """Give the routes of one node."""
    routes = APIRouter(tags=["signed reads"])
    _add_accounts(routes, node)
    _add_records(routes, node)
    _add_whole(routes, node)
    _add_cycle(routes, node)
    return routes


def _add_accounts(routes: APIRouter, node: Node) -> None:

    @routes.get(
        "/v1/accounts",
        dependencies=[_PAGED],
        responses=answers(
            {"data": [ACCOUNT], "next_cursor": None}, "LIMIT_INVALID", "SIGNATURE_MISSING", "NODE_STOPPED"
        ),
    )
    async def accounts(reader: Signed, cursor: Cursor = None, limit: Limit = None) -> Response:
        """List the signer's own accounts, or all of them for an auditor, in order of number."""
        page = page_of(node, cursor=cursor, limit=limit)

        def read(machine: Machine) -> tuple[list[Any], int | None]:
            after = page.cursor or 0
            if reader.has(Role.AUDITOR):
                numbers = list(range(after + 1, min(after + page.limit + 1, machine.state.account_count) + 1))
            else:
                owned = views.accounts_of(machine, reader.party)
                numbers = [number for number in owned if number > after][: page.limit + 1]
            shown = numbers[: page.limit]
            found = [schemas.account(views.account_view(machine, node.book, number)) for number in shown]
            return found, shown[-1] if len(numbers) > page.limit else None

        return schemas.listing(*await node.writer.read(read))

    @routes.get(
        "/v1/accounts/{address}",
        dependencies=[Depends(only("as_of"))],
        responses=answers(
            {"data": ACCOUNT},
            "ACCOUNT_NOT_FOUND",
            "ADDRESS_INVALID",
            "INSTANT_NOT_FOUND",
            "PARAMETER_INVALID",
            "POINTS_MISSING",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
        ),
    )
    async def account(
        reader: Signed,
        address: str,
        as_of: Annotated[str | None, Query(max_length=64, description="A position, or an instant.")] = None,
    ) -> Response:
        """Give one account to its owner, to the participant on whose book it is, or to an auditor.

        With ``as_of`` only its balances, as they were after that position, or after all blocks up to that instant.
        """
        if as_of is not None:
            return schemas.answer(await balances_as_of(node, reader, address, as_of))

        def read(machine: Machine) -> dict[str, Any]:
            number = readable(node, machine, reader, address).number
            return schemas.account(views.account_view(machine, node.book, number))

        return schemas.answer(await node.writer.read(read))


def _add_records(routes: APIRouter, node: Node) -> None:

    @routes.get(
        "/v1/accounts/{address}/records",
        dependencies=[_PAGED],
        responses=answers(
            {"data": [RECORD], "next_cursor": None},
            "ACCOUNT_NOT_FOUND",
            "ADDRESS_INVALID",
            "CURSOR_INVALID",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
        ),
    )
    async def records(reader: Signed, address: str, cursor: Cursor = None, limit: Limit = None) -> Response:
        """Give an account's records, the newest first, to whoever may read the account."""
        page = page_of(node, cursor=cursor, limit=limit)
        view = await node.writer.read(lambda machine: readable(node, machine, reader, address))
        history = await node.runtime.offload(
            node.reader.history,
            view.number,
            cursor=view.last if page.cursor is None else page.cursor,
            limit=page.limit,
        )
        return schemas.listing(schemas.records(history, node.genesis, view.number, view.asset), history.next_cursor)


def _add_whole(routes: APIRouter, node: Node) -> None:
    exports = Exports(node)

    @routes.get(
        "/v1/trial-balance",
        dependencies=[_NONE],
        responses=answers({"data": TRIAL_BALANCE}, "READ_FORBIDDEN", "SIGNATURE_MISSING", "NODE_STOPPED"),
    )
    async def trial_balance(reader: Signed) -> Response:
        """Give debits and credits of all accounts, by book, code and asset, and the digest over all money."""
        reader.require(*_CYCLE)
        return schemas.answer(await node.writer.read(lambda machine: _trial_balance(node, machine)))

    @routes.get(
        "/v1/export",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(
            "the bytes of an export file",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
            "EXPORT_BUSY",
            media_type="application/octet-stream",
        ),
    )
    async def export(reader: Signed) -> Response:
        """Give the whole journal as one file, as it stands when the reading begins."""
        reader.require(Role.AUDITOR)
        return StreamingResponse(
            await exports.begin(),
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{FILE_NAME}"'},
        )


def _add_cycle(routes: APIRouter, node: Node) -> None:

    @routes.get(
        "/v1/windows/{number}/statements",
        dependencies=[_NONE],
        responses=answers({"data": {**WINDOW, "attempt_statements": {}}}, "WINDOW_NOT_FOUND", "READ_FORBIDDEN"),
    )
    async def statements(reader: Signed, number: WindowName) -> Response:
        """Give a window with its last attempt's statements in their stored form (Base64)."""
        reader.require(*_CYCLE)
        view = await node.conduct.window(None if number == "open" else int(number))
        return schemas.answer(msgspec.to_builtins(view))

    @routes.get(
        "/v1/windows/{number}/positions",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(
            "a PositionsView as MessagePack",
            "WINDOW_NOT_FOUND",
            "ACCEPTANCE_MISSING",
            "READ_FORBIDDEN",
            media_type=MESSAGE_PACK,
        ),
    )
    async def positions(reader: Signed, number: Annotated[int, Path(ge=1, lt=2**30)]) -> Response:
        """Give what a window's payments do here and what there is to pay with, in columns."""
        reader.require(*_CYCLE)
        view = await node.conduct.positions(number)
        return Response(msgspec.msgpack.encode(view), media_type=MESSAGE_PACK)

    @routes.get(
        "/v1/windows/{number}/certificate",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(
            "a certificate as MessagePack",
            "WINDOW_NOT_FOUND",
            "CERTIFICATE_MISSING",
            "READ_FORBIDDEN",
            media_type=MESSAGE_PACK,
        ),
    )
    async def window_certificate(reader: Signed, number: Annotated[int, Path(ge=1, lt=2**30)]) -> Response:
        """Give the nine signed statements that prove a settled window."""
        reader.require(*_CYCLE)
        held = await node.conduct.statements(number)
        return Response(await node.runtime.offload(certificate.build, held), media_type=MESSAGE_PACK)


def _trial_balance(node: Node, machine: Machine) -> dict[str, Any]:
    codes = {asset.number: asset.code for asset in node.genesis.assets}
    totals = machine.state.trial_balance()
    return {
        "height": machine.height,
        "position": machine.position,
        "money_digest": machine.state.money_digest().hex(),
        "is_balanced": all(_is_balanced(total) for total in totals),
        "totals": [_total(total, codes[total.asset]) for total in totals],
        "rows": [schemas.trial_row(row) for row in views.trial_balance(machine, node.book)],
    }


def _is_balanced(total: AssetTotal) -> bool:
    return total.debits_posted == total.credits_posted and total.debits_pending == total.credits_pending


def _total(total: AssetTotal, asset: str) -> dict[str, str]:
    return {
        "asset": asset,
        "debits_posted": str(total.debits_posted),
        "credits_posted": str(total.credits_posted),
        "debits_pending": str(total.debits_pending),
        "credits_pending": str(total.credits_pending),
    }
