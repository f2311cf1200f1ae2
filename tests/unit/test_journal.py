"""Blocks: one encoding each, strict decoding, where things lie in a body."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import journal, messages
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput
from ledger.journal import EncodedBlock, Header
from ledger.machine import Draft, Entry
from ledger.messages import Kind, Message
from ledger.transfers import TRANSFER, Transfers
from tests.ledger_fixture import LEDGER, many_transfers, private_key, reference_chain

BLOCKS = reference_chain().blocks
NODE_KEY = messages.public_bytes(private_key("node"))


def random_records(count: int, *, seed: int) -> Transfers:
    """Give records of random bytes: every byte string is a record to the format."""
    size = count * TRANSFER.itemsize
    return np.frombuffer(np.random.default_rng([seed, count]).bytes(size), TRANSFER).copy()


def make_draft(counts: list[int], *, expired_count: int = 0, seed: int = 0, first_position: int = 7) -> Draft:
    """Give a draft with random contents; ``counts`` has the number of records of each message."""
    random = np.random.default_rng(seed)
    entries = tuple(
        Entry(Message(Kind.STATEMENT, random.bytes(int(random.integers(0, 90))), random.bytes(64), b"body"), count)
        for count in counts
    )
    return Draft(
        height=3,
        first_position=first_position,
        timestamp_ns=12_345,
        previous_hash=random.bytes(32),
        expired_count=expired_count,
        entries=entries,
        transfers=random_records(expired_count + sum(counts), seed=seed),
        tree_size=99,
        tree_root=random.bytes(32),
        outcomes=(),
    )


def seal(draft: Draft) -> journal.Block:
    """Seal a draft with the fixture's node key."""
    return journal.seal(draft, private_key("node"), ledger=LEDGER)


counts_strategy = st.lists(st.integers(0, 3) | st.integers(500, 530), max_size=5)


@given(counts=counts_strategy, expired_count=st.integers(0, 3) | st.just(512), seed=st.integers(0, 99))
def test_a_block_survives_its_encoding(counts: list[int], expired_count: int, seed: int) -> None:
    """Decoding gives back what was sealed, and encoding that again gives the same bytes."""
    if not counts and not expired_count:
        return
    draft = make_draft(counts, expired_count=expired_count, seed=seed)
    block = seal(draft)
    again = journal.decode(journal.encode(block))
    assert (again.header, again.entries, again.hash) == (block.header, draft.entries, block.hash)
    assert np.array_equal(again.transfers, draft.transfers)
    assert journal.encode_header(again.header) == block.encoded.header
    assert journal.encode_body(again.entries, again.transfers) == block.encoded.body


def test_the_reference_blocks_survive() -> None:
    """Real blocks decode to what was sealed."""
    for block in BLOCKS:
        again = journal.decode(block.encoded)
        assert (again.header, again.entries) == (block.header, block.entries)


def test_a_header_is_what_the_format_says() -> None:
    """The header's bytes stand where the table of the module says."""
    block = BLOCKS[1]
    data = block.encoded.header
    assert len(data) == journal.HEADER_SIZE == 168
    assert data[:16] == b"hugangBK" + bytes(4) + b"SH" + b"\1\1"
    assert struct.unpack_from("<QQIIQQQQ", data, 16) == (
        2,
        4,
        3,
        0,
        6,
        block.header.timestamp_ns,
        len(block.encoded.body),
        13,
    )
    assert data[72:104] == BLOCKS[0].hash == hashlib.sha256(BLOCKS[0].encoded.header).digest()
    assert data[104:136] == hashlib.sha256(block.encoded.body).digest()


def test_columns_stand_one_after_another() -> None:
    """In a group, the first column of all records comes before the second of any."""
    records = many_transfers(600, debit=1, credit=2, first_id=1)
    data = journal.encode_transfers(records)
    first = 512 * TRANSFER.fields["amount"][1]  # type: ignore[index]
    assert data[first : first + 512 * 8] == records["amount"][:512].tobytes()
    second = journal.GROUP_SIZE + 88 * TRANSFER.fields["amount"][1]  # type: ignore[index]
    assert data[second : second + 88 * 8] == records["amount"][512:].tobytes()


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 1500])
def test_transfers_survive_their_groups(count: int) -> None:
    """Any number of records survives, at and beside the borders of groups too."""
    records = random_records(count, seed=1)
    data = journal.encode_transfers(records)
    assert len(data) == count * TRANSFER.itemsize
    assert np.array_equal(journal.decode_transfers(data, count), records)


# --- where things lie -------------------------------------------------------------------------------------------------


