"""Following a journal: stored blocks through the one fold, everything compared, the first bad record named.

Reopening and the verifier both stand on ``Follower``. It believes the genesis and nothing else: each block must be
signed by the node, follow the one before, contain only messages that could be journaled there, and be exactly what the
fold makes of them, bit for bit. Reopening skips the clients' signatures, because the node's own signature and the
body's hash vouch for bytes it has checked before; a body that fails its hash is searched with all signatures on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ledger import journal, messages, sections
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError, MalformedInput
from ledger.journal import EncodedBlock, Header
from ledger.machine import Admitted, Draft, Machine
from ledger.posting import TIMESTAMP_LIMIT
from ledger.sections import Layout
from ledger.transfers import TRANSFER

__all__ = ["Applied", "Follower", "Prepared", "Stages"]


@dataclass(slots=True)
class Stages:
    """Nanoseconds spent so far, by stage. ``prepare`` may run beside the others."""

    read_ns: int = 0
    prepare_ns: int = 0
    admit_ns: int = 0
    fold_ns: int = 0
    compare_ns: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can be said of a block before its turn, on any thread, without knowing what came before.

    ``vouched``: the indices of messages whose signature and digest hold under a key that was known at the time. A key
    id is the hash of its key, so that stays true; whether the key may still sign is asked when its turn comes.
    """

    encoded: EncodedBlock
    is_signed: bool
    is_intact: bool
    vouched: frozenset[int]


@dataclass(frozen=True, slots=True)
class Applied:
    """A block that the fold has taken, and that has not been compared with what the fold made of it."""

    prepared: Prepared
    header: Header
    places: Layout
    draft: Draft
    failure: IntegrityFailure | None


