"""Writes the golden vectors anew that follow from fixtures: requests, statements, receipts and a balance proof.

Run ``python -m tests.golden``, and only when a format has changed on purpose: until then the vectors are fixed, and the
tests hold the code and the pages to them. The block format has a tool of its own, ``tests.format_example``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import genesis, journal, receipts, sealed, signatures
from ledger.receipts import FORMAT, join, verify_receipt
from ledger.transfers import TRANSFER
from settlement.payment_receipts import Claim
from settlement.statements import digest_of, encode, sign
from tests.format_example import make_genesis
from tests.receipt_fixture import PAIR, Journals, journals
from tests.settlement_fixture import NETWORK_HASH, key_of
from tests.unit import test_receipts, test_sealed, test_snapshot, test_statements

VECTORS = Path(__file__).parent / "vectors"
PAGE = Path(__file__).parents[1] / "docs" / "proofs.md"
STATEMENTS_PAGE = PAGE.with_name("settlement.md")
ELSEWHERE = ("created", "keyid", "alg", "expires", "tag")
"""The order in which another implementation of RFC 9421 writes the parameters."""


def rewrite(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change one file of vectors."""
    path = VECTORS / f"{name}.json"
    vectors = json.loads(path.read_text("utf-8"))
    change(vectors)
    path.write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")


