"""Signed messages, kept verbatim: what was signed, the signature and the body, never re-serialised.

Two kinds. A ``REQUEST`` is signed in the fixed RFC 9421 profile of ``signatures.py``: its base names method, path,
digest, idempotency key and times. A ``STATEMENT`` is signed independently of any transport; its base is seven lines of
ASCII::

    hugang-statement/1
    network 8c21…64 hex digits, the network hash
    ledger SH
    signer 3a7b…64 hex digits, SHA-256 of the raw public key
    kind proposal
    subject 2/1
    digest 9c56…64 hex digits, SHA-256 of the body
    <no eighth line: the seventh ends with a newline>

``ledger`` is the ledger code of the party that speaks (``--`` for a party of no ledger). Both bases bind the body by
its digest. A request is made for one ledger, which its tag names by its genesis hash; a statement is said to both
ledgers of a network, which it names by its network hash (``genesis.py``). So neither can be replayed elsewhere, and
``check_addressee`` holds it to that. The stored encoding of a message is in ``encode``.
"""

from __future__ import annotations

import enum
import hashlib
import re
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import signatures
from ledger.errors import MalformedInput, Unauthenticated

__all__ = [
    "BASE_SIZE_MAX",
    "BODY_SIZE_MAX",
    "HEAD_SIZE_MAX",
    "HEAD_SIZE_MIN",
    "Envelope",
    "Kind",
    "Message",
    "check_addressee",
    "decode",
    "decode_head",
    "encode",
    "encode_head",
    "key_id_of",
    "parse",
    "public_bytes",
    "statement",
    "verify",
]

BODY_SIZE_MAX = 16 * 2**20
"""Bytes of one message body."""
BASE_SIZE_MAX = 4096
SIGNATURE_SIZE = 64
_HEAD = struct.Struct("<BII")
_KIND = struct.Struct("<B")
HEAD_SIZE_MIN = _KIND.size + SIGNATURE_SIZE
HEAD_SIZE_MAX = HEAD_SIZE_MIN + BASE_SIZE_MAX
"""Bytes of a message's head in a block."""

_STATEMENT = re.compile(
    rb"hugang-statement/1\n"
    rb"network ([0-9a-f]{64})\n"
    rb"ledger ([A-Z]{2}|--)\n"
    rb"signer ([0-9a-f]{64})\n"
    rb"kind ([a-z]{1,24})\n"
    rb"subject ((?:0|[1-9][0-9]{0,9})/(?:0|[1-9][0-9]{0,9}))\n"
    rb"digest ([0-9a-f]{64})\n"
)


class Kind(enum.IntEnum):
    """How a message was signed."""

    REQUEST = 1
    STATEMENT = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One signed message: the exact bytes that were signed, the signature over them, and the body they bind."""

    kind: Kind
    base: bytes
    signature: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message's base says, parsed; the same for both kinds.

    ``topic`` names what the body means: the path of a request, ``statement:<kind>`` of a statement. ``idempotency_key``
    is the client's, or ``kind subject digest`` of a statement, which makes a repeated statement the same message.
    ``genesis_hash`` names the ledger that a request is made for, ``network_hash`` the network that a statement is said
    in; each is empty for the other kind. ``ledger`` is the statement's speaker's, ``--`` for a request. ``created_s``
    and ``expires_s`` (Unix seconds) are zero for statements: they are valid by their place in the cycle, not by a
    clock.
    """

    kind: Kind
    topic: str
    subject: str
    key_id: str
    genesis_hash: bytes
    network_hash: bytes
    ledger: str
    digest: bytes
    idempotency_key: str
    created_s: int
    expires_s: int


def parse(message: Message) -> Envelope:
    """Read a message's base strictly.

    Raises:
        MalformedInput: the base is not exactly of its kind's form.
    """
    if len(message.base) > BASE_SIZE_MAX or len(message.signature) != SIGNATURE_SIZE:
        raise MalformedInput("MESSAGE_MALFORMED", "The signature base or the signature has the wrong size.")
    if message.kind is Kind.REQUEST:
        request = signatures.parse_signature_base(message.base)
        if request.method != "POST" or request.query not in ("", "?"):
            raise MalformedInput("MESSAGE_MALFORMED", "A journaled request is a POST without a query.")
        return Envelope(
            kind=Kind.REQUEST,
            topic=request.path,
            subject="",
            key_id=request.key_id,
            genesis_hash=request.genesis_hash,
            network_hash=b"",
            ledger="--",
            digest=request.content_digest,
            idempotency_key=request.idempotency_key,
            created_s=request.created,
            expires_s=request.expires,
        )
    match = _STATEMENT.fullmatch(message.base)
    if match is None:
        raise MalformedInput("STATEMENT_MALFORMED", "The statement's base is not of the statement form.")
    network, ledger, signer, kind, subject, digest = (part.decode("ascii") for part in match.groups())
    return Envelope(
        kind=Kind.STATEMENT,
        topic=f"statement:{kind}",
        subject=subject,
        key_id=signer,
        genesis_hash=b"",
        network_hash=bytes.fromhex(network),
        ledger=ledger,
        digest=bytes.fromhex(digest),
        idempotency_key=f"{kind} {subject} {digest}",
        created_s=0,
        expires_s=0,
    )