@given(counts=counts_strategy, expired_count=st.integers(0, 2), seed=st.integers(0, 9))
def test_places_agree_with_a_walk(counts: list[int], expired_count: int, seed: int) -> None:
    """Walking through a block position by position meets what ``locate`` and ``position_of`` say."""
    if not counts and not expired_count:
        return
    block = seal(make_draft(counts, expired_count=expired_count, seed=seed))
    layout = journal.layout(block.header, block.encoded.body)
    walk: list[tuple[int | None, int | None]] = [(None, row) for row in range(expired_count)]
    row = expired_count
    for index, count in enumerate(counts):
        walk.append((index, None))
        walk += [(None, row + offset) for offset in range(count)]
        row += count
    first = block.header.first_position
    assert [layout.locate(first + offset) for offset in range(len(walk))] == walk
    rows = [first + offset for offset, (_, found) in enumerate(walk) if found is not None]
    assert [layout.position_of(found) for found in range(row)] == rows
    for index, entry in enumerate(block.entries):
        offset, size = layout.message(index)
        assert messages.decode(block.encoded.body[offset : offset + size]) == entry.message


def test_a_group_can_be_read_alone() -> None:
    """The group that ``group`` finds decodes to the record asked for."""
    block = seal(make_draft([1030]))
    layout = journal.layout(block.header, block.encoded.body)
    for row in (0, 511, 512, 1023, 1024, 1029):
        offset, count, inside = layout.group(row)
        data = block.encoded.body[offset : offset + count * TRANSFER.itemsize]
        assert journal.decode_transfers(data, count)[inside] == block.transfers[row]


def test_the_table_alone_gives_the_layout() -> None:
    """The head of a body up to the end of its table is enough to know where everything lies."""
    block = BLOCKS[1]
    table = block.encoded.body[: journal.table_end(block.header.entry_count)]
    part = journal.layout(block.header, table, whole=False)
    whole = journal.layout(block.header, block.encoded.body)
    assert part.offsets.tolist() == whole.offsets.tolist()
    assert part.positions.tolist() == whole.positions.tolist()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 167, 169])
def test_headers_of_another_size_are_refused(size: int) -> None:
    """A header has 168 bytes."""
    with pytest.raises(MalformedInput, match="BLOCK_MALFORMED"):
        journal.decode_header((BLOCKS[0].encoded.header + b"\0")[:size])


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"X", "BLOCK_MALFORMED"),
        (8, b"\1", "BLOCK_FORMAT"),
        (10, b"\1", "BLOCK_FORMAT"),
        (12, b"sh", "BLOCK_MALFORMED"),
        (12, b"\xc3\x89", "BLOCK_MALFORMED"),
        (14, b"\2", "BLOCK_FORMAT"),
        (15, b"\0", "BLOCK_FORMAT"),
    ],
)
def test_foreign_headers_are_refused(offset: int, value: bytes, code: str) -> None:
    """Another magic, version, algorithm or ledger code is refused."""
    data = bytearray(BLOCKS[0].encoded.header)
    data[offset : offset + len(value)] = value
    with pytest.raises(MalformedInput, match=code):
        journal.decode_header(bytes(data))


HUGE = 2**63
HEADER = BLOCKS[1].header


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 0},
        {"height": HUGE},
        {"first_position": HUGE},
        {"timestamp_ns": HUGE},
        {"tree_size": HUGE},
        {"entry_count": 2**16 + 1},
        {"transfer_count": 2**21 + 1},
        {"transfer_count": 2**20},
        {"body_size": 32 + 3 * (8 + 72) + 6 * 104},
        {"expired_count": 7},
        {"entry_count": 0},
        {"entry_count": 30},
        {"entry_count": 0, "transfer_count": 0, "body_size": 32},
        {"body_size": HEADER.body_size + 2**28},
        {"body_size": 31},
        {"body_size": HEADER.body_size - 1700},
        {"entry_count": 0, "expired_count": 5, "body_size": 32 + 6 * 104},
        {"entry_count": 0, "expired_count": 6, "body_size": 33 + 6 * 104},
    ],
)
def test_headers_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    """Counts and sizes out of bounds, or that cannot be true together, are refused before anything is allocated."""
    data = journal.encode_header(dataclasses.replace(HEADER, **changes))
    with pytest.raises(MalformedInput, match="contradicts itself"):
        journal.decode_header(data)


def body_with(offset: int, value: bytes) -> bytes:
    """Give the second reference block's body with other bytes at an offset."""
    data = bytearray(BLOCKS[1].encoded.body)
    data[offset : offset + len(value)] = value
    return bytes(data)


