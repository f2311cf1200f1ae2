"""The worked example of ``docs/formats.md``: a journal of four blocks, and its bytes line by line.

``python -m tests.format_example`` writes the vectors and the page's example anew. Do that only when a
format has changed on purpose: until then both are fixed, and the tests hold the code to them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import columns, genesis, journal, merkle, messages, signatures
from ledger.genesis import Genesis, GenesisAsset, GenesisParty
from ledger.journal import Block
from ledger.machine import Machine, message_leaf
from ledger.messages import Kind, Message
from ledger.packing import by_width
from ledger.runtime import SECOND_NS
from ledger.sections import COLUMNS_COUNT_MIN
from ledger.store import MemoryStore
from ledger.transfers import TRANSFER, Flag
from tests.ledger_fixture import (
    CREDIT,
    FixtureInterpreter,
    export_bytes,
    make_runtime,
    many_transfers,
    open_body,
    transfer,
)

VECTORS = Path(__file__).parent / "vectors"
EXAMPLE_PATH = VECTORS / "example.hgx"
FORMATS_PATH = VECTORS / "formats.json"
PAGE_PATH = Path(__file__).parents[1] / "docs" / "formats.md"

NODE_KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
CLIENT_KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
)
"""RFC 8032 tests 1 and 3: published keys that sign nothing but examples."""
NETWORK = "hugang-demo-5f0c"
START_S = 1_750_233_600
WIDTH = 32
SHOWN_LEAF_COUNT = 8
"""Leaves whose hashes the page shows, besides the last one; the vectors have all."""
TEXT_WIDTH = 100


def make_genesis() -> Genesis:
    """Give the example's genesis."""
    return Genesis(
        format=1,
        network=NETWORK,
        ledger="SH",
        created_ns=START_S * SECOND_NS,
        test_clock=True,
        assets=(GenesisAsset(code="CNY", number=1, scale=2, kind="money", home="SH"),),
        parties=(
            GenesisParty(
                code="NODE-SH",
                name="Shanghai",
                roles=("node",),
                public_key=messages.public_bytes(NODE_KEY).hex(),
                ledger="SH",
            ),
            GenesisParty(code="CLIENT", name="Client", roles=(), public_key=messages.public_bytes(CLIENT_KEY).hex()),
        ),
    )


def make_statement(subject: str) -> Message:
    """Let the client sign that it opens an account."""
    return messages.statement(
        CLIENT_KEY,
        network_hash=genesis.network_hash(make_genesis()),
        ledger="--",
        kind="open",
        subject=subject,
        body=open_body(flags=CREDIT),
    )


def make_columns() -> Message:
    """Let the client sign transfers in columns, of which the last takes the id of the first."""
    commands = many_transfers(COLUMNS_COUNT_MIN, debit=2, credit=1, first_id=0x0B01)
    commands["amount"] = np.arange(1, COLUMNS_COUNT_MIN + 1)
    commands["id_lo"][-1] = commands["id_lo"][0]
    return messages.statement(
        CLIENT_KEY,
        network_hash=genesis.network_hash(make_genesis()),
        ledger="--",
        kind="columns",
        subject="3/0",
        body=columns.encode(commands),
    )


def make_request() -> Message:
    """Let the client sign a request: one transfer at once, and one hold of five seconds."""
    commands = np.concatenate(
        (
            transfer(0x0AC1, debit=1, credit=2, amount=12_345),
            transfer(0x0AC2, debit=2, credit=1, amount=45, flags=Flag.PENDING, timeout_s=5),
        )
    )
    body = commands.tobytes()
    base = signatures.signature_base(
        method="POST",
        authority="sh.hugang.example",
        path="/post",
        created=START_S + 2,
        expires=START_S + 62,
        key_id=messages.key_id_of(messages.public_bytes(CLIENT_KEY)),
        genesis_hash=genesis.genesis_hash(make_genesis()),
        content_type="application/octet-stream",
        content_digest=hashlib.sha256(body).digest(),
        idempotency_key="order-1",
    )
    return Message(Kind.REQUEST, base, CLIENT_KEY.sign(base), body)


def make_blocks() -> list[Block]:
    """Make the four blocks: two accounts; a payment and a hold; the hold's expiry; transfers in columns."""
    machine = Machine(make_genesis(), FixtureInterpreter(), hash_key=bytes(16), compiled=False)
    blocks = []
    batches = ([make_statement("1/0"), make_statement("2/0")], [make_request()], [], [make_columns()])
    for after_s, batch in zip((1, 2, 8, 9), batches, strict=True):
        admitted = [machine.admit(message, at_ns=None) for message in batch]
        draft = machine.apply(admitted, (START_S + after_s) * SECOND_NS)
        block = journal.seal(draft, machine.grow(draft), NODE_KEY, ledger="SH")
        machine.seal(block.hash)
        blocks.append(block)
    return blocks


def make_export(blocks: list[Block]) -> bytes:
    """Export the blocks."""
    store = MemoryStore(genesis.encode(make_genesis()), runtime=make_runtime())
    for block in blocks:
        store.append(block)
    return export_bytes(store)


