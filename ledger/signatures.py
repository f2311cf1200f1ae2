"""The one profile of RFC 9421 that signs every request, as pure bytes: no HTTP library and no clock.

A signature base of a write looks like this (docs/proofs.md shows one with its key and signature)::

    "@method": POST
    "@authority": sh.hugang.example
    "@path": /v1/payments
    "@query": ?
    "content-type": application/json
    "content-digest": sha-256=:<SHA-256 of the body in base64>:
    "idempotency-key": "<the client's key>"
    "@signature-params": (<the seven names>);created=…;expires=…;keyid="…";alg="ed25519";tag="hugang/1:<genesis hash>"

A read covers the first four lines only. The tag binds the request to one ledger: its genesis hash is the SHA-256 of
that ledger's genesis document. The components stand in this order; the five parameters behind them in any, each once,
because RFC 9421 leaves their order to the signer. It is kept: with it a request has exactly one base and a base exactly
one reading, so writing again what was parsed gives the same bytes, or the base is refused. Every error is a
``LedgerError``: ``MalformedInput`` where the bytes are not of the profile, ``Unauthenticated`` where they do not hold.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.canonical import decode_base64, encode_base64
from ledger.errors import MalformedInput, Unauthenticated

__all__ = [
    "BASE_SIZE_MAX",
    "CLOCK_SKEW_S_MAX",
    "LABEL",
    "LIFETIME_S_MAX",
    "PARAMETERS",
    "Profile",
    "SignedRequest",
    "base_from_headers",
    "check_digest",
    "check_ledger",
    "check_time",
    "content_digest",
    "headers_for",
    "is_valid",
    "key_id",
    "parse_signature_base",
    "sign",
    "signature_base",
    "verify",
]

LABEL = "hugang"
"""Name of our member in the Signature-Input and Signature dictionaries."""
PARAMETERS = ("created", "expires", "keyid", "alg", "tag")
"""The parameters of a signature in the order in which we write them; other signers have theirs."""
BASE_SIZE_MAX = 4096
LIFETIME_S_MAX = 300
"""Longest time between ``created`` and ``expires``."""
CLOCK_SKEW_S_MAX = 30
"""How far a signer's clock may be ahead or behind."""
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64
DIGEST_SIZE = 32


class Profile(enum.Enum):
    """What a signature covers: the value lists the component names in their order."""

    READ = ("@method", "@authority", "@path", "@query")
    WRITE = ("@method", "@authority", "@path", "@query", "content-type", "content-digest", "idempotency-key")


_METHODS = {
    "GET": Profile.READ,
    "HEAD": Profile.READ,
    "DELETE": Profile.WRITE,
    "PATCH": Profile.WRITE,
    "POST": Profile.WRITE,
    "PUT": Profile.WRITE,
}

# Each part of a base as a pattern with one spelling for each value. None of them matches a line break, so the parts
# cannot run into each other; possessive repetition keeps matching linear in the length of a hostile text.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PARAMETER = rf'(?: ?; ?{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*+"))'
_NUMBER = r"0|[1-9][0-9]{0,11}"
_PATTERNS = {
    "@authority": r"((?:[a-z0-9][a-z0-9.-]*+|\[[0-9a-f:.]++\])(?::[1-9][0-9]{0,4})?)",
    "@path": r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|%[0-9A-Fa-f]{2})*+)",
    "@query": r"\?((?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]++|%[0-9A-Fa-f]{2})*+)",
    "content-type": rf"({_WORD}/{_WORD}{_PARAMETER}*+)",
    "content-digest": "sha-256=:([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=):",  # the last digit has two spare bits, zero
    "idempotency-key": r'"([!#-\[\]-~]{1,128})"',
}
_SIZES_MAX = {"@authority": 255, "@path": 1024, "@query": 2048, "content-type": 128}


def _covered(profile: Profile) -> str:
    """Write the list of covered components (RFC 9421 §2.3)."""
    return "(" + " ".join(f'"{name}"' for name in profile.value) + ")"


def _parts(profile: Profile) -> dict[str, str]:
    """Give the pattern of each line of a base, its name left out."""
    methods = "|".join(method for method, of in _METHODS.items() if of is profile)
    # Five parameters, and no two forms begin alike, so there is one way to match. Where all five groups have matched,
    # each parameter stands there once.
    parameters = (
        rf"{re.escape(_covered(profile))}(?:;created=(?P<created>{_NUMBER})|;expires=(?P<expires>{_NUMBER})"
        r'|;keyid="(?P<keyid>[0-9a-f]{64})"|;alg="(?P<alg>ed25519)"|;tag="hugang/1:(?P<tag>[0-9a-f]{64})"){5}'
    )
    fields = {name: _PATTERNS[name] for name in profile.value if name != "@method"}
    return {"@method": f"({methods})", **fields, "@signature-params": parameters}


