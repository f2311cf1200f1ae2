"""Two nodes that watch each other: what a cosigner promises, and what a log does when it hears of itself.

A **cosigner** states of another log that each checkpoint it signs extends every one it has signed before
(``c2sp.org/tlog-cosignature``). It keeps the last one durably *before* it signs, goes back for nobody, and asks for a
consistency proof each time. So neither node can rewrite its history alone: the other would not sign.

A **log** keeps the last checkpoint of its own that was cosigned. Whenever it is shown a checkpoint that it has signed
itself, by its own file when it opens or by its cosigner at any time, its journal must still begin with that tree. If it
does not, the journal was restored from an older copy or changed: it has forgotten what others rely on, and the node
must stop (``HISTORY_LOST``, ``HISTORY_DIFFERS``).

Nothing here waits for a network or holds up the writer. An ``Offer`` is what a log gives its cosigner; it is written as
one MessagePack array: ``["hugang-offer/1", note: bin, old size, [hash: bin 32, …]]``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import checkpoint, logs, merkle
from ledger.checkpoint import Checkpoint, Note, OpenedCheckpoint
from ledger.durable import Cell
from ledger.errors import Conflict, IntegrityFailure, LedgerError, MalformedInput
from ledger.genesis import Genesis
from ledger.runtime import SECOND_NS, Runtime
from ledger.tiles import Tiles

__all__ = ["OFFER_SIZE_MAX", "Cosigner", "Offer", "OwnLog", "decode_offer", "encode_offer"]

OFFER_FORMAT = "hugang-offer/1"
OFFER_SIZE_MAX = 2**14
NOTE_SIZE_MAX = 2**13
_PROOF_COUNT_MAX = 64


class _Document(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(max_length=32)]
    note: Annotated[bytes, msgspec.Meta(max_length=NOTE_SIZE_MAX)]
    old_size: Annotated[int, msgspec.Meta(ge=0, le=merkle.SIZE_MAX)]
    proof: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)], ...],
        msgspec.Meta(max_length=_PROOF_COUNT_MAX),
    ]


@dataclass(frozen=True, slots=True)
class Offer:
    """A log's signed checkpoint, and the proof that it extends the tree of ``old_size`` leaves."""

    note: bytes
    old_size: int
    proof: tuple[bytes, ...]


def encode_offer(offer: Offer) -> bytes:
    """Write an offer."""
    return msgspec.msgpack.encode(_Document(OFFER_FORMAT, offer.note, offer.old_size, offer.proof))


def decode_offer(data: bytes) -> Offer:
    """Read an offer; the inverse of ``encode_offer``.

    Raises:
        MalformedInput: ``OFFER_MALFORMED``.
    """
    try:
        document = msgspec.msgpack.decode(data, type=_Document) if len(data) <= OFFER_SIZE_MAX else None
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("OFFER_MALFORMED", f"The offer cannot be read: {error}") from error
    if document is None or document.format != OFFER_FORMAT or msgspec.msgpack.encode(document) != data:
        raise MalformedInput("OFFER_MALFORMED", "The offer is too large, of another format, or not canonical.")
    return Offer(document.note, document.old_size, document.proof)