# --- the listing ------------------------------------------------------------------------------------------------------

Field = tuple[int, str]
"""How many bytes, and what they are."""

HEADER_FIELDS: tuple[Field, ...] = (
    (8, "magic"),
    (2, "format version"),
    (2, "semantics version"),
    (2, "ledger"),
    (1, "hash algorithm: SHA-256"),
    (1, "signature algorithm: Ed25519"),
    (8, "height"),
    (8, "first position"),
    (4, "entries"),
    (4, "expiries"),
    (8, "transfers"),
    (8, "timestamp"),
    (8, "size of the body"),
    (8, "tree size"),
    (32, "previous hash"),
    (32, "hash of the skeleton"),
    (32, "tree root"),
)
SECTION_FIELDS: tuple[Field, ...] = ((2, "section"), (2, "section version"), (4, "zero"), (8, "size of the section"))


def block_fields(block: Block) -> Iterator[Field]:
    """Say what stands where in a framed block."""
    yield from ((1, "frame: block"), (8, "size of the frame"), *HEADER_FIELDS, (64, "node's signature"))
    yield from SECTION_FIELDS
    count = len(block.entries)
    if count:
        yield from ((4 * count, f"table: {name}") for name in ("head", "body", "records", "mode", "party", "code"))
    heads_size = 0
    for entry in block.entries:
        base = entry.message.base
        heads_size += 1 + len(base) + 64
        yield from ((1, "kind"), (len(base), "text: base"), (64, "client's signature"))
    if heads_size % 8:
        yield -heads_size % 8, "fill"
    yield from SECTION_FIELDS
    if count and block.entries[0].in_columns:
        yield from ((4 * len(block.transfers), f"link: {side}") for side in ("debit", "credit"))
        yield 2 * len(block.transfers), "column result"
    else:
        for name in by_width(TRANSFER, TRANSFER.names or ()):
            yield TRANSFER[name].itemsize * len(block.transfers), f"column {name}"
    yield from SECTION_FIELDS
    for entry in block.entries:
        if not entry.in_columns:
            yield len(entry.message.body), "body"
        else:
            yield from ((4, "magic"), (4, "count"), (4, "optional columns"), (4, "zero"))
            for name in columns.names_of(0):
                yield TRANSFER[name].itemsize * entry.count, f"column {name}"


def all_fields(blocks: list[Block]) -> Iterator[Field]:
    """Say what stands where in the whole export."""
    yield from ((8, "magic"), (2, "format version"), (2, "zero"), (4, "size of the genesis"))
    yield len(genesis.encode(make_genesis())), "text: genesis"
    for block in blocks:
        yield 0, f"# block {block.header.height}"
        yield from block_fields(block)
    yield from ((0, "# trailer"), (1, "frame: trailer"), (8, "size of the frame"), (8, "blocks"), (32, "last hash"))


def listing(blocks: list[Block], data: bytes) -> list[str]:
    """Write the export down: offset, bytes in hex or as text, meaning."""
    lines: list[str] = []
    offset = 0
    for size, meaning in all_fields(blocks):
        if not size and not meaning.startswith("#"):
            continue
        if meaning.startswith("#"):
            lines += ["", meaning]
            continue
        chunk = data[offset : offset + size]
        if meaning.startswith("text: "):
            lines.append(f"{offset:5}  {size} bytes of {meaning}")
            lines += list(text_lines(chunk.decode("ascii")))
        else:
            for start in range(0, size, WIDTH):
                lines.append(f"{offset + start:5}  {chunk[start : start + WIDTH].hex():<64}  {meaning}".rstrip())
        offset += size
    if offset != len(data):
        raise ValueError("the listing does not cover the export")
    return lines


def text_lines(text: str) -> Iterator[str]:
    """Write text down; a bar begins each of its lines, a colon goes on with one."""
    for line in text.split("\n"):
        for start in range(0, max(len(line), 1), TEXT_WIDTH):
            yield f"       {':' if start else '|'} {line[start : start + TEXT_WIDTH]}".rstrip()


def leaves(blocks: list[Block]) -> list[tuple[str, bytes]]:
    """Give the leaf at each position: what stands there, and the leaf's hash."""
    found: list[tuple[str, Any]] = []
    for block in blocks:
        rows = iter(block.transfers)
        found += [("expiry", next(rows)) for _ in range(block.header.expired_count)]
        for entry in block.entries:
            found.append(("message", entry.message))
            found += [("transfer", next(rows)) for _ in range(entry.count)]
    return [
        (what, merkle.leaf_hash(message_leaf(it) if isinstance(it, Message) else b"\2" + it.tobytes()))
        for what, it in found
    ]


