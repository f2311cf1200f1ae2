"""Signed reads of payments, of what a key was used for, and of a batch's results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from gateway import schemas
from gateway.examples import PAYMENT, RESULT, UETR
from gateway.node import Node
from gateway.openapi import answers
from gateway.repeats import FIRSTS_SIZE_MAX, FirstUses, repetition
from gateway.replies import journaled, outcome_of
from gateway.routes.access import Reader, Signed, only, page_of
from gateway.routes.public import Cursor, Limit
from ledger import messages
from ledger.errors import NotFound
from ledger.machine import Answer, Machine
from ledger.parties import Role
from ledger.transfers import Flag, Result, Transfers, id_of
from settlement import bodies
from settlement.bodies import PaymentItems
from settlement.interpreter import COLUMNS_TOPIC
from settlement.legs import parse_uetr
from settlement.places import incoming_place, outgoing_place, peer_party
from settlement.repeats import Requests, requests_of
from settlement.views import ISO_REASON, ISO_STATUS, PaymentStatus, PaymentView, payment_view

__all__ = ["find_payment", "router"]

_SEES_ALL = (Role.AUDITOR, Role.SETTLEMENT)
KEY_SIZE_MAX = 128


def router(node: Node) -> APIRouter:
    """Give the routes of one node."""
    routes = APIRouter(tags=["signed reads"])

    @routes.get(
        "/v1/payments",
        dependencies=[Depends(only("idempotency_key"))],
        responses=answers(
            {"data": {"topic": "/v1/payments", "position": 4711, "uetr": UETR}},
            "MESSAGE_NOT_FOUND",
            "PARAMETER_INVALID",
            "SIGNATURE_MISSING",
        ),
    )
    async def by_key(
        reader: Signed,
        idempotency_key: Annotated[str, Query(min_length=1, max_length=KEY_SIZE_MAX)],
    ) -> Response:
        """Say what the signer once asked for under an idempotency key, and where that is journaled."""
        answer = await node.writer.read(lambda machine: machine.answers.get(reader.party, idempotency_key))
        if answer is None:
            raise NotFound("MESSAGE_NOT_FOUND", "The signer has used no such key.")
        return schemas.answer(await _message(node, answer))

    @routes.get(
        "/v1/payments/{uetr}",
        dependencies=[Depends(only("payer"))],
        responses=answers({"data": PAYMENT}, "PAYMENT_NOT_FOUND", "UETR_INVALID", "SIGNATURE_MISSING", "NODE_STOPPED"),
    )
    async def payment(
        reader: Signed,
        uetr: str,
        payer: Annotated[str | None, Query(description="Party code of the payer, where the payee asks.")] = None,
    ) -> Response:
        """Give a payment to its payer, to the owner of the account that is paid, or to an auditor."""
        number = parse_uetr(uetr)
        view = await node.writer.read(lambda machine: find_payment(node, machine, reader, number, payer))
        if view.settled_position is not None and view.settled_ns is None:
            view = replace(view, settled_ns=await node.runtime.offload(_instant_of, node, view.settled_position))
        return schemas.answer(schemas.payment(view))

    @routes.get(
        "/v1/batches/{position}/results",
        dependencies=[Depends(only("cursor", "limit"))],
        responses=answers(
            {"data": [RESULT], "next_cursor": None}, "MESSAGE_NOT_FOUND", "LIMIT_INVALID", "SIGNATURE_MISSING"
        ),
    )
    async def results(
        reader: Signed,
        position: Annotated[int, Path(ge=0, lt=2**53)],
        cursor: Cursor = None,
        limit: Limit = None,
    ) -> Response:
        """Give the results of a batch by item, as they were when it was journaled; its signer and auditors may read."""
        page = page_of(node, cursor=cursor, limit=limit)
        first = page.cursor or 0
        return schemas.listing(*await node.runtime.offload(_results, node, reader, position, first, page.limit))

    return routes


async def _message(node: Node, answer: Answer) -> dict[str, Any]:
    """Describe a journaled message of the reader's own."""
    entry = await node.runtime.offload(node.reader.entry, answer.position)
    envelope = messages.parse(entry.message)
    body: dict[str, Any] = {"topic": envelope.topic, **(await journaled(node, answer)).receipt()}
    if envelope.topic == "/v1/payments":
        items: PaymentItems = bodies.decode(envelope.topic, entry.message.body, node.genesis)
        body["uetr"] = schemas.uuid_text(id_of(items.rows["uetr_hi"][0], items.rows["uetr_lo"][0]))
    elif envelope.topic in ("/v1/batches", COLUMNS_TOPIC):
        body["location"] = f"/v1/batches/{answer.position}/results"
    return body


