"""The engine on both stores, in turn: P1 with its journal in a SQLite file and in a PostgreSQL server beside it.

The server is a private one on a socket, with a folder of its own on the same disk, ``fsync`` and ``synchronous_commit``
on; each run has an empty database. Without PostgreSQL on the machine the figure says so, and has SQLite alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.bank import CONDITIONS, Workload
from benchmarks.engine import BATCH_LARGE, BATCH_SMALL, TRANSFER_COUNT, transfers_per_s
from benchmarks.figures import SEED, Figure, Form, figure, part
from benchmarks.peers.environment import Missing, Server, postgresql

__all__ = ["measure"]

BATCHES = (BATCH_LARGE, BATCH_SMALL)


def measure(*, runs: int, form: Form) -> Figure:
    """Give ``value`` for PostgreSQL at the large batch, and each store at each batch beside it; transfers a second."""
    total = TRANSFER_COUNT[form]
    found: dict[tuple[str, int], list[float]] = {}
    missing, settings = "", {}
    with ExitStack() as stack:
        server: Server | None = None
        try:
            server = stack.enter_context(postgresql())
            settings = {"server": server.version, **server.settings}
        except Missing as error:
            missing = str(error)
        for run in range(runs):
            for batch in BATCHES:
                found.setdefault(("sqlite", batch), []).append(_run("", batch, total))
                if server is not None:
                    with _database(server, f"bench_{run}_{batch}") as url:
                        found.setdefault(("postgresql", batch), []).append(_run(url, batch, total))
    store = "postgresql" if server is not None else "sqlite"
    return figure(
        found[store, BATCH_LARGE],
        unit="transfers/s",
        conditions={**CONDITIONS, "store": "both", "seed": SEED, "transfers_a_run": total, **settings},
        stores={f"{name}, batches of {batch:,}": part(rates) for (name, batch), rates in found.items()},
        missing=missing,
    )


def _run(database: str, batch: int, total: int) -> float:
    return transfers_per_s(Workload(), batch=batch, total=total, database=database)


@contextmanager
def _database(server: Server, name: str) -> Iterator[str]:
    """Make an empty database, and give its URL."""
    with server.database(name) as where:
        yield f"postgresql+psycopg://{where['user']}@/{where['database']}?host={where['socket']}"
