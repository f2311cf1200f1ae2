"""The client: light to import, safe to retry, and typed in what it raises."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.client import Client, ProblemError, ServerUnreachable, Signer
from gateway.client.sync import BACKOFF_MS_MAX, TRY_COUNT
from gateway.routes.statements import PATH, encode_statements
from ledger import signatures
from ledger.errors import InvariantViolation, MalformedInput
from ledger.messages import public_bytes
from ledger.runtime import ManualRuntime
from settlement.statements import CloseBody, sign
from tests.network_fixture import READY_S_MAX, Network, key_of, running_network

KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
URL = "http://127.0.0.1:8701"
GENESIS_HASH = bytes(range(32))
HEAVY = ("fastapi", "numba", "pydantic", "sqlalchemy", "starlette", "uvicorn")

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for the tests that need one."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


class Scripted:
    """Answers requests one after another as the test says, and keeps them."""

    def __init__(self, *answers: Answer) -> None:
        """Answer with ``answers``; the last one repeats."""
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()
        self.requests.append(request)
        return self._answers[min(len(self.requests), len(self._answers)) - 1](request)

    def client(self, **options: Any) -> Client:
        """Give a client of these answers; time moves on by a second with every pause."""
        runtime = ManualRuntime()

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            runtime.move_to(runtime.now_ns() + 10**9)

        return Client(
            URL, KEY, GENESIS_HASH, runtime=runtime, transport=httpx.MockTransport(self), pause=pause, **options
        )


def good(_: httpx.Request) -> httpx.Response:
    """Say yes."""
    return httpx.Response(201, json={"data": {"state": "SETTLED"}})


def later(_: httpx.Request) -> httpx.Response:
    """Say not now."""
    return httpx.Response(503, json={"code": "BUSY"}, headers={"retry-after": "1"})


def broken(request: httpx.Request) -> httpx.Response:
    """Break the connection."""
    raise httpx.ReadError("broken", request=request)


def pay(client: Client, **options: Any) -> dict[str, Any]:
    """Pay something."""
    return client.pay(debtor="SH530000000012", creditor="SH260000000013", asset="CNY", amount=1, **options)


# --- weight -----------------------------------------------------------------------------------------------------------


def test_importing_the_client_is_light() -> None:
    """The client brings neither the server's framework nor the compiler of the kernel."""
    code = f"import sys, gateway.client; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [later, broken])
def test_a_write_is_tried_again_under_the_same_key(failure: Answer) -> None:
    """After a 503 or a broken connection the same key and body go out again under a fresh signature."""
    server = Scripted(failure, failure, good)
    assert pay(server.client()) == {"state": "SETTLED"}
    assert len(server.requests) == 3
    for name in ("idempotency-key", "content-digest"):
        assert len({request.headers[name] for request in server.requests}) == 1
    assert len({request.content for request in server.requests}) == 1
    assert len({request.headers["signature"] for request in server.requests}) == 3


def test_trying_is_bounded() -> None:
    """After the last try the client gives up, and says under which key it had tried."""
    server = Scripted(broken)
    with pytest.raises(ServerUnreachable) as caught:
        pay(server.client(), idempotency_key="mine")
    assert caught.value.idempotency_key == "mine"
    assert len(server.requests) == TRY_COUNT
    busy = Scripted(later)
    with pytest.raises(ProblemError) as told:
        pay(busy.client(try_count=2))
    assert (told.value.status, told.value.code, len(busy.requests)) == (503, "BUSY", 2)


