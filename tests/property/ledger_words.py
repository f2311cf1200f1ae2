"""What is said to a ledger under test: messages before they are signed, the forms of their bodies, and their keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import columns, signatures
from ledger.genesis import genesis_hash
from ledger.messages import Kind, Message, key_id_of
from ledger.transfers import transfers
from tests.property.model import Command
from tests.property.universe import array_of, commands_of
from tests.settlement_fixture import genesis_of, key_of, public_key_of

BLANK: Command = commands_of(transfers(1))[0]
"""A command that says nothing."""
TRANSFERS = "/v1/transfers"
GENESIS = genesis_of("SH", test_clock=True)
HASHES = {"": genesis_hash(GENESIS), "ledger": genesis_hash(genesis_of("HK"))}
LIFETIME_S = 60


@dataclass(frozen=True)
class Sent:
    """A message as its sender means it; ``fault`` says what is wrong with its signature, ``""`` for nothing.

    ``forged``: another key has signed under this one's name. ``body``: what was signed is another body. ``ledger``: it
    was made for the other ledger.
    """

    key: str
    topic: str
    content: Any
    body: bytes
    idempotency_key: str
    created_s: int
    fault: str = ""


def body_of(topic: str, content: Any) -> bytes:
    """Write a body: commands in columns, anything else in JSON."""
    if topic == TRANSFERS:
        return columns.encode(array_of([BLANK | command for command in content]))
    return json.dumps(content, separators=(",", ":")).encode()


def signed(sent: Sent) -> Message:
    """Sign a message, as its fault says."""
    said = b"another body" if sent.fault == "body" else sent.body
    base = signatures.signature_base(
        method="POST",
        authority="sh.hugang.example",
        path=sent.topic,
        created=sent.created_s,
        expires=sent.created_s + LIFETIME_S,
        key_id=key_id(public_key(sent.key)),
        genesis_hash=HASHES["ledger" if sent.fault == "ledger" else ""],
        content_type="application/octet-stream" if sent.topic == TRANSFERS else "application/json",
        content_digest=hashlib.sha256(said).digest(),
        idempotency_key=sent.idempotency_key,
    )
    signer = private_key("a thief" if sent.fault == "forged" else sent.key)
    return Message(Kind.REQUEST, base, signatures.sign(signer, base), sent.body)


@cache
def private_key(name: str) -> Ed25519PrivateKey:
    """Give the key that always has this name."""
    return key_of(name)


@cache
def public_key(name: str) -> str:
    """Give a named key's public half in hex."""
    return public_key_of(name)


@cache
def key_id(key: str) -> str:
    """Give the id of a public key in hex."""
    return key_id_of(bytes.fromhex(key))
