"""The verifier against a small reference export: every byte flipped, cuts, swaps, repeats, and nodes that lie."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import genesis, journal, logs, replay, sections
from ledger.audit import Report, verify
from ledger.checkpoint import Checkpoint, decode_checkpoint
from ledger.errors import IntegrityFailure, Unauthenticated
from ledger.exports import ExportFile
from ledger.journal import HEADER_SIZE, SIGNATURE_SIZE, Block
from ledger.machine import Draft, Link
from ledger.messages import Message
from ledger.packing import by_width
from ledger.runtime import SECOND_NS, SystemRuntime
from ledger.transfers import NO_MESSAGE, TRANSFER, Flag
from tests.ledger_fixture import (
    GENESIS,
    GENESIS_BYTES,
    GENESIS_HASH,
    LEDGER,
    START_S,
    Chain,
    FixtureInterpreter,
    export_bytes,
    private_key,
    reference_chain,
    request,
    statement,
    transfer,
)

CHAIN = reference_chain()
EXPORT = export_bytes(CHAIN.store())
OTHER = genesis.genesis_hash(msgspec.structs.replace(GENESIS, ledger="HK"))
SAME_NAME = genesis.network_hash(msgspec.structs.replace(GENESIS, created_ns=GENESIS.created_ns + 1))
"""Another ledger's genesis hash, and the hash of another network of the same name."""
RUNTIME = SystemRuntime()
HEAD_SIZE = 16 + len(GENESIS_BYTES)
FRAME_SIZE = 9
Place = tuple[int, int | None]
"""A block's height and a journal position; the genesis is block 0 and has no position."""


def check(data: bytes, *, trusted: bytes | None = GENESIS_HASH) -> Report:
    """Verify an export that is in memory."""
    return verify(
        ExportFile(io.BytesIO(data)),
        interpreter_factory=FixtureInterpreter,
        trusted_genesis_hash=trusted,
        runtime=RUNTIME,
    )


def noted(size: int, root: bytes) -> bytes:
    """Give a checkpoint that the node has signed."""
    point = Checkpoint(logs.origin(GENESIS.network, LEDGER), size, root)
    return logs.sign_checkpoint(point, private_key("node"))


def held_to(data: bytes, *notes: bytes) -> Report:
    """Verify an export against checkpoints that were kept."""
    return verify(
        ExportFile(io.BytesIO(data)), interpreter_factory=FixtureInterpreter, checkpoints=notes, runtime=RUNTIME
    )


def test_a_kept_checkpoint_is_contained() -> None:
    """A journal that has grown since still contains the tree of that day."""
    earlier = decode_checkpoint(check(export_bytes(Chain(CHAIN.machine, CHAIN.blocks[:2]).store())).checkpoint.encode())
    now = check(EXPORT)

    report = held_to(EXPORT, noted(earlier.size, earlier.root), noted(now.tree_size, now.tree_root))

    assert report.tree_size == now.tree_size > earlier.size


def test_a_journal_cut_at_its_end_is_named() -> None:
    """What an export alone cannot show, a kept checkpoint does."""
    now = check(EXPORT)

    with pytest.raises(IntegrityFailure) as caught:
        held_to(export_bytes(Chain(CHAIN.machine, CHAIN.blocks[:2]).store()), noted(now.tree_size, now.tree_root))

    assert caught.value.code == "JOURNAL_CUT"


@pytest.mark.parametrize("smaller", [0, 1])
def test_another_history_is_named(smaller: int) -> None:
    """A root that is not the journal's, or a size at which no block ends, is another journal's."""
    now = check(EXPORT)

    with pytest.raises(IntegrityFailure) as caught:
        held_to(EXPORT, noted(now.tree_size - smaller, bytes(32)))

    assert caught.value.code == "CHECKPOINT_DIFFERS"


def test_a_checkpoint_by_another_key_is_refused() -> None:
    """Only the node's own word holds the journal to anything."""
    now = check(EXPORT)
    point = Checkpoint(logs.origin(GENESIS.network, LEDGER), now.tree_size, now.tree_root)

    with pytest.raises(Unauthenticated):
        held_to(EXPORT, logs.sign_checkpoint(point, private_key("somebody")))


