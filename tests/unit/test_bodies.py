"""Request bodies: what is read, and what is refused with which code and at which path."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.accounts import address, parse_address
from ledger.errors import MalformedInput
from ledger.messages import BODY_SIZE_MAX
from ledger.transfers import id_of
from settlement import bodies, shapes
from settlement.bodies import PaymentItems, decode
from settlement.interpreter import COLUMNS_TOPIC, HANDLERS
from tests.settlement_fixture import genesis_of, issuance, money, party, public_key_of, uetr_of

GENESIS = genesis_of("SH")
UETR = uetr_of("payment")
Json = dict[str, Any]


def payment(**fields: Any) -> Json:
    """Give a payment with some fields replaced; ``None`` leaves a field out."""
    plain = {
        "uetr": UETR,
        "debtor": address("SH", 12),
        "creditor": address("HK", 31),
        "money": money(12_345),
    }
    return {name: value for name, value in (plain | fields).items() if value is not None}


def quote(**fields: Any) -> Json:
    """Give a quote with some fields replaced."""
    plain = {
        "quote": uetr_of("quote"),
        "sell": money(1_000_00, "HKD"),
        "buy": "CNY",
        "rate": "1.08430000",
        "expires": "2025-06-18T09:30:00Z",
    }
    return plain | fields


GOOD: dict[str, Json] = {
    "/v1/parties": {"parties": [party("ALPHA", "participant", "operator"), party("ann")]},
    "/v1/keys": {"party": "ALPHA", "public_key": public_key_of("ALPHA")},
    "/v1/keys/revocations": {"key_id": "ab" * 32},
    "/v1/keys/rotations": {"public_key": public_key_of("ALPHA")},
    "/v1/participants": {"assets": ["CNY", "HKD"]},
    "/v1/accounts": {"accounts": [{"owner": "ann", "asset": "CNY"}]},
    "/v1/accounts/classes": {
        "accounts": [{"account": address("SH", 12), "class": "IV"}, {"account": address("SH", 13), "class": None}]
    },
    "/v1/rules": {
        "rules": "ecny-wallets",
        "valid_from": "2025-12-01",
        "asset": "CNY",
        "classes": [
            {"class": "II", "balance": "50000000", "payment": "5000000", "day": "10000000", "year": None},
            {"class": "IV", "balance": "1000000", "payment": "200000", "day": "500000", "year": "5000000"},
        ],
    },
    "/v1/accounts/closings": {"accounts": [address("SH", 12), address("SH", 13)]},
    "/v1/accounts/reopenings": {"accounts": [address("SH", 12)]},
    "/v1/issuances": {"issuances": [issuance("ALPHA", 5)]},
    "/v1/caps": {
        "caps": [
            {"participant": "ALPHA", "asset": "CNY", "maximum": "500"},
            {"participant": "ALPHA", "asset": "HKD", "maximum": None},
        ]
    },
    "/v1/clock": {"advance_s": 86_400},
    "/v1/quotes": quote(),
    "/v1/payments": payment(),
    "/v1/batches": {"payments": [payment(), payment(uetr=uetr_of("other"))]},
    "/v1/cancellations": {"uetr": UETR},
}


NOTHING: dict[str, dict[str, object]] = {
    "/v1/parties": {"roles": []},
    "/v1/caps": {"maximum": None},
    "/v1/accounts/classes": {"class": None},
    "/v1/rules": dict.fromkeys(("balance", "payment", "day", "year")),
}
"""Where nothing says something: no role, no cap, no class and no limit."""


def encoded(body: object) -> bytes:
    """Write JSON as compactly as clients do."""
    return json.dumps(body, separators=(",", ":")).encode()


def refused(topic: str, body: object) -> MalformedInput:
    """Give the refusal of a body."""
    with pytest.raises(MalformedInput) as caught:
        decode(topic, body if isinstance(body, bytes) else encoded(body), GENESIS)
    return caught.value


def at_place(body: Any, path: tuple[str | int, ...], value: object) -> Any:
    """Replace what stands at a path of a JSON value."""
    if not path:
        return value
    copy = list(body) if isinstance(body, list) else dict(body)
    copy[path[0]] = at_place(body[path[0]], path[1:], value)  # type: ignore[call-overload, index]  # either kind
    return copy


def places(body: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Name every place of a JSON value."""
    steps = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(found for step, value in steps for found in places(value, (*path, step)))]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_every_topic_has_a_body_and_a_handler() -> None:
    """Bodies, handlers (but for the one in columns) and the examples of this test name the same topics."""
    assert set(bodies.TOPICS) == set(HANDLERS) - {COLUMNS_TOPIC} == set(GOOD)


