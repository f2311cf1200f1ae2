"""The shapes of request bodies: which fields a body has, of which types and sizes, each exactly once.

Unknown fields, ``null``, a field that stands twice and anything of the wrong type or size are refused with a stable
code and the path of the place, so that what was signed has one reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from ledger.errors import MalformedInput
from ledger.messages import BODY_SIZE_MAX

__all__ = [
    "ADVANCE_S_MAX",
    "CLASS_COUNT_MAX",
    "CONTROLS",
    "ITEM_COUNT_MAX",
    "TOPICS",
    "AccountBody",
    "AccountClassesBody",
    "AccountsBody",
    "AddressesBody",
    "BatchBody",
    "Body",
    "CancellationBody",
    "CapBody",
    "CapsBody",
    "ClockBody",
    "IssuanceBody",
    "IssuancesBody",
    "KeyBody",
    "MoneyBody",
    "ParticipantBody",
    "PartiesBody",
    "PartyBody",
    "PaymentBody",
    "QuoteBody",
    "RevocationBody",
    "RotationBody",
    "RulesBody",
    "malformed",
    "parse",
]

ITEM_COUNT_MAX = 10_000
"""Items of one list in a body."""
ADVANCE_S_MAX = 366 * 86_400
"""Seconds by which one message moves a test clock."""
CLASS_COUNT_MAX = 64
"""Classes of one rule set."""

Uuid = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")]
PartyCode = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
AssetCode = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9.]{1,11}\Z")]
Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
AddressText = Annotated[str, Meta(min_length=14, max_length=14)]
CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Characters that no text for people has: they would end or forge a line."""
Text = Annotated[str, Meta(pattern=rf"\A[^{CONTROLS}]{{1,140}}\Z")]
Instant = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
Rate = Annotated[str, Meta(pattern=r"\A(0|[1-9][0-9]{0,9})\.[0-9]{8}\Z")]
ClassName = Annotated[str, Meta(pattern=r"\A[A-Z0-9][A-Z0-9-]{0,15}\Z")]
RulesName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,31}\Z")]
LimitText = Annotated[str, Meta(pattern=r"\A(0|[1-9][0-9]{0,17})\Z")]
"""A limit in minor units, below 10^18."""
Digits = Annotated[str, Meta(min_length=1, max_length=19)]
AssetText = Annotated[str, Meta(min_length=2, max_length=12)]
PurposeText = Annotated[str, Meta(min_length=4, max_length=4)]
ReferenceText = Annotated[str, Meta(min_length=1, max_length=140)]
DateText = Annotated[str, Meta(min_length=10, max_length=10)]
UetrText = Annotated[str, Meta(min_length=36, max_length=36)]
"""What stands in these is checked by ``settlement.items``, for all payments of a batch at once."""
RoleName = Literal["participant", "operator", "fx-provider"]
"""What a registrar may give; the other roles come from the genesis alone, that of reading everything among them."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all bodies have in common: a field they do not know is refused."""


class MoneyBody(Body, frozen=True):
    """An amount of an asset, in minor units."""

    asset: AssetText
    amount: Digits


class PartyBody(Body, frozen=True):
    """A party to be registered with its first key."""

    code: PartyCode
    name: Text
    roles: Annotated[tuple[RoleName, ...], Meta(max_length=3)]
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


class RotationBody(Body, frozen=True):
    """``/v1/keys/rotations``: the key that replaces the signing one."""

    public_key: Hex32


class ParticipantBody(Body, frozen=True):
    """``/v1/participants``: the signer takes part, in these assets."""

    assets: Annotated[tuple[AssetCode, ...], Meta(min_length=1, max_length=16)]


class AccountBody(Body, frozen=True):
    """A customer's account to be opened on the signer's book, in a class of wallets or in none."""

    owner: PartyCode
    asset: AssetCode
    klass: ClassName | UnsetType = field(name="class", default=UNSET)


