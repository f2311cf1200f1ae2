"""The one fold under the writer, reopening and the verifier: messages and a timestamp in, a block's contents out.

``Machine`` holds everything the journal determines: money and ids (``State``), parties and keys (``Directory``), the
tree's frontier, the answers by idempotency key, and the interpreter's own state. It performs no input or output and
reads no clock. What a message means is the interpreter's business; the ledger does not know it.

The same call serves three masters. The writer applies new messages and stores what comes out. Reopening applies stored
messages and compares. The verifier does the same with every signature checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ledger import merkle, messages, posting, signatures
from ledger.answers import IDENTITY_SIZE, Answer, Answers
from ledger.errors import Conflict, InvariantViolation, LedgerError
from ledger.genesis import Genesis, directory, genesis_hash, network_hash
from ledger.messages import Envelope, Message
from ledger.meters import business_day, business_day_start_ns
from ledger.points import POINT
from ledger.recall import RecentRecords
from ledger.registry import Array
from ledger.reversals import Recall
from ledger.state import State
from ledger.transfers import NO_MESSAGE, TRANSFER, Result, Transfers, label, transfers

__all__ = [
    "Admitted",
    "Answer",
    "Context",
    "Draft",
    "Entry",
    "Interpreter",
    "Link",
    "Machine",
    "block_leaves",
    "message_leaf",
    "record_leaf",
    "record_leaves",
]

MESSAGE_LEAF = b"\x01"
TRANSFER_LEAF = b"\x02"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that is well-formed and signed by a known key; whether it may act is asked when its turn comes."""

    message: Message
    envelope: Envelope
    party: int
    content: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One journaled message and the number of records that follow it.

    ``in_columns`` says that the records are the commands of the message's body (``ledger.columns``), carried out.
    """

    message: Message
    count: int
    in_columns: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Draft:
    """The contents of a block before it is sealed.

    ``transfers`` has the records of all entries in order, the ``expired_count`` expiries first. ``outcomes`` has, for
    each message offered, its answer or the reason why it is not in the block. ``points`` has the balance points that
    fell due, dtype ``POINT``, in the order of what happened; they are no part of the block.
    """

    height: int
    first_position: int
    timestamp_ns: int
    expired_count: int
    entries: tuple[Entry, ...]
    transfers: Transfers
    outcomes: tuple[Answer | LedgerError, ...]
    points: Array = field(default_factory=lambda: np.empty(0, POINT))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was journaled: such a draft is no block, and the machine has not moved but into its day."""
        return not self.entries and not self.expired_count


@dataclass(frozen=True, slots=True)
class Link:
    """Where a block hangs: the hash of the block before it, and the tree that stands after it."""

    previous_hash: bytes
    tree_size: int
    tree_root: bytes


class Interpreter(Protocol):
    """What a message means. Deterministic: no clock, disk or randomness; its state is a fold over what it executed."""

    def begin(self, machine: Machine) -> None:
        """Open what exists before the first block; called once, by ``Machine``."""

    def decode(self, envelope: Envelope, body: bytes) -> Any:
        """Decode a body by its envelope's topic; pure, so that any thread may do it.

        Raises:
            MalformedInput: not of the topic's form, or no such topic.
        """

    def authorise(self, admitted: Admitted, machine: Machine, timestamp_ns: int) -> None:
        """Say whether this may be journaled now; changes nothing.

        Raises:
            LedgerError: it may not.
        """

    def execute(self, admitted: Admitted, context: Context) -> None:
        """Carry an authorised message out; business refusals are results of its transfers, never exceptions."""

    def expired(self, machine: Machine, records: Transfers) -> None:
        """Take note of holds that expired at the head of a block."""

    @property
    def clock_offset_ns(self) -> int:
        """By how much a test clock has been moved on: a block's time less this is the real one."""

    def begin_day(self, machine: Machine, day: int) -> None:
        """Let dated rules take effect: a later business day has begun, before anything else of its first block.

        An attempt that becomes no block may begin a day too; the blocks that follow are then of this day or later.
        """

    def dump(self) -> Sequence[bytes | memoryview]:
        """Give its state as bytes in pieces, for a snapshot (``ledger.values``)."""

    def load(self, data: memoryview) -> None:
        """Take the state that another dumped; called after ``begin``, instead of executing what made that state.

        Raises:
            MalformedInput: these are not such bytes.
        """


