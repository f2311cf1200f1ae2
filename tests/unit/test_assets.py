"""Assets, amounts in and out, and account addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban
from stdnum.iso7064 import mod_97_10

from ledger.accounts import ACCOUNT_NUMBER_MAX, AccountFlag, address, parse_address
from ledger.assets import AMOUNT_MAX, Asset, AssetTable, format_decimal, parse_amount
from ledger.errors import InvariantViolation, MalformedInput, NotFound
from ledger.genesis import GenesisAsset

LEDGER_CODES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2)
NUMBERS = st.integers(1, ACCOUNT_NUMBER_MAX)

# --- amounts ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, AMOUNT_MAX))
def test_an_amount_is_its_digits(amount: int) -> None:
    """Every amount is read from its digits."""
    assert parse_amount(str(amount)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "1.0",
        "1e3",
        "1_000",
        "1,000",
        "0x1",
        "a",
        "\u0661",
        "\uff11",
        "\u00b2",
        "1" * 20,
        str(2**63),
        str(2**64 + 1),
    ],
)
def test_what_is_not_exactly_digits_is_no_amount(text: str) -> None:
    """Signs, blanks, leading zeros, other digits and 2^63 or more are AMOUNT_INVALID."""
    with pytest.raises(MalformedInput) as failure:
        parse_amount(text)
    assert failure.value.code == "AMOUNT_INVALID"


@given(st.text(max_size=22))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    """Any text is the digits of an amount, or malformed input."""
    try:
        amount = parse_amount(text)
    except MalformedInput:
        return
    assert str(amount) == text


@pytest.mark.parametrize(
    ("amount", "scale", "text"),
    [
        (12_345, 2, "123.45"),
        (5, 2, "0.05"),
        (0, 2, "0.00"),
        (-5, 2, "-0.05"),
        (-12_345, 2, "-123.45"),
        (7, 0, "7"),
        (7, 9, "0.000000007"),
        (AMOUNT_MAX, 2, "92233720368547758.07"),
    ],
)
def test_decimals_are_exact(amount: int, scale: int, text: str) -> None:
    """People see all places of an amount, and no rounding."""
    assert format_decimal(amount, scale) == text


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), st.integers(0, 9))
def test_decimals_can_be_read_back(amount: int, scale: int) -> None:
    """Without its point, the text is the amount again."""
    text = format_decimal(amount, scale)
    assert int(text.replace(".", "")) == amount
    assert len(text.partition(".")[2]) == scale


# --- assets ----------------------------------------------------------------------------------------------------------

CNY, QUOTA = Asset("CNY", 1, 2), Asset("QUOTA.1", 700, 0, "memo")


@pytest.mark.parametrize(
    "fields",
    [
        ("cny", 1, 2, "money"),
        ("C", 1, 2, "money"),
        ("1CNY", 1, 2, "money"),
        ("CNYCNYCNYCNYC", 1, 2, "money"),
        ("CNY\n", 1, 2, "money"),
        ("CNY", 0, 2, "money"),
        ("CNY", 2**16, 2, "money"),
        ("CNY", 1, -1, "money"),
        ("CNY", 1, 10, "money"),
        ("CNY", 1, 2, "gold"),
    ],
)
def test_an_asset_is_in_its_ranges(fields: tuple[str, int, int, str]) -> None:
    """Code, number, scale and kind out of range are ASSET_INVALID."""
    with pytest.raises(MalformedInput) as failure:
        Asset(*fields)
    assert failure.value.code == "ASSET_INVALID"


def test_assets_are_found_by_code_and_number() -> None:
    """A table gives its assets by code, by number, and in order of number."""
    table = AssetTable([QUOTA, CNY])
    assert (table.by_code("CNY"), table.by_number(700)) == (CNY, QUOTA)
    assert list(table) == [CNY, QUOTA]
    assert len(table) == 2
    assert (CNY.is_money, QUOTA.is_money) == (True, False)


def test_unknown_assets_are_not_found() -> None:
    """A code or number that is not in the table is ASSET_UNKNOWN."""
    table = AssetTable([CNY])
    with pytest.raises(NotFound, match="ASSET_UNKNOWN"):
        table.by_code("HKD")
    with pytest.raises(NotFound, match="ASSET_UNKNOWN"):
        table.by_number(2)


@pytest.mark.parametrize("second", [Asset("CNY", 2, 2), Asset("HKD", 1, 2), CNY])
def test_nothing_stands_twice_in_a_table(second: Asset) -> None:
    """A code or number that is given twice is ASSET_INVALID."""
    with pytest.raises(MalformedInput, match="ASSET_INVALID"):
        AssetTable([CNY, second])


def test_a_table_is_read_from_the_genesis() -> None:
    """The rows of a genesis give the table."""
    rows = [GenesisAsset("HKD", 2, 2, "money", "HK"), GenesisAsset("QUOTA", 9, 0, "memo", "HK")]
    assert list(AssetTable.of(rows)) == [Asset("HKD", 2, 2, "money"), Asset("QUOTA", 9, 0, "memo")]


# --- addresses -------------------------------------------------------------------------------------------------------


@given(LEDGER_CODES, NUMBERS)
def test_check_digits_are_those_of_the_standard(ledger_code: str, number: int) -> None:
    """Rearranged like an IBAN, an address is valid by another implementation of ISO 7064 mod 97-10."""
    text = address(ledger_code, number)
    assert mod_97_10.is_valid(text[4:] + text[:4])
    assert mod_97_10.calc_check_digits(text[4:] + text[:2]) == text[2:4]


@given(LEDGER_CODES, NUMBERS)
def test_check_digits_follow_from_long_division(ledger_code: str, number: int) -> None:
    """Letters written as 10 to 35, digits divided one by one: the remainder of the whole is 1."""
    text = address(ledger_code, number)
    remainder = 0
    for character in text[4:] + text[:4]:
        for digit in str(int(character, 36)):
            remainder = (remainder * 10 + int(digit)) % 97
    assert remainder == 1


@given(LEDGER_CODES, NUMBERS)
def test_an_address_is_read_back(ledger_code: str, number: int) -> None:
    """Parsing gives what the address was made of."""
    assert parse_address(address(ledger_code, number)) == (ledger_code, number)


def test_a_real_iban_checks_the_same_arithmetic() -> None:
    """The check digits of a published example IBAN come out of the same arithmetic."""
    assert iban.is_valid("GB82WEST12345698765432")
    assert mod_97_10.calc_check_digits("WEST12345698765432GB") == "82"


@given(LEDGER_CODES, NUMBERS, st.integers(0, 13), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
def test_one_wrong_character_is_noticed(ledger_code: str, number: int, place: int, character: str) -> None:
    """Any single other character makes an address invalid."""
    text = address(ledger_code, number)
    wrong = text[:place] + character + text[place + 1 :]
    if wrong != text:
        with pytest.raises(MalformedInput, match="ADDRESS_INVALID"):
            parse_address(wrong)


@given(LEDGER_CODES, NUMBERS, st.integers(0, 12))
def test_swapped_neighbours_are_noticed(ledger_code: str, number: int, place: int) -> None:
    """Two different neighbours swapped make an address invalid."""
    text = address(ledger_code, number)
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if swapped != text:
        with pytest.raises(MalformedInput, match="ADDRESS_INVALID"):
            parse_address(swapped)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SH",
        "sh530000000012",
        "SH53 0000000012",
        "SH530000000012 ",
        "SH530000000012\n",
        "SH5300000000120",
        "SH53000000001",
        "SH53000000001\uff12",
        "S\u0048\u0301530000000012",
        "HK530000000012",
    ],
)
def test_only_the_exact_form_is_an_address(text: str) -> None:
    """Blanks, lower case, other digits and other lengths are ADDRESS_INVALID."""
    with pytest.raises(MalformedInput) as failure:
        parse_address(text)
    assert failure.value.code == "ADDRESS_INVALID"


@given(LEDGER_CODES, st.integers(0, 99), st.integers(0, 10**10 - 1))
def test_each_account_has_one_address(ledger_code: str, check: int, number: int) -> None:
    """Whatever parses is what the account's address is: of equal check digits modulo 97 only one pair passes."""
    text = f"{ledger_code}{check:02d}{number:010d}"
    try:
        assert address(*parse_address(text)) == text
    except MalformedInput:
        if 0 < number <= ACCOUNT_NUMBER_MAX:
            assert address(ledger_code, number) != text


@pytest.mark.parametrize(
    ("ledger_code", "number"), [("SH", 0), ("SH", -1), ("SH", 2**32), ("sh", 1), ("SHA", 1), ("", 1)]
)
def test_only_accounts_have_addresses(ledger_code: str, number: int) -> None:
    """A number or ledger code out of range is our own mistake."""
    with pytest.raises(InvariantViolation):
        address(ledger_code, number)


@pytest.mark.parametrize("number", [0, 2**32, 10**10 - 1])
def test_addresses_beyond_the_account_numbers_are_refused(number: int) -> None:
    """Right check digits do not make an account of a number that none can have."""
    check = mod_97_10.calc_check_digits(f"{number:010d}SH")
    with pytest.raises(MalformedInput):
        parse_address(f"SH{check}{number:010d}")


def test_account_flags_have_fixed_values() -> None:
    """The flags are stored, so their values never change."""
    assert {flag.name: flag.value for flag in AccountFlag} == {
        "CREDIT_NORMAL": 1,
        "LIMITED": 2,
        "CLOSED": 4,
        "CAPPED": 8,
        "METERED": 16,
    }
    assert AccountFlag.NONE == 0