@pytest.mark.parametrize("topic", GOOD)
def test_a_good_body_is_read(topic: str) -> None:
    """The example of each topic is read, compact or spread out."""
    for data in (encoded(GOOD[topic]), json.dumps(GOOD[topic], indent=2).encode(), b" " + encoded(GOOD[topic]) + b"\n"):
        assert decode(topic, data, GENESIS) is not None


def test_a_payment_becomes_a_row() -> None:
    """A payment's fields stand in the columns, its ids as halves, its assets as numbers."""
    body = payment(
        creditor_asset="HKD",
        quote=uetr_of("quote"),
        fee=money(7),
        refund_of=uetr_of("first"),
        purpose="GDDS",
        reference="invoice 7: \u201cpaid\u201d",
    )
    items: PaymentItems = decode("/v1/payments", encoded(body), GENESIS)
    row = items.rows[0]

    assert id_of(row["uetr_hi"], row["uetr_lo"]) == int(UETR.replace("-", ""), 16)
    assert id_of(row["quote_hi"], row["quote_lo"]) == int(uetr_of("quote").replace("-", ""), 16)
    assert id_of(row["refund_hi"], row["refund_lo"]) == int(uetr_of("first").replace("-", ""), 16)
    assert (row["debtor"], row["creditor"], row["amount"], row["asset"], row["creditor_asset"]) == (
        12,
        31,
        12_345,
        1,
        2,
    )
    assert (row["purpose"], items.fees[0], items.across[0]) == (b"GDDS", 7, True)


def test_a_plain_payment_leaves_the_rest_at_zero() -> None:
    """Without options the payee receives the payer's asset, and fee, quote, refund and all that is derived are zero."""
    items: PaymentItems = decode("/v1/payments", encoded(payment(creditor=address("SH", 13))), GENESIS)
    row = items.rows[0]

    assert (row["creditor_asset"], items.fees[0], items.across[0], row["purpose"]) == (1, 0, False, b"")
    derived = ("quote_hi", "quote_lo", "refund_hi", "refund_lo", "creditor_amount", "position", "debtor_participant")
    assert all(row[name] == 0 for name in derived)


@given(
    st.text(st.characters(codec="utf-8"), min_size=14, max_size=14)
    | st.from_regex(r"(SH|HK|GZ)[0-9]{12}", fullmatch=True)
)
def test_addresses_are_read_in_columns_as_one_by_one(text: str) -> None:
    """A text is an address in a batch exactly if it is one alone, and the same one."""
    try:
        expected: object = parse_address(text)
    except MalformedInput:
        expected = "ADDRESS_INVALID"
    try:
        found = decode("/v1/payments", encoded(payment(creditor=text)), GENESIS)
        ledger = "HK" if found.across[0] else "SH"
        assert expected == (ledger, found.rows["creditor"][0])
    except MalformedInput as error:
        assert error.code == (expected if expected == "ADDRESS_INVALID" else "LEDGER_UNKNOWN")  # noqa: PT017 - either way


