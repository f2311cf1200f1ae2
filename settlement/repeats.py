"""The same id again: whether the same was asked for, or which field differs first.

An id names one item for ever. Who uses one again for the same request is told what became of the first one; who uses it
for something else is told the first field that differs, in the order of ``PAYMENT_FIELDS`` or ``COMMAND_FIELDS``. What
is compared is what was *requested*, as both messages say it: an amount that was applied, a quote that has run out or an
account that was closed meanwhile make no difference.

>>> from settlement.shapes import MoneyBody
>>> first = PaymentBody("…", "SH53…", "HK89…", MoneyBody("CNY", "100"), purpose="GDDS")
>>> difference(first, PaymentBody("…", "SH53…", "HK89…", MoneyBody("CNY", "100"), "CNY", purpose="GDDS")) is None
True
>>> difference(first, PaymentBody("…", "SH53…", "HK89…", MoneyBody("CNY", "99")))
'money.amount'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from ledger import columns
from ledger.transfers import TRANSFER, Transfers
from settlement.shapes import PaymentBody

__all__ = [
    "COMMAND_FIELDS",
    "OTHER_KIND",
    "PAYMENT_FIELDS",
    "Request",
    "Requests",
    "difference",
    "path_of",
    "request_of",
    "requests_of",
]

OTHER_KIND = "$"
"""Stands for the field where the first use of the id was of another kind: an issuance, a book transfer, a payment."""

PAYMENT_FIELDS: dict[str, Callable[[PaymentBody], Any]] = {
    "debtor": lambda payment: payment.debtor,
    "creditor": lambda payment: payment.creditor,
    "money.asset": lambda payment: payment.money.asset,
    "money.amount": lambda payment: payment.money.amount,
    "creditor_asset": lambda payment: (
        payment.money.asset if payment.creditor_asset is UNSET else payment.creditor_asset
    ),
    "quote": lambda payment: payment.quote,
    "fee": lambda payment: payment.fee,
    "refund_of": lambda payment: payment.refund_of,
    "purpose": lambda payment: payment.purpose,
    "reference": lambda payment: payment.reference,
    "value_date": lambda payment: payment.value_date,
}
"""What of a payment is compared, in this order. A ``creditor_asset`` that is left out is that of ``money``."""

_COLUMNS = frozenset(columns.names_of(columns.MASK_MAX)) - {"id_hi", "id_lo"}
COMMAND_FIELDS = tuple(name for name in TRANSFER.names or () if name in _COLUMNS)
"""What of a command in columns is compared: all that a body may say of it, in the order of ``TRANSFER``."""


class _Batch(msgspec.Struct):
    """A journaled batch whose items are not read yet: most of them nobody asks for."""

    payments: tuple[msgspec.Raw, ...]


Request = PaymentBody | np.void
"""What one item asks for: a payment, or a command in columns."""
Requests = tuple[msgspec.Raw, ...] | Transfers
"""The items of one message; empty where it is of a kind that is not compared."""


def requests_of(topic: str, body: bytes) -> Requests:
    """Give the items of a message that is journaled, so that its form was checked."""
    if topic == "/v1/transfers":
        return columns.decode(body)
    if topic == "/v1/payments":
        return (msgspec.Raw(body),)
    return msgspec.json.decode(body, type=_Batch).payments if topic == "/v1/batches" else ()


def request_of(requests: Requests, item: int) -> Request | None:
    """Give one item of a message, ``None`` where its kind is not compared."""
    if not len(requests):
        return None
    request = requests[item]
    return msgspec.json.decode(request, type=PaymentBody) if isinstance(request, msgspec.Raw) else request


def difference(first: Request | None, again: Request) -> str | None:
    """Name the first field in which two requests under one id differ, ``None`` if the same was asked for twice."""
    if isinstance(first, PaymentBody) and isinstance(again, PaymentBody):
        return next((name for name, value in PAYMENT_FIELDS.items() if value(first) != value(again)), None)
    if isinstance(first, np.void) and isinstance(again, np.void):
        return next((name for name in COMMAND_FIELDS if first[name] != again[name]), None)
    return OTHER_KIND


def path_of(topic: str, item: int, field: str) -> str:
    """Write where a field stands in the message that repeats an id: as a path in JSON, by its name in columns."""
    if field == OTHER_KIND or topic == "/v1/transfers":
        return field
    return f"$.{field}" if topic == "/v1/payments" else f"$.payments[{item}].{field}"
