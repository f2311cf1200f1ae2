"""Request bodies: strict JSON in, checked values and columns out. Pure, so that any thread may decode.

A payment, as a client writes it::

    {"uetr": "8f6d…", "debtor": "SH530000000012", "creditor": "HK780000000031",
     "money": {"asset": "CNY", "amount": "12345"}, "purpose": "GDDS", "reference": "invoice 7"}

Amounts are digits of minor units in a string: a JSON number would pass through other people's floating point. Unknown
fields, ``null``, a field that stands twice and anything of the wrong type or size are refused with a stable code and
the path of the place, so that what was signed has one reading.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.accounts import parse_address
from ledger.errors import MalformedInput
from ledger.genesis import Genesis
from settlement.book import ClassRule, RulesVersion
from settlement.items import PaymentItems, amount_of, items_of, money_asset, value_day_of
from settlement.legs import parse_uetr
from settlement.shapes import (
    ITEM_COUNT_MAX,
    TOPICS,
    AccountBody,
    AccountClassesBody,
    AccountsBody,
    AddressesBody,
    BatchBody,
    Body,
    CancellationBody,
    CapsBody,
    ClockBody,
    IssuanceBody,
    IssuancesBody,
    KeyBody,
    MoneyBody,
    ParticipantBody,
    PartiesBody,
    PartyBody,
    PaymentBody,
    QuoteBody,
    RevocationBody,
    RotationBody,
    RulesBody,
    parse,
)

__all__ = [
    "ITEM_COUNT_MAX",
    "RATE_UNIT",
    "TOPICS",
    "AccountBody",
    "AccountClassesBody",
    "AccountsBody",
    "AddressesBody",
    "BatchBody",
    "CancellationBody",
    "CapsBody",
    "ClockBody",
    "IssuanceBody",
    "IssuancesBody",
    "KeyBody",
    "MoneyBody",
    "Offer",
    "ParticipantBody",
    "PartiesBody",
    "PartyBody",
    "PaymentBody",
    "PaymentItems",
    "QuoteBody",
    "RevocationBody",
    "RotationBody",
    "RulesBody",
    "decode",
]

RATE_UNIT = 10**8
"""A rate is a whole number of hundred-millionths."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A quote as its provider signed it; see ``settlement.book.Quote`` for the fields."""

    quote: int
    sell: int
    buy: int
    memo: int
    """The asset in which what is left of the quote is kept."""
    rate_e8: int
    maximum: int
    expires_ns: int


def decode(topic: str, body: bytes, genesis: Genesis) -> Any:
    """Read the body of a signed POST.

    Gives ``PaymentItems`` for payments and batches, an ``Offer`` for a quote, a ``RulesVersion`` for rules, and the
    body as it stands otherwise. The genesis gives the asset table and says which of the two ledgers is this one.

    Raises:
        MalformedInput: ``TOPIC_UNKNOWN``, ``BODY_TOO_LARGE``, ``BODY_MALFORMED`` with the path, ``FIELD_TWICE``, or the
            code of a field: ``AMOUNT_INVALID``, ``UETR_INVALID``, ``ADDRESS_INVALID``, ``ASSET_UNKNOWN``,
            ``LEDGER_UNKNOWN``, ``DEBTOR_ELSEWHERE``, ``ACCOUNT_ELSEWHERE``, ``FEE_ASSET``, ``QUOTE_MISSING``,
            ``QUOTE_IDLE``, ``RATE_INVALID``, ``EXPIRY_INVALID``, ``VALUE_DATE_INVALID``,
            ``VALID_FROM_INVALID``.
    """
    kind = TOPICS.get(topic)
    if kind is None:
        raise MalformedInput("TOPIC_UNKNOWN", "No message is taken at this path.", topic=topic)
    value = parse(kind, body)
    if isinstance(value, PaymentBody):
        return items_of((value,), genesis, single=True)
    if isinstance(value, BatchBody):
        return items_of(value.payments, genesis, single=False)
    if isinstance(value, QuoteBody):
        return _offer(value, genesis)
    if isinstance(value, RulesBody):
        return _rules(value, genesis)
    _check(value, genesis)
    return value


# --- what the shape alone does not say --------------------------------------------------------------------------------


def _check(value: Body, genesis: Genesis) -> None:
    """Check assets and repetitions in the bodies that stay as they are."""
    check = _CHECKS.get(type(value))
    if check is not None:
        check(value, genesis)


def _check_parties(value: PartiesBody, _: Genesis) -> None:
    for index, party in enumerate(value.parties):
        _check_unique(party.roles, f"$.parties[{index}].roles")
    _check_unique([party.code for party in value.parties], "$.parties")
    _check_unique([party.public_key for party in value.parties], "$.parties")


