"""The bare ASGI exchange: a bounded body in, one whole answer out, where a framework would cost more than the work.

Types are those of the ASGI specification, version 3; everything here works under any ASGI server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.problems import MEDIA_TYPE, Problem
from ledger.errors import MalformedInput

__all__ = [
    "BINARY",
    "JSON",
    "Exchange",
    "Handler",
    "Message",
    "Receive",
    "Reply",
    "Scope",
    "Send",
    "header",
    "header_size",
    "problem_reply",
    "read_body",
    "send_reply",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
BINARY = b"application/octet-stream"
PROBLEM_JSON = MEDIA_TYPE.encode("ascii")
_TRUNCATED = ("BODY_TRUNCATED", "The body is shorter than announced.")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way: its scope, where its body comes from, and what the log calls it."""

    scope: Scope
    receive: Receive
    request_id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Exchange], Awaitable[Reply]]
"""Answers one exchange; expected failures are raised."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """Give the only value of a header (name in lower case), or nothing.

    Raises:
        MalformedInput: it is there twice: two readers might then believe different ones.
    """
    found: bytes | None = None
    for key, value in scope["headers"]:
        if key == name:
            if found is not None:
                raise MalformedInput("HEADER_REPEATED", "A header is there twice.", header=name.decode("ascii"))
            found = value
    return found


async def read_body(scope: Scope, receive: Receive, *, size_max: int, time_s_max: int) -> bytes:
    """Read a request's body whole, never more than ``size_max`` bytes of it.

    Raises:
        MalformedInput: ``BODY_TOO_LARGE`` (before reading, when the length is announced), ``BODY_TRUNCATED``,
            ``BODY_TIMEOUT``, ``LENGTH_MALFORMED``.
    """
    announced = _announced(scope)
    if announced is not None and announced > size_max:
        raise MalformedInput("BODY_TOO_LARGE", "The body is larger than it may be.", size_max=size_max)
    try:
        async with asyncio.timeout(time_s_max):
            body = await _collect(receive, size_max)
    except TimeoutError as error:
        raise MalformedInput("BODY_TIMEOUT", "The body did not arrive in time.") from error
    if announced is not None and announced != len(body):
        raise MalformedInput(*_TRUNCATED)
    return body


async def send_reply(send: Send, reply: Reply, request_id: str) -> None:
    """Send an answer, with the request's id beside it."""
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.media_type),
                (b"content-length", str(len(reply.body)).encode("ascii")),
                (b"x-request-id", request_id.encode("ascii")),
                *reply.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})


def problem_reply(problem: Problem) -> Reply:
    """Make an answer of a problem."""
    headers = tuple((name.encode("ascii"), value.encode("latin-1")) for name, value in problem.headers.items())
    return Reply(problem.status, problem.encode(), PROBLEM_JSON, headers)


def header_size(scope: Scope) -> int:
    """Give the bytes of all header names and values."""
    return sum([len(name) + len(value) for name, value in scope["headers"]])


def _announced(scope: Scope) -> int | None:
    """Give the announced length, if there is one."""
    text = header(scope, b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 15:
        raise MalformedInput("LENGTH_MALFORMED", "Content-Length is no number.")
    return int(text)


async def _collect(receive: Receive, size_max: int) -> bytes:
    """Take the parts of a body as they come."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > size_max:
            raise MalformedInput("BODY_TOO_LARGE", "The body is larger than it may be.", size_max=size_max)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise MalformedInput(*_TRUNCATED)
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > size_max:
            raise MalformedInput("BODY_TOO_LARGE", "The body is larger than it may be.", size_max=size_max)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
