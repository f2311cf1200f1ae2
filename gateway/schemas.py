"""What answers look like: from the frozen views of the ledger and of settlement to plain JSON.

Money is ``{"asset", "amount"}`` with digits of minor units, instants are RFC 3339 in UTC with nanoseconds, ids are
UUIDs, accounts are addresses. Whatever a reader does not need to see has no field here.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec
import numpy as np
from starlette.responses import Response

from ledger.accounts import ACCOUNT_NUMBER_MAX, address
from ledger.balances import AccountView as LedgerAccount
from ledger.genesis import Genesis
from ledger.journal import Header
from ledger.reader import History
from ledger.registry import Entry
from ledger.transfers import NO_MESSAGE, Flag, Result, Transfers, id_of
from settlement.legs import Leg, TransferCode, uetr_of
from settlement.port import WindowView
from settlement.views import AccountView, LimitsView, ParticipantView, PaymentView, QuoteView, RulesView, TrialRow

__all__ = [
    "account",
    "answer",
    "balances",
    "date",
    "header",
    "instant",
    "listing",
    "money",
    "participant",
    "payment",
    "quote",
    "records",
    "rules",
    "transfer",
    "trial_row",
    "uuid_text",
    "window",
]

_SECOND_NS = 10**9
_EPOCH = dt.date(1970, 1, 1)
_PURPOSES = {code.value: code.name for code in TransferCode}
_LEGS = {leg.value: leg.name for leg in Leg}
_KINDS = {Flag.PENDING: "pending", Flag.POST: "post", Flag.VOID: "void", Flag.EXPIRE: "expire"}


def answer(data: Any, *, next_cursor: int | None = None, is_list: bool = False) -> Response:
    """Wrap what a read gives; a list says where it goes on."""
    body: dict[str, Any] = {"data": data}
    if is_list:
        body["next_cursor"] = None if next_cursor is None else str(next_cursor)
    return Response(msgspec.json.encode(body), media_type="application/json")


def listing(data: list[Any], next_cursor: int | None) -> Response:
    """Wrap one page of a list."""
    return answer(data, next_cursor=next_cursor, is_list=True)


def uuid_text(number: int) -> str:
    """Write a 128-bit id as people do."""
    return str(uuid.UUID(int=number))


def instant(time_ns: int) -> str | None:
    """Write Unix nanoseconds as RFC 3339; zero is no instant."""
    if not time_ns:
        return None
    seconds, nanoseconds = divmod(time_ns, _SECOND_NS)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def date(day: int) -> str | None:
    """Write days since 1970-01-01 as a date; zero is no date."""
    return str(_EPOCH + dt.timedelta(days=day)) if day else None


def money(asset: str, amount: int) -> dict[str, str]:
    """Write an amount with its asset."""
    return {"asset": asset, "amount": str(amount)}


def payment(view: PaymentView) -> dict[str, Any]:
    """Write one payment; ``reason`` and ``iso_reason`` stand there if it was refused or rejected."""
    body: dict[str, Any] = {
        "uetr": uuid_text(view.uetr),
        "direction": "incoming" if view.incoming else "outgoing",
        "state": view.status.value,
        "iso_status": view.iso_status,
        "debtor": view.debtor,
        "creditor": view.creditor,
        "money": money(view.asset, view.amount),
        "creditor_asset": view.creditor_asset,
        "creditor_amount": None if view.creditor_amount is None else str(view.creditor_amount),
        "record_position": view.record_position,
        "window": view.window,
        "settled_position": view.settled_position,
        "settled_at": instant(view.settled_ns or 0),
        "value_date": date(view.value_day),
    }
    if view.reason is not Result.OK:
        body |= {"reason": view.reason.name, "iso_reason": view.iso_reason}
    return body


def account(view: AccountView) -> dict[str, Any]:
    """Write one account; balances are on its normal side."""
    return {
        "address": view.address,
        "owner": view.owner,
        "asset": view.asset,
        "code": view.code,
        "book": view.book,
        "is_closed": view.closed,
        "posted": str(view.posted),
        "pending_out": str(view.pending_out),
        "pending_in": str(view.pending_in),
        "available": str(view.available),
        "class": view.limits.klass,
        "limits": _limits(view.limits),
    }


def _limits(view: LimitsView) -> dict[str, Any]:
    """Write what bounds an account; what is used beyond a limit leaves nothing."""
    parts = (
        ("balance", view.balance, view.balance_used),
        ("day", view.day, view.day_used),
        ("year", view.year, view.year_used),
    )
    body: dict[str, Any] = {
        name: {"maximum": _text(top), "used": str(used), "left": None if top is None else str(max(0, top - used))}
        for name, top, used in parts
    }
    return {"payment": {"maximum": _text(view.payment)}, **body, "business_day": date(view.day_counted)}


def _text(limit: int | None) -> str | None:
    return None if limit is None else str(limit)


def rules(view: RulesView) -> dict[str, Any]:
    """Write one version of a rule set."""
    version = view.version
    return {
        "rules": version.rules,
        "valid_from": date(version.valid_from),
        "asset": view.asset,
        "state": view.state,
        "position": version.position,
        "classes": [
            {
                "class": rule.name,
                "balance": _text(rule.balance),
                "payment": _text(rule.payment),
                "day": _text(rule.day),
                "year": _text(rule.year),
            }
            for rule in version.classes
        ],
    }


def quote(view: QuoteView) -> dict[str, Any]:
    """Write one quote; the rate is sold minor units for each bought one."""
    whole, fraction = divmod(view.rate_e8, 10**8)
    return {
        "quote": uuid_text(view.quote),
        "provider": view.provider,
        "sell": money(view.sell, view.maximum),
        "left": str(view.left),
        "buy": view.buy,
        "rate": f"{whole}.{fraction:08d}",
        "expires": instant(view.expires_ns),
    }


def participant(view: ParticipantView, ledger: str) -> dict[str, Any]:
    """Write one participant with its own accounts and its net debit caps."""
    accounts = [
        {"code": code, "asset": asset, "address": address(ledger, number)} for code, asset, number in view.accounts
    ]
    caps = [{"asset": asset, "maximum": str(maximum)} for asset, maximum in view.caps]
    return {"code": view.code, "accounts": accounts, "caps": caps}


def trial_row(row: TrialRow) -> dict[str, Any]:
    """Write the sums over the accounts of one code and asset on one book."""
    return {
        "book": row.book,
        "code": row.code,
        "asset": row.asset,
        "account_count": row.accounts,
        "debits_posted": str(row.debits_posted),
        "credits_posted": str(row.credits_posted),
        "debits_pending": str(row.debits_pending),
        "credits_pending": str(row.credits_pending),
    }


def window(view: WindowView) -> dict[str, Any]:
    """Write one window, without the statements themselves: they name participants' positions."""
    return {
        "ledger": view.ledger,
        "window": view.number,
        "state": view.state,
        "attempt": view.attempt,
        "open_window": view.open_window,
        "outgoing_count": view.outgoing_count,
        "incoming_count": view.incoming_count,
        "opened_at": instant(view.opened_ns),
        "closed_at": instant(view.closed_ns),
        "settled_at": instant(view.settled_ns),
        "settled_position": view.settled_position or None,
        "statements": list(view.statements),
    }


