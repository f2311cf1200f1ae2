"""Cosigners never go back, and a log that has forgotten what it signed is found out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint, cosigning, logs, merkle
from ledger.checkpoint import Checkpoint, Note
from ledger.cosigning import Cosigner, Offer, OwnLog, decode_offer, encode_offer
from ledger.durable import Cell, FileCell, MemoryCell
from ledger.errors import Conflict, IntegrityFailure, LedgerError, MalformedInput, Unavailable
from ledger.runtime import SECOND_NS, ManualRuntime
from ledger.tiles import Tiles
from tests.receipt_fixture import PAIR, journals
from tests.settlement_fixture import CREATED_NS, NETWORK, key_of

SH, HK = key_of("NODE-SH"), key_of("NODE-HK")
SH_LOG, HK_NAME = logs.origin(NETWORK, "SH"), logs.origin(NETWORK, "HK")
OFFERS = st.builds(
    Offer,
    note=st.binary(max_size=200),
    old_size=st.integers(0, merkle.SIZE_MAX),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=5).map(tuple),
)


class Failing(MemoryCell):
    """A cell on a broken disk."""

    def write(self, value: bytes) -> None:
        """Fail."""
        raise Unavailable("CELL_FAILED", f"A value of {len(value)} bytes could not be made durable.", retry_after_s=60)


class Watching(MemoryCell):
    """A cell that notes what was kept when."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def write(self, value: bytes) -> None:
        """Note the value."""
        super().write(value)
        self.kept.append(value)


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    """Give the tree of Shanghai's journal."""
    return journals().sources["SH"].tiles


def runtime() -> ManualRuntime:
    """Give a clock that stands still."""
    return ManualRuntime(start_ns=CREATED_NS)


def cosigner(cell: Cell | None = None) -> Cosigner:
    """Give Hong Kong's node as cosigner of Shanghai's log."""
    return Cosigner(PAIR["HK"], "SH", private_key=HK, cell=cell or MemoryCell(), runtime=runtime())


def own_log(cell: Cell | None = None) -> OwnLog:
    """Give Shanghai's log."""
    return OwnLog(PAIR["SH"], private_key=SH, cell=cell or MemoryCell())


def note_of(tiles: Tiles, size: int, *, key: Ed25519PrivateKey = SH, root: bytes | None = None) -> bytes:
    """Sign a checkpoint of Shanghai's log."""
    point = Checkpoint(SH_LOG, size, tiles.root(size) if root is None else root)
    return logs.sign_checkpoint(point, key)


def offer_of(tiles: Tiles, old_size: int, size: int, **changes: Any) -> Offer:
    """Make a true offer."""
    return Offer(note_of(tiles, size, **changes), old_size, tuple(tiles.consistency(old_size, size)))


def refused(watcher: Cosigner, offer: Offer) -> Conflict:
    """Offer what must be refused; the cosigner must not have moved."""
    before = watcher.last
    with pytest.raises(Conflict) as caught:
        watcher.cosign(offer)
    assert watcher.last == before
    assert caught.value.fields["size"] == watcher.size
    return caught.value


# --- the cosigner -----------------------------------------------------------------------------------------------------


