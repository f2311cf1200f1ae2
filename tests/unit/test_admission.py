"""Admission: from bytes to messages, in groups on worker threads, each outcome to whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import admission
from gateway.admission import GROUP_COUNT_MAX, Admission, authorities_of, message_of, reading_of
from gateway.client.signing import Outgoing, Signer, query_text
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.machine import Admitted
from ledger.messages import Kind, Message, parse
from ledger.runtime import ManualRuntime, SystemRuntime

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NOW_NS = 1_767_225_600 * 10**9
LEDGER, OTHER = bytes(32), bytes([1]) * 32
OURS = authorities_of("127.0.0.1", 8701)

pytestmark = pytest.mark.anyio


def signer(url: str = "http://127.0.0.1:8701") -> Signer:
    """Give a signer for our server."""
    return Signer(url, KEY, LEDGER)


def scope_of(outgoing: Outgoing, *, host: str = "127.0.0.1:8701", **changes: Any) -> dict[str, Any]:
    """Give the ASGI scope of a request as it was signed."""
    path, _, query = outgoing.target.partition("?")
    headers = [(name.lower().encode(), value.encode()) for name, value in outgoing.headers.items()]
    scope = {
        "type": "http",
        "method": outgoing.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", host.encode()), *headers],
    }
    return scope | changes


def posted(body: bytes = b"{}") -> Outgoing:
    """Give a signed write."""
    return signer().post("/v1/payments", body, idempotency_key="k", now_ns=NOW_NS)


class FakeMachine:
    """Admits or refuses by what a body says, and notes who asked in which thread."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        """Wait for ``gate`` before each group's first message."""
        self.groups: list[tuple[int, bytes]] = []
        self.gate = gate

    def admit(self, message: Message, *, at_ns: int) -> Admitted:
        """Admit unless the body says otherwise."""
        if self.gate is not None:
            self.gate.wait(10)
        self.groups.append((threading.get_ident(), message.body))
        if message.body == b"refuse":
            raise MalformedInput("BODY_MALFORMED", "as asked")
        if message.body == b"break":
            raise RuntimeError("as asked")
        return Admitted(message, None, 1, at_ns)  # type: ignore[arg-type] # nobody looks at the envelope here


def message(body: bytes) -> Message:
    """Give a message that only its body tells from others."""
    return Message(Kind.REQUEST, b"", b"", body)


# --- bytes to messages ------------------------------------------------------------------------------------------------


async def test_a_signed_write_becomes_its_message() -> None:
    """The base that is rebuilt from headers is the one that was signed, and the body is kept as it came."""
    outgoing = posted(b'{"a":1}')
    found = message_of(scope_of(outgoing), outgoing.body, authorities=OURS)
    envelope = parse(found)
    assert (found.body, envelope.topic, envelope.idempotency_key) == (b'{"a":1}', "/v1/payments", "k")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"query_string": b"x=1"}, "PARAMETER_INVALID"),
        ({"headers": []}, "MEDIA_TYPE_UNSUPPORTED"),
        ({"headers": [(b"content-type", b"application/json")]}, "AUTHORITY_MISMATCH"),
        ({"headers": [(b"content-type", b"text/plain")]}, "MEDIA_TYPE_UNSUPPORTED"),
        ({"headers": [(b"content-type", b"application/json")] * 2}, "HEADER_REPEATED"),
        (
            {"headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1:8701")]},
            "SIGNATURE_MISSING",
        ),
    ],
)
async def test_a_write_that_is_none_is_refused(changes: dict[str, Any], code: str) -> None:
    """A query, another media type, another server, a doubled header or no signature is refused."""
    with pytest.raises(LedgerError) as caught:
        message_of(scope_of(posted(), **changes), b"{}", authorities=OURS)
    assert caught.value.code == code


async def test_another_authority_is_refused() -> None:
    """What is addressed to another server is refused even if it is well signed."""
    other = signer("http://hk.example:80").post("/v1/payments", b"{}", idempotency_key="k", now_ns=NOW_NS)
    with pytest.raises(Unauthenticated) as caught:
        message_of(scope_of(other, host="hk.example"), b"{}", authorities=OURS)
    assert caught.value.code == "AUTHORITY_MISMATCH"


async def test_authorities_are_where_a_server_listens_and_its_names() -> None:
    """A server on loopback is also localhost; an IPv6 address stands in brackets; other names must be given."""
    assert authorities_of("127.0.0.1", 1) == {"127.0.0.1:1", "localhost:1"}
    assert authorities_of("::1", 1) == {"[::1]:1", "localhost:1"}
    assert authorities_of("10.0.0.7", 1, ("sh.example",)) == {"10.0.0.7:1", "sh.example"}