def _pattern(profile: Profile) -> re.Pattern[str]:
    return re.compile("\n".join(f'"{name}": {part}' for name, part in _parts(profile).items()))


_BASES = {method: _pattern(profile) for method, profile in _METHODS.items()}
_FIELD_NAMES = {
    name.encode("ascii"): name
    for name in ("signature-input", "signature", "content-type", "content-digest", "idempotency-key")
}

_FIELD_PRIME = 2**255 - 19
_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_8_Y, _FIELD_PRIME - _ORDER_8_Y})
"""The y coordinates of the eight points whose order divides the curve's cofactor (RFC 8032 §5.1)."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature base says.

    ``authority`` is in lower case; ``path`` and ``query`` are as sent, the query without its question mark.
    ``content_type``, ``content_digest`` (32 bytes, SHA-256 of the body) and ``idempotency_key`` (without its quotes)
    are empty in the read profile. ``created`` and ``expires`` are Unix seconds; ``key_id`` is ``key_id(public key)``.
    ``genesis_hash`` (32 bytes) names the ledger that is asked; ``parameters`` is the order of the signature's
    parameters, which is the signer's choice.
    """

    method: str
    authority: str
    path: str
    query: str
    content_type: str
    content_digest: bytes
    idempotency_key: str
    created: int
    expires: int
    key_id: str
    genesis_hash: bytes
    parameters: tuple[str, ...] = PARAMETERS

    @property
    def profile(self) -> Profile:
        """The method decides what must be covered: everything of a write, the target of a read."""
        return _METHODS[self.method]


def signature_base(
    *,
    method: str,
    authority: str,
    path: str,
    created: int,
    expires: int,
    key_id: str,
    genesis_hash: bytes,
    query: str = "",
    content_type: str = "",
    content_digest: bytes = b"",
    idempotency_key: str = "",
    parameters: tuple[str, ...] = PARAMETERS,
) -> bytes:
    """Write a signature base (RFC 9421 §2.5) from its parts, which are the fields of ``SignedRequest``.

    Raises:
        MalformedInput: a part is outside the profile (``SIGNATURE_PROFILE``); ``part`` names it.
    """
    request = SignedRequest(
        method=method,
        authority=authority,
        path=path,
        query=query,
        content_type=content_type,
        content_digest=content_digest,
        idempotency_key=idempotency_key,
        created=created,
        expires=expires,
        key_id=key_id,
        genesis_hash=genesis_hash,
        parameters=parameters,
    )
    base = _write(request).encode("utf-8", "surrogatepass")
    if parse_signature_base(base) != request:
        raise _outside_profile("A read covers neither content nor idempotency key, and no parameter twice.")
    return base


def parse_signature_base(base: bytes) -> SignedRequest:
    """Read a signature base; the inverse of ``signature_base``.

    Raises:
        MalformedInput: not exactly the bytes ``signature_base`` would write (``SIGNATURE_PROFILE``); ``part`` names the
            first part that differs.
    """
    if len(base) > BASE_SIZE_MAX or not base.isascii():
        raise _outside_profile("The signature base is too long or not ASCII.")
    text = base.decode("ascii")
    method = text[11 : text.find("\n")]  # after '"@method": '
    if method not in _METHODS:
        raise _outside_profile("This method is not signed.", part="@method")
    found = _BASES[method].fullmatch(text)
    if found is None:
        raise _outside_profile("A part of the signature base is not of its form.", part=_first_difference(text, method))
    if _METHODS[method] is Profile.READ:
        _, authority, path, query, created, expires, signer, alg, tag = found.groups()
        content_type, digest, key = "", "", ""
    else:
        _, authority, path, query, content_type, digest, key, created, expires, signer, alg, tag = found.groups()
    if created is None or expires is None or signer is None or alg is None or tag is None:
        raise _outside_profile("A parameter stands there twice, so another is missing.", part="@signature-params")
    for part, value in (("@authority", authority), ("@path", path), ("@query", query), ("content-type", content_type)):
        if len(value) > _SIZES_MAX[part]:
            raise _outside_profile("A part of the signature base is too long.", part=part)
    return SignedRequest(
        method=method,
        authority=authority,
        path=path,
        query=query,
        content_type=content_type,
        content_digest=base64.b64decode(digest),
        idempotency_key=key,
        created=int(created),
        expires=int(expires),
        key_id=signer,
        genesis_hash=bytes.fromhex(tag),
        parameters=tuple(sorted(PARAMETERS, key=found.start)),
    )


