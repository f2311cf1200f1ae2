"""Side by side: ``python -m benchmarks.peers [--tigerbeetle ADDRESS]``.

All take turns in one run (A B A B …), on the same disk and with every commit synced before it is acknowledged. What a
peer does not do stands beside its figure, for a figure alone compares what cannot be compared.

* **single**: one transfer at a time, as an application would post it. Ours from many tasks through
  ``ledger.batching``, TigerBeetle from as many through its asyncio client, django-hordak with ``transfer_to`` from
  eight processes, python-accounting with a posted ``JournalEntry`` from one.
* **batches**: ours in signed binary messages, TigerBeetle by its documented Python API and with hand-packed records,
  django-hordak with ``bulk_create``.
* **hot**, **chains**, **pending_post**, **random_ids**: P2, P3 and P4 against TigerBeetle with hand-packed records.

TigerBeetle needs a running server on this machine: format a data file on the same disk and give the address. Its
accounts are funded and may not be overdrawn, as ours. The SQL ledgers run on a private PostgreSQL server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import engine
from benchmarks.bank import CONDITIONS, FLIGHT_COUNT, Workload
from benchmarks.figures import SEED, Figure, Form, machine, part, rounded
from benchmarks.peers.environment import Environment, Missing, Server, postgresql, rows
from ledger.runtime import keep_memory

RUNS = 3
PEER_BATCH = 8_188
LARGE, SMALL = 65_536, 8_192
SQL_ACCOUNT_COUNT = 200
TASK_COUNT = 2**11
PROCESS_COUNT = 8
COUNTS = {
    # ours and packed, documented, our singles, TigerBeetle's singles, SQL bulk, SQL singles
    Form.TINY: (2**14, 2**13, 2**10, 2**10, 500, 40),
    Form.SHORT: (2**18, 2**16, 2**17, 2**15, 25_000, 800),
    Form.FULL: (2**21, 2**18, 2**20, 2**17, 100_000, 8_000),
}
WORKLOADS = {
    "batches": Workload(),
    "hot": Workload(account_count=16),
    "chains": Workload(kind="chains"),
    "pending_post": Workload(kind="pending_post"),
    "random_ids": Workload(has_random_ids=True),
}
LACKS = {
    "tigerbeetle": "no signatures of clients, no hashes of records that a client could check, no proofs; one replica",
    "hordak": "no limits, no ids that detect duplicates, no signatures, no hash chain, no proofs",
    "python_accounting": "no limits, no ids that detect duplicates, no signatures, no proofs; it hashes its rows",
}
ENVIRONMENTS = {
    "hordak": Environment("hordak", ("django-hordak==2.0.0", "psycopg[binary]")),
    # It asks for drivers of two databases, of which one must be compiled; it needs only the one that is used.
    "python_accounting": Environment(
        "python_accounting",
        ("psycopg2-binary", "python-dateutil", "sqlalchemy>=2.1.4,<2.2"),
        ("python-accounting==2.0.0",),
    ),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """Who takes turns in a group, and how one turn is taken; it gives transfers a second."""

    group: str
    name: str
    run: Callable[[], float]


def ours(counts: tuple[int, ...]) -> list[Contender]:
    """Give our own turns."""

    def single() -> float:
        found: float = engine.single(total=counts[2], task_count=min(TASK_COUNT, counts[2]))["transfers_per_s"]
        return found

    found = [Contender("single", "ours", single)]
    for group, workload in WORKLOADS.items():
        for batch in (LARGE, SMALL):
            run = partial(engine.transfers_per_s, workload, batch=batch, total=max(counts[0], batch))
            found.append(Contender(group, f"ours, batches of {batch:,}", run))
    return found


def tigerbeetle(environment: Environment, address: str, folder: Path, counts: tuple[int, ...]) -> list[Contender]:
    """Give the turns of TigerBeetle."""
    environment.prepare()

    def turn(mode: str, name: str, count: int, task_count: int) -> float:
        options = {"rows": str(folder / f"{name}.npy"), "address": address, "mode": mode, "count": count}
        options |= {"tasks": task_count, "accounts": WORKLOADS[name].account_count}
        return float(environment.run(options)["transfers_per_s"])

    found = [
        Contender("single", "tigerbeetle", partial(turn, "single", "batches", counts[3], min(TASK_COUNT, counts[3]))),
        Contender(
            "batches", "tigerbeetle, documented", partial(turn, "documented", "batches", counts[1], FLIGHT_COUNT)
        ),
    ]
    for name in WORKLOADS:
        packed = partial(turn, "packed", name, counts[0], FLIGHT_COUNT)
        found.append(Contender(name, "tigerbeetle, hand-packed", packed))
    return found


def sql(environment: Environment, server: Server, folder: Path, counts: tuple[int, ...]) -> list[Contender]:
    """Give the turns of a ledger on PostgreSQL, each in a database of its own."""
    environment.prepare()

    def turn(mode: str, count: int) -> float:
        with server.database(f"peer_{environment.name}") as where:
            options = {"rows": str(folder / "sql.json"), "mode": mode, "count": count, "tasks": PROCESS_COUNT}
            return float(environment.run({**options, **where, "accounts": SQL_ACCOUNT_COUNT})["transfers_per_s"])

    is_hordak = environment.name == "hordak"
    single_count = counts[5] if is_hordak else counts[5] // PROCESS_COUNT  # the other posts from one process
    found = [Contender("single", environment.name, partial(turn, "single", single_count))]
    if is_hordak:
        found.append(Contender("batches", "hordak, bulk_create", partial(turn, "bulk", counts[4])))
    return found


def take_turns(contenders: list[Contender], runs: int, missing: list[str]) -> dict[str, dict[str, list[float]]]:
    """Let everybody of a group run once, then again, and so on; who fails takes no more turns.

    A group in which nobody stands beside us is left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    compared = [contender.group for contender in contenders if not contender.name.startswith("ours")]
    for group in dict.fromkeys(compared):
        members = {contender.name: contender.run for contender in contenders if contender.group == group}
        found[group] = {name: [] for name in members}
        for _ in range(runs):
            for name in [name for name in members if name in found[group]]:
                try:
                    found[group][name].append(members[name]())
                except Missing as reason:
                    missing.append(str(reason))
                    del found[group][name]
                    continue
                print(f"{group}: {name}: {found[group][name][-1]:,.0f} transfers/s", file=sys.stderr)
    return found


