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

from ledger import journal, messages, sections
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput
from ledger.journal import Header
from ledger.machine import Draft, Entry, Link
from ledger.transfers import TRANSFER, Transfers
from tests.ledger_fixture import LEDGER, private_key, reference_chain, statement

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
        Entry(statement("alice", "note", random.bytes(int(random.integers(0, 90))), serial=serial), count)
        for serial, count in enumerate(counts)
    )
    return Draft(
        height=3,
        first_position=first_position,
        timestamp_ns=12_345,
        expired_count=expired_count,
        entries=entries,
        transfers=random_records(expired_count + sum(counts), seed=seed),
        outcomes=(),
    )


def seal(draft: Draft) -> journal.Block:
    """Seal a draft with the fixture's node key."""
    return journal.seal(draft, Link(bytes(range(32)), 99, bytes(range(100, 132))), private_key("node"), ledger=LEDGER)


def body_of(block: journal.Block) -> bytes:
    """Encode a block's contents again."""
    header = block.header
    return sections.encode(
        block.entries, block.transfers, first_position=header.first_position, expired_count=header.expired_count
    ).data


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
    assert body_of(again) == block.encoded.body


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
    assert data[:16] == b"hugangBK" + b"\1\0\1\0" + b"SH" + b"\1\1"
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
    skeleton = sections.layout(block.header.shape, block.encoded.body).skeleton_size
    assert data[104:136] == hashlib.sha256(block.encoded.body[:skeleton]).digest()


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
        (8, b"\0", "BLOCK_FORMAT"),
        (8, b"\2", "BLOCK_FORMAT"),
        (10, b"\0", "BLOCK_FORMAT"),
        (10, b"\2", "BLOCK_FORMAT"),
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
        {"body_size": 48 + 3 * (24 + 65) + 6 * 8 - 1},
        {"expired_count": 7},
        {"entry_count": 0},
        {"entry_count": 30},
        {"entry_count": 0, "transfer_count": 0, "body_size": 48},
        {"body_size": HEADER.body_size + 2**28},
        {"body_size": 47},
        {"entry_count": 0, "expired_count": 5, "body_size": 48 + 6 * 112},
    ],
)
def test_headers_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    """Counts and sizes out of bounds, or that cannot be true together, are refused before anything is allocated."""
    data = journal.encode_header(dataclasses.replace(HEADER, **changes))
    with pytest.raises(MalformedInput, match="contradicts itself"):
        journal.decode_header(data)


def test_a_body_that_is_not_the_headers_is_refused() -> None:
    """A body with one other record does not match its header's hash."""
    block = BLOCKS[1]
    body = bytearray(block.encoded.body)
    body[sections.layout(block.header.shape, block.encoded.body).records_offset] ^= 1
    with pytest.raises(IntegrityFailure, match="BODY_HASH") as caught:
        journal.decode(dataclasses.replace(block.encoded, body=bytes(body)))
    assert (caught.value.block, caught.value.position) == (2, 4)


def test_a_body_with_another_message_than_was_signed_is_refused() -> None:
    """The skeleton's hash does not cover the messages' bodies: their digests do, and see one changed bit."""
    block = BLOCKS[1]
    body = block.encoded.body[:-1] + bytes([block.encoded.body[-1] ^ 1])
    assert journal.skeleton_hash(body, sections.layout(HEADER.shape, body).skeleton_size) == block.header.body_hash
    with pytest.raises(IntegrityFailure, match="BODY_HASH"):
        journal.decode(dataclasses.replace(block.encoded, body=body))


def test_a_signature_of_another_size_is_refused() -> None:
    """A signature has 64 bytes."""
    with pytest.raises(MalformedInput, match="BLOCK_MALFORMED"):
        journal.decode(dataclasses.replace(BLOCKS[1].encoded, signature=bytes(63)))


@given(st.binary(max_size=400))
def test_no_bytes_break_the_header_decoder(data: bytes) -> None:
    """Whatever the bytes, decoding gives a header that encodes to them, or says that they are malformed."""
    for candidate in (data, BLOCKS[0].encoded.header[: 168 - len(data)] + data):
        try:
            header = journal.decode_header(candidate)
        except MalformedInput:
            continue
        assert journal.encode_header(header) == candidate


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
        seal(dataclasses.replace(make_draft([1]), timestamp_ns=HUGE))


def test_a_header_counts_positions() -> None:
    """Messages and transfers each take one position."""
    header: Header = BLOCKS[1].header
    assert header.position_count == 9
    assert BLOCKS[2].header.first_position == header.first_position + header.position_count
