"""Value dates of payments: how they are written, how far away they may be, and where they are kept."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pytest

from ledger.errors import MalformedInput, Rejected
from ledger.messages import BODY_SIZE_MAX
from ledger.meters import business_day, business_day_start_ns
from ledger.transfers import VALUE_DAY_MAX, Result
from settlement.bodies import decode
from settlement.payments import VALUE_DISTANCE_MAX
from settlement.statements import LIST_COUNT_MAX, PARTICIPANTS_MAX, encode
from settlement.views import PaymentStatus
from tests.settlement_fixture import CREATED_NS, World, genesis_of, money, uetr_of
from tests.unit.test_statements import list_body, row

EPOCH = dt.date(1970, 1, 1)
TODAY = business_day(CREATED_NS)


def date(day: int) -> str:
    """Write days since 1970 as a date."""
    return str(EPOCH + dt.timedelta(days=day))


def read(value_date: Any) -> int:
    """Decode a payment with a value date; gives the day."""
    body = {
        "uetr": uetr_of("dated"),
        "debtor": "SH530000000012",
        "creditor": "HK890000000014",
        "money": money(1),
        "value_date": value_date,
    }
    return int(decode("/v1/payments", json.dumps(body).encode(), genesis_of("SH")).rows["value_day"][0])


@pytest.mark.parametrize(("text", "day"), [("1970-01-02", 1), ("2026-11-30", 20787), ("2149-06-06", VALUE_DAY_MAX)])
def test_a_date_counts_days(text: str, day: int) -> None:
    """A date is days since 1970, up to the last one that a record can have."""
    assert read(text) == day
    assert date(day) == text


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01",
        "1969-12-31",
        "2149-06-07",
        "2026-02-30",
        "2026-13-01",
        "0000-01-01",
        "2026-W48-1",
        "20261130 1",
        "2026/11/30",
        "2026-11-3\u0660",
        "2026-11-30Z",
        "",
        20787,
    ],
)
def test_what_is_no_date_is_refused(text: Any) -> None:
    """Anything else than an existing day in one spelling is refused, with its path."""
    with pytest.raises(MalformedInput) as caught:
        read(text)
    assert (caught.value.code, caught.value.fields["path"]) == ("VALUE_DATE_INVALID", "$.value_date")


def test_a_date_in_a_batch_is_named_by_its_item() -> None:
    """The path of a bad date names the payment."""
    world = World.funded()
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 1)
    with pytest.raises(MalformedInput) as caught:
        world.sh.pay("ann", payment, payment | {"value_date": "2026-02-30"})
    assert caught.value.fields["path"] == "$.payments[1].value_date"


def test_all_records_of_a_payment_have_its_value_day() -> None:
    """Every leg of a gross payment with a fee has the value day, and the payment shows it; others have none."""
    world = World.funded()
    dated = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 5_00, value_date=date(TODAY + 3), fee=money(7))
    plain = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 6_00)

    records = world.sh.pay("ann", dated, plain)

    assert records["value_day"].tolist() == [TODAY + 3] * 4 + [0] * 3
    assert (world.sh.view("ann", dated).value_day, world.sh.view("ann", plain).value_day) == (TODAY + 3, 0)


def test_both_ledgers_have_the_value_day() -> None:
    """A payment across the border has its value day in the records of both ledgers, with and without FX, for ever."""
    world = World.everywhere()
    quote = world.quote(sell="HKD", maximum=1_000_00, buy="CNY", rate="1.08430000")
    more = {"value_date": date(TODAY - 9)}
    plain = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00, **more)
    exchanged = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 6_00, **more, creditor_asset="HKD", quote=quote)
    back = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 7_00, **more)
    seen: list[int] = []
    world.hk.on_records = lambda _, records: seen.extend(records["value_day"][records["code"] == 4].tolist())
    assert world.sh.pay("ann", plain, exchanged)["value_day"].tolist() == [TODAY - 9] * 2
    assert world.hk.pay("dan", back)["value_day"].tolist() == [TODAY - 9]

    assert world.settle([exchanged["uetr"]])
    assert world.settle()

    assert seen == [TODAY - 9] * (1 + 4 + 4)  # the exchange comes again in the second window
    for node, who, payment in ((world.sh, "ann", plain), (world.hk, "dan", plain), (world.hk, "dan", exchanged)):
        view = node.view(who, payment)
        assert (view.status, view.value_day) == (PaymentStatus.SETTLED, TODAY - 9)
    assert world.sh.view("ann", back).value_day == TODAY - 9


def test_a_refused_payment_keeps_its_value_day() -> None:
    """The record of a refusal has the value day that was asked for, and so has the payment."""
    world = World.funded()
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 999_999_00, value_date=date(TODAY))

    assert world.sh.refused("ann", payment) == [Result.DEBIT_LIMIT]

    assert world.sh.view("ann", payment).value_day == TODAY


@pytest.mark.parametrize("distance", [-VALUE_DISTANCE_MAX, VALUE_DISTANCE_MAX])
def test_how_far_away_a_value_date_may_be(distance: int) -> None:
    """A year and a day either way passes; one more refuses the whole message, and uses up nothing."""
    world = World.funded()
    near = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 1, value_date=date(TODAY + distance))
    farther = date(TODAY + distance + (1 if distance > 0 else -1))
    far = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 2, value_date=farther)

    error = world.sh.refusal("ann", "/v1/batches", {"payments": [near, far]})

    assert isinstance(error, Rejected)
    assert (error.code, error.fields) == ("VALUE_DATE_RANGE", {"item": 1})
    assert world.sh.pay("ann", near)["result"].tolist() == [Result.OK]


def test_the_distance_counts_from_the_business_day() -> None:
    """What was too far away yesterday evening passes on the next business day, from its first instant on."""
    world = World.funded()
    far = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 2, value_date=date(TODAY + 1 + VALUE_DISTANCE_MAX))
    begin = business_day_start_ns(TODAY + 1)

    assert world.sh.refusal("ann", "/v1/payments", far, at_ns=begin - 1).code == "VALUE_DATE_RANGE"
    assert world.sh.pay("ann", far, at_ns=begin)["result"].tolist() == [Result.OK]


def test_a_list_fits_into_a_message() -> None:
    """A list of as many payments as it may have, and of as many participants, is no larger than a body may be."""
    rows = np.repeat(row(7), LIST_COUNT_MAX)
    body = list_body(rows, participants=tuple((2**31 + index, "x" * 64) for index in range(PARTICIPANTS_MAX)))
    assert len(encode(body)) < BODY_SIZE_MAX