class Context:
    """What an interpreter may touch while it executes one message."""

    def __init__(self, machine: Machine, *, position: int, timestamp_ns: int) -> None:
        """Stand at ``position``, the message's own; its records take the following ones."""
        self.machine = machine
        self.state = machine.state
        self.directory = machine.directory
        self.position = position
        self.timestamp_ns = timestamp_ns
        self.records: list[Transfers] = []
        self.count = 0
        self.in_columns = False

    @property
    def latest_position(self) -> int:
        """The last position that was given out: the message's own, or that of its last record."""
        return self.position + self.count

    def post(self, commands: Transfers) -> Transfers:
        """Apply commands and make them records: ``message`` is filled in here; results come back in the same array."""
        if len(commands):
            commands["message"] = self.position
            self._carry_out(commands)
        return commands

    def post_columns(self, commands: Transfers, *, party: int, code: int) -> Transfers:
        """Carry out the commands that a message's body has in columns: they become its records, all it derives.

        Raises:
            InvariantViolation: something was posted before.
        """
        if self.count:
            raise InvariantViolation("a message in columns derives nothing else")
        self.in_columns = True
        label(commands, np.uint64(self.position), np.uint32(party), np.uint16(code))
        self._carry_out(commands)
        return commands

    def _carry_out(self, commands: Transfers) -> None:
        posting.post(
            self.state,
            commands,
            timestamp_ns=self.timestamp_ns,
            first_position=self.position + 1 + self.count,
            recall=self.machine.recall,
            compiled=self.machine.compiled,
        )
        self.machine.recent.add(self.position + 1 + self.count, commands)
        self.records.append(commands)
        self.count += len(commands)


