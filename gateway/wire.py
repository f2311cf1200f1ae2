"""The bare ASGI exchange: a bounded body in, one whole answer out, where a framework would cost more than the work.

Types are those of the ASGI specification, version 3; everything here works under any ASGI server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gateway.problems import MEDIA_TYPE, Problem
from ledger.errors import MalformedInput, Unavailable

__all__ = [
    "BINARY",
    "JSON",
    "Budget",
    "Exchange",
    "Handler",
    "Lease",
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


@dataclass(slots=True)
class Budget:
    """How many bytes of bodies may still come into memory: nobody is known before the whole of a body is read."""

    left: int
    retry_after_s: int


class Lease:
    """What one request takes of a budget; it gives all of it back at the end of its block."""

    def __init__(self, budget: Budget) -> None:
        """Take nothing yet."""
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._budget.left += self._size

    def take(self, size: int) -> None:
        """Take ``size`` bytes more.

        Raises:
            Unavailable: ``OVERLOADED``, there are not so many left.
        """
        if size > self._budget.left:
            raise Unavailable("OVERLOADED", "Too many bodies are under way.", retry_after_s=self._budget.retry_after_s)
        self._budget.left -= size
        self._size += size


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


async def read_body(
    scope: Scope, receive: Receive, *, size_max: int, time_s_max: int, lease: Lease | None = None
) -> bytes:
    """Read a request's body whole, never more than ``size_max`` bytes of it, nor than its ``lease`` can take.

    Raises:
        Unavailable: from ``Lease.take``.
        MalformedInput: ``BODY_TOO_LARGE`` (before reading, when the length is announced), ``BODY_TRUNCATED``,
            ``BODY_TIMEOUT``, ``LENGTH_MALFORMED``.
    """
    announced = _announced(scope)
    if announced is not None and announced > size_max:
        raise MalformedInput("BODY_TOO_LARGE", "The body is larger than it may be.", size_max=size_max)
    try:
        async with asyncio.timeout(time_s_max):
            body = await _collect(receive, size_max, lease)
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


async def _collect(receive: Receive, size_max: int, lease: Lease | None) -> bytes:
    """Take the parts of a body as they come."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedInput(*_TRUNCATED)
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > size_max:
            raise MalformedInput("BODY_TOO_LARGE", "The body is larger than it may be.", size_max=size_max)
        if lease is not None:
            lease.take(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return part if len(parts) == 1 else b"".join(parts)