def _check_participant(value: ParticipantBody, genesis: Genesis) -> None:
    _check_unique(value.assets, "$.assets")
    for index, code in enumerate(value.assets):
        money_asset(code, genesis, f"$.assets[{index}]")


def _check_accounts(value: AccountsBody, genesis: Genesis) -> None:
    for index, account in enumerate(value.accounts):
        money_asset(account.asset, genesis, f"$.accounts[{index}].asset")


def _check_addresses(value: AddressesBody, genesis: Genesis) -> None:
    _check_unique(value.accounts, "$.accounts")
    for index, address in enumerate(value.accounts):
        _check_own_address(address, genesis, f"$.accounts[{index}]")


def _check_issuances(value: IssuancesBody, genesis: Genesis) -> None:
    for index, issuance in enumerate(value.issuances):
        money_asset(issuance.money.asset, genesis, f"$.issuances[{index}].money.asset")
        amount_of(issuance.money.amount, f"$.issuances[{index}].money.amount")


def _check_classes(value: AccountClassesBody, genesis: Genesis) -> None:
    _check_unique([entry.account for entry in value.accounts], "$.accounts")
    for index, entry in enumerate(value.accounts):
        _check_own_address(entry.account, genesis, f"$.accounts[{index}].account")


def _check_caps(value: CapsBody, genesis: Genesis) -> None:
    _check_unique([f"{cap.participant} {cap.asset}" for cap in value.caps], "$.caps")
    for index, cap in enumerate(value.caps):
        money_asset(cap.asset, genesis, f"$.caps[{index}].asset")


_CHECKS: dict[type[Body], Callable[[Any, Genesis], None]] = {
    PartiesBody: _check_parties,
    ParticipantBody: _check_participant,
    AccountsBody: _check_accounts,
    AddressesBody: _check_addresses,
    IssuancesBody: _check_issuances,
    CapsBody: _check_caps,
    AccountClassesBody: _check_classes,
}


def _check_own_address(address: str, genesis: Genesis, path: str) -> None:
    try:
        ledger, _ = parse_address(address)
    except MalformedInput as error:
        raise MalformedInput(error.code, "This is not an account address.", path=path) from error
    if ledger != genesis.ledger:
        raise MalformedInput("ACCOUNT_ELSEWHERE", "The account is not on this ledger.", path=path)


def _check_unique(values: Sequence[str], path: str) -> None:
    if len(set(values)) != len(values):
        raise MalformedInput("BODY_MALFORMED", "Something is named twice.", path=path)


def _offer(body: QuoteBody, genesis: Genesis) -> Offer:
    sell = money_asset(body.sell.asset, genesis, "$.sell.asset")
    buy = money_asset(body.buy, genesis, "$.buy")
    memo = [asset.number for asset in genesis.assets if asset.code == f"Q{body.sell.asset}" and asset.kind == "memo"]
    if sell == buy or not memo:
        raise MalformedInput("ASSET_UNKNOWN", "A quote sells one asset for another.", path="$.buy")
    rate_e8 = int(body.rate.replace(".", ""))
    if rate_e8 == 0:
        raise MalformedInput("RATE_INVALID", "A rate is above zero.", path="$.rate")
    return Offer(
        quote=parse_uetr(body.quote),
        sell=sell,
        buy=buy,
        memo=memo[0],
        rate_e8=rate_e8,
        maximum=amount_of(body.sell.amount, "$.sell.amount"),
        expires_ns=_instant_ns(body.expires),
    )


def _rules(body: RulesBody, genesis: Genesis) -> RulesVersion:
    _check_unique([rule.klass for rule in body.classes], "$.classes")
    return RulesVersion(
        rules=body.rules,
        asset=money_asset(body.asset, genesis, "$.asset"),
        valid_from=_valid_from(body.valid_from),
        classes=tuple(
            ClassRule(
                name=rule.klass,
                balance=_limit(rule.balance),
                payment=_limit(rule.payment),
                day=_limit(rule.day),
                year=_limit(rule.year),
            )
            for rule in body.classes
        ),
    )


def _limit(text: str | None) -> int | None:
    return None if text is None else int(text)


def _valid_from(text: str) -> int:
    """Read the date of a rule as days since 1970-01-01."""
    try:
        return value_day_of(text, "$.valid_from")
    except MalformedInput as error:
        raise MalformedInput(
            "VALID_FROM_INVALID", "Rules hold from a day on, written like 2026-12-01.", path="$.valid_from"
        ) from error


def _instant_ns(text: str) -> int:
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedInput("EXPIRY_INVALID", "There is no such instant.", path="$.expires") from error
    return (instant - _EPOCH) // dt.timedelta(seconds=1) * _NANOSECONDS
