"""Requests as they arrive: their header fields, and another implementation of RFC 9421 as second opinion."""

from __future__ import annotations

import base64
import dataclasses
from datetime import UTC, datetime
from typing import Any

import http_message_signatures as standard
import pytest
from http_message_signatures.exceptions import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st

from ledger import signatures
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.signatures import Profile, SignedRequest
from tests.unit.signed import (
    KEY,
    PUBLIC,
    READ,
    VECTORS,
    WRITE,
    Headers,
    base_of,
    changed,
    code_of,
    headers_of,
    received,
    requests,
)

# --- another implementation as second opinion -------------------------------------------------------------------------


class Message:
    """A request as the other implementation wants to see it."""

    def __init__(self, request: SignedRequest, headers: dict[str, str], *, scheme: str = "https") -> None:
        """Give it method, URL and header fields."""
        self.method = request.method
        query = f"?{request.query}" if request.query else ""
        self.url = f"{scheme}://{request.authority}{request.path}{query}"
        self.headers = headers


class Verifier(standard.HTTPMessageVerifier):
    """The other implementation, without its clock: times have their own tests."""

    def validate_created_and_expires(self, sig_input: object, max_age: object = None) -> None:
        """Take any times."""


def _keys() -> standard.HTTPSignatureKeyResolver:
    name = signatures.key_id(PUBLIC)
    return standard.MappingKeyResolver(public_keys={name: KEY.public_key()}, private_keys={name: KEY})


def _verified_elsewhere(message: Message, genesis_hash: bytes) -> list[standard.VerifyResult]:
    verifier = Verifier(signature_algorithm=standard.algorithms.ED25519, key_resolver=_keys())
    tag = f"hugang/1:{genesis_hash.hex()}"
    return verifier.verify(message, max_age=None, expect_tag=tag, expect_label="hugang")


@given(request=requests)
def test_another_implementation_accepts_ours(request: SignedRequest) -> None:
    """Whatever we sign, an independent implementation of RFC 9421 rebuilds the same base and verifies."""
    request = dataclasses.replace(request, key_id=signatures.key_id(PUBLIC))
    base = base_of(request)
    message = Message(request, signatures.headers_for(base, signatures.sign(KEY, base)))
    (result,) = _verified_elsewhere(message, request.genesis_hash)
    assert list(result.covered_components)[:-1] == [f'"{name}"' for name in request.profile.value]
    lines = "\n".join(f"{name}: {value}" for name, value in result.covered_components.items())
    assert lines.encode() == base


def test_another_implementation_refuses_ours_when_changed() -> None:
    """The second opinion is one: it refuses our signature under another path."""
    base = base_of(WRITE)
    fields = signatures.headers_for(base, signatures.sign(KEY, base))
    message = Message(dataclasses.replace(WRITE, path="/v1/batches"), fields)
    with pytest.raises(InvalidSignature):
        _verified_elsewhere(message, WRITE.genesis_hash)


ELSEWHERE = tuple(VECTORS["another_order"]["parameters"])
"""The order in which the other implementation writes the parameters; it cannot be told another."""


def signed_elsewhere(message: Message, request: SignedRequest, **body: Any) -> Headers:
    """Sign with nothing but the other implementation's public ``sign``; gives the header fields as they arrive."""
    signer = standard.HTTPMessageSigner(signature_algorithm=standard.algorithms.ED25519, key_resolver=_keys())
    signer.sign(
        message,
        key_id=signatures.key_id(PUBLIC),
        created=datetime.fromtimestamp(request.created, UTC),
        expires=datetime.fromtimestamp(request.expires, UTC),
        label=signatures.LABEL,
        tag=f"hugang/1:{request.genesis_hash.hex()}",
        covered_component_ids=request.profile.value,
        **body,
    )
    return [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]


@given(request=requests)
def test_we_accept_another_implementation(request: SignedRequest) -> None:
    """Whatever the independent implementation signs, told our components and tag, is accepted in its own order."""
    moments = {name: getattr(request, name) % 2**37 for name in ("created", "expires")}
    request = dataclasses.replace(request, key_id=signatures.key_id(PUBLIC), parameters=ELSEWHERE, **moments)
    headers, digest = {}, base64.b64encode(request.content_digest).decode()
    is_write = request.profile is Profile.WRITE
    if is_write:
        headers = {
            "Content-Type": request.content_type,
            "Content-Digest": f"sha-256=:{digest}:",
            "Idempotency-Key": f'"{request.idempotency_key}"',
        }
    arrived = signed_elsewhere(Message(request, headers), request, use_existing_digest=is_write)
    base, signature = received(request, arrived)
    assert signatures.parse_signature_base(base) == request
    assert base_of(request) == base
    signatures.verify(PUBLIC, signature, base)


