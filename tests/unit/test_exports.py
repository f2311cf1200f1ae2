"""The export file: what is written, what is read, and that reading holds little in memory."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO

import pytest

from ledger.errors import IntegrityFailure
from ledger.exports import ExportFile, write_export
from ledger.sections import BODY_SIZE_MAX
from ledger.store import MemoryStore
from tests.ledger_fixture import GENESIS_BYTES, export_bytes, make_runtime, reference_chain, statement

CHAIN = reference_chain()
EXPORT = export_bytes(CHAIN.store())
BLOCKS_START = 16 + len(GENESIS_BYTES)


def read(data: bytes) -> ExportFile:
    """Open an export that is in memory."""
    return ExportFile(io.BytesIO(data))


def test_what_was_written_is_read() -> None:
    """Genesis and blocks come back byte for byte, and writing them again gives the same file."""
    export = read(EXPORT)
    assert export.genesis() == GENESIS_BYTES
    assert list(export.blocks()) == [block.encoded for block in CHAIN.blocks]


def test_the_summary_says_what_was_written() -> None:
    """The summary has the number of blocks, the size and the last hash; progress is told."""
    heights: list[int] = []
    file = io.BytesIO()
    summary = write_export(CHAIN.store(), file, progress=heights.append)
    assert (summary.block_count, summary.size) == (5, len(EXPORT)) == (5, len(file.getvalue()))
    assert summary.last_hash == CHAIN.blocks[-1].hash
    assert heights == [1, 2, 3, 4, 5]


def test_an_empty_journal_exports() -> None:
    """A journal without blocks makes an export whose trailer names the genesis."""
    data = export_bytes(MemoryStore(GENESIS_BYTES, runtime=make_runtime()))
    assert data[BLOCKS_START:] == b"\2" + (40).to_bytes(8, "little") + bytes(8) + hashlib.sha256(GENESIS_BYTES).digest()
    assert list(read(data).blocks()) == []


def test_an_export_ends_where_the_journal_ended_when_it_began() -> None:
    """Blocks that are appended while an export is written are left for the next one."""
    chain = reference_chain()
    store = chain.store()

    def append(height: int) -> None:
        if height == 2:
            store.append(chain.add(statement("alice", "note", b"late", serial=99), at_s=300))

    file = io.BytesIO()
    assert write_export(store, file, progress=append).block_count == 5
    assert store.last_height() == 6
    assert file.getvalue() == EXPORT


def test_reading_can_begin_later() -> None:
    """Blocks below the height asked for are passed over, and the trailer still counts them."""
    assert list(read(EXPORT).blocks(4)) == [block.encoded for block in CHAIN.blocks[3:]]


def test_an_export_is_read_once() -> None:
    """A second pass needs the file to be opened again."""
    export = read(EXPORT)
    list(export.blocks())
    with pytest.raises(io.UnsupportedOperation):
        next(export.blocks())


def test_a_path_is_opened_and_closed(tmp_path: Path) -> None:
    """A path is opened here and closed at the end; somebody else's file stays open."""
    path = tmp_path / "journal.hgx"
    path.write_bytes(EXPORT)
    with ExportFile(path) as export:
        assert len(list(export.blocks())) == 5
    with pytest.raises(ValueError, match="closed"):
        export._file.read(1)
    file = io.BytesIO(EXPORT)
    with ExportFile(file):
        pass
    assert not file.closed


def changed(offset: int, value: bytes) -> bytes:
    """Give the export with other bytes at an offset."""
    return EXPORT[:offset] + value + EXPORT[offset + len(value) :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "EXPORT_CUT"),
        (EXPORT[:15], "EXPORT_CUT"),
        (changed(0, b"HUGANGEX"), "EXPORT_MALFORMED"),
        (changed(8, b"\0"), "EXPORT_FORMAT"),
        (changed(8, b"\2"), "EXPORT_FORMAT"),
        (changed(10, b"\1"), "EXPORT_MALFORMED"),
        (changed(12, b"\xff\xff\xff\xff"), "EXPORT_MALFORMED"),
    ],
)
def test_a_broken_head_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    """What does not begin as an export is refused when it is opened, and the file is closed again."""
    path = tmp_path / "journal.hgx"
    path.write_bytes(data)
    with pytest.raises(IntegrityFailure, match=code) as caught:
        ExportFile(path)
    assert (caught.value.block, caught.value.position) == (0, None)


@pytest.mark.parametrize(
    ("data", "code", "block"),
    [
        (changed(BLOCKS_START, b"\0"), "EXPORT_MALFORMED", 1),
        (changed(BLOCKS_START, b"\2"), "EXPORT_MALFORMED", 1),
        (changed(BLOCKS_START + 1, bytes(8)), "EXPORT_MALFORMED", 1),
        (changed(BLOCKS_START + 1, (BODY_SIZE_MAX + 233).to_bytes(8, "little")), "EXPORT_MALFORMED", 1),
        (changed(BLOCKS_START + 1, (BODY_SIZE_MAX + 232).to_bytes(8, "little")), "EXPORT_CUT", 1),
        (EXPORT[:-1], "EXPORT_CUT", 6),
        (changed(len(EXPORT) - 40, b"\7"), "EXPORT_TRAILER", 6),
        (changed(len(EXPORT) - 1, b"\7"), "EXPORT_TRAILER", 6),
        (EXPORT + b"\0", "EXPORT_TRAILING", 6),
    ],
)
def test_broken_framing_is_refused(data: bytes, code: str, block: int) -> None:
    """A frame that is neither a block nor the trailer, a cut and a tail are refused, and the block is named."""
    export = read(data)
    with pytest.raises(IntegrityFailure, match=code) as caught:
        list(export.blocks())
    assert caught.value.block == block


class Watched(io.BytesIO):
    """Notes how much is asked for at once."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Note and read."""
        self.largest = max(self.largest, size or 0)
        return super().read(size)


def test_a_length_that_lies_costs_nothing() -> None:
    """A frame that claims a quarter of a gigabyte is read in pieces, so that no more is taken than there is."""
    file: BinaryIO = Watched(changed(BLOCKS_START + 1, (BODY_SIZE_MAX + 232).to_bytes(8, "little")))
    with pytest.raises(IntegrityFailure, match="EXPORT_CUT"):
        list(ExportFile(file).blocks())
    assert isinstance(file, Watched)
    assert file.largest <= 2**20
