"""Rule sets that come with the package: limits of wallets as they are known, each number with its source.

They are data to begin with. On a ledger counts only what its registrar has signed: ``body`` gives what it signs to
bring one of them, from a day on::

    >>> body("ecny-wallets", "2026-12-01")["classes"][1]["balance"]
    '1000000'
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any

import msgspec

from settlement.shapes import AssetCode, ClassName, LimitText, RulesName

__all__ = ["NAMES", "RuleSet", "body", "load"]

NAMES = ("ecny-wallets", "hong-kong-wallets")
Sentence = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9e].*\.\Z")]


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number in minor units, or none, and who says so."""

    limit: LimitText | None
    source: Sentence


class Class(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class of wallets."""

    klass: ClassName = msgspec.field(name="class")
    about: Sentence
    balance: Limit
    payment: Limit
    day: Limit
    year: Limit


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    rules: RulesName
    asset: AssetCode
    about: Sentence
    classes: tuple[Class, ...]


def load(name: str) -> RuleSet:
    """Read one of ``NAMES``."""
    data = resources.files("settlement.rules").joinpath(f"{name}.json").read_bytes()
    return msgspec.json.decode(data, type=RuleSet)


def body(name: str, valid_from: str) -> dict[str, Any]:
    """Give the body of ``POST /v1/rules`` that brings one of ``NAMES`` from a day on."""
    found = load(name)
    return {
        "rules": found.rules,
        "valid_from": valid_from,
        "asset": found.asset,
        "classes": [
            {
                "class": entry.klass,
                "balance": entry.balance.limit,
                "payment": entry.payment.limit,
                "day": entry.day.limit,
                "year": entry.year.limit,
            }
            for entry in found.classes
        ],
    }
