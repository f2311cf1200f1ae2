"""Examples and sentences of the API's description, for every signed write. Names and numbers are invented."""

from __future__ import annotations

from typing import Any

from gateway.openapi import Operation

__all__ = [
    "ACCOUNT",
    "BLOCK",
    "CYCLE",
    "HEALTH",
    "KEY",
    "KEY_ID",
    "NET_POSITION",
    "NOTE",
    "OPERATIONS",
    "PARTICIPANT",
    "PAYMENT",
    "QUOTE_VIEW",
    "RECEIPT",
    "RECORD",
    "RESULT",
    "RULES",
    "TRANSFER",
    "TRIAL_BALANCE",
    "UETR",
    "WALLET_HK",
    "WALLET_SH",
    "WINDOW",
]

UETR = "8f6d1b7e-3c52-4c7b-9a1e-2f5d0b6c4e11"
QUOTE = "0b9a7c66-5d1f-4c0e-8a35-6f0e7d2b1c90"
WALLET_SH = "SH530000000012"
WALLET_HK = "HK890000000014"
KEY = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
KEY_ID = "34750f98bd59fcfc946da45aaabe933be154a4b5094e1c4abf42866505f3c97e"
RECEIPT: dict[str, Any] = {
    "position": 4711,
    "record_count": 1,
    "block_height": 96,
    "block_hash": "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456",
}
_HASH = RECEIPT["block_hash"]
HEALTH: dict[str, Any] = {
    "status": "ok",
    "network": "hugang-demo",
    "genesis_hash": "838d79b31df048a6f35a2eaa5eecd20c8689d1cc297f00142f431bc8f5d5b9b8",
    "ledger": "SH",
    "height": 96,
    "position": 4713,
    "open_window": 7,
    "waiting_count": 0,
    "clock_offset_s": 0,
}
NOTE = (
    "hugang-demo/sh\n4711\nXfbg4nYTWdMKgnUFjimfzAOBU0VF9VzzFOQZg/XUyUU=\n\n"
    "\u2014 hugang-demo/sh 0DVDuVmB...the key id and the signature in base64\n"
)
BLOCK: dict[str, Any] = {
    "ledger": "SH",
    "height": 96,
    "hash": _HASH,
    "previous_hash": KEY_ID,
    "timestamp": "2026-01-05T08:12:30.123456789Z",
    "first_position": 4711,
    "message_count": 1,
    "expired_count": 0,
    "record_count": 1,
    "tree_size": 4713,
    "tree_root": KEY,
    "body_hash": KEY_ID,
}
WINDOW: dict[str, Any] = {
    "ledger": "SH",
    "window": 6,
    "state": "SETTLED",
    "attempt": 1,
    "open_window": 7,
    "outgoing_count": 1204,
    "incoming_count": 998,
    "opened_at": "2026-01-05T07:00:00.000000000Z",
    "closed_at": "2026-01-05T08:00:00.000000000Z",
    "settled_at": "2026-01-05T08:00:01.250000000Z",
    "settled_position": 4602,
    "statements": ["acceptance/HK", "acceptance/SH", "close", "decision/HK/1", "list/HK", "list/SH"],
}
PARTICIPANT: dict[str, Any] = {
    "code": "BANK-A",
    "accounts": [{"code": "SETTLE", "asset": "CNY", "address": "SH800000000011"}],
    "caps": [{"asset": "CNY", "maximum": "5000000000"}],
}
QUOTE_VIEW: dict[str, Any] = {
    "quote": QUOTE,
    "provider": "BANK-F",
    "sell": {"asset": "HKD", "amount": "50000000"},
    "left": "48915700",
    "buy": "CNY",
    "rate": "1.08430000",
    "expires": "2026-01-05T09:00:00.000000000Z",
}
PAYMENT: dict[str, Any] = {
    "uetr": UETR,
    "direction": "outgoing",
    "state": "SETTLED",
    "iso_status": "ACSC",
    "debtor": WALLET_SH,
    "creditor": WALLET_HK,
    "money": {"asset": "CNY", "amount": "12345"},
    "creditor_asset": "CNY",
    "creditor_amount": "12345",
    "record_position": 4712,
    "window": 6,
    "settled_position": 4602,
    "settled_at": "2026-01-05T08:00:01.250000000Z",
    "value_date": "2026-01-06",
}
ACCOUNT: dict[str, Any] = {
    "address": WALLET_SH,
    "owner": "SHOP-7",
    "asset": "CNY",
    "code": "WALLET",
    "book": "BANK-A",
    "is_closed": False,
    "posted": "100000",
    "pending_out": "12345",
    "pending_in": "0",
    "available": "87655",
    "class": "IV",
    "limits": {
        "payment": {"maximum": "200000"},
        "balance": {"maximum": "1000000", "used": "100000", "left": "900000"},
        "day": {"maximum": "500000", "used": "12345", "left": "487655"},
        "year": {"maximum": "5000000", "used": "812345", "left": "4187655"},
        "business_day": "2026-12-01",
    },
}
RULES: dict[str, Any] = {
    "rules": "ecny-wallets",
    "valid_from": "2026-12-01",
    "asset": "CNY",
    "state": "IN_FORCE",
    "position": 4100,
    "classes": [{"class": "IV", "balance": "1000000", "payment": "200000", "day": "500000", "year": "5000000"}],
}
RECORD: dict[str, Any] = {
    "position": 4712,
    "message": 4711,
    "side": "debit",
    "other": "SH800000000011",
    "money": {"asset": "CNY", "amount": "12345"},
    "kind": "pending",
    "purpose": "PAYMENT",
    "leg": "PAYER",
    "window": 7,
    "uetr": UETR,
}
TRANSFER: dict[str, Any] = {
    "id": UETR,
    "result": "OK",
    "status": "HOLD_OPEN",
    "position": 4712,
    "timestamp": "2026-01-05T08:12:30.123456789Z",
    "message": 4711,
    "item": 0,
    "debit": WALLET_SH,
    "credit": "SH800000000011",
    "money": {"asset": "CNY", "amount": "12345"},
    "kind": "pending",
    "purpose": "BOOK",
    "related": None,
    "value_date": None,
}
RESULT: dict[str, Any] = {"item": 0, "uetr": UETR, "result": "OK", "state": "ACCEPTED", "iso_status": "ACSP"}
TRIAL_BALANCE: dict[str, Any] = {
    "height": 96,
    "position": 4713,
    "money_digest": KEY,
    "is_balanced": True,
    "totals": [
        {
            "asset": "CNY",
            "debits_posted": "100000000",
            "credits_posted": "100000000",
            "debits_pending": "12345",
            "credits_pending": "12345",
        }
    ],
    "rows": [
        {
            "book": "BANK-A",
            "code": "WALLET",
            "asset": "CNY",
            "account_count": 12,
            "debits_posted": "0",
            "credits_posted": "100000",
            "debits_pending": "12345",
            "credits_pending": "0",
        }
    ],
}
CYCLE: dict[str, Any] = {
    "window": 6,
    "state": "SETTLED",
    "stage": "settled",
    "problem": None,
    "started_at": "2026-01-05T08:00:00.000000000Z",
    "ended_at": "2026-01-05T08:00:01.250000000Z",
    "stages_us": {"close": 12000, "accept": 120000, "reject": 8000, "net": 40000, "vote": 30000, "decide": 60000},
    "report": {
        "attempt": 1,
        "policy": "fifo-readd/1",
        "carried_in": 0,
        "accepted": 2202,
        "settled": 2200,
        "cancelled": 0,
        "rejected": 2,
        "carried_out": 0,
        "assets": {"CNY": {"gross": "99120000", "net": "4100000", "saving_bp": 9586}},
    },
}
NET_POSITION: dict[str, str] = {"ledger": "SH", "participant": "BANK-A", "asset": "CNY", "amount": "-4100000"}
_PAYMENT: dict[str, Any] = {
    "uetr": UETR,
    "debtor": WALLET_SH,
    "creditor": WALLET_HK,
    "money": {"asset": "CNY", "amount": "12345"},
    "purpose": "GDDS",
    "reference": "invoice 7",
    "value_date": "2026-01-06",
}

