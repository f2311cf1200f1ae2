"""Proofs, receipts and sealed balances, and the exchange in which the nodes cosign each other's checkpoints.

The notes of the exchange are signed by the nodes themselves, and whoever carries them is trusted with nothing. But each
step is work for the writer or the disk, and a step at the wrong moment makes another exchange begin anew: so only the
settlement operator and the two nodes may ask for one, and their requests are signed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from gateway import schemas
from gateway.admission import message_of
from gateway.examples import KEY, KEY_ID, NOTE
from gateway.node import Node
from gateway.openapi import SIGNED_WRITE, answers, problems_of
from gateway.routes.access import Signed, only, readable
from gateway.routes.payments import find_payment
from gateway.wire import BINARY, Exchange, Handler, Reply, read_body
from ledger import cosigning, journal
from ledger.errors import Forbidden, NotFound, Unavailable
from ledger.parties import Role
from ledger.receipts import Source
from settlement import payment_receipts
from settlement.anchors import make_anchor
from settlement.book import WindowState
from settlement.legs import parse_uetr
from settlement.payment_receipts import Plan

__all__ = [
    "COSIGNATURES",
    "COSIGNED",
    "KEPT",
    "OFFERS",
    "TEXT",
    "described",
    "handlers",
    "router",
]

_log = logging.getLogger("hugang.node")

COSIGNED = "/v1/checkpoints/cosigned"
"""GET: the checkpoint of the other log that this node has cosigned last."""
OFFERS = "/v1/checkpoints/offers"
"""POST that (or nothing) to its log: its newest checkpoint, with the proof that it extends that one."""
COSIGNATURES = "/v1/checkpoints/cosignatures"
"""POST the offer to the cosigner: the checkpoint with its cosignature."""
KEPT = "/v1/checkpoints"
"""POST that to its log, which keeps it. GET: the one it keeps."""
CARRIERS = (Role.SETTLEMENT, Role.NODE)
"""Who may ask for a step of the exchange."""
STEP_COUNT_MAX = 4
"""Each step of the exchange at once: an offer copies all accounts."""
TEXT = b"text/plain; charset=utf-8"
_NONE = Depends(only())
_TEXT_TYPE = TEXT.decode("ascii")
_BINARY_TYPE = BINARY.decode("ascii")
Size = Annotated[int, Query(ge=0, lt=2**53)]
Position = Annotated[int, Query(ge=0, lt=2**53)]


def router(node: Node) -> APIRouter:
    """Give the routes of one node."""
    routes = APIRouter(tags=["proofs"])
    _add_proofs(routes, node)
    _add_checkpoints(routes, node)
    _add_signed(routes, node)
    _add_anchor(routes, node)
    return routes


def _add_proofs(routes: APIRouter, node: Node) -> None:
    @routes.get(
        "/v1/proofs/inclusion",
        dependencies=[Depends(only("position", "size"))],
        responses=answers(
            {"data": {"position": 4712, "size": 4713, "leaf_hash": KEY, "root": KEY_ID, "proof": [KEY]}},
            "POSITION_NOT_FOUND",
            "PROOF_RANGE",
            "PARAMETER_INVALID",
            "NODE_STOPPED",
        ),
    )
    async def inclusion(position: Position, size: Size | None = None) -> Response:
        """Prove that a position's leaf stands in the tree of the first ``size`` leaves, by default of all of them."""
        wanted = await _size(node, size)

        def prove() -> dict[str, Any]:
            proof = node.tiles.inclusion(position, wanted)
            return {
                "position": position,
                "size": wanted,
                "leaf_hash": node.tiles.leaf_hash(position).hex(),
                "root": node.tiles.root(wanted).hex(),
                "proof": [item.hex() for item in proof],
            }

        return schemas.answer(await node.runtime.offload(prove))

    @routes.get(
        "/v1/proofs/consistency",
        dependencies=[Depends(only("from", "to"))],
        responses=answers(
            {"data": {"from": 4096, "to": 4713, "from_root": KEY, "to_root": KEY_ID, "proof": [KEY]}},
            "POSITION_NOT_FOUND",
            "PROOF_RANGE",
            "PARAMETER_INVALID",
            "NODE_STOPPED",
        ),
    )
    async def consistency(
        old_size: Annotated[int, Query(alias="from", ge=0, lt=2**53)],
        new_size: Annotated[int | None, Query(alias="to", ge=0, lt=2**53)] = None,
    ) -> Response:
        """Prove that the first ``to`` leaves, by default all, begin with the first ``from`` (RFC 6962)."""
        wanted = await _size(node, new_size)

        def prove() -> dict[str, Any]:
            proof = node.tiles.consistency(old_size, wanted)
            return {
                "from": old_size,
                "to": wanted,
                "from_root": node.tiles.root(old_size).hex(),
                "to_root": node.tiles.root(wanted).hex(),
                "proof": [item.hex() for item in proof],
            }

        return schemas.answer(await node.runtime.offload(prove))


