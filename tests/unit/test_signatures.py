"""The signing profile against published vectors, another implementation of RFC 9421, and all ways to bend a base."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import http_message_signatures as standard
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures.exceptions import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st

from ledger import signatures
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.signatures import Profile, SignedRequest

TESTS = Path(__file__).parents[1]
VECTORS = json.loads((TESTS / "vectors" / "signatures.json").read_text("utf-8"))
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["rfc8032"][0]["seed"]))
PUBLIC = KEY.public_key().public_bytes_raw()
CREATED = 1750233600
PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493

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
    network="hugang-demo-5f0c",
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
    network=_text("abc019", 10).map(lambda text: f"{text}.-"),
)
reads = writes.map(
    lambda request: dataclasses.replace(request, method="GET", content_type="", content_digest=b"", idempotency_key="")
)
requests = st.one_of(writes, reads)


# --- published vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["rfc8032"], ids=lambda case: case["name"])
def test_rfc_8032_vectors(case: dict[str, str]) -> None:
    """Each published key gives its published signature, and the signature verifies."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"]))
    public_key, message = bytes.fromhex(case["public_key"]), bytes.fromhex(case["message"])
    assert key.public_key().public_bytes_raw() == public_key
    assert signatures.sign(key, message).hex() == case["signature"]
    signatures.verify(public_key, bytes.fromhex(case["signature"]), message)


def test_rfc_9421_appendix_b_2_6() -> None:
    """The Ed25519 example of RFC 9421 verifies with its test key, and signing its base gives the same bytes."""
    case = VECTORS["rfc9421_b26"]
    signature = base64.b64decode(case["signature"])
    signatures.verify(bytes.fromhex(case["public_key"]), signature, case["base"].encode())
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"]))
    assert signatures.sign(key, case["base"].encode()) == signature


def test_rfc_9421_appendix_b_2_6_is_not_our_profile() -> None:
    """A good signature over other components is refused as outside the profile."""
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(VECTORS["rfc9421_b26"]["base"].encode())
    assert caught.value.code == "SIGNATURE_PROFILE"


@pytest.mark.parametrize("case", VECTORS["ours"], ids=lambda case: case["name"])
def test_our_profiles_are_golden(case: dict[str, Any]) -> None:
    """Each profile's example has its golden base, signature and header fields."""
    fields = dict(case["request"])
    if "content_digest" in fields:
        fields["content_digest"] = bytes.fromhex(fields["content_digest"])
    base = signatures.signature_base(**fields)
    assert base.decode() == case["base"]
    signature = signatures.sign(KEY, base)
    assert signature.hex() == case["signature"]
    assert signatures.headers_for(base, signature) == case["headers"]
    request = signatures.parse_signature_base(base)
    assert {name: getattr(request, name) for name in fields} == fields
    signatures.check_digest(request, case["body"].encode())


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


def _verified_elsewhere(message: Message, network: str) -> list[standard.VerifyResult]:
    verifier = Verifier(signature_algorithm=standard.algorithms.ED25519, key_resolver=_keys())
    return verifier.verify(message, max_age=None, expect_tag=f"hugang/1:{network}", expect_label="hugang")


@given(request=requests)
def test_another_implementation_accepts_ours(request: SignedRequest) -> None:
    """Whatever we sign, an independent implementation of RFC 9421 rebuilds the same base and verifies."""
    request = dataclasses.replace(request, key_id=signatures.key_id(PUBLIC))
    base = base_of(request)
    message = Message(request, signatures.headers_for(base, signatures.sign(KEY, base)))
    (result,) = _verified_elsewhere(message, request.network)
    assert list(result.covered_components)[:-1] == [f'"{name}"' for name in request.profile.value]
    lines = "\n".join(f"{name}: {value}" for name, value in result.covered_components.items())
    assert lines.encode() == base


def test_another_implementation_refuses_ours_when_changed() -> None:
    """The second opinion is one: it refuses our signature under another path."""
    base = base_of(WRITE)
    fields = signatures.headers_for(base, signatures.sign(KEY, base))
    message = Message(dataclasses.replace(WRITE, path="/v1/batches"), fields)
    with pytest.raises(InvalidSignature):
        _verified_elsewhere(message, WRITE.network)