@given(st.integers(1, 2**32 - 1), st.sampled_from(["SH", "HK"]), st.integers(2, 13), st.integers(1, 9))
def test_a_wrong_digit_of_an_address_is_noticed(number: int, ledger: str, at: int, by: int) -> None:
    """Any one digit changed makes an address of a batch invalid."""
    text = address(ledger, number)
    wrong = text[:at] + str((int(text[at]) + by) % 10) + text[at + 1 :]

    assert refused("/v1/payments", payment(creditor=wrong)).code == "ADDRESS_INVALID"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uetr", UETR[:-1] + "g"),
        ("uetr", UETR[:-1] + "ä"),
        ("uetr", UETR[:8] + "0" + UETR[9:]),
        ("uetr", UETR[:14] + "1" + UETR[15:]),
        ("uetr", UETR[:19] + "7" + UETR[20:]),
        ("creditor", "HK53000000001A"),
        ("creditor", "HK\u00b230000000012"),
        ("purpose", "gdds"),
        ("reference", "a\tb"),
    ],
)
def test_the_wrong_one_of_many_is_named(field: str, value: str) -> None:
    """Checked all at once, the first wrong payment of a batch is still named by its path."""
    batch = [payment(uetr=uetr_of(i), purpose="GDDS", reference="fine") for i in range(5)]
    batch[3][field] = value
    batch[4][field] = value

    assert refused("/v1/batches", {"payments": batch}).fields["path"] == f"$.payments[3].{field}"


def test_naming_the_payers_own_asset_changes_nothing() -> None:
    """A payee that receives what the payer pays may be told so."""
    plain, named = (
        decode("/v1/payments", encoded(payment(**fields)), GENESIS) for fields in ({}, {"creditor_asset": "CNY"})
    )

    assert plain.rows.tobytes() == named.rows.tobytes()


def test_a_quote_is_read_in_integers() -> None:
    """The rate becomes hundred-millionths, the expiry nanoseconds, and the memo asset is that of what is sold."""
    offer: bodies.Offer = decode("/v1/quotes", encoded(quote()), GENESIS)

    assert (offer.sell, offer.buy, offer.memo, offer.maximum) == (2, 1, 4, 1_000_00)
    assert (offer.rate_e8, offer.expires_ns) == (108_430_000, 1_750_239_000 * 10**9)


AMOUNTS = st.integers(min_value=1, max_value=2**63 - 1)
NUMBERS = st.integers(min_value=1, max_value=2**32 - 1)


@given(
    st.lists(
        st.tuples(st.uuids(version=4), NUMBERS, NUMBERS, AMOUNTS, st.booleans(), st.sampled_from(["CNY", "HKD"])),
        min_size=1,
        max_size=8,
    )
)
def test_a_batch_becomes_the_columns_it_says(items: list[tuple[Any, int, int, int, bool, str]]) -> None:
    """Each payment of a batch stands in its row with exactly its numbers."""
    batch = [
        payment(
            uetr=str(uetr),
            debtor=address("SH", debtor),
            creditor=address("HK" if across else "SH", creditor),
            money=money(amount, asset),
        )
        for uetr, debtor, creditor, amount, across, asset in items
    ]
    found: PaymentItems = decode("/v1/batches", encoded({"payments": batch}), GENESIS)

    rows = found.rows
    ids = [high << 64 | low for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)]
    assert ids == [item[0].int for item in items]
    assert rows["debtor"].tolist() == [item[1] for item in items]
    assert rows["creditor"].tolist() == [item[2] for item in items]
    assert rows["amount"].tolist() == [item[3] for item in items]
    assert found.across.tolist() == [item[4] for item in items]
    assert rows["asset"].tolist() == [{"CNY": 1, "HKD": 2}[item[5]] for item in items]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "",
        " 1",
        "1 ",
        "1\n",
        "01",
        "1_000",
        "1,000",
        "٣",
        "9223372036854775808",
        "9" * 20,
    ],
)
def test_an_amount_that_is_zero_negative_fractional_or_above_2_63_is_refused(amount: str) -> None:
    """Only digits of a whole number of minor units in 1 ... 2^63 - 1 are an amount."""
    error = refused("/v1/batches", {"payments": [payment(), payment(money={"asset": "CNY", "amount": amount})]})

    assert (error.code, error.fields["path"]) == ("AMOUNT_INVALID", "$.payments[1].money.amount")


@pytest.mark.parametrize("amount", ["5", "5.0", "5e0", "true", "null", '["5"]', "-5", "9223372036854775808"])
def test_an_amount_that_is_no_string_is_refused(amount: str) -> None:
    """A JSON number is no amount, whatever its value: it would pass through other people's floating point."""
    data = encoded(payment()).replace(b'"12345"', amount.encode())

    error = refused("/v1/payments", data)

    assert (error.code, error.fields["path"]) == ("AMOUNT_INVALID", "$.money.amount")


