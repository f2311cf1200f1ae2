"""Payments in columns: what a batch says, checked and written into rows once, so that nothing behind reads JSON.

The hot fields are checked for all payments at once; only when something is wrong are they looked at one by one, to name
the first wrong one.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from ledger.accounts import ACCOUNT_NUMBER_MAX, parse_address
from ledger.assets import AMOUNT_MAX, parse_amount
from ledger.errors import MalformedInput
from ledger.genesis import Genesis
from ledger.transfers import VALUE_DAY_MAX
from settlement.book import PAYMENT, PEER, Payments
from settlement.shapes import CONTROLS, MoneyBody, PaymentBody, malformed

__all__ = ["PaymentItems", "amount_of", "items_of", "money_asset", "value_day_of"]

Path = Callable[[int, str], str]
"""How the path of an item's field is written."""
Amounts = npt.NDArray[np.int64]
_ADDRESS_SIZE = 14
_UETR_SIZE = 36
_HYPHENS = [8, 13, 18, 23]
_NO_PURPOSE = re.compile(r"[^A-Z0-9]")
_EPOCH = dt.date(1970, 1, 1)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL = re.compile(rf"[{CONTROLS}]")
_HEX = np.zeros(256, np.bool_)
_HEX[list(b"0123456789abcdef")] = True


@dataclass(frozen=True, slots=True)
class PaymentItems:
    """Payments in columns, shape (n,).

    ``rows`` has what the payer said; participants, position and ``creditor_amount`` are still zero. ``fees`` is in
    minor units of ``asset``, zero for none; ``across`` says whether the creditor is on the other ledger.
    """

    rows: Payments
    fees: Amounts
    across: npt.NDArray[np.bool_]


def items_of(payments: Sequence[PaymentBody], genesis: Genesis, *, single: bool) -> PaymentItems:
    """Put payments into columns; ``single`` says how the path of an item is written.

    Raises:
        MalformedInput: see ``settlement.bodies.decode``.
    """

    def path(index: int, field: str) -> str:
        return f"$.{field}" if single else f"$.payments[{index}].{field}"

    rows = np.zeros(len(payments), PAYMENT)
    elsewhere, rows["debtor"] = _addresses([payment.debtor for payment in payments], genesis, path, "debtor")
    across, rows["creditor"] = _addresses([payment.creditor for payment in payments], genesis, path, "creditor")
    if np.any(elsewhere):
        raise MalformedInput(
            "DEBTOR_ELSEWHERE",
            "A payment is sent to the payer's own ledger.",
            path=path(int(np.flatnonzero(elsewhere)[0]), "debtor"),
        )
    _put_uetrs(rows, [payment.uetr for payment in payments], path)
    _put_money(rows, [payment.money for payment in payments], genesis, path)
    return PaymentItems(rows, _put_options(rows, payments, genesis, path), across)


def money_asset(code: str, genesis: Genesis, path: str) -> int:
    """Give the number of a money asset.

    Raises:
        MalformedInput: ``ASSET_UNKNOWN``; also for a memo asset, which is no money.
    """
    for asset in genesis.assets:
        if asset.code == code and asset.kind == "money":
            return asset.number
    raise MalformedInput("ASSET_UNKNOWN", "No such money on this ledger.", asset=code, path=path)


def amount_of(text: str, path: str) -> int:
    """Read an amount.

    Raises:
        MalformedInput: ``AMOUNT_INVALID`` at this path.
    """
    try:
        return parse_amount(text)
    except MalformedInput as error:
        raise malformed("amount", path) from error


def value_day_of(text: str, path: str) -> int:
    """Read a value date as days since 1970-01-01, from 1 to ``VALUE_DAY_MAX``.

    Raises:
        MalformedInput: ``VALUE_DATE_INVALID`` at this path.
    """
    try:
        day = (dt.date.fromisoformat(text) - _EPOCH).days if _DATE.fullmatch(text) else 0
    except ValueError as error:
        raise malformed("value_date", path) from error
    if not 1 <= day <= VALUE_DAY_MAX:
        raise malformed("value_date", path)
    return day


# --- the hot fields, all at once --------------------------------------------------------------------------------------


def _put_uetrs(rows: Payments, texts: list[str], path: Path) -> None:
    """Write UETRs of 36 characters each into two columns."""
    table = _table(texts, _UETR_SIZE)
    good = np.all(table[:, _HYPHENS] == ord("-"), axis=1) & np.all(_HEX[np.delete(table, _HYPHENS, axis=1)], axis=1)
    good &= (table[:, 14] == ord("4")) & np.isin(table[:, 19], list(b"89ab"))
    if not np.all(good):
        raise malformed("uetr", path(int(np.flatnonzero(~good)[0]), "uetr"))
    _put_ids(rows, "uetr", texts)


def _table(texts: list[str], size: int) -> npt.NDArray[np.uint8]:
    """Give texts of one size as bytes, shape (n, size); one that is not ASCII becomes zeros, which nothing permits."""
    joined = "".join(texts)
    if not joined.isascii():
        joined = "".join(text if text.isascii() else "\0" * size for text in texts)
    return np.frombuffer(joined.encode("ascii"), np.uint8).reshape(len(texts), size)


