"""A node across the network: ``settlement.port.NodePort`` and ``settlement.cosigning.CosigningPort`` over HTTP.

Reads and the steps of cosigning are signed with the settlement operator's key, statements carry their own signatures.
What the other side answers becomes the same error that it would have been in this process, so that the coordinator
cannot tell the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from gateway.client.signing import Signer
from gateway.problem_table import STATUSES
from gateway.routes.proofs import COSIGNATURES, COSIGNED, KEPT, OFFERS, TEXT
from gateway.routes.statements import PATH, decode_statements, encode_statements
from gateway.wire import BINARY
from ledger.cosigning import Offer, decode_offer, encode_offer
from ledger.errors import IntegrityFailure, LedgerError, MalformedInput, NotFound, Unavailable
from ledger.messages import Message
from ledger.runtime import Runtime
from settlement.port import PositionsView, WindowView

__all__ = ["HttpPort", "error_of"]

_KINDS = {status: kind for kind, statuses in STATUSES.items() if kind is not Unavailable for status in statuses}
_CODE_SIZE_MAX = 64
RETRY_AFTER_S = 1


class _WindowAnswer(msgspec.Struct, frozen=True):
    data: WindowView


class HttpPort:
    """One node, reached by HTTP."""

    def __init__(
        self, ledger: str, base_url: str, *, client: httpx.AsyncClient, signer: Signer, runtime: Runtime
    ) -> None:
        """Reach the node of ``ledger``.

        Args:
            ledger: the code of its ledger.
            base_url: its scheme and authority.
            client: what carries requests; its timeouts count. It belongs to whoever made it.
            signer: signs for this very server.
            runtime: the clock of signatures, and threads.
        """
        self._ledger = ledger
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._signer = signer
        self._runtime = runtime

    @property
    def ledger(self) -> str:
        """The code of its ledger."""
        return self._ledger

    async def window(self, number: int | None) -> WindowView:
        """Give a window, the open one for ``None``; see ``NodePort``."""
        name = "open" if number is None else str(number)
        return self._decode(await self._get(f"/v1/windows/{name}/statements"), _WindowAnswer).data

    async def positions(self, number: int) -> PositionsView:
        """Give what a window's payments do there; see ``NodePort``."""
        content = await self._get(f"/v1/windows/{number}/positions")
        try:
            return msgspec.msgpack.decode(content, type=PositionsView)
        except (msgspec.DecodeError, ValueError) as error:
            raise self._strange() from error

    async def deliver(self, statements: Sequence[Message]) -> list[Message]:
        """Hand statements in; see ``NodePort``."""
        body = await self._runtime.offload(encode_statements, statements)
        content = await self._send("POST", PATH, {"content-type": BINARY.decode("ascii")}, body)
        try:
            return await self._runtime.offload(decode_statements, content)
        except MalformedInput as error:
            raise self._strange() from error

    async def cosigned(self) -> bytes:
        """Give the checkpoint of the other log that the node has cosigned last; see ``CosigningPort``."""
        try:
            return await self._send("GET", COSIGNED, {}, None)
        except NotFound:
            return b""

    async def offer(self, known: bytes) -> Offer:
        """Ask for the node's newest checkpoint; see ``CosigningPort``."""
        content = await self._post(OFFERS, TEXT, known)
        try:
            return decode_offer(content)
        except MalformedInput as error:
            raise self._strange() from error

    async def cosign(self, offer: Offer) -> bytes:
        """Ask for a cosignature; see ``CosigningPort``."""
        return await self._post(COSIGNATURES, BINARY, encode_offer(offer))

    async def keep(self, note: bytes) -> None:
        """Hand a cosigned checkpoint over; see ``CosigningPort``."""
        await self._post(KEPT, TEXT, note)

    async def _post(self, path: str, media_type: bytes, body: bytes) -> bytes:
        """Take a step of the exchange: a signed write, which the node does not remember."""
        outgoing = self._signer.post(
            path,
            body,
            idempotency_key=str(self._runtime.uuid4()),
            now_ns=self._runtime.now_ns(),
            content_type=media_type.decode("ascii"),
        )
        return await self._send(outgoing.method, outgoing.target, outgoing.headers, outgoing.body)

    async def _get(self, path: str) -> bytes:
        outgoing = self._signer.get(path, now_ns=self._runtime.now_ns())
        return await self._send("GET", outgoing.target, outgoing.headers, None)

    async def _send(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> bytes:
        """Make one exchange; gives the answer's body.

        Raises:
            Unavailable: no answer, or none that says what is wrong.
            LedgerError: what the node says is wrong.
        """
        try:
            response = await self._client.request(method, self._base_url + target, headers=headers, content=body)
        except httpx.TransportError as error:
            raise Unavailable(
                "NODE_UNREACHABLE", "A node cannot be reached.", ledger=self._ledger, retry_after_s=RETRY_AFTER_S
            ) from error
        if response.status_code != 200:
            raise error_of(response.status_code, response.content, ledger=self._ledger)
        return response.content

    def _decode(self, content: bytes, kind: type[_WindowAnswer]) -> _WindowAnswer:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, ValueError) as error:
            raise self._strange() from error

    def _strange(self) -> IntegrityFailure:
        return IntegrityFailure("ANSWER_MALFORMED", "A node's answer cannot be read.", ledger=self._ledger)


def error_of(status: int, content: bytes, *, ledger: str) -> LedgerError:
    """Make the error that a problem stands for; whatever is not understood is an ``Unavailable``."""
    try:
        problem: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, ValueError):
        problem = None
    code = problem.get("code") if isinstance(problem, dict) else None
    kind = _KINDS.get(status)
    if kind is None or not isinstance(code, str) or len(code) > _CODE_SIZE_MAX:
        return Unavailable(
            "NODE_UNAVAILABLE", "A node cannot answer now.", ledger=ledger, status=status, retry_after_s=RETRY_AFTER_S
        )
    return kind(code, str(problem.get("title", "")), ledger=ledger)