@given(request=requests)
def test_we_accept_another_implementation(request: SignedRequest) -> None:
    """A request signed by the independent implementation, with our components and parameters, is accepted."""
    request = dataclasses.replace(request, key_id=signatures.key_id(PUBLIC))
    headers = {}
    if request.profile is Profile.WRITE:
        digest = base64.b64encode(request.content_digest).decode()
        headers = {
            "Content-Type": request.content_type,
            "Content-Digest": f"sha-256=:{digest}:",
            "Idempotency-Key": f'"{request.idempotency_key}"',
        }
    message = Message(request, headers)
    signer = standard.HTTPMessageSigner(signature_algorithm=standard.algorithms.ED25519)
    parameters = {
        "created": request.created,
        "expires": request.expires,
        "keyid": request.key_id,
        "alg": "ed25519",
        "tag": f"hugang/1:{request.network}",
    }
    text, node, _ = signer._build_signature_base(
        message,
        covered_component_ids=signer._parse_covered_component_ids(request.profile.value),
        signature_params=parameters,
    )
    signature = standard.algorithms.ED25519(private_key=KEY).sign(text.encode())
    prepared = standard.PreparedSignature(text.encode(), str(node), "hugang", "ed25519")
    signer.apply(message, prepared, signature)
    arrived = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    base, found = received(request, arrived)
    assert (base, found) == (text.encode(), signature)
    assert signatures.parse_signature_base(base) == request
    signatures.verify(PUBLIC, found, base)


# --- bases ------------------------------------------------------------------------------------------------------------


@given(request=requests)
def test_a_base_has_one_reading(request: SignedRequest) -> None:
    """A base reads as what it was written from, and its profile follows from the method."""
    base = base_of(request)
    assert signatures.parse_signature_base(base) == request
    assert request.profile is (Profile.READ if request.method == "GET" else Profile.WRITE)


@given(data=st.data(), request=requests)
def test_a_reading_has_one_base(data: st.DataObject, request: SignedRequest) -> None:
    """A changed base is refused, or reads as a request that writes exactly these bytes again."""
    base = bytearray(base_of(request))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(base) - 1))
        base[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        again = signatures.parse_signature_base(bytes(base))
    except MalformedInput:
        return
    assert base_of(again) == bytes(base)


@given(data=st.data(), request=requests)
def test_a_changed_base_is_never_accepted(data: st.DataObject, request: SignedRequest) -> None:
    """A base with any byte changed, inserted or removed is refused by form or by signature."""
    base = base_of(request)
    signature = signatures.sign(KEY, base)
    at = data.draw(st.integers(0, len(base) - 1))
    other = base[:at] + data.draw(st.binary(max_size=2)) + base[at + data.draw(st.integers(0, 1)) :]
    if other == base:
        return
    with pytest.raises(LedgerError):
        signatures.verify(PUBLIC, signature, other)


@given(
    garbage=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
)
def test_garbage_is_no_base(garbage: bytes) -> None:
    """Arbitrary bytes are refused, with nothing but a ledger error."""
    with pytest.raises(MalformedInput):
        signatures.parse_signature_base(garbage)


@pytest.mark.parametrize("cut", [0, 1, 10, 11, 12, 100, -1])
def test_a_cut_base_is_refused(cut: int) -> None:
    """A base that ends early is refused wherever it ends."""
    with pytest.raises(MalformedInput):
        signatures.parse_signature_base(base_of(WRITE)[:cut])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"method": "post"}, "@method"),
        ({"method": "CONNECT"}, "@method"),
        ({"method": ""}, "@method"),
        ({"authority": ""}, "@authority"),
        ({"authority": "SH.hugang.example"}, "@authority"),
        ({"authority": "user@host"}, "@authority"),
        ({"authority": "host:"}, "@authority"),
        ({"authority": "host:080"}, "@authority"),
        ({"authority": "host:123456"}, "@authority"),
        ({"authority": "hé"}, None),
        ({"authority": "a" * 256}, "@authority"),
        ({"path": ""}, "@path"),
        ({"path": "v1"}, "@path"),
        ({"path": "/a b"}, "@path"),
        ({"path": "/a?b"}, "@path"),
        ({"path": "/a#b"}, "@path"),
        ({"path": "/%2"}, "@path"),
        ({"path": "/%zz"}, "@path"),
        ({"path": "/" + "a" * 1024}, "@path"),
        ({"path": "/\ud800"}, None),
        ({"query": "a b"}, "@query"),
        ({"query": "%"}, "@query"),
        ({"query": "[]"}, "@query"),
        ({"query": "a" * 2049}, "@query"),
        ({"content_type": ""}, "content-type"),
        ({"content_type": "json"}, "content-type"),
        ({"content_type": " application/json"}, "content-type"),
        ({"content_type": "application/json "}, "content-type"),
        ({"content_type": "application/json;"}, "content-type"),
        ({"content_type": "application/json; a"}, "content-type"),
        ({"content_type": 'application/json; a="\\""'}, "content-type"),
        ({"content_type": "a/" + "b" * 127}, "content-type"),
        ({"content_digest": b""}, "content-digest"),
        ({"content_digest": bytes(31)}, "content-digest"),
        ({"content_digest": bytes(33)}, "content-digest"),
        ({"idempotency_key": ""}, "idempotency-key"),
        ({"idempotency_key": "a b"}, "idempotency-key"),
        ({"idempotency_key": 'a"b'}, "idempotency-key"),
        ({"idempotency_key": "a\\b"}, "idempotency-key"),
        ({"idempotency_key": "a" * 129}, "idempotency-key"),
        ({"created": -1}, "@signature-params"),
        ({"created": 10**12}, "@signature-params"),
        ({"expires": 10**12}, "@signature-params"),
        ({"key_id": "ab"}, "@signature-params"),
        ({"key_id": "A" * 64}, "@signature-params"),
        ({"network": ""}, "@signature-params"),
        ({"network": "-a"}, "@signature-params"),
        ({"network": "Upper"}, "@signature-params"),
        ({"network": 'a";x="'}, "@signature-params"),
        ({"network": "a" * 65}, "@signature-params"),
    ],
)
def test_every_part_has_its_form(change: dict[str, Any], part: str | None) -> None:
    """A part outside its form or size is refused, and the error names the part."""
    with pytest.raises(MalformedInput) as caught:
        base_of(dataclasses.replace(WRITE, **change))
    assert code_of(caught) == ("SIGNATURE_PROFILE", part)


