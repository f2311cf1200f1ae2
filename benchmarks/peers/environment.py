"""What the peers need: an environment each, a file of transfers, a PostgreSQL server, and a process for each run.

Nothing of this is a dependency of the project. Environments are made with ``venv`` and ``pip`` in an ignored folder and
used again; what cannot be had is said in a plain sentence, and left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.bank import Workload, commands_of
from benchmarks.figures import SEED

__all__ = ["Environment", "Missing", "Server", "postgresql", "rows"]

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
FOLDER = ROOT / ".venv" / "peers"
VERSIONS = (
    "import importlib.metadata, json;"
    "print(json.dumps({found.metadata['Name']: found.version for found in importlib.metadata.distributions()}))"
)
INSTALL_S_MAX, RUN_S_MAX = 900, 900
COLUMNS = ("id_hi", "id_lo", "related_hi", "related_lo", "amount", "debit", "credit", "flags")
JSON_COUNT_MAX = 2**17
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB", "autovacuum": "on"}
"""Settings of the PostgreSQL server beyond those of ``tests/postgresql_server.py``: nobody shall lack memory."""
SHOWN = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "max_wal_size")


class Missing(Exception):
    """Why a peer is left out, in a sentence."""


@dataclass
class Environment:
    """A peer's own virtual environment, with its packages; one list for those that come without their dependencies."""

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return FOLDER / self.name / "bin" / "python"

    def prepare(self) -> None:
        """Make the environment unless it is there, and note what is in it.

        Raises:
            Missing: a package cannot be installed.
        """
        wanted = " ".join((*self.packages, *self.alone))
        stamp = FOLDER / self.name / "packages.txt"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            venv.create(FOLDER / self.name, with_pip=True, clear=True)
            self._install(self.packages)
            self._install(self.alone, "--no-deps")
            stamp.write_text(wanted, encoding="utf-8")
        listing = subprocess.run([str(self.python), "-I", "-c", VERSIONS], capture_output=True, text=True, check=True)
        self.versions = json.loads(listing.stdout)

    def _install(self, packages: tuple[str, ...], *options: str) -> None:
        if not packages:
            return
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        done = subprocess.run([*command, *packages], stdout=sys.stderr, check=False, timeout=INSTALL_S_MAX)
        if done.returncode:
            raise Missing(f"{' and '.join(packages)} could not be installed, so {self.name} is left out.")

    def run(self, options: dict[str, Any]) -> dict[str, Any]:
        """Run the peer's program once and give what it prints.

        Raises:
            Missing: it failed.
        """
        command = [str(self.python), str(HERE / f"run_{self.name}.py"), json.dumps(options)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=RUN_S_MAX)
        if done.returncode:
            raise Missing(f"{self.name} failed in its mode {options['mode']}, so that is left out.")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def rows(folder: Path, name: str, workload: Workload, *, count: int, batch: int) -> Path:
    """Write a workload's transfers between accounts from 0 as a numpy file, and the first of them as JSON."""
    draw = np.random.Generator(np.random.PCG64([SEED, 1]))
    groups = [
        commands_of(workload, draw, min(batch, count - start), first_id=1 + start, first_account=0)
        for start in range(0, count, batch)
    ]
    found = np.zeros(count, [(column, groups[0].dtype[column]) for column in COLUMNS])
    for column in COLUMNS:
        found[column] = np.concatenate([group[column] for group in groups])
    path = folder / f"{name}.npy"
    np.save(path, found)
    some = found[:JSON_COUNT_MAX]
    triples = zip(*(some[column].tolist() for column in ("debit", "credit", "amount")), strict=True)
    path.with_suffix(".json").write_text(json.dumps(list(triples)), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server that runs as long as it is needed."""

    user: str
    socket: str
    version: str
    settings: dict[str, str]

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run some statements, each by itself, and give the rows of the last."""
        where = f"host={self.socket} user={self.user} dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            cursors = [connection.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description is not None else []

    @contextmanager
    def database(self, name: str) -> Iterator[dict[str, str]]:
        """Make an empty database, give how to reach it, and drop it again."""
        self.ask(f"CREATE DATABASE {name}")
        try:
            yield {"user": self.user, "socket": self.socket, "database": name}
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgresql() -> Iterator[Server]:
    """Start a server with a folder of its own, listening on a socket only, and stop it afterwards.

    Raises:
        Missing: its programs are not on this machine.
    """
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "tests.postgresql_server", "--serve", *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise Missing("There is no PostgreSQL server here (`make postgres`), so the ledgers on it are left out.")
        server = Server(**json.loads(line), settings={})
        try:
            for name in SHOWN:
                server.settings[name] = str(server.ask(f"SHOW {name}")[0][0])
            yield server
        finally:
            process.communicate()
