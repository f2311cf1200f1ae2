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
import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, UnsetType

from ledger.accounts import parse_address
from ledger.assets import parse_amount
from ledger.errors import MalformedInput
from ledger.genesis import Genesis
from ledger.messages import BODY_SIZE_MAX
from settlement.book import PAYMENT, PEER, Payments
from settlement.legs import parse_uetr

__all__ = [
    "ITEM_COUNT_MAX",
    "RATE_UNIT",
    "TOPICS",
    "AccountBody",
    "AccountsBody",
    "BatchBody",
    "CancellationBody",
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
    "decode",
]

ITEM_COUNT_MAX = 10_000
"""Items of one list in a body."""
RATE_UNIT = 10**8
"""A rate is a whole number of hundred-millionths."""

Uuid = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")]
PartyCode = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
AssetCode = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9.]{1,11}\Z")]
Digits = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,18}\Z")]
Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
AddressText = Annotated[str, Meta(min_length=14, max_length=14)]
Text = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,140}\Z")]
Instant = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
Rate = Annotated[str, Meta(pattern=r"\A(0|[1-9][0-9]{0,9})\.[0-9]{8}\Z")]
Purpose = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}\Z")]
RoleName = Literal["participant", "operator", "fx-provider", "auditor"]
"""What a registrar may give; the other roles come from the genesis alone."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all bodies have in common: a field they do not know is refused."""


class MoneyBody(Body, frozen=True):
    """An amount of an asset, in minor units."""

    asset: AssetCode
    amount: Digits


class PartyBody(Body, frozen=True):
    """A party to be registered with its first key."""

    code: PartyCode
    name: Text
    roles: Annotated[tuple[RoleName, ...], Meta(max_length=4)]
    public_key: Hex32