class Machine:
    """Everything one journal determines. Not thread-safe: it belongs to the writer."""

    def __init__(
        self,
        genesis: Genesis,
        interpreter: Interpreter,
        *,
        hash_key: bytes,
        history: Recall | None = None,
        compiled: bool = True,
    ) -> None:
        """Stand before block 1.

        Args:
            genesis: the trust root.
            interpreter: what messages mean, fresh.
            hash_key: 16 secret bytes for the id table; never visible in any result.
            history: reads records of blocks that are durable; whoever owns the machine may set it later. Asked only
                when a transfer is reversed that lies some blocks back.
            compiled: whether the compiled kernel or the same source as a plain loop is used.
        """
        self.genesis = genesis
        self.genesis_hash = genesis_hash(genesis)
        self.network_hash = network_hash(genesis)
        self.interpreter = interpreter
        self.compiled = compiled
        self.history = history
        self.recent = RecentRecords()
        self.state = State(hash_key)
        self._begin_day(business_day(genesis.created_ns))
        self.directory = directory(genesis)
        self.frontier = merkle.Frontier()
        self.answers = Answers(hash_key)
        self.height = 0
        self.position = 0
        self.timestamp_ns = self.real_ns = genesis.created_ns
        """The time of the last block; and the real time at which the block that is being made began."""
        self.previous_hash = self.genesis_hash
        interpreter.begin(self)

    def admit(self, message: Message, *, at_ns: int | None, check_signature: bool = True) -> Admitted:
        """Check all that does not depend on the order of messages. Changes nothing; any thread may call it.

        Args:
            message: the message.
            at_ns: the instant at which a request's times must hold; ``None`` leaves that to ``apply``.
            check_signature: ``False`` only when a block's own hash already vouches for the bytes (reopening).

        Raises:
            MalformedInput: not of the form.
            Unauthenticated: unknown or revoked key, bad digest or signature, another ledger or network, stale.
        """
        envelope = messages.parse(message)
        messages.check_addressee(envelope, genesis_hash=self.genesis_hash, network_hash=self.network_hash)
        key = self.directory.signer(envelope.key_id)
        if check_signature:
            messages.verify(message, envelope, key.public_key)
        if at_ns is not None:
            _check_time(envelope, at_ns)
        content = self.interpreter.decode(envelope, message.body)
        return Admitted(message, envelope, key.party, content)

    def remembered(self, admitted: Admitted) -> Answer | None:
        """Give the first answer to a message that is a retry (I8).

        Raises:
            Conflict: the key was used for another body.
        """
        answer = self.answers.get(admitted.party, admitted.envelope.idempotency_key)
        if answer is not None and answer.digest != _identity(admitted.envelope):
            raise Conflict("IDEMPOTENCY_CONFLICT", "This idempotency key was used for another request.")
        return answer

    def has_journaled(self, admitted: Admitted) -> bool:
        """Whether this very message, or an earlier one of which it is a retry, is in the journal."""
        answer = self.answers.get(admitted.party, admitted.envelope.idempotency_key)
        return answer is not None and answer.digest == _identity(admitted.envelope)

    def apply(self, batch: Iterable[Admitted], timestamp_ns: int) -> Draft:
        """Apply messages in order and give the next block's contents; the machine then stands after that block.

        The batch is consumed lazily: a message is asked for only when those before it have been executed. A stored
        message can so be admitted by what precedes it in its own block, and a bundle can end with its first refusal.

        A message that cannot be authorised, or is a retry, is left out; its outcome says why. The tree does not grow
        yet: ``grow`` and ``seal`` follow for each draft in order, while the next ones may already be applied.

        Raises:
            InvariantViolation: time did not move on, or lies beyond what a block can bear; nothing has changed.
        """
        if not self.earliest_ns <= timestamp_ns < posting.TIMESTAMP_LIMIT:
            raise InvariantViolation(
                f"I5: timestamp {timestamp_ns} does not follow {self.earliest_ns - 1} within limits"
            )
        day = business_day(timestamp_ns)
        if self._begin_day(day):
            self.interpreter.begin_day(self, day)
        self.real_ns = real_ns = timestamp_ns - self.interpreter.clock_offset_ns
        first_position = self.position
        expired = self._expire(timestamp_ns)
        records: list[Transfers] = [expired] if len(expired) else []
        entries: list[Entry] = []
        outcomes: list[Answer | LedgerError] = []
        for admitted in batch:
            context = Context(self, position=self.position, timestamp_ns=timestamp_ns)
            try:
                answer = self.remembered(admitted)
                if answer is None:
                    self._authorise(admitted, timestamp_ns, real_ns=real_ns)
            except LedgerError as error:
                outcomes.append(error)
                continue
            if answer is None:
                self.interpreter.execute(admitted, context)
                answer = Answer(self.position, context.count, self.height + 1, _identity(admitted.envelope))
                self.answers.begin_block(first_position)
                self.answers.add(admitted.party, admitted.envelope.idempotency_key, answer)
                self.position += 1 + context.count
                entries.append(Entry(admitted.message, context.count, context.in_columns))
                records.extend(context.records)
            outcomes.append(answer)
        joined = _joined(records)
        if entries or len(expired):
            self.height += 1
            self.answers.begin_block(first_position)
            self.timestamp_ns = timestamp_ns
            self.recent.end_block()
        return Draft(
            height=self.height,
            first_position=first_position,
            timestamp_ns=timestamp_ns,
            expired_count=len(expired),
            entries=tuple(entries),
            transfers=joined,
            outcomes=tuple(outcomes),
            points=self.state.take_points(),
        )

    def grow(self, draft: Draft) -> Link:
        """Let the tree grow by a draft's leaves; drafts come in the order in which they were applied.

        This and ``seal`` touch nothing that ``apply`` does, so another thread may do both for one draft while the next
        is being applied.
        """
        self.frontier.append_many(block_leaves(draft.expired_count, draft.entries, draft.transfers))
        return Link(self.previous_hash, self.frontier.size, self.frontier.root())

    @property
    def is_exact(self) -> bool:
        """Whether this is what a replay gives, and not in a day that an attempt has begun which became no block."""
        return self.height > 0 and self.state.business_day == business_day(self.timestamp_ns)

    @property
    def earliest_ns(self) -> int:
        """The first instant at which the next block may be.

        It follows the last block, and lies on no day before the one that has begun: a day may begin with an attempt
        that becomes no block, and a block of an earlier day would then find other meters here than in a replay.
        """
        return max(self.timestamp_ns + 1, business_day_start_ns(self.state.business_day))

    def recall(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Give the records at some ascending positions, also of the block that is being made.

        Raises:
            InvariantViolation: a record lies further back than this machine can look, and it has no history.
            IntegrityFailure: the history cannot be read.
        """
        count = self.recent.count_before(positions)
        if count and self.history is None:
            raise InvariantViolation("a record of long ago is needed, and there is no history")
        rows = transfers(len(positions))
        if count and self.history is not None:
            rows[:count] = self.history(positions[:count])
        rows[count:] = self.recent.take(positions[count:])
        return rows

    def seal(self, block_hash: bytes) -> None:
        """Name the block that was made from the last draft: the next one follows it."""
        self.previous_hash = block_hash

    def _begin_day(self, day: int) -> bool:
        """Let a business day begin if it is a later one; says whether it is."""
        is_later = day > self.state.business_day
        if is_later:
            self.state.begin_day(day)
        return is_later

    def _expire(self, timestamp_ns: int) -> Transfers:
        """Expire what is due, at the head of the block, in order of (deadline, id)."""
        due = posting.due(self.state, timestamp_ns)
        if len(due):
            due["message"] = NO_MESSAGE
            posting.post(
                self.state, due, timestamp_ns=timestamp_ns, first_position=self.position, compiled=self.compiled
            )
            if np.any(due["result"] != Result.OK):
                raise InvariantViolation("I10: a hold that was due did not expire")
            self.recent.add(self.position, due)
            self.position += len(due)
            self.interpreter.expired(self, due)
        return due

    def _authorise(self, admitted: Admitted, timestamp_ns: int, *, real_ns: int) -> None:
        """Ask again what may have changed since admission, then ask the interpreter.

        Whether the request is fresh is asked of the real time as it was when the block began.
        """
        key = self.directory.signer(admitted.envelope.key_id)
        if key.party != admitted.party:
            raise InvariantViolation("a key changed its party")
        _check_time(admitted.envelope, real_ns)
        self.interpreter.authorise(admitted, self, timestamp_ns)


def message_leaf(message: Message) -> bytes:
    """Give the leaf data of a message: a type byte and SHA-256 of its head, which binds its body."""
    return MESSAGE_LEAF + hashlib.sha256(messages.encode_head(message)).digest()


def record_leaf(record: np.void) -> bytes:
    """Give the leaf data of a record: a type byte and the record's bytes."""
    return TRANSFER_LEAF + record.tobytes()


def record_leaves(records: Transfers, *, output: merkle.Bytes | None = None) -> merkle.Bytes:
    """Give the leaf hashes of records, shape (n, 32), written into ``output`` if it is given."""
    rows = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), TRANSFER.itemsize)
    return merkle.leaf_hashes(rows, kind=TRANSFER_LEAF, output=output)