async def test_a_signed_read_is_read_with_its_query() -> None:
    """The base of a read covers path and query exactly as sent."""
    outgoing = signer().get("/v1/accounts", query_text({"cursor": "a b", "limit": 5, "none": None}), now_ns=NOW_NS)
    assert outgoing.target == "/v1/accounts?cursor=a%20b&limit=5"
    reading = reading_of(scope_of(outgoing), authorities=OURS, ledgers=(OTHER, LEDGER), at_ns=NOW_NS)
    assert (reading.request.path, reading.request.query) == ("/v1/accounts", "cursor=a%20b&limit=5")


@pytest.mark.parametrize(
    ("ledger", "later_s", "changes", "code"),
    [
        (OTHER, 0, {}, "LEDGER_MISMATCH"),
        (LEDGER, 600, {}, "SIGNATURE_STALE"),
        (LEDGER, 0, {"query_string": "ü".encode()}, "PARAMETER_INVALID"),
        (LEDGER, 0, {"raw_path": "/ü".encode()}, "PARAMETER_INVALID"),
    ],
)
async def test_a_read_that_does_not_count_is_refused(
    ledger: bytes, later_s: int, changes: dict[str, Any], code: str
) -> None:
    """A read for another ledger, too late, or beyond ASCII is refused."""
    scope = scope_of(signer().get("/v1/accounts", now_ns=NOW_NS), **changes)
    with pytest.raises(LedgerError) as caught:
        reading_of(scope, authorities=OURS, ledgers=(ledger,), at_ns=NOW_NS + later_s * 10**9)
    assert caught.value.code == code


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_each_outcome_goes_to_its_own_sender() -> None:
    """Of messages admitted in one group, each sender gets its own message or its own refusal."""
    intake = Admission(FakeMachine(), ManualRuntime())  # type: ignore[arg-type] # it needs no more of a machine
    bodies = [b"a", b"refuse", b"b"]
    outcomes = await asyncio.gather(*(intake.admit(message(body)) for body in bodies), return_exceptions=True)
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [None, "BODY_MALFORMED", None]
    assert [outcome.message.body for outcome in outcomes if isinstance(outcome, Admitted)] == [b"a", b"b"]


async def test_an_unforeseen_failure_reaches_everybody_in_its_group() -> None:
    """A mistake of ours while admitting a group is raised to each of its senders, and the next group is served."""
    intake = Admission(FakeMachine(), ManualRuntime())  # type: ignore[arg-type] # it needs no more of a machine
    outcomes = await asyncio.gather(*(intake.admit(message(body)) for body in (b"a", b"break")), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]
    assert (await intake.admit(message(b"later"))).message.body == b"later"


async def test_what_waits_is_admitted_in_bounded_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, one go takes at most the named number; all are served, and large bodies go alone."""
    taken: list[int] = []
    take = Admission._take

    def counting(self: Admission) -> list[Any]:
        group = take(self)
        taken.append(len(group))
        return group

    monkeypatch.setattr(Admission, "_take", counting)
    intake = Admission(FakeMachine(), ManualRuntime())  # type: ignore[arg-type] # it needs no more of a machine
    bodies = [str(number).encode() for number in range(2 * GROUP_COUNT_MAX + 5)]
    admitted = await asyncio.gather(*(intake.admit(message(body)) for body in bodies))
    assert [entry.message.body for entry in admitted] == bodies
    assert max(taken) <= GROUP_COUNT_MAX
    taken.clear()
    large = bytes(admission.GROUP_SIZE_MAX)
    await asyncio.gather(*(intake.admit(message(large)) for _ in range(3)))
    assert taken == [1, 1, 1]


async def test_admitting_leaves_the_event_loop_free() -> None:
    """While a worker thread is busy, the event loop serves others, and what arrives meanwhile waits for its turn."""
    gate = threading.Event()
    machine = FakeMachine(gate)
    runtime = SystemRuntime()
    intake = Admission(machine, runtime)  # type: ignore[arg-type] # it needs no more of a machine
    waiting = [asyncio.ensure_future(intake.admit(message(b"%d" % number))) for number in range(4)]
    await asyncio.sleep(0)
    assert not any(future.done() for future in waiting)
    gate.set()
    await asyncio.gather(*waiting)
    assert {thread for thread, _ in machine.groups}.isdisjoint({threading.get_ident()})
    runtime.close()


async def test_a_sender_that_has_gone_is_no_failure() -> None:
    """When a sender gives up while its message is admitted, the others are answered."""
    gate = threading.Event()
    runtime = SystemRuntime()
    intake = Admission(FakeMachine(gate), runtime)  # type: ignore[arg-type] # it needs no more of a machine
    gone, stays = (asyncio.ensure_future(intake.admit(message(body))) for body in (b"gone", b"stays"))
    await asyncio.sleep(0.01)
    gone.cancel()
    gate.set()
    assert (await stays).message.body == b"stays"
    runtime.close()