def refusal(data: bytes, *, trusted: bytes | None = GENESIS_HASH) -> IntegrityFailure:
    """Give the failure that verifying ends with; anything else than this failure is an error of the test."""
    with pytest.raises(IntegrityFailure) as caught:
        check(data, trusted=trusted)
    return caught.value


def chain_failure(blocks: list[Block]) -> IntegrityFailure:
    """Give the failure that an export of these blocks ends with."""
    return refusal(export_of(blocks))


def export_of(blocks: list[Block]) -> bytes:
    """Frame any blocks as an export, whether they belong together or not."""
    frames = [EXPORT[:HEAD_SIZE]]
    for block in blocks:
        encoded = block.encoded
        size = HEADER_SIZE + SIGNATURE_SIZE + len(encoded.body)
        frames += [b"\1", size.to_bytes(8, "little"), encoded.header, encoded.signature, encoded.body]
    last_hash = blocks[-1].hash if blocks else GENESIS_HASH
    frames += [b"\2", (40).to_bytes(8, "little"), len(blocks).to_bytes(8, "little"), last_hash]
    return b"".join(frames)


def block_places(block: Block) -> list[Place]:
    """Say for every byte of a framed block which record it belongs to, spelled out from ``docs/formats.md``."""
    header = block.header
    first: Place = (header.height, header.first_position)
    places = [first] * (FRAME_SIZE + HEADER_SIZE + SIGNATURE_SIZE + 16 + 24 * header.entry_count)
    heads_size = 0
    bodies: list[Place] = []
    position = header.first_position + header.expired_count
    rows: list[Place] = [(header.height, header.first_position + row) for row in range(header.expired_count)]
    for entry in block.entries:
        head_size = 1 + len(entry.message.base) + 64
        heads_size += head_size
        places += [(header.height, position)] * head_size
        bodies += [(header.height, position)] * len(entry.message.body)
        rows += [(header.height, position + 1 + index) for index in range(entry.count)]
        position += 1 + entry.count
    places += [first] * (-heads_size % 8 + 16)
    # The reference blocks have fewer records than one group, so each column runs over the whole block.
    for name in by_width(TRANSFER, TRANSFER.names or ()):
        places += [row for row in rows for _ in range(TRANSFER[name].itemsize)]
    return places + [first] * 16 + bodies


def all_places() -> list[Place]:
    """Say for every byte of the reference export which place a flip must name."""
    places: list[Place] = [(0, None)] * HEAD_SIZE
    for block in CHAIN.blocks:
        places += block_places(block)
    last = CHAIN.blocks[-1].header
    end = (last.height + 1, last.first_position + last.position_count)
    return places + [end] * (len(EXPORT) - len(places))


PLACES = all_places()


def flipped(offset: int, mask: int) -> bytes:
    """Give the reference export with some bits of one byte turned."""
    data = bytearray(EXPORT)
    data[offset] ^= mask
    return bytes(data)


def check_flip(offset: int, mask: int) -> None:
    """Demand that a flip is detected and that the place it names is the right one."""
    failure = refusal(flipped(offset, mask))
    found = (failure.block, failure.position)
    if found != PLACES[offset]:
        pytest.fail(f"byte {offset} ^ {mask:#x}: named {found}, not {PLACES[offset]}: {failure}")


# --- what is intact ---------------------------------------------------------------------------------------------------


def test_an_intact_export_passes() -> None:
    """The reference export passes, and the report counts what it contains."""
    report = check(EXPORT)
    counts = (report.block_count, report.message_count, report.record_count, report.refused_count)
    assert counts == (5, 10, 9, 1)
    assert report.expired_count == 2
    assert (report.tree_size, report.tree_root) == (19, CHAIN.machine.frontier.root())
    assert report.last_hash == CHAIN.blocks[-1].hash
    assert report.genesis_hash == GENESIS_HASH
    assert [total.debits_posted for total in report.trial_balance] == [12_800]
    assert report.machine.state.money_digest() == CHAIN.machine.state.money_digest()


def test_the_stages_add_up() -> None:
    """Each stage takes some time and none more than all; those that do not run beside others add up to less."""
    stages = dict(check(EXPORT).stages_ns)
    total = stages.pop("total")
    assert all(0 < stage <= total for stage in stages.values())
    assert sum(stages.values()) - stages["prepare"] <= total


