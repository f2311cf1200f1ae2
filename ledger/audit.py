"""The verifier: trusts one genesis, believes nothing else, names the first bad record.

``verify`` reads an export or a store from its beginning and folds it anew. Checked on the way: the framing of the file,
every byte of every header, the chain of hashes (I5), the node's signature on each block, each body's hash, the client's
signature and digest of every message, that each message could be journaled where it stands, every record bit for bit
against what its message derives (I10), that every expiry was due and none was left out, strictly rising timestamps, the
tree's size and root after each block; and at the end, over the final state, I1 to I4.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ledger import genesis as genesis_format
from ledger import logs
from ledger.checkpoint import Checkpoint, encode_checkpoint
from ledger.errors import IntegrityFailure, InvariantViolation, MalformedInput
from ledger.exports import ExportFile, Source
from ledger.journal import EncodedBlock
from ledger.machine import Interpreter, Machine
from ledger.reader import Reader
from ledger.replay import Follower, Prepared
from ledger.runtime import Runtime, SystemRuntime
from ledger.state import AssetTotal
from ledger.transfers import Result

__all__ = ["Report", "verify"]

HASH_KEY_SIZE = 16
AHEAD_COUNT = 4
AHEAD_SIZE = 2**26
"""Blocks, and bytes of bodies, that are read and prepared ahead of the one that is being followed."""


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a verified journal contains; ``machine`` stands after its last block."""

    network: str
    ledger: str
    genesis_hash: bytes
    block_count: int
    message_count: int
    record_count: int
    """Transfers, refused ones and expiries included."""
    refused_count: int
    expired_count: int
    trial_balance: tuple[AssetTotal, ...]
    tree_size: int
    tree_root: bytes
    last_hash: bytes
    """Hash of the last block, or of the genesis if there is none."""
    stages_ns: dict[str, int]
    """Nanoseconds by stage: read, prepare (hashes and signatures, beside the others), admit, fold, compare, check (the
    final state), total."""
    machine: Machine

    @property
    def checkpoint(self) -> str:
        """The last tree as the text of a checkpoint, without signatures: what the node's own must say."""
        point = Checkpoint(logs.origin(self.network, self.ledger), self.tree_size, self.tree_root)
        return encode_checkpoint(point).decode("utf-8")


def verify(
    source: Source | Path,
    *,
    interpreter_factory: Callable[[], Interpreter],
    trusted_genesis_hash: bytes | None = None,
    checkpoints: Sequence[bytes] = (),
    progress: Callable[[int], None] | None = None,
    runtime: Runtime | None = None,
    compiled: bool = True,
) -> Report:
    """Check a whole journal. By itself it proves what is there; ``checkpoints`` prove that nothing was cut off its end.

    Args:
        source: an export's path, an open export, or a store.
        interpreter_factory: makes a fresh interpreter.
        trusted_genesis_hash: SHA-256 of the genesis as the auditor knows it; ``None`` believes the one in ``source``.
        checkpoints: notes of this ledger that the auditor has kept; the journal must reach and contain each.
        progress: told each height that has been checked.
        runtime: measures the stages and gives a key to the id table; the system's unless told otherwise.
        compiled: whether the compiled kernel is used.

    Raises:
        IntegrityFailure: something is wrong; ``block`` and ``position`` name the first bad record. Block 0 is the
            genesis.
        MalformedInput: a checkpoint is none, or of another ledger.
        Unauthenticated: a checkpoint's signature does not hold.
    """
    world = SystemRuntime() if runtime is None else runtime
    if isinstance(source, Path):
        with ExportFile(source) as export:
            verifier = _Verifier(export, interpreter_factory, trusted_genesis_hash, world, compiled=compiled)
            return verifier.run(checkpoints, progress)
    verifier = _Verifier(source, interpreter_factory, trusted_genesis_hash, world, compiled=compiled)
    return verifier.run(checkpoints, progress)


