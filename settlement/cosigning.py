"""The exchange in which each node cosigns the other's checkpoint, carried by anybody.

For each log, four steps, each of which may be repeated, lost or taken by somebody else at the same time::

    cosigner.cosigned()        the checkpoint of this log that it has cosigned last
    log.offer(that)            a new checkpoint with the proof that it extends that one
    cosigner.cosign(offer)     kept, then signed
    log.keep(note)             kept

Whoever carries this is trusted with nothing: every step is checked by signatures and proofs. The coordinator does it
before it nets a window, so that no node settles on a history which it alone knows, and once more after the decision, so
that receipts can be proven by both. It never holds up a payment: the writer is asked only where the tree stands.

A node that learns on the way that its journal lacks what it has signed raises an ``IntegrityFailure`` and stops.

The checkpoints that a node offers seal the balances of all its accounts (``ledger.sealed``): each time while there are
few of them, at most once a minute when there are many, because copying them takes the writer a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
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
TRIES_MAX = 3
"""How often one log's exchange is begun when another run is faster."""
T = TypeVar("T")


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
        self._sealed_ns: int | None = None
        self._offered: Sealed | None = None
        self._sealed: tuple[bytes, Sealed] | None = None

    async def cosigned(self) -> bytes:
        """Give the checkpoint of the other log that was cosigned here last; see ``CosigningPort``."""
        return self._cosigner.last

    async def offer(self, known: bytes) -> Offer:
        """Offer this log's newest checkpoint; see ``CosigningPort``."""
        size, root, sealed = await self._writer.read(lambda machine: (*self._tree(machine), self._sealed_now(machine)))
        self._offered = sealed or self._offered

        def make() -> Offer:
            note = self._log.sign(size, root, () if sealed is None else (sealed.extension,))
            return self._log.offer(known, note, self._tiles)

        return await self._guarded(make)

    async def cosign(self, offer: Offer) -> bytes:
        """Cosign the other log's checkpoint; see ``CosigningPort``."""
        return await self._runtime.offload(self._cosigner.cosign, offer)

    async def keep(self, note: bytes) -> None:
        """Keep a cosigned checkpoint of this log; see ``CosigningPort``."""
        size, _ = await self.durable_tree()
        await self._guarded(lambda: self._log.keep(note, self._tiles, size))
        point = checkpoint.decode_checkpoint(checkpoint.decode_note(note).text)
        if self._offered is not None and self._offered.extension in point.extensions:
            self._sealed = note, self._offered

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
        if self._sealed is not None:
            note, sealed = self._sealed
        else:
            size, root, sealed = await self._writer.read(lambda machine: (*self._tree(machine), Sealed(machine.state)))
            extension = await self._runtime.offload(lambda: sealed.extension)
            note = self._log.sign(size, root, (extension,))
        return await self._runtime.offload(make_proof, sealed, note, self._log.ledger, number)

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
        now_ns = self._runtime.monotonic_ns()
        rests = self._sealed_ns is not None and now_ns - self._sealed_ns < SEAL_INTERVAL_NS
        if rests and machine.state.account_count > SEALED_COUNT_MAX:
            return None
        self._sealed_ns = now_ns
        return Sealed(machine.state)

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