def summary(blocks: list[Block]) -> list[str]:
    """Write down the hashes, as rows of a table."""
    rows = [
        ("hash of the genesis", genesis.genesis_hash(make_genesis()).hex()),
        ("hash of the network", genesis.network_hash(make_genesis()).hex()),
        ("the client's key id", messages.key_id_of(messages.public_bytes(CLIENT_KEY))),
    ]
    found = list(enumerate(leaves(blocks)))
    shown = [*found[:SHOWN_LEAF_COUNT], found[-1]]
    rows += [(f"leaf {position}, {what}", digest.hex()) for position, (what, digest) in shown]
    rows += [(f"hash of block {block.header.height}", block.hash.hex()) for block in blocks]
    rows += [(f"tree root after block {block.header.height}", block.header.tree_root.hex()) for block in blocks]
    return [f"| {name} | `{value}` |" for name, value in rows]


def formats(blocks: list[Block]) -> dict[str, object]:
    """Give the parts of the example by name, for other implementations."""
    entry = blocks[1].entries[0]
    return {
        "genesis": genesis.encode(make_genesis()).decode("ascii"),
        "genesis_hash": genesis.genesis_hash(make_genesis()).hex(),
        "network_hash": genesis.network_hash(make_genesis()).hex(),
        "stored_messages": [messages.encode(found.message).hex() for block in blocks for found in block.entries],
        "key_id": messages.key_id_of(messages.public_bytes(CLIENT_KEY)),
        "request_base": entry.message.base.decode("ascii"),
        "records": [record.tobytes().hex() for block in blocks for record in block.transfers],
        "block_hashes": [block.hash.hex() for block in blocks],
        "leaf_hashes": [digest.hex() for _, digest in leaves(blocks)],
        "tree_roots": [block.header.tree_root.hex() for block in blocks],
    }


def refused(blocks: list[Block]) -> list[dict[str, str]]:
    """Give what decoders must refuse, each next to something good."""
    header, body = blocks[1].encoded.header, blocks[1].encoded.body
    stored = messages.encode(blocks[1].entries[0].message)
    document = genesis.encode(make_genesis())
    cases = [
        ("genesis", "white space", document.replace(b",", b", ", 1), "GENESIS_MALFORMED"),
        ("genesis", "another format", document.replace(b'"format":1', b'"format":0', 1), "GENESIS_FORMAT"),
        ("genesis", "a field nobody knows", document[:-1] + b',"x":1}', "GENESIS_MALFORMED"),
        (
            "genesis",
            "a field twice",
            document.replace(b'{"format":1', b'{"format":1,"format":1', 1),
            "GENESIS_MALFORMED",
        ),
        ("message", "cut short", stored[:-1], "MESSAGE_MALFORMED"),
        ("message", "a byte too many", stored + b"\0", "MESSAGE_MALFORMED"),
        ("message", "another kind", b"\3" + stored[1:], "MESSAGE_MALFORMED"),
        ("message", "a base too long", stored[:1] + b"\1\x10\0\0" + stored[5:], "MESSAGE_MALFORMED"),
        ("header", "another magic", b"H" + header[1:], "BLOCK_MALFORMED"),
        ("header", "another format", header[:8] + b"\0\0" + header[10:], "BLOCK_FORMAT"),
        ("header", "other semantics", header[:10] + b"\0\0" + header[12:], "BLOCK_FORMAT"),
        ("header", "small letters", header[:12] + b"sh" + header[14:], "BLOCK_MALFORMED"),
        ("header", "height 0", header[:16] + bytes(8) + header[24:], "BLOCK_MALFORMED"),
        ("header", "more expiries than transfers", header[:36] + b"\3\0\0\0" + header[40:], "BLOCK_MALFORMED"),
        ("header", "a body too small", header[:56] + bytes(8) + header[64:], "BLOCK_MALFORMED"),
        ("header", "cut short", header[:-1], "BLOCK_MALFORMED"),
        ("body", "another section first", b"\2" + body[1:], "BODY_MALFORMED"),
        ("body", "a zero that is none", body[:4] + b"\1" + body[5:], "BODY_MALFORMED"),
        ("body", "a size that does not fit", body[:16] + b"\1" + body[17:], "BODY_MALFORMED"),
        ("body", "a count that does not fit", body[:24] + b"\1" + body[25:], "BODY_MALFORMED"),
        ("body", "a mode nobody knows", body[:28] + b"\2" + body[29:], "BODY_MALFORMED"),
        ("body", "a byte too many", body + b"\0", "BODY_MALFORMED"),
    ]
    return [{"format": name, "what": what, "hex": data.hex(), "code": code} for name, what, data, code in cases]


def main() -> None:
    """Write the vectors, and into the page what it shows of them."""
    blocks = make_blocks()
    data = make_export(blocks)
    EXAMPLE_PATH.write_bytes(data)
    vectors = formats(blocks) | {"refused": refused(blocks)}
    FORMATS_PATH.write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")
    head, _, rest = PAGE_PATH.read_text("utf-8").partition("| hash of the genesis |")
    after = rest[rest.index("```", rest.index("```") + 3) :]
    shown = "\n".join([*summary(blocks), "", "```", *listing(blocks, data)[1:]])
    PAGE_PATH.write_text(f"{head}{shown}\n{after}", "utf-8")


if __name__ == "__main__":
    main()
