"""``hugang doctor``: look at what Hugang needs of this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import folder_option, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode

__all__ = ["Finding", "command", "findings"]

DISK_SIZE_MIN = 500 * 2**20
"""Bytes a demonstration may need, with room to spare."""
SQLITE_VERSION_MIN = (3, 37, 0)
"""The first SQLite with STRICT tables."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ``ok``, ``note`` (worth knowing) or ``fault`` (must be put right)."""

    subject: str
    verdict: str
    text: str


@click.command("doctor", short_help="Look at what this machine has and lacks.")
@folder_option
@json_option
def command(folder: Path, *, as_json: bool) -> ExitCode:
    """Check Python, packages, the kernel's cache, ports, disk, SQLite and the data folder."""
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal

    terminal = Terminal()
    found = list(findings(folder))
    if as_json:
        terminal.json([{"subject": item.subject, "verdict": item.verdict, "text": item.text} for item in found])
    else:
        terminal.table("", ("", "", ""), [(item.verdict, item.subject, item.text) for item in found])
    return ExitCode.ENVIRONMENT if any(item.verdict == "fault" for item in found) else ExitCode.OK


def findings(folder: Path) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    yield _python()
    yield from _packages()
    yield _kernel_cache()
    yield _sqlite()
    yield _disk(folder)
    yield from _network(folder)


def _judge(subject: str, text: str, *, good: bool, otherwise: str = "fault") -> Finding:
    return Finding(subject, "ok" if good else otherwise, text)


def _python() -> Finding:
    version = sys.version_info
    return _judge("Python", sys.version.split()[0], good=(3, 11) <= version[:2] < (3, 13))


def _packages() -> Iterator[Finding]:
    """Look for every package that the distribution asks for outside its extras."""
    for requirement in importlib.metadata.requires("hugang") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if ";" in requirement:
            continue
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "fault", f"missing; {requirement} is needed")


def _kernel_cache() -> Finding:
    """Look for the compiled kernel beside the ledger's modules."""
    spec = importlib.util.find_spec("ledger")
    home = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path()
    count = len(list((home / "__pycache__").glob("*.nbc")))
    text = f"{count} compiled functions" if count else "empty; the first start compiles, which takes some seconds"
    return _judge("kernel cache", text, good=count > 0, otherwise="note")


def _sqlite() -> Finding:
    return _judge("SQLite", sqlite3.sqlite_version, good=sqlite3.sqlite_version_info >= SQLITE_VERSION_MIN)


def _disk(folder: Path) -> Finding:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return _judge("disk", f"{free // 2**20:,} MiB free", good=free >= DISK_SIZE_MIN)


def _network(folder: Path) -> Iterator[Finding]:
    """Look at the data folder: settings, keys, what runs, and ports."""
    from gateway.config import LEDGERS, load_genesis, network_folder
    from gateway.supervisor import NAMES, configured_ports, network_exists, running
    from ledger.errors import MalformedInput
    from ledger.genesis import network_hash
    from ledger.runtime import port_is_free

    if not network_exists(folder):
        yield Finding("data folder", "note", f"no network in {folder} yet; `hugang demo` or `hugang init` makes one")
        return
    layout = network_folder(folder)
    try:
        layout.keys()
        documents = [load_genesis(layout.node(ledger) / "genesis.json") for ledger in LEDGERS]
        ports = configured_ports(folder)
        present = {process.name: process.pid for process in running(folder)}
    except (MalformedInput, OSError) as error:
        yield Finding("data folder", "fault", str(error))
        return
    names = sorted({document.network for document in documents})
    is_one = len({network_hash(document) for document in documents}) == 1
    yield _judge("data folder", f"network {' and '.join(names)} in {folder}", good=is_one)
    for name in NAMES:
        port = getattr(ports, name)
        if name in present:
            yield Finding(name, "ok", f"runs as process {present[name]} on port {port}")
        else:
            free = port_is_free(port)
            yield _judge(
                name, f"does not run; port {port} is {'free' if free else 'taken'}", good=free, otherwise="note"
            )
    for ledger in LEDGERS:
        yield _journal(layout.node(ledger), ledger, is_running=ledger.lower() in present)


def _journal(folder: Path, ledger: str, *, is_running: bool) -> Finding:
    """Look at one journal: of a file that nobody writes, the database checks its own pages."""
    from gateway.config import load_node_config

    name = load_node_config(folder).database
    subject, path = f"journal {ledger}", folder / name
    if "://" in name:
        return Finding(subject, "ok", "lies in a PostgreSQL database")
    try:
        there = path.exists()
    except OSError as error:
        return Finding(subject, "fault", str(error))
    if not there:
        return Finding(subject, "note", "not begun yet")
    size = f"{path.stat().st_size / 2**20:,.1f} MiB"
    if is_running:
        return Finding(subject, "ok", f"{size}, in use")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            verdict = str(database.execute("PRAGMA quick_check").fetchone()[0])
    except sqlite3.Error as error:
        verdict = str(error)
    return _judge(subject, f"{size}, {verdict}", good=verdict == "ok")
