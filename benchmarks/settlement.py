"""A CIPS-shaped day, settled between two nodes in one process, by stage: ``python -m benchmarks.settlement``.

Both nodes keep their journals in SQLite files with synced commits; every message is signed and verified; the
settlement operator drives the same statements as in production, without HTTP between. Each run lays out a new network,
funds the participants through a first window, takes the day as one signed message a participant, and settles it.
Net positions are compared with the workload's own before a figure is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import LEDGERS, KeyRing, init_network, network_folder
from gateway.node import Node
from gateway.serve import leave_modules_alone, run
from ledger import signatures
from ledger.accounts import address
from ledger.messages import Kind, Message, key_id_of, public_bytes
from ledger.runtime import ManualRuntime, Runtime, SystemRuntime
from settlement import coordinator
from settlement.bodies import ITEM_COUNT_MAX
from settlement.conduct import Conduct
from settlement.workload import PARTICIPANT_COUNT, PAYMENT_COUNT, SEED, Day, wholesale_day

__all__ = ["main", "measure"]

POSITION = 3
"""Place of the POSITION account among those that joining opens."""

T = TypeVar("T")


class Side:
    """One node with its side of the cycle."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        """Open the node that lies in a folder."""
        self.node = Node.open(folder, runtime)
        self.runtime = runtime
        self.conduct = Conduct(
            machine=self.node.machine,
            book=self.node.book,
            writer=self.node.writer,
            private_key=self.node.private_key,
            runtime=runtime,
        )

    def request(self, key: Ed25519PrivateKey, path: str, content: object) -> Message:
        """Sign a request: JSON, or bytes as they are."""
        is_binary = isinstance(content, bytes)
        body = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
        created = self.runtime.now_ns() // 10**9
        base = signatures.signature_base(
            method="POST",
            authority="127.0.0.1",
            path=path,
            created=created,
            expires=created + 60,
            key_id=key_id_of(public_bytes(key)),
            genesis_hash=self.node.machine.genesis_hash,
            content_type="application/octet-stream" if is_binary else "application/json",
            content_digest=signatures.content_digest(body),
            idempotency_key=str(self.runtime.uuid4()),
        )
        return Message(Kind.REQUEST, base, signatures.sign(key, base), body)

    async def submit(self, message: Message) -> Any:
        """Admit a message on a thread and journal it."""
        admitted = await self.runtime.offload(self.node.machine.admit, message, at_ns=self.runtime.now_ns())
        return await self.node.writer.submit(admitted)

    async def post(self, key: Ed25519PrivateKey, path: str, content: object) -> Any:
        """Sign and journal a request."""
        return await self.submit(self.request(key, path, content))


class Run:
    """One measured run."""

    def __init__(self, day: Day) -> None:
        """Measure this day."""
        self.day = day
        self.stages_s: dict[str, float] = {}
        # Keys follow from the seed: making them is no part of what is measured.
        draw = ManualRuntime(seed=day.seed)
        self.keys = [Ed25519PrivateKey.from_private_bytes(draw.random_bytes(32)) for _ in day.participants]
        self.addresses: list[str] = []

    async def measure(self, folder: Path) -> dict[str, Any]:
        """Open a network in ``folder``, take the day and settle it."""
        runtime = SystemRuntime()
        layout = init_network(folder, runtime)
        self.ring: KeyRing = network_folder(folder).keys()
        sides = {ledger: Side(layout.node(ledger), runtime) for ledger in LEDGERS}
        async with AsyncExitStack() as stack:
            for side in sides.values():
                await side.node.start()
                stack.push_async_callback(side.node.stop)
            await self._open(sides)
            leave_modules_alone()
            first = await self._settle(sides, 1, runtime)
            signed = self._sign(sides)
            await self._timed("hold", self._take(signed))
            second = await self._settle(sides, 2, runtime)
        self._compare(first, second)
        for stage, spent_ns in second.stages_ns.items():
            self.stages_s[f"cycle: {stage}"] = spent_ns / 1e9
        settle_s = sum(spent_ns for spent_ns in second.stages_ns.values()) / 1e9
        totals = second.window.assets["CNY"]
        return {
            "payments": second.window.settled,
            "gross": str(totals.gross),
            "net": str(totals.net),
            "saved_bp": totals.saving_bp,
            "stages_s": {name: round(value, 4) for name, value in self.stages_s.items()},
            "settle_s": round(settle_s, 4),
            "hold_and_settle_s": round(settle_s + self.stages_s["hold"], 4),
            "payments_per_s": round(second.window.settled / (settle_s + self.stages_s["hold"])),
        }

    async def _open(self, sides: dict[str, Side]) -> None:
        """Register, join, issue and fund; none of it is measured."""
        funding = self.day.funding()
        registrars = {"SH": self.ring.registrar_sh, "HK": self.ring.registrar_hk}
        for ledger, side in sides.items():
            mine = [participant for participant in self.day.participants if participant.ledger == ledger]
            parties = [
                {
                    "code": participant.bic,
                    "name": participant.name,
                    "roles": ["participant"],
                    "public_key": public_bytes(self.keys[participant.index]).hex(),
                }
                for participant in mine
            ]
            await side.post(registrars[ledger], "/v1/parties", {"parties": parties})
            answers = await asyncio.gather(
                *(
                    side.post(self.keys[participant.index], "/v1/participants", {"assets": ["CNY"]})
                    for participant in mine
                )
            )
            openings = side.node.book.openings
            self.addresses += [address(ledger, openings[answer.position][POSITION]) for answer in answers]
        shanghai = sides["SH"]
        home = [participant for participant in self.day.participants if participant.ledger == "SH"]
        issuances = [
            {
                "id": str(shanghai.runtime.uuid4()),
                "participant": participant.bic,
                "money": {"asset": "CNY", "amount": str(int(funding[participant.index]))},
            }
            for participant in home
            if funding[participant.index]
        ]
        await shanghai.post(self.ring.pboc, "/v1/issuances", {"issuances": issuances})
        payments = [
            {
                "uetr": str(shanghai.runtime.uuid4()),
                "debtor": address("SH", 1),
                "creditor": self.addresses[participant.index],
                "money": {"asset": "CNY", "amount": str(int(funding[participant.index]))},
            }
            for participant in self.day.participants[len(home) :]
            if funding[participant.index]
        ]
        await shanghai.post(self.ring.pboc, "/v1/batches", {"payments": payments})

    def _sign(self, sides: dict[str, Side]) -> list[tuple[Side, Message]]:
        """Write and sign the day's messages: the clients' work."""
        started = time.perf_counter()
        signed = []
        for participant in self.day.participants:
            rows = self.day.of_payer(participant.index)
            for start in range(0, len(rows), ITEM_COUNT_MAX):
                payments = self._bodies(participant.index, rows[start : start + ITEM_COUNT_MAX])
                side = sides[participant.ledger]
                message = side.request(self.keys[participant.index], "/v1/batches", {"payments": payments})
                signed.append((side, message))
        self.stages_s["sign"] = time.perf_counter() - started
        return signed

    def _bodies(self, payer: int, rows: Any) -> list[dict[str, Any]]:
        texts = [
            f"{high:016x}{low:016x}"
            for high, low in zip(rows["uetr_hi"].tolist(), rows["uetr_lo"].tolist(), strict=True)
        ]
        return [
            {
                "uetr": f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}",
                "debtor": self.addresses[payer],
                "creditor": self.addresses[payee],
                "money": {"asset": "CNY", "amount": str(amount)},
            }
            for text, payee, amount in zip(texts, rows["payee"].tolist(), rows["amount"].tolist(), strict=True)
        ]

    async def _take(self, signed: list[tuple[Side, Message]]) -> None:
        """Verify, hold and commit every message of the day."""
        await asyncio.gather(*(side.submit(message) for side, message in signed))

    async def _settle(self, sides: dict[str, Side], window: int, runtime: Runtime) -> coordinator.CycleReport:
        ports = {ledger: side.conduct for ledger, side in sides.items()}
        network_hash = sides["SH"].node.machine.network_hash
        return await coordinator.run_cycle(
            ports, key=self.ring.settlement, network_hash=network_hash, window=window, runtime=runtime
        )

    async def _timed(self, name: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = await work
        self.stages_s[name] = time.perf_counter() - started
        return result

    def _compare(self, first: coordinator.CycleReport, second: coordinator.CycleReport) -> None:
        """Hold what settled against the workload's own arithmetic."""
        codes = {participant.bic: participant.index for participant in self.day.participants}
        found = {codes[net.participant]: net.amount for net in second.window.nets if net.asset == "CNY"}
        expected = {index: net for index, net in enumerate(self.day.net().tolist()) if net}
        if second.window.settled != len(self.day.payments) or found != expected:
            sys.exit("the nodes settled something else than was sent")
        if sum(net.amount for net in first.window.nets) or sum(found.values()):
            sys.exit("net positions do not sum to zero (I6)")


def measure(day: Day, *, runs: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure a day several times, each time on a fresh network."""
    results = []
    for number in range(1, runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(Run(day).measure(Path(folder) / "network")))
        progress(
            f"run {number}: settled in {results[-1]['settle_s']} s, with holds {results[-1]['hold_and_settle_s']} s"
        )
    return {
        "workload": {"seed": day.seed, "payments": len(day.payments), "participants": len(day.participants)},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "runs": results,
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Settle a CIPS-shaped day and say how long each stage takes.")
    parser.add_argument("--payments", type=int, default=PAYMENT_COUNT)
    parser.add_argument("--participants", type=int, default=PARTICIPANT_COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    day = wholesale_day(options.seed, payment_count=options.payments, participant_count=options.participants)
    found = measure(day, runs=options.runs, progress=lambda text: print(text, file=sys.stderr))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{options.payments:,} payments, {options.participants} participants, seed {options.seed}")
    names = list(found["runs"][0]["stages_s"])
    for name in [*names, "settle_s", "hold_and_settle_s"]:
        values = [run["stages_s"].get(name, run.get(name)) for run in found["runs"]]
        print(f"  {name:24}" + "".join(f"{value:>10.3f}" for value in values))


if __name__ == "__main__":
    main()