def write_signatures(vectors: dict[str, Any]) -> None:
    """Sign the two requests of the page, and the write once more with its parameters in another order."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vectors["rfc8032"][0]["seed"]))
    for case in vectors["ours"]:
        case["request"].pop("network", None)
        case["request"]["genesis_hash"] = genesis.genesis_hash(make_genesis()).hex()
        _sign(case, key, signatures.PARAMETERS)
    again = {name: vectors["ours"][0][name] for name in ("request", "body")}
    vectors["another_order"] = {"parameters": list(ELSEWHERE)} | again
    _sign(vectors["another_order"], key, ELSEWHERE)


def _sign(case: dict[str, Any], key: Ed25519PrivateKey, parameters: tuple[str, ...]) -> None:
    fields = dict(case["request"])
    for name in {"content_digest", "genesis_hash"} & set(fields):
        fields[name] = bytes.fromhex(fields[name])
    base = signatures.signature_base(**fields, parameters=parameters)
    signature = signatures.sign(key, base)
    case |= {"base": base.decode(), "signature": signature.hex()}
    case["headers"] = signatures.headers_for(base, signature)


def write_statements(vectors: dict[str, Any]) -> None:
    """Sign one statement of each kind."""
    for kind, (body, ledger) in test_statements.SPEAKERS.items():
        key = key_of("SETTLEMENT" if ledger == "--" else f"NODE-{ledger}")
        message = sign(body, key=key, network_hash=NETWORK_HASH, ledger=ledger)
        vectors[kind] = {
            "base": message.base.decode(),
            "body": encode(body).hex(),
            "digest": digest_of(message).hex(),
            "signature": message.signature.hex(),
        }


def write_snapshots(vectors: dict[str, Any]) -> None:
    """Take a snapshot of the reference journal, and say what changes of it must be refused with which code."""
    data = test_snapshot.example()
    vectors["whole"] = base64.b64encode(data).decode()
    vectors["refused"] = [
        {"why": why, "offset": offset, "hex": changed.hex(), "code": code}
        for why, offset, changed, code in test_snapshot.example_changes(data)
    ]


def write_receipts(vectors: dict[str, Any]) -> None:
    """Make the receipts again, and what must be refused."""
    made = journals()
    for case in vectors["receipts"].values():
        parts = [made.receipt(ledger, who, case["payment"]) for ledger, who in case["readers"]]
        receipt = parts[0] if len(parts) == 1 else join(*parts)
        case["receipt"] = receipt.hex()
        case["shows"] = test_receipts.described(verify_receipt(receipt, PAIR["SH"], PAIR["HK"]))
    good = bytes.fromhex(vectors["receipts"]["at once, refused"]["receipt"])
    vectors["refused"] = [
        {"why": why, "code": code, "receipt": receipt.hex()} for why, code, receipt in _bent_receipts(made, good)
    ]


def _bent_receipts(made: Journals, good: bytes) -> list[tuple[str, str, bytes]]:
    ((content, _),) = receipts._read(good)
    (record,) = content.records
    message, document = content.message, msgspec.msgpack.decode(good)
    richer = np.frombuffer(record.leaf, TRANSFER).copy()
    richer["amount"] += 1
    swapped, hashes = bytes.maketrans(b"\0\1", b"\1\0"), content.hashes
    proofs = tuple(row.translate(swapped) for row in content.proofs)
    height = made.stores["SH"].height_of(message.position)

    def lie(**changes: Any) -> bytes:
        return test_receipts.signed(msgspec.structs.replace(content, **changes))

    def of_message(**changes: Any) -> bytes:
        return lie(message=msgspec.structs.replace(message, **changes))

    return [
        ("another format", "RECEIPT_MALFORMED", good.replace(FORMAT.encode(), b"hugang-receipt/2", 1)),
        ("a byte too many", "RECEIPT_MALFORMED", good + b"\0"),
        ("cut", "RECEIPT_MALFORMED", good[:-1]),
        ("an array in a longer form", "RECEIPT_MALFORMED", b"\xdc\x00\x02" + good[1:]),
        ("the same part twice", "RECEIPT_MALFORMED", msgspec.msgpack.encode([FORMAT, document[1] * 2])),
        ("a hash that is not used", "RECEIPT_MALFORMED", lie(hashes=hashes + bytes(32))),
        (
            "hashes out of order",
            "RECEIPT_MALFORMED",
            lie(hashes=hashes[32:64] + hashes[:32] + hashes[64:], proofs=proofs),
        ),
        ("signed by the other node", "RECEIPT_INVALID", test_receipts.signed(content, ledger="HK")),
        (
            "a record with another amount",
            "RECEIPT_INVALID",
            lie(records=(msgspec.structs.replace(record, leaf=richer.tobytes()),)),
        ),
        (
            "a record at another position",
            "RECEIPT_INVALID",
            lie(records=(msgspec.structs.replace(record, position=record.position + 1),)),
        ),
        ("another body", "RECEIPT_INVALID", of_message(body=b"{}")),
        ("a request made for the other ledger", "RECEIPT_INVALID", of_message(**_made_for(message, "HK"))),
        ("the other ledger's checkpoint", "RECEIPT_INVALID", lie(checkpoint=made.note("HK"))),
        (
            "a cosignature with a changed name",
            "RECEIPT_INVALID",
            lie(checkpoint=content.checkpoint.replace(b"test/hk ", b"test/hx ")),
        ),
        ("the next block's header", "RECEIPT_INVALID", lie(header=made.stores["SH"].header(height + 1))),
    ]


def _made_for(message: Any, ledger: str) -> dict[str, Any]:
    """Give base and signature of the same request, made for a ledger by the same signer."""
    own, other = (genesis.genesis_hash(PAIR[at]).hex().encode() for at in ("SH", ledger))
    base = message.base.replace(own, other)
    return {"base": base, "signature": signatures.sign(key_of("ann"), base)}


def write_balances(vectors: dict[str, Any]) -> None:
    """Prove the account's balance again, and make what must be refused."""
    good, changed = test_sealed.proof_of(vectors["proof"]["account"]), test_sealed.changed
    found = sealed.verify_balance(good, PAIR["SH"])
    vectors["proof"] |= {
        "bytes": good.hex(),
        "address": found.address,
        "available": found.account.available,
        "tree_size": found.tree_size,
        "tree_root": found.tree_root.hex(),
    }
    bent = [
        ("another format", "BALANCE_MALFORMED", changed(format="hugang-balance/2")),
        ("a byte too many", "BALANCE_MALFORMED", good + b"\0"),
        ("cut", "BALANCE_MALFORMED", good[:-1]),
        ("an array in a longer form", "BALANCE_MALFORMED", b"\xdc\x00\x05" + good[1:]),
        ("a richer account", "BALANCE_INVALID", changed(leaf=test_sealed.other_leaf(credits_posted=10**12))),
        ("another account's number", "BALANCE_INVALID", changed(leaf=test_sealed.other_leaf(number=1))),
        ("a checkpoint that seals nothing", "BALANCE_INVALID", changed(checkpoint=journals().note("SH"))),
        ("the other ledger", "BALANCE_INVALID", changed(ledger="HK")),
    ]
    vectors["refused"] = [{"why": why, "code": code, "bytes": data.hex()} for why, code, data in bent]