@pytest.mark.parametrize("field", ["content_type", "content_digest", "idempotency_key"])
def test_a_read_covers_no_content(field: str) -> None:
    """A read with content or idempotency key is refused, because nothing would cover them."""
    with pytest.raises(MalformedInput):
        base_of(dataclasses.replace(READ, **{field: getattr(WRITE, field)}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "POST\n"),
        ("authority", 'sh.hugang.example\n"@path": /'),
        ("path", '/a\n"@query": ?'),
        ("query", "a\nb"),
        ("content_type", "application/json\n"),
        ("idempotency_key", "a\nb"),
        ("network", 'a"\n'),
    ],
)
def test_no_part_breaks_the_line(field: str, value: str) -> None:
    """A line break in a part cannot make other lines of the base."""
    with pytest.raises(MalformedInput) as caught:
        base_of(dataclasses.replace(WRITE, **{field: value}))
    assert caught.value.code == "SIGNATURE_PROFILE"


def test_a_base_is_bounded() -> None:
    """The largest base of all largest parts is within the limit, and bytes beyond the limit are not even looked at."""
    largest = dataclasses.replace(
        WRITE,
        method="DELETE",
        authority="h" * 255,
        path="/" + "a" * 1023,
        query="b" * 2048,
        content_type="a/" + "b" * 126,
        idempotency_key="k" * 128,
        created=10**12 - 2,
        expires=10**12 - 1,
        network="a" * 64,
    )
    assert len(base_of(largest)) <= signatures.BASE_SIZE_MAX
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(b"x" * (signatures.BASE_SIZE_MAX + 1))
    assert code_of(caught) == ("SIGNATURE_PROFILE", None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (';alg="ed25519"', ""),
        (';alg="ed25519"', ';alg="rsa-pss-sha512"'),
        ("hugang/1:", "hugang/2:"),
        ("created=1750233600;expires=1750233660", "expires=1750233660;created=1750233600"),
        ("created=1750233600", "created=01750233600"),
        ("created=1750233600", "created=+1750233600"),
        ("created=1750233600", "created=1750233600.0"),
        ("created=1750233600", "created=\u0661"),
        (';tag="', ';nonce="n";tag="'),
        ('"@method" "@authority"', '"@authority" "@method"'),
        ('"@method" ', ""),
        ('"@query")', '"@query" "date")'),
        ('"@method" "@authority"', '"@method"  "@authority"'),
        ("\n", "\r\n"),
        ("?limit=20", "limit=20"),
        ('"@path": ', '"@path":'),
        ('"@method": GET', '"@method": GET '),
        ('"@path": /v1/accounts', '"@path": /v1/accounts\n"@path": /v1/accounts'),
    ],
)
def test_every_spelling_counts(old: str, new: str) -> None:
    """Other order, other parameters, other numbers, other lines: the base is refused."""
    text = base_of(READ).decode()
    assert old in text
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(text.replace(old, new).encode())
    assert caught.value.code == "SIGNATURE_PROFILE"


