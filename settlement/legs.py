"""Names for the legs of a payment: its UETR with the six fixed bits of a UUIDv4 replaced by the leg's number.

RFC 9562 §5.4 fixes four version bits (0100, bits 48-51) and two variant bits (10, bits 64-65). A UETR has no choice in
them, so they can carry k in 0 … 63, and no two legs of any two payments share an id.
"""

from __future__ import annotations

import enum
import uuid

import numpy as np
import numpy.typing as npt

from ledger.errors import MalformedInput

__all__ = ["LEG_COUNT", "Halves", "Leg", "TransferCode", "leg_halves", "leg_id", "parse_uetr", "uetr_of"]

LEG_COUNT = 64
Halves = npt.NDArray[np.uint64]
"""One half of each of n ids, shape (n,)."""
_VERSION_SHIFT = 76
_VARIANT_SHIFT = 62
_FIXED = (0xF << _VERSION_SHIFT) | (0x3 << _VARIANT_SHIFT)
_HALF = 2**64 - 1
_V4 = (0x4 << _VERSION_SHIFT) | (0x2 << _VARIANT_SHIFT)


class Leg(enum.IntEnum):
    """Which posting of its payment a transfer is."""

    PAYER = 0
    PROVIDER_RECEIVES = 1
    PROVIDER_PAYS = 2
    PAYEE = 3
    QUOTE = 4
    FEE = 5
    SETTLE = 6
    """SETTLE.a → SETTLE.b of a gross payment, in the asset that the payer pays."""
    SETTLE_BOUGHT = 7
    """The same in the asset that the payee receives, of a gross payment with FX."""
    QUOTE_OPEN = 8
    """QUOTES → QUOTE for the maximum, when a quote is published; the id is made from the quote's."""
    ISSUE = 9
    """ISSUE → SETTLE; the id is made from the issuance's."""
    ISSUE_FUNDS = 10
    """FUNDS → POSITION beside it."""
    AGAIN = 16
    """Plus k: leg k on the payee's ledger of a payment that was carried into another window."""
    CANCELLATION = 32
    """Plus k: the void of leg k of a payment that its owner cancels."""


class TransferCode(enum.IntEnum):
    """What a transfer is for: its ``code`` in the journal. Never reused."""

    ISSUANCE = 1
    QUOTE = 2
    PAYMENT = 3
    """A leg of a payment on the payer's ledger."""
    INCOMING = 4
    """A leg of a cross-border payment on the payee's ledger."""
    NET = 5
    """A leg of a window's settlement."""
    BOOK = 6
    """A transfer between accounts of one book; see ``settlement.columns``."""


def parse_uetr(text: str) -> int:
    """Read a UETR: a lower-case UUIDv4 in the canonical 8-4-4-4-12 form; give it as a 128-bit number.

    Raises:
        MalformedInput: it is not.
    """
    try:
        value = uuid.UUID(text)
    except ValueError as error:
        raise MalformedInput("UETR_INVALID", "A UETR is a lower-case UUIDv4.") from error
    if str(value) != text or value.int & _FIXED != _V4:
        raise MalformedInput("UETR_INVALID", "A UETR is a lower-case UUIDv4.")
    return value.int


def leg_id(uetr: int, leg: int) -> int:
    """Give the id of leg ``leg`` (0 … 63) of a payment."""
    return (uetr & ~_FIXED) | ((leg >> 2) << _VERSION_SHIFT) | ((leg & 3) << _VARIANT_SHIFT)


def leg_halves(high: Halves, low: Halves, leg: npt.ArrayLike) -> tuple[Halves, Halves]:
    """Do the same to columns of halves; ``leg`` is one number or one for each."""
    number = np.asarray(leg, np.uint64)
    version = (number >> np.uint64(2)) << np.uint64(_VERSION_SHIFT - 64)
    variant = (number & np.uint64(3)) << np.uint64(_VARIANT_SHIFT)
    return high & np.uint64(~(_FIXED >> 64) & _HALF) | version, low & np.uint64(~_FIXED & _HALF) | variant


def uetr_of(identifier: int) -> int:
    """Give the UETR that a leg's id was made from."""
    return (identifier & ~_FIXED) | _V4