def write_page() -> None:
    """Write the receipt and the balance proof that docs/proofs.md prints, piece by piece."""
    page = PAGE.read_text("utf-8")
    vectors = {name: json.loads((VECTORS / f"{name}.json").read_text("utf-8")) for name in ("receipts", "balances")}
    receipt = bytes.fromhex(vectors["receipts"]["receipts"]["at once, refused"]["receipt"])
    page = _replaced(page, "This one is of a payment that was refused", "## Sealed balances", _shown_receipt(receipt))
    proof = bytes.fromhex(vectors["balances"]["proof"]["bytes"])
    page = _replaced(
        page, "This one is ", "## Anchored certificates", _shown_balance(proof), after="## Sealed balances"
    )
    PAGE.write_text(page, "utf-8")


def write_statements_page() -> None:
    """Write the example of each kind of statement that docs/settlement.md prints."""
    page = STATEMENTS_PAGE.read_text("utf-8")
    vectors = json.loads((VECTORS / "statements.json").read_text("utf-8"))
    for kind in test_statements.SPEAKERS:
        vector = vectors[kind]
        pieces = (vector["base"].rstrip("\n"), _hex(bytes.fromhex(vector["body"])), vector["digest"])
        shown = "\n\n".join("\n".join(f"    {line}" for line in piece.split("\n")) for piece in pieces)
        start = page.index("    hugang-statement/1", page.index(f"### {kind}\n"))
        end = page.index(" " * 4, page.index("\n\n", page.index("\n\n", start) + 2))
        page = page[:start] + shown + page[page.index("\n", end) :]
    STATEMENTS_PAGE.write_text(page, "utf-8")


def _replaced(page: str, first: str, end: str, text: str, *, after: str = "") -> str:
    """Give the page with other text from ``first`` (behind ``after``) to before ``end``."""
    start = page.index(first, page.index(after))
    return page[:start] + text + "\n" + page[page.index(end, start) :]


def _hex(data: bytes) -> str:
    """Write bytes in lines of 56."""
    return "\n".join(data[at : at + 56].hex() for at in range(0, len(data), 56))


def _blocks(*pieces: str) -> str:
    """Put pieces under each other; what stands for itself is fenced."""
    return "\n\n".join(
        piece if piece.endswith((":", ".")) else f"```\n{piece.rstrip(chr(10))}\n```" for piece in pieces
    )


def _shown_receipt(receipt: bytes) -> str:
    ((content, part),) = receipts._read(receipt)
    (record,) = content.records
    claim = msgspec.msgpack.decode(content.claim, type=Claim)
    hashes = [content.hashes[at : at + 32].hex() for at in range(0, len(content.hashes), 32)]
    body = (content.message.body or b"").decode()
    height = journal.decode_header(content.header).height
    return (
        _blocks(
            f"This one is of a payment that was refused at once: {len(receipt):,} bytes. "
            "The checkpoint, signed by Shanghai's node and cosigned by Hong Kong's:",
            content.checkpoint.decode(),
            f"The header of block {height}:",
            _hex(content.header),
            f"The message at position {content.message.position}: public key, base, signature, body.",
            content.message.key.hex(),
            content.message.base.decode(),
            _hex(content.message.signature),
            body,
            f"Its one record, at position {record.position}:",
            _hex(record.leaf),
            f"No evidence. The claim: `{claim.status}` for reason {claim.reason.value} (`{claim.reason.name}`), "
            "in no window.",
            _hex(content.claim),
            "The hashes and the proofs:",
            "\n".join(f"{index:2} {digest}" for index, digest in enumerate(hashes)),
            "\n".join(
                f"{name:<12} {row.hex()}"
                for name, row in zip(("consistency", "message", "record"), content.proofs, strict=True)
            ),
            "The node's signature over the part:",
            _hex(part.signature),
        )
        + "\n"
    )


def _shown_balance(proof: bytes) -> str:
    _, _, note, leaf, hashes = msgspec.msgpack.decode(proof)
    return (
        _blocks(
            f"This one is {len(proof)} bytes: the checkpoint, the leaf, and the proof.",
            note.decode(),
            _hex(leaf),
            "\n".join(digest.hex() for digest in hashes),
        )
        + "\n"
    )


def main() -> None:
    """Write all five files, and the pages."""
    rewrite("signatures", write_signatures)
    rewrite("statements", write_statements)
    rewrite("receipts", write_receipts)
    rewrite("balances", write_balances)
    rewrite("snapshots", write_snapshots)
    write_page()
    write_statements_page()


if __name__ == "__main__":
    main()
