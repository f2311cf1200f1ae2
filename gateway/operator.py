"""The settlement operator as a process: it starts cycles, drives them to their end, and keeps nothing.

It has no database. What it shows of a cycle it has seen itself since it started; what is true stands in the journals of
the two nodes, and at every start it reads both and finishes what is unfinished.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Depends, FastAPI, Path
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.admission import authorities_of, message_of, reading_of
from gateway.app import wrap
from gateway.client.signing import Signer
from gateway.config import LEDGERS, OperatorConfig, load_genesis, load_key, load_operator_config
from gateway.examples import CYCLE, NET_POSITION, OPERATIONS
from gateway.openapi import answers, write_operation
from gateway.routes import pages
from gateway.routes.access import only
from gateway.transport import HttpPort
from gateway.wire import Exchange, Reply, read_body
from ledger import messages, signatures
from ledger.errors import (
    Conflict,
    IntegrityFailure,
    LedgerError,
    MalformedInput,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from ledger.genesis import genesis_hash, network_hash
from ledger.messages import public_bytes
from ledger.runtime import Runtime
from settlement.coordinator import CycleReport, recover, run_cycle
from settlement.cosigning import CosigningPort
from settlement.port import NodePort
from settlement.report import WindowReport

__all__ = ["Cycle", "Operator", "create_operator_app"]

PATH = "/v1/cycles"
CYCLE_COUNT_MAX = 256
"""Cycles that are remembered, and as many idempotency keys."""
RETRY_S = 1
RETRY_S_MAX = 4
"""Nodes are asked again this often at least: a window that waits keeps money waiting."""
_NONE = Depends(only())
WindowNumber = Annotated[int, Path(ge=1, lt=2**30)]
_log = logging.getLogger("hugang.operator")


@dataclass(slots=True)
class Cycle:
    """One run over one window as this process sees it; ``state`` is RUNNING, SETTLED or FAILED."""

    window: int
    started_ns: int
    state: str = "RUNNING"
    stage: str = "close"
    problem: str | None = None
    """Code of the last failure; a run that may yet succeed goes on."""
    ended_ns: int = 0
    report: CycleReport | None = None


class CycleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``/v1/cycles``: nothing is chosen, the open window is settled."""


