"""The signing profile against published vectors, and all ways to bend a base, a key or a time."""

from __future__ import annotations

import base64
import dataclasses
import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import signatures
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.signatures import Profile, SignedRequest
from tests.unit.signed import KEY, PUBLIC, READ, TESTS, VECTORS, WRITE, base_of, code_of, requests

PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


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
    for name in {"content_digest", "genesis_hash"} & set(fields):
        fields[name] = bytes.fromhex(fields[name])
    base = signatures.signature_base(**fields)
    assert base.decode() == case["base"]
    signature = signatures.sign(KEY, base)
    assert signature.hex() == case["signature"]
    assert signatures.headers_for(base, signature) == case["headers"]
    request = signatures.parse_signature_base(base)
    assert {name: getattr(request, name) for name in fields} == fields
    signatures.check_digest(request, case["body"].encode())


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
        ({"genesis_hash": b""}, "@signature-params"),
        ({"genesis_hash": bytes(31)}, "@signature-params"),
        ({"genesis_hash": bytes(33)}, "@signature-params"),
        ({"parameters": ()}, "@signature-params"),
        ({"parameters": signatures.PARAMETERS[:4]}, "@signature-params"),
        ({"parameters": (*signatures.PARAMETERS, "nonce")}, "@signature-params"),
        ({"parameters": (*signatures.PARAMETERS[:4], "nonce")}, "@signature-params"),
        ({"parameters": (*signatures.PARAMETERS, "created")}, "@signature-params"),
        ({"parameters": (*signatures.PARAMETERS[:4], "created")}, "@signature-params"),
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
        ("parameters", (*signatures.PARAMETERS[:4], "tag\n")),
    ],
)
def test_no_part_breaks_the_line(field: str, value: object) -> None:
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
        ("created=1750233600", "created=01750233600"),
        ("created=1750233600", "created=+1750233600"),
        ("created=1750233600", "created=1750233600.0"),
        ("created=1750233600", "created=\u0661"),
        (";created=", "; created="),
        (";created=", " ;created="),
        (";created=", ";created ="),
        (";created=", ";Created="),
        (";created=", ";;created="),
        ('tag="hugang/1:', 'tag="hugang/1:0'),
        ("hugang/1:2409ba", "hugang/1:2409BA"),
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
    """Other components, other spacing, other numbers, other lines: the base is refused."""
    text = base_of(READ).decode()
    assert old in text
    with pytest.raises(MalformedInput) as caught:
        signatures.parse_signature_base(text.replace(old, new).encode())
    assert caught.value.code == "SIGNATURE_PROFILE"


def parameters_of(text: str) -> list[str]:
    """Give the parameters of a base as they stand behind the last parenthesis."""
    return text.rpartition(")")[2].split(";")[1:]


def with_parameters(text: str, parameters: list[str]) -> bytes:
    """Give a base with these parameters instead."""
    return (text.rpartition(")")[0] + ")" + "".join(f";{parameter}" for parameter in parameters)).encode()


@pytest.mark.parametrize("request_", [READ, WRITE], ids=["read", "write"])
def test_parameters_stand_in_any_order(request_: SignedRequest) -> None:
    """Each order of the five parameters is a base of its own, which reads as that order and writes the same bytes."""
    text = base_of(request_).decode()
    bases = set()
    for order in itertools.permutations(parameters_of(text)):
        base = with_parameters(text, list(order))
        read = signatures.parse_signature_base(base)
        assert read.parameters == tuple(parameter.partition("=")[0] for parameter in order)
        assert dataclasses.replace(read, parameters=signatures.PARAMETERS) == request_
        assert base_of(read) == base
        bases.add(base)
    assert len(bases) == 120


@pytest.mark.parametrize("name", signatures.PARAMETERS)
def test_each_parameter_stands_there_once(name: str) -> None:
    """A parameter that is missing, doubled, or doubled in another's place is refused, with the same value too."""
    text = base_of(WRITE).decode()
    parameters = parameters_of(text)
    (own,) = [parameter for parameter in parameters if parameter.startswith(f"{name}=")]
    others = [parameter for parameter in parameters if parameter != own]
    for bent in (others, [own, *parameters], [*parameters, own], *([own, own, *four[1:]] for four in rotated(others))):
        with pytest.raises(MalformedInput) as caught:
            signatures.parse_signature_base(with_parameters(text, list(bent)))
        assert code_of(caught) == ("SIGNATURE_PROFILE", "@signature-params")


def rotated(items: list[str]) -> list[list[str]]:
    """Give all rotations of a list."""
    return [items[at:] + items[:at] for at in range(len(items))]


@pytest.mark.parametrize("extra", ['nonce="n"', "nonce=1", 'context="x"', "created", 'alg="rsa-v1_5-sha256"', ""])
def test_no_other_parameter_stands_there(extra: str) -> None:
    """A sixth parameter is refused wherever it stands, and so is one in the place of another."""
    text = base_of(READ).decode()
    parameters = parameters_of(text)
    for at in range(6):
        for bent in ([*parameters[:at], extra, *parameters[at:]], [*parameters[:at], extra, *parameters[at + 1 :]]):
            with pytest.raises(MalformedInput) as caught:
                signatures.parse_signature_base(with_parameters(text, bent))
            assert code_of(caught) == ("SIGNATURE_PROFILE", "@signature-params")


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
        ("genesis_hash", bytes(1500)),
        ("parameters", ("created", "expires") * 90),
        ("parameters", ("tag",) * 40),
    ],
)
def test_hostile_texts_cost_little(field: str, value: object) -> None:
    """Texts made to send a backtracking matcher astray are refused without trying every way to cut them."""
    with pytest.raises(MalformedInput):
        base_of(dataclasses.replace(WRITE, **{field: value}))


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


# --- digest, ledger, time ---------------------------------------------------------------------------------------------


def test_the_body_is_the_one_that_was_signed() -> None:
    """A write is held to its digest, a read to an empty body."""
    signatures.check_digest(WRITE, b"{}")
    signatures.check_digest(READ, b"")
    for request, body in ((WRITE, b"{ }"), (WRITE, b""), (READ, b"{}")):
        with pytest.raises(Unauthenticated) as caught:
            signatures.check_digest(request, body)
        assert caught.value.code == "DIGEST_MISMATCH"


def test_a_request_belongs_to_its_ledger() -> None:
    """A request made for another ledger is refused; a server may stand for several."""
    signatures.check_ledger(WRITE.genesis_hash, WRITE.genesis_hash)
    signatures.check_ledger(WRITE.genesis_hash, bytes(32), WRITE.genesis_hash)
    for ledgers in ((), (bytes(32),), (WRITE.genesis_hash[:31],)):
        with pytest.raises(Unauthenticated) as caught:
            signatures.check_ledger(WRITE.genesis_hash, *ledgers)
        assert caught.value.code == "LEDGER_MISMATCH"


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