class Cosigner:
    """Cosigns the checkpoints of one other log. Any thread may call it; one cosignature is made at a time."""

    def __init__(
        self, genesis: Genesis, log: str, *, private_key: Ed25519PrivateKey, cell: Cell, runtime: Runtime
    ) -> None:
        """Go on from what was cosigned last.

        Args:
            genesis: that of this node's own ledger; it names both nodes.
            log: the ledger whose checkpoints are cosigned.
            private_key: this node's.
            cell: keeps the last checkpoint that was cosigned.
            runtime: the clock.

        Raises:
            IntegrityFailure: ``COSIGNED_RECORD``, what is kept is no checkpoint of that log.
        """
        self._genesis = genesis
        self._ledger = log
        self._name = logs.origin(genesis.network, genesis.ledger)
        self._private_key = private_key
        self._cell = cell
        self._runtime = runtime
        self._lock = threading.Lock()
        self._note = cell.read() or b""
        self._last = _kept(self._note, genesis, log)

    @property
    def last(self) -> bytes:
        """The checkpoint that was cosigned last, as its log has signed it; empty before the first."""
        return self._note

    @property
    def size(self) -> int:
        """How many leaves it has; zero before the first."""
        return 0 if self._last is None else self._last.size

    def cosign(self, offer: Offer) -> bytes:
        """Cosign a checkpoint that extends the last one; blocks while it is made durable.

        Returns:
            The note with the log's signature and ours.

        Raises:
            MalformedInput, Unauthenticated: not a checkpoint of that log, or not signed by it.
            Conflict: ``CHECKPOINT_BEHIND``, it is smaller than the last one; ``CHECKPOINT_BASE``, the proof begins at
                another size than the last one; ``CHECKPOINT_INCONSISTENT``, it does not extend the last one. ``size``
                is that of the last one.
            Unavailable: ``CELL_FAILED``; nothing was signed.
        """
        opened = logs.open_own(offer.note, self._genesis, self._ledger)
        with self._lock:
            self._check(opened.checkpoint, offer)
            bare = checkpoint.encode_note(Note(opened.note.text, opened.note.signatures[:1]))
            if self._last is None or opened.checkpoint.size > self._last.size:
                self._cell.write(bare)
                self._note, self._last = bare, opened.checkpoint
            line = checkpoint.cosign(
                opened.note.text,
                name=self._name,
                private_key=self._private_key,
                time_s=self._runtime.now_ns() // SECOND_NS,
            )
        return checkpoint.encode_note(Note(opened.note.text, (*opened.note.signatures[:1], line)))

    def _check(self, point: Checkpoint, offer: Offer) -> None:
        """Hold a checkpoint against the last one (I5)."""
        last = self._last or Checkpoint(point.origin, 0, merkle.EMPTY_ROOT)
        if point.size < last.size:
            raise Conflict("CHECKPOINT_BEHIND", "A larger tree of this log was cosigned before.", size=last.size)
        if offer.old_size != last.size:
            raise Conflict("CHECKPOINT_BASE", "The proof does not begin at the tree cosigned last.", size=last.size)
        try:
            merkle.verify_consistency(last.size, last.root, point.size, point.root, offer.proof)
        except IntegrityFailure as error:
            raise Conflict(
                "CHECKPOINT_INCONSISTENT", "The checkpoint does not extend the one cosigned last.", size=last.size
            ) from error


