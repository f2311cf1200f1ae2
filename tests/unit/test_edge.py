"""The edge of a server: bounds, request ids, bodies piece by piece, and what happens when something breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.app import Application, Edge, Layer
from gateway.config import Limits
from gateway.wire import Budget, Exchange, Handler, Lease, Reply, read_body
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError, MalformedInput, NotFound, Unavailable
from ledger.runtime import ManualRuntime

pytestmark = pytest.mark.anyio

Sent = list[dict[str, Any]]


def scope_of(
    method: str = "POST", path: str = "/hot", headers: list[tuple[bytes, bytes]] | None = None
) -> dict[str, Any]:
    """Give the scope of a request."""
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers or []}


def pieces(*parts: bytes, end: str = "http.request") -> Callable[[], Awaitable[dict[str, Any]]]:
    """Give a ``receive`` that delivers a body in parts; with another ``end`` the last part never comes."""
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    left.append({"type": end, "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    return receive


async def ask(app: Any, scope: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """Send one request to an application; gives status, headers and the body read as JSON."""
    sent: Sent = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app(scope, pieces(), send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(b"".join(part.get("body", b"") for part in sent[1:]) or b"null")


def make_app(
    handler: Handler, *, app: Any = None, limits: Limits | None = None, halted: list[BaseException] | None = None
) -> Any:
    """Make an application with one hot path, and ``app`` behind the edge for everything else."""
    halt = (halted if halted is not None else []).append
    edge = Edge(runtime=ManualRuntime(), limits=limits or Limits(), posts={"/hot": handler}, halt=halt)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if edge.is_hot(scope):
            await edge.serve(scope, receive, send, None)
        else:
            await Layer(app, edge=edge)(scope, receive, send)

    return serve


def failing(error: Exception) -> Handler:
    """Give a handler that raises."""

    async def handler(_: Exchange) -> Reply:
        raise error

    return handler


async def fine(exchange: Exchange) -> Reply:
    """Answer every request."""
    return Reply(201, b'{"data":{}}')


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_every_answer_names_its_request() -> None:
    """Each answer carries a request id, and two never share one."""
    app = make_app(fine)
    first, second = [await ask(app, scope_of()) for _ in range(2)]
    assert (first[0], first[2]) == (201, {"data": {}})
    assert len({first[1]["x-request-id"], second[1]["x-request-id"]}) == 2


async def test_an_expected_failure_is_its_problem() -> None:
    """A LedgerError from the hot path is answered by the table, and nothing stops."""
    halted: list[BaseException] = []
    app = make_app(failing(NotFound("KEY_NOT_FOUND", "x")), halted=halted)
    status, headers, body = await ask(app, scope_of())
    assert (status, body["code"], body["request_id"]) == (404, "KEY_NOT_FOUND", headers["x-request-id"])
    assert halted == []


@pytest.mark.parametrize(
    ("error", "code", "stops"),
    [
        (InvariantViolation("I2"), "INTERNAL_ERROR", True),
        (IntegrityFailure("BLOCK_HASH", "x"), "INTEGRITY_FAILURE", True),
        (ValueError("secret"), "INTERNAL_ERROR", False),
    ],
)
@pytest.mark.parametrize("is_hot", [True, False])
async def test_what_nobody_expects_is_a_500(error: Exception, code: str, stops: bool, is_hot: bool) -> None:
    """A broken invariant or contradicting data stop the node; any mistake is answered without its text."""
    halted: list[BaseException] = []

    async def app(*_: Any) -> None:
        raise error

    app = make_app(failing(error), app=app, halted=halted)
    status, _, body = await ask(app, scope_of(path="/hot" if is_hot else "/slow"))
    assert (status, body["code"]) == (500, code)
    assert "secret" not in json.dumps(body)
    assert halted == ([error] if stops else [])


async def test_a_failure_after_the_answer_began_ends_the_connection() -> None:
    """When half an answer is out, the failure goes to the server, which cuts the connection."""

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise IntegrityFailure("STORE_CORRUPT", "x")

    with pytest.raises(IntegrityFailure):
        await ask(make_app(fine, app=app), scope_of(path="/slow"))


@pytest.mark.parametrize("error", [NotFound("KEY_NOT_FOUND", "x"), ValueError("secret")])
async def test_the_framework_never_answers_for_us(error: Exception) -> None:
    """A failure inside a route of the framework has the form of a problem too."""
    app = Application()
    app.edge = Edge(runtime=ManualRuntime(), limits=Limits(), posts={}, halt=[].append)
    app.add_middleware(Layer, edge=app.edge)

    @app.get("/slow")
    async def slow() -> None:
        raise error

    status, headers, body = await ask(app, scope_of("GET", "/slow"))
    assert (status, headers["content-type"]) == (
        404 if isinstance(error, NotFound) else 500,
        "application/problem+json",
    )
    assert body["request_id"] == headers["x-request-id"]


async def test_other_protocols_pass() -> None:
    """What is no HTTP request is passed on untouched."""
    seen: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["type"])

    await make_app(fine, app=app)({"type": "lifespan"}, pieces(), pieces())  # type: ignore[arg-type] # never called
    assert seen == ["lifespan"]


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_more_requests_than_permitted_are_sent_away() -> None:
    """Beyond the bound a request is answered at once with 503 and a time, and one that ended makes room."""
    gate = asyncio.Event()

    async def slow(_: Exchange) -> Reply:
        await gate.wait()
        return Reply(201, b"{}")

    app = make_app(slow, limits=Limits(request_count_max=2))
    waiting = [asyncio.ensure_future(ask(app, scope_of())) for _ in range(2)]
    await asyncio.sleep(0)
    status, headers, body = await ask(app, scope_of())
    assert (status, body["code"], headers["retry-after"]) == (503, "OVERLOADED", "1")
    gate.set()
    assert [answer[0] for answer in await asyncio.gather(*waiting)] == [201, 201]
    assert (await ask(app, scope_of()))[0] == 201


async def test_headers_have_a_bound() -> None:
    """Headers beyond the bound are refused before the handler sees them."""
    app = make_app(failing(AssertionError()), limits=Limits(header_size_max=1024))
    status, _, body = await ask(app, scope_of(headers=[(b"x", b"y" * 1024)]))
    assert (status, body["code"]) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize("parts", [(b"abc",), (b"a", b"b", b"c"), (b"", b"abc", b"")])
async def test_a_body_is_read_whole(parts: tuple[bytes, ...]) -> None:
    """However it is cut, a body arrives as it was sent."""
    scope = scope_of(headers=[(b"content-length", b"3")])
    assert await read_body(scope, pieces(*parts), size_max=3, time_s_max=5) == b"abc"


@pytest.mark.parametrize(
    ("length", "parts", "end", "code"),
    [
        (b"4", (b"abc",), "http.request", "BODY_TRUNCATED"),
        (b"2", (b"abc",), "http.request", "BODY_TRUNCATED"),
        (b"9", (b"abc",), "http.disconnect", "BODY_TRUNCATED"),
        (b"11", (), "http.request", "BODY_TOO_LARGE"),
        (None, (b"abcdef", b"ghijkl"), "http.request", "BODY_TOO_LARGE"),
        (b"-1", (b"abc",), "http.request", "LENGTH_MALFORMED"),
        (b"3.0", (b"abc",), "http.request", "LENGTH_MALFORMED"),
        (b"9" * 20, (b"abc",), "http.request", "LENGTH_MALFORMED"),
    ],
)
async def test_a_body_that_is_not_as_announced_is_refused(
    length: bytes | None, parts: tuple[bytes, ...], end: str, code: str
) -> None:
    """Cut short, too long for its announcement, too large, or announced in no number: refused."""
    scope = scope_of(headers=[] if length is None else [(b"content-length", length)])
    with pytest.raises(MalformedInput) as caught:
        await read_body(scope, pieces(*parts, end=end), size_max=10, time_s_max=5)
    assert caught.value.code == code


async def test_one_piece_beyond_the_bound_is_refused() -> None:
    """A body that comes in one piece is held to the same bound."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 11, "more_body": False}

    with pytest.raises(MalformedInput) as caught:
        await read_body(scope_of(), receive, size_max=10, time_s_max=5)
    assert caught.value.code == "BODY_TOO_LARGE"


async def test_a_body_that_never_comes_is_given_up() -> None:
    """A sender that stops in the middle is not waited for beyond the limit."""

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise RuntimeError

    with pytest.raises(LedgerError) as caught:
        await read_body(scope_of(), receive, size_max=10, time_s_max=0)
    assert caught.value.code == "BODY_TIMEOUT"


async def test_bodies_under_way_share_a_budget() -> None:
    """A body that would exceed what all requests together may hold is refused; what is given back can be used again."""
    budget = Budget(left=5, retry_after_s=1)
    with Lease(budget) as first:
        await read_body(scope_of(), pieces(b"ab", b"c"), size_max=10, time_s_max=5, lease=first)
        with pytest.raises(Unavailable, match="OVERLOADED"), Lease(budget) as second:
            await read_body(scope_of(), pieces(b"de", b"f"), size_max=10, time_s_max=5, lease=second)
        assert budget.left == 2
    with Lease(budget) as third:
        assert await read_body(scope_of(), pieces(b"abcde"), size_max=10, time_s_max=5, lease=third) == b"abcde"
    assert budget.left == 5