def header(block: Header, block_hash: bytes) -> dict[str, Any]:
    """Write a block's header."""
    return {
        "ledger": block.ledger,
        "height": block.height,
        "hash": block_hash.hex(),
        "previous_hash": block.previous_hash.hex(),
        "timestamp": instant(block.timestamp_ns),
        "first_position": block.first_position,
        "message_count": block.entry_count,
        "expired_count": block.expired_count,
        "record_count": block.transfer_count,
        "tree_size": block.tree_size,
        "tree_root": block.tree_root.hex(),
        "body_hash": block.body_hash.hex(),
    }


def records(history: History, genesis: Genesis, account_number: int, asset: int) -> list[dict[str, Any]]:
    """Write one page of an account's history."""
    code = _asset(genesis, asset)
    return [
        _record(row, position, genesis.ledger, account_number, code)
        for row, position in zip(_rows(history.records), history.positions, strict=True)
    ]


def balances(view: LedgerAccount, genesis: Genesis, *, position: int, timestamp_ns: int) -> dict[str, Any]:
    """Write an account's balances as of a position, on its normal side, with the time of that position's block."""
    sides = (view.debits_pending, view.credits_pending)
    pending_out, pending_in = sides if view.is_credit_normal else sides[::-1]
    return {
        "address": address(genesis.ledger, view.number),
        "asset": _asset(genesis, view.asset),
        "position": position,
        "timestamp": instant(timestamp_ns),
        "posted": str(view.balance),
        "pending_out": str(pending_out),
        "pending_in": str(pending_in),
        "available": str(view.available),
    }


def transfer(row: np.void, genesis: Genesis, entry: Entry, *, asset: int, timestamp_ns: int) -> dict[str, Any]:
    """Write the record that used an id up: what it says, where it stands, and what has become of it since."""
    message, related = int(row["message"]), id_of(row["related_hi"], row["related_lo"])
    return {
        "id": uuid_text(id_of(row["id_hi"], row["id_lo"])),
        "result": Result(int(row["result"])).name,
        "status": entry.status.name,
        "position": entry.position,
        "timestamp": instant(timestamp_ns),
        "message": None if message == NO_MESSAGE else message,
        "item": int(row["item"]),
        "debit": _address(genesis, int(row["debit"])),
        "credit": _address(genesis, int(row["credit"])),
        "money": money(_asset(genesis, asset), int(row["amount"])),
        "kind": _kind(row),
        "purpose": _PURPOSES.get(int(row["code"])),
        "related": uuid_text(related) if related else None,
        "value_date": date(int(row["value_day"])),
    }


def _asset(genesis: Genesis, number: int) -> str:
    return next((entry.code for entry in genesis.assets if entry.number == number), "")


def _address(genesis: Genesis, number: int) -> str | None:
    """Write an account's address; a refused record may name what can be no account."""
    return address(genesis.ledger, number) if 0 < number <= ACCOUNT_NUMBER_MAX else None


def _kind(row: np.void) -> str:
    return next((name for flag, name in _KINDS.items() if int(row["flags"]) & flag), "posted")


def _rows(table: Transfers) -> list[np.void]:
    return list(table)


def _record(row: np.void, position: int, ledger: str, account_number: int, asset: str) -> dict[str, Any]:
    """Write one record as the account sees it: the other side by its address, the payment by its UETR."""
    is_debit = int(row["debit"]) == account_number
    message = int(row["message"])
    body: dict[str, Any] = {
        "position": position,
        "message": None if message == NO_MESSAGE else message,
        "side": "debit" if is_debit else "credit",
        "other": address(ledger, int(row["credit"] if is_debit else row["debit"])),
        "money": money(asset, int(row["amount"])),
        "kind": _kind(row),
        "purpose": _PURPOSES.get(int(row["code"])),
        "leg": _LEGS.get(int(row["leg"])),
        "window": int(row["group"]) // 4 or None,
    }
    if int(row["code"]) in (TransferCode.PAYMENT, TransferCode.INCOMING):
        body["uetr"] = uuid_text(uetr_of(id_of(row["id_hi"], row["id_lo"])))
    return body