def test_a_digest_has_one_spelling() -> None:
    """A content digest whose last base64 digit has spare bits set is refused."""
    text = base_of(dataclasses.replace(WRITE, content_digest=bytes(32))).decode()
    assert "AAA=:" in text
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(text.replace("AAA=:", "AAB=:").encode())
    assert code_of(caught) == ("SIGNATURE_PROFILE", "content-digest")


@pytest.mark.parametrize("tail", [b"\n", b"\nmore", b" "])
def test_nothing_may_follow(tail: bytes) -> None:
    """Bytes after the parameters are refused."""
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(base_of(WRITE) + tail)
    assert code_of(caught) == ("SIGNATURE_PROFILE", "@signature-params")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("authority", "a." * 1500 + "\0"),
        ("authority", "[" + ":" * 3000),
        ("path", "/" * 3000 + "\0"),
        ("path", "/" + "%41a" * 750 + "%4"),
        ("query", "a?" * 1500 + "\0"),
        ("content_type", "a/" + "b" * 3000 + "\0"),
        ("content_type", "a/b" + "; a=a" * 600 + "\0"),
        ("content_type", "a/b" + ' ; a="a"' * 375 + ";"),
        ("idempotency_key", "k" * 3000),
        ("network", "a" * 3000),
    ],
)
def test_hostile_texts_cost_little(field: str, value: str) -> None:
    """Texts made to send a backtracking matcher astray are refused without trying every way to cut them."""
    with pytest.raises(MalformedInput):
        base_of(dataclasses.replace(WRITE, **{field: value}))


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


# --- keys and signatures ----------------------------------------------------------------------------------------------


@given(message=st.binary(max_size=100), bit=st.integers(0, 511))
def test_a_changed_signature_is_invalid(message: bytes, bit: int) -> None:
    """One flipped bit in a signature, and it does not hold."""
    signature = int.from_bytes(signatures.sign(KEY, message), "big") ^ 1 << bit
    with pytest.raises(Unauthenticated) as caught:
        signatures.verify(PUBLIC, signature.to_bytes(64, "big"), message)
    assert caught.value.code == "SIGNATURE_INVALID"


@pytest.mark.parametrize(("key_size", "signature_size"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)])
def test_keys_and_signatures_have_their_sizes(key_size: int, signature_size: int) -> None:
    """A key or signature of another size does not hold, and does not crash."""
    assert not signatures.is_valid(bytes([9]) * key_size, bytes(signature_size), b"")


def test_a_signature_has_one_form() -> None:
    """Adding the group order to a signature's second half, another root of the same equation, does not hold."""
    signature = signatures.sign(KEY, b"message")
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not signatures.is_valid(PUBLIC, signature[:32] + scalar.to_bytes(32, "little"), b"message")


