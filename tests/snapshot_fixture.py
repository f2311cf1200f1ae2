"""A machine through a snapshot and back: what a test does at any moment to see that nothing is lost on the way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.machine import Interpreter, Machine
from ledger.messages import public_bytes
from ledger.snapshot import Snapshots, machine_parts, restore_machine
from ledger.snapshot_file import SnapshotFile
from tests.ledger_fixture import make_runtime

__all__ = ["parts_of", "reborn"]

HASH_KEY = bytes(range(50, 66))


def parts_of(machine: Machine) -> dict[str, bytes]:
    """Give the bytes of all parts of a machine: two machines are the same if these are."""
    return {name: b"".join(pieces) for name, pieces in machine_parts(machine).items()}


def reborn(machine: Machine, interpreter: Interpreter, private_key: Ed25519PrivateKey) -> Machine:
    """Keep a machine and give what comes back, in all its parts the same; ``interpreter`` is a fresh one."""
    fresh = Machine(machine.genesis, interpreter, hash_key=HASH_KEY, history=machine.history, compiled=machine.compiled)
    with tempfile.TemporaryDirectory() as folder:
        path = Snapshots(Path(folder), runtime=make_runtime()).save(machine, private_key)
        with SnapshotFile.open(path, public_bytes(private_key)) as file:
            restore_machine(fresh, file, HASH_KEY)
    assert parts_of(fresh) == parts_of(machine)
    assert fresh.state.money_digest() == machine.state.money_digest()
    fresh.state.check()
    fresh.recent = machine.recent
    return fresh