def _put_money(rows: Payments, money: list[MoneyBody], genesis: Genesis, path: Path) -> None:
    """Write amounts and the asset that the payer pays; the payee receives the same unless a conversion follows."""
    numbers = {asset.code: asset.number for asset in genesis.assets if asset.kind == "money"}
    rows["asset"] = [numbers.get(part.asset, 0) for part in money]
    if not np.all(rows["asset"]):
        index = int(np.flatnonzero(rows["asset"] == 0)[0])
        money_asset(money[index].asset, genesis, path(index, "money.asset"))
    rows["creditor_asset"] = rows["asset"]
    texts = [part.amount for part in money]
    joined = "".join(texts)
    if joined.isascii() and joined.isdigit() and "0" not in {text[0] for text in texts}:
        amounts = list(map(int, texts))
        if max(amounts) <= AMOUNT_MAX:
            rows["amount"] = amounts
            return
    rows["amount"] = [amount_of(text, path(index, "money.amount")) for index, text in enumerate(texts)]


def _addresses(
    texts: list[str], genesis: Genesis, path: Path, field: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint32]]:
    """Read addresses of 14 characters each: whether they are on the other ledger, and the account numbers.

    In columns this is what ``ledger.accounts.parse_address`` does for one; that one names what is wrong.
    """
    table = _table(texts, _ADDRESS_SIZE).astype(np.int64)
    digits = table[:, 2:] - ord("0")
    numbers = digits[:, 2:] @ 10 ** np.arange(9, -1, -1)
    own, peer = (
        (table[:, 0] == ord(code[0])) & (table[:, 1] == ord(code[1])) for code in (genesis.ledger, PEER[genesis.ledger])
    )
    letters = (table[:, 0] - 55) * 100 + table[:, 1] - 55
    check = 98 - (numbers * 1_000_000 + letters * 100) % 97
    good = (own | peer) & np.all((digits >= 0) & (digits <= 9), axis=1)
    good &= (digits[:, 0] * 10 + digits[:, 1] == check) & (numbers > 0) & (numbers <= ACCOUNT_NUMBER_MAX)
    if not np.all(good):
        index = int(np.flatnonzero(~good)[0])
        try:
            parse_address(texts[index])
        except MalformedInput as error:
            raise malformed(field, path(index, field)) from error
        raise MalformedInput("LEDGER_UNKNOWN", "There is no such ledger.", path=path(index, field))
    return peer, numbers.astype(np.uint32)


# --- what only some payments have -------------------------------------------------------------------------------------


def _put_options(rows: Payments, payments: Sequence[PaymentBody], genesis: Genesis, path: Path) -> Amounts:
    """Write what only some payments have; gives the fees."""
    _check_texts(payments, path)
    purposes = [payment.purpose for payment in payments]
    if purposes.count(UNSET) < len(payments):
        rows["purpose"] = [b"" if purpose is UNSET else purpose.encode("ascii") for purpose in purposes]
    fees = np.zeros(len(payments), np.int64)
    for index, payment in enumerate(payments):
        if payment.refund_of is not UNSET:
            _put_ids(rows[index : index + 1], "refund", [payment.refund_of])
        if payment.value_date is not UNSET:
            rows["value_day"][index] = value_day_of(payment.value_date, path(index, "value_date"))
        if payment.fee is not UNSET:
            fees[index] = _fee(payment, payment.fee, path(index, "fee"))
        if payment.creditor_asset is not UNSET or payment.quote is not UNSET:
            _put_conversion(rows[index : index + 1], payment, genesis, functools.partial(path, index))
    return fees


def _check_texts(payments: Sequence[PaymentBody], path: Path) -> None:
    """Check purposes and references, all at once."""
    for field, wrong in (("purpose", _NO_PURPOSE), ("reference", _CONTROL)):
        texts = [getattr(payment, field) for payment in payments]
        if wrong.search("".join(text for text in texts if text is not UNSET)):
            index = next(index for index, text in enumerate(texts) if text is not UNSET and wrong.search(text))
            raise malformed(field, path(index, field))


def _put_ids(rows: Payments, name: str, texts: list[str]) -> None:
    """Write UUIDs, whose form was checked, into two columns."""
    halves = np.frombuffer(bytes.fromhex("".join(texts).replace("-", "")), ">u8").reshape(len(texts), 2)
    rows[f"{name}_hi"] = halves[:, 0]
    rows[f"{name}_lo"] = halves[:, 1]


def _fee(payment: PaymentBody, fee: MoneyBody, path: str) -> int:
    if fee.asset != payment.money.asset:
        raise MalformedInput("FEE_ASSET", "A fee is in the asset that the payer pays.", path=f"{path}.asset")
    return amount_of(fee.amount, f"{path}.amount")


def _put_conversion(rows: Payments, payment: PaymentBody, genesis: Genesis, path: Callable[[str], str]) -> None:
    """Note what the payee receives; a quote stands exactly where that is another asset."""
    asset = payment.creditor_asset
    if asset is UNSET or asset == payment.money.asset:
        if payment.quote is not UNSET:
            raise MalformedInput("QUOTE_IDLE", "A payment in one asset names no quote.", path=path("quote"))
        return
    if payment.quote is UNSET:
        raise MalformedInput("QUOTE_MISSING", "A payment in two assets names a quote.", path=path("quote"))
    rows["creditor_asset"] = money_asset(asset, genesis, path("creditor_asset"))
    _put_ids(rows, "quote", [payment.quote])