def test_a_growing_log_is_cosigned(tiles: Tiles) -> None:
    """Each checkpoint that extends the last is cosigned with the cosigner's name and time, and kept."""
    watcher, old_size = cosigner(), 0
    for size in (1, 7, 7, 64, 90):
        note = watcher.cosign(offer_of(tiles, old_size, size))
        opened = logs.open_own(note, PAIR["SH"], "SH")
        assert opened.cosigned_at_s == {HK_NAME: CREATED_NS // SECOND_NS}
        assert (opened.checkpoint.size, opened.checkpoint.root) == (size, tiles.root(size))
        assert (watcher.size, watcher.last) == (size, note_of(tiles, size))
        old_size = size


def test_the_size_is_kept_before_the_signature(tiles: Tiles) -> None:
    """What cannot be made durable is not signed, and what was signed had been kept."""
    watcher = cosigner(Failing())
    with pytest.raises(Unavailable, match="CELL_FAILED"):
        watcher.cosign(offer_of(tiles, 0, 5))
    assert watcher.size == 0
    cell = Watching()
    cosigner(cell).cosign(offer_of(tiles, 0, 5))
    assert cell.kept == [note_of(tiles, 5)]


def test_nobody_goes_back(tiles: Tiles) -> None:
    """A checkpoint smaller than the last is refused with the last one's size, however it is proven."""
    watcher = cosigner()
    watcher.cosign(offer_of(tiles, 0, 50))
    assert refused(watcher, offer_of(tiles, 0, 49)).code == "CHECKPOINT_BEHIND"
    assert refused(watcher, offer_of(tiles, 49, 49)).code == "CHECKPOINT_BEHIND"


def test_the_proof_begins_at_the_last_size(tiles: Tiles) -> None:
    """A proof from another size than the last one, smaller or larger, is refused with that size."""
    watcher = cosigner()
    assert refused(watcher, offer_of(tiles, 3, 50)).code == "CHECKPOINT_BASE"
    watcher.cosign(offer_of(tiles, 0, 50))
    for old_size in (0, 49, 51):
        assert refused(watcher, offer_of(tiles, old_size, 60)).code == "CHECKPOINT_BASE"


def test_another_history_is_refused(tiles: Tiles) -> None:
    """A tree that does not extend the last one, at the same size or later, is refused."""
    watcher = cosigner()
    watcher.cosign(offer_of(tiles, 0, 50))
    good = offer_of(tiles, 50, 60)
    for note, proof in (
        (note_of(tiles, 60, root=bytes(32)), good.proof),
        (note_of(tiles, 60, root=tiles.root(61)), good.proof),
        (good.note, good.proof[::-1]),
        (good.note, good.proof[:-1]),
        (good.note, ()),
        (note_of(tiles, 50, root=tiles.root(49)), ()),
    ):
        assert refused(watcher, Offer(note, 50, proof)).code == "CHECKPOINT_INCONSISTENT"
    watcher.cosign(good)


def test_only_the_logs_own_signature_counts(tiles: Tiles) -> None:
    """A checkpoint signed by another key, of another log, or by nobody, is not cosigned."""
    watcher = cosigner()
    other = logs.sign_checkpoint(Checkpoint(HK_NAME, 5, tiles.root(5)), HK)
    for note in (note_of(tiles, 5, key=HK), other, b"", b"x", note_of(tiles, 5)[:-1]):
        with pytest.raises(LedgerError):
            watcher.cosign(Offer(note, 0, ()))
        assert watcher.size == 0


def test_a_cosigned_checkpoint_can_be_offered_again(tiles: Tiles) -> None:
    """An offer that carries an earlier cosignature is cosigned anew, with one line by each node."""
    watcher = cosigner()
    note = watcher.cosign(offer_of(tiles, 0, 5))
    again = watcher.cosign(Offer(note, 5, ()))
    assert again == note


def test_a_cosigner_remembers_across_processes(tiles: Tiles, tmp_path: Path) -> None:
    """A cosigner that opens its file again goes on from the size it has kept, and forgets nothing."""
    path = tmp_path / "cosigned.note"
    cosigner(FileCell(path, runtime=runtime())).cosign(offer_of(tiles, 0, 50))
    watcher = cosigner(FileCell(path, runtime=runtime()))
    assert watcher.size == 50
    assert refused(watcher, offer_of(tiles, 0, 49)).code == "CHECKPOINT_BEHIND"
    assert refused(watcher, Offer(note_of(tiles, 50, root=bytes(32)), 50, ())).code == "CHECKPOINT_INCONSISTENT"
    watcher.cosign(offer_of(tiles, 50, 60))
    assert path.read_bytes() == note_of(tiles, 60)


@pytest.mark.parametrize("point", ["cell.before_write", "cell.after_write"])
def test_a_cosigner_that_dies_while_keeping(tiles: Tiles, tmp_path: Path, point: str) -> None:
    """A cosigner that dies on the way has signed nothing that it does not remember, and goes on when asked again."""

    class Dies(BaseException):
        pass

    def cross(name: str) -> None:
        if name == point:
            raise Dies

    path = tmp_path / "cosigned.note"
    cosigner(FileCell(path, runtime=runtime())).cosign(offer_of(tiles, 0, 50))
    with pytest.raises(Dies):
        cosigner(FileCell(path, runtime=ManualRuntime(on_crossing=cross))).cosign(offer_of(tiles, 50, 60))
    watcher = cosigner(FileCell(path, runtime=runtime()))
    assert watcher.size == (50 if point == "cell.before_write" else 60)
    watcher.cosign(offer_of(tiles, watcher.size, 60))


@pytest.mark.parametrize("kept", [b"x", b"", None], ids=["torn", "empty", "none"])
def test_what_a_cosigner_finds(tiles: Tiles, kept: bytes | None) -> None:
    """A kept value that is no checkpoint of the log stops the node; none, or an empty one, is a beginning."""
    if kept:
        for value in (kept, note_of(tiles, 5, key=HK), note_of(tiles, 5)[:-2]):
            with pytest.raises(IntegrityFailure, match="COSIGNED_RECORD"):
                cosigner(MemoryCell(value))
        with pytest.raises(IntegrityFailure, match="COSIGNED_RECORD"):
            own_log(MemoryCell(kept))
    else:
        assert cosigner(MemoryCell(kept)).size == 0


# --- the log ----------------------------------------------------------------------------------------------------------


def test_a_log_and_its_cosigner(tiles: Tiles) -> None:
    """What a log offers from what its cosigner knows is cosigned, and what comes back is kept."""
    log, watcher = own_log(), cosigner()
    for size in (0, 20, 20, 70):
        note = watcher.cosign(log.offer(watcher.last, log.sign(size, tiles.root(size)), tiles))
        log.keep(note, tiles, size)
        assert (log.cosigned_size, log.cosigned) == (size, note)
        log.check(tiles, size)


def test_a_kept_checkpoint_never_becomes_smaller(tiles: Tiles) -> None:
    """A cosigned checkpoint that arrives late does not replace a larger one."""
    log, watcher = own_log(), cosigner()
    small = watcher.cosign(offer_of(tiles, 0, 20))
    large = watcher.cosign(offer_of(tiles, 20, 30))
    log.keep(large, tiles, 90)
    log.keep(small, tiles, 90)
    assert log.cosigned == large


def test_what_nobody_has_cosigned_is_not_kept(tiles: Tiles) -> None:
    """A checkpoint without the other node's cosignature, or with a stranger's, is not kept."""
    log = own_log()
    bare = note_of(tiles, 20)
    text = checkpoint.decode_note(bare)
    stranger = checkpoint.cosign(text.text, name=HK_NAME, private_key=key_of("ann"), time_s=1)
    for note in (bare, checkpoint.encode_note(Note(text.text, (*text.signatures, stranger))), b"x"):
        with pytest.raises(LedgerError):
            log.keep(note, tiles, 90)
    assert log.cosigned == b""


@pytest.mark.parametrize("how", ["check", "hear", "keep", "offer"])
def test_a_journal_that_lost_its_end(tiles: Tiles, how: str) -> None:
    """A journal shorter than a checkpoint that its node has signed is found out however that is shown."""
    with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
        show(tiles, how, note=cosigner().cosign(offer_of(tiles, 0, 80)), size=79)


@pytest.mark.parametrize("how", ["check", "hear", "keep", "offer"])
def test_a_journal_that_goes_on_differently(tiles: Tiles, how: str) -> None:
    """A journal that does not begin with a tree that its node has signed is found out however that is shown."""
    forked = cosigner().cosign(Offer(note_of(tiles, 80, root=tiles.root(79)), 0, ()))
    with pytest.raises(IntegrityFailure, match="HISTORY_DIFFERS"):
        show(tiles, how, note=forked, size=90)


def show(tiles: Tiles, how: str, *, note: bytes, size: int) -> None:
    """Show a log a checkpoint of its own."""
    if how == "check":
        own_log(MemoryCell(note)).check(tiles, size)
    elif how == "hear":
        own_log().hear(note, tiles, size)
    elif how == "keep":
        own_log().keep(note, tiles, size)
    else:
        log = own_log()
        log.offer(note, log.sign(size, tiles.root(size)), tiles)


def test_a_stranger_cannot_stop_a_node(tiles: Tiles) -> None:
    """A checkpoint that this node has not signed, whatever it claims, is refused as the sender's mistake."""
    huge = Checkpoint(SH_LOG, 10**6, bytes(32))
    for note in (logs.sign_checkpoint(huge, HK), b"", b"hello", note_of(tiles, 5)[:-3]):
        with pytest.raises(LedgerError):
            own_log().hear(note, tiles, 90)


def test_a_log_remembers_across_processes(tiles: Tiles, tmp_path: Path) -> None:
    """A log that opens its file again holds its journal against the checkpoint that was cosigned last."""
    path = tmp_path / "checkpoint.note"
    log = own_log(FileCell(path, runtime=runtime()))
    log.keep(cosigner().cosign(offer_of(tiles, 0, 80)), tiles, 80)
    again = own_log(FileCell(path, runtime=runtime()))
    assert again.cosigned_size == 80
    again.check(tiles, 80)
    with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
        again.check(tiles, 79)


# --- offers on the wire -----------------------------------------------------------------------------------------------


@given(OFFERS)
def test_offers_have_one_form(offer: Offer) -> None:
    """Every offer is read back from its bytes."""
    assert decode_offer(encode_offer(offer)) == offer


@given(OFFERS, st.data())
def test_other_bytes_are_no_offer(offer: Offer, data: st.DataObject) -> None:
    """Whatever bytes are taken for an offer are the ones that it is written as."""
    changed = bytearray(encode_offer(offer))
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    found = None
    with contextlib.suppress(MalformedInput):
        found = decode_offer(bytes(changed))
    assert found is None or encode_offer(found) == bytes(changed)


def test_bounds_of_an_offer() -> None:
    """Too many hashes, a hash of another size, a larger note, a negative size and a foreign format are refused."""
    good = ["hugang-offer/1", b"note", 3, [bytes(32)]]
    cases = ([b"x", *good[1:]], [*good, 1], good[:3], ["hugang-offer/2", *good[1:]])
    wrong = [
        *cases,
        [good[0], bytes(cosigning.NOTE_SIZE_MAX + 1), 3, []],
        [good[0], b"note", -1, []],
        [good[0], b"note", 3, [bytes(31)]],
        [good[0], b"note", 3, [bytes(32)] * 65],
    ]
    assert decode_offer(msgspec.msgpack.encode(good)) == Offer(b"note", 3, (bytes(32),))
    for case in wrong:
        with pytest.raises(MalformedInput, match="OFFER_MALFORMED"):
            decode_offer(msgspec.msgpack.encode(case))
    with pytest.raises(MalformedInput, match="OFFER_MALFORMED"):
        decode_offer(bytes(cosigning.OFFER_SIZE_MAX + 1))
