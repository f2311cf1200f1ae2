"""The client for plain code: one method a request; each returns what the server put into ``data``.

A write is sent with an idempotency key, a new one unless the caller names it. When no answer comes, or the server says
that it cannot answer now (503), the same key and body are sent again with a fresh signature, a bounded number of times:
the server carries a key out at most once.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.client.book import BookTransfers
from gateway.client.errors import AnswerMalformed, ClientError, ProblemError, ServerUnreachable
from gateway.client.signing import Outgoing, Signer, query_text
from ledger.errors import MalformedInput
from ledger.messages import public_bytes
from ledger.runtime import Runtime, SystemRuntime

__all__ = ["Client"]

Data = dict[str, Any]

TIMEOUT_S = 60
TRY_COUNT = 6
BACKOFF_MS = 100
BACKOFF_MS_MAX = 5_000


class Client:
    """Talks to one node, or to the settlement operator, with one key. Not thread-safe; use as a context manager."""

    def __init__(
        self,
        base_url: str,
        private_key: Ed25519PrivateKey | None = None,
        genesis_hash: bytes | None = None,
        *,
        runtime: Runtime | None = None,
        try_count: int = TRY_COUNT,
        timeout_s: int = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        """Open a client; nothing is sent yet. A missing ``genesis_hash`` is asked for once, at the first signature.

        Args:
            base_url: scheme and authority of the server.
            private_key: who signs; without one only public answers can be read.
            genesis_hash: the SHA-256 of the genesis document of the server's ledger, to which every signature is
                bound; for the settlement operator, that of either ledger. By default what the server says, which
                trusts the server.
            runtime: clock and ids.
            try_count: how often one request is sent at most.
            timeout_s: how long one exchange may take.
            transport: what carries requests; by default the network, and for plain HTTP without a proxy.
            pause: how to wait between two tries, in seconds; by default through the runtime.
        """
        self.base_url = base_url.rstrip("/")
        self._private_key = private_key
        self._genesis_hash = genesis_hash
        self._runtime = runtime or SystemRuntime()
        self._pause = pause or self._sleep
        self._try_count = try_count
        if transport is None and self.base_url.startswith("http://"):
            # Plain HTTP needs no certificates, and loading them takes longer than most programs run.
            transport = httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout_s, transport=transport)
        self._signer: Signer | None = None

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    @property
    def signer(self) -> Signer:
        """What signs this client's requests.

        Raises:
            MalformedInput: the client was made without a key, or with an address that is none; or it was made without a
                genesis hash, and the server does not say any.
        """
        if self._signer is None:
            if self._private_key is None:
                raise MalformedInput("KEY_MISSING", "A client without a private key can only read what is public.")
            genesis_hash = self._genesis_hash if self._genesis_hash is not None else self._asked_hash()
            self._signer = Signer(self.base_url, self._private_key, genesis_hash)
        return self._signer

    # --- registration -------------------------------------------------------------------------------------------------

    def register_parties(self, parties: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> Data:
        """Register parties, each with ``code``, ``name``, ``roles`` and ``public_key`` in hex; the registrar signs."""
        return self._post("/v1/parties", {"parties": list(parties)}, idempotency_key)

    def register_key(self, *, party: str, public_key: str, idempotency_key: str | None = None) -> Data:
        """Give a party one more key, in hex."""
        return self._post("/v1/keys", {"party": party, "public_key": public_key}, idempotency_key)

    def revoke_key(self, key_id: str, *, idempotency_key: str | None = None) -> Data:
        """Revoke a key by its id."""
        return self._post("/v1/keys/revocations", {"key_id": key_id}, idempotency_key)

    def rotate_key(self, private_key: Ed25519PrivateKey, *, idempotency_key: str | None = None) -> Data:
        """Replace the signing key by another one, with which this client signs from then on.

        Where the answer to an earlier try was lost, the old key may be revoked already: then the new one asks.

        Raises:
            ProblemError: the server said no; the client goes on with the key it had.
        """
        body, key = {"public_key": public_bytes(private_key).hex()}, idempotency_key or self.new_id()
        data: Data | None = None
        try:
            data = self._post("/v1/keys/rotations", body, key)
        except ProblemError as error:
            if error.code != "KEY_REVOKED":
                raise
        before, self._signer = self.signer, Signer(self.base_url, private_key, self.signer.genesis_hash)
        try:
            return data if data is not None else self._post("/v1/keys/rotations", body, key)
        except ClientError:
            self._signer = before
            raise

    def join(self, assets: Iterable[str], *, idempotency_key: str | None = None) -> Data:
        """Open the signer's accounts as a participant in some assets."""
        return self._post("/v1/participants", {"assets": list(assets)}, idempotency_key)

    def open_accounts(
        self, accounts: Iterable[tuple[str, str]], *, klass: str | None = None, idempotency_key: str | None = None
    ) -> Data:
        """Open customer accounts on the signer's book, all of one class or none; each an owner's code and an asset."""
        more = {} if klass is None else {"class": klass}
        items = [{"owner": owner, "asset": asset, **more} for owner, asset in accounts]
        return self._post("/v1/accounts", {"accounts": items}, idempotency_key)

    def set_classes(self, accounts: Mapping[str, str | None], *, idempotency_key: str | None = None) -> Data:
        """Give wallets on the signer's book a class each, by address, or take it away."""
        items = [{"account": address, "class": klass} for address, klass in accounts.items()]
        return self._post("/v1/accounts/classes", {"accounts": items}, idempotency_key)

    def close_accounts(self, accounts: Iterable[str], *, idempotency_key: str | None = None) -> Data:
        """Close empty accounts on the signer's book, by their addresses."""
        return self._post("/v1/accounts/closings", {"accounts": list(accounts)}, idempotency_key)

    def reopen_accounts(self, accounts: Iterable[str], *, idempotency_key: str | None = None) -> Data:
        """Open closed accounts on the signer's book again."""
        return self._post("/v1/accounts/reopenings", {"accounts": list(accounts)}, idempotency_key)

    # --- money --------------------------------------------------------------------------------------------------------

    def issue(
        self,
        *,
        participant: str,
        asset: str,
        amount: int,
        identifier: str | None = None,
        idempotency_key: str | None = None,
    ) -> Data:
        """Issue money to a participant; ``amount`` is in minor units, ``identifier`` a new UUID unless given."""
        item = {"id": identifier or self.new_id(), "participant": participant, "money": _money(asset, amount)}
        return self._post("/v1/issuances", {"issuances": [item]}, idempotency_key)

    def bring_rules(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> Data:
        """Bring one version of a rule set, as ``settlement.rules.body`` gives it; the registrar signs."""
        return self._post("/v1/rules", dict(body), idempotency_key)

    def advance_clock(self, advance_s: int, *, idempotency_key: str | None = None) -> Data:
        """Move a ledger's test clock on by so many seconds; the registrar signs."""
        return self._post("/v1/clock", {"advance_s": advance_s}, idempotency_key)

    def set_caps(self, caps: Iterable[tuple[str, str, int | None]], *, idempotency_key: str | None = None) -> Data:
        """Cap what participants may owe to windows; each cap is a participant, an asset, and minor units or none."""
        items = [
            {"participant": participant, "asset": asset, "maximum": None if maximum is None else str(maximum)}
            for participant, asset, maximum in caps
        ]
        return self._post("/v1/caps", {"caps": items}, idempotency_key)

    def quote(
        self,
        *,
        sell: str,
        maximum: int,
        buy: str,
        rate: str,
        expires: str,
        quote: str | None = None,
        idempotency_key: str | None = None,
    ) -> Data:
        """Publish a quote: the signer pays up to ``maximum`` minor units of ``sell`` for ``buy``.

        Args:
            sell: the asset the provider pays.
            maximum: minor units of it at most.
            buy: the asset the provider receives.
            rate: sold minor units for each bought one, eight decimal places.
            expires: RFC 3339, whole seconds, UTC.
            quote: its id, a new UUID unless given.
            idempotency_key: a new one unless given.
        """
        body = {
            "quote": quote or self.new_id(),
            "sell": _money(sell, maximum),
            "buy": buy,
            "rate": rate,
            "expires": expires,
        }
        return self._post("/v1/quotes", body, idempotency_key)

    def pay(
        self,
        *,
        debtor: str,
        creditor: str,
        asset: str,
        amount: int,
        uetr: str | None = None,
        idempotency_key: str | None = None,
        **optional: Any,
    ) -> Data:
        """Pay ``amount`` minor units of ``asset`` from the signer's account ``debtor`` to the account ``creditor``.

        Args:
            debtor: address of the account to be debited.
            creditor: address of the payee's account, on either ledger.
            asset: what leaves the debtor.
            amount: minor units of it.
            uetr: the payment's name, a new UUID unless given.
            idempotency_key: a new one unless given.
            **optional: further fields of the payment: ``creditor_asset``, ``quote``, ``fee`` (minor units of
                ``asset``), ``refund_of``, ``purpose``, ``reference``, ``value_date``.

        Raises:
            ProblemError: refused (``status`` 422), among others.
        """
        body = self.payment_body(debtor=debtor, creditor=creditor, asset=asset, amount=amount, uetr=uetr, **optional)
        return self._post("/v1/payments", body, idempotency_key)

    def payment_body(
        self, *, debtor: str, creditor: str, asset: str, amount: int, uetr: str | None = None, **optional: Any
    ) -> Data:
        """Build one payment as ``pay`` sends it and ``pay_batch`` takes it."""
        body: Data = {
            "uetr": uetr or self.new_id(),
            "debtor": debtor,
            "creditor": creditor,
            "money": _money(asset, amount),
        }
        fee = optional.pop("fee", None)
        if fee is not None:
            body["fee"] = _money(asset, fee)
        body.update({name: value for name, value in optional.items() if value is not None})
        return body

    def pay_batch(self, payments: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> Data:
        """Send many payments under one signature; the results are read by ``batch_results``."""
        return self._post("/v1/batches", {"payments": list(payments)}, idempotency_key)

    def batch_results(self, position: int) -> Iterator[Data]:
        """Read the result of every payment of a batch, in order."""
        return self._pages(f"/v1/batches/{position}/results", {})

    def book_transfers(self) -> BookTransfers:
        """Begin a message of book transfers; nothing is sent before ``transfer_columns``."""
        return BookTransfers(self.new_id)

    def transfer_columns(self, columns: bytes, *, idempotency_key: str | None = None) -> Data:
        """Move money inside one book by binary columns, as ``BookTransfers`` or ``ledger.columns`` writes them."""
        response = self.post(
            "/v1/transfers", columns, idempotency_key=idempotency_key, content_type="application/octet-stream"
        )
        data: Data = self._data(response)
        return data

    def cancel(self, uetr: str, *, idempotency_key: str | None = None) -> Data:
        """Cancel a payment of the signer's that no window has bound yet."""
        return self._post("/v1/cancellations", {"uetr": uetr}, idempotency_key)

    # --- reads --------------------------------------------------------------------------------------------------------

    def payment(self, uetr: str) -> Data:
        """Read a payment that the signer made or received."""
        return self._get(f"/v1/payments/{uetr}")

    def payment_by_key(self, idempotency_key: str) -> Data:
        """Read what the signer once asked for under an idempotency key."""
        return self._get("/v1/payments", {"idempotency_key": idempotency_key})

    def accounts(self) -> Iterator[Data]:
        """Read all accounts that the signer may see."""
        return self._pages("/v1/accounts", {})

    def account(self, address: str, *, as_of: int | str | None = None) -> Data:
        """Read one account with its balances; ``as_of`` a position or an instant, only those as they were then."""
        return self._get(f"/v1/accounts/{address}", None if as_of is None else {"as_of": as_of})

    def records(self, address: str, *, limit: int | None = None) -> Iterator[Data]:
        """Read an account's records, the newest first; ``limit`` is the size of one page."""
        return self._pages(f"/v1/accounts/{address}/records", {"limit": limit})

    def history(
        self,
        address: str,
        *,
        since: str | None = None,
        to: str | None = None,
        code: str | None = None,
        counterparty: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Data]:
        """Read an account's records between two instants, by purpose or other side, the newest first."""
        chosen = {"from": since, "to": to, "code": code, "counterparty": counterparty, "limit": limit}
        return self._pages(f"/v1/accounts/{address}/history", chosen)

    def transfer(self, identifier: str, *, party: str | None = None) -> Data:
        """Read what became of an id of the signer's, or, as an auditor, of another party's."""
        return self._get(f"/v1/transfers/{identifier}", None if party is None else {"party": party})

    def block_of(self, position: int) -> Data:
        """Read the header of the block that holds a position."""
        return self._get("/v1/blocks", {"position": position}, signed=False)

    def trial_balance(self) -> Data:
        """Read debits and credits of all accounts, per asset, with their proof of balance."""
        return self._get("/v1/trial-balance")

    def window(self, number: int) -> Data:
        """Read one window."""
        return self._get(f"/v1/windows/{number}", signed=False)

    def windows(self) -> Iterator[Data]:
        """Read all windows, the newest first."""
        return self._pages("/v1/windows", {}, signed=False)

    def certificate(self, window: int) -> bytes:
        """Read the certificate of a settled window, for ``settlement.certificate.verify``."""
        return self._bytes(f"/v1/windows/{window}/certificate")

    def anchor(self, window: int) -> bytes:
        """Read what ties a settled window's certificate to the node's journal, for ``settlement.anchors.assemble``."""
        return self._bytes(f"/v1/windows/{window}/anchor")

    def receipt(self, uetr: str, *, payer: str | None = None) -> bytes:
        """Read a payment's receipt, for ``settlement.payment_receipts.verify``.

        Args:
            uetr: which payment.
            payer: the payer's party code, where the signer is the payee inside one ledger.
        """
        return self._bytes(f"/v1/payments/{uetr}/receipt", {"payer": payer})

    def balance_proof(self, address: str) -> bytes:
        """Read the proof of an account's balance, for ``ledger.sealed.verify_balance``."""
        return self._bytes(f"/v1/accounts/{address}/balance-proof")

    def read_quote(self, quote: str) -> Data:
        """Read a quote and what is left of it."""
        return self._get(f"/v1/quotes/{quote}", signed=False)

    def participants(self) -> Iterator[Data]:
        """Read all participants of the ledger."""
        return self._pages("/v1/participants", {}, signed=False)

    def rules(self) -> Iterator[Data]:
        """Read the versions of all rule sets of the ledger."""
        return self._pages("/v1/rules", {}, signed=False)

    def block(self, height: int) -> Data:
        """Read one block's header."""
        return self._get(f"/v1/blocks/{height}", signed=False)

    def health(self) -> Data:
        """Read whether the server takes messages, and where its journal stands."""
        return self._get("/v1/health", signed=False)

    def genesis(self) -> Data:
        """Read the genesis document."""
        document: Data = msgspec.json.decode(self.genesis_bytes())
        return document

    def genesis_bytes(self) -> bytes:
        """Read the genesis document's canonical bytes."""
        return self._exchange(lambda: Outgoing("GET", "/v1/genesis", {}, b"")).content

    def checkpoint(self) -> str:
        """Read the node's newest checkpoint, a signed note."""
        return self._exchange(lambda: Outgoing("GET", "/v1/checkpoint", {}, b"")).text

    def cosigned_checkpoint(self) -> str:
        """Read the largest checkpoint of the node's log that the other node has cosigned."""
        return self._exchange(lambda: Outgoing("GET", "/v1/checkpoints", {}, b"")).text

    def inclusion_proof(self, position: int, *, size: int | None = None) -> Data:
        """Read the proof that a position's leaf stands in the tree of the first ``size`` leaves, by default of all."""
        return self._get("/v1/proofs/inclusion", {"position": position, "size": size}, signed=False)

    def consistency_proof(self, old_size: int, new_size: int | None = None) -> Data:
        """Read the proof that the first ``new_size`` leaves, by default all, begin with the first ``old_size``."""
        return self._get("/v1/proofs/consistency", {"from": old_size, "to": new_size}, signed=False)

    def export_to(self, path: Path) -> int:
        """Write the whole journal to a new file, which appears only when it is complete; gives its size in bytes.

        Raises:
            FileExistsError: the file exists.
            ProblemError: the server said no.
            ServerUnreachable: no answer came, or not the whole of it.
        """
        if path.exists():
            raise FileExistsError(errno.EEXIST, "The file exists", str(path))
        partial = path.with_name(path.name + ".part")
        try:
            self._stream_to(partial)
        except httpx.TransportError as error:
            partial.unlink(missing_ok=True)
            raise ServerUnreachable(self.base_url, "") from error
        partial.rename(path)
        return path.stat().st_size

    # --- the settlement operator --------------------------------------------------------------------------------------

    def start_cycle(self, *, idempotency_key: str | None = None) -> Data:
        """Ask the settlement operator to settle the open window now."""
        return self._post("/v1/cycles", {}, idempotency_key)

    def cycle(self, window: int) -> Data:
        """Read how far the settlement of a window is."""
        return self._get(f"/v1/cycles/{window}", signed=False)

    def cycle_positions(self, window: int) -> list[Data]:
        """Read the net positions of a settled window; the settlement operator's own key signs."""
        found: list[Data] = self._data(self._read(f"/v1/cycles/{window}/positions", {}, signed=True))
        return found

    # --- how it is sent -----------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Give a new UUIDv4."""
        return str(self._runtime.uuid4())

    def post(
        self, path: str, content: Any, *, idempotency_key: str | None = None, content_type: str = "application/json"
    ) -> httpx.Response:
        """Sign and send any write; ``content`` is bytes or anything that JSON can carry.

        Raises:
            ProblemError: the server said no.
            ServerUnreachable: no answer came.
        """
        key = idempotency_key or self.new_id()
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        signer = self.signer
        return self._exchange(
            lambda: signer.post(
                path, body, idempotency_key=key, now_ns=self._runtime.now_ns(), content_type=content_type
            ),
            key,
        )

    def _asked_hash(self) -> bytes:
        """Ask the server to which ledger's genesis it holds requests."""
        try:
            return bytes.fromhex(str(self.health()["genesis_hash"]))
        except (KeyError, ValueError) as error:
            raise MalformedInput("GENESIS_HASH_MISSING", "The server does not say which ledger it keeps.") from error

    def _stream_to(self, path: Path) -> None:
        """Write the export as it comes; once, because it is long."""
        outgoing = self.signer.get("/v1/export", now_ns=self._runtime.now_ns())
        with self._http.stream("GET", outgoing.target, headers=outgoing.headers) as response:
            if response.status_code != 200:
                response.read()
                raise _problem(response, "")
            with path.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)

    def _post(self, path: str, content: Data, idempotency_key: str | None) -> Data:
        data: Data = self._data(self.post(path, content, idempotency_key=idempotency_key))
        return data

    def _get(self, path: str, parameters: Mapping[str, str | int | None] | None = None, *, signed: bool = True) -> Data:
        data: Data = self._data(self._read(path, parameters or {}, signed=signed))
        return data

    def _bytes(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> bytes:
        """Read what is no JSON, signed."""
        signer, query = self.signer, query_text(parameters or {})
        return self._exchange(lambda: signer.get(path, query, now_ns=self._runtime.now_ns())).content

    def _pages(self, path: str, parameters: Mapping[str, str | int | None], *, signed: bool = True) -> Iterator[Data]:
        """Walk a list page by page."""
        cursor: str | None = None
        while True:
            page = self._read(path, {**parameters, "cursor": cursor}, signed=signed)
            yield from self._data(page)
            cursor = page.json().get("next_cursor")
            if cursor is None:
                return

    def _read(self, path: str, parameters: Mapping[str, str | int | None], *, signed: bool) -> httpx.Response:
        query = query_text(parameters)
        if signed:
            signer = self.signer
            return self._exchange(lambda: signer.get(path, query, now_ns=self._runtime.now_ns()))
        target = f"{path}?{query}" if query else path
        return self._exchange(lambda: Outgoing("GET", target, {}, b""))

    def _data(self, response: httpx.Response) -> Any:
        """Give what stands in ``data``.

        Raises:
            AnswerMalformed: nothing does.
        """
        try:
            return response.json()["data"]
        except (ValueError, KeyError, TypeError) as error:
            key = response.request.headers.get("Idempotency-Key", '""')[1:-1]
            raise AnswerMalformed(self.base_url, key) from error

    def _exchange(self, make: Callable[[], Outgoing], idempotency_key: str = "") -> httpx.Response:
        """Send what ``make`` signs afresh for every try, until there is an answer that is not "later"."""
        response: httpx.Response | None = None
        for attempt in range(self._try_count):
            if attempt:
                self._pause(_backoff_s(attempt, response))
            outgoing = make()
            try:
                response = self._http.request(
                    outgoing.method, outgoing.target, headers=outgoing.headers, content=outgoing.body or None
                )
            except httpx.TransportError:
                response = None
                continue
            if response.status_code != 503:
                break
        if response is None:
            raise ServerUnreachable(self.base_url, idempotency_key)
        if response.status_code >= 400:
            raise _problem(response, idempotency_key)
        return response

    def _sleep(self, seconds: float) -> None:
        asyncio.run(self._runtime.sleep(seconds))


def _money(asset: str, amount: int) -> Data:
    return {"asset": asset, "amount": str(amount)}


def _backoff_s(attempt: int, response: httpx.Response | None) -> float:
    """Wait twice as long each time, and at least as long as the server asked, both within the bound."""
    asked_ms = 0
    if response is not None and response.headers.get("retry-after", "").isdigit():
        asked_ms = int(response.headers["retry-after"]) * 1000
    return min(BACKOFF_MS_MAX, max(asked_ms, BACKOFF_MS << (attempt - 1))) / 1000


def _problem(response: httpx.Response, idempotency_key: str) -> ProblemError:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return ProblemError(response.status_code, problem if isinstance(problem, dict) else {}, idempotency_key)