def test_a_path_and_a_store_are_sources(tmp_path: Path) -> None:
    """A file's path and an open store are verified like an open export."""
    path = tmp_path / "journal.hgx"
    path.write_bytes(EXPORT)
    for source in (path, CHAIN.store()):
        report = verify(source, interpreter_factory=FixtureInterpreter, runtime=RUNTIME)
        assert report.last_hash == CHAIN.blocks[-1].hash


def test_the_plain_kernel_agrees() -> None:
    """The verifier reaches the same end with the kernel as a plain loop."""
    report = verify(CHAIN.store(), interpreter_factory=FixtureInterpreter, compiled=False, runtime=RUNTIME)
    assert report.last_hash == CHAIN.blocks[-1].hash


def test_the_last_checkpoint_is_told() -> None:
    """The report has the checkpoint's text of the last tree, as any reader of notes decodes it."""
    point = decode_checkpoint(check(EXPORT).checkpoint.encode())
    assert (point.size, point.root) == (19, CHAIN.machine.frontier.root())
    assert point.origin.endswith("/sh")


def test_progress_is_told() -> None:
    """Each height is told once, in order."""
    heights: list[int] = []
    verify(CHAIN.store(), interpreter_factory=FixtureInterpreter, progress=heights.append, runtime=RUNTIME)
    assert heights == [1, 2, 3, 4, 5]


def test_a_journal_without_blocks_passes() -> None:
    """An export of a ledger that has done nothing is an export."""
    report = check(export_of([]))
    assert (report.block_count, report.tree_size, report.last_hash) == (0, 0, GENESIS_HASH)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_every_byte_has_a_place() -> None:
    """The map from bytes to records covers the reference export exactly."""
    assert len(PLACES) == len(EXPORT)
    assert {position for _, position in PLACES} == {None, *range(20)}


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_flips_are_named(mask: int) -> None:
    """A flip at each thirteenth byte is detected and names its record."""
    for offset in range(mask % 13, len(EXPORT), 13):
        check_flip(offset, mask)


@pytest.mark.long
@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_every_flip_is_named(mask: int) -> None:
    """A flip at every byte of the export is detected and names its record."""
    for offset in range(len(EXPORT)):
        check_flip(offset, mask)


def test_flips_of_the_genesis_are_seen_without_trust() -> None:
    """Without a trusted hash, a genesis that was changed contradicts the first block."""
    for offset in range(16, HEAD_SIZE, 7):
        failure = refusal(flipped(offset, 0x01), trusted=None)
        assert failure.block in (0, 1)


def cut_boundaries() -> list[int]:
    """Give the offsets at which something ends, and their neighbours."""
    edges = {0, 16, HEAD_SIZE, len(EXPORT) - 49}
    edges |= {index for index in range(1, len(PLACES)) if PLACES[index][0] != PLACES[index - 1][0]}
    return sorted({near for edge in edges for near in (edge - 1, edge, edge + 1) if 0 <= near < len(EXPORT)})


@pytest.mark.parametrize("size", cut_boundaries())
def test_cuts_at_edges_are_seen(size: int) -> None:
    """An export cut where something ends, or a byte beside, is refused."""
    assert refusal(EXPORT[:size]).code in ("EXPORT_CUT", "GENESIS_HASH")


@pytest.mark.long
def test_every_cut_is_seen() -> None:
    """An export cut at any length is refused, and names a block it still has or the next one."""
    for size in range(len(EXPORT)):
        failure = refusal(EXPORT[:size])
        assert failure.block == PLACES[size][0]


@pytest.mark.parametrize("tail", [b"\0", b"\2", EXPORT[-49:], EXPORT])
def test_trailing_bytes_are_seen(tail: bytes) -> None:
    """Nothing may follow the trailer."""
    assert refusal(EXPORT + tail).code == "EXPORT_TRAILING"


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 4), (0, 4)])
def test_swapped_blocks_are_seen(first: int, second: int) -> None:
    """Two blocks that changed places are refused where the earlier one should stand."""
    blocks = list(CHAIN.blocks)
    blocks[first], blocks[second] = blocks[second], blocks[first]
    failure = chain_failure(blocks)
    assert (failure.code, failure.block) == ("BLOCK_CHAIN", first + 1)


