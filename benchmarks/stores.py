"""What a commit costs: ``python -m benchmarks.stores [FOLDER] [--url URL]`` appends blocks to each store, and reads.

Blocks of plain payments with random ids, 8,192 and 65,536 transfers each, and blocks of one note. SQLite writes below
FOLDER; PostgreSQL, when a URL is given, into schemas that are made in its database and dropped again. Only ``append``
is timed: compressing, writing, syncing. The two stores take turns, three times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import messages
from ledger.genesis import Genesis, GenesisParty, encode, genesis_hash, network_hash
from ledger.journal import Block, seal
from ledger.machine import Draft, Entry, Link
from ledger.runtime import SystemRuntime
from ledger.store import Store, create_store
from ledger.transfers import TRANSFER

RUNS = 3
ACCOUNT_COUNT = 10_000
BLOCKS = {0: 300, 8_192: 100, 65_536: 24}
"""How many blocks of how many transfers."""
SEED = 20_260_101
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
GENESIS = Genesis(
    format=0,
    network="bench",
    ledger="SH",
    created_ns=0,
    test_clock=False,
    assets=(),
    parties=(
        GenesisParty(
            code="node", name="node", roles=("node",), public_key=messages.public_bytes(KEY).hex(), ledger="SH"
        ),
    ),
)


def chain(count: int, transfer_count: int) -> list[Block]:
    """Make ``count`` blocks; each is one note and the transfers it stands for."""
    random = np.random.default_rng(SEED)
    note = messages.statement(
        KEY, network_hash=network_hash(GENESIS), ledger="SH", kind="note", subject="1/1", body=b""
    )
    blocks: list[Block] = []
    position, previous = 0, genesis_hash(GENESIS)
    for height in range(1, count + 1):
        rows = np.zeros(transfer_count, TRANSFER)
        rows["id_hi"], rows["id_lo"] = random.integers(0, 2**63, (2, transfer_count))
        rows["amount"] = random.integers(1, 1_000_000, transfer_count)
        rows["debit"], rows["credit"] = random.integers(1, ACCOUNT_COUNT, (2, transfer_count))
        rows["debit_previous"], rows["credit_previous"] = random.integers(0, position + 1, (2, transfer_count))
        rows["message"], rows["item"], rows["party"] = position, np.arange(transfer_count), 1
        end = position + 1 + transfer_count
        entries = (Entry(note, transfer_count),)
        draft = Draft(height, position, height, 0, entries, rows, ())
        blocks.append(seal(draft, Link(previous, end, bytes(32)), KEY, ledger="SH"))
        position, previous = end, blocks[-1].hash
    return blocks


@contextmanager
def places(folder: Path, url: str | None) -> Iterator[dict[str, str]]:
    """Give an empty place for each store, and sweep it away afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        found = {"sqlite": str(Path(name) / "journal.db")}
        if url is None:
            yield found
            return
        engine = sa.create_engine(url)
        schema = f"bench_{time.time_ns()}"
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
            options = sa.make_url(url).update_query_dict({"options": f"-csearch_path={schema}"})
            yield {**found, "postgresql": options.render_as_string(hide_password=False)}
        finally:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            engine.dispose()


def measure(store: Store, blocks: list[Block]) -> dict[str, float]:
    """Append everything, then read everything: commits a second, MB of bodies a second, milliseconds a commit."""
    times_s = []
    for block in blocks:
        start = time.perf_counter()
        store.append(block)
        times_s.append(time.perf_counter() - start)
    size = sum(len(block.encoded.body) for block in blocks)
    start = time.perf_counter()
    for _ in store.blocks():
        pass
    read_s = time.perf_counter() - start
    return {
        "commits_per_s": len(blocks) / sum(times_s),
        "append_mb_per_s": size / sum(times_s) / 1e6,
        "read_mb_per_s": size / read_s / 1e6,
        "commit_ms_median": 1e3 * statistics.median(times_s),
        "commit_ms_max": 1e3 * max(times_s),
    }


def main() -> None:
    """Measure and print one line of JSON for each store, size of block and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--url", help="a PostgreSQL database: postgresql+psycopg://USER@HOST/DATABASE")
    arguments = parser.parse_args()
    runtime = SystemRuntime()
    for transfer_count, count in BLOCKS.items():
        blocks = chain(count, transfer_count)
        for run in range(1, RUNS + 1):
            with places(arguments.folder, arguments.url) as found:
                for name, place in found.items():
                    store = create_store(place, encode(GENESIS), runtime=runtime)
                    figures = {key: round(value, 2) for key, value in measure(store, blocks).items()}
                    store.close()
                    line = {"store": name, "transfers": transfer_count, "blocks": count, "run": run, **figures}
                    sys.stdout.write(json.dumps(line) + "\n")
                    sys.stdout.flush()
    runtime.close()


if __name__ == "__main__":
    main()