@dataclass(slots=True)
class Follower:
    """Leads a machine along a journal. ``clock_ns`` only measures; results never depend on it.

    ``follow`` does everything for one block. Its two halves may overlap: while one thread compares a block and lets the
    tree grow (``finish``), another may ``apply`` the next, as the writer does. Each half goes through the blocks in
    order, and only what ``finish`` has accepted is the journal's.
    """

    machine: Machine
    check_signatures: bool
    clock_ns: Callable[[], int] = lambda: 0
    stages: Stages = field(default_factory=Stages)
    _node_key: bytes = field(init=False)
    _applied_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Take the node's key from the genesis."""
        genesis = self.machine.genesis
        self._node_key = bytes.fromhex(genesis.node(genesis.ledger).public_key)
        self._applied_hash = self.machine.previous_hash

    def prepare(self, encoded: EncodedBlock) -> Prepared:
        """Check the seal, the body's hash and, if they are asked for, the clients' signatures; never fails."""
        started_ns = self.clock_ns()
        try:
            journal.verify_signature(encoded, self._node_key)
            header = journal.decode_header(encoded.header)
        except (IntegrityFailure, MalformedInput):
            return Prepared(encoded, is_signed=False, is_intact=False, vouched=frozenset())
        try:
            is_intact, vouched = self._examine(encoded.body, header)
        except MalformedInput:
            is_intact, vouched = False, frozenset()  # its own turn says why
        self.stages.prepare_ns += self.clock_ns() - started_ns
        return Prepared(encoded, is_signed=True, is_intact=is_intact, vouched=vouched)

    def follow(self, prepared: Prepared) -> tuple[Header, Draft]:
        """Check one block and apply it; the machine then stands after it, and the fold's own draft equals the block.

        Raises:
            IntegrityFailure: the block is not what belongs here. ``position`` is the first record that is wrong, or the
                block's first position when it is the header or the framing. The machine is of no use any more.
        """
        applied = self.apply(prepared)
        self.finish(applied)
        return applied.header, applied.draft

    def apply(self, prepared: Prepared) -> Applied:
        """Do the first half: hold the header against its place and let the fold take the messages.

        Raises:
            IntegrityFailure: as for ``follow``; if an earlier block has not been finished, that comes first.
        """
        encoded = prepared.encoded
        header = self._header(prepared)
        places = self._layout(header, encoded.body)
        started_ns, admitted_before_ns = self.clock_ns(), self.stages.admit_ns
        feed = _Feed(self, prepared, places)
        draft = self._fold(feed, header)
        self._applied_hash = journal.block_hash(encoded.header)
        self.stages.fold_ns += self.clock_ns() - started_ns - (self.stages.admit_ns - admitted_before_ns)
        return Applied(prepared, header, places, draft, feed.failure)

    def _fold(self, feed: _Feed, header: Header) -> Draft:
        """Let the fold take a block. What breaks an invariant there is no block of this journal, whoever signed it."""
        try:
            return self.machine.apply(feed.admitted(), header.timestamp_ns)
        except InvariantViolation as error:
            raise self._bad("BLOCK_IMPOSSIBLE", f"The block breaks an invariant of the ledger: {error}") from error

    def finish(self, applied: Applied) -> None:
        """Do the second half: hold the block against what the fold made of it, let the tree grow, and go on from it.

        Raises:
            IntegrityFailure: as for ``follow``.
        """
        prepared, header, draft = applied.prepared, applied.header, applied.draft
        encoded, started_ns = prepared.encoded, self.clock_ns()
        self._compare(encoded, applied.places, draft, applied.failure)
        if not prepared.is_intact:
            first = header.first_position
            sentence = "The body does not match its header."
            raise IntegrityFailure("BODY_HASH", sentence, block=header.height, position=first)
        self._compare_header(encoded, header, draft)
        self.machine.seal(journal.block_hash(encoded.header))
        self.stages.compare_ns += self.clock_ns() - started_ns

    def _examine(self, body: bytes, header: Header) -> tuple[bool, frozenset[int]]:
        """Say whether a body is intact and which messages are vouched for.

        Where signatures are checked, each digest is checked with its signature, here or in the message's turn.
        """
        places = sections.layout(header.shape, body)
        is_intact = journal.skeleton_hash(body, places.skeleton_size) == header.body_hash
        if self.check_signatures:
            return is_intact, self._vouched(body, places)
        return is_intact and sections.has_digests(places, body), frozenset()

    def _vouched(self, body: bytes, places: Layout) -> frozenset[int]:
        """Verify what can be verified by the keys that are known now; what cannot is left to the message's turn."""
        found: list[int] = []
        keys = self.machine.directory.keys
        fetch = sections.fetcher(body)
        for index in range(places.shape.entry_count):
            try:
                message = places.message(index, fetch)
                envelope = messages.parse(message)
                if envelope.key_id in keys:
                    messages.verify(message, envelope, keys[envelope.key_id].public_key)
                    found.append(index)
            except LedgerError:
                continue  # its own turn names it
        return frozenset(found)

    def _bad(self, code: str, sentence: str, *, position: int | None = None, **fields: str | int) -> IntegrityFailure:
        """Name the block that should stand here, and its first position unless told better."""
        first = self.machine.position if position is None else position
        return IntegrityFailure(code, sentence, block=self.machine.height + 1, position=first, **fields)

    def _header(self, prepared: Prepared) -> Header:
        """Read a header and hold it against the place where it stands (I5)."""
        try:
            header = journal.decode_header(prepared.encoded.header)
        except MalformedInput as error:
            raise self._bad("BLOCK_HEADER", f"The header cannot be read: {error.sentence}") from error
        if not prepared.is_signed:
            raise self._bad("BLOCK_SIGNATURE", "The node's signature on the block does not hold.")
        machine = self.machine
        if header.ledger != machine.genesis.ledger:
            raise self._bad("BLOCK_LEDGER", "The block belongs to another ledger.", ledger=header.ledger)
        if header.previous_hash != self._applied_hash:
            raise self._bad("BLOCK_CHAIN", "The block does not follow the one before it.", claims=header.height)
        if (header.height, header.first_position) != (machine.height + 1, machine.position):
            raise self._bad("BLOCK_PLACE", "The block claims another place.", claims=header.height)
        if header.timestamp_ns <= machine.timestamp_ns:
            raise self._bad("BLOCK_TIME", "The block is not later than the one before it.")
        if header.timestamp_ns >= TIMESTAMP_LIMIT:
            raise self._bad("BLOCK_TIME", "The block is later than any block can be.")
        return header

    def _layout(self, header: Header, body: bytes) -> Layout:
        try:
            return sections.layout(header.shape, body)
        except MalformedInput as error:
            raise self._bad("BLOCK_FRAMING", f"The body cannot be read: {error.sentence}") from error

    def _compare(self, encoded: EncodedBlock, places: Layout, draft: Draft, failure: IntegrityFailure | None) -> None:
        """Hold what the fold made against what is stored (I10)."""
        if failure is None:
            made = sections.encode(
                draft.entries, draft.transfers, first_position=draft.first_position, expired_count=draft.expired_count
            )
            if made.data == encoded.body:
                return
        raise _first_difference(encoded, places, draft, failure)

    def _compare_header(self, encoded: EncodedBlock, header: Header, draft: Draft) -> None:
        """Hold every byte of the header against what the fold gives; by now only the tree can differ."""
        link = self.machine.grow(draft)
        made = Header(
            ledger=self.machine.genesis.ledger,
            height=draft.height,
            first_position=draft.first_position,
            entry_count=len(draft.entries),
            expired_count=draft.expired_count,
            transfer_count=len(draft.transfers),
            timestamp_ns=draft.timestamp_ns,
            body_size=len(encoded.body),
            tree_size=link.tree_size,
            previous_hash=link.previous_hash,
            body_hash=header.body_hash,
            tree_root=link.tree_root,
        )
        if journal.encode_header(made) != encoded.header:
            sentence = "The header names another tree than its records make."
            raise IntegrityFailure("TREE_ROOT", sentence, block=draft.height, position=draft.first_position)


