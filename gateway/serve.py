"""The servers: one place that says how our applications meet the network."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop
from fastapi import FastAPI

from gateway.app import create_app
from gateway.config import Limits, load_node_config, load_operator_config
from gateway.node import Node
from gateway.operator import Operator, create_operator_app
from gateway.replaying import Notes
from ledger.errors import MalformedInput, Unavailable
from ledger.runtime import Runtime, listen_fault

__all__ = [
    "leave_modules_alone",
    "node_server",
    "operator_http",
    "operator_server",
    "run",
    "serve_node",
    "serve_operator",
]

Result = TypeVar("Result")

BACKLOG_COUNT = 2048
KEEP_ALIVE_S = 30
SHUTDOWN_S = 15
"""How long requests under way may take to end after the server was told to stop."""


def serve_node(folder: Path, runtime: Runtime, *, say: Callable[[str], None] = lambda _line: None) -> None:
    """Run the node of a folder until a signal ends it; ``say`` is told how far a long replay has come.

    Raises:
        MalformedInput: the folder's files cannot be used, or nobody can listen on its host.
        IntegrityFailure: the journal contradicts itself, or lacks what the other node has cosigned.
        Unavailable: another process writes to the journal, or ``PORT_TAKEN``.
    """
    config = load_node_config(folder)
    _check_address(config.host, config.port)
    node = Node.open(folder, runtime, config, progress=Notes(say, runtime))
    _run(node_server(node), node.start)


def serve_operator(folder: Path, runtime: Runtime) -> None:
    """Run the settlement operator of a folder until a signal ends it.

    Raises:
        MalformedInput: the folder's files cannot be used, or nobody can listen on its host.
        Unavailable: ``PORT_TAKEN``.
    """
    config = load_operator_config(folder)
    _check_address(config.host, config.port)
    http = operator_http(Limits())
    _run(operator_server(Operator.open(folder, runtime, http), http))


def _check_address(host: str, port: int) -> None:
    """Refuse an address at which this process could not listen, before anything is opened.

    Raises:
        Unavailable: ``PORT_TAKEN``.
        MalformedInput: ``HOST_UNUSABLE``.
    """
    fault = listen_fault(host, port)
    if fault is not None and fault.errno == errno.EADDRINUSE:
        raise Unavailable("PORT_TAKEN", "Somebody else listens on this port.", host=host, port=port, retry_after_s=5)
    if fault is not None:
        raise MalformedInput("HOST_UNUSABLE", f"Nobody can listen there: {fault.strerror}.", host=host, port=port)


def leave_modules_alone() -> None:
    """Keep the garbage collector from walking over what was loaded at the start and stays until the end.

    Those are some 130,000 objects of numba and SQLAlchemy; a full collection that visits them stops every thread of the
    process for 120 ms.
    """
    gc.collect()
    gc.freeze()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work on the kind of event loop on which servers run."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _run(server: uvicorn.Server, begin: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve until a signal ends it; what fails in ``begin`` is raised before anybody is served."""

    async def serve() -> None:
        if begin is not None:
            await begin()
        leave_modules_alone()
        await server.serve()

    run(serve())


def node_server(node: Node) -> uvicorn.Server:
    """Give the server of one node; ``run`` serves, ``should_exit`` ends it."""
    return _server(create_app(node), node.config.host, node.config.port, node.config.limits)


def operator_server(operator: Operator, http: httpx.AsyncClient) -> uvicorn.Server:
    """Give the server of the settlement operator; it closes ``http`` at its end."""
    config = operator.config
    return _server(create_operator_app(operator, http), config.host, config.port, config.limits)


def operator_http(limits: Limits) -> httpx.AsyncClient:
    """Give what carries the operator's requests to the nodes: no proxy, no redirects, everything within its time."""
    timeout = httpx.Timeout(limits.peer_time_s_max, connect=5)
    return httpx.AsyncClient(timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=16))


def _server(app: FastAPI, host: str, port: int, limits: Limits) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            backlog=BACKLOG_COUNT,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
            h11_max_incomplete_event_size=2 * limits.header_size_max,
        )
    )