def block_leaves(expired_count: int, entries: Sequence[Entry], records: Transfers) -> merkle.Bytes:
    """Give the leaf hashes of a block in order of position, shape (n, 32); all records are hashed in one go."""
    # The records' hashes are written behind, and move up to make room for those of the messages between them. Of the
    # last message, often the only one, they stand in their place from the start.
    hashes = np.empty((len(entries) + len(records), merkle.HASH_SIZE), np.uint8)
    place, row = 0, len(entries)
    record_leaves(records, output=hashes[row:])
    for count, entry in ((expired_count, None), *((entry.count, entry) for entry in entries)):
        if entry is not None:
            hashes[place] = np.frombuffer(merkle.leaf_hash(message_leaf(entry.message)), np.uint8)
            place += 1
        if place != row:
            hashes[place : place + count] = hashes[row : row + count]
        place, row = place + count, row + count
    return hashes


def _joined(records: list[Transfers]) -> Transfers:
    """Put records together as bytes: numpy would compare the fields of every two arrays first."""
    if len(records) == 1:
        return records[0]
    if not records:
        return np.empty(0, TRANSFER)
    return np.concatenate([np.ascontiguousarray(chunk).view(np.uint8) for chunk in records]).view(TRANSFER)


def _identity(envelope: Envelope) -> bytes:
    """What makes a retry the same: what was asked for and the body, not the signature's times."""
    parts = envelope.topic.encode(), envelope.subject.encode(), envelope.digest
    return hashlib.sha256(b"\n".join(parts)).digest()[:IDENTITY_SIZE]


def _check_time(envelope: Envelope, at_ns: int) -> None:
    """Hold a request to its own times; a statement has none."""
    if envelope.kind is messages.Kind.REQUEST:
        signatures.check_time(envelope.created_s, envelope.expires_s, at_ns)
