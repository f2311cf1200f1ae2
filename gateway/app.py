"""A node as an ASGI application: the hot path in front, everything else behind it, one edge around both.

The edge is the only place that catches what nobody expects: it gives every request an id, bounds headers and
concurrency, sends each failure as a problem, and stops the node when something does not hold that always must.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.config import Limits
from gateway.node import Node
from gateway.openapi import describe
from gateway.problems import MEDIA_TYPE, Problem, problem, problem_of
from gateway.routes import histories, messages, pages, payments, proofs, public, statements, views
from gateway.wire import Exchange, Handler, Message, Receive, Scope, Send, header_size, problem_reply, send_reply
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError
from ledger.runtime import Runtime

__all__ = ["Application", "Edge", "Layer", "create_app", "wrap"]

_log = logging.getLogger("hugang.gateway")


class Application(FastAPI):
    """FastAPI with our own edge, and with our own description of what the edge answers by itself.

    A request of the hot path meets the edge before everything of the framework, and costs none of it; any other meets
    it as the first layer inside.
    """

    hot_paths: Mapping[str, dict[str, Any]] = {}
    subject = "One ledger"
    edge: Edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and the end of the server."""
        if self.edge.is_hot(scope):
            await self.edge.serve(scope, receive, send, None)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Give the OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(super().openapi(), self.hot_paths, subject=self.subject)
        return self.openapi_schema


class Layer:
    """The edge as a layer of pure ASGI around ``app``."""

    def __init__(self, app: ASGIApp, *, edge: Edge) -> None:
        """Wrap ``app``."""
        self._app = app
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] == "http":
            await self._edge.serve(scope, receive, send, self._app)
        else:
            await self._app(scope, receive, send)


class Edge:
    """What every request passes."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        limits: Limits,
        posts: Mapping[str, Handler],
        halt: Callable[[BaseException], None],
    ) -> None:
        """Answer a POST to a path of ``posts`` without any framework; ``halt`` is told of broken invariants."""
        self._runtime = runtime
        self._limits = limits
        self._posts = posts
        self._halt = halt
        self._count = 0

    def is_hot(self, scope: Scope) -> bool:
        """Whether the edge answers this by itself."""
        return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._posts

    async def serve(self, scope: Scope, receive: Receive, send: Send, app: ASGIApp | None) -> None:
        """Serve one HTTP request; ``app`` answers what is not hot."""
        request_id = self._runtime.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        if self._count >= self._limits.request_count_max:
            await send_reply(send, problem_reply(problem("OVERLOADED", request_id, self._retry_after())), request_id)
            return
        self._count += 1
        try:
            if header_size(scope) > self._limits.header_size_max:
                await send_reply(send, problem_reply(problem("HEADERS_TOO_LARGE", request_id)), request_id)
            elif app is None:
                await self._answer(scope, receive, send, request_id)
            else:
                await self._pass_on(app, scope, receive, send, request_id)
        finally:
            self._count -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Answer on the hot path."""
        try:
            reply = await self._posts[scope["path"]](Exchange(scope, receive, request_id))
        except LedgerError as error:
            reply = problem_reply(problem_of(error, request_id))
        except Exception as error:
            reply = problem_reply(self._unforeseen(error, request_id))
        await send_reply(send, reply, request_id)

    async def _pass_on(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Let the framework answer; a failure after its answer has begun ends the connection."""
        has_begun = False

        async def named(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode("ascii"))]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await app(scope, receive, named)
        except LedgerError as error:
            if has_begun:
                raise
            await send_reply(send, problem_reply(problem_of(error, request_id)), request_id)
        except Exception as error:
            answer = self._unforeseen(error, request_id)
            if has_begun:
                raise
            await send_reply(send, problem_reply(answer), request_id)

    def _unforeseen(self, error: Exception, request_id: str) -> Problem:
        """Note what nobody expected; stop the node when it means that the journal or the program cannot be trusted."""
        _log.error("request %s failed", request_id, exc_info=error)
        if isinstance(error, IntegrityFailure | InvariantViolation):
            self._halt(error)
        return problem_of(error, request_id)

    def _retry_after(self) -> dict[str, int]:
        return {"retry_after_s": self._limits.retry_after_s}


def create_app(node: Node) -> FastAPI:
    """Make the application of one node; it starts the node when the server starts, and stops it at the end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not node.is_serving:
            await node.start()
        try:
            yield
        finally:
            await node.stop()

    posts = {**messages.handlers(node), **statements.handlers(node), **proofs.handlers(node)}
    app = wrap(
        f"Hugang node {node.genesis.ledger}",
        lifespan=lifespan,
        runtime=node.runtime,
        limits=node.config.limits,
        posts=posts,
        described={**messages.described(), **statements.described(), **proofs.described()},
        halt=node.halt,
    )
    app.state.node = node
    for routes in (public, payments, proofs, views, histories):
        app.include_router(routes.router(node))
    app.include_router(pages.router())
    return app


def wrap(
    title: str,
    *,
    lifespan: Callable[[FastAPI], Any],
    runtime: Runtime,
    limits: Limits,
    posts: Mapping[str, Handler],
    described: Mapping[str, dict[str, Any]],
    halt: Callable[[BaseException], None],
) -> Application:
    """Make an application with our edge and our problems; the caller adds its routers.

    Args:
        title: what the description is called.
        lifespan: starts and stops what is served.
        runtime: gives request ids.
        limits: bounds of headers and concurrency.
        posts: the hot path.
        described: OpenAPI operations of the hot path, by path.
        halt: told of broken invariants.
    """
    app = Application(title=title, version="1", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.hot_paths = described
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.edge = Edge(runtime=runtime, limits=limits, posts=posts, halt=halt)
    app.add_middleware(Layer, edge=app.edge)
    return app


def _respond(answer: Problem) -> Response:
    return Response(answer.encode(), answer.status, headers=answer.headers, media_type=MEDIA_TYPE)


async def _of_framework(request: Request, error: Exception) -> Response:
    """Say in our own form what the router says: no such path, or not by this method."""
    request_id = request.state.request_id
    status = error.status_code if isinstance(error, HTTPException) else 500
    hot = getattr(request.app, "hot_paths", {})
    if status == 404 and request.url.path in hot:
        answer = problem("METHOD_NOT_ALLOWED", request_id)
        answer.headers["allow"] = "POST"
    elif status == 405:
        answer = problem("METHOD_NOT_ALLOWED", request_id)
        allowed = dict(getattr(error, "headers", None) or {}).get("Allow", "GET")
        answer.headers["allow"] = f"{allowed}, POST" if request.url.path in hot else allowed
    elif status == 404:
        answer = problem("ROUTE_NOT_FOUND", request_id)
    else:
        answer = problem("PARAMETER_INVALID", request_id)
    return _respond(answer)


async def _of_validation(request: Request, error: Exception) -> Response:
    """Name the parameter that is not of its form; never repeat its value."""
    fields: dict[str, Any] = {}
    if isinstance(error, RequestValidationError) and error.errors():
        fields["parameter"] = str(error.errors()[0]["loc"][-1])
    return _respond(problem("PARAMETER_INVALID", request.state.request_id, fields))
