"""Rows of the projected tables: pure functions of the machine between two blocks, and of blocks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.schemas import date
from ledger import messages, sections
from ledger.accounts import AccountFlag, address
from ledger.genesis import Genesis
from ledger.journal import EncodedBlock, Header
from ledger.machine import Machine
from ledger.meters import UNLIMITED
from ledger.parties import Directory
from ledger.registry import Array
from ledger.transfers import NO_MESSAGE, Result, Transfers, id_of
from settlement import packing, statements
from settlement.book import window_of
from settlement.chart import AccountCode
from settlement.legs import TransferCode, uetr_of

__all__ = ["Money", "Row", "account_rows", "balance_rows", "message_rows", "money_of", "transfer_rows"]

Row = dict[str, Any]
_CODES = {code.value: code.name for code in TransferCode}
_RESULTS = {result.value: result.name for result in Result}


@dataclass(frozen=True, slots=True, eq=False)
class Money:
    """All accounts as they stood after one block: copies, so that any thread may read them while the machine goes on.

    ``accounts`` has dtype ``ledger.state.ACCOUNT``, the first row is account 1; ``maximums`` and ``classes`` run beside
    it. Parties are only ever added, so ``directory`` may be the machine's own.
    """

    height: int
    position_count: int
    block_hash: bytes
    accounts: Array
    maximums: Array
    classes: Array
    genesis: Genesis
    directory: Directory


def money_of(machine: Machine) -> Money:
    """Copy what the projection needs; call it between two blocks."""
    accounts = machine.state.accounts[1:].copy()
    meters = machine.state.meters.array[accounts["meter"]]
    has_meter = accounts["meter"] != 0
    return Money(
        height=machine.height,
        position_count=machine.position,
        block_hash=machine.previous_hash,
        accounts=accounts,
        maximums=np.where(has_meter, meters["maximum"], UNLIMITED),
        classes=np.where(has_meter, meters["class"], 0),
        genesis=machine.genesis,
        directory=machine.directory,
    )


def account_rows(money: Money, numbers: Array) -> Iterator[Row]:
    """Give the rows of ``accounts`` for some account numbers."""
    assets = {asset.number: asset.code for asset in money.genesis.assets}
    for number in numbers.tolist():
        account = money.accounts[number - 1]
        flags, maximum = int(account["flags"]), int(money.maximums[number - 1])
        yield {
            "number": number,
            "address": address(money.genesis.ledger, number),
            "owner": money.directory.party(int(account["owner"])).code,
            "asset": assets[int(account["asset"])],
            "code": AccountCode(int(account["code"])).name,
            "is_credit_normal": bool(flags & AccountFlag.CREDIT_NORMAL),
            "is_closed": bool(flags & AccountFlag.CLOSED),
            "flags": flags,
            "minimum": int(account["minimum"]) if flags & AccountFlag.LIMITED else None,
            "maximum": None if maximum == UNLIMITED else maximum,
            "class": int(money.classes[number - 1]),
        }


def balance_rows(money: Money, numbers: Array) -> Iterator[Row]:
    """Give the rows of ``balances`` for some account numbers; what is pending to flow in is not available."""
    names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
    for number in numbers.tolist():
        account = money.accounts[number - 1]
        counters = {name: int(account[name]) for name in names}
        balance, outflow = counters["debits_posted"] - counters["credits_posted"], counters["credits_pending"]
        if int(account["flags"]) & AccountFlag.CREDIT_NORMAL:
            balance, outflow = -balance, counters["debits_pending"]
        yield {"account": number, **counters, "balance": balance, "available": balance - outflow}


def message_rows(block: EncodedBlock, header: Header, directory: Directory) -> Iterator[Row]:
    """Give the rows of ``messages`` for one block."""
    layout, fetch = sections.layout(header.shape, block.body), sections.fetcher(block.body)
    records = layout.records(0, header.transfer_count, fetch)
    row = header.expired_count
    for index in range(header.entry_count):
        message, count = layout.message(index, fetch), int(layout.counts[index])
        envelope, mine = messages.parse(message), records[row : row + count]
        row += count
        yield {
            "position": int(layout.positions[index]),
            "height": header.height,
            "timestamp_ns": header.timestamp_ns,
            "kind": envelope.kind.name.lower(),
            "topic": envelope.topic,
            "party": directory.party(directory.keys[envelope.key_id].party).code,
            "idempotency_key": envelope.idempotency_key,
            "item_count": int(mine["item"][-1]) + 1 if count else 0,
            "record_count": count,
            "refused_count": len(np.unique(mine["item"][mine["result"] != 0])),
            "body_size": len(message.body),
            "digest": envelope.digest.hex(),
            "base": message.base.decode("ascii"),
            "signature": message.signature.hex(),
        }


def transfer_rows(block: EncodedBlock, header: Header, directory: Directory) -> Iterator[Row]:
    """Give the rows of ``transfers`` for one block: one a record, expiries included."""
    layout, fetch = sections.layout(header.shape, block.body), sections.fetcher(block.body)
    records: Transfers = layout.records(0, header.transfer_count, fetch)
    incoming = set(records["message"][records["code"] == TransferCode.INCOMING].tolist())
    lists = {
        position: _listed(layout.message(index, fetch))
        for index, position in enumerate(layout.positions.tolist())
        if position in incoming
    }
    names = records.dtype.names or ()
    firsts = [header.first_position, *(layout.positions + 1).tolist()]
    counts = [header.expired_count, *layout.counts.tolist()]
    positions = np.concatenate([first + np.arange(count) for first, count in zip(firsts, counts, strict=True)])
    for position, values in zip(positions.tolist(), records.tolist(), strict=True):
        record = dict(zip(names, values, strict=True))
        party = directory.party(record["party"]).code
        yield {"position": position, "height": header.height, "party": party, **_transfer(record, lists)}


def _listed(message: messages.Message) -> list[int]:
    """Give the UETRs of the payments in the other node's list, by item."""
    rows = packing.rows_of(statements.body_of(message, statements.ListBody))
    return [id_of(high, low) for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)]


def _uetr(record: Row, lists: dict[int, list[int]]) -> str | None:
    """Name the payment that a record is a leg of.

    On the payer's ledger its id says so. On the payee's the list does: the ids of a payment that comes again, after it
    was carried out of a window, are made from something else.
    """
    if record["code"] == TransferCode.PAYMENT:
        return str(uuid.UUID(int=uetr_of(id_of(record["id_hi"], record["id_lo"]))))
    if record["code"] == TransferCode.INCOMING:
        return str(uuid.UUID(int=lists[record["message"]][record["item"]]))
    return None


def _transfer(record: Row, lists: dict[int, list[int]]) -> Row:
    related = id_of(record["related_hi"], record["related_lo"])
    return {
        "message": None if record["message"] == NO_MESSAGE else record["message"],
        "item": record["item"],
        "leg": record["leg"],
        "code": _CODES[record["code"]],
        "id": str(uuid.UUID(int=id_of(record["id_hi"], record["id_lo"]))),
        "related": str(uuid.UUID(int=related)) if related else None,
        "uetr": _uetr(record, lists),
        "debit": record["debit"],
        "credit": record["credit"],
        "amount": record["amount"],
        "minimum": record["minimum"],
        "timeout_s": record["timeout_s"],
        "window_number": window_of(record["group"])[0] if record["group"] else None,
        "flags": record["flags"],
        "result": _RESULTS[record["result"]],
        "value_date": date(record["value_day"]),
    }