def test_the_largest_amount_is_read() -> None:
    """2^63 - 1 minor units are an amount."""
    items: PaymentItems = decode("/v1/payments", encoded(payment(money=money(2**63 - 1))), GENESIS)

    assert items.rows["amount"][0] == 2**63 - 1


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"uetr": UETR.upper()}, "UETR_INVALID", "$.uetr"),
        ({"uetr": UETR + "\n"}, "UETR_INVALID", "$.uetr"),
        ({"refund_of": "x"}, "UETR_INVALID", "$.refund_of"),
        ({"debtor": "SH530000000013"}, "ADDRESS_INVALID", "$.debtor"),
        ({"creditor": "HK78"}, "ADDRESS_INVALID", "$.creditor"),
        ({"debtor": address("HK", 12)}, "DEBTOR_ELSEWHERE", "$.debtor"),
        ({"creditor": address("GZ", 12)}, "LEDGER_UNKNOWN", "$.creditor"),
        ({"money": money(5, "USD")}, "ASSET_UNKNOWN", "$.money.asset"),
        ({"money": money(5, "QCNY")}, "ASSET_UNKNOWN", "$.money.asset"),
        ({"money": money(5, "cny")}, "ASSET_UNKNOWN", "$.money.asset"),
        ({"money": money(5, "C")}, "BODY_MALFORMED", "$.money.asset"),
        ({"purpose": "GDÄS"}, "BODY_MALFORMED", "$.purpose"),
        ({"fee": money(5, "HKD")}, "FEE_ASSET", "$.fee.asset"),
        ({"fee": {"asset": "CNY", "amount": "0"}}, "AMOUNT_INVALID", "$.fee.amount"),
        ({"fee": {"asset": "CNY", "amount": str(2**63)}}, "AMOUNT_INVALID", "$.fee.amount"),
        ({"creditor_asset": "HKD"}, "QUOTE_MISSING", "$.quote"),
        ({"quote": uetr_of("q")}, "QUOTE_IDLE", "$.quote"),
        ({"quote": uetr_of("q"), "creditor_asset": "CNY"}, "QUOTE_IDLE", "$.quote"),
        ({"quote": uetr_of("q"), "creditor_asset": "QHKD"}, "ASSET_UNKNOWN", "$.creditor_asset"),
        ({"purpose": "GDD"}, "BODY_MALFORMED", "$.purpose"),
        ({"purpose": "gdds"}, "BODY_MALFORMED", "$.purpose"),
        ({"purpose": "GDDS\n"}, "BODY_MALFORMED", "$.purpose"),
        ({"reference": "x" * 141}, "BODY_MALFORMED", "$.reference"),
        ({"reference": ""}, "BODY_MALFORMED", "$.reference"),
        ({"reference": "a\u0000b"}, "BODY_MALFORMED", "$.reference"),
        ({"reference": "a\n"}, "BODY_MALFORMED", "$.reference"),
        ({"reference": "a\u2028b"}, "BODY_MALFORMED", "$.reference"),
        ({"surprise": 1}, "BODY_MALFORMED", "$"),
        ({"money": money(5) | {"scale": 2}}, "BODY_MALFORMED", "$.money"),
        ({"uetr": None}, "BODY_MALFORMED", "$"),
    ],
)
def test_a_wrong_payment_is_refused_with_code_and_path(fields: Json, code: str, path: str) -> None:
    """Each wrong field has its stable code and is named by its path."""
    error = refused("/v1/payments", payment(**fields))

    assert (error.code, error.fields["path"]) == (code, path)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"buy": "HKD"}, "ASSET_UNKNOWN", "$.buy"),
        ({"buy": "EUR"}, "ASSET_UNKNOWN", "$.buy"),
        ({"rate": "0.00000000"}, "RATE_INVALID", "$.rate"),
        ({"rate": "1.0843"}, "BODY_MALFORMED", "$.rate"),
        ({"rate": "1.084300000"}, "BODY_MALFORMED", "$.rate"),
        ({"rate": "01.08430000"}, "BODY_MALFORMED", "$.rate"),
        ({"rate": "-1.08430000"}, "BODY_MALFORMED", "$.rate"),
        ({"rate": "1.08430000\n"}, "BODY_MALFORMED", "$.rate"),
        ({"rate": 1.0843}, "BODY_MALFORMED", "$.rate"),
        ({"expires": "2025-02-29T00:00:00Z"}, "EXPIRY_INVALID", "$.expires"),
        ({"expires": "2025-06-18T24:00:00Z"}, "EXPIRY_INVALID", "$.expires"),
        ({"expires": "2025-06-18T09:30:60Z"}, "EXPIRY_INVALID", "$.expires"),
        ({"expires": "2025-06-18T09:30:00+00:00"}, "BODY_MALFORMED", "$.expires"),
        ({"expires": "2025-06-18 09:30:00Z"}, "BODY_MALFORMED", "$.expires"),
        ({"sell": money(2**63, "HKD")}, "AMOUNT_INVALID", "$.sell.amount"),
    ],
)
def test_a_wrong_quote_is_refused_with_code_and_path(fields: Json, code: str, path: str) -> None:
    """Rates have exactly eight decimals and are above zero; instants are real and in UTC; two assets are two."""
    error = refused("/v1/quotes", quote(**fields))

    assert (error.code, error.fields["path"]) == (code, path)