OPERATIONS: dict[str, Operation] = {
    "/v1/parties": Operation(
        "Register parties",
        "The registrar registers parties, each with its roles and first key.",
        {"parties": [{"code": "SHOP-7", "name": "Shop number seven", "roles": [], "public_key": KEY}]},
        {"parties": ["SHOP-7"], **RECEIPT, "record_count": 0},
        ("ROLE_MISSING", "PARTY_EXISTS"),
    ),
    "/v1/keys": Operation(
        "Register a key",
        "A party, or a registrar for it, adds one more key.",
        {"party": "SHOP-7", "public_key": KEY},
        {"party": "SHOP-7", "key_id": KEY_ID, **RECEIPT, "record_count": 0},
        ("KEYS_GUARDED", "PARTY_NOT_FOUND", "KEY_EXISTS"),
    ),
    "/v1/keys/revocations": Operation(
        "Revoke a key",
        "The key no longer counts from this message's position on; what it signed before stands.",
        {"key_id": KEY_ID},
        {"key_id": KEY_ID, **RECEIPT, "record_count": 0},
        ("KEYS_GUARDED", "KEY_NOT_FOUND", "KEY_REVOKED_ALREADY"),
    ),
    "/v1/keys/rotations": Operation(
        "Replace a key",
        "The key that signs is replaced by another: from this message's position on the new one counts, and no longer "
        "the old one. A retry is signed by the new key.",
        {"public_key": KEY},
        {"key_id": KEY_ID, **RECEIPT, "record_count": 0},
        ("KEYS_GUARDED", "KEY_EXISTS", "KEY_REVOKED"),
    ),
    "/v1/participants": Operation(
        "Join as a participant",
        "Opens the signer's own accounts in some assets. The signature is the standing authority under which windows "
        "settle over them.",
        {"assets": ["CNY", "HKD"]},
        {"assets": ["CNY", "HKD"], "accounts": ["SH800000000011"], **RECEIPT, "record_count": 0},
        ("ROLE_MISSING", "PARTICIPANT_EXISTS"),
    ),
    "/v1/accounts": Operation(
        "Open customer accounts",
        "An operator opens accounts on its own book for parties that are registered, each in a class of wallets or in "
        "none.",
        {"accounts": [{"owner": "SHOP-7", "asset": "CNY", "class": "IV"}]},
        {
            "accounts": [{"address": WALLET_SH, "owner": "SHOP-7", "asset": "CNY", "class": "IV"}],
            **RECEIPT,
            "record_count": 0,
        },
        ("NOT_PARTICIPANT", "PARTY_NOT_FOUND", "CLASS_NOT_FOUND"),
    ),
    "/v1/accounts/closings": Operation(
        "Close accounts",
        "A participant closes accounts on its book: wallets, and its own POSITION, FEES and SUSPENSE. Each must be "
        "empty and without pending amounts; one that is not refuses the whole message.",
        {"accounts": [WALLET_SH]},
        {"accounts": [WALLET_SH], **RECEIPT, "record_count": 0},
        ("NOT_ON_BOOK", "ACCOUNT_ELSEWHERE", "ACCOUNT_NOT_EMPTY", "ACCOUNT_PENDING", "ACCOUNT_CLOSED"),
    ),
    "/v1/accounts/reopenings": Operation(
        "Open closed accounts again",
        "A participant opens accounts on its book that it has closed, with the limits they had.",
        {"accounts": [WALLET_SH]},
        {"accounts": [WALLET_SH], **RECEIPT, "record_count": 0},
        ("NOT_ON_BOOK", "ACCOUNT_ELSEWHERE", "ACCOUNT_OPEN"),
    ),
    "/v1/accounts/classes": Operation(
        "Change the classes of wallets",
        "An operator gives wallets on its own book another class, or none (null). What they have paid already counts "
        "on.",
        {"accounts": [{"account": WALLET_SH, "class": "II"}]},
        {"accounts": [{"account": WALLET_SH, "class": "II"}], **RECEIPT, "record_count": 0},
        ("ROLE_MISSING", "NOT_ON_BOOK", "CLASS_NOT_FOUND", "ACCOUNT_CLOSED"),
    ),
    "/v1/rules": Operation(
        "Bring a version of a rule set",
        "The registrar signs what wallets of each class may hold, and pay at once, on a business day and in a year "
        "(minor units, or null for no limit), and the business day from which it holds: today, or a later one.",
        {
            "rules": "ecny-wallets",
            "valid_from": "2026-12-01",
            "asset": "CNY",
            "classes": [{"class": "IV", "balance": "1000000", "payment": "200000", "day": "500000", "year": "5000000"}],
        },
        {"rules": "ecny-wallets", "classes": ["IV"], **RECEIPT, "record_count": 0},
        ("VALID_FROM_INVALID", "ROLE_MISSING", "RULES_PAST", "RULES_ORDER", "RULES_INCOMPLETE", "CLASS_TAKEN"),
    ),
    "/v1/issuances": Operation(
        "Issue money",
        "The issuer of an asset issues it to participants. A single issuance that is refused is a 422; of several, "
        "each has its result.",
        {"issuances": [{"id": UETR, "participant": "BANK-A", "money": {"asset": "CNY", "amount": "100000000"}}]},
        {"issuances": [{"id": UETR, "result": "OK"}], **RECEIPT, "record_count": 2},
        ("NOT_ISSUER", "PARTICIPANT_NOT_FOUND", "ID_EXISTS"),
    ),
    "/v1/caps": Operation(
        "Set net debit caps",
        "The registrar bounds what a participant may owe to windows that are not decided, or lifts the bound (null). "
        "A payment that would owe more is refused as CREDIT_MAXIMUM; what comes in, and a window that settles, pass.",
        {"caps": [{"participant": "BANK-A", "asset": "CNY", "maximum": "5000000000"}]},
        {
            "caps": [{"participant": "BANK-A", "asset": "CNY", "maximum": "5000000000"}],
            **RECEIPT,
            "record_count": 0,
        },
        ("ROLE_MISSING", "PARTICIPANT_NOT_FOUND", "PARTICIPANT_ASSET", "ASSET_UNKNOWN"),
    ),
    "/v1/clock": Operation(
        "Move the test clock on",
        "The registrar moves the time of a ledger on whose genesis gives it a test clock. From the next block on, "
        "blocks bear the real time and all moves; requests are still signed in real time.",
        {"advance_s": 86400},
        {"advance_s": 86400, **RECEIPT, "record_count": 0},
        ("CLOCK_REAL", "ROLE_MISSING", "CLOCK_RANGE"),
    ),
    "/v1/quotes": Operation(
        "Publish a quote",
        "An FX provider binds itself to pay one asset for another: rate, total and end. The rate is sold minor units "
        "for each bought one.",
        {
            "quote": QUOTE,
            "sell": {"asset": "HKD", "amount": "50000000"},
            "buy": "CNY",
            "rate": "1.08430000",
            "expires": "2026-01-05T09:00:00Z",
        },
        {"quote": QUOTE, **RECEIPT},
        ("NOT_PARTICIPANT", "QUOTE_EXISTS", "PARTICIPANT_ASSET"),
    ),
    "/v1/payments": Operation(
        "Pay",
        "One payment. Inside one ledger it is settled at once; across the border it is accepted into the open window "
        "and settled with it. A refused payment is a 422 that names it, and can be read again. The same payment once "
        "more is answered as the first one was, with repeated; another one under its UETR is ID_EXISTS with the field.",
        _PAYMENT,
        {"uetr": UETR, "state": "ACCEPTED", "iso_status": "ACSP", **RECEIPT, "window": 7},
        ("NOT_OWNER", "DEBIT_LIMIT", "PAYEE_NOT_FOUND", "ID_EXISTS", "VALUE_DATE_RANGE"),
    ),
    "/v1/batches": Operation(
        "Pay many",
        "Many payments under one signature, journaled whole. The results are at the address in Location.",
        {"payments": [_PAYMENT]},
        {"item_count": 1, "accepted_count": 1, "refused_count": 0, **RECEIPT},
        ("NOT_OWNER",),
        202,
    ),
    "/v1/transfers": Operation(
        "Move money inside one book, in columns",
        "Up to 65,536 transfers between accounts of one participant's book, as binary columns (docs/formats.md), "
        "signed once by the owner of the debited accounts. The results are at the address in Location.",
        "HGT1, count, columns",
        {"item_count": 1, "accepted_count": 1, "refused_count": 0, **RECEIPT},
        ("COLUMNS_MALFORMED", "NOT_OWNER", "OTHER_BOOK"),
        202,
    ),
    "/v1/cancellations": Operation(
        "Cancel a payment",
        "The payer takes back a payment whose window is still open.",
        {"uetr": UETR},
        {"uetr": UETR, "state": "CANCELLED", "iso_status": "CANC", **RECEIPT},
        ("PAYMENT_NOT_FOUND", "PAYMENT_DECIDED"),
    ),
    "/v1/cycles": Operation(
        "Settle the open window now",
        "Signed by the settlement operator's own key. The cycle runs on by itself; its state is at the address in "
        "Location.",
        {},
        {**CYCLE, "state": "RUNNING", "stage": "close", "ended_at": None, "stages_us": None, "report": None},
        ("CYCLE_RUNNING", "NODE_UNREACHABLE"),
        202,
    ),
}
