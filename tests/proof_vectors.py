"""The vectors of receipts and balance proofs: ``python -m tests.proof_vectors`` writes them and their page anew.

Do that only when a format has changed on purpose: until then both are fixed, and the tests hold the code to them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ledger import receipts
from ledger.genesis import genesis_hash
from ledger.receipts import FORMAT, join, verify_receipt
from ledger.sealed import verify_balance
from ledger.transfers import TRANSFER
from tests.receipt_fixture import PAIR, journals
from tests.settlement_fixture import key_of
from tests.unit import test_receipts, test_sealed

VECTORS = Path(__file__).parent / "vectors"
PAGE_PATH = Path(__file__).parents[1] / "docs" / "proofs.md"
ABOUT = {
    "receipts": "Receipts of the journals in tests/receipt_fixture.py in hex, what they show, and such as must be "
    "refused. All verify with the genesis of either ledger of tests/settlement_fixture.py.",
    "balances": "A proof of one account's balance in the journals of tests/receipt_fixture.py in hex, and such as must "
    "be refused. They verify with the genesis of either ledger of tests/settlement_fixture.py.",
}
CASES: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "at once, refused": ("refused", (("SH", "ann"),)),
    "settled, with fee, between participants": ("between", (("SH", "ann"),)),
    "settled across the border, both ledgers": ("single", (("SH", "ann"), ("HK", "dan"))),
    "one of a batch": ("batch", (("SH", "cai"),)),
}
SHOWN = "at once, refused"
LINE_WIDTH = 112


def make_receipts() -> dict[str, Any]:
    """Make the vectors of receipts."""
    made = journals()
    cases = {}
    for name, (payment, readers) in CASES.items():
        parts = [made.receipt(ledger, who, payment) for ledger, who in readers]
        receipt = parts[0] if len(parts) == 1 else join(*parts)
        shows = test_receipts.described(verify_receipt(receipt, PAIR["SH"]))
        cases[name] = {"payment": payment, "readers": readers, "receipt": receipt.hex(), "shows": shows}
    refused = [
        {"why": why, "code": f"RECEIPT_{code}", "receipt": data.hex()}
        for why, code, data in _refused_receipts(bytes.fromhex(cases[SHOWN]["receipt"]))
    ]
    return {"about": ABOUT["receipts"], "receipts": cases, "refused": refused}


def _refused_receipts(good: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Give receipts that must be refused: why, the end of the code, the bytes."""
    made, lie = journals(), test_receipts.lie
    (content,) = test_receipts.contents_of(good)
    parts = msgspec.msgpack.decode(good)[1]
    record, message = content.records[0], content.message
    richer = np.frombuffer(record.leaf, TRANSFER).copy()
    richer["amount"] += 1
    swapped = bytes.maketrans(b"\0\1", b"\1\0")
    turned = content.hashes[32:64] + content.hashes[:32] + content.hashes[64:]
    height = int.from_bytes(content.header[16:24], "little")
    replace = msgspec.structs.replace
    yield "another format", "MALFORMED", msgspec.msgpack.encode(["hugang-receipt/x", parts])
    yield "a byte too many", "MALFORMED", good + b"\0"
    yield "cut", "MALFORMED", good[:-1]
    yield "an array in a longer form", "MALFORMED", b"\xdc\x00\x02" + good[1:]
    yield "the same part twice", "MALFORMED", msgspec.msgpack.encode([FORMAT, parts * 2])
    yield "a hash that is not used", "MALFORMED", lie(good, hashes=content.hashes + bytes(32))
    shared = tuple(row.translate(swapped) for row in content.proofs)
    yield "hashes out of order", "MALFORMED", lie(good, hashes=turned, proofs=shared)
    yield "signed by the other node", "INVALID", test_receipts.signed(content, ledger="HK")
    yield "a record with another amount", "INVALID", lie(good, records=(replace(record, leaf=richer.tobytes()),))
    moved = replace(record, position=record.position + 1)
    yield "a record at another position", "INVALID", lie(good, records=(moved,))
    yield "another body", "INVALID", lie(good, message=replace(message, body=b"{}"))
    here, there = (genesis_hash(PAIR[ledger]).hex().encode() for ledger in ("SH", "HK"))
    base = message.base.replace(here, there)
    elsewhere = replace(message, base=base, signature=key_of("ann").sign(base))
    yield "a request made for the other ledger", "INVALID", lie(good, message=elsewhere)
    yield "the other ledger's checkpoint", "INVALID", lie(good, checkpoint=made.note("HK"))
    renamed = content.checkpoint.replace(b"\xe2\x80\x94 hugang-test/hk", b"\xe2\x80\x94 hugang-test/hx")
    yield "a cosignature with a changed name", "INVALID", lie(good, checkpoint=renamed)
    yield "the next block's header", "INVALID", lie(good, header=made.stores["SH"].header(height + 1))