def _curve_points_of_small_order() -> set[int]:
    """Give the y coordinates of all points P with 8 P = 0, by the curve's addition law."""
    d = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME

    def added(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
        cross = d * p[0] * q[0] * p[1] * q[1] % PRIME
        x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + cross, PRIME - 2, PRIME)
        y = (p[1] * q[1] + p[0] * q[0]) * pow(1 - cross, PRIME - 2, PRIME)
        return x % PRIME, y % PRIME

    def recovered(y: int) -> tuple[int, int] | None:
        square = (y * y - 1) * pow(d * y * y + 1, PRIME - 2, PRIME) % PRIME
        x = pow(square, (PRIME + 3) // 8, PRIME)
        if (x * x - square) % PRIME:
            x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
        return (x, y) if (x * x - square) % PRIME == 0 else None

    def times(scalar: int, point: tuple[int, int]) -> tuple[int, int]:
        result = (0, 1)
        while scalar:
            if scalar & 1:
                result = added(result, point)
            point, scalar = added(point, point), scalar >> 1
        return result

    # A point times the prime order of the large subgroup lands among the eight; some small y gives one of order eight.
    for y in range(2, 100):
        point = recovered(y)
        small = times(GROUP_ORDER, point) if point else (0, 1)
        if times(4, small) != (0, 1):
            return {times(count, small)[1] for count in range(8)}
    raise AssertionError("no generator found")


def test_weak_keys_are_all_points_of_small_order() -> None:
    """The listed y coordinates are exactly those of the curve's eight points of small order."""
    assert _curve_points_of_small_order() == signatures._SMALL_ORDER_Y


@pytest.mark.parametrize("y", [*sorted(signatures._SMALL_ORDER_Y), PRIME, PRIME + 1, PRIME + 3, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_weak_key_signs_nothing(y: int, sign: int) -> None:
    """A key of small order, or with a coordinate out of range, verifies nothing, whatever the arithmetic allows."""
    public_key = (y | sign << 255).to_bytes(32, "little")
    identity = (1).to_bytes(32, "little")
    for message in (b"", b"a", b"b", b"c", b"d", b"e", b"f", b"g"):
        assert not signatures.is_valid(public_key, identity + bytes(32), message)


def test_a_key_is_named_by_its_hash() -> None:
    """The key id is the whole SHA-256 of the raw public key in lower-case hex."""
    assert signatures.key_id(PUBLIC) == "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"


# --- digest, network, time --------------------------------------------------------------------------------------------


def test_the_body_is_the_one_that_was_signed() -> None:
    """A write is held to its digest, a read to an empty body."""
    signatures.check_digest(WRITE, b"{}")
    signatures.check_digest(READ, b"")
    for request, body in ((WRITE, b"{ }"), (WRITE, b""), (READ, b"{}")):
        with pytest.raises(Unauthenticated) as caught:
            signatures.check_digest(request, body)
        assert caught.value.code == "DIGEST_MISMATCH"


def test_a_request_belongs_to_its_network() -> None:
    """A request signed for another network is refused."""
    signatures.check_network(WRITE, WRITE.network)
    with pytest.raises(Unauthenticated) as caught:
        signatures.check_network(WRITE, "hugang-demo-0000")
    assert caught.value.code == "NETWORK_MISMATCH"


@pytest.mark.parametrize(
    ("created", "expires", "at_ns", "code"),
    [
        (1000, 1060, 1000 * 10**9, None),
        (1000, 1300, 1000 * 10**9, None),
        (1000, 1301, 1000 * 10**9, "SIGNATURE_LIFETIME"),
        (1000, 1000, 1000 * 10**9, "SIGNATURE_LIFETIME"),
        (1000, 999, 1000 * 10**9, "SIGNATURE_LIFETIME"),
        (1000, 1060, 970 * 10**9, None),
        (1000, 1060, 970 * 10**9 - 1, "SIGNATURE_FROM_FUTURE"),
        (1000, 1060, 1090 * 10**9, None),
        (1000, 1060, 1090 * 10**9 + 1, "SIGNATURE_STALE"),
        (0, 1, 31 * 10**9, None),
        (10**12 - 2, 10**12 - 1, 0, "SIGNATURE_FROM_FUTURE"),
    ],
)
def test_times_hold_to_the_nanosecond(created: int, expires: int, at_ns: int, code: str | None) -> None:
    """A signature counts from creation to expiry, with thirty seconds of skew either way, for five minutes at most."""
    if code is None:
        signatures.check_time(created, expires, at_ns)
        return
    with pytest.raises(Unauthenticated) as caught:
        signatures.check_time(created, expires, at_ns)
    assert caught.value.code == code


def test_the_page_shows_the_golden_requests() -> None:
    """docs/proofs.md prints both golden bases, their header fields and the key id as they are tested here."""
    page = (TESTS.parent / "docs" / "proofs.md").read_text("utf-8")
    for case in VECTORS["ours"]:
        assert case["base"] in page
        for name, value in case["headers"].items():
            assert f"{name}: {value}" in page
        assert case["body"] in page
    assert signatures.key_id(PUBLIC) in page
