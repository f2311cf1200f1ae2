"""What anybody may read: health, genesis, checkpoint, headers, windows, quotes, participants."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from gateway import schemas
from gateway.examples import BLOCK, HEALTH, NOTE, PARTICIPANT, QUOTE_VIEW, RULES, WINDOW
from gateway.node import Node
from gateway.openapi import answers
from gateway.routes.access import only, page_of
from ledger import genesis as genesis_documents
from ledger import logs, merkle
from ledger.checkpoint import Checkpoint
from ledger.journal import decode_header
from settlement.legs import parse_uetr
from settlement.views import participants_view, quote_view, rules_view
from settlement.window_views import window_view

__all__ = ["router"]

_NONE = Depends(only())
_PAGED = Depends(only("cursor", "limit"))
Cursor = Annotated[str | None, Query(description="Where the page before ended: its next_cursor.")]
Limit = Annotated[str | None, Query(description="How many items a page has at most.")]


def router(node: Node) -> APIRouter:
    """Give the routes of one node."""
    routes = APIRouter(tags=["public"])
    _add_journal(routes, node)
    _add_settlement(routes, node)
    return routes


def _add_journal(routes: APIRouter, node: Node) -> None:
    document = genesis_documents.encode(node.genesis)
    document_hash = hashlib.sha256(document).hexdigest()

    @routes.get("/v1/health", dependencies=[_NONE], responses=answers({"data": HEALTH}, "NODE_STOPPED"))
    async def health() -> Response:
        """Say whether the node takes messages, and where its journal stands."""
        node.check_serving()
        return schemas.answer(await node.writer.read(lambda _: _health(node)))

    @routes.get(
        "/v1/genesis",
        dependencies=[_NONE],
        responses=answers({"format": 0, "network": "hugang-demo", "ledger": "SH"}, "PARAMETER_INVALID"),
    )
    async def genesis() -> Response:
        """Give the genesis document's canonical bytes; their SHA-256 is the ETag and the first previous hash."""
        return Response(document, media_type="application/json", headers={"etag": f'"{document_hash}"'})

    @routes.get(
        "/v1/checkpoint",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(NOTE, "PARAMETER_INVALID", media_type="text/plain"),
    )
    async def newest_checkpoint() -> Response:
        """Give the newest durable tree size and root as a signed note of this node (C2SP tlog-checkpoint)."""
        note = await node.runtime.offload(_checkpoint, node)
        return Response(note, media_type="text/plain; charset=utf-8")

    @routes.get(
        "/v1/blocks",
        dependencies=[Depends(only("position"))],
        responses=answers({"data": BLOCK}, "POSITION_NOT_FOUND", "PARAMETER_INVALID"),
    )
    async def block_of(position: Annotated[int, Query(ge=0, lt=2**53)]) -> Response:
        """Give the header of the block that holds a position."""

        def read() -> bytes:
            return node.store.header(node.store.height_of(position))

        data = await node.runtime.offload(read)
        return schemas.answer(schemas.header(decode_header(data), hashlib.sha256(data).digest()))

    @routes.get(
        "/v1/blocks/{height}",
        dependencies=[_NONE],
        responses=answers({"data": BLOCK}, "BLOCK_NOT_FOUND", "PARAMETER_INVALID"),
    )
    async def block(height: Annotated[int, Path(ge=1, lt=2**53)]) -> Response:
        """Give one block's header."""
        data = await node.runtime.offload(node.store.header, height)
        return schemas.answer(schemas.header(decode_header(data), hashlib.sha256(data).digest()))


def _add_settlement(routes: APIRouter, node: Node) -> None:
    book = node.book

    @routes.get(
        "/v1/windows",
        dependencies=[_PAGED],
        responses=answers({"data": [WINDOW], "next_cursor": None}, "LIMIT_INVALID", "NODE_STOPPED"),
    )
    async def windows(cursor: Cursor = None, limit: Limit = None) -> Response:
        """List the windows, the newest first."""
        node.check_serving()
        page = page_of(node, cursor=cursor, limit=limit)

        def read(_: Any) -> tuple[list[Any], int | None]:
            first = book.current if page.cursor is None else min(page.cursor, book.current)
            last = max(first - page.limit, 0)
            found = [schemas.window(window_view(book, number)) for number in range(first, last, -1)]
            return found, last or None

        return schemas.listing(*await node.writer.read(read))

    @routes.get(
        "/v1/windows/{number}",
        dependencies=[_NONE],
        responses=answers({"data": WINDOW}, "WINDOW_NOT_FOUND", "PARAMETER_INVALID", "NODE_STOPPED"),
    )
    async def window(number: Annotated[int, Path(ge=1, lt=2**30)]) -> Response:
        """Give one window."""
        node.check_serving()
        return schemas.answer(schemas.window(await node.conduct.window(number)))

    @routes.get(
        "/v1/quotes/{quote}",
        dependencies=[_NONE],
        responses=answers({"data": QUOTE_VIEW}, "QUOTE_NOT_FOUND", "UETR_INVALID", "NODE_STOPPED"),
    )
    async def quote(quote: str) -> Response:
        """Give one quote and what is left of it."""
        node.check_serving()
        number = parse_uetr(quote)
        return schemas.answer(schemas.quote(await node.writer.read(lambda machine: quote_view(machine, book, number))))

    @routes.get(
        "/v1/participants",
        dependencies=[_PAGED],
        responses=answers({"data": [PARTICIPANT], "next_cursor": None}, "LIMIT_INVALID", "NODE_STOPPED"),
    )
    async def participants(cursor: Cursor = None, limit: Limit = None) -> Response:
        """List the participants in the order of joining, with their own accounts."""
        node.check_serving()
        page = page_of(node, cursor=cursor, limit=limit)
        first = page.cursor or 0
        found = (await node.writer.read(lambda _: participants_view(book)))[first:]
        following = first + page.limit if len(found) > page.limit else None
        return schemas.listing([schemas.participant(view, book.ledger) for view in found[: page.limit]], following)

    @routes.get(
        "/v1/rules",
        dependencies=[_PAGED],
        responses=answers({"data": [RULES], "next_cursor": None}, "LIMIT_INVALID", "NODE_STOPPED"),
    )
    async def rules(cursor: Cursor = None, limit: Limit = None) -> Response:
        """List the versions of all rule sets: which hold, which wait for their day, and which held before."""
        node.check_serving()
        page = page_of(node, cursor=cursor, limit=limit)
        first = page.cursor or 0
        found = (await node.writer.read(lambda _: rules_view(book)))[first:]
        following = first + page.limit if len(found) > page.limit else None
        return schemas.listing([schemas.rules(view) for view in found[: page.limit]], following)


def _health(node: Node) -> dict[str, Any]:
    machine = node.machine
    return {
        "status": "ok",
        "network": node.genesis.network,
        "genesis_hash": machine.genesis_hash.hex(),
        "ledger": node.genesis.ledger,
        "height": machine.height,
        "position": machine.position,
        "open_window": node.book.current,
        "waiting_count": node.writer.waiting_count,
        "clock_offset_s": node.book.clock_offset_ns // 10**9,
    }


def _checkpoint(node: Node) -> bytes:
    """Sign what the last durable block says of the tree."""
    height = node.store.last_height()
    size, root = 0, merkle.EMPTY_ROOT
    if height:
        header = decode_header(node.store.header(height))
        size, root = header.tree_size, header.tree_root
    point = Checkpoint(logs.origin(node.genesis.network, node.genesis.ledger), size, root)
    return logs.sign_checkpoint(point, node.private_key)