class AccountsBody(Body, frozen=True):
    """``/v1/accounts``."""

    accounts: Annotated[tuple[AccountBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class AddressesBody(Body, frozen=True):
    """``/v1/accounts/closings`` and ``/v1/accounts/reopenings``: accounts on the signer's book."""

    accounts: Annotated[tuple[AddressText, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class AccountClassBody(Body, frozen=True):
    """A wallet on the signer's book and its class from now on; ``null`` takes it out of every class."""

    account: AddressText
    klass: ClassName | None = field(name="class")


class AccountClassesBody(Body, frozen=True):
    """``/v1/accounts/classes``."""

    accounts: Annotated[tuple[AccountClassBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class ClassBody(Body, frozen=True):
    """What wallets of a class may hold, and pay at once, on a business day and in a year; ``null`` is no limit."""

    klass: ClassName = field(name="class")
    balance: LimitText | None
    payment: LimitText | None
    day: LimitText | None
    year: LimitText | None


class RulesBody(Body, frozen=True):
    """``/v1/rules``: one version of a rule set, whole."""

    rules: RulesName
    valid_from: DateText
    asset: AssetCode
    classes: Annotated[tuple[ClassBody, ...], Meta(min_length=1, max_length=CLASS_COUNT_MAX)]


class IssuanceBody(Body, frozen=True):
    """Money to be issued to a participant."""

    id: Uuid
    participant: PartyCode
    money: MoneyBody


class IssuancesBody(Body, frozen=True):
    """``/v1/issuances``."""

    issuances: Annotated[tuple[IssuanceBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class CapBody(Body, frozen=True):
    """A participant's net debit cap in an asset; ``null`` lifts it."""

    participant: PartyCode
    asset: AssetCode
    maximum: LimitText | None


class CapsBody(Body, frozen=True):
    """``/v1/caps``."""

    caps: Annotated[tuple[CapBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class ClockBody(Body, frozen=True):
    """``/v1/clock``: move the test clock on."""

    advance_s: Annotated[int, Meta(ge=1, le=ADVANCE_S_MAX)]


class QuoteBody(Body, frozen=True):
    """``/v1/quotes``: the signer pays ``sell`` for ``buy``; ``rate`` is sold minor units for each bought one."""

    quote: Uuid
    sell: MoneyBody
    buy: AssetCode
    rate: Rate
    expires: Instant


class PaymentBody(Body, frozen=True):
    """``/v1/payments``: ``money`` leaves the debtor's account, the fee beside it."""

    uetr: UetrText
    debtor: AddressText
    creditor: AddressText
    money: MoneyBody
    creditor_asset: AssetCode | UnsetType = UNSET
    quote: Uuid | UnsetType = UNSET
    fee: MoneyBody | UnsetType = UNSET
    refund_of: Uuid | UnsetType = UNSET
    purpose: PurposeText | UnsetType = UNSET
    reference: ReferenceText | UnsetType = UNSET
    value_date: DateText | UnsetType = UNSET


class BatchBody(Body, frozen=True):
    """``/v1/batches``."""

    payments: Annotated[tuple[PaymentBody, ...], Meta(min_length=1, max_length=ITEM_COUNT_MAX)]


class CancellationBody(Body, frozen=True):
    """``/v1/cancellations``."""

    uetr: Uuid


TOPICS: dict[str, type[Body]] = {
    "/v1/parties": PartiesBody,
    "/v1/keys": KeyBody,
    "/v1/keys/revocations": RevocationBody,
    "/v1/keys/rotations": RotationBody,
    "/v1/participants": ParticipantBody,
    "/v1/accounts": AccountsBody,
    "/v1/accounts/closings": AddressesBody,
    "/v1/accounts/reopenings": AddressesBody,
    "/v1/accounts/classes": AccountClassesBody,
    "/v1/rules": RulesBody,
    "/v1/issuances": IssuancesBody,
    "/v1/caps": CapsBody,
    "/v1/clock": ClockBody,
    "/v1/quotes": QuoteBody,
    "/v1/payments": PaymentBody,
    "/v1/batches": BatchBody,
    "/v1/cancellations": CancellationBody,
}
"""The body of each signed POST."""


_CODES = {
    "amount": ("AMOUNT_INVALID", "An amount is a whole number of minor units, as digits in a string, at least 1."),
    "uetr": ("UETR_INVALID", "A UETR is a lower-case UUIDv4."),
    "refund_of": ("UETR_INVALID", "A UETR is a lower-case UUIDv4."),
    "debtor": ("ADDRESS_INVALID", "This is not an account address."),
    "creditor": ("ADDRESS_INVALID", "This is not an account address."),
    "value_date": ("VALUE_DATE_INVALID", "A value date is a day from 1970-01-02 to 2149-06-06, written like that."),
}
_PATH = re.compile(r" - at `([^`]*)`\Z")
_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")


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


def _refusal(text: str) -> MalformedInput:
    """Turn the decoder's sentence into a stable code and the path of the place."""
    match = _PATH.search(text)
    path = match[1] if match else "$"
    return malformed(re.sub(r"\[[0-9]+\]\Z", "", path).rpartition(".")[2], path)


def _check_fields_once(value: Body, body: bytes) -> None:
    """Refuse a JSON object in which a name stands twice; the decoder would silently take the last.

    Every name ends in a quotation mark before its colon. Where no blank stands before any colon and there are exactly
    as many such ends as fields were read, no name can stand twice. Otherwise (blanks, or a text that looks alike) the
    slow way decides.
    """
    ends = body.count(b'":')
    if ends == _field_count(value) and (ends == body.count(b":") or not any(blank in body for blank in _SPACED_COLONS)):
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
    if isinstance(value, BatchBody):
        return 1 + _payment_field_count(value.payments)
    if isinstance(value, PaymentBody):
        return _payment_field_count((value,))
    if isinstance(value, Body):
        fields = [getattr(value, name) for name in value.__struct_fields__]
        return len(fields) - fields.count(UNSET) + sum(map(_field_count, fields))
    return sum(map(_field_count, value)) if isinstance(value, tuple) else 0


def _payment_field_count(payments: Sequence[PaymentBody]) -> int:
    """Do the same for payments, which have six fields and those of their options; a fee has two more inside."""
    absent = (
        [payment.creditor_asset for payment in payments].count(UNSET)
        + [payment.quote for payment in payments].count(UNSET)
        + [payment.refund_of for payment in payments].count(UNSET)
        + [payment.purpose for payment in payments].count(UNSET)
        + [payment.reference for payment in payments].count(UNSET)
        + [payment.value_date for payment in payments].count(UNSET)
        + 3 * [payment.fee for payment in payments].count(UNSET)
    )
    return (6 + 6 + 3) * len(payments) - absent


def malformed(field: str, path: str) -> MalformedInput:
    """Give the refusal of a field by its name and the path of the place."""
    code, sentence = _CODES.get(field, ("BODY_MALFORMED", "The body is not of the form this path asks for."))
    return MalformedInput(code, sentence, path=path)