def headers_for(base: bytes, signature: bytes) -> dict[str, str]:
    """Give the header fields that carry a signature, and those it covers.

    Returns:
        ``Signature-Input`` and ``Signature``; for a write also ``Content-Type``, ``Content-Digest`` and
        ``Idempotency-Key``, exactly as signed.

    Raises:
        MalformedInput: the base is outside the profile, or the signature has not 64 bytes.
    """
    request = parse_signature_base(base)
    if len(signature) != SIGNATURE_SIZE:
        raise _outside_profile("An Ed25519 signature has 64 bytes.", part="signature")
    lines = (line.partition(": ") for line in base.decode("ascii").split("\n"))
    values = {name.strip('"'): value for name, _, value in lines}
    fields = {
        "Signature-Input": f"{LABEL}={values['@signature-params']}",
        "Signature": f"{LABEL}=:{encode_base64(signature)}:",
    }
    if request.profile is Profile.WRITE:
        fields |= {name.title(): values[name] for name in request.profile.value[4:]}
    return fields


def base_from_headers(
    method: str, authority: str, path: str, query: str, headers: Iterable[tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    """Rebuild the signature base of a request that arrived, and read its signature.

    Args:
        method: the request's method.
        authority: host and port as addressed; upper case is lowered, a default port must have been left out.
        path: the path as sent, percent-encoding untouched.
        query: the query as sent, without its question mark; empty if there is none.
        headers: all header fields as pairs of name and value; names in any case.

    Returns:
        The base and the 64 bytes of the signature, neither of them checked against a key yet.

    Raises:
        Unauthenticated: there is no signature (``SIGNATURE_MISSING``).
        MalformedInput: one not of this profile, or a covered field is missing or doubled (``SIGNATURE_PROFILE``).
    """
    fields = _relevant_fields(headers)
    if "signature-input" not in fields or "signature" not in fields:
        raise Unauthenticated("SIGNATURE_MISSING", "The request is not signed.")
    label, _, parameters = fields["signature-input"].partition("=")
    text = fields["signature"]
    signature = decode_base64(text[len(LABEL) + 2 : -1])
    if signature is None or label != LABEL or text != f"{LABEL}=:{encode_base64(signature)}:":
        raise _outside_profile("There must be exactly one signature, with our label.", part="signature")
    if len(signature) != SIGNATURE_SIZE:
        raise _outside_profile("An Ed25519 signature has 64 bytes.", part="signature")
    if authority.isascii():  # lowering other letters could turn them into ASCII
        authority = authority.lower()
    lines = [f'"@method": {method}\n"@authority": {authority}\n"@path": {path}\n"@query": ?{query}']
    if _METHODS.get(method) is Profile.WRITE:
        for name in Profile.WRITE.value[4:]:
            if name not in fields:
                raise _outside_profile("A covered header field is missing.", part=name)
            lines.append(f'"{name}": {fields[name]}')
    lines.append(f'"@signature-params": {parameters}')
    base = "\n".join(lines).encode("utf-8", "surrogatepass")
    parse_signature_base(base)
    return base, signature


def sign(private_key: Ed25519PrivateKey, base: bytes) -> bytes:
    """Sign a base; 64 bytes, the same every time (RFC 8032)."""
    return private_key.sign(base)


def verify(public_key: bytes, signature: bytes, base: bytes) -> None:
    """Check a signature by a raw 32-byte public key.

    Raises:
        Unauthenticated: it does not hold (``SIGNATURE_INVALID``).
    """
    if not is_valid(public_key, signature, base):
        raise Unauthenticated("SIGNATURE_INVALID", "The signature does not match the request and the key.")


def is_valid(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether an Ed25519 signature holds over any bytes; ``False`` too for a key under which anything would."""
    if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE or _is_weak(public_key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def key_id(public_key: bytes) -> str:
    """Name a raw 32-byte public key: its SHA-256 in 64 lower-case hex digits."""
    return hashlib.sha256(public_key).hexdigest()


def content_digest(body: bytes) -> bytes:
    """Give what ``content-digest`` says of a body: its SHA-256 (RFC 9530)."""
    return hashlib.sha256(body).digest()


def check_digest(request: SignedRequest, body: bytes) -> None:
    """Check that the body is the one that was signed; a read has none.

    Raises:
        Unauthenticated: it is another (``DIGEST_MISMATCH``).
    """
    expected = request.content_digest or content_digest(b"")
    if content_digest(body) != expected:
        raise Unauthenticated("DIGEST_MISMATCH", "The body does not match the digest that was signed.")


def check_ledger(genesis_hash: bytes, *ledgers: bytes) -> None:
    """Check that a request which names this genesis hash was made for one of ``ledgers``, named in the same way.

    Raises:
        Unauthenticated: it was made for another (``LEDGER_MISMATCH``).
    """
    if genesis_hash not in ledgers:
        raise Unauthenticated("LEDGER_MISMATCH", "The request was made for another ledger.")


def check_time(created: int, expires: int, at_ns: int) -> None:
    """Check that a signature's times hold at an instant.

    Args:
        created: Unix seconds.
        expires: Unix seconds.
        at_ns: the instant, Unix nanoseconds.

    Raises:
        Unauthenticated: it lives longer than ``LIFETIME_S_MAX`` or ends before it begins (``SIGNATURE_LIFETIME``), was
            created more than ``CLOCK_SKEW_S_MAX`` later (``SIGNATURE_FROM_FUTURE``), or expired more than that before
            (``SIGNATURE_STALE``).
    """
    if not created < expires <= created + LIFETIME_S_MAX:
        raise Unauthenticated("SIGNATURE_LIFETIME", "A signature lives up to five minutes.", limit_s=LIFETIME_S_MAX)
    if created * 10**9 > at_ns + CLOCK_SKEW_S_MAX * 10**9:
        raise Unauthenticated("SIGNATURE_FROM_FUTURE", "The signature was created later than now.", created=created)
    if expires * 10**9 < at_ns - CLOCK_SKEW_S_MAX * 10**9:
        raise Unauthenticated("SIGNATURE_STALE", "The signature has expired.", expires=expires)


def _outside_profile(sentence: str, **fields: str) -> MalformedInput:
    return MalformedInput("SIGNATURE_PROFILE", sentence, **fields)


def _write(request: SignedRequest) -> str:
    """Write the base of a request without a check; whoever calls parses it."""
    profile = _METHODS.get(request.method, Profile.READ)
    values = [request.method, request.authority, request.path, f"?{request.query}"]
    if profile is Profile.WRITE:
        digest = f"sha-256=:{encode_base64(request.content_digest)}:"
        values += [request.content_type, digest, f'"{request.idempotency_key}"']
    spelled = {
        "created": f";created={request.created}",
        "expires": f";expires={request.expires}",
        "keyid": f';keyid="{request.key_id}"',
        "alg": ';alg="ed25519"',
        "tag": f';tag="hugang/1:{request.genesis_hash.hex()}"',
    }
    parameters = _covered(profile) + "".join(spelled.get(name, f";{name}") for name in request.parameters)
    names = (*profile.value, "@signature-params")
    return "\n".join(f'"{name}": {value}' for name, value in zip(names, (*values, parameters), strict=True))


def _first_difference(text: str, method: str) -> str:
    """Name the first part that is not of its form, for whoever wrote it."""
    lines = text.split("\n")
    parts = _parts(_METHODS[method])
    for line, (name, pattern) in zip(lines, parts.items(), strict=False):
        if re.fullmatch(f'"{name}": {pattern}', line) is None:
            return name
    return "@signature-params"  # every line there is fits, so lines are missing or left over


def _relevant_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Pick the header fields that matter; each may stand there once."""
    fields: dict[str, str] = {}
    for name, value in headers:
        wanted = _FIELD_NAMES.get(name.lower())
        if wanted is None:
            continue
        if wanted in fields or not value.isascii() or len(value) > BASE_SIZE_MAX:
            raise _outside_profile("A header field that matters is doubled, too long or not ASCII.", part=wanted)
        fields[wanted] = value.decode("ascii")
    return fields


def _is_weak(public_key: bytes) -> bool:
    """Tell whether a key is one of the few points under which a signature proves nothing, or spelled out of range."""
    y = int.from_bytes(public_key, "little") & ~(1 << 255)
    return y >= _FIELD_PRIME or y in _SMALL_ORDER_Y