@pytest.mark.parametrize("index", range(5))
def test_repeated_blocks_are_seen(index: int) -> None:
    """A block that stands twice is refused the second time."""
    blocks = [*CHAIN.blocks[: index + 1], *CHAIN.blocks[index:]]
    failure = chain_failure(blocks)
    assert (failure.code, failure.block) == ("BLOCK_CHAIN", index + 2)


@pytest.mark.parametrize("index", range(4))
def test_missing_blocks_are_seen(index: int) -> None:
    """A block that was taken out is missed by the one after it."""
    blocks = [*CHAIN.blocks[:index], *CHAIN.blocks[index + 1 :]]
    failure = chain_failure(blocks)
    assert (failure.code, failure.block) == ("BLOCK_CHAIN", index + 1)


def test_what_comes_first_is_named_first() -> None:
    """A bad record is named although the file ends in the middle of the next block, which is read ahead."""
    offset = next(index for index, place in enumerate(PLACES) if place == (4, 16)) + 20
    end = next(index for index, place in enumerate(PLACES) if place[0] == 5) + 30
    failure = refusal(flipped(offset, 0x01)[:end])
    assert (failure.block, failure.position) == (4, 16)
    assert refusal(EXPORT[:end]).code == "EXPORT_CUT"


def test_a_missing_tail_is_seen_against_the_trailer() -> None:
    """Dropping the last block without mending the trailer is seen."""
    size = sum(len(block_places(block)) for block in CHAIN.blocks[:-1]) + HEAD_SIZE
    failure = refusal(EXPORT[:size] + EXPORT[-49:])
    assert (failure.code, failure.block) == ("EXPORT_TRAILER", 5)


def test_another_genesis_is_refused() -> None:
    """A trusted hash that is not this journal's refuses it at once."""
    failure = refusal(EXPORT, trusted=bytes(32))
    assert (failure.code, failure.block) == ("GENESIS_HASH", 0)


@given(st.data())
def test_random_damage_never_escapes(data: st.DataObject) -> None:
    """Random edits, insertions and deletions end in an integrity failure and nothing else."""
    damaged = bytearray(EXPORT)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = data.draw(st.integers(start, min(len(damaged), start + 40)))
        damaged[start:stop] = data.draw(st.binary(max_size=40))
    if bytes(damaged) == EXPORT:
        return
    refusal(bytes(damaged))


# --- a node that lies -------------------------------------------------------------------------------------------------
# It signs what it made up, and keeps hashes, tree and counts in order as far as it can.


def lying_chain(count: int) -> Chain:
    """Give the first ``count`` reference blocks with a machine that stands after them."""
    chain = Chain()
    for block in CHAIN.blocks[:count]:
        draft = chain.draft([entry.message for entry in block.entries], block.header.timestamp_ns)
        chain.machine.grow(draft)
        chain.machine.seal(block.hash)
        chain.blocks.append(block)
        assert np.array_equal(draft.transfers, block.transfers)
    return chain


def sealed(draft: Draft, link: Link) -> Block:
    """Let the node sign a draft."""
    return journal.seal(draft, link, private_key("node"), ledger=LEDGER)


def lie(
    count: int, messages: list[Message], change: Callable[[Draft], Draft], *, at_s: int, **links: object
) -> IntegrityFailure:
    """Let the node add one block that it has changed, or that hangs elsewhere, after ``count`` honest ones."""
    chain = lying_chain(count)
    draft = chain.draft(messages, (START_S + at_s) * SECOND_NS)
    link = dataclasses.replace(chain.machine.grow(draft), **links)  # type: ignore[arg-type]
    return chain_failure([*chain.blocks, sealed(change(draft), link)])


def with_column(draft: Draft, row: int, name: str, value: int) -> Draft:
    """Change one field of one record."""
    records = draft.transfers.copy()
    records[name][row] = value
    return dataclasses.replace(draft, transfers=records)


def payment(*, serial: int = 50) -> Message:
    """Give a message that derives two transfers."""
    commands = np.concatenate(
        (transfer(60, debit=2, credit=3, amount=5), transfer(61, debit=2, credit=3, amount=999_999))
    )
    return statement("bob", "post", commands.tobytes(), serial=serial)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", list(TRANSFER.names or ()))
