"""The servers: one place that says how our applications meet the network."""

from __future__ import annotations

from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.config import Limits
from gateway.node import Node
from gateway.operator import Operator, create_operator_app
from ledger.runtime import Runtime

__all__ = ["node_server", "operator_http", "operator_server", "serve_node", "serve_operator"]

BACKLOG_COUNT = 2048
KEEP_ALIVE_S = 30
SHUTDOWN_S = 15
"""How long requests under way may take to end after the server was told to stop."""


def serve_node(folder: Path, runtime: Runtime) -> None:
    """Run the node of a folder until a signal ends it.

    Raises:
        MalformedInput: the folder's files cannot be used.
        IntegrityFailure: the journal contradicts itself.
        Unavailable: another process writes to the journal.
    """
    node_server(Node.open(folder, runtime)).run()


def serve_operator(folder: Path, runtime: Runtime) -> None:
    """Run the settlement operator of a folder until a signal ends it.

    Raises:
        MalformedInput: the folder's files cannot be used.
    """
    http = operator_http(Limits())
    operator_server(Operator.open(folder, runtime, http), http).run()


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