def test_pauses_grow_and_respect_what_the_server_asks() -> None:
    """Pauses double, are never shorter than Retry-After, and never longer than the bound."""
    server = Scripted(broken)
    with pytest.raises(ServerUnreachable):
        pay(server.client(try_count=9))
    assert server.pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(server.pauses) == BACKOFF_MS_MAX / 1000
    asked = Scripted(later, good)
    pay(asked.client())
    assert asked.pauses == [1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_what_would_not_help_is_not_tried_again(status: int) -> None:
    """Any other refusal is raised at once, with its problem."""
    problem = {"code": "SOME_CODE", "request_id": "r1", "iso_reason": "AM04", "fields": {"x": 1}, "title": "No."}
    server = Scripted(lambda _: httpx.Response(status, json=problem))
    with pytest.raises(ProblemError) as caught:
        pay(server.client())
    error = caught.value
    assert (error.status, error.code, error.request_id, error.iso_reason) == (status, "SOME_CODE", "r1", "AM04")
    assert (error.fields, error.problem) == ({"x": 1}, problem)
    assert (error.is_unauthenticated, error.is_refused) == (status == 401, status in (409, 422))
    assert len(server.requests) == 1


def test_an_answer_that_is_no_problem_is_still_an_error() -> None:
    """A failure without a problem, as from a proxy, is raised with a code of its own."""
    with pytest.raises(ProblemError) as caught:
        pay(Scripted(lambda _: httpx.Response(502, text="<html>")).client())
    assert (caught.value.status, caught.value.code) == (502, "NO_PROBLEM")


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_what_is_sent_verifies() -> None:
    """A request as it goes out carries a signature that holds over its very bytes."""
    server = Scripted(good)
    pay(server.client(), reference="invoice 7", purpose="GDDS", fee=2)
    request = server.requests[0]
    base, signature = signatures.base_from_headers(
        "POST", request.headers["host"], request.url.path, "", request.headers.raw
    )
    signatures.verify(public_bytes(KEY), signature, base)
    parsed = signatures.parse_signature_base(base)
    signatures.check_digest(parsed, request.content)
    assert parsed.genesis_hash == GENESIS_HASH
    body = json.loads(request.content)
    assert (body["money"], body["fee"]) == ({"asset": "CNY", "amount": "1"}, {"asset": "CNY", "amount": "2"})
    assert (body["reference"], body["purpose"]) == ("invoice 7", "GDDS")


def test_a_client_without_a_key_reads_what_is_public() -> None:
    """Without a private key public answers can be read, and signing is refused before anything is sent."""
    server = Scripted(lambda _: httpx.Response(200, json={"data": {"status": "ok"}}))
    client = Client(URL, transport=httpx.MockTransport(server))
    assert client.health()["status"] == "ok"
    with pytest.raises(MalformedInput) as caught:
        pay(client)
    assert caught.value.code == "KEY_MISSING"


def test_the_ledger_is_asked_for_once() -> None:
    """A client that was not told the genesis hash asks the server, once."""
    server = Scripted(lambda _: httpx.Response(200, json={"data": {"genesis_hash": GENESIS_HASH.hex()}}))
    client = Client(URL, KEY, transport=httpx.MockTransport(server))
    client.account("SH530000000012")
    client.account("SH530000000012")
    assert [request.url.path for request in server.requests] == ["/v1/health", *["/v1/accounts/SH530000000012"] * 2]


@pytest.mark.parametrize("data", [{}, {"genesis_hash": "hugang"}, {"genesis_hash": None}])
def test_a_server_that_does_not_say_its_ledger(data: dict[str, Any]) -> None:
    """Nothing is signed for a server that does not say which ledger it keeps, where the client was not told."""
    server = Scripted(lambda _: httpx.Response(200, json={"data": data}))
    with pytest.raises(MalformedInput) as caught:
        Client(URL, KEY, transport=httpx.MockTransport(server)).account("SH530000000012")
    assert caught.value.code == "GENESIS_HASH_MISSING"
    assert [request.url.path for request in server.requests] == ["/v1/health"]


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x/path", "http://x?y=1", "nothing"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """A server's address is a scheme and an authority and nothing else."""
    with pytest.raises(MalformedInput):
        Signer(url, KEY, GENESIS_HASH)


def test_a_default_port_is_left_out() -> None:
    """The authority that is signed has no default port, as the Host header has none."""
    assert Signer("http://Node.Example:80", KEY, GENESIS_HASH).authority == "node.example"
    assert Signer("https://node.example:443/", KEY, GENESIS_HASH).authority == "node.example"
    assert Signer("https://node.example:80", KEY, GENESIS_HASH).authority == "node.example:80"


def test_lists_are_read_to_their_end() -> None:
    """A list is walked page by page by the cursor that each page gives."""
    pages = [{"data": [1, 2], "next_cursor": "7"}, {"data": [3], "next_cursor": None}]
    server = Scripted(*[lambda _, page=page: httpx.Response(200, json=page) for page in pages])
    assert list(server.client().windows()) == [1, 2, 3]
    assert [request.url.query for request in server.requests] == [b"", b"cursor=7"]


# --- against a network ------------------------------------------------------------------------------------------------


def test_quotes_and_conversion(network: Network) -> None:
    """A provider's quote lets a payment across the border arrive in the other money, and what is left goes down."""
    bank = network.client("HK", key_of("bank-HK"))
    quote = bank.quote(sell="HKD", maximum=100_000, buy="CNY", rate="1.10000000", expires="2100-01-01T00:00:00Z")
    customer = network.customer("SH")
    receipt = customer.pay(
        debtor=network.wallets["SH"]["a"],
        creditor=network.wallets["HK"]["a"],
        asset="CNY",
        amount=1000,
        creditor_asset="HKD",
        quote=quote["quote"],
    )
    assert network.settle()["state"] == "SETTLED"
    view = network.customer("HK").payment(receipt["uetr"])
    assert (view["creditor_asset"], view["creditor_amount"]) == ("HKD", "1100")
    assert bank.read_quote(quote["quote"])["left"] == "98900"


def test_a_wrong_batch_is_refused_whole(network: Network) -> None:
    """A batch with one foreign account is refused as a whole, with the item that is wrong."""
    customer, wallets = network.customer("SH"), network.wallets["SH"]
    digest = network.digest("SH")
    batch = [
        customer.payment_body(debtor=wallets[name], creditor=wallets["other"], asset="CNY", amount=1)
        for name in ("a", "b")
    ]
    with pytest.raises(ProblemError) as caught:
        customer.pay_batch(batch)
    assert (caught.value.status, caught.value.code, caught.value.fields) == (403, "NOT_OWNER", {"item": 1})
    assert network.digest("SH") == digest


def test_an_existing_file_is_not_overwritten(network: Network, tmp_path: Path) -> None:
    """An export refuses to replace a file, and leaves nothing behind when it is refused."""
    target = tmp_path / "journal.hgx"
    with pytest.raises(ProblemError):
        network.customer("SH").export_to(target)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        network.client("SH", network.keys.auditor).export_to(target)
    assert target.read_bytes() == b"mine"


def test_a_node_that_was_restarted_knows_everything(network: Network) -> None:
    """After a restart balances and answers are the same, and a retry of an old write is answered as before (I7, I8)."""
    customer, wallets = network.customer("SH"), network.wallets["SH"]
    arguments: dict[str, Any] = {
        "debtor": wallets["a"],
        "creditor": wallets["b"],
        "asset": "CNY",
        "amount": 3,
        "uetr": customer.new_id(),
        "idempotency_key": "before-the-restart",
    }
    first = customer.pay(**arguments)
    digest = network.digest("SH")
    network.servers["SH"].stop()
    with pytest.raises(ServerUnreachable):
        network.client("SH", None, try_count=1).health()
    network.start_node("SH")
    again = network.customer("SH")
    assert network.digest("SH") == digest
    assert again.pay(**arguments) == first
    assert network.digest("SH") == digest


def test_an_operator_that_was_restarted_finishes_what_it_finds(network: Network) -> None:
    """A window that was closed while the operator died is settled by the next one, which kept nothing."""
    customer = network.customer("SH")
    receipt = customer.pay(
        debtor=network.wallets["SH"]["a"], creditor=network.wallets["HK"]["other"], asset="CNY", amount=9
    )
    network.servers["operator"].stop()
    shared = network.nodes["SH"].machine.network_hash
    close = sign(CloseBody(receipt["window"]), key=network.keys.settlement, network_hash=shared, ledger="--")
    answer = network.http.post(
        network.urls["SH"] + PATH,
        content=encode_statements([close]),
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.status_code == 200
    assert customer.window(receipt["window"])["state"] == "CLOSED"
    network.start_operator()
    operator = network.client("operator", network.keys.settlement)
    deadline = time.monotonic() + READY_S_MAX
    while customer.payment(receipt["uetr"])["state"] != "SETTLED" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert operator.health()["status"] == "ok"
    assert customer.payment(receipt["uetr"])["state"] == "SETTLED"


def test_a_node_that_cannot_trust_itself_stops(network: Network) -> None:
    """After a broken invariant a node takes and shows nothing, says so with 503, and a new start heals it."""
    node, server = network.nodes["HK"], network.servers["HK"]
    digest = network.digest("HK")
    node.loop.call_soon_threadsafe(node.halt, InvariantViolation("I2: as asked"))
    customer = network.client("HK", key_of("customer-HK"), try_count=1)
    wallets = network.wallets["HK"]
    asks: list[Callable[[], Any]] = [
        customer.health,
        lambda: customer.account(wallets["a"]),
        lambda: customer.pay(debtor=wallets["a"], creditor=wallets["b"], asset="HKD", amount=1),
    ]
    deadline = time.monotonic() + READY_S_MAX
    while not node.is_halted and time.monotonic() < deadline:
        time.sleep(0.01)
    for ask in asks:
        with pytest.raises(ProblemError) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (503, "NODE_STOPPED")
    server.stop()
    network.start_node("HK")
    assert network.digest("HK") == digest