class OwnLog:
    """A node's own log, as others have seen it. Any thread may call it."""

    def __init__(self, genesis: Genesis, *, private_key: Ed25519PrivateKey, cell: Cell) -> None:
        """Go on from the checkpoint that was cosigned last.

        Args:
            genesis: that of the node's ledger.
            private_key: the node's.
            cell: keeps the last cosigned checkpoint.

        Raises:
            IntegrityFailure: ``COSIGNED_RECORD``, what is kept is no checkpoint of this log.
        """
        self._genesis = genesis
        self._origin = logs.origin(genesis.network, genesis.ledger)
        self._private_key = private_key
        self._cell = cell
        self._lock = threading.Lock()
        self._note = cell.read() or b""
        self._last = _kept(self._note, genesis, genesis.ledger)

    @property
    def ledger(self) -> str:
        """The code of the node's ledger."""
        return self._genesis.ledger

    @property
    def cosigned(self) -> bytes:
        """The largest checkpoint of this log that another node has cosigned; empty before the first."""
        return self._note

    @property
    def cosigned_size(self) -> int:
        """How many leaves it has; zero before the first."""
        return 0 if self._last is None else self._last.size

    def check(self, tiles: Tiles, size: int) -> None:
        """Hold the journal against what was cosigned; the first thing after opening it.

        Args:
            tiles: the journal's tree.
            size: how many leaves are durable.

        Raises:
            IntegrityFailure: ``HISTORY_LOST`` or ``HISTORY_DIFFERS``.
        """
        if self._last is not None:
            _check_history(self._last, tiles, size)

    def sign(self, size: int, root: bytes, extensions: tuple[str, ...] = ()) -> bytes:
        """Sign a checkpoint of what is durable."""
        return logs.sign_checkpoint(Checkpoint(self._origin, size, root, extensions), self._private_key)

    def offer(self, known: bytes, note: bytes, tiles: Tiles) -> Offer:
        """Make what a cosigner asks for.

        Args:
            known: the checkpoint of this log that the cosigner has cosigned last; empty if there is none.
            note: a newly signed checkpoint of what is durable.
            tiles: the journal's tree.

        Raises:
            MalformedInput, Unauthenticated: ``known`` is no checkpoint that this node has signed.
            IntegrityFailure: ``HISTORY_LOST`` or ``HISTORY_DIFFERS``, it is one that the journal does not have.
        """
        size = checkpoint.decode_checkpoint(checkpoint.decode_note(note).text).size
        old_size = 0 if not known else self.hear(known, tiles, size).checkpoint.size
        return Offer(note, old_size, tuple(tiles.consistency(old_size, size)))

    def hear(self, note: bytes, tiles: Tiles, size: int) -> OpenedCheckpoint:
        """Hold the journal against a checkpoint that this node has signed, whoever shows it.

        Raises:
            MalformedInput, Unauthenticated: it is none.
            IntegrityFailure: ``HISTORY_LOST`` or ``HISTORY_DIFFERS``.
        """
        opened = logs.open_own(note, self._genesis, self._genesis.ledger)
        _check_history(opened.checkpoint, tiles, size)
        return opened

    def keep(self, note: bytes, tiles: Tiles, size: int) -> None:
        """Keep a checkpoint that was cosigned, unless a larger one is kept; blocks while it is made durable.

        Raises:
            MalformedInput, Unauthenticated: it is no checkpoint of this log, or nobody has cosigned it
                (``COSIGNATURE_MISSING``).
            IntegrityFailure: ``HISTORY_LOST`` or ``HISTORY_DIFFERS``.
            Unavailable: ``CELL_FAILED``.
        """
        cosigners = logs.cosigner_keys(self._genesis, self._genesis.ledger)
        signer = logs.log_key(self._genesis, self._genesis.ledger)
        checkpoint.open_checkpoint(note, signer, cosigners, cosigner_count_min=1)
        point = self.hear(note, tiles, size).checkpoint
        with self._lock:
            if self._last is None or point.size > self._last.size:
                self._cell.write(note)
                self._note, self._last = note, point


def _check_history(point: Checkpoint, tiles: Tiles, size: int) -> None:
    """Check that a journal of ``size`` leaves begins with a tree that was signed.

    Raises:
        IntegrityFailure: it does not.
    """
    if point.size > size:
        raise IntegrityFailure(
            "HISTORY_LOST", "The journal is shorter than a checkpoint that was signed.", signed=point.size, size=size
        )
    if tiles.root(point.size) != point.root:
        raise IntegrityFailure(
            "HISTORY_DIFFERS", "The journal does not begin with a tree that was signed.", signed=point.size, size=size
        )


def _kept(note: bytes, genesis: Genesis, log: str) -> Checkpoint | None:
    """Read what a cell keeps.

    Raises:
        IntegrityFailure: it is not a checkpoint of this log.
    """
    if not note:
        return None
    try:
        return logs.open_own(note, genesis, log).checkpoint
    except LedgerError as error:
        raise IntegrityFailure("COSIGNED_RECORD", f"The kept checkpoint does not hold: {error.sentence}") from error