def test_an_invented_record_is_named(row: int, name: str) -> None:
    """A record that differs in any one field from what its message derives is named, though the node signed it."""
    failure = lie(2, [payment()], lambda draft: with_column(draft, row, name, 77), at_s=3)
    first = CHAIN.blocks[2].header.first_position
    assert (failure.code, failure.block, failure.position) == ("RECORD_DIFFERS", 3, first + 1 + row)


def test_a_dropped_expiry_is_named() -> None:
    """A block that leaves out an expiry that was due is refused at its first position."""

    def drop(draft: Draft) -> Draft:
        return dataclasses.replace(draft, expired_count=0, transfers=draft.transfers[1:])

    failure = lie(3, [payment()], drop, at_s=10)
    assert (failure.code, failure.block) == ("RECORD_DIFFERS", 4)
    assert failure.position == CHAIN.blocks[3].header.first_position


def test_an_early_expiry_is_named() -> None:
    """A block that lets a hold expire before its deadline is refused."""
    expiry = CHAIN.blocks[3].transfers[:1]

    def add(draft: Draft) -> Draft:
        return dataclasses.replace(draft, expired_count=1, transfers=np.concatenate((expiry, draft.transfers)))

    failure = lie(2, [payment()], add, at_s=3)
    assert expiry["message"][0] == NO_MESSAGE
    assert expiry["flags"][0] == Flag.EXPIRE
    assert (failure.block, failure.position) == (3, CHAIN.blocks[2].header.first_position)


def test_records_moved_between_messages_are_named() -> None:
    """Two messages whose counts were exchanged are refused at the first of them."""

    def exchange(draft: Draft) -> Draft:
        first, second = draft.entries
        entries = (dataclasses.replace(first, count=second.count), dataclasses.replace(second, count=first.count))
        return dataclasses.replace(draft, entries=entries)

    failure = lie(2, [payment(), statement("bob", "note", b"", serial=51)], exchange, at_s=3)
    assert (failure.code, failure.position) == ("RECORD_DIFFERS", CHAIN.blocks[2].header.first_position)


def test_the_earliest_of_several_lies_is_named() -> None:
    """A wrong record before a message that does not stand is named, not the message."""

    def change(draft: Draft) -> Draft:
        first, second = draft.entries
        broken = dataclasses.replace(second.message, signature=bytes(64))
        draft = dataclasses.replace(draft, entries=(first, dataclasses.replace(second, message=broken)))
        return with_column(draft, 1, "amount", 4)

    failure = lie(2, [payment(), statement("bob", "note", b"", serial=51)], change, at_s=3)
    assert (failure.code, failure.position) == ("RECORD_DIFFERS", CHAIN.blocks[2].header.first_position + 2)


def test_a_signature_that_does_not_hold_is_named() -> None:
    """A message whose signature the client never made is named, with the reason."""

    def change(draft: Draft) -> Draft:
        first, second = draft.entries
        broken = dataclasses.replace(second.message, signature=bytes(64))
        return dataclasses.replace(draft, entries=(first, dataclasses.replace(second, message=broken)))

    failure = lie(2, [payment(), statement("bob", "note", b"", serial=51)], change, at_s=3)
    assert (failure.code, failure.position) == ("MESSAGE_INVALID", CHAIN.blocks[2].header.first_position + 3)
    assert failure.fields["reason"] == "SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (statement("carol", "note", b"", serial=52), "KEY_REVOKED"),
        (statement("mallory", "note", b"", serial=52), "KEY_UNKNOWN"),
        (statement("alice", "note", b"", serial=52, network_hash=bytes(32)), "NETWORK_MISMATCH"),
        (statement("alice", "note", b"", serial=52, network_hash=SAME_NAME), "NETWORK_MISMATCH"),
        (
            request("bob", "note", b"", idempotency_key="o", created_s=START_S + 20, genesis_hash=OTHER),
            "LEDGER_MISMATCH",
        ),
        (statement("alice", "note", b"nothing to see", serial=8), "REPEATED"),
        (statement("alice", "unheard", b"", serial=52), "BODY_MALFORMED"),
        (request("bob", "note", b"", idempotency_key="end-of-hold-3", created_s=START_S + 20), "IDEMPOTENCY_CONFLICT"),
        (request("bob", "note", b"", idempotency_key="old", created_s=START_S - 400), "NOT_AUTHORISED"),
        (statement("alice", "revoke", b"0" * 64, serial=52), "NOT_AUTHORISED"),
    ],
)
def test_messages_that_may_not_stand_are_named(message: Message, reason: str) -> None:
    """A message that could not be journaled where it stands is named, although the node journaled it."""
    honest = statement("alice", "note", b"honest", serial=53)

    def add(draft: Draft) -> Draft:
        entries = (*draft.entries, dataclasses.replace(draft.entries[0], message=message))
        return dataclasses.replace(draft, entries=entries)

    failure = lie(4, [honest], add, at_s=20)
    assert (failure.code, failure.fields["reason"]) == ("MESSAGE_INVALID", reason)
    assert failure.position == CHAIN.blocks[3].header.first_position + 3


