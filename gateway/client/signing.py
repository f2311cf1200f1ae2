"""The part of the client without input and output: from a request to signed headers. Any HTTP library can send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import signatures
from ledger.errors import MalformedInput
from ledger.messages import public_bytes

__all__ = ["LIFETIME_S", "Outgoing", "Signer", "query_text"]

LIFETIME_S = 60
"""How long a signature lives, unless the signer is told otherwise; a later try signs afresh."""
JSON = "application/json"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_QUERY_SAFE = "-._~!$'()*,;:@/"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request ready to be sent: ``target`` is path and query; ``headers`` hold everything that was signed."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def idempotency_key(self) -> str:
        """The key under which a write is remembered; empty for a read."""
        return self.headers.get("Idempotency-Key", '""')[1:-1]


class Signer:
    """Signs requests to one server with one key. Holds no connection and reads no clock."""

    def __init__(
        self, base_url: str, private_key: Ed25519PrivateKey, genesis_hash: bytes, *, lifetime_s: int = LIFETIME_S
    ) -> None:
        """Bind key, server and ledger.

        Args:
            base_url: scheme and authority of the server, such as ``http://127.0.0.1:8701``.
            private_key: the party's key.
            genesis_hash: the SHA-256 of the genesis document of the node's ledger; for the settlement operator, which
                keeps no ledger, that of either.
            lifetime_s: seconds between ``created`` and ``expires``, at most ``signatures.LIFETIME_S_MAX``.

        Raises:
            MalformedInput: the URL has no authority, or more than one.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.netloc or parts.path not in ("", "/") or parts.query:
            raise MalformedInput("URL_MALFORMED", "A server's address is a scheme and an authority.", url=base_url)
        self.authority = parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme])
        self.genesis_hash = genesis_hash
        self.key_id = signatures.key_id(public_bytes(private_key))
        self.lifetime_s = lifetime_s
        self._private_key = private_key

    def post(self, path: str, content: Any, *, idempotency_key: str, now_ns: int, content_type: str = JSON) -> Outgoing:
        """Sign a write; ``content`` is encoded as JSON unless it is bytes already.

        Raises:
            MalformedInput: the path or the key is outside the signature's profile.
        """
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        created = now_ns // 10**9
        base = signatures.signature_base(
            method="POST",
            authority=self.authority,
            path=path,
            content_type=content_type,
            content_digest=signatures.content_digest(body),
            idempotency_key=idempotency_key,
            created=created,
            expires=created + self.lifetime_s,
            key_id=self.key_id,
            genesis_hash=self.genesis_hash,
        )
        return Outgoing("POST", path, signatures.headers_for(base, signatures.sign(self._private_key, base)), body)

    def get(self, path: str, query: str = "", *, now_ns: int) -> Outgoing:
        """Sign a read; ``query`` is as it is sent, without the question mark.

        Raises:
            MalformedInput: the path or the query is outside the signature's profile.
        """
        created = now_ns // 10**9
        base = signatures.signature_base(
            method="GET",
            authority=self.authority,
            path=path,
            query=query,
            created=created,
            expires=created + self.lifetime_s,
            key_id=self.key_id,
            genesis_hash=self.genesis_hash,
        )
        headers = signatures.headers_for(base, signatures.sign(self._private_key, base))
        return Outgoing("GET", f"{path}?{query}" if query else path, headers, b"")


def query_text(parameters: Mapping[str, str | int | None]) -> str:
    """Write a query in the one spelling that is signed and sent; parameters without a value are left out."""
    return "&".join(
        f"{quote(name, safe='')}={quote(str(value), safe=_QUERY_SAFE)}"
        for name, value in parameters.items()
        if value is not None
    )
