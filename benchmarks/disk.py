"""P11: bytes on disk a transfer, everything in the node's folder counted.

A journal of binary messages is written, its tree of tiles brought up to date, and the node stopped, which moves
SQLite's log into the database. Then the sizes of all files are added up: the database with its indexes, the tiles,
snapshots if there are any, settings and keys, and with them the bank's 10,000 accounts. There are two journals: ids in
order of time, and random 128-bit ids.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.bank import CONDITIONS, Workload, batches, send, working_bank
from benchmarks.figures import SEED, Figure, Form, demand, figure, part, rounded
from gateway.serve import run

__all__ = ["measure"]

BATCH = 65_536
TRANSFER_COUNT = {Form.TINY: 2**17, Form.SHORT: 2**20, Form.FULL: 2**23}
GROUP_COUNT = 2**20
DISK_PER_TRANSFER, MEMORY_SIZE = 120, 2**31


def measure(*, runs: int, form: Form) -> Figure:
    """Give the bytes a transfer, for ids in order of time and, beside it, for random ones."""
    total = TRANSFER_COUNT[form]
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(runs):
        for has_random_ids, sizes in found.items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                demand(memory_size=MEMORY_SIZE, disk_size=DISK_PER_TRANSFER * total, folder=folder)
                sizes.append(run(_bytes(folder, Workload(has_random_ids=has_random_ids), total)))
    return figure(
        [sizes["all"] for sizes in found[False]],
        unit="bytes/transfer",
        conditions={
            **CONDITIONS,
            "seed": SEED,
            "batch": BATCH,
            "accounts": Workload().account_count,
            "transfers": total,
        },
        stages=found[False][-1],
        random_ids=part([sizes["all"] for sizes in found[True]], stages=found[True][-1]),
    )


async def _bytes(folder: Path, workload: Workload, total: int) -> dict[str, float]:
    """Give the bytes a transfer of each file in a node's folder, and of all together."""
    async with working_bank(folder / "network", workload.account_count) as bank:
        for start in range(0, total, GROUP_COUNT):
            count = min(GROUP_COUNT, total - start)
            commands = batches(bank, workload, batch=BATCH, total=count, first_id=1 + start)
            await send(bank, [bank.message(batch) for batch in commands])
        node = bank.side.node
        await node.writer.read(lambda machine: node.tiles.take(machine.frontier))
    files = sorted(path for path in (folder / "network" / "sh").rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder / "network" / "sh")): path.stat().st_size / total for path in files}
    return {name: rounded(size) for name, size in {"all": sum(sizes.values()), **sizes}.items()}