class Gathering:
    """Who takes part, what is known of them, and who could not be had."""

    def __init__(self, folder: Path, counts: tuple[int, ...]) -> None:
        """Begin with ourselves; the transfers of all go into ``folder``."""
        self.folder = folder
        self.counts = counts
        self.contenders = ours(counts)
        self.peers: Figure = {}
        self.missing: list[str] = []
        for name, workload in WORKLOADS.items():
            rows(folder, name, workload, count=max(counts[:4]), batch=PEER_BATCH)
        rows(folder, "sql", Workload(account_count=SQL_ACCOUNT_COUNT), count=counts[4], batch=PEER_BATCH)

    def add_tigerbeetle(self, address: str | None, version: str) -> None:
        """Let TigerBeetle take part, if its server runs."""
        if address is None:
            self.missing.append("No TigerBeetle server was named (--tigerbeetle ADDRESS), so it is left out.")
            return
        client = Environment("tigerbeetle", (f"tigerbeetle=={version}", "numpy"))
        try:
            self.contenders += tigerbeetle(client, address, self.folder, self.counts)
            self.peers["tigerbeetle"] = {"lacks": LACKS["tigerbeetle"], "versions": client.versions}
        except Missing as reason:
            self.missing.append(str(reason))

    def add_sql(self, environment: Environment, server: Server) -> None:
        """Let a ledger on PostgreSQL take part."""
        name = environment.name
        try:
            self.contenders += sql(environment, server, self.folder, self.counts)
            settings = {"server": server.version, **server.settings}
            self.peers[name] = {"lacks": LACKS[name], "versions": environment.versions, "settings": settings}
        except Missing as reason:
            self.missing.append(str(reason))


def compare(options: argparse.Namespace) -> Figure:
    """Gather who can be had, let them take turns, and put the figures together."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gathering = Gathering(folder, COUNTS[options.form])
        if "tigerbeetle" in options.peers:
            gathering.add_tigerbeetle(options.tigerbeetle, options.tigerbeetle_client)
        environments = [environment for name, environment in ENVIRONMENTS.items() if name in options.peers]
        try:
            if environments:
                server = stack.enter_context(postgresql())
                for environment in environments:
                    gathering.add_sql(environment, server)
        except Missing as reason:
            gathering.missing.append(str(reason))
        figures = take_turns(gathering.contenders, options.runs, gathering.missing)
    return {
        **{group: {name: part(runs) for name, runs in of.items()} for group, of in figures.items()},
        "unit": "transfers/s",
        "conditions": {**CONDITIONS, "seed": SEED, "runs": "all take turns", "sql_accounts": SQL_ACCOUNT_COUNT},
        "ratios": _ratios(figures),
        "peers": gathering.peers,
        "missing": gathering.missing,
        "machine": machine(),
    }


def _ratios(figures: dict[str, dict[str, list[float]]]) -> Figure:
    """Give how many times as fast as each peer we are, run by run; the median counts. The first of ours is compared."""
    found: Figure = {}
    for group, of in figures.items():
        mine = next(iter(of.values()))
        others = {name: runs for name, runs in of.items() if not name.startswith("ours")}
        found[group] = {
            name: rounded(statistics.median(a / b for a, b in zip(mine, runs, strict=True)))
            for name, runs in others.items()
        }
    return found


def main() -> None:
    """Compare, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tigerbeetle", metavar="ADDRESS", help="a running server: its port, or 127.0.0.1:PORT")
    parser.add_argument("--tigerbeetle-client", default="0.17.9", metavar="VERSION", help="not newer than the server")
    parser.add_argument("--peers", nargs="*", default=["tigerbeetle", *ENVIRONMENTS], help="who takes part")
    parser.add_argument("--runs", type=int, default=RUNS)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="form", action="store_const", const=Form.FULL, help="the long form")
    size.add_argument("--tiny", dest="form", action="store_const", const=Form.TINY, help="to see that it works")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(form=Form.SHORT)
    options = parser.parse_args()
    keep_memory()
    found = compare(options)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for group, ratios in found["ratios"].items():
        print(group)
        for name, figure in found[group].items():
            beside = f"  ours is {ratios[name]} times as fast" if name in ratios else ""
            print(f"  {name:28}{figure['value']:>12,}  (runs: {figure['runs']}){beside}")
    for name, peer in found["peers"].items():
        print(f"{name}: {peer['lacks']}.")
        for what in ("versions", "settings"):
            print(f"    {what}: {', '.join(f'{key} {value}' for key, value in peer.get(what, {}).items())}")
    print("\n".join(found["missing"]))


if __name__ == "__main__":
    main()
