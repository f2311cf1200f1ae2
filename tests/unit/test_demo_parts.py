"""The parts of the demonstration that need no running network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.demo.bulk import uetr_text
from gateway.demo.cast import BANKS, CUSTOMERS, ENDINGS, ISSUERS, QUOTES, customer_party, institution
from gateway.demo.report import REPORT_FILE, Report
from gateway.demo.script import clear_folder
from gateway.demo.tamper import flip_amount
from gateway.names import Name, Names, add_party_key, key_path, load_names, minor_units, party_key, save_names
from ledger.errors import Conflict, LedgerError, MalformedInput, NotFound
from ledger.exports import FILE_NAME
from ledger.runtime import ManualRuntime
from settlement.legs import parse_uetr
from settlement.workload import wholesale_day

LIN = Name("SH", "LIN", "SH530000000012", "CNY", "Lin")


# --- names and amounts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"), [("88", 8800), ("88.5", 8850), ("88.50", 8850), ("0.01", 1), ("12345678.90", 1_234_567_890)]
)
def test_amounts_are_read_as_people_write_them(text: str, amount: int) -> None:
    """Whole yuan and up to two decimal places become minor units exactly."""
    assert minor_units(text) == amount


@pytest.mark.parametrize(
    "text", ["", "0", "0.00", "-1", "+1", "1.", ".5", "1.234", "1,000", "1e3", " 1", "01", "\uff11", "NaN"]
)
def test_any_other_amount_is_refused(text: str) -> None:
    """What could be read in two ways is no amount."""
    with pytest.raises(MalformedInput, match="AMOUNT_INVALID"):
        minor_units(text)


def test_names_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """An address book that was written is read back the same; none at all is an empty one."""
    assert load_names(tmp_path) == Names()
    names = Names({"lin": LIN}, {"CNY/HKD": "8f6d0000-0000-4000-8000-000000000000"})
    save_names(tmp_path, names)
    assert load_names(tmp_path) == names


def test_a_damaged_address_book_is_refused(tmp_path: Path) -> None:
    """An address book that is not of its form is an error and not an empty one."""
    (tmp_path / "names.json").write_text('{"names": {"Lin Wei": 1}}')
    with pytest.raises(MalformedInput, match="NAMES_MALFORMED"):
        load_names(tmp_path)


def test_names_and_addresses_are_both_found() -> None:
    """A known name gives its address, an address gives itself, and anything else is refused."""
    names = Names({"lin": LIN})
    assert names.address("lin") == names.address(LIN.address) == LIN.address
    assert names.asset(LIN.address) == "CNY"
    for word in ("nobody", "SH530000000013"):
        with pytest.raises(NotFound, match="NAME_NOT_FOUND"):
            names.address(word)


def test_a_party_has_one_key_of_its_own(tmp_path: Path) -> None:
    """A party's key is read back from the folder, and never written over."""
    (tmp_path / "keys").mkdir()
    key = Ed25519PrivateKey.generate()
    add_party_key(tmp_path, "LIN", key)
    assert party_key(tmp_path, "LIN").private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(Conflict, match="KEY_FILE_EXISTS"):
        add_party_key(tmp_path, "LIN", Ed25519PrivateKey.generate())


@pytest.mark.parametrize("party", ["../pboc", "", "a/b", "."])
def test_a_key_is_never_looked_for_elsewhere(tmp_path: Path, party: str) -> None:
    """A code that no party can have names no file."""
    with pytest.raises(MalformedInput, match="PARTY_MALFORMED"):
        key_path(tmp_path, party)


# --- who appears ------------------------------------------------------------------------------------------------------


def test_the_cast_belongs_together() -> None:
    """Every customer's bank exists on some ledger, holds its asset, and every name is used once."""
    banks = {bank.code: bank for bank in BANKS}
    assert len(banks) == len(BANKS)
    assert len({customer.name for customer in CUSTOMERS}) == len(CUSTOMERS)
    for customer in CUSTOMERS:
        assert customer.asset in banks[customer.bank].assets
        assert "operator" in banks[customer.bank].roles
    assert set(ENDINGS) == {customer.name for customer in CUSTOMERS}
    assert customer_party(CUSTOMERS[3]) == customer_party(CUSTOMERS[4]) == "CHAN"


