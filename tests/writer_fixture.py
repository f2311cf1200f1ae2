"""A writer with all that it stands on, in memory and with hand-moved time unless told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ledger import journal
from ledger.machine import Admitted, Answer, Machine
from ledger.messages import Message
from ledger.runtime import ManualRuntime, Runtime
from ledger.store import MemoryStore, Store
from ledger.transfers import Flag
from ledger.writer import Writer
from tests.ledger_fixture import (
    CREDIT,
    GENESIS_BYTES,
    make_machine,
    make_runtime,
    open_body,
    private_key,
    statement,
    transfer,
)

ACCOUNTS = (
    statement("alice", "open", open_body(flags=CREDIT), serial=1),
    statement("bob", "open", open_body(), serial=2),
)


def payment(identifier: int, *, amount: int = 5, flags: Flag = Flag.NONE, timeout_s: int = 0) -> Message:
    """Give a message that moves money from Alice to Bob."""
    command = transfer(identifier, debit=1, credit=2, amount=amount, flags=flags, timeout_s=timeout_s)
    return statement("alice", "post", command.tobytes(), serial=identifier)


def note(serial: int, signer: str = "alice") -> Message:
    """Give a message that derives nothing."""
    return statement(signer, "note", b"", serial=serial)


class Node:
    """A writer with all that it stands on."""

    def __init__(self, runtime: Runtime, store: Store, machine: Machine, **limits: int) -> None:
        self.runtime = runtime
        self.store = store
        self.machine = machine
        self.writer = Writer(machine, store, private_key("node"), runtime, **limits)

    def admit(self, message: Message) -> Admitted:
        """Admit as a gateway does."""
        return self.machine.admit(message, at_ns=self.runtime.now_ns())

    async def submit(self, message: Message) -> Answer:
        """Admit and submit."""
        return await self.writer.submit(self.admit(message))

    async def submit_all(self, *messages: Message) -> list[Any]:
        """Submit together; failures are given, not raised."""
        waiting = [self.writer.submit(self.admit(message)) for message in messages]
        return await asyncio.gather(*waiting, return_exceptions=True)

    def heights(self) -> list[tuple[int, int]]:
        """Give the messages and the transfers of each block."""
        headers = [journal.decode_header(encoded.header) for encoded in self.store.blocks()]
        return [(header.entry_count, header.transfer_count) for header in headers]


@asynccontextmanager
async def running(
    *, runtime: ManualRuntime | None = None, store: Store | None = None, machine: Machine | None = None, **limits: int
) -> AsyncIterator[Node]:
    """Run a writer in memory, with hand-moved time unless told otherwise."""
    world = make_runtime() if runtime is None else runtime
    place = MemoryStore(GENESIS_BYTES, runtime=world) if store is None else store
    node = Node(world, place, make_machine() if machine is None else machine, **limits)
    await node.writer.start()
    try:
        yield node
    finally:
        await node.writer.stop()