def check_addressee(envelope: Envelope, *, genesis_hash: bytes, network_hash: bytes) -> None:
    """Check that a request was made for this ledger, or a statement said in this network.

    Raises:
        Unauthenticated: ``LEDGER_MISMATCH`` for a request, ``NETWORK_MISMATCH`` for a statement.
    """
    if envelope.kind is Kind.REQUEST:
        signatures.check_ledger(envelope.genesis_hash, genesis_hash)
    elif envelope.network_hash != network_hash:
        raise Unauthenticated("NETWORK_MISMATCH", "The statement was signed for another network.")


def verify(message: Message, envelope: Envelope, public_key: bytes) -> None:
    """Check the body against its digest and the base against its signature.

    Raises:
        Unauthenticated: either does not hold.
    """
    if hashlib.sha256(message.body).digest() != envelope.digest:
        raise Unauthenticated("DIGEST_MISMATCH", "The body does not match the digest that was signed.")
    signatures.verify(public_key, message.signature, message.base)


def statement(
    private_key: Ed25519PrivateKey, *, network_hash: bytes, ledger: str, kind: str, subject: str, body: bytes
) -> Message:
    """Sign a statement.

    Args:
        private_key: the speaker's key.
        network_hash: what ``genesis.network_hash`` gives for either ledger of the network.
        ledger: the speaker's ledger code, or ``--``.
        kind: what the body is, lower-case letters.
        subject: ``window/attempt`` in decimal.
        body: canonical bytes of that kind.
    """
    lines = (
        "hugang-statement/1",
        f"network {network_hash.hex()}",
        f"ledger {ledger}",
        f"signer {key_id_of(public_bytes(private_key))}",
        f"kind {kind}",
        f"subject {subject}",
        f"digest {hashlib.sha256(body).hexdigest()}",
    )
    base = ("\n".join(lines) + "\n").encode("ascii")
    message = Message(Kind.STATEMENT, base, private_key.sign(base), body)
    parse(message)
    return message


def key_id_of(public_key: bytes) -> str:
    """Name a raw 32-byte Ed25519 public key: SHA-256, lower-case hex."""
    return hashlib.sha256(public_key).hexdigest()


def public_bytes(private_key: Ed25519PrivateKey) -> bytes:
    """Give the raw 32 bytes of the public half."""
    return private_key.public_key().public_bytes_raw()


def encode_head(message: Message) -> bytes:
    """Give what a block keeps of a message before its body: kind, base, signature. The base binds the body."""
    return b"".join((_KIND.pack(message.kind), message.base, message.signature))


def decode_head(head: bytes, body: bytes) -> Message:
    """Join a head and its body; the inverse of ``encode_head``.

    Raises:
        MalformedInput: the head is none, or a size is out of bounds.
    """
    if not HEAD_SIZE_MIN <= len(head) <= HEAD_SIZE_MAX or head[0] not in (1, 2) or len(body) > BODY_SIZE_MAX:
        raise MalformedInput("MESSAGE_MALFORMED", "The stored message is none.")
    return Message(Kind(head[0]), head[1:-SIGNATURE_SIZE], head[-SIGNATURE_SIZE:], body)


def encode(message: Message) -> bytes:
    """Give the stored form: kind, two lengths, base, signature, body."""
    head = _HEAD.pack(message.kind, len(message.base), len(message.body))
    return b"".join((head, message.base, message.signature, message.body))


def decode(data: bytes) -> Message:
    """Read exactly one stored message; the inverse of ``encode``.

    Raises:
        MalformedInput: a length does not fit, or bytes are left over.
    """
    if len(data) < _HEAD.size:
        raise MalformedInput("MESSAGE_MALFORMED", "The stored message is cut short.")
    kind, base_size, body_size = _HEAD.unpack_from(data)
    sizes_fit = base_size <= BASE_SIZE_MAX and body_size <= BODY_SIZE_MAX
    if kind not in (1, 2) or not sizes_fit or len(data) != _HEAD.size + base_size + SIGNATURE_SIZE + body_size:
        raise MalformedInput("MESSAGE_MALFORMED", "The stored message's lengths do not fit.")
    base_end = _HEAD.size + base_size
    signature_end = base_end + SIGNATURE_SIZE
    return Message(Kind(kind), data[_HEAD.size : base_end], data[base_end:signature_end], data[signature_end:])
