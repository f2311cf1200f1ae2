"""The figures behind the decision records: ``python -m benchmarks.decisions`` measures each choice anew.

Ratios are taken within one run, three times; absolute times belong to the machine that printed them.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import merkle, posting
from ledger.accounts import AccountFlag
from ledger.genesis import Genesis, GenesisParty, encode, genesis_hash
from ledger.journal import seal
from ledger.machine import Draft, Link, record_leaves
from ledger.runtime import SystemRuntime
from ledger.state import State
from ledger.store.sqlite import SqliteStore
from ledger.transfers import TRANSFER, Transfers

RUNS = 3
TRANSFER_COUNT = 65_536
ROW_COUNT = 16_384
PLAIN_COUNT = 4_096
ACCOUNT_COUNT = 10_000
SEED = 20_260_101


def workload(count: int, seed: int) -> Transfers:
    """Give ``count`` transfers with random ids between random accounts."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = np.zeros(count, TRANSFER)
    rows["id_hi"], rows["id_lo"] = generator.integers(0, 2**63, (2, count), dtype=np.uint64)
    rows["debit"] = generator.integers(1, ACCOUNT_COUNT + 1, count)
    rows["credit"] = rows["debit"] % ACCOUNT_COUNT + 1
    rows["amount"] = generator.integers(1, 10_000, count)
    rows["party"] = 1
    return rows


def state() -> State:
    """Give a state with accounts that no workload empties."""
    result = State(bytes(range(16)))
    for _ in range(ACCOUNT_COUNT):
        result.open_account(owner=1, asset=1, code=9, flags=AccountFlag.CREDIT_NORMAL)
    return result


def timed(work: Callable[[], object]) -> float:
    """Give the seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rows_against_block() -> dict[str, float]:
    """One row a transfer (Core, executemany) against one block: nanoseconds a transfer, both durable (FULL)."""
    with tempfile.TemporaryDirectory() as name:
        return _rows_against_block(Path(name))


def _rows_against_block(folder: Path) -> dict[str, float]:
    records = workload(TRANSFER_COUNT, SEED)
    engine = sa.create_engine(f"sqlite:///{folder / 'rows.db'}")
    table = sa.Table(
        "transfers",
        sa.MetaData(),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        *(sa.Column(name, sa.BigInteger) for name in ("debit", "credit", "amount")),
    )
    table.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
    columns = (records["id_hi"], records["id_lo"], records["debit"], records["credit"], records["amount"])
    values = [
        {"id": high.tobytes() + low.tobytes(), "debit": int(debit), "credit": int(credit), "amount": int(amount)}
        for high, low, debit, credit, amount in zip(*(column[:ROW_COUNT] for column in columns), strict=True)
    ]

    def insert() -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(table), values)

    row_s = timed(insert)
    engine.dispose()
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    node = GenesisParty(
        code="node", name="node", roles=("node",), public_key=key.public_key().public_bytes_raw().hex(), ledger="SH"
    )
    genesis = Genesis(
        format=0, network="bench", ledger="SH", created_ns=0, test_clock=False, assets=(), parties=(node,)
    )
    store = SqliteStore.create(folder / "blocks.db", encode(genesis), runtime=SystemRuntime())
    draft = Draft(1, 0, 1, TRANSFER_COUNT, (), records, ())
    link = Link(genesis_hash(genesis), TRANSFER_COUNT, bytes(32))
    block_s = timed(lambda: store.append(seal(draft, link, key, ledger="SH")))
    store.close()
    row_ns, block_ns = 1e9 * row_s / ROW_COUNT, 1e9 * block_s / TRANSFER_COUNT
    return {"row_ns": row_ns, "block_ns": block_ns, "ratio": row_ns / block_ns}


def kernel_against_loop() -> dict[str, float]:
    """The compiled kernel against the same source as a plain loop: nanoseconds a transfer, full semantics."""
    posting.post(state(), workload(16, 1), timestamp_ns=1, first_position=0)
    money = state()
    commands = workload(TRANSFER_COUNT, SEED)
    compiled_s = timed(lambda: posting.post(money, commands, timestamp_ns=1, first_position=0))
    money = state()
    few = workload(PLAIN_COUNT, SEED)
    plain_s = timed(lambda: posting.post(money, few, timestamp_ns=1, first_position=0, compiled=False))
    compiled_ns, plain_ns = 1e9 * compiled_s / TRANSFER_COUNT, 1e9 * plain_s / PLAIN_COUNT
    return {"compiled_ns": compiled_ns, "plain_ns": plain_ns, "ratio": plain_ns / compiled_ns}


def leaves_against_one_hash() -> dict[str, float]:
    """A leaf hash for every record against one hash over the block: nanoseconds a transfer."""
    records = workload(TRANSFER_COUNT, SEED)
    record_leaves(records[:64])
    leaves_s = timed(lambda: merkle.Frontier().append_many(record_leaves(records)))
    whole_s = timed(lambda: merkle.leaf_hash(records.tobytes()))
    leaves_ns, whole_ns = 1e9 * leaves_s / TRANSFER_COUNT, 1e9 * whole_s / TRANSFER_COUNT
    return {"leaves_ns": leaves_ns, "one_hash_ns": whole_ns, "ratio": leaves_ns / whole_ns}


def signatures_a_second() -> dict[str, float]:
    """Ed25519 on one core: signatures and verifications a second over a 700-byte base."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    base, count = bytes(700), 2_000
    signature = key.sign(base)
    public = key.public_key()
    sign_s = timed(lambda: [key.sign(base) for _ in range(count)])
    verify_s = timed(lambda: [public.verify(signature, base) for _ in range(count)])
    return {"sign_per_s": count / sign_s, "verify_per_s": count / verify_s, "ratio": verify_s / sign_s}


def main() -> int:
    """Measure everything three times and print the medians and all runs as JSON."""
    result: dict[str, object] = {"machine": platform.machine(), "python": platform.python_version(), "seed": SEED}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result["commit"] = commit.stdout.strip() or "unknown"
    for name, measure in (
        ("rows_against_block", rows_against_block),
        ("kernel_against_loop", kernel_against_loop),
        ("leaves_against_one_hash", leaves_against_one_hash),
        ("signatures", signatures_a_second),
    ):
        runs = [measure() for _ in range(RUNS)]
        result[name] = {
            key: {"median": statistics.median(run[key] for run in runs), "runs": [round(run[key], 1) for run in runs]}
            for key in runs[0]
        }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
