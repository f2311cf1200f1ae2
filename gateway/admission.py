"""From a request's bytes to an admitted message: everything that can be said before the writer's turn.

Nothing here changes anything. What fails is answered and forgotten. Verifying a signature and decoding a body run on
worker threads, many requests at a time when many wait, so that the event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.wire import JSON, Scope, header
from ledger import messages, signatures
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.machine import Admitted, Machine
from ledger.messages import Kind, Message
from ledger.runtime import Runtime

__all__ = ["Admission", "Reading", "authorities_of", "message_of", "reading_of"]

GROUP_COUNT_MAX = 64
"""Messages that one thread admits in one go."""
GROUP_SIZE_MAX = 256 * 2**10
"""Bytes of bodies of one go; a larger body goes alone."""
WORKER_COUNT = 2
"""Threads that admit at the same time: one a core, since verifying releases the interpreter lock."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A signed read whose key is not looked up yet: the signature base, what it says, and the signature."""

    base: bytes
    signature: bytes
    request: signatures.SignedRequest


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Message
    at_ns: int
    future: asyncio.Future[Admitted]


def authorities_of(host: str, port: int, names: Iterable[str] = ()) -> frozenset[str]:
    """Say under which authorities a server is addressed: where it listens, and the names it is given.

    A signature names the authority. A server that took any would also take what was signed for the other ledger.
    """
    loopback = {f"localhost:{port}"} if host in ("127.0.0.1", "::1", "localhost") else set()
    shown = f"[{host}]" if ":" in host else host
    return frozenset({f"{shown}:{port}", *loopback, *names})


def message_of(scope: Scope, body: bytes, *, authorities: frozenset[str], media_type: bytes = JSON) -> Message:
    """Build the message that a POST carries; neither key nor digest is checked yet.

    Raises:
        MalformedInput: no signature of the profile, another media type, a query, or another server was addressed.
        Unauthenticated: there is no signature.
    """
    if scope["query_string"]:
        raise MalformedInput("PARAMETER_INVALID", "A signed write has no query.")
    if header(scope, b"content-type") != media_type:
        expected = media_type.decode("ascii")
        raise MalformedInput("MEDIA_TYPE_UNSUPPORTED", "The body has another media type.", expected=expected)
    base, signature = signatures.base_from_headers(
        "POST", _authority(scope, authorities), scope["path"], "", scope["headers"]
    )
    return Message(Kind.REQUEST, base, signature, body)


def reading_of(scope: Scope, *, authorities: frozenset[str], ledgers: tuple[bytes, ...], at_ns: int) -> Reading:
    """Read the signature of a GET that is made for one of these ledgers, named by their genesis hashes.

    Raises:
        MalformedInput: not of the profile, or another server was addressed.
        Unauthenticated: not signed, stale, or made for another ledger.
    """
    query = scope["query_string"]
    if not query.isascii():
        raise MalformedInput("PARAMETER_INVALID", "A query is ASCII.")
    path = scope.get("raw_path") or scope["path"].encode("utf-8")
    if not path.isascii():
        raise MalformedInput("PARAMETER_INVALID", "A path is ASCII.")
    base, signature = signatures.base_from_headers(
        scope["method"],
        _authority(scope, authorities),
        path.decode("ascii"),
        query.decode("ascii"),
        scope["headers"],
    )
    request = signatures.parse_signature_base(base)
    signatures.check_ledger(request.genesis_hash, *ledgers)
    signatures.check_time(request.created, request.expires, at_ns)
    return Reading(base, signature, request)


class Admission:
    """Admits messages on worker threads. Belongs to one event loop."""

    def __init__(self, machine: Machine, runtime: Runtime) -> None:
        """Admit for ``machine``; its keys are read as they stand when a message's turn comes."""
        self._machine = machine
        self._runtime = runtime
        self._waiting: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def admit(self, message: Message) -> Admitted:
        """Check form, key, digest, signature, times and body of a message.

        Raises:
            MalformedInput: not of the form.
            Unauthenticated: the signature does not hold.
        """
        waiting = _Waiting(message, self._runtime.now_ns(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._workers) < WORKER_COUNT:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await waiting.future

    async def verify(self, reading: Reading) -> int:
        """Check a signed read and give the number of the party that signed.

        Raises:
            Unauthenticated: unknown or revoked key, or the signature does not hold.
        """
        key = self._machine.directory.signer(reading.request.key_id)
        await self._runtime.offload(signatures.verify, key.public_key, reading.signature, reading.base)
        return key.party

    async def identify(self, message: Message) -> int:
        """Check a signed POST that is carried out without being journaled; gives the number of the party that signed.

        Its idempotency key is not remembered: only what may be done any number of times is asked for like this.

        Raises:
            MalformedInput: not of the form.
            Unauthenticated: unknown or revoked key, bad digest or signature, another ledger, stale.
        """
        envelope = messages.parse(message)
        machine = self._machine
        messages.check_addressee(envelope, genesis_hash=machine.genesis_hash, network_hash=machine.network_hash)
        signatures.check_time(envelope.created_s, envelope.expires_s, self._runtime.now_ns())
        key = self._machine.directory.signer(envelope.key_id)
        await self._runtime.offload(messages.verify, message, envelope, key.public_key)
        return key.party

    async def _work(self) -> None:
        """Admit group after group until nobody waits."""
        while self._waiting:
            group = self._take()
            running = asyncio.ensure_future(self._runtime.offload(self._admit_group, group))
            await asyncio.wait([running])
            error = running.exception()
            outcomes = [error] * len(group) if error is not None else running.result()
            for waiting, outcome in zip(group, outcomes, strict=True):
                if waiting.future.done():
                    continue  # whoever asked has gone
                if isinstance(outcome, BaseException):
                    waiting.future.set_exception(outcome)
                else:
                    waiting.future.set_result(outcome)

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_COUNT_MAX:
            size += len(self._waiting[0].message.body)
            if group and size > GROUP_SIZE_MAX:
                break
            group.append(self._waiting.popleft())
        return group

    def _admit_group(self, group: list[_Waiting]) -> list[Admitted | LedgerError]:
        """Admit one after another; on a worker thread."""
        outcomes: list[Admitted | LedgerError] = []
        for waiting in group:
            try:
                outcomes.append(self._machine.admit(waiting.message, at_ns=waiting.at_ns))
            except LedgerError as error:
                outcomes.append(error)
        return outcomes


def _authority(scope: Scope, authorities: frozenset[str]) -> str:
    """Give the authority that was addressed, if it is ours."""
    host = header(scope, b"host")
    authority = host.decode("latin-1").lower() if host is not None else ""
    if authority not in authorities:
        raise Unauthenticated("AUTHORITY_MISMATCH", "The request was addressed to another server.")
    return authority