class PartiesBody(Body, frozen=True):
    """``/v1/parties``."""

    parties: Annotated[tuple[PartyBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class KeyBody(Body, frozen=True):
    """``/v1/keys``: one more key of a party."""

    party: PartyCode
    public_key: Hex32


class RevocationBody(Body, frozen=True):
    """``/v1/keys/revocations``."""

    key_id: Hex32


class ParticipantBody(Body, frozen=True):
    """``/v1/participants``: the signer takes part, in these assets."""

    assets: Annotated[tuple[AssetCode, ...], Meta(min_length=1, max_length=16)]


class AccountBody(Body, frozen=True):
    """A customer's account to be opened on the signer's book."""

    owner: PartyCode
    asset: AssetCode


class AccountsBody(Body, frozen=True):
    """``/v1/accounts``."""

    accounts: Annotated[tuple[AccountBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class IssuanceBody(Body, frozen=True):
    """Money to be issued to a participant."""

    id: Uuid
    participant: PartyCode
    money: MoneyBody


class IssuancesBody(Body, frozen=True):
    """``/v1/issuances``."""

    issuances: Annotated[tuple[IssuanceBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class QuoteBody(Body, frozen=True):
    """``/v1/quotes``: the signer pays ``sell`` for ``buy``; ``rate`` is sold minor units for each bought one."""

    quote: Uuid
    sell: MoneyBody
    buy: AssetCode
    rate: Rate
    expires: Instant


class PaymentBody(Body, frozen=True):
    """``/v1/payments``: ``money`` leaves the debtor's account, the fee beside it."""

    uetr: Uuid
    debtor: AddressText
    creditor: AddressText
    money: MoneyBody
    creditor_asset: AssetCode | UnsetType = UNSET
    quote: Uuid | UnsetType = UNSET
    fee: MoneyBody | UnsetType = UNSET
    refund_of: Uuid | UnsetType = UNSET
    purpose: Purpose | UnsetType = UNSET
    reference: Text | UnsetType = UNSET


class BatchBody(Body, frozen=True):
    """``/v1/batches``."""

    payments: Annotated[tuple[PaymentBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class CancellationBody(Body, frozen=True):
    """``/v1/cancellations``."""

    uetr: Uuid


@dataclass(frozen=True, slots=True)
class PaymentItems:
    """Payments in columns, shape (n,).

    ``rows`` has what the payer said; participants, position and ``creditor_amount`` are still zero. ``fees`` is in
    minor units of ``asset``, zero for none; ``across`` says whether the creditor is on the other ledger.
    """

    rows: Payments
    fees: _Amounts
    across: npt.NDArray[np.bool_]


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


TOPICS: dict[str, type[Body]] = {
    "/v1/parties": PartiesBody,
    "/v1/keys": KeyBody,
    "/v1/keys/revocations": RevocationBody,
    "/v1/participants": ParticipantBody,
    "/v1/accounts": AccountsBody,
    "/v1/issuances": IssuancesBody,
    "/v1/quotes": QuoteBody,
    "/v1/payments": PaymentBody,
    "/v1/batches": BatchBody,
    "/v1/cancellations": CancellationBody,
}
"""The body of each signed POST."""

_Path = Callable[[int, str], str]
"""How the path of an item's field is written."""
_Amounts = npt.NDArray[np.int64]
_CODES = {
    "amount": ("AMOUNT_INVALID", "An amount is a whole number of minor units, as digits in a string, at least 1."),
    "uetr": ("UETR_INVALID", "A UETR is a lower-case UUIDv4."),
    "refund_of": ("UETR_INVALID", "A UETR is a lower-case UUIDv4."),
    "debtor": ("ADDRESS_INVALID", "This is not an account address."),
    "creditor": ("ADDRESS_INVALID", "This is not an account address."),
}
_PATH = re.compile(r" - at `([^`]*)`\Z")
_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANOSECONDS = 1_000_000_000


def decode(topic: str, body: bytes, genesis: Genesis) -> Any:
    """Read the body of a signed POST.

    Gives ``PaymentItems`` for payments and batches, an ``Offer`` for a quote, and the body as it stands otherwise. The
    genesis gives the asset table and says which of the two ledgers is this one.

    Raises:
        MalformedInput: ``TOPIC_UNKNOWN``, ``BODY_TOO_LARGE``, ``BODY_MALFORMED`` with the path, ``FIELD_TWICE``, or the
            code of a field: ``AMOUNT_INVALID``, ``UETR_INVALID``, ``ADDRESS_INVALID``, ``ASSET_UNKNOWN``,
            ``LEDGER_UNKNOWN``, ``DEBTOR_ELSEWHERE``, ``FEE_ASSET``, ``QUOTE_MISSING``, ``QUOTE_IDLE``,
            ``RATE_INVALID``, ``EXPIRY_INVALID``.
    """
    kind = TOPICS.get(topic)
    if kind is None:
        raise MalformedInput("TOPIC_UNKNOWN", "No message is taken at this path.", topic=topic)
    value = parse(kind, body)
    if isinstance(value, PaymentBody):
        return _items((value,), genesis, single=True)
    if isinstance(value, BatchBody):
        return _items(value.payments, genesis, single=False)
    if isinstance(value, QuoteBody):
        return _offer(value, genesis)
    _check(value, genesis)
    return value


def parse(kind: type[Body], body: bytes) -> Body:
    """Read one body by its shape alone: types, sizes, unknown and repeated fields.

    Raises:
        MalformedInput: see ``decode``.
    """
    if len(body) > BODY_SIZE_MAX:
        raise MalformedInput("BODY_TOO_LARGE", "The body is larger than a message may be.")
    try:
        value = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise MalformedInput("BODY_MALFORMED", "The body is not JSON in UTF-8.", path="$") from error
    _check_fields_once(value, body)
    return value


# --- what the shape alone does not say --------------------------------------------------------------------------------


def _refusal(text: str) -> MalformedInput:
    """Turn the decoder's sentence into a stable code and the path of the place."""
    match = _PATH.search(text)
    path = match[1] if match else "$"
    field = re.sub(r"\[[0-9]+\]\Z", "", path).rpartition(".")[2]
    code, sentence = _CODES.get(field, ("BODY_MALFORMED", "The body is not of the form this path asks for."))
    return MalformedInput(code, sentence, path=path)


def _check_fields_once(value: Body, body: bytes) -> None:
    """Refuse a JSON object in which a name stands twice; the decoder would silently take the last.

    Every name ends in a quotation mark before its colon. Where no blank stands before any colon and there are exactly
    as many such ends as fields were read, no name can stand twice. Otherwise (blanks, or a text that looks alike) the
    slow way decides.
    """
    if body.count(b'":') == _field_count(value) and not any(blank in body for blank in _SPACED_COLONS):
        return

    def once(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise MalformedInput("FIELD_TWICE", "A field stands twice in one object.")

    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise MalformedInput("BODY_MALFORMED", "The body is not JSON in UTF-8.", path="$") from error


def _field_count(value: Any) -> int:
    """Count the fields that a decoded body was given, those of its parts included."""
    if isinstance(value, PaymentBody):
        optional = (value.creditor_asset, value.quote, value.refund_of, value.purpose, value.reference)
        return 6 + sum(field is not UNSET for field in optional) + (0 if value.fee is UNSET else 3)
    if isinstance(value, Body):
        fields = [getattr(value, name) for name in value.__struct_fields__]
        return len(fields) + sum(_field_count(field) for field in fields if not isinstance(field, str))
    return sum(_field_count(item) for item in value if not isinstance(item, str))


def _check(value: Body, genesis: Genesis) -> None:
    """Check assets and repetitions in the bodies that stay as they are."""
    if isinstance(value, PartiesBody):
        for index, party in enumerate(value.parties):
            _check_unique(party.roles, f"$.parties[{index}].roles")
        _check_unique([party.code for party in value.parties], "$.parties")
        _check_unique([party.public_key for party in value.parties], "$.parties")
    elif isinstance(value, ParticipantBody):
        _check_unique(value.assets, "$.assets")
        for index, code in enumerate(value.assets):
            _money_asset(code, genesis, f"$.assets[{index}]")
    elif isinstance(value, AccountsBody):
        for index, account in enumerate(value.accounts):
            _money_asset(account.asset, genesis, f"$.accounts[{index}].asset")
    elif isinstance(value, IssuancesBody):
        for index, issuance in enumerate(value.issuances):
            _money_asset(issuance.money.asset, genesis, f"$.issuances[{index}].money.asset")
            _amount(issuance.money.amount, f"$.issuances[{index}].money.amount")


def _check_unique(values: Sequence[str], path: str) -> None:
    if len(set(values)) != len(values):
        raise MalformedInput("BODY_MALFORMED", "Something is named twice.", path=path)


def _money_asset(code: str, genesis: Genesis, path: str) -> int:
    for asset in genesis.assets:
        if asset.code == code and asset.kind == "money":
            return asset.number
    raise MalformedInput("ASSET_UNKNOWN", "No such money on this ledger.", asset=code, path=path)


def _amount(text: str, path: str) -> int:
    try:
        return parse_amount(text)
    except MalformedInput as error:
        raise MalformedInput(error.code, error.sentence, path=path) from error


def _uuid(text: str | UnsetType) -> int:
    """Read an id whose form the shape has checked; zero for none."""
    return parse_uetr(text) if isinstance(text, str) else 0


def _offer(body: QuoteBody, genesis: Genesis) -> Offer:
    sell = _money_asset(body.sell.asset, genesis, "$.sell.asset")
    buy = _money_asset(body.buy, genesis, "$.buy")
    memo = [asset.number for asset in genesis.assets if asset.code == f"Q{body.sell.asset}" and asset.kind == "memo"]
    if sell == buy or not memo:
        raise MalformedInput("ASSET_UNKNOWN", "A quote sells one asset for another.", path="$.buy")
    rate_e8 = int(body.rate.replace(".", ""))
    if rate_e8 == 0:
        raise MalformedInput("RATE_INVALID", "A rate is above zero.", path="$.rate")
    return Offer(
        quote=_uuid(body.quote),
        sell=sell,
        buy=buy,
        memo=memo[0],
        rate_e8=rate_e8,
        maximum=_amount(body.sell.amount, "$.sell.amount"),
        expires_ns=_instant_ns(body.expires),
    )


def _instant_ns(text: str) -> int:
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedInput("EXPIRY_INVALID", "There is no such instant.", path="$.expires") from error
    return (instant - _EPOCH) // dt.timedelta(seconds=1) * _NANOSECONDS


# --- payments into columns --------------------------------------------------------------------------------------------


def _items(payments: Sequence[PaymentBody], genesis: Genesis, *, single: bool) -> PaymentItems:
    """Put payments into columns; ``single`` says how the path of an item is written."""

    def path(index: int, field: str) -> str:
        return f"$.{field}" if single else f"$.payments[{index}].{field}"

    debtors = _addresses([payment.debtor for payment in payments], lambda index: path(index, "debtor"))
    creditors = _addresses([payment.creditor for payment in payments], lambda index: path(index, "creditor"))
    for index, (ledger, _) in enumerate(debtors):
        if ledger != genesis.ledger:
            raise MalformedInput(
                "DEBTOR_ELSEWHERE", "A payment is sent to the payer's own ledger.", path=path(index, "debtor")
            )
    for index, (ledger, _) in enumerate(creditors):
        if ledger not in PEER:
            raise MalformedInput("LEDGER_UNKNOWN", "There is no such ledger.", path=path(index, "creditor"))
    rows = np.zeros(len(payments), PAYMENT)
    rows["debtor"] = [number for _, number in debtors]
    rows["creditor"] = [number for _, number in creditors]
    _put_ids(rows, "uetr", [payment.uetr for payment in payments])
    _put_money(rows, payments, genesis, path)
    fees = _put_options(rows, payments, genesis, path)
    across = np.array([ledger != genesis.ledger for ledger, _ in creditors], np.bool_)
    return PaymentItems(rows, fees, across)


def _put_options(rows: Payments, payments: Sequence[PaymentBody], genesis: Genesis, path: _Path) -> _Amounts:
    """Write what only some payments have; gives the fees."""
    fees = np.zeros(len(payments), np.int64)
    for index, payment in enumerate(payments):
        if payment.purpose is not UNSET:
            rows["purpose"][index] = payment.purpose.encode("ascii")
        if payment.refund_of is not UNSET:
            _put_ids(rows[index : index + 1], "refund", [payment.refund_of])
        if payment.fee is not UNSET:
            fees[index] = _fee(payment, payment.fee, path(index, "fee"))
        if payment.creditor_asset is not UNSET or payment.quote is not UNSET:
            _put_conversion(rows[index : index + 1], payment, genesis, functools.partial(path, index))
    return fees


def _put_money(rows: Payments, payments: Sequence[PaymentBody], genesis: Genesis, path: _Path) -> None:
    """Write amounts and the asset that the payer pays; the payee receives the same unless a conversion follows."""
    numbers = {asset.code: asset.number for asset in genesis.assets if asset.kind == "money"}
    rows["asset"] = [numbers.get(payment.money.asset, 0) for payment in payments]
    if not np.all(rows["asset"]):
        index = int(np.flatnonzero(rows["asset"] == 0)[0])
        _money_asset(payments[index].money.asset, genesis, path(index, "money.asset"))
    rows["creditor_asset"] = rows["asset"]
    rows["amount"] = [
        _amount(payment.money.amount, path(index, "money.amount")) for index, payment in enumerate(payments)
    ]


def _addresses(texts: list[str], path: Callable[[int], str]) -> list[tuple[str, int]]:
    """Read addresses; one that stands often is read once."""
    known: dict[str, tuple[str, int]] = {}
    for index, text in enumerate(texts):
        if text not in known:
            try:
                known[text] = parse_address(text)
            except MalformedInput as error:
                raise MalformedInput(error.code, error.sentence, path=path(index)) from error
    return [known[text] for text in texts]


def _put_ids(rows: Payments, name: str, texts: list[str]) -> None:
    """Write UUIDs, whose form was checked, into two columns."""
    halves = np.frombuffer(bytes.fromhex("".join(texts).replace("-", "")), ">u8").reshape(len(texts), 2)
    rows[f"{name}_hi"] = halves[:, 0]
    rows[f"{name}_lo"] = halves[:, 1]


def _fee(payment: PaymentBody, fee: MoneyBody, path: str) -> int:
    if fee.asset != payment.money.asset:
        raise MalformedInput("FEE_ASSET", "A fee is in the asset that the payer pays.", path=f"{path}.asset")
    return _amount(fee.amount, f"{path}.amount")


def _put_conversion(rows: Payments, payment: PaymentBody, genesis: Genesis, path: Callable[[str], str]) -> None:
    """Note what the payee receives; a quote stands exactly where that is another asset."""
    asset = payment.creditor_asset
    if asset is UNSET or asset == payment.money.asset:
        if payment.quote is not UNSET:
            raise MalformedInput("QUOTE_IDLE", "A payment in one asset names no quote.", path=path("quote"))
        return
    if payment.quote is UNSET:
        raise MalformedInput("QUOTE_MISSING", "A payment in two assets names a quote.", path=path("quote"))
    rows["creditor_asset"] = _money_asset(asset, genesis, path("creditor_asset"))
    _put_ids(rows, "quote", [payment.quote])