def test_another_implementation_makes_the_golden_signature() -> None:
    """The vector with the parameters in another order is what the independent implementation signs over its body."""
    case = VECTORS["another_order"]
    body = case["body"].encode()
    request = signatures.parse_signature_base(case["base"].encode())
    headers = {name: case["headers"][name] for name in ("Content-Type", "Idempotency-Key")}
    arrived = signed_elsewhere(Message(request, headers), request, body=body)
    assert {name.decode().title(): value.decode() for name, value in arrived} == case["headers"]
    base, signature = received(request, arrived)
    assert (base.decode(), signature.hex()) == (case["base"], case["signature"])
    assert request.parameters == ELSEWHERE != signatures.PARAMETERS
    signatures.check_digest(request, body)


# --- header fields ----------------------------------------------------------------------------------------------------


@given(request=requests)
def test_headers_give_the_base_back(request: SignedRequest) -> None:
    """What was signed is rebuilt from the request as it arrives, whatever other header fields there are."""
    base, signature = received(request, headers_of(request))
    assert base == base_of(request)
    signatures.verify(PUBLIC, signature, base)


def test_the_authority_is_lowered() -> None:
    """A host written in upper case is the same authority, but letters that only become ASCII when lowered are not."""
    assert signatures.base_from_headers("POST", "SH.Hugang.Example", "/v1/payments", "", headers_of(WRITE))[
        0
    ] == base_of(WRITE)
    kelvin = dataclasses.replace(WRITE, authority="k.example")
    with pytest.raises(MalformedInput):
        signatures.base_from_headers("POST", "\u212a.example", "/v1/payments", "", headers_of(kelvin))


@pytest.mark.parametrize("name", ["signature", "signature-input"])
def test_an_unsigned_request(name: str) -> None:
    """A request without signature fields is unauthenticated, not malformed."""
    with pytest.raises(Unauthenticated) as caught:
        received(WRITE, changed(headers_of(WRITE), name, None))
    assert caught.value.code == "SIGNATURE_MISSING"


@pytest.mark.parametrize("name", ["content-type", "content-digest", "idempotency-key"])
def test_a_covered_field_is_missing(name: str) -> None:
    """A write without one of the covered fields is refused, and the error names it."""
    with pytest.raises(MalformedInput) as caught:
        received(WRITE, changed(headers_of(WRITE), name, None))
    assert code_of(caught) == ("SIGNATURE_PROFILE", name)


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-type", "content-digest", "idempotency-key"])
def test_a_covered_field_is_doubled(name: str) -> None:
    """A field that matters and stands there twice is refused, even with the same value and in another case."""
    headers = headers_of(WRITE)
    (again,) = [pair for pair in headers if pair[0] == name.encode()]
    with pytest.raises(MalformedInput) as caught:
        received(WRITE, [*headers, (again[0].title(), again[1])])
    assert code_of(caught) == ("SIGNATURE_PROFILE", name)


