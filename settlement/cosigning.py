"""The exchange in which each node cosigns the other's checkpoint, carried by whoever may ask both nodes.

For each log, four steps, each of which may be repeated, lost or taken by another run at the same time::

    cosigner.cosigned()        the checkpoint of this log that it has cosigned last
    log.offer(that)            a new checkpoint with the proof that it extends that one
    cosigner.cosign(offer)     kept, then signed
    log.keep(note)             kept

Whoever carries this is trusted with nothing: every step is checked by signatures and proofs. The coordinator does it
before it nets a window, so that no node settles on a history which it alone knows, and once more after the decision, so
that receipts can be proven by both. It never holds up a payment: the writer is asked only where the tree stands.

A node that learns on the way that its journal lacks what it has signed raises an ``IntegrityFailure`` and stops.

The checkpoints that a node offers seal the balances of all its accounts (``ledger.sealed``): each time while there are
few of them, at most once a minute when there are many, because copying them takes the writer a moment. The minute
counts from the last seal that was cosigned, and an offer takes nothing from those before it: whichever is cosigned and
kept brings its own balances, never older ones than are there already.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ledger import checkpoint
from ledger.cosigning import Cosigner, Offer, OwnLog
from ledger.errors import Conflict, IntegrityFailure, Unavailable
from ledger.machine import Machine
from ledger.runtime import SECOND_NS, Runtime
from ledger.sealed import Sealed, make_proof
from ledger.tiles import Tiles
from ledger.writer import Writer
from settlement.book import PEER
from settlement.statements import LEDGERS

__all__ = ["CosigningPort", "NodeCosigning", "exchange"]

SEALED_COUNT_MAX = 2**16
"""Accounts that are sealed with every offer; more of them are sealed every ``SEAL_INTERVAL_NS``."""
SEAL_INTERVAL_NS = 60 * SECOND_NS
OFFERED_COUNT_MAX = 2
"""Seals that are remembered from being offered to being cosigned, the newest: two exchanges may cross."""
TRIES_MAX = 3
"""How often one log's exchange is begun when another run is faster."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seal:
    """Balances that a checkpoint of ``size`` leaves carries, and when it was signed or cosigned."""

    note: bytes
    size: int
    sealed: Sealed
    since_ns: int


class CosigningPort(Protocol):
    """One node, wherever it runs, as far as cosigning goes."""

    async def cosigned(self) -> bytes:
        """Give the checkpoint of the other log that this node has cosigned last; empty before the first.

        Raises:
            Unavailable: the node cannot be reached or has stopped.
        """

    async def offer(self, known: bytes) -> Offer:
        """Give this log's newest checkpoint, with the proof that it extends the one that the cosigner knows.

        Raises:
            MalformedInput, Unauthenticated: what the cosigner knows is no checkpoint of this log.
            Unavailable: as above.
            IntegrityFailure: this journal lacks what was cosigned; the node stops.
        """

    async def cosign(self, offer: Offer) -> bytes:
        """Cosign the other log's checkpoint.

        Raises:
            LedgerError: as ``Cosigner.cosign``.
            Unavailable: as above.
        """

    async def keep(self, note: bytes) -> None:
        """Keep a cosigned checkpoint of this log.

        Raises:
            LedgerError, IntegrityFailure: as ``OwnLog.keep``.
        """


