"""A process that writes a journal and may be killed while it does: ``journal_driver.py PLACE COUNT``.

It opens the store at PLACE, or makes it, submits COUNT payments in groups of four, and prints each answer the moment it
has it. Run again, it submits all of them again; what was journaled gets its first answer. ``HUGANG_CRASH`` kills it.
"""

from __future__ import annotations

import asyncio
import os
import sys

from ledger.machine import Machine
from ledger.messages import Message
from ledger.runtime import CrashPlan, SystemRuntime
from ledger.store import Store, open_store
from ledger.transfers import Flag
from ledger.writer import Writer, open_machine
from tests.ledger_fixture import (
    CREDIT,
    GENESIS_BYTES,
    HASH_KEY,
    FixtureInterpreter,
    open_body,
    private_key,
    statement,
    transfer,
)

GROUP_SIZE = 4


def message(serial: int) -> Message:
    """Give the message with a number: two open accounts, the others pay, hold and refuse in turn."""
    if serial <= 2:
        return statement("alice", "open", open_body(flags=CREDIT), serial=serial)
    flags = Flag.PENDING if serial % 3 == 0 else Flag.NONE
    command = transfer(serial, debit=1, credit=1 if serial % 5 == 0 else 2, amount=serial, flags=flags)
    return statement("alice", "post", command.tobytes(), serial=serial)


async def run(store: Store, runtime: SystemRuntime, count: int) -> None:
    """Submit everything and print the answers."""
    machine: Machine = open_machine(store, FixtureInterpreter, HASH_KEY, compiled=False)
    writer = Writer(machine, store, private_key("node"), runtime)
    await writer.start()

    async def submit(serial: int) -> None:
        answer = await writer.submit(machine.admit(message(serial), at_ns=None))
        sys.stdout.write(f"{serial} {answer.position} {answer.count} {answer.height}\n")
        sys.stdout.flush()

    for first in range(1, count + 1, GROUP_SIZE):
        await asyncio.gather(*(submit(serial) for serial in range(first, min(first + GROUP_SIZE, count + 1))))
    await writer.stop()


def main() -> None:
    """Take the arguments and run."""
    runtime = SystemRuntime(crash_plan=CrashPlan.from_environment(os.environ))
    store = open_store(sys.argv[1], runtime=runtime, genesis=GENESIS_BYTES)
    asyncio.run(run(store, runtime, int(sys.argv[2])))
    store.close()
    runtime.close()


if __name__ == "__main__":
    main()
