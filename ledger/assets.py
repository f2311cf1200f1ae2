"""Assets and amounts. An amount is an ``int`` of minor units; only people see decimals, and only on the way out.

::

    >>> parse_amount("12345")
    12345
    >>> format_decimal(12345, scale=2)
    '123.45'

There is no float and no ``Decimal`` in between: what cannot be written as minor units cannot be an amount.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import MalformedInput, NotFound

__all__ = ["AMOUNT_MAX", "Asset", "AssetTable", "format_decimal", "parse_amount"]

AMOUNT_MAX = 2**63 - 1
"""The largest amount, in minor units (I3)."""

_AMOUNT = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_CODE = re.compile(r"[A-Z][A-Z0-9.]{1,11}", re.ASCII)
_SCALE_MAX = 9
_NUMBER_MAX = 2**16 - 1


class _AssetFields(Protocol):
    """What a row of the genesis says about an asset."""

    @property
    def code(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset of a ledger.

    ``number`` is what accounts carry (1 ... 65535), ``scale`` the decimal places people see (0 ... 9). ``kind`` is
    ``money``, or ``memo`` for limits kept as double entry, such as what is left of an FX quote.

    Raises:
        MalformedInput: ``ASSET_INVALID``, a field is out of its range.
    """

    code: str
    number: int
    scale: int
    kind: str = "money"

    def __post_init__(self) -> None:
        ranges_hold = 0 < self.number <= _NUMBER_MAX and 0 <= self.scale <= _SCALE_MAX
        if _CODE.fullmatch(self.code) is None or not ranges_hold or self.kind not in {"money", "memo"}:
            raise MalformedInput("ASSET_INVALID", "This is not an asset.", asset=self.code, number=self.number)

    @property
    def is_money(self) -> bool:
        """Whether it is money, and not a limit kept as double entry."""
        return self.kind == "money"


class AssetTable:
    """The assets of one ledger, by code and by number. Fixed for ever by the genesis."""

    def __init__(self, assets: Sequence[Asset]) -> None:
        """Hold these assets, in the order of their numbers.

        Raises:
            MalformedInput: ``ASSET_INVALID``, a code or number stands twice.
        """
        self._by_number = {asset.number: asset for asset in sorted(assets, key=lambda asset: asset.number)}
        self._by_code = {asset.code: asset for asset in self._by_number.values()}
        if not len(self._by_code) == len(self._by_number) == len(assets):
            raise MalformedInput("ASSET_INVALID", "An asset's code or number stands twice.")

    @classmethod
    def of(cls, rows: Iterable[_AssetFields]) -> AssetTable:
        """Read the table from the asset rows of a genesis.

        Raises:
            MalformedInput: ``ASSET_INVALID``.
        """
        return cls([Asset(row.code, row.number, row.scale, row.kind) for row in rows])

    def by_code(self, code: str) -> Asset:
        """Give the asset with this code.

        Raises:
            NotFound: ``ASSET_UNKNOWN``.
        """
        asset = self._by_code.get(code)
        if asset is None:
            raise NotFound("ASSET_UNKNOWN", "No such asset on this ledger.", asset=code)
        return asset

    def by_number(self, number: int) -> Asset:
        """Give the asset with this number.

        Raises:
            NotFound: ``ASSET_UNKNOWN``.
        """
        asset = self._by_number.get(number)
        if asset is None:
            raise NotFound("ASSET_UNKNOWN", "No such asset on this ledger.", number=number)
        return asset

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)


def parse_amount(text: str) -> int:
    """Read an amount of minor units: digits without sign, blanks or leading zero, 1 ... 2^63 - 1.

    Raises:
        MalformedInput: ``AMOUNT_INVALID``.
    """
    if _AMOUNT.fullmatch(text) is not None:
        amount = int(text)
        if amount <= AMOUNT_MAX:
            return amount
    raise MalformedInput("AMOUNT_INVALID", "An amount is a whole number of minor units, as digits, at least 1.")


def format_decimal(amount: int, scale: int) -> str:
    """Write minor units with ``scale`` decimal places, for people; a balance may be negative.

    >>> format_decimal(-5, scale=2)
    '-0.05'
    """
    digits = f"{abs(amount):0{scale + 1}d}"
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return ("-" if amount < 0 else "") + whole + ("." + fraction if scale else "")
