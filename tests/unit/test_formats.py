"""The page, the vectors and the code agree; and the page alone is enough to check a journal."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import genesis, journal, messages
from ledger.audit import verify
from ledger.errors import MalformedInput
from ledger.exports import ExportFile
from ledger.runtime import SystemRuntime
from ledger.transfers import TRANSFER, Flag
from tests.format_example import (
    EXAMPLE_PATH,
    FORMATS_PATH,
    formats,
    listing,
    make_blocks,
    make_export,
    refused,
    summary,
)
from tests.ledger_fixture import FixtureInterpreter

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
EXAMPLE = EXAMPLE_PATH.read_bytes()
VECTORS: dict[str, Any] = json.loads(FORMATS_PATH.read_text("utf-8"))
BLOCKS = make_blocks()


def test_the_code_makes_the_example() -> None:
    """Making the example's journal anew gives the file of the vectors, byte for byte."""
    assert make_export(BLOCKS) == EXAMPLE


def test_the_code_makes_the_parts() -> None:
    """Each part of the example is what the vectors say."""
    assert formats(BLOCKS) | {"refused": refused(BLOCKS)} == VECTORS


def test_the_page_shows_the_example() -> None:
    """The page has the example's hashes and its bytes, line by line."""
    assert "\n".join(summary(BLOCKS)) in PAGE
    assert "\n".join(listing(BLOCKS, EXAMPLE)[1:]) in PAGE


def test_the_example_verifies() -> None:
    """The verifier passes the example."""
    report = verify(
        ExportFile(io.BytesIO(EXAMPLE)),
        interpreter_factory=FixtureInterpreter,
        trusted_genesis_hash=bytes.fromhex(VECTORS["genesis_hash"]),
        runtime=SystemRuntime(),
        compiled=False,
    )
    assert (report.block_count, report.message_count, report.record_count, report.expired_count) == (3, 3, 3, 1)


def test_the_page_shows_a_statement() -> None:
    """The statement on the page is the base of the example's first message."""
    base = messages.decode(bytes.fromhex(VECTORS["stored_messages"][0])).base
    assert f"```\n{base.decode('ascii')}```" in PAGE


def test_the_page_shows_the_network() -> None:
    """The JSON on the page is what the network hash of the example's genesis is taken over."""
    text = PAGE.partition("```json\n")[2].partition("\n```")[0]
    assert json.dumps(json.loads(text), separators=(",", ":")) == text
    assert hashlib.sha256(text.encode()).hexdigest() == VECTORS["network_hash"]
    assert VECTORS["network_hash"] == genesis.network_hash(genesis.decode(VECTORS["genesis"].encode())).hex()


def test_the_page_shows_the_record() -> None:
    """The page's table has every field of a record with its offset and type."""
    kinds = {"<u8": "u64", "<i8": "i64", "<u4": "u32", "<u2": "u16"}
    for name in TRANSFER.names or ():
        kind, offset = TRANSFER.fields[name][:2]  # type: ignore[index]
        assert f"| {offset} | {kinds[kind.str]} | `{name}` |" in PAGE
    assert f"leaves a record of {TRANSFER.itemsize} bytes" in PAGE


def test_the_page_shows_the_flags() -> None:
    """The page names the value of every flag."""
    line = next(line for line in PAGE.splitlines() if "| `flags` |" in line)
    assert all(f" {flag.value} {str(flag.name).lower()}" in line for flag in Flag if flag)


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: f"{case['format']}: {case['what']}")
def test_what_must_be_refused_is(case: dict[str, str]) -> None:
    """Each refused vector is refused with its code."""
    data = bytes.fromhex(case["hex"])
    decoders = {
        "genesis": genesis.decode,
        "message": messages.decode,
        "header": journal.decode_header,
        "body": lambda body: journal.layout(BLOCKS[1].header, body),
    }
    with pytest.raises(MalformedInput) as caught:
        decoders[case["format"]](data)
    assert caught.value.code == case["code"]


# --- a reader made from the page alone --------------------------------------------------------------------------------
# Nothing below uses the package: only struct, hashlib, JSON and an Ed25519 implementation.


def take(data: memoryview, form: str) -> tuple[tuple[Any, ...], memoryview]:
    """Read some fields; give them and the rest."""
    size = struct.calcsize(form)
    return struct.unpack(form, data[:size]), data[size:]


def tree_root(leaves: list[bytes]) -> bytes:
    """Compute the root of RFC 6962 by its definition."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + tree_root(leaves[:split]) + tree_root(leaves[split:])).digest()


def leaf(data: bytes) -> bytes:
    """Hash a leaf."""
    return hashlib.sha256(b"\0" + data).digest()


WIDTHS = [8] * 8 + [4] * 7 + [2] * 4 + [4]


def read_records(section: bytes, count: int) -> list[bytes]:
    """Put records together from the columns of their groups."""
    records = []
    for first in range(0, count, 512):
        size = min(512, count - first)
        group, columns, start = section[104 * first :], [], 0
        for width in WIDTHS:
            columns.append([group[start + width * row : start + width * (row + 1)] for row in range(size)])
            start += width * size
        records += [b"".join(column[row] for column in columns) for row in range(size)]
    return records


def read_stored(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Take a stored message apart: kind, base, signature, body."""
    kind, base_size, body_size = struct.unpack_from("<BII", data)
    assert len(data) == 9 + base_size + 64 + body_size
    return kind, data[9 : 9 + base_size], data[9 + base_size : 73 + base_size], data[73 + base_size :]


