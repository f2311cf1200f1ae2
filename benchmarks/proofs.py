"""What proofs cost a running node: ``python -m benchmarks.proofs [LEAVES ...]`` makes journals and asks them.

A journal has blocks of 65,536 transfers of one message each and, at its end, a thousand blocks of one payment, as a
node makes them when nobody else is there. It lies in a SQLite file. Printed are, for each size: what the projection
costs a leaf (taken from the frontier; made from stored blocks), what opening costs, and how long proofs take: of leaves
whose tile was not in memory, of the newest leaf, and between two random sizes. Three runs; the middle one counts. All
times are processor time: on a shared machine the clock on the wall measures the others.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import journal, merkle
from ledger.genesis import Genesis, GenesisParty, encode, genesis_hash
from ledger.machine import Draft, Entry, Link, block_leaves
from ledger.messages import Message, public_bytes, statement
from ledger.runtime import SystemRuntime
from ledger.store import SqliteStore
from ledger.tiles import Tiles
from ledger.transfers import TRANSFER, Transfers

RUNS = 3
LARGE_COUNT = 65_535
SMALL_BLOCK_COUNT = 1_000
PROOF_COUNT = 300
SEED = 20_260_101
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
GENESIS = Genesis(
    format=0,
    network="hugang-bench",
    ledger="SH",
    created_ns=1,
    test_clock=True,
    assets=(),
    parties=(GenesisParty(code="NODE", name="Node", roles=("node",), public_key=public_bytes(KEY).hex(), ledger="SH"),),
)


def records_of(random: np.random.Generator, count: int) -> Transfers:
    """Give records with random ids between random accounts."""
    rows = np.zeros(count, TRANSFER)
    rows["id_hi"], rows["id_lo"] = random.integers(0, 2**63, (2, count))
    rows["debit"], rows["credit"] = random.integers(1, 10_000, (2, count))
    rows["amount"] = random.integers(1, 1_000_000, count)
    return rows


def note(number: int) -> Message:
    """Sign a message that stands for a payment."""
    subject = f"{number}/0"
    return statement(KEY, network_hash=bytes(32), ledger="SH", kind="note", subject=subject, body=bytes(250))


def fill(store: SqliteStore, leaf_count: int) -> tuple[merkle.Frontier, int]:
    """Append blocks until there are about so many leaves; gives the frontier and the nanoseconds its tree took."""
    random, frontier, spent_ns = np.random.default_rng(SEED), merkle.Frontier(), 0
    previous = genesis_hash(GENESIS)
    large = max(0, leaf_count - 2 * SMALL_BLOCK_COUNT) // (LARGE_COUNT + 1)
    for height, count in enumerate([LARGE_COUNT] * large + [1] * SMALL_BLOCK_COUNT, 1):
        first, message, records = frontier.size, note(height), records_of(random, count)
        leaves = block_leaves(0, [Entry(message, count)], records)
        started_ns = time.process_time_ns()
        frontier.append_many(leaves)
        spent_ns += time.process_time_ns() - started_ns
        draft = Draft(
            height=height,
            first_position=first,
            timestamp_ns=1 + height,
            expired_count=0,
            entries=(Entry(message, count),),
            transfers=records,
            outcomes=(),
        )
        block = journal.seal(draft, Link(previous, frontier.size, frontier.root()), KEY, ledger="SH")
        previous = block.hash
        store.append(block)
    return frontier, spent_ns


def middle_us(ask: Callable[[int], object], values: list[int]) -> tuple[int, int]:
    """Time a question for each value; gives the median and the 99th percentile in microseconds."""
    spent = []
    for value in values:
        started_ns = time.process_time_ns()
        ask(value)
        spent.append((time.process_time_ns() - started_ns) // 1000)
    return int(statistics.median(spent)), sorted(spent)[len(spent) * 99 // 100]


def say(what: str, ask: Callable[[int], object], values: list[int]) -> None:
    """Print how long a question takes."""
    middle, last = middle_us(ask, values)
    print(f"  {what}: median {middle:,} us, p99 {last:,} us")


def measured_ns(work: Callable[[], object]) -> int:
    """Time something ``RUNS`` times; gives the middle one in nanoseconds."""
    spent = []
    for _ in range(RUNS):
        started_ns = time.process_time_ns()
        work()
        spent.append(time.process_time_ns() - started_ns)
    return sorted(spent)[RUNS // 2]


def measure(leaf_count: int, folder: Path) -> None:
    """Make one journal and print its figures."""
    store = SqliteStore.create(folder / "journal.db", encode(GENESIS), runtime=SystemRuntime())
    frontier, tree_ns = fill(store, leaf_count)
    size, path = frontier.size, folder / "tree.tiles"
    print(f"{size:,} leaves; the tree itself {tree_ns // size} ns a leaf")
    _, roots = frontier.take_tile_roots()

    def take() -> None:
        path.unlink(missing_ok=True)
        again = merkle.Frontier()
        again._size, again._tile_roots = size, bytearray(roots)  # noqa: SLF001 - as if it had just made them
        tiles = Tiles(store, Tiles.open_roots(store, path))
        tiles.take(again)
        tiles.close()

    def rebuild() -> None:
        path.unlink(missing_ok=True)
        Tiles.open(store, path=path).close()

    print(f"  taken from the frontier {measured_ns(take) * 1000 // size} ps a leaf")
    print(f"  made from stored blocks {measured_ns(rebuild) // size} ns a leaf")
    print(f"  opening with its file {measured_ns(lambda: Tiles.open(store, path=path).close()) // 1_000_000} ms")
    print(f"  file of roots {path.stat().st_size:,} bytes")
    random = np.random.default_rng(SEED)
    tiles = Tiles.open(store, path=path)
    anywhere = random.integers(0, size, PROOF_COUNT).tolist()
    say("inclusion of any leaf", lambda at: tiles.inclusion(at, size), anywhere)
    say("consistency of any two sizes", lambda at: tiles.consistency(at, size), anywhere)
    newest = random.integers(size - 2 * SMALL_BLOCK_COUNT, size, PROOF_COUNT).tolist()
    cold = Tiles.open(store, path=path)
    say("inclusion among blocks of one payment, read anew", lambda at: cold.inclusion(at, size), newest[:8])
    say("the same in memory", lambda at: cold.inclusion(at, size), newest)
    cold.close()
    tiles.close()
    store.close()


def main() -> None:
    """Measure each size asked for."""
    for count in [int(text) for text in sys.argv[1:]] or [1_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            measure(count, Path(folder))


if __name__ == "__main__":
    main()
