"""What the tests of signatures share: a published key, a write and a read, and any request the profile allows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from ledger import signatures
from ledger.errors import LedgerError
from ledger.signatures import SignedRequest

TESTS = Path(__file__).parents[1]
VECTORS = json.loads((TESTS / "vectors" / "signatures.json").read_text("utf-8"))
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["rfc8032"][0]["seed"]))
PUBLIC = KEY.public_key().public_bytes_raw()
CREATED = 1750233600

WRITE = SignedRequest(
    method="POST",
    authority="sh.hugang.example",
    path="/v1/payments",
    query="",
    content_type="application/json",
    content_digest=signatures.content_digest(b"{}"),
    idempotency_key="order-1",
    created=CREATED,
    expires=CREATED + 60,
    key_id=signatures.key_id(PUBLIC),
    genesis_hash=bytes.fromhex(VECTORS["ours"][0]["request"]["genesis_hash"]),
)
READ = dataclasses.replace(
    WRITE,
    method="GET",
    path="/v1/accounts",
    query="limit=20",
    content_type="",
    content_digest=b"",
    idempotency_key="",
)

Headers = list[tuple[bytes, bytes]]


def base_of(request: SignedRequest) -> bytes:
    """Write a request's base from its fields."""
    return signatures.signature_base(**dataclasses.asdict(request))


def headers_of(request: SignedRequest) -> Headers:
    """Sign a request and give its header fields as they arrive."""
    base = base_of(request)
    fields = signatures.headers_for(base, signatures.sign(KEY, base))
    return [(b"host", b"ignored.example"), *((name.lower().encode(), fields[name].encode()) for name in fields)]


def received(request: SignedRequest, headers: Headers) -> tuple[bytes, bytes]:
    """Read a request as it arrived with these header fields."""
    return signatures.base_from_headers(request.method, request.authority, request.path, request.query, headers)


def changed(headers: Headers, name: str, value: str | None) -> Headers:
    """Put another value on a header field, or take it away."""
    kept = [pair for pair in headers if pair[0] != name.encode()]
    return kept if value is None else [*kept, (name.encode(), value.encode("latin-1"))]


def code_of(error: pytest.ExceptionInfo[LedgerError]) -> tuple[str, object]:
    """Give an error's code and the part it names."""
    return error.value.code, error.value.fields.get("part")


def _text(alphabet: str, size_max: int, *, size_min: int = 1) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=size_min, max_size=size_max)


visible = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
path_signs = "abcXYZ019._~!$&'()*+,;=:@/-"
writes = st.builds(
    SignedRequest,
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    authority=st.sampled_from(["sh.hugang.example", "localhost:8080", "[::1]:8443", "10.0.0.1"]),
    path=_text(path_signs, 40).map(lambda text: f"/{text}"),
    query=_text(path_signs + "?", 40, size_min=0).map(lambda text: f"{text}%2F" if text else text),
    content_type=st.sampled_from(
        ["application/json", "text/csv; charset=utf-8", 'application/xml;profile="pacs.008"', "a/b ; c=d;e=f"]
    ),
    content_digest=st.binary(min_size=32, max_size=32),
    idempotency_key=_text(visible, 128),
    created=st.integers(0, 10**12 - 1),
    expires=st.integers(0, 10**12 - 1),
    key_id=_text("0123456789abcdef", 64, size_min=64),
    genesis_hash=st.binary(min_size=32, max_size=32),
    parameters=st.permutations(signatures.PARAMETERS).map(tuple),
)
reads = writes.map(
    lambda request: dataclasses.replace(request, method="GET", content_type="", content_digest=b"", idempotency_key="")
)
requests = st.one_of(writes, reads)