SIZES = [int.from_bytes(BLOCKS[1].encoded.body[16 + 4 * index : 20 + 4 * index], "little") for index in range(3)]
SECOND_HEAD = len(BLOCKS[1].encoded.body) - 6 * 104 - 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        BLOCKS[1].encoded.body[:-1],
        BLOCKS[1].encoded.body + b"\0",
        BLOCKS[1].encoded.body[:20],
        body_with(0, b"\2"),
        body_with(2, b"\1"),
        body_with(4, b"\1"),
        body_with(8, b"\0"),
        body_with(16, struct.pack("<I", SIZES[0] + 1)),
        body_with(16, struct.pack("<II", SIZES[0] + SIZES[1] - 72, 72)),
        body_with(16, struct.pack("<III", 2**32 - 1, 2**32 - 1, 0)),
        body_with(28, struct.pack("<I", 2)),
        body_with(SECOND_HEAD, b"\1"),
        body_with(SECOND_HEAD + 2, b"\1"),
        body_with(SECOND_HEAD + 4, b"\1"),
        body_with(SECOND_HEAD + 8, b"\0"),
    ],
)
def test_broken_framing_is_refused(body: bytes) -> None:
    """A body whose sections, table or sizes are not what the header calls for is refused."""
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        journal.layout(HEADER, body)


def test_a_body_that_is_not_the_headers_is_refused() -> None:
    """A body with one other record does not match its header's hash."""
    encoded = dataclasses.replace(BLOCKS[1].encoded, body=body_with(SECOND_HEAD + 16, b"\xff"))
    with pytest.raises(IntegrityFailure, match="BODY_HASH") as caught:
        journal.decode(encoded)
    assert (caught.value.block, caught.value.position) == (2, 4)


def test_a_stored_message_that_is_none_is_refused() -> None:
    """A message whose own lengths do not fit is refused even when hash and framing are in order."""
    draft = make_draft([0])
    block = seal(draft)
    body = bytearray(block.encoded.body)
    body[24] = 3  # the kind, first byte of the stored message
    header = dataclasses.replace(block.header, body_hash=hashlib.sha256(body).digest())
    with pytest.raises(MalformedInput, match="MESSAGE_MALFORMED"):
        journal.decode(EncodedBlock(journal.encode_header(header), block.encoded.signature, bytes(body)))


def test_a_signature_of_another_size_is_refused() -> None:
    """A signature has 64 bytes."""
    with pytest.raises(MalformedInput, match="BLOCK_MALFORMED"):
        journal.decode(dataclasses.replace(BLOCKS[1].encoded, signature=bytes(63)))


@pytest.mark.parametrize("size", [0, 103, 105, 53_248])
def test_transfers_of_another_size_are_refused(size: int) -> None:
    """Records have exactly 104 bytes each."""
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        journal.decode_transfers(bytes(size), 1)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_header_decoder(data: bytes) -> None:
    """Whatever the bytes, decoding gives a header that encodes to them, or says that they are malformed."""
    for candidate in (data, BLOCKS[0].encoded.header[: 168 - len(data)] + data):
        try:
            header = journal.decode_header(candidate)
        except MalformedInput:
            continue
        assert journal.encode_header(header) == candidate


@given(st.binary(max_size=300), st.integers(0, len(BLOCKS[1].encoded.body)))
def test_no_bytes_break_the_framing_decoder(data: bytes, offset: int) -> None:
    """Whatever the body, its layout is found or refused; what is found lies inside."""
    body = body_with(offset, data)[: HEADER.body_size]
    try:
        layout = journal.layout(HEADER, body)
    except MalformedInput:
        return
    assert layout.offsets.tolist() == sorted(layout.offsets.tolist())
    assert layout.transfers_offset + HEADER.transfer_count * 104 == len(body)


# --- seals ------------------------------------------------------------------------------------------------------------


def test_a_seal_can_be_checked() -> None:
    """The node's signature holds for its key, and for no other."""
    journal.verify_signature(BLOCKS[0].encoded, NODE_KEY)
    with pytest.raises(IntegrityFailure, match="BLOCK_SIGNATURE"):
        journal.verify_signature(BLOCKS[0].encoded, messages.public_bytes(private_key("bob")))


def test_a_seal_is_for_blocks_alone() -> None:
    """The node signs a line that names the purpose, so a signature on a bare hash is no seal."""
    encoded = BLOCKS[0].encoded
    bare = private_key("node").sign(journal.block_hash(encoded.header))
    with pytest.raises(IntegrityFailure, match="BLOCK_SIGNATURE"):
        journal.verify_signature(dataclasses.replace(encoded, signature=bare), NODE_KEY)


def test_an_empty_draft_is_no_block() -> None:
    """A draft without records cannot be sealed."""
    with pytest.raises(InvariantViolation, match="no block"):
        seal(make_draft([]))


def test_a_draft_beyond_the_bounds_is_no_block() -> None:
    """A draft with a counter out of range cannot be sealed."""
    with pytest.raises(InvariantViolation, match="no block"):
        seal(dataclasses.replace(make_draft([1]), tree_size=HUGE))


def test_a_header_counts_positions() -> None:
    """Messages and transfers each take one position."""
    header: Header = BLOCKS[1].header
    assert header.position_count == 9
    assert BLOCKS[2].header.first_position == header.first_position + header.position_count
