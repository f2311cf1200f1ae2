"""The engine alone, in one process: signed binary messages of book transfers, eight under way.

Every message is signed by its sender and verified; ids, limits and balances are checked by the kernel; every record is
a leaf of the tree; every block is sealed, compressed and committed (``synchronous=FULL``) before anybody is answered.
Signing is the client's work and done before the clock starts; the clock ends with the last answer.

=====  ==========================================================================================================
P1     plain transfers between 10,000 accounts, ids in order of time; batches of 8,192 and of 65,536
P2     the same over 16 accounts
P3     chains of two; and holds that are made in one message and posted in the next
P4     plain transfers with random 128-bit ids
=====  ==========================================================================================================
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.settlement import POSITION, Side
from gateway.config import init_network
from ledger import columns
from ledger.messages import Message, public_bytes
from ledger.runtime import ManualRuntime, SystemRuntime
from ledger.transfers import Flag, Transfers, transfers

__all__ = ["WORKLOADS", "measure"]

SEED = 20_260_101
WORKLOADS = ("P1", "P2", "P3", "P4")
FLIGHT_COUNT = 8
BATCH_LARGE, BATCH_SMALL = 65_536, 8_192
ACCOUNT_COUNT = {"P1": 10_000, "P2": 16, "P3": 10_000, "P4": 10_000}
ACCOUNTS_A_MESSAGE = 5_000
FUNDS = 10**11
TRANSFER_COUNT = {False: 2**20, True: 2**23}
"""Transfers of one timed run: short and full."""


class Bank:
    """One participant with many accounts of its own on a fresh Shanghai node."""

    def __init__(self, side: Side, layout: Any, account_count: int) -> None:
        """Stand before anything is opened."""
        self.side = side
        self.ring = layout.keys()
        self.key = Ed25519PrivateKey.from_private_bytes(ManualRuntime(seed=SEED).random_bytes(32))
        self.account_count = account_count
        self.first = 0

    async def open(self) -> None:
        """Register, join, open accounts, issue and fund; none of it is measured."""
        side, count = self.side, self.account_count
        party = {
            "code": "BENCHCN0",
            "name": "Bench",
            "roles": ["participant", "operator"],
            "public_key": public_bytes(self.key).hex(),
        }
        await side.post(self.ring.registrar_sh, "/v1/parties", {"parties": [party]})
        joined = await side.post(self.key, "/v1/participants", {"assets": ["CNY"]})
        position = side.node.book.openings[joined.position][POSITION]
        for start in range(0, count, ACCOUNTS_A_MESSAGE):
            wanted = [{"owner": "BENCHCN0", "asset": "CNY"}] * min(ACCOUNTS_A_MESSAGE, count - start)
            opened = await side.post(self.key, "/v1/accounts", {"accounts": wanted})
            if not start:
                self.first = side.node.book.openings[opened.position][0]
        money = {"asset": "CNY", "amount": str(FUNDS * count)}
        issuance = {"id": str(side.runtime.uuid4()), "participant": "BENCHCN0", "money": money}
        await side.post(self.ring.pboc, "/v1/issuances", {"issuances": [issuance]})
        funding = transfers(count)
        funding["id_hi"], funding["id_lo"] = 2**63, np.arange(count)
        funding["amount"], funding["debit"] = FUNDS, position
        funding["credit"] = self.first + np.arange(count)
        await side.submit(self.message(funding))

    def message(self, commands: Transfers) -> Message:
        """Sign transfers as one message."""
        return self.side.request(self.key, "/v1/transfers", columns.encode(commands))

    def plain(self, draw: np.random.Generator, count: int, first_id: int | None) -> Transfers:
        """Give transfers between two different accounts each; random ids for ``None``."""
        commands = transfers(count)
        if first_id is None:
            commands["id_hi"], commands["id_lo"] = draw.integers(0, 2**63, (2, count), dtype=np.uint64)
        else:
            commands["id_hi"], commands["id_lo"] = 1, np.arange(first_id, first_id + count)
        payer = draw.integers(0, self.account_count, count)
        payee = (payer + draw.integers(1, self.account_count, count)) % self.account_count
        commands["debit"], commands["credit"] = self.first + payer, self.first + payee
        commands["amount"] = draw.integers(1, 10_000, count)
        return commands


def _batches(bank: Bank, name: str, *, batch: int, total: int, seed: int) -> Iterator[Transfers]:
    """Give a workload's batches; all follow from the seed."""
    draw = np.random.Generator(np.random.PCG64(seed))
    for number in range(total // batch):
        first_id = None if name == "P4" else 1 + number * batch
        commands = bank.plain(draw, batch, first_id)
        if name == "P3 chains":
            commands["flags"][::2] = Flag.LINKED
        if name == "P3 pending and post":
            half = batch // 2
            commands["flags"][:half] = Flag.PENDING
            commands["flags"][half:] = Flag.POST
            commands["related_hi"][half:], commands["related_lo"][half:] = (
                commands["id_hi"][:half],
                commands["id_lo"][:half],
            )
            for column in ("debit", "credit", "amount"):
                commands[column][half:] = 0
        yield commands


async def _timed(bank: Bank, messages: list[Message]) -> float:
    """Send messages, a few under way at any moment; gives the seconds until the last answer."""
    waiting = iter(messages)

    async def send() -> None:
        for message in waiting:
            await bank.side.submit(message)

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(FLIGHT_COUNT)))
    return time.perf_counter() - started


async def _run(name: str, *, batch: int, total: int, seed: int, folder: Path) -> float:
    """Give the transfers a second of one run on a fresh ledger; every one of them must have been applied."""
    runtime = SystemRuntime()
    layout = init_network(folder, runtime)
    side = Side(layout.node("SH"), runtime)
    await side.node.start()
    try:
        bank = Bank(side, layout, ACCOUNT_COUNT[name[:2]])
        await bank.open()
        messages = [bank.message(commands) for commands in _batches(bank, name, batch=batch, total=total, seed=seed)]
        before = len(side.node.machine.state.registry)
        spent_s = await _timed(bank, messages)
        state = side.node.machine.state
        state.check()
        if len(state.registry) - before != total or state.hold_count:
            raise SystemExit(f"{name}: not every transfer was taken")
    finally:
        await side.node.stop()
    return total / spent_s


def measure(name: str, *, runs: int, full: bool, seed: int = SEED) -> dict[str, Any]:
    """Measure one workload several times, each time on a fresh ledger; transfers a second."""
    parts = {"P3": ("P3 chains", "P3 pending and post")}.get(name, (name,))
    sizes = (BATCH_LARGE, BATCH_SMALL) if name == "P1" else (BATCH_LARGE,)
    figures: dict[str, list[int]] = {}
    for part in parts:
        for batch in sizes:
            label = part if len(sizes) == 1 else f"{part} {batch}"
            figures[label] = []
            for _ in range(runs):
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder, "network")
                    speed = asyncio.run(_run(part, batch=batch, total=TRANSFER_COUNT[full], seed=seed, folder=place))
                figures[label].append(round(speed))
    first, *others = figures
    return {
        "value": sorted(figures[first])[runs // 2],
        "unit": "transfers/s",
        "runs": figures[first],
        **{label: {"value": sorted(figures[label])[runs // 2], "runs": figures[label]} for label in others},
        "conditions": {
            "seed": seed,
            "transfers_a_run": TRANSFER_COUNT[full],
            "messages_under_way": FLIGHT_COUNT,
            "store": "SQLite, synchronous=FULL",
        },
    }
