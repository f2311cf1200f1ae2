"""A second signature over the same bytes by the same key: every verifier takes it, as it took the first.

The nonce of an Ed25519 signature follows from the key and the bytes (RFC 8032), but nobody who verifies can see whether
it did. Whoever holds a key and chooses other nonces makes as many signatures over a base as it likes.
"""

from __future__ import annotations

import dataclasses
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.messages import Message, key_id_of, parse, public_bytes
from tests.settlement_fixture import key_of

__all__ = ["sign_again", "signed_again"]

Point = tuple[int, int]
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_BASE: Point = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def _add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    bent = _D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + bent, -1, _P) % _P, (y1 * y2 + x1 * x2) * pow(1 - bent, -1, _P) % _P


def _multiple(factor: int) -> bytes:
    """Give a multiple of the base point, encoded."""
    total, power = (0, 1), _BASE
    while factor:
        if factor & 1:
            total = _add(total, power)
        power = _add(power, power)
        factor >>= 1
    return (total[1] | (total[0] & 1) << 255).to_bytes(32, "little")


def sign_again(key: Ed25519PrivateKey, data: bytes) -> bytes:
    """Sign with a nonce of our own choice."""
    secret = hashlib.sha512(key.private_bytes_raw()).digest()[:32]
    scalar = int.from_bytes(secret, "little") & ((1 << 254) - 8) | 1 << 254
    nonce = int.from_bytes(hashlib.sha512(b"another nonce" + secret + data).digest(), "little") % _ORDER
    point = _multiple(nonce)
    challenge = hashlib.sha512(point + public_bytes(key) + data).digest()
    answer = (nonce + int.from_bytes(challenge, "little") * scalar) % _ORDER
    return point + answer.to_bytes(32, "little")


def signed_again(message: Message) -> Message:
    """Give a statement with another good signature of its speaker."""
    keys = {key_id_of(public_bytes(key)): key for key in map(key_of, ("SETTLEMENT", "NODE-SH", "NODE-HK"))}
    return dataclasses.replace(message, signature=sign_again(keys[parse(message).key_id], message.base))