@pytest.mark.parametrize(
    ("topic", "body", "path"),
    [
        ("/v1/parties", {"parties": [party("x", "issuer")]}, "$.parties[0].roles[0]"),
        ("/v1/parties", {"parties": [party("x", "operator", "operator")]}, "$.parties[0].roles"),
        ("/v1/parties", {"parties": [party("x"), party("x") | {"public_key": "00" * 32}]}, "$.parties"),
        ("/v1/parties", {"parties": [party("x"), party("x") | {"code": "y"}]}, "$.parties"),
        ("/v1/parties", {"parties": [party("x y")]}, "$.parties[0].code"),
        ("/v1/parties", {"parties": [party("x") | {"public_key": "AB" * 32}]}, "$.parties[0].public_key"),
        ("/v1/parties", {"parties": []}, "$.parties"),
        ("/v1/participants", {"assets": ["CNY", "CNY"]}, "$.assets"),
        ("/v1/cancellations", {"uetr": 5}, "$.uetr"),
    ],
)
def test_other_wrong_bodies_are_refused_with_their_path(topic: str, body: Json, path: str) -> None:
    """Repeated parties, roles nobody may give and ill-formed keys are refused where they stand."""
    assert refused(topic, body).fields["path"] == path


@pytest.mark.parametrize(
    ("topic", "body", "path"),
    [
        ("/v1/participants", {"assets": ["CNY", "QCNY"]}, "$.assets[1]"),
        ("/v1/accounts", {"accounts": [{"owner": "ann", "asset": "QHKD"}]}, "$.accounts[0].asset"),
        ("/v1/issuances", {"issuances": [issuance("ALPHA", 5, "QCNY")]}, "$.issuances[0].money.asset"),
    ],
)
def test_memo_assets_are_no_money(topic: str, body: Json, path: str) -> None:
    """Limits kept as double entry are not to be opened, issued or joined by anybody."""
    error = refused(topic, body)

    assert (error.code, error.fields["path"]) == ("ASSET_UNKNOWN", path)


def test_an_issuance_above_2_63_is_refused() -> None:
    """An issuance is held to the same amounts as a payment."""
    error = refused("/v1/issuances", {"issuances": [issuance("ALPHA", 2**63)]})

    assert (error.code, error.fields["path"]) == ("AMOUNT_INVALID", "$.issuances[0].money.amount")


def test_an_unknown_topic_is_refused() -> None:
    """A path that takes no message has a code of its own."""
    assert refused("/v1/overdrafts", {}).code == "TOPIC_UNKNOWN"


def test_a_body_beyond_the_limit_is_refused_unread() -> None:
    """One byte more than a message may have is too large."""
    assert refused("/v1/payments", b" " * (BODY_SIZE_MAX + 1)).code == "BODY_TOO_LARGE"