class _Feed:
    """Gives a block's messages to the fold, each admitted only when its turn comes.

    A message may depend on those before it in the same block, a key on its registration for one. The feed ends early,
    with ``failure`` set, at the first message that cannot be read, is not signed, or is not taken by the fold.
    """

    def __init__(self, follower: Follower, prepared: Prepared, places: Layout) -> None:
        self.failure: IntegrityFailure | None = None
        self._follower = follower
        self._machine = follower.machine
        self._height = follower.machine.height + 1
        self._fetch = sections.fetcher(prepared.encoded.body)
        self._places = places
        self._vouched = prepared.vouched
        self._check_signatures = follower.check_signatures or not prepared.is_intact

    def admitted(self) -> Iterator[Admitted]:
        """Give the messages in order, until one fails."""
        for index in range(self._places.shape.entry_count):
            position = self._machine.position
            try:
                admitted = self._admit(index)
            except LedgerError as error:
                self._fail(position, error.code, error.sentence)
                return
            yield admitted
            if self._machine.position == position:
                self._fail(position, *self._reason(admitted))
                return

    def _admit(self, index: int) -> Admitted:
        started_ns = self._follower.clock_ns()
        message = self._places.message(index, self._fetch)
        check_signature = self._check_signatures and index not in self._vouched
        admitted = self._machine.admit(message, at_ns=None, check_signature=check_signature)
        self._follower.stages.admit_ns += self._follower.clock_ns() - started_ns
        return admitted

    def _reason(self, admitted: Admitted) -> tuple[str, str]:
        """Say why the fold has not taken a message."""
        try:
            if self._machine.remembered(admitted) is not None:
                return "REPEATED", "It repeats an earlier message."
        except LedgerError as error:
            return error.code, error.sentence
        return "NOT_AUTHORISED", "It may not act at this place."

    def _fail(self, position: int, reason: str, sentence: str) -> None:
        self.failure = IntegrityFailure(
            "MESSAGE_INVALID",
            f"A journaled message does not stand: {sentence}",
            block=self._height,
            position=position,
            reason=reason,
        )


def _first_difference(
    encoded: EncodedBlock, places: Layout, draft: Draft, failure: IntegrityFailure | None
) -> IntegrityFailure:
    """Name the first record in which a stored block and the fold differ; only called when they do."""
    shape = places.shape
    height = journal.decode_header(encoded.header).height
    counts = np.array([entry.count for entry in draft.entries], np.int64)
    found: list[tuple[int, str]] = []
    if draft.expired_count != shape.expired_count:
        position = draft.first_position + min(draft.expired_count, shape.expired_count)
        found.append((position, "Expiries were journaled that were not due, or left out that were."))
    common = min(len(counts), len(places.counts))
    wrong_counts = np.flatnonzero(counts[:common] != places.counts[:common])
    for index in wrong_counts[:1].tolist():
        position = draft.first_position + draft.expired_count + index + int(counts[:index].sum())
        found.append((position, "A message derives another number of transfers."))
    stored = places.records(0, shape.transfer_count, sections.fetcher(encoded.body))
    common = min(len(stored), len(draft.transfers))
    table = (common, TRANSFER.itemsize)
    differs = stored[:common].view(np.uint8).reshape(table) != draft.transfers[:common].view(np.uint8).reshape(table)
    for row in np.flatnonzero(differs.any(axis=1))[:1].tolist():
        position = sections.row_position(draft.first_position, draft.expired_count, counts, row)
        found.append((position, "A record is not what its message derives."))
    failures = [] if failure is None else [failure]
    failures += [
        IntegrityFailure("RECORD_DIFFERS", sentence, block=height, position=position) for position, sentence in found
    ]
    if not failures:
        sentence = "The body says what it should, in another form."
        return IntegrityFailure("BODY_FORM", sentence, block=height, position=draft.first_position)
    return min(failures, key=lambda one: one.position or 0)
