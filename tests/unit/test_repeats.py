"""Whether a repeated id asks for the same again, and which field differs first."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ledger import columns
from ledger.transfers import TRANSFER, Flag, Transfers, transfers
from settlement.repeats import (
    COMMAND_FIELDS,
    OTHER_KIND,
    PAYMENT_FIELDS,
    Requests,
    difference,
    path_of,
    request_of,
    requests_of,
)
from tests.settlement_fixture import uetr_of

PAYMENT: dict[str, Any] = {
    "uetr": uetr_of("one"),
    "debtor": "SH530000000012",
    "creditor": "HK890000000014",
    "money": {"asset": "CNY", "amount": "100"},
    "creditor_asset": "HKD",
    "quote": uetr_of("quote"),
    "fee": {"asset": "CNY", "amount": "7"},
    "refund_of": uetr_of("original"),
    "purpose": "GDDS",
    "reference": "invoice 7",
    "value_date": "2026-11-30",
}
OTHER: dict[str, Any] = {
    "debtor": "SH260000000013",
    "creditor": "HK620000000015",
    "money.asset": {"asset": "HKD", "amount": "100"},
    "money.amount": {"asset": "CNY", "amount": "101"},
    "creditor_asset": "CNY",
    "quote": uetr_of("other quote"),
    "fee": {"asset": "CNY", "amount": "8"},
    "refund_of": uetr_of("other original"),
    "purpose": "SALA",
    "reference": "invoice 8",
    "value_date": "2026-12-01",
}
OPTIONAL = ("creditor_asset", "quote", "fee", "refund_of", "purpose", "reference", "value_date")


def payment_of(body: dict[str, Any]) -> Requests:
    """Give the one item of a message."""
    return requests_of("/v1/payments", json.dumps(body).encode())


def compared(first: dict[str, Any], again: dict[str, Any]) -> str | None:
    """Compare two payments."""
    requests = request_of(payment_of(first), 0), request_of(payment_of(again), 0)
    assert requests[1] is not None
    return difference(requests[0], requests[1])


def changed(*names: str) -> dict[str, Any]:
    """Give the payment with other values in these fields."""
    return PAYMENT | {name.partition(".")[0]: OTHER[name] for name in names}


def command(**values: int) -> Transfers:
    """Give one command with something in every column that a body has."""
    row = transfers(1)
    for name in COMMAND_FIELDS:
        row[name] = 5
    row["flags"] = Flag.MIN_AVAILABLE
    for name, value in values.items():
        row[name] = value
    return row


def test_every_field_of_a_payment_is_compared() -> None:
    """Each field that a payment can have is compared, but for the name that is the same."""
    names = {name for field in PAYMENT_FIELDS for name in field.split(".")[:1]}
    assert {"uetr", *names} == set(PAYMENT)
    assert set(OTHER) == set(PAYMENT_FIELDS)


@pytest.mark.parametrize("name", PAYMENT_FIELDS)
def test_a_payment_that_differs_in_one_field(name: str) -> None:
    """The field that differs is named, whichever of the two came first."""
    assert compared(PAYMENT, changed(name)) == compared(changed(name), PAYMENT) == name


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_payment_that_leaves_a_field_out(name: str) -> None:
    """A field that one of the two leaves out differs."""
    without = {key: value for key, value in PAYMENT.items() if key != name}
    assert compared(PAYMENT, without) == compared(without, PAYMENT) == name


def test_the_first_of_several_fields_is_named() -> None:
    """Of any two fields that differ the one that stands earlier in the order is named."""
    names = list(PAYMENT_FIELDS)
    for index, name in enumerate(names):
        for later in names[index + 1 :]:
            if {name, later} != {"money.asset", "money.amount"}:
                assert compared(PAYMENT, changed(name, later)) == name
    money = PAYMENT | {"money": {"asset": "HKD", "amount": "101"}}
    assert compared(PAYMENT, money) == "money.asset"


def test_the_same_payment_in_other_words() -> None:
    """Order of fields and white space say nothing, nor does naming the asset that is paid as the one received."""
    plain = {key: value for key, value in PAYMENT.items() if key not in ("creditor_asset", "quote")}
    assert compared(plain, dict(reversed(plain.items()))) is None
    assert compared(plain, plain | {"creditor_asset": "CNY"}) is None
    assert compared(PAYMENT, PAYMENT) is None


def test_an_item_of_a_batch_is_compared_with_a_payment() -> None:
    """It makes no difference in which kind of message a payment stood."""
    batch = requests_of("/v1/batches", json.dumps({"payments": [changed("purpose"), PAYMENT]}).encode())
    alone = request_of(payment_of(PAYMENT), 0)
    assert alone is not None
    assert [difference(request_of(batch, item), alone) for item in (0, 1)] == ["purpose", None]


def test_every_column_of_a_command_is_compared() -> None:
    """Each column that a body may have is compared, in the order of the record, but for the id itself."""
    optional = columns.names_of(columns.MASK_MAX)
    assert set(COMMAND_FIELDS) == set(optional) - {"id_hi", "id_lo"}
    assert list(COMMAND_FIELDS) == [name for name in TRANSFER.names or () if name in COMMAND_FIELDS]


@pytest.mark.parametrize("index", range(len(COMMAND_FIELDS)))
def test_a_command_that_differs(index: int) -> None:
    """Of columns that differ the first one is named; what the journal fills in is not looked at."""
    first, again = command()[0], command(**dict.fromkeys(COMMAND_FIELDS[index:], 3), result=3, message=9, party=2)[0]
    assert difference(first, again) == difference(again, first) == COMMAND_FIELDS[index]
    assert difference(first, command(result=3, message=9)[0]) is None


def test_commands_are_read_from_their_columns() -> None:
    """The items of a message in columns are its commands."""
    both = np.concatenate((command(id_lo=1), command(id_lo=2, amount=6)))
    requests = requests_of("/v1/transfers", columns.encode(both))
    first, again = request_of(requests, 0), request_of(requests, 1)
    assert again is not None
    assert difference(first, again) == "amount"


def test_another_kind_of_message_differs_as_a_whole() -> None:
    """A payment and a command are never the same, and an issuance is the same as neither."""
    payment, row = request_of(payment_of(PAYMENT), 0), command()[0]
    assert payment is not None
    assert request_of(requests_of("/v1/issuances", b"{}"), 0) is None
    pairs = [(payment, row), (row, payment), (None, payment), (None, row)]
    assert [difference(*pair) for pair in pairs] == [OTHER_KIND] * 4


@pytest.mark.parametrize(
    ("topic", "field", "path"),
    [
        ("/v1/payments", "money.amount", "$.money.amount"),
        ("/v1/batches", "fee", "$.payments[3].fee"),
        ("/v1/transfers", "amount", "amount"),
        ("/v1/payments", OTHER_KIND, "$"),
        ("/v1/batches", OTHER_KIND, "$"),
    ],
)
def test_where_a_field_stands(topic: str, field: str, path: str) -> None:
    """A field's path is that of the message which repeats; columns are named as they are."""
    assert path_of(topic, 3, field) == path