class _Verifier:
    """One run of ``verify``."""

    def __init__(
        self,
        source: Source,
        interpreter_factory: Callable[[], Interpreter],
        trusted_genesis_hash: bytes | None,
        runtime: Runtime,
        *,
        compiled: bool,
    ) -> None:
        self._source = source
        self._runtime = runtime
        self._clock_ns = runtime.monotonic_ns
        self._started_ns = self._clock_ns()
        self._genesis = _trusted(source.genesis(), trusted_genesis_hash)
        hash_key = runtime.random_bytes(HASH_KEY_SIZE)
        self._machine = Machine(
            self._genesis,
            interpreter_factory(),
            hash_key=hash_key,
            history=Reader(source).recall,
            compiled=compiled,
        )
        self._follower = Follower(self._machine, check_signatures=True, clock_ns=self._clock_ns)
        self._message_count = 0
        self._record_count = 0
        self._refused_count = 0
        self._expired_count = 0

    def run(self, checkpoints: Sequence[bytes], progress: Callable[[int], None] | None) -> Report:
        """Check everything and report."""
        opened = [logs.open_own(note, self._genesis, self._genesis.ledger).checkpoint for note in checkpoints]
        wanted = {(point.size, point.root) for point in opened}
        try:
            for prepared in self._prepared():
                self._follow(prepared)
                frontier = self._machine.frontier
                if any(size == frontier.size for size, _ in wanted):
                    wanted.discard((frontier.size, frontier.root()))
                if progress is not None:
                    progress(self._machine.height)
        except IntegrityFailure as error:
            raise self._placed(error) from error
        self._check_reached(wanted)
        checked_ns = self._clock_ns()
        self._check_state()
        trial_balance = tuple(self._machine.state.trial_balance())
        ended_ns = self._clock_ns()
        stages = self._follower.stages
        return Report(
            network=self._genesis.network,
            ledger=self._genesis.ledger,
            genesis_hash=genesis_format.genesis_hash(self._genesis),
            block_count=self._machine.height,
            message_count=self._message_count,
            record_count=self._record_count,
            refused_count=self._refused_count,
            expired_count=self._expired_count,
            trial_balance=trial_balance,
            tree_size=self._machine.frontier.size,
            tree_root=self._machine.frontier.root(),
            last_hash=self._machine.previous_hash,
            stages_ns={
                "read": stages.read_ns,
                "prepare": stages.prepare_ns,
                "admit": stages.admit_ns,
                "fold": stages.fold_ns,
                "compare": stages.compare_ns,
                "check": ended_ns - checked_ns,
                "total": ended_ns - self._started_ns,
            },
            machine=self._machine,
        )

    def _check_state(self) -> None:
        """Hold what all blocks have made together to the invariants (I2, I3); no single record can be blamed."""
        try:
            self._machine.state.check()
        except InvariantViolation as error:
            sentence = f"What the blocks make together breaks an invariant of the ledger: {error}"
            raise IntegrityFailure("STATE_UNSOUND", sentence, block=self._machine.height) from error

    def _check_reached(self, missing: set[tuple[int, bytes]]) -> None:
        """Refuse a journal that does not contain every checkpoint: one tree of that size and root after some block."""
        for size, _ in sorted(missing):
            if size > self._machine.position:
                code, sentence = "JOURNAL_CUT", "The journal ends before a checkpoint that its node has signed."
            else:
                code, sentence = "CHECKPOINT_DIFFERS", "The journal is another than the one its node has signed."
            raise IntegrityFailure(code, sentence, position=min(size, self._machine.position), size=size)

    def _blocks(self) -> Iterator[EncodedBlock]:
        """Give the blocks, and count the time that reading them takes."""
        started_ns = self._clock_ns()
        for encoded in self._source.blocks():
            self._follower.stages.read_ns += self._clock_ns() - started_ns
            yield encoded
            started_ns = self._clock_ns()

    def _prepared(self) -> Iterator[Prepared]:
        """Give the blocks in order, each prepared on another thread while those before it are followed.

        What cannot be read is reported when everything before it has been followed, so that the first failure wins.
        """
        lane = self._runtime.lane("verify")
        waiting: deque[tuple[int, Future[Prepared]]] = deque()
        size = 0
        failure: IntegrityFailure | None = None
        try:
            for encoded in self._blocks():
                waiting.append((len(encoded.body), lane.submit(partial(self._follower.prepare, encoded))))
                size += len(encoded.body)
                while len(waiting) > AHEAD_COUNT or size > AHEAD_SIZE:
                    body_size, prepared = waiting.popleft()
                    size -= body_size
                    yield prepared.result()
        except IntegrityFailure as error:
            failure = error
        finally:
            lane.close()
        for _, prepared in waiting:
            yield prepared.result()
        if failure is not None:
            raise failure

    def _follow(self, prepared: Prepared) -> None:
        """Follow one block and count what it has."""
        header, draft = self._follower.follow(prepared)
        self._message_count += header.entry_count
        self._record_count += header.transfer_count
        self._expired_count += header.expired_count
        self._refused_count += int(np.count_nonzero(draft.transfers["result"] != Result.OK))

    def _placed(self, error: IntegrityFailure) -> IntegrityFailure:
        """Name the place when reading failed before any record could be seen: what should have come next."""
        block = self._machine.height + 1 if error.block is None else error.block
        position = self._machine.position if error.position is None else error.position
        return IntegrityFailure(error.code, error.sentence, block=block, position=position, **error.fields)


def _trusted(document: bytes, trusted_hash: bytes | None) -> genesis_format.Genesis:
    """Read the genesis, once it is the one that is trusted."""
    if trusted_hash is not None and hashlib.sha256(document).digest() != trusted_hash:
        raise IntegrityFailure("GENESIS_HASH", "This is not the journal of the genesis that is trusted.", block=0)
    try:
        return genesis_format.decode(document)
    except MalformedInput as error:
        raise IntegrityFailure(error.code, error.sentence, block=0) from error