@dataclass(slots=True)
class Operator:
    """Drives cycles over two nodes; one at a time. Belongs to one event loop."""

    config: OperatorConfig
    private_key: Ed25519PrivateKey
    network: str
    network_hash: bytes
    ledgers: Mapping[str, bytes]
    """The genesis hash of each ledger. The operator keeps none: a request to it is made for either of the two."""
    runtime: Runtime
    ports: Mapping[str, NodePort]
    cosigners: Mapping[str, CosigningPort] = field(default_factory=dict)
    """The nodes once more, as cosigners of each other's checkpoints."""
    cycles: OrderedDict[int, Cycle] = field(default_factory=OrderedDict)
    failure: BaseException | None = None
    _keys: OrderedDict[str, tuple[bytes, int]] = field(default_factory=OrderedDict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def open(cls, folder: FilePath, runtime: Runtime, http: httpx.AsyncClient) -> Operator:
        """Open the operator that lies in a folder.

        Args:
            folder: where settings, both genesis documents and the key lie.
            runtime: clock and threads.
            http: reaches the nodes; the caller closes it.

        Raises:
            MalformedInput: a file is missing or not of its form, or the files do not belong together.
        """
        config = load_operator_config(folder)
        private_key = load_key(folder / config.key_file)
        documents = {
            "SH": load_genesis(folder / config.sh_genesis_file),
            "HK": load_genesis(folder / config.hk_genesis_file),
        }
        shared = network_hash(documents["SH"])
        hashes = {ledger: genesis_hash(document) for ledger, document in documents.items()}
        public_key = public_bytes(private_key).hex()
        for ledger, genesis in documents.items():
            named = {party.public_key for party in genesis.parties if "settlement" in party.roles}
            if (genesis.ledger, network_hash(genesis)) != (ledger, shared) or public_key not in named:
                raise MalformedInput("CONFIG_MALFORMED", "Genesis and key do not belong together.", ledger=ledger)
        urls = {"SH": config.sh_url, "HK": config.hk_url}
        ports = {
            ledger: HttpPort(
                ledger,
                urls[ledger],
                client=http,
                signer=Signer(urls[ledger], private_key, hashes[ledger]),
                runtime=runtime,
            )
            for ledger in LEDGERS
        }
        return cls(config, private_key, documents["SH"].network, shared, hashes, runtime, ports, ports)

    def start(self) -> None:
        """Finish what is unfinished, then settle by the interval if there is one."""
        self._spawn(self._run())

    async def stop(self) -> None:
        """End what is under way; the next start goes on with it."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def begin(self) -> Cycle:
        """Begin to settle the open window.

        Raises:
            Conflict: ``CYCLE_RUNNING``.
            Unavailable: a node cannot be reached.
        """
        if self._turn.locked():
            raise Conflict("CYCLE_RUNNING", "A settlement cycle is under way.")
        await self._turn.acquire()
        try:
            cycle = await self._next_cycle()
        except BaseException:
            self._turn.release()
            raise
        self._spawn(self._drive(cycle))
        return cycle

    def cycle(self, window: int) -> Cycle:
        """Give what this process has seen of a window's cycle.

        Raises:
            NotFound: ``CYCLE_NOT_FOUND``, nothing since it started.
        """
        cycle = self.cycles.get(window)
        if cycle is None:
            raise NotFound("CYCLE_NOT_FOUND", "No cycle of this window was seen here.", window=window)
        return cycle

    def remembered(self, key: str, digest: bytes) -> Cycle | None:
        """Give the cycle that was begun under an idempotency key.

        Raises:
            Conflict: ``IDEMPOTENCY_CONFLICT``.
        """
        known = self._keys.get(key)
        if known is not None and known[0] != digest:
            raise Conflict("IDEMPOTENCY_CONFLICT", "This idempotency key was used for another request.")
        return None if known is None else self.cycles.get(known[1])

    def remember(self, key: str, digest: bytes, window: int) -> None:
        """Note which cycle a key has begun."""
        self._keys[key] = (digest, window)
        while len(self._keys) > CYCLE_COUNT_MAX:
            self._keys.popitem(last=False)

    def halt(self, error: BaseException) -> None:
        """Take no more work: something does not hold that always must."""
        self.failure = error

    def check_serving(self) -> None:
        """Let pass only while the operator works.

        Raises:
            Unavailable: ``NODE_STOPPED``.
        """
        if self.failure is not None:
            raise Unavailable("NODE_STOPPED", "The operator has stopped.", retry_after_s=RETRY_S)

    # --- what runs beside the requests --------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("the operator stops", exc_info=error)
            self.halt(error)

    async def _run(self) -> None:
        """Recover, then settle whenever the interval has passed."""
        async with self._turn:
            await self._recover()
        while self.config.cycle_interval_s:
            await self.runtime.sleep(self.config.cycle_interval_s)
            try:
                await self.begin()
            except (Conflict, Unavailable) as error:
                _log.warning("no cycle was begun: %s", error)

    async def _recover(self) -> None:
        """Bring the unfinished window to its end, however often it takes."""
        wait_s = RETRY_S
        while True:
            try:
                views = [await port.window(None) for port in self.ports.values()]
                window = max(view.number for view in views) - 1
                cycle = Cycle(window, self.runtime.now_ns(), stage="recover")
                report = await recover(
                    self.ports,
                    key=self.private_key,
                    network_hash=self.network_hash,
                    runtime=self.runtime,
                    progress=self._teller(cycle),
                    cosigners=self.cosigners,
                )
            except Unavailable as error:
                _log.info("recovery waits: %s", error)
                await self.runtime.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_S_MAX)
                continue
            if report is not None:
                self._show(cycle)
                self._settled(cycle, report)
            return

    async def _next_cycle(self) -> Cycle:
        """Find the window that is settled next: the lower of the two open ones."""
        views = await asyncio.gather(*(port.window(None) for port in self.ports.values()))
        cycle = Cycle(min(view.number for view in views), self.runtime.now_ns())
        self._show(cycle)
        return cycle

    def _show(self, cycle: Cycle) -> None:
        self.cycles[cycle.window] = cycle
        while len(self.cycles) > CYCLE_COUNT_MAX:
            self.cycles.popitem(last=False)

    async def _drive(self, cycle: Cycle) -> None:
        """Settle one window; holds the turn until it is done. Nodes that are away are waited for."""
        wait_s = RETRY_S
        try:
            while cycle.state == "RUNNING":
                try:
                    report = await run_cycle(
                        self.ports,
                        key=self.private_key,
                        network_hash=self.network_hash,
                        window=cycle.window,
                        runtime=self.runtime,
                        progress=self._teller(cycle),
                        cosigners=self.cosigners,
                    )
                except Unavailable as error:
                    cycle.problem = error.code
                    await self.runtime.sleep(wait_s)
                    wait_s = min(2 * wait_s, RETRY_S_MAX)
                except (LedgerError, IntegrityFailure) as error:
                    _log.exception("the cycle of window %d failed", cycle.window)
                    cycle.state, cycle.problem, cycle.ended_ns = "FAILED", error.code, self.runtime.now_ns()
                else:
                    self._settled(cycle, report)
        finally:
            self._turn.release()

    def _settled(self, cycle: Cycle, report: CycleReport) -> None:
        cycle.state, cycle.stage, cycle.problem = "SETTLED", "settled", None
        cycle.report, cycle.ended_ns = report, self.runtime.now_ns()

    @staticmethod
    def _teller(cycle: Cycle) -> Any:
        def tell(stage: str) -> None:
            cycle.stage = stage

        return tell


def create_operator_app(operator: Operator, http: httpx.AsyncClient) -> FastAPI:
    """Make the application of the settlement operator; it closes ``http`` at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        operator.start()
        try:
            yield
        finally:
            await operator.stop()
            await http.aclose()

    app = wrap(
        "Hugang settlement operator",
        lifespan=lifespan,
        runtime=operator.runtime,
        limits=operator.config.limits,
        posts={PATH: _Begin(operator).post},
        described={PATH: write_operation(CycleBody, OPERATIONS[PATH])},
        halt=operator.halt,
    )
    app.subject = "The settlement operator, which keeps no ledger,"
    app.include_router(_router(operator))
    app.include_router(pages.router())
    return app


class _Begin:
    """Takes the one signed write of the operator."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        config = operator.config
        self._authorities = authorities_of(config.host, config.port, config.authorities)
        self._public_key = public_bytes(operator.private_key)

    async def post(self, exchange: Exchange) -> Reply:
        operator = self._operator
        operator.check_serving()
        limits = operator.config.limits
        body = await read_body(
            exchange.scope, exchange.receive, size_max=limits.body_size_max, time_s_max=limits.body_time_s_max
        )
        message = message_of(exchange.scope, body, authorities=self._authorities)
        envelope = messages.parse(message)
        signatures.check_ledger(envelope.genesis_hash, *operator.ledgers.values())
        if envelope.key_id != signatures.key_id(self._public_key):
            raise Unauthenticated("KEY_UNKNOWN", "Only the settlement operator's own key begins a cycle.")
        await operator.runtime.offload(messages.verify, message, envelope, self._public_key)
        signatures.check_time(envelope.created_s, envelope.expires_s, operator.runtime.now_ns())
        _check_body(body)
        cycle = operator.remembered(envelope.idempotency_key, envelope.digest)
        headers: tuple[tuple[bytes, bytes], ...] = ((b"idempotent-replayed", b"true"),)
        if cycle is None:
            headers = ()
            cycle = await operator.begin()
            operator.remember(envelope.idempotency_key, envelope.digest, cycle.window)
        location = (b"location", f"{PATH}/{cycle.window}".encode("ascii"))
        return Reply(202, msgspec.json.encode({"data": _shown(cycle)}), headers=(*headers, location))


def _router(operator: Operator) -> APIRouter:
    routes = APIRouter(tags=["cycles"])
    config = operator.config
    authorities = authorities_of(config.host, config.port, config.authorities)

    @routes.get("/v1/health", dependencies=[_NONE], responses=answers({"data": {"status": "ok"}}, "NODE_STOPPED"))
    async def health() -> Response:
        """Say whether the operator works; what the nodes say is theirs to say."""
        operator.check_serving()
        return schemas.answer(
            {
                "status": "ok",
                "network": operator.network,
                "genesis_hash": operator.ledgers["SH"].hex(),
                "cycle_count": len(operator.cycles),
            }
        )

    @routes.get(
        PATH + "/{window}",
        dependencies=[_NONE],
        responses=answers({"data": CYCLE}, "CYCLE_NOT_FOUND", "PARAMETER_INVALID"),
    )
    async def cycle(window: WindowNumber) -> Response:
        """Say how far the settlement of a window is, and what it came to."""
        return schemas.answer(_shown(operator.cycle(window)))

    @routes.get(
        PATH + "/{window}/positions",
        dependencies=[_NONE],
        responses=answers({"data": [NET_POSITION]}, "CYCLE_NOT_FOUND", "SIGNATURE_MISSING", "KEY_UNKNOWN"),
    )
    async def positions(request: Request, window: WindowNumber) -> Response:
        """Give the net positions of a settled window, to the settlement operator's own key."""
        ledgers = tuple(operator.ledgers.values())
        reading = reading_of(request.scope, authorities=authorities, ledgers=ledgers, at_ns=operator.runtime.now_ns())
        public_key = public_bytes(operator.private_key)
        if reading.request.key_id != signatures.key_id(public_key):
            raise Unauthenticated("KEY_UNKNOWN", "Only the settlement operator's own key reads positions.")
        await operator.runtime.offload(signatures.verify, public_key, reading.signature, reading.base)
        report = operator.cycle(window).report
        return schemas.answer([] if report is None else _nets(report.window))

    return routes


def _check_body(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=CycleBody)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("BODY_MALFORMED", "The body is an empty object.", path="$") from error


def _shown(cycle: Cycle) -> dict[str, Any]:
    """Write a cycle without the positions of single participants."""
    body: dict[str, Any] = {
        "window": cycle.window,
        "state": cycle.state,
        "stage": cycle.stage,
        "problem": cycle.problem,
        "started_at": schemas.instant(cycle.started_ns),
        "ended_at": schemas.instant(cycle.ended_ns),
        "stages_us": None,
        "report": None,
    }
    if cycle.report is not None:
        body["stages_us"] = {stage: spent_ns // 1000 for stage, spent_ns in cycle.report.stages_ns.items()}
        body["report"] = _report(cycle.report.window)
    return body


def _report(report: WindowReport) -> dict[str, Any]:
    return {
        "attempt": report.attempt,
        "policy": report.policy,
        "carried_in": report.carried_in,
        "accepted": report.accepted,
        "settled": report.settled,
        "cancelled": report.cancelled,
        "rejected": report.rejected,
        "carried_out": report.carried_out,
        "assets": {
            asset: {"gross": str(totals.gross), "net": str(totals.net), "saving_bp": totals.saving_bp}
            for asset, totals in report.assets.items()
        },
    }


def _nets(report: WindowReport) -> list[dict[str, str]]:
    return [
        {
            "ledger": position.ledger,
            "participant": position.participant,
            "asset": position.asset,
            "amount": str(position.amount),
        }
        for position in report.nets
    ]
