r"""Texts with exactly one spelling: base64 and decimal numbers, as our formats write them.

The standard decoders are generous (base64 skips foreign characters and ignores spare bits, ``int`` takes ``+7``,
``1_000`` and digits of other scripts). A format in which two texts mean one value cannot be compared, hashed or signed
safely.

>>> decode_base64("AQ=="), decode_base64("AR=="), decode_base64("AQ"), decode_decimal("17"), decode_decimal("017")
(b'\x01', None, None, 17, None)
"""

from __future__ import annotations

import base64
import binascii
import re

__all__ = ["decode_base64", "decode_decimal", "encode_base64"]

_DECIMAL = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_DECIMAL_SIZE_MAX = 20
"""Digits of 2**64, the largest number any format holds; bounds the work on a hostile text."""


def encode_base64(data: bytes) -> str:
    """Write bytes in the standard alphabet with padding (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Read what ``encode_base64`` writes, and nothing else; ``None`` for any other text."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if encode_base64(data) == text else None


def decode_decimal(text: str) -> int | None:
    """Read a number in ASCII digits without sign or leading zeros; ``None`` for any other text."""
    if len(text) > _DECIMAL_SIZE_MAX or _DECIMAL.fullmatch(text) is None:
        return None
    return int(text)
