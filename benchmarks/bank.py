"""One participant with many accounts on a fresh Shanghai node, and the transfers it sends: what most figures rest on.

Everything is as in production: every message is signed by its sender and verified; ids, limits and balances are checked
by the kernel; every record is a leaf of the tree; every block is sealed, compressed and committed
(``synchronous=FULL``) before anybody is answered. Only HTTP is missing. All transfers follow from a seed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.figures import SEED
from benchmarks.settlement import POSITION, Side
from gateway.config import NODE_FILE, NetworkFolder, init_network
from gateway.serve import leave_modules_alone
from gateway.supervisor import free_ports
from ledger import columns
from ledger.messages import Message, public_bytes
from ledger.runtime import ManualRuntime, SystemRuntime
from ledger.transfers import Flag, Transfers, transfers

__all__ = [
    "CONDITIONS",
    "FLIGHT_COUNT",
    "Bank",
    "Workload",
    "batches",
    "clear_network",
    "commands_of",
    "send",
    "working_bank",
]

FLIGHT_COUNT = 8
"""Messages under way at any moment."""
ACCOUNTS_A_MESSAGE = 5_000
FUNDS = 10**11
AMOUNT_END = 10_000
_FUNDING_ID = 2**63
CONDITIONS = {
    "store": "SQLite, synchronous=FULL",
    "messages": "signed and verified",
    "checks": "ids, limits, balances",
    "blocks": "leaf hashes, tree, signature",
    "messages_under_way": FLIGHT_COUNT,
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent.

    ``hot_share`` of the transfers debit one account, the others any. ``chains`` are of two; in ``pending_post`` the
    second half of each message posts the holds that the first half makes.
    """

    account_count: int = 10_000
    has_random_ids: bool = False
    hot_share: float = 0.0
    kind: str = "plain"


class Bank:
    """The participant. Everything it does happens on the event loop on which its node was started."""

    def __init__(self, side: Side, layout: NetworkFolder, account_count: int) -> None:
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
        for start in range(0, count, columns.COUNT_MAX):
            numbers = np.arange(start, min(start + columns.COUNT_MAX, count))
            funding = transfers(len(numbers))
            funding["id_hi"], funding["id_lo"] = _FUNDING_ID, numbers
            funding["amount"], funding["debit"], funding["credit"] = FUNDS, position, self.first + numbers
            await side.submit(self.message(funding))

    def message(self, commands: Transfers) -> Message:
        """Sign transfers as one message."""
        return self.side.request(self.key, "/v1/transfers", columns.encode(commands))

    @property
    def transfer_count(self) -> int:
        """How many ids have been used up."""
        return len(self.side.node.machine.state.registry)

    @property
    def moved(self) -> int:
        """How much has been debited, over all accounts and for ever; read it when nothing is under way."""
        return sum(total.debits_posted for total in self.side.node.machine.state.trial_balance())


def commands_of(
    workload: Workload, draw: np.random.Generator, count: int, *, first_id: int, first_account: int
) -> Transfers:
    """Give a message's transfers, between two different accounts each; ids in order of time, or random."""
    commands = transfers(count)
    if workload.has_random_ids:
        commands["id_hi"], commands["id_lo"] = draw.integers(0, 2**64 - 1, (2, count), np.uint64, endpoint=True)
    else:
        commands["id_hi"], commands["id_lo"] = 1, np.arange(first_id, first_id + count)
    payer = draw.integers(0, workload.account_count, count)
    payer[draw.random(count) < workload.hot_share] = 0
    payee = (payer + draw.integers(1, workload.account_count, count)) % workload.account_count
    commands["debit"], commands["credit"] = first_account + payer, first_account + payee
    commands["amount"] = draw.integers(1, AMOUNT_END, count)
    if workload.kind == "chains":
        commands["flags"][::2] = Flag.LINKED
    if workload.kind == "pending_post":
        _pend(commands)
    return commands


def batches(
    bank: Bank, workload: Workload, *, batch: int, total: int, first_id: int = 1, seed: int = SEED
) -> Iterator[Transfers]:
    """Give a workload's messages, of ``batch`` transfers or of the largest size that a message has, whichever is less.

    Ids begin at ``first_id``, and the draw with it: whoever goes on behind an earlier call gets other transfers.
    """
    draw = np.random.Generator(np.random.PCG64([seed, first_id]))
    for start in range(0, total, batch):
        for cut in range(0, batch, columns.COUNT_MAX):
            count = min(columns.COUNT_MAX, batch - cut)
            identifier = first_id + start + cut
            yield commands_of(workload, draw, count, first_id=identifier, first_account=bank.first)


def _pend(commands: Transfers) -> None:
    """Let the second half of some transfers post what the first half holds."""
    half = len(commands) // 2
    commands["flags"][:half], commands["flags"][half:] = Flag.PENDING, Flag.POST
    for name in ("hi", "lo"):
        commands[f"related_{name}"][half:] = commands[f"id_{name}"][:half]
    for column in ("debit", "credit", "amount"):
        commands[column][half:] = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What sending has come to: seconds on the wall and of all processors, and the instant of each answer."""

    wall_s: float
    cpu_s: float
    answered_s: tuple[float, ...]

    @property
    def longest_pause_s(self) -> float:
        """The longest time between two answers, one after the other."""
        return max((after - before for before, after in itertools.pairwise(self.answered_s)), default=0)


async def send(bank: Bank, messages: Sequence[Message], *, flight_count: int = FLIGHT_COUNT) -> Sent:
    """Send messages, a few under way at any moment, until the last is answered."""
    waiting = iter(messages)
    answered_s: list[float] = []

    async def sender() -> None:
        for message in waiting:
            await bank.side.submit(message)
            answered_s.append(time.perf_counter())

    cpu_s, started_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(flight_count)))
    return Sent(time.perf_counter() - started_s, time.process_time() - cpu_s, tuple(answered_s))


def clear_network(folder: Path) -> NetworkFolder:
    """Lay a network out on ports that nobody uses."""
    return init_network(folder, SystemRuntime(), ports=free_ports())


@asynccontextmanager
async def working_bank(folder: Path, account_count: int, *, database: str = "") -> AsyncIterator[Bank]:
    """Make a network in a new folder, start its Shanghai node, and open and fund the bank's accounts there.

    The node's journal lies in its folder, or in the database whose URL is given.
    """
    layout, runtime = clear_network(folder), SystemRuntime()
    if database:
        settings = layout.node("SH") / NODE_FILE
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"database": database}))
    side = Side(layout.node("SH"), runtime)
    await side.node.start()
    try:
        bank = Bank(side, layout, account_count)
        await bank.open()
        leave_modules_alone()
        yield bank
    finally:
        await side.node.stop()
        runtime.close()