def _instant_of(node: Node, position: int) -> int:
    """Give the time of the block that holds a position."""
    return node.reader.header(node.store.height_of(position)).timestamp_ns


def find_payment(node: Node, machine: Machine, reader: Reader, uetr: int, payer: str | None) -> PaymentView:
    """Find a payment for whoever asks; one who sees everything sees it as its payer, or as it came in.

    Raises:
        NotFound: ``PAYMENT_NOT_FOUND``; also where it does not concern the reader. ``PARTY_NOT_FOUND``, said only to
            one who sees everything: for others a payer that does not exist is like one of other payments.
    """
    if not reader.has(*_SEES_ALL):
        known = None if payer is None else machine.directory.numbers.get(payer)
        return payment_view(machine, node.book, reader.party, uetr, payer=known)
    number = None if payer is None else machine.directory.by_code(payer).number
    candidates = range(1, len(machine.directory.parties) + 1) if number is None else (number,)
    for party in candidates:
        if outgoing_place(node.book, machine.state, party, uetr) is not None:
            return payment_view(machine, node.book, party, uetr)
    return payment_view(machine, node.book, _payee(node, machine, uetr) or reader.party, uetr)


def _payee(node: Node, machine: Machine, uetr: int) -> int | None:
    """Give the owner of the account that an incoming payment pays."""
    place = incoming_place(node.book, machine.state, peer_party(machine), uetr)
    if place is None:
        return None
    account = int(node.book.windows[place.window].incoming.rows["creditor"][place.index])
    return machine.state.account(account).owner if 0 < account <= machine.state.account_count else None


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch read back: its topic, what its items are called, in which field, what they ask for, and its records."""

    topic: str
    field: str
    names: list[str]
    requests: Requests
    records: Transfers

    def item(self, index: int, firsts: FirstUses) -> dict[str, Any]:
        """Write one item's result; of one that was asked for before, that of the first one."""
        begin, end = np.searchsorted(self.records["item"], (index, index + 1))
        records = self.records[begin:end]
        body: dict[str, Any] = {"item": index, self.field: self.names[index]}
        if outcome_of(records) is not Result.ID_EXISTS:
            return body | _result(records)
        first, differing = repetition(firsts, records, self.topic, self.requests, index)
        told = {"repeated": True} if differing is None else {"field": differing}
        return body | _result(first.records if differing is None else records) | first.members() | told


def _result(records: Transfers) -> dict[str, Any]:
    """Write what came of one item, by its records."""
    outcome = outcome_of(records)
    if outcome is not Result.OK:
        refused = PaymentStatus.REFUSED
        iso = {"iso_status": ISO_STATUS[refused], "iso_reason": ISO_REASON[outcome]}
        return {"result": outcome.name, "state": refused, **iso}
    status = PaymentStatus.ACCEPTED if int(records["flags"][0]) & Flag.PENDING else PaymentStatus.SETTLED
    return {"result": outcome.name, "state": status, "iso_status": ISO_STATUS[status]}


def _results(
    node: Node, reader: Reader, position: int, first: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Give one page of a batch's results and where the next begins; on a worker thread."""
    batch, firsts = _batch(node, reader, position), FirstUses(node)
    items: list[dict[str, Any]] = []
    for index in range(first, min(first + limit, len(batch.names))):
        if firsts.size > FIRSTS_SIZE_MAX:
            break
        items.append(batch.item(index, firsts))
    following = first + len(items)
    return items, following if following < len(batch.names) else None


def _batch(node: Node, reader: Reader, position: int) -> _Batch:
    """Read a batch back; on a worker thread."""
    entry = node.reader.entry(position)
    envelope = messages.parse(entry.message)
    owner = node.machine.directory.keys.get(envelope.key_id)
    may_read = (owner is not None and owner.party == reader.party) or reader.has(*_SEES_ALL)
    if envelope.topic not in ("/v1/batches", COLUMNS_TOPIC) or not may_read:
        raise NotFound("MESSAGE_NOT_FOUND", "The signer has sent no batch at this position.", position=position)
    records = node.reader.records(position + 1, entry.count)
    field, prefix = ("uetr", "uetr_") if envelope.topic == "/v1/batches" else ("id", "id_")
    rows = node.settlement.decode(envelope, entry.message.body)
    rows = rows.rows if isinstance(rows, PaymentItems) else rows
    halves = zip(rows[f"{prefix}hi"].tolist(), rows[f"{prefix}lo"].tolist(), strict=True)
    names = [schemas.uuid_text(id_of(high, low)) for high, low in halves]
    return _Batch(envelope.topic, field, names, requests_of(envelope.topic, entry.message.body), records)