SIGNATURE_TEXT = signatures.headers_for(base_of(WRITE), bytes(64))["Signature"]
INPUT_TEXT = signatures.headers_for(base_of(WRITE), bytes(64))["Signature-Input"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature", ""),
        ("signature", "hugang"),
        ("signature", SIGNATURE_TEXT.replace("hugang", "sig1")),
        ("signature", f"{SIGNATURE_TEXT}, other=:AAAA:"),
        ("signature", f"other=:AAAA:, {SIGNATURE_TEXT}"),
        ("signature", f" {SIGNATURE_TEXT}"),
        ("signature", f"{SIGNATURE_TEXT} "),
        ("signature", SIGNATURE_TEXT.replace("==", "")),
        ("signature", SIGNATURE_TEXT.replace("AA==", "AB==")),
        ("signature", SIGNATURE_TEXT.replace("AAAA==", "==")),
        ("signature", SIGNATURE_TEXT.replace("AA==", "AA*=")),
        ("signature", SIGNATURE_TEXT + ";p=1"),
        ("signature", "hugang=:é:"),
        ("signature", "hugang=::"),
        ("signature", "hugang=?1"),
        ("signature-input", ""),
        ("signature-input", "hugang"),
        ("signature-input", INPUT_TEXT.replace("hugang=(", "sig1=(")),
        ("signature-input", f"{INPUT_TEXT}, {INPUT_TEXT}"),
        ("signature-input", f"{INPUT_TEXT} "),
        ("signature-input", INPUT_TEXT.replace("(", "( ")),
        ("signature-input", INPUT_TEXT.replace('"idempotency-key"', '"idempotency-key";sf')),
        ("signature-input", INPUT_TEXT + "é"),
        ("signature-input", f"{INPUT_TEXT};created=1750233600"),
        ("signature-input", f'{INPUT_TEXT};nonce="n"'),
        ("signature-input", INPUT_TEXT.replace(';alg="ed25519"', "")),
        ("signature-input", INPUT_TEXT.replace(";created", "; created")),
        ("idempotency-key", "order-1"),
        ("idempotency-key", '"order-1'),
        ("idempotency-key", '"order-1";a'),
        ("idempotency-key", '""'),
        ("idempotency-key", '"'),
        ("idempotency-key", '"order 1"'),
        ("content-digest", "sha-512=:AAAA:"),
        ("content-digest", "sha-256=:AAAA:"),
        ("content-type", "application/json\n"),
        ("content-type", "x" * 5000),
    ],
)
def test_fields_outside_the_profile(name: str, value: str) -> None:
    """Another label, a second signature, spare bits, unquoted keys: refused before any key is looked up."""
    with pytest.raises(MalformedInput) as caught:
        received(WRITE, changed(headers_of(WRITE), name, value))
    assert caught.value.code == "SIGNATURE_PROFILE"


@pytest.mark.parametrize(("signed", "sent"), [(READ, "POST"), (WRITE, "GET")])
def test_the_method_decides_what_is_covered(signed: SignedRequest, sent: str) -> None:
    """A read's signature on a write, and a write's on a read, are refused."""
    headers = headers_of(signed)
    if sent == "POST":
        headers += [pair for pair in headers_of(WRITE) if pair[0].startswith((b"content", b"idempotency"))]
    with pytest.raises(MalformedInput):
        signatures.base_from_headers(sent, signed.authority, signed.path, signed.query, headers)


def test_another_method_changes_the_base() -> None:
    """A write that arrives under another method is rebuilt as such, so the signature does not hold."""
    base, signature = signatures.base_from_headers("PUT", WRITE.authority, WRITE.path, "", headers_of(WRITE))
    with pytest.raises(Unauthenticated):
        signatures.verify(PUBLIC, signature, base)


@given(data=st.data(), request=requests)
def test_changed_headers_are_never_accepted(data: st.DataObject, request: SignedRequest) -> None:
    """With any byte of a relevant field changed the request is refused, by form or by signature."""
    headers = headers_of(request)
    which = data.draw(st.integers(1, len(headers) - 1))
    name, value = headers[which]
    at = data.draw(st.integers(0, len(value) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda code: code != value[at]))
    headers[which] = (name, value[:at] + bytes([byte]) + value[at + 1 :])
    with pytest.raises(LedgerError):
        signatures.verify(PUBLIC, *reversed(received(request, headers)))


@given(
    method=st.text(max_size=8),
    target=st.text(max_size=30),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"Signature", b"signature-input", b"content-type", b"content-digest", b"idempotency-key"]),
            st.binary(max_size=60),
        ),
        max_size=6,
    ),
)
def test_garbage_requests_are_ledger_errors(method: str, target: str, headers: Headers) -> None:
    """Arbitrary requests are refused, with nothing but a ledger error."""
    with pytest.raises(LedgerError):
        signatures.base_from_headers(method, target, target, target, headers)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size: int) -> None:
    """Header fields are not made for a signature of another size, and never read as one."""
    with pytest.raises(MalformedInput):
        signatures.headers_for(base_of(WRITE), bytes(size))
    text = f"hugang=:{base64.b64encode(bytes(size)).decode()}:"
    with pytest.raises(MalformedInput):
        received(WRITE, changed(headers_of(WRITE), "signature", text))
