"""Examples and sentences of the API's description, for every signed write. Names and numbers are invented."""

from __future__ import annotations

from typing import Any

from gateway.openapi import Operation

__all__ = ["OPERATIONS", "RECEIPT", "UETR", "WALLET_HK", "WALLET_SH"]

UETR = "8f6d1b7e-3c52-4c7b-9a1e-2f5d0b6c4e11"
QUOTE = "0b9a7c66-5d1f-4c0e-8a35-6f0e7d2b1c90"
WALLET_SH = "SH530000000012"
WALLET_HK = "HK730000000014"
KEY = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
KEY_ID = "34750f98bd59fcfc946da45aaabe933be154a4b5094e1c4abf42866505f3c97e"
RECEIPT: dict[str, Any] = {
    "position": 4711,
    "record_count": 1,
    "block_height": 96,
    "block_hash": "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456",
}
_PAYMENT: dict[str, Any] = {
    "uetr": UETR,
    "debtor": WALLET_SH,
    "creditor": WALLET_HK,
    "money": {"asset": "CNY", "amount": "12345"},
    "purpose": "GDDS",
    "reference": "invoice 7",
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
        "An operator opens accounts on its own book for parties that are registered.",
        {"accounts": [{"owner": "SHOP-7", "asset": "CNY"}]},
        {"accounts": [{"address": WALLET_SH, "owner": "SHOP-7", "asset": "CNY"}], **RECEIPT, "record_count": 0},
        ("NOT_PARTICIPANT", "PARTY_NOT_FOUND"),
    ),
    "/v1/issuances": Operation(
        "Issue money",
        "The issuer of an asset issues it to participants. A single issuance that is refused is a 422; of several, "
        "each has its result.",
        {"issuances": [{"id": UETR, "participant": "BANK-A", "money": {"asset": "CNY", "amount": "100000000"}}]},
        {"issuances": [{"id": UETR, "result": "OK"}], **RECEIPT, "record_count": 2},
        ("NOT_ISSUER", "PARTICIPANT_NOT_FOUND", "ID_EXISTS"),
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
        "and settled with it. A refused payment is a 422 that names it, and can be read again.",
        _PAYMENT,
        {"uetr": UETR, "state": "ACCEPTED", "iso_status": "ACSP", **RECEIPT, "window": 7},
        ("NOT_OWNER", "DEBIT_LIMIT", "PAYEE_NOT_FOUND"),
    ),
    "/v1/batches": Operation(
        "Pay many",
        "Many payments under one signature, journaled whole. The results are at the address in Location.",
        {"payments": [_PAYMENT]},
        {"item_count": 1, "accepted_count": 1, "refused_count": 0, **RECEIPT},
        ("NOT_OWNER",),
        202,
    ),
    "/v1/cancellations": Operation(
        "Cancel a payment",
        "The payer takes back a payment whose window is still open.",
        {"uetr": UETR},
        {"uetr": UETR, "state": "CANCELLED", "iso_status": "CANC", **RECEIPT},
        ("PAYMENT_NOT_FOUND", "PAYMENT_DECIDED"),
    ),
}
