"""The page, the vectors and the code agree; and the page alone is enough to check a journal."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import genesis, journal, messages, sections
from ledger.audit import verify
from ledger.errors import MalformedInput
from ledger.exports import ExportFile
from ledger.runtime import SystemRuntime
from ledger.transfers import TRANSFER, Flag
from tests.body_fixture import FIRST, Builder
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
    assert (report.block_count, report.message_count, report.record_count, report.expired_count) == (4, 4, 67, 1)


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
    assert all(f" {flag.value} {str(flag.name).lower().replace('_', ' ')}" in line for flag in Flag if flag)


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: f"{case['format']}: {case['what']}")
def test_what_must_be_refused_is(case: dict[str, str]) -> None:
    """Each refused vector is refused with its code."""
    data = bytes.fromhex(case["hex"])
    decoders = {
        "genesis": genesis.decode,
        "message": messages.decode,
        "header": journal.decode_header,
        "body": lambda body: sections.layout(BLOCKS[1].header.shape, body),
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


OFFSETS = [*range(0, 72, 8), *range(72, 100, 4), 108, *range(100, 108, 2)]
"""Where the fields of a record begin, the widest first."""
RECORD_SIZE = 112


def width_of(offset: int) -> int:
    """Give the bytes of the field at an offset."""
    return 8 if offset < 72 else 2 if 100 <= offset < 108 else 4


def read_groups(data: memoryview, widths: list[int], count: int) -> list[list[int]]:
    """Take columns in groups of 512 apart: a list of numbers for each row."""
    rows: list[list[int]] = []
    start = 0
    for first in range(0, count, 512):
        size = min(512, count - first)
        columns = []
        for width in widths:
            cells = [data[start + width * row : start + width * (row + 1)] for row in range(size)]
            columns.append([int.from_bytes(cell, "little") for cell in cells])
            start += width * size
        rows += [list(row) for row in zip(*columns, strict=True)]
    return rows


def record_of(fields: dict[int, int]) -> bytes:
    """Put a record together from its fields by offset."""
    record = bytearray(RECORD_SIZE)
    for offset, value in fields.items():
        record[offset : offset + width_of(offset)] = value.to_bytes(width_of(offset), "little")
    return bytes(record)


def read_plain(data: memoryview, count: int) -> list[bytes]:
    """Read a plain run."""
    rows = read_groups(data, [width_of(offset) for offset in OFFSETS], count)
    return [record_of(dict(zip(OFFSETS, row, strict=True))) for row in rows]


def read_beside(data: memoryview, body: bytes, entry: tuple[int, ...], position: int) -> tuple[list[bytes], int]:
    """Read a run beside its message, which stands at ``position``; gives the records and the run's size."""
    _, _, count, mode, party, code = entry
    magic, said, optional, zero = struct.unpack_from("<4sIII", body)
    assert (magic, said, optional, zero) == (b"HGT1", count, mode >> 16, 0)
    names = [0, 8, 32] + [16, 24] * (optional >> 1 & 1) + [40] * (optional >> 3 & 1) + [72, 76]
    names += [84] * (optional >> 2 & 1) + [108] * (optional >> 4 & 1) + [102] * (optional & 1)
    rows = read_groups(memoryview(body)[16:], [width_of(offset) for offset in names], count)
    link = 8 if mode >> 8 & 1 else 4
    links = read_groups(data, [link, link], count)
    size = -(-2 * link * count // 8) * 8
    filled = [offset for bit, offset in enumerate((32, 72, 76, 88, 92, 104)) if mode >> 9 + bit & 1]
    filled.sort(key=lambda offset: -width_of(offset))
    others = read_groups(data[size:], [width_of(offset) for offset in filled], count) if filled else [[]] * count
    size += -(-sum(width_of(offset) for offset in filled) * count // 8) * 8
    records = []
    for index, (row, (debit, credit), other) in enumerate(zip(rows, links, others, strict=True)):
        here = position + 2 + index
        fields = dict(zip(names, row, strict=True)) | dict(zip(filled, other, strict=True))
        fields |= {48: position, 80: index, 96: party, 100: code}
        fields |= {56: here - debit if debit else 0, 64: here - credit if credit else 0}
        records.append(record_of(fields))
    return records, size


def read_body(
    body: bytes, entry_count: int, expired_count: int, transfer_count: int, first: int
) -> tuple[bytes, list[tuple[bytes, bytes]], list[int], list[bytes]]:
    """Take a body apart: its skeleton, heads and bodies, records that each entry derives, all records."""
    (section, version, zero, size), rest = take(memoryview(body), "<HHIQ")
    assert (section, version, zero, size % 8) == (1, 1, 0, 0)
    numbers = struct.unpack_from(f"<{6 * entry_count}I", rest)
    entries = [numbers[index::entry_count] for index in range(entry_count)]
    heads, start = [], 24 * entry_count
    for head_size, *_ in entries:
        heads.append(bytes(rest[start : start + head_size]))
        start += head_size
    assert bytes(rest[start:size]) == bytes(size - start)
    (section, version, zero, size), rest = take(rest[size:], "<HHIQ")
    assert (section, version, zero) == (2, 1, 0)
    runs, rest = rest[:size], rest[size:]
    skeleton = body[: len(body) - len(rest)]
    (section, version, zero, size), rest = take(rest, "<HHIQ")
    assert (section, version, zero, size) == (3, 1, 0, len(rest))
    bodies = []
    for _, body_size, *_ in entries:
        bodies.append(bytes(rest[:body_size]))
        rest = rest[body_size:]
    records, waiting, position = [], expired_count, first + expired_count
    for entry, message in zip(entries, bodies, strict=True):
        if entry[3]:
            records += read_plain(runs, waiting)
            found, size = read_beside(runs[RECORD_SIZE * waiting :], message, entry, position)
            runs, waiting, records = runs[RECORD_SIZE * waiting + size :], 0, records + found
        else:
            waiting += entry[2]
        position += 1 + entry[2]
    assert len(runs) == RECORD_SIZE * waiting
    records += read_plain(runs, waiting)
    assert len(records) == transfer_count
    return skeleton, list(zip(heads, bodies, strict=True)), [entry[2] for entry in entries], records


def network_of(document: bytes) -> str:
    """Hash what the page says that a network's genesis documents share."""
    fields = json.loads(document)
    assets = [{name: asset[name] for name in ("code", "scale", "kind", "home")} for asset in fields["assets"]]
    named = ("code", "name", "roles", "public_key", "ledger")
    speakers = [party for party in fields["parties"] if party["ledger"] or {"node", "settlement"} & {*party["roles"]}]
    parties = [{name: party[name] for name in named} | {"roles": sorted(party["roles"])} for party in speakers]
    shared = {
        "format": "hugang-network/1",
        "network": fields["network"],
        "created_ns": fields["created_ns"],
        "assets": sorted(assets, key=lambda asset: asset["code"]),
        "parties": sorted(parties, key=lambda party: party["code"]),
    }
    text = json.dumps(shared, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_message(head: bytes, body: bytes, keys: dict[str, Ed25519PublicKey], document: bytes) -> None:
    """Check a message's signature and digest by its base alone, and that it is for the ledger of a genesis."""
    kind, base, signature = head[0], head[1:-64], head[-64:]
    text = base.decode("ascii")
    if kind == 2:
        lines = dict(line.split(" ", 1) for line in text.splitlines()[1:])
        assert lines["digest"] == hashlib.sha256(body).hexdigest()
        assert lines["network"] == network_of(document)
        keys[lines["signer"]].verify(signature, base)
    else:
        assert base64.b64encode(hashlib.sha256(body).digest()).decode() in text
        keys[text.split('keyid="')[1][:64]].verify(signature, base)
        assert f';tag="hugang/1:{hashlib.sha256(document).hexdigest()}"' in text


def test_the_page_is_enough() -> None:
    """A reader written from the page checks chain, signatures, hashes, positions and tree of the example."""
    (magic, version, zero, size), rest = take(memoryview(EXAMPLE), "<8sHHI")
    assert (magic, version, zero) == (b"hugangEX", 1, 0)
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
        assert fields[:8] == (b"hugangBK", 1, 1, b"SH", 1, 1, height + 1, position)
        entry_count, expired_count, transfer_count, timestamp_ns, body_size, tree_size = fields[8:14]
        parts = read_body(body, entry_count, expired_count, transfer_count, position)
        skeleton, messages_read, counts, records = parts
        assert fields[14:16] == (previous, hashlib.sha256(skeleton).digest())
        assert (len(body), timestamp_ns > time_ns) == (body_size, True)
        previous = hashlib.sha256(header).digest()
        node_key.verify(signature, b"hugang-block/1\n" + previous)
        leaves += [leaf(b"\2" + record) for record in records[:expired_count]]
        used = expired_count
        for (head, message), count in zip(messages_read, counts, strict=True):
            check_message(head, message, keys, document)
            leaves.append(leaf(b"\1" + hashlib.sha256(head).digest()))
            leaves += [leaf(b"\2" + record) for record in records[used : used + count]]
            used += count
        assert used == transfer_count
        assert (tree_size, fields[16]) == (len(leaves), tree_root(leaves))
        height, position, time_ns = height + 1, len(leaves), timestamp_ns
    assert bytes(rest) == b"\2" + struct.pack("<QQ", 40, height) + previous
    assert [found.hex() for found in leaves] == VECTORS["leaf_hashes"]


@pytest.mark.parametrize("counts", [[1_100], [3, -70, 5, -600, -64]])
def test_the_pages_bodies_are_the_codes(counts: list[int]) -> None:
    """The reader made from the page puts records together as the code does, across groups and runs."""
    builder = Builder(expired_count=2)
    for count in counts:
        if count > 0:
            builder.rows(count)
        else:
            builder.columns(-count, optional=count < -64, result=9, amount=4)
    body = builder.body().data
    _, read, found, records = read_body(body, len(counts), 2, len(builder.transfers), FIRST)
    assert b"".join(records) == builder.transfers.tobytes()
    assert found == [abs(count) for count in counts]
    assert [message for _, message in read] == [entry.message.body for entry in builder.entries]