def read_body(body: bytes, entry_count: int, transfer_count: int) -> tuple[list[bytes], list[int], list[bytes]]:
    """Take a body apart: stored messages, transfers that each derives, records."""
    (section, version, zero, size), rest = take(memoryview(body), "<HHIQ")
    assert (section, version, zero) == (1, 0, 0)
    table = struct.unpack_from(f"<{2 * entry_count}I", rest)
    stored, start = [], 8 * entry_count
    for stored_size in table[:entry_count]:
        stored.append(bytes(rest[start : start + stored_size]))
        start += stored_size
    assert start == size
    (section, version, zero, size), rest = take(rest[start:], "<HHIQ")
    assert (section, version, zero, size) == (2, 0, 0, 104 * transfer_count)
    assert len(rest) == size
    return stored, list(table[entry_count:]), read_records(bytes(rest), transfer_count)


def network_of(document: bytes) -> str:
    """Hash what the page says that a network's genesis documents share."""
    fields = json.loads(document)
    assets = [{name: asset[name] for name in ("code", "scale", "kind", "home")} for asset in fields["assets"]]
    named = ("code", "name", "roles", "public_key", "ledger")
    speakers = [party for party in fields["parties"] if party["ledger"] or {"node", "settlement"} & {*party["roles"]}]
    parties = [{name: party[name] for name in named} | {"roles": sorted(party["roles"])} for party in speakers]
    shared = {
        "format": "hugang-network/0",
        "network": fields["network"],
        "created_ns": fields["created_ns"],
        "assets": sorted(assets, key=lambda asset: asset["code"]),
        "parties": sorted(parties, key=lambda party: party["code"]),
    }
    text = json.dumps(shared, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_message(stored: bytes, keys: dict[str, Ed25519PublicKey], document: bytes) -> None:
    """Check a message's signature and digest by its base alone, and that it is for the ledger of a genesis."""
    kind, base, signature, body = read_stored(stored)
    text = base.decode("ascii")
    if kind == 2:
        lines = dict(line.split(" ", 1) for line in text.splitlines()[1:])
        assert lines["digest"] == hashlib.sha256(body).hexdigest()
        assert lines["network"] == network_of(document)
        keys[lines["signer"]].verify(signature, base)
    else:
        keys[text.split('keyid="')[1][:64]].verify(signature, base)
        assert f';tag="hugang/1:{hashlib.sha256(document).hexdigest()}"' in text


def test_the_page_is_enough() -> None:
    """A reader written from the page checks chain, signatures, hashes, positions and tree of the example."""
    (magic, version, zero, size), rest = take(memoryview(EXAMPLE), "<8sHHI")
    assert (magic, version, zero) == (b"hugangEX", 0, 0)
    document, rest = bytes(rest[:size]), rest[size:]
    raw_keys = [bytes.fromhex(party["public_key"]) for party in json.loads(document)["parties"]]
    keys = {hashlib.sha256(raw).hexdigest(): Ed25519PublicKey.from_public_bytes(raw) for raw in raw_keys}
    node_key = keys[hashlib.sha256(raw_keys[0]).hexdigest()]
    previous, position, height, time_ns, leaves = hashlib.sha256(document).digest(), 0, 0, 0, []
    while rest[0] == 1:
        (_, size), rest = take(rest, "<BQ")
        header, signature, body = bytes(rest[:168]), bytes(rest[168:232]), bytes(rest[232:size])
        rest = rest[size:]
        fields = struct.unpack("<8sHH2sBBQQIIQQQQ32s32s32s", header)
        assert fields[:8] == (b"hugangBK", 0, 0, b"SH", 1, 1, height + 1, position)
        entry_count, expired_count, transfer_count, timestamp_ns, body_size, tree_size = fields[8:14]
        assert fields[14:16] == (previous, hashlib.sha256(body).digest())
        assert (len(body), timestamp_ns > time_ns) == (body_size, True)
        previous = hashlib.sha256(header).digest()
        node_key.verify(signature, b"hugang-block/0\n" + previous)
        stored, counts, records = read_body(body, entry_count, transfer_count)
        leaves += [leaf(b"\2" + record) for record in records[:expired_count]]
        used = expired_count
        for message, count in zip(stored, counts, strict=True):
            check_message(message, keys, document)
            leaves.append(leaf(b"\1" + hashlib.sha256(message).digest()))
            leaves += [leaf(b"\2" + record) for record in records[used : used + count]]
            used += count
        assert used == transfer_count
        assert (tree_size, fields[16]) == (len(leaves), tree_root(leaves))
        height, position, time_ns = height + 1, len(leaves), timestamp_ns
    assert bytes(rest) == b"\2" + struct.pack("<QQ", 40, height) + previous
    assert [found.hex() for found in leaves] == VECTORS["leaf_hashes"]


def test_the_pages_columns_are_the_codes() -> None:
    """The reader made from the page puts records together as the code does, across groups."""
    records = np.frombuffer(np.random.default_rng(5).bytes(104 * 1_100), TRANSFER)
    assert b"".join(read_records(journal.encode_transfers(records), 1_100)) == records.tobytes()