def test_each_is_issued_its_own_ledgers_money() -> None:
    """An issuer issues on its own ledger; the other ledger's money arrives through the first window."""
    day = wholesale_day(1, payment_count=100, participant_count=4)
    wholesale = tuple(institution(participant, 7) for participant in day.participants)
    for bank in BANKS + wholesale:
        home = ISSUERS[bank.ledger][1]
        assert {asset for asset, _ in bank.issued} <= {home}
        assert home not in {asset for asset, _ in bank.received}
    assert all(
        institution(participant, 0).issued == institution(participant, 0).received == ()
        for participant in day.participants
    )
    assert [(bank.issued, bank.received) for bank in wholesale[1:3]] == [((("CNY", 7),), ()), ((), (("CNY", 7),))]


def test_the_endings_follow_from_the_quotes() -> None:
    """What was worked out by hand for the two payments with FX is amount times rate, rounded down."""
    rates = {(offer.buy, offer.sell): int(offer.rate.replace(".", "")) for offer in QUOTES}
    assert ENDINGS["ferry-shop"] == 1_280_00 * rates["CNY", "HKD"] // 10**8
    assert ENDINGS["lin"] == 20_000_00 - 66_00 - 1_280_00 + 20_00 + 5_000_00 * rates["HKD", "CNY"] // 10**8


def test_uetrs_of_a_day_are_uuids() -> None:
    """A day's payment is named by a UUIDv4 in its canonical form."""
    row = wholesale_day(1, payment_count=1, participant_count=2).payments[0]
    assert parse_uetr(uetr_text(row)) == (int(row["uetr_hi"]) << 64) | int(row["uetr_lo"])


# --- the folder -------------------------------------------------------------------------------------------------------


def test_an_earlier_demonstration_makes_room(tmp_path: Path) -> None:
    """What a demonstration left is removed before the next one."""
    folder = tmp_path / "demo"
    (folder / "keys").mkdir(parents=True)
    (folder / REPORT_FILE).write_text("{}")
    clear_folder(folder)
    assert not folder.exists()
    clear_folder(folder)


@pytest.mark.parametrize("name", ["thesis.txt", "sh", ".git"])
def test_somebody_elses_folder_is_left_alone(tmp_path: Path, name: str) -> None:
    """A folder with anything that no demonstration left is refused and keeps everything."""
    (tmp_path / name).mkdir()
    with pytest.raises(Conflict, match="FOLDER_IN_USE"):
        clear_folder(tmp_path)
    assert (tmp_path / name).exists()


def test_one_digit_of_a_copy_is_changed(tmp_path: Path) -> None:
    """The copy differs from the export in exactly one byte: the first digit of the amount of the payment named."""
    source = tmp_path / "exports" / "sh" / FILE_NAME
    source.parent.mkdir(parents=True)
    body = b'..{"uetr":"a","money":{"amount":"55"}},{"uetr":"b","money":{"asset":"CNY","amount":"123"}}..'
    source.write_bytes(body)
    flip = flip_amount(source, tmp_path / "copy", "b")
    changed = (tmp_path / "copy" / "sh" / FILE_NAME).read_bytes()
    assert source.read_bytes() == body
    assert [index for index in range(len(body)) if body[index] != changed[index]] == [flip.offset]
    assert changed == body.replace(b'"123"', b'"923"')
    assert (flip.before, flip.after) == ("1", "9")


def test_a_payment_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Without the payment in the export nothing is changed."""
    source = tmp_path / "exports" / "sh" / FILE_NAME
    source.parent.mkdir(parents=True)
    source.write_bytes(b"nothing")
    with pytest.raises(NotFound, match="PAYMENT_NOT_FOUND"):
        flip_amount(source, tmp_path / "copy", "b")


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_difference_is_a_mismatch(tmp_path: Path) -> None:
    """Expectations that hold are counted, those that do not are listed, and both reach the file."""
    report = Report(ManualRuntime(), seed=3)
    with report.stage("work"):
        assert report.expect("one", 1, 1)
        assert not report.expect("two", 2, 3)
    report.save(tmp_path, failure=None)
    found = json.loads((tmp_path / REPORT_FILE).read_text())
    assert (found["expectations"], found["mismatches"]) == (2, ["two: found 2, expected 3"])
    assert found["seconds"] == {"work": 0, "total": 0}
    assert (found["seed"], found["failure"]) == (3, None)


def test_a_stage_that_fails_is_measured_too() -> None:
    """The time of a stage is kept when the stage raises."""
    report = Report(ManualRuntime())
    with pytest.raises(LedgerError), report.stage("work"):
        raise Conflict("A", "b")
    assert "work" in report.seconds