def _add_checkpoints(routes: APIRouter, node: Node) -> None:
    @routes.get(
        KEPT,
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(NOTE, "CHECKPOINT_NOT_FOUND", "NODE_STOPPED", media_type="text/plain"),
    )
    async def kept() -> Response:
        """Give the largest checkpoint of this log that the other node has cosigned."""
        node.check_serving()
        return _note(node.cosigning.cosigned_note)

    @routes.get(
        COSIGNED,
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(NOTE, "CHECKPOINT_NOT_FOUND", "NODE_STOPPED", media_type="text/plain"),
    )
    async def cosigned() -> Response:
        """Give the checkpoint of the other log that this node has cosigned last, as its log has signed it."""
        node.check_serving()
        return _note(await node.cosigning.cosigned())


def _add_signed(routes: APIRouter, node: Node) -> None:
    @routes.get(
        "/v1/payments/{uetr}/receipt",
        response_class=Response,
        dependencies=[Depends(only("payer"))],
        responses=answers(
            "the bytes of a receipt",
            "PAYMENT_NOT_FOUND",
            "RECEIPT_UNPROVEN",
            "UETR_INVALID",
            "SIGNATURE_MISSING",
            "NODE_STOPPED",
            media_type=_BINARY_TYPE,
        ),
    )
    async def receipt(
        reader: Signed,
        uetr: str,
        payer: Annotated[str | None, Query(description="Party code of the payer, where the payee asks.")] = None,
    ) -> Response:
        """Give a payment's receipt to whoever may read the payment; it proves offline what is journaled here."""
        number = parse_uetr(uetr)

        def plan(machine: Any) -> Plan:
            view = find_payment(node, machine, reader, number, payer)
            return payment_receipts.plan_receipt(machine, node.book, view)

        return Response(await _receipt(node, await node.writer.read(plan)), media_type=_BINARY_TYPE)

    @routes.get(
        "/v1/accounts/{address}/balance-proof",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(
            "the bytes of a balance proof",
            "ACCOUNT_NOT_FOUND",
            "ADDRESS_INVALID",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
            "NODE_STOPPED",
            media_type=_BINARY_TYPE,
        ),
    )
    async def balance_proof(reader: Signed, address: str) -> Response:
        """Prove an account's counters as they were sealed last, to whoever may read the account."""
        view = await node.writer.read(lambda machine: readable(node, machine, reader, address))
        return Response(await node.cosigning.balance(view.number), media_type=_BINARY_TYPE)


def _add_anchor(routes: APIRouter, node: Node) -> None:
    @routes.get(
        "/v1/windows/{number}/anchor",
        response_class=Response,
        dependencies=[_NONE],
        responses=answers(
            "the bytes of an anchor",
            "WINDOW_NOT_FOUND",
            "CERTIFICATE_MISSING",
            "READ_FORBIDDEN",
            "SIGNATURE_MISSING",
            media_type=_BINARY_TYPE,
        ),
    )
    async def anchor(reader: Signed, number: Annotated[int, Path(ge=1, lt=2**30)]) -> Response:
        """Prove that a settled window's decision stands in this journal, under a checkpoint both nodes have signed."""
        reader.require(Role.SETTLEMENT, Role.NODE, Role.AUDITOR)
        window = await node.conduct.window(number)
        if window.state != WindowState.SETTLED.value:
            raise NotFound("CERTIFICATE_MISSING", "The window is not settled.", window=number)
        position = window.settled_position
        note = await node.cosigning.checkpoint(position + 1)
        made = await node.runtime.offload(make_anchor, node.tiles, note, node.genesis.ledger, position)
        return Response(made, media_type=_BINARY_TYPE)


def handlers(node: Node) -> Mapping[str, Handler]:
    """Give the handlers of the exchange, by path."""
    side = node.cosigning

    async def offer(body: bytes) -> tuple[bytes, bytes]:
        return BINARY, cosigning.encode_offer(await side.offer(body))

    async def cosign(body: bytes) -> tuple[bytes, bytes]:
        return TEXT, await side.cosign(cosigning.decode_offer(body))

    async def keep(body: bytes) -> tuple[bytes, bytes]:
        await side.keep(body)
        return TEXT, side.cosigned_note

    return {
        OFFERS: _taking(node, TEXT, offer),
        COSIGNATURES: _taking(node, BINARY, cosign),
        KEPT: _taking(node, TEXT, keep),
    }