def make_balances() -> dict[str, Any]:
    """Make the vectors of balance proofs."""
    proof = test_sealed.proof_of()
    found = verify_balance(proof, PAIR["SH"])
    golden = {
        "account": "WALLET.ann",
        "bytes": proof.hex(),
        "address": found.address,
        "available": found.account.available,
        "tree_size": found.tree_size,
        "tree_root": found.tree_root.hex(),
    }
    refused = [
        {"why": why, "code": f"BALANCE_{code}", "bytes": data.hex()} for why, code, data in _refused_balances(proof)
    ]
    return {"about": ABOUT["balances"], "proof": golden, "refused": refused}


def _refused_balances(good: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Give proofs that must be refused: why, the end of the code, the bytes."""
    changed, leaf = test_sealed.changed, test_sealed.other_leaf
    number = journals().world.sh.account("WALLET.ann")
    yield "another format", "MALFORMED", changed(format="hugang-balance/x")
    yield "a byte too many", "MALFORMED", good + b"\0"
    yield "cut", "MALFORMED", good[:-1]
    yield "an array in a longer form", "MALFORMED", b"\xdc\x00\x05" + good[1:]
    yield "a richer account", "INVALID", changed(leaf=leaf(credits_posted=10**12))
    yield "another account's number", "INVALID", changed(leaf=leaf(number=number + 1))
    yield "a checkpoint that seals nothing", "INVALID", changed(checkpoint=journals().note("SH"))
    yield "the other ledger", "INVALID", changed(ledger="HK")


# --- what the page prints ---------------------------------------------------------------------------------------------


def receipt_page(page: str, receipt: bytes) -> str:
    """Write the page's example of a receipt anew: the numbers in its text, and its blocks in order."""
    ((content, part),) = receipts._read(receipt)
    message = content.message
    hashes = [content.hashes[at : at + 32] for at in range(0, len(content.hashes), 32)]
    names = ["consistency ", "message     ", *["record      "] * len(content.records)]
    proofs = [f"{name} {proof.hex()}" for name, proof in zip(names, content.proofs, strict=True)]
    height = int.from_bytes(content.header[16:24], "little")
    blocks = [
        content.checkpoint.decode(),
        _wrapped(content.header),
        _wrapped(message.key),
        message.base.decode() + "\n",
        _wrapped(message.signature),
        (message.body or b"").decode() + "\n",
        _wrapped(content.records[0].leaf),
        _wrapped(content.claim),
        "".join(f"{number:2d} {one.hex()}\n" for number, one in enumerate(hashes)),
        "\n".join(proofs) + "\n",
        _wrapped(part.signature),
    ]
    numbers = [
        (r"[0-9,]+( bytes\. The checkpoint)", len(receipt)),
        (r"(?<=header of block )[0-9]+(:)", height),
        (r"(?<=message at position )[0-9]+(:)", message.position),
        (r"(?<=one record, at position )[0-9]+(:)", content.records[0].position),
    ]
    head, tail = page.split("This one is of a payment that was refused at once", 1)
    example, rest = tail.split("## Sealed balances", 1)
    for pattern, number in numbers:
        example = re.sub(pattern, rf"{number:,}\1", example, count=1)
    example = _filled(example, blocks)
    return f"{head}This one is of a payment that was refused at once{example}## Sealed balances{rest}"


def balance_page(page: str, proof: bytes) -> str:
    """Write the page's example of a balance proof anew."""
    _, _, note, leaf, hashes = msgspec.msgpack.decode(proof)
    head, tail = page.split("## Sealed balances", 1)
    tail = re.sub(r"[0-9,]+( bytes: the checkpoint)", rf"{len(proof):,}\1", tail, count=1)
    blocks = [note.decode(), _wrapped(leaf), "".join(f"{one.hex()}\n" for one in hashes)]
    return f"{head}## Sealed balances{_filled(tail, blocks)}"


def _filled(text: str, blocks: list[str]) -> str:
    """Put new contents between the fences of a text, in order; it must have as many."""
    pieces = re.split(r"(^```(?:json)?\n)(.*?)(^```$)", text, flags=re.DOTALL | re.MULTILINE)
    if len(pieces[2::4]) != len(blocks):
        raise ValueError("the page has another number of blocks")
    pieces[2::4] = blocks
    return "".join(pieces)


def _wrapped(data: bytes) -> str:
    text = data.hex()
    return "".join(f"{text[at : at + LINE_WIDTH]}\n" for at in range(0, len(text), LINE_WIDTH))


def main() -> None:
    """Write both files, and the page with what has changed."""
    made, proven = make_receipts(), make_balances()
    page = PAGE_PATH.read_text("utf-8")
    page = receipt_page(page, bytes.fromhex(made["receipts"][SHOWN]["receipt"]))
    page = balance_page(page, bytes.fromhex(proven["proof"]["bytes"]))
    for name, vectors in (("receipts", made), ("balances", proven)):
        text = json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"
        VECTORS.joinpath(f"{name}.json").write_text(text, "utf-8")
    PAGE_PATH.write_text(page, "utf-8")
    sys.stdout.write("written: receipts.json, balances.json and the examples of docs/proofs.md\n")


if __name__ == "__main__":
    main()
