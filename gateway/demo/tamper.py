"""One byte of a copied export is changed, where the demonstration knows which message it belongs to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import NotFound

__all__ = ["Flip", "flip_amount"]


@dataclass(frozen=True, slots=True)
class Flip:
    """Which byte was changed, from what to what."""

    offset: int
    before: str
    after: str


def flip_amount(source: Path, copy: Path, uetr: str) -> Flip:
    """Copy a file and change the first digit of the amount of the payment that names this UETR.

    The digit stands in the body that its payer signed; nothing else of the copy differs.

    Raises:
        NotFound: the file holds no such payment.
    """
    shutil.copytree(source.parent.parent, copy)
    target = copy / source.parent.name / source.name
    data = bytearray(target.read_bytes())
    place = data.find(b'"uetr":"' + uetr.encode("ascii"))
    field = data.find(b'"amount":"', place)
    if place < 0 or field < 0:
        raise NotFound("PAYMENT_NOT_FOUND", "The export does not show this payment.", uetr=uetr)
    offset = field + len(b'"amount":"')
    before = data[offset]
    after = ord("1") if before != ord("1") else ord("9")
    data[offset] = after
    target.write_bytes(data)
    return Flip(offset, chr(before), chr(after))