def described() -> dict[str, dict[str, Any]]:
    """Describe the exchange for OpenAPI."""
    note = {_TEXT_TYPE: {"schema": {"type": "string"}, "example": NOTE}}
    offer = {_BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}, "example": "an offer"}}
    return {
        OFFERS: _operation(
            "Ask a log for its newest checkpoint",
            "The body is the checkpoint that its cosigner has cosigned last, or empty. The answer carries the proof.",
            note,
            offer,
            ("NOTE_MALFORMED", "NOTE_SIGNATURE_INVALID"),
        ),
        COSIGNATURES: _operation(
            "Have the other log's checkpoint cosigned",
            "The body is that log's offer. Nothing is cosigned that does not extend what was cosigned before.",
            offer,
            note,
            ("OFFER_MALFORMED", "NOTE_SIGNATURE_INVALID", "CHECKPOINT_BEHIND", "CHECKPOINT_BASE", "CELL_FAILED"),
        ),
        KEPT: _operation(
            "Hand a cosigned checkpoint to its log",
            "The log keeps it, unless it has a larger one. The answer is what it keeps.",
            note,
            note,
            ("NOTE_MALFORMED", "COSIGNATURE_MISSING", "CELL_FAILED"),
        ),
    }


def _operation(
    summary: str, description: str, body: dict[str, Any], answer: dict[str, Any], codes: tuple[str, ...]
) -> dict[str, Any]:
    problems = problems_of(
        (
            "SIGNATURE_MISSING",
            "ROLE_MISSING",
            *codes,
            "BODY_TOO_LARGE",
            "MEDIA_TYPE_UNSUPPORTED",
            "OVERLOADED",
            "NODE_STOPPED",
            "INTERNAL_ERROR",
        )
    )
    return {
        "summary": summary,
        "description": f"{description} Signed by the settlement operator or by a node.",
        "parameters": SIGNED_WRITE,
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "Success.", "content": answer},
            **{str(status): response for status, response in problems.items()},
        },
    }


def _taking(node: Node, media_type: bytes, work: Callable[[bytes], Awaitable[tuple[bytes, bytes]]]) -> Handler:
    """Make a handler of one step of the exchange, for those who may ask for it."""
    limits = node.config.limits
    under_way = 0

    async def post(exchange: Exchange) -> Reply:
        nonlocal under_way
        node.check_serving()
        body = await read_body(
            exchange.scope,
            exchange.receive,
            size_max=cosigning.OFFER_SIZE_MAX,
            time_s_max=limits.body_time_s_max,
        )
        message = message_of(exchange.scope, body, authorities=node.authorities, media_type=media_type)
        party = node.machine.directory.party(await node.admission.identify(message))
        if party.roles.isdisjoint(CARRIERS):
            raise Forbidden("ROLE_MISSING", "Only the settlement operator and the nodes carry checkpoints.")
        if under_way == STEP_COUNT_MAX:
            raise Unavailable("OVERLOADED", "Too many steps are under way.", retry_after_s=limits.retry_after_s)
        under_way += 1
        try:
            made_type, made = await work(body)
        finally:
            under_way -= 1
        return Reply(200, made, made_type)

    return post


def _note(note: bytes) -> Response:
    if not note:
        raise NotFound("CHECKPOINT_NOT_FOUND", "No checkpoint was cosigned yet.")
    return Response(note, media_type=_TEXT_TYPE)


async def _size(node: Node, size: int | None) -> int:
    """Give the size that is asked for, by default that of the durable tree."""
    node.check_serving()
    durable, _ = await node.cosigning.durable_tree()
    return durable if size is None else size


async def _receipt(node: Node, plan: Plan) -> bytes:
    """Make a receipt against the cosigned checkpoint, or against a new one if that does not reach so far."""

    def needed() -> int:
        header = journal.decode_header(node.store.header(node.store.height_of(plan.position)))
        return max(header.tree_size, 0 if plan.decision is None else plan.decision + 1)

    note = await node.cosigning.checkpoint(await node.runtime.offload(needed))
    source = Source(node.genesis, node.store, node.reader, node.tiles, node.private_key)
    try:
        return await node.runtime.offload(payment_receipts.make, source, plan, note, node.machine)
    except NotFound as error:
        _log.error("no receipt of the payment at position %d: %s", plan.position, error, exc_info=error)
        raise
