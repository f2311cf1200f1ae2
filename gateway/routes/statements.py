"""The statements of the settlement cycle, between the nodes and from the operator; they authenticate themselves.

A body is a row of statements in their stored encoding, each behind its length as a little-endian u32; the answer has
the same form. Delivering again what is journaled already gives the same answer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.node import Node
from gateway.openapi import problems_of
from gateway.wire import BINARY, Exchange, Handler, Reply, header, read_body
from ledger import messages
from ledger.errors import MalformedInput, Unavailable
from ledger.messages import Message
from settlement.conduct import STATEMENTS_MAX

__all__ = ["PATH", "decode_statements", "described", "encode_statements", "handlers"]

PATH = "/v1/statements"
DELIVERY_COUNT_MAX = 4
"""Deliveries under way at once: each may be large, and nobody is known before the whole of it is read."""
_LENGTH = struct.Struct("<I")


def encode_statements(statements: Iterable[Message]) -> bytes:
    """Write statements one behind the other."""
    parts: list[bytes] = []
    for statement in statements:
        data = messages.encode(statement)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def decode_statements(data: bytes) -> list[Message]:
    """Read what ``encode_statements`` wrote.

    Raises:
        MalformedInput: ``STATEMENT_MALFORMED``, a length does not fit or there are too many; or a statement itself is
            malformed.
    """
    found: list[Message] = []
    offset = 0
    while offset < len(data):
        if len(found) == STATEMENTS_MAX or len(data) - offset < _LENGTH.size:
            raise MalformedInput("STATEMENT_MALFORMED", "The delivery is cut short or holds too many statements.")
        size = _LENGTH.unpack_from(data, offset)[0]
        offset += _LENGTH.size
        if len(data) - offset < size:
            raise MalformedInput("STATEMENT_MALFORMED", "A statement's length does not fit the delivery.")
        found.append(messages.decode(data[offset : offset + size]))
        offset += size
    return found


def handlers(node: Node) -> Mapping[str, Handler]:
    """Give the handler of deliveries."""
    limits = node.config.limits
    under_way = 0

    async def deliver(exchange: Exchange) -> Reply:
        nonlocal under_way
        node.check_serving()
        if exchange.scope["query_string"]:
            raise MalformedInput("PARAMETER_INVALID", "A delivery has no query.")
        if header(exchange.scope, b"content-type") != BINARY:
            expected = BINARY.decode("ascii")
            raise MalformedInput("MEDIA_TYPE_UNSUPPORTED", "The body has another media type.", expected=expected)
        if under_way == DELIVERY_COUNT_MAX:
            raise Unavailable("OVERLOADED", "Too many deliveries are under way.", retry_after_s=limits.retry_after_s)
        under_way += 1
        try:
            body = await read_body(
                exchange.scope, exchange.receive, size_max=limits.statements_size_max, time_s_max=limits.body_time_s_max
            )
            offered = await node.runtime.offload(decode_statements, body)
            answers = await node.conduct.deliver(offered)
            return Reply(200, await node.runtime.offload(encode_statements, answers), BINARY)
        finally:
            under_way -= 1

    return {PATH: deliver}


def described() -> dict[str, dict[str, Any]]:
    """Describe deliveries for OpenAPI."""
    content = {BINARY.decode(): {"schema": {"type": "string", "format": "binary"}, "example": "length, statement …"}}
    return {
        PATH: {
            "summary": "Deliver statements of the settlement cycle",
            "description": "Between the nodes and from the settlement operator; each is signed by its speaker.",
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {"description": "The node's own statements in answer.", "content": content},
                **{
                    str(status): response
                    for status, response in problems_of(
                        (
                            "STATEMENT_MALFORMED",
                            "SIGNATURE_INVALID",
                            "ROLE_MISSING",
                            "WINDOW_NOT_FOUND",
                            "WINDOW_ORDER",
                            "BODY_TOO_LARGE",
                            "MEDIA_TYPE_UNSUPPORTED",
                            "OVERLOADED",
                            "INTERNAL_ERROR",
                        )
                    ).items()
                },
            },
        }
    }
