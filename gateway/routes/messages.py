"""The signed writes: read, admit, submit, answer. The hot path of the server, so no framework and no copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import admission
from gateway.examples import OPERATIONS
from gateway.node import Node
from gateway.openapi import write_operation
from gateway.problems import Problem
from gateway.replies import journaled, reply_to
from gateway.wire import BINARY, JSON, Budget, Exchange, Handler, Lease, Reply, problem_reply, read_body
from settlement.bodies import TOPICS
from settlement.interpreter import COLUMNS_TOPIC

__all__ = ["LARGE", "described", "handlers"]

LARGE = frozenset(
    {
        "/v1/parties",
        "/v1/accounts",
        "/v1/accounts/closings",
        "/v1/accounts/reopenings",
        "/v1/accounts/classes",
        "/v1/issuances",
        "/v1/caps",
        "/v1/batches",
        COLUMNS_TOPIC,
    }
)
"""Topics whose body is a list, and may be as large as a batch."""
BODIES_SIZE_MAX = 2**28
"""Bytes of all large bodies that are under way at once."""
_REPLAYED = ((b"idempotent-replayed", b"true"),)


def handlers(node: Node) -> Mapping[str, Handler]:
    """Give the handler of each topic, by path."""
    post = _Messages(node).post
    return dict.fromkeys((*TOPICS, COLUMNS_TOPIC), post)


def described() -> dict[str, dict[str, Any]]:
    """Describe each topic for OpenAPI, by path."""
    described = {path: write_operation(TOPICS[path], OPERATIONS[path]) for path in TOPICS}
    return described | {COLUMNS_TOPIC: write_operation(None, OPERATIONS[COLUMNS_TOPIC])}


class _Messages:
    """Takes signed requests to one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limits = node.config.limits
        self._bodies = Budget(BODIES_SIZE_MAX, self._limits.retry_after_s)

    async def post(self, exchange: Exchange) -> Reply:
        """Journal one request and answer with what came of it."""
        self._node.check_serving()
        time_s_max = self._limits.body_time_s_max
        if exchange.scope["path"] not in LARGE:
            size_max = self._limits.body_size_max
            body = await read_body(exchange.scope, exchange.receive, size_max=size_max, time_s_max=time_s_max)
            return await self._journal(exchange, body)
        with Lease(self._bodies) as lease:
            size_max = self._limits.batch_size_max
            body = await read_body(
                exchange.scope, exchange.receive, size_max=size_max, time_s_max=time_s_max, lease=lease
            )
            return await self._journal(exchange, body)

    async def _journal(self, exchange: Exchange, body: bytes) -> Reply:
        """Admit and submit one request that has been read."""
        node, path = self._node, exchange.scope["path"]
        media_type = BINARY if path == COLUMNS_TOPIC else JSON
        message = admission.message_of(exchange.scope, body, authorities=node.authorities, media_type=media_type)
        admitted = await node.admission.admit(message)
        answer = await node.writer.submit(admitted)
        made = await reply_to(node, admitted, await journaled(node, answer), exchange.request_id)
        headers = _REPLAYED if answer.is_repeated else ()
        if isinstance(made, Problem):
            reply = problem_reply(made)
            return Reply(reply.status, reply.body, reply.media_type, (*reply.headers, *headers))
        status, data = made
        if status == 202:
            headers = (*headers, (b"location", f"/v1/batches/{answer.position}/results".encode("ascii")))
        return Reply(status, msgspec.json.encode({"data": data}), headers=headers)