class NodeCosigning:
    """A node's side; its ``CosigningPort`` in its own process. Belongs to one event loop."""

    def __init__(
        self,
        *,
        writer: Writer,
        tiles: Tiles,
        log: OwnLog,
        cosigner: Cosigner,
        runtime: Runtime,
        halt: Callable[[BaseException], None],
    ) -> None:
        """Speak for the node whose journal ``writer`` writes.

        Args:
            writer: asked where the tree stands.
            tiles: its tree.
            log: what others have seen of it.
            cosigner: signs for the other log.
            runtime: threads.
            halt: told when this journal lacks what was signed; it ends all writing.
        """
        self._writer = writer
        self._tiles = tiles
        self._log = log
        self._cosigner = cosigner
        self._runtime = runtime
        self._halt = halt
        self._offered: OrderedDict[str, Sealed] = OrderedDict()
        self._cosigned: _Seal | None = None
        self._own: _Seal | None = None
        self._sealing = asyncio.Lock()

    async def cosigned(self) -> bytes:
        """Give the checkpoint of the other log that was cosigned here last; see ``CosigningPort``."""
        return self._cosigner.last

    async def offer(self, known: bytes) -> Offer:
        """Offer this log's newest checkpoint; see ``CosigningPort``."""
        size, root, sealed = await self._writer.read(lambda machine: (*self._tree(machine), self._sealed_now(machine)))

        def make() -> Offer:
            note = self._log.sign(size, root, () if sealed is None else (sealed.extension,))
            return self._log.offer(known, note, self._tiles)

        offer = await self._guarded(make)
        if sealed is not None:
            self._remember(sealed)
        return offer

    async def cosign(self, offer: Offer) -> bytes:
        """Cosign the other log's checkpoint; see ``CosigningPort``."""
        return await self._runtime.offload(self._cosigner.cosign, offer)

    async def keep(self, note: bytes) -> None:
        """Keep a cosigned checkpoint of this log; see ``CosigningPort``."""
        size, _ = await self.durable_tree()
        await self._guarded(lambda: self._log.keep(note, self._tiles, size))
        self._take_seal(note)

    async def hear(self, note: bytes) -> None:
        """Hold this journal against what the other node says it has cosigned last.

        Raises:
            MalformedInput, Unauthenticated: it is no checkpoint of this log.
            IntegrityFailure: this journal lacks it; the node stops.
        """
        if note:
            size, _ = await self.durable_tree()
            await self._guarded(lambda: self._log.hear(note, self._tiles, size))

    @property
    def cosigned_note(self) -> bytes:
        """The largest checkpoint of this log that the other node has cosigned; empty before the first."""
        return self._log.cosigned

    @property
    def cosigned_size(self) -> int:
        """How many leaves it has; zero before the first."""
        return self._log.cosigned_size

    async def checkpoint(self, size_min: int = 0) -> bytes:
        """Give a checkpoint of at least ``size_min`` leaves: the cosigned one if it is as large, else a new one.

        Raises:
            Unavailable: the writer has stopped.
        """
        if 0 < size_min <= self._log.cosigned_size:
            return self._log.cosigned
        return self._log.sign(*await self.durable_tree())

    async def balance(self, number: int) -> bytes:
        """Prove an account's balance as it was sealed last under a cosigned checkpoint; without one, as it is now.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``, there was no such account then.
            Unavailable: the writer has stopped.
        """
        seal = self._cosigned or await self._uncosigned()
        return await self._runtime.offload(make_proof, seal.sealed, seal.note, self._log.ledger, number)

    async def durable_tree(self) -> tuple[int, bytes]:
        """Give size and root of what is durable, and bring the tiles that far."""
        return await self._writer.read(self._tree)

    def _tree(self, machine: Machine) -> tuple[int, bytes]:
        """Read the tree in the writer's turn."""
        # A full disk must not hold up anybody here: tiles that could not be written are made again when needed.
        with contextlib.suppress(OSError):
            self._tiles.take(machine.frontier)
        return machine.frontier.size, machine.frontier.root()

    def _sealed_now(self, machine: Machine) -> Sealed | None:
        """Copy the accounts in the writer's turn, if it is time to."""
        if self._cosigned is not None and self._lasts(self._cosigned, machine):
            return None
        return Sealed(machine.state)

    def _lasts(self, seal: _Seal, machine: Machine) -> bool:
        """Whether a seal is young enough to do without a new one: where accounts are few, none is."""
        if machine.state.account_count <= SEALED_COUNT_MAX:
            return False
        return self._runtime.monotonic_ns() - seal.since_ns < SEAL_INTERVAL_NS

    def _remember(self, sealed: Sealed) -> None:
        """Keep what was offered until it is cosigned; the oldest are forgotten."""
        self._offered[sealed.extension] = sealed
        self._offered.move_to_end(sealed.extension)
        while len(self._offered) > OFFERED_COUNT_MAX:
            self._offered.popitem(last=False)

    def _take_seal(self, note: bytes) -> None:
        """Prove balances by a checkpoint that is cosigned now, if it carries what was offered and is not older."""
        point = checkpoint.decode_checkpoint(checkpoint.decode_note(note).text)
        line = next((line for line in point.extensions if line in self._offered), None)
        if line is None or (self._cosigned is not None and point.size < self._cosigned.size):
            return
        self._cosigned = _Seal(note, point.size, self._offered.pop(line), self._runtime.monotonic_ns())

    async def _uncosigned(self) -> _Seal:
        """Seal balances under this node's signature alone: those of now, or of the last minute if they are many."""

        def copy(machine: Machine) -> _Seal | tuple[int, bytes, Sealed]:
            if self._own is not None and self._lasts(self._own, machine):
                return self._own
            return *self._tree(machine), Sealed(machine.state)

        async with self._sealing:
            found = await self._writer.read(copy)
            if isinstance(found, _Seal):
                return found
            size, root, sealed = found
            extension = await self._runtime.offload(lambda: sealed.extension)
            note = self._log.sign(size, root, (extension,))
            self._own = _Seal(note, size, sealed, self._runtime.monotonic_ns())
            return self._own

    async def _guarded(self, work: Callable[[], T]) -> T:
        """Run a check of this journal beside the event loop; stop the node if it fails."""
        try:
            return await self._runtime.offload(work)
        except IntegrityFailure as error:
            self._halt(error)
            raise


async def exchange(ports: Mapping[str, CosigningPort]) -> dict[str, bytes]:
    """Have both nodes cosign each other's newest checkpoint.

    Args:
        ports: the two nodes by the codes of their ledgers.

    Returns:
        The cosigned checkpoints by ledger.

    Raises:
        Unavailable: a node cannot be reached; ``COSIGNING_BUSY``, others were faster too often. Call again.
        LedgerError: a node refuses what the other has made.
        IntegrityFailure: a journal lacks what was cosigned before.
    """
    notes = await asyncio.gather(*(_cosigned(ports[at], ports[PEER[at]]) for at in LEDGERS))
    return dict(zip(LEDGERS, notes, strict=True))


async def _cosigned(log: CosigningPort, cosigner: CosigningPort) -> bytes:
    """Have one log's checkpoint cosigned."""
    for _ in range(TRIES_MAX):
        offer = await log.offer(await cosigner.cosigned())
        try:
            note = await cosigner.cosign(offer)
        except Conflict as error:
            if error.code not in ("CHECKPOINT_BASE", "CHECKPOINT_BEHIND"):
                raise
            continue  # another run was faster: look again
        await log.keep(note)
        return note
    raise Unavailable("COSIGNING_BUSY", "Others cosign at the same time.", retry_after_s=1)