@pytest.mark.parametrize(
    ("changes", "links", "code"),
    [
        ({"height": 4}, {}, "BLOCK_PLACE"),
        ({"first_position": 11}, {}, "BLOCK_PLACE"),
        ({}, {"previous_hash": bytes(32)}, "BLOCK_CHAIN"),
        ({"timestamp_ns": CHAIN.blocks[1].header.timestamp_ns}, {}, "BLOCK_TIME"),
        ({}, {"tree_size": 999}, "TREE_ROOT"),
        ({}, {"tree_root": bytes(32)}, "TREE_ROOT"),
    ],
)
def test_headers_that_lie_are_named(changes: dict[str, object], links: dict[str, object], code: str) -> None:
    """A signed header that contradicts its place, its time or its tree names the block and its first position."""

    def change(draft: Draft) -> Draft:
        return dataclasses.replace(draft, **changes)  # type: ignore[arg-type]

    failure = lie(2, [payment()], change, at_s=3, **links)
    first = CHAIN.blocks[2].header.first_position
    assert (failure.code, failure.block, failure.position) == (code, 3, first)


def test_a_block_of_another_ledger_is_refused() -> None:
    """A block that names another ledger is refused though the node signed it."""
    chain = lying_chain(2)
    draft = chain.draft([payment()], (START_S + 3) * SECOND_NS)
    block = journal.seal(draft, chain.machine.grow(draft), private_key("node"), ledger="HK")
    assert chain_failure([*chain.blocks, block]).code == "BLOCK_LEDGER"


def test_another_signer_is_refused() -> None:
    """A block sealed by a key that is not the node's is refused."""
    chain = lying_chain(2)
    draft = chain.draft([payment()], (START_S + 3) * SECOND_NS)
    block = journal.seal(draft, chain.machine.grow(draft), private_key("bob"), ledger=LEDGER)
    failure = chain_failure([*chain.blocks, block])
    assert (failure.code, failure.block) == ("BLOCK_SIGNATURE", 3)


def test_a_body_of_other_bytes_is_refused() -> None:
    """A signed header over another body is refused even when no record can be blamed."""
    block = CHAIN.blocks[4]
    header = dataclasses.replace(block.header, body_hash=bytes(32))
    header_bytes = journal.encode_header(header)
    digest = journal.block_hash(header_bytes)
    signature = private_key("node").sign(journal.SIGNATURE_CONTEXT + digest)
    encoded = dataclasses.replace(block.encoded, header=header_bytes, signature=signature)
    forged = dataclasses.replace(block, header=header, hash=digest, encoded=encoded)
    failure = chain_failure([*CHAIN.blocks[:4], forged])
    assert (failure.code, failure.block) == ("BODY_HASH", 5)


def test_a_body_in_another_form_is_named() -> None:
    """Where every record is the one that is derived and the bytes still differ, the form is what differs."""
    block = reference_chain().blocks[0]
    header = block.header
    draft = Draft(
        header.height,
        header.first_position,
        header.timestamp_ns,
        header.expired_count,
        block.entries,
        block.transfers,
        (),
    )
    failure = replay._first_difference(block.encoded, sections.layout(header.shape, block.encoded.body), draft, None)
    assert (failure.code, failure.position) == ("BODY_FORM", header.first_position)