def test_a_list_beyond_its_limit_is_refused() -> None:
    """A batch has at most 10,000 payments."""
    error = refused("/v1/batches", {"payments": [payment()] * (bodies.ITEM_COUNT_MAX + 1)})

    assert (error.code, error.fields["path"]) == ("BODY_MALFORMED", "$.payments")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"uetr": NaN}',
        b"[" * 100_000,
        b'{"money":' * 100_000,
        encoded(payment()).replace(b'"uetr"', b'"\xff"'),
        encoded(payment(reference="X")).replace(b'"X"', b'"\\ud800"'),
        encoded(payment(reference="X")).replace(b'"X"', b'"\xed\xa0\x80"'),
    ],
)
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Whatever the bytes are, the answer is that the body is malformed."""
    assert refused("/v1/payments", data).code == "BODY_MALFORMED"


@pytest.mark.parametrize("topic", GOOD)
@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "\u0000", [], {}, [None], {"a": 1}], ids=repr)
def test_no_place_takes_just_anything(topic: str, value: object) -> None:
    """A wrong value at any place of any body is refused and never read as something else."""
    for path in places(GOOD[topic]):
        changed = at_place(GOOD[topic], path, value)
        may_be_empty = path and NOTHING.get(topic, {}).get(str(path[-1]), ...) == value
        if changed == GOOD[topic] or may_be_empty:
            continue
        assert refused(topic, changed).code in {code for code, _ in shapes._CODES.values()} | {"BODY_MALFORMED"}


# --- a field that stands twice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", " ", "\t", "\n", "\r\n"])
@pytest.mark.parametrize("topic", GOOD)
def test_a_field_that_stands_twice_is_refused(topic: str, blank: str) -> None:
    """A second field of the same name is refused in every object of every body, however it is spaced."""
    text = json.dumps(GOOD[topic], separators=(",", f"{blank}:{blank}"))
    assert decode(topic, text.encode(), GENESIS) is not None
    for name in {place[-1] for place in places(GOOD[topic]) if place and isinstance(place[-1], str)}:
        for spacing in ("", " "):
            key = f'"{name}"{blank}:{blank}'
            at = text.index(key)
            value = json.JSONDecoder().raw_decode(text, at + len(key))
            again = f'"{name}"{spacing}:{text[at + len(key) : value[1]]},'
            error = refused(topic, (text[:at] + again + text[at:]).encode())
            assert error.code == "FIELD_TWICE"


def test_a_repeated_field_cannot_hide_behind_an_escape() -> None:
    """The same name spelt with an escape is the same name."""
    text = encoded(payment(reference='a":b')).decode()

    assert decode("/v1/payments", text.encode(), GENESIS) is not None
    doubled = text.replace('"uetr":', f'"\\u0075etr":"{UETR}","uetr":')
    assert refused("/v1/payments", doubled.encode()).code == "FIELD_TWICE"


@pytest.mark.parametrize("reference", ['":', '"":":', ": : :", '\\":', "a\\", '":"uetr":'])
def test_texts_that_look_like_fields_are_just_texts(reference: str) -> None:
    """Quotation marks and colons inside a text neither hide nor feign a field."""
    assert decode("/v1/payments", encoded(payment(reference=reference)), GENESIS) is not None


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_damaged_bytes_are_refused_or_read_never_worse(topic: str, data: st.DataObject) -> None:
    """A changed, removed or inserted byte gives a body or a refusal, and no other failure."""
    good = bytearray(encoded(GOOD[topic]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        how = data.draw(st.sampled_from(["change", "remove", "insert"]))
        if how == "remove":
            del good[at]
        else:
            good[at : at + (how == "change")] = bytes([data.draw(st.integers(0, 255))])
    with contextlib.suppress(MalformedInput):
        assert decode(topic, bytes(good), GENESIS) is not None


def test_a_body_that_another_reader_refuses_is_refused() -> None:
    """The slow way of finding repeated fields answers like the fast one if it cannot read at all."""
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        shapes._check_fields_once(bodies.CancellationBody(uetr=UETR), b"{")


def test_rows_of_a_batch_are_one_block() -> None:
    """The columns of a batch are one array, ready for the kernel."""
    items: PaymentItems = decode("/v1/batches", encoded(GOOD["/v1/batches"]), GENESIS)

    assert items.rows.flags.c_contiguous
    assert items.fees.dtype == np.int64
