"""What this machine can do at best: how fast it reads memory, hashes, verifies and syncs, on one core.

A stage of the engine cannot be faster than what it must at least do. Each rate is the best of several tries, because on
a shared machine everything else is a measurement of the others.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.figures import SEED

__all__ = ["Rates", "random_read_s", "rates", "sync_s"]

TRY_COUNT = 5
READ_SIZE = 2**27
RANDOM_COUNT = 2**20
HASH_SIZE = 2**22
BASE_SIZE = 600
"""Bytes of a request's signature base, about."""
VERIFY_COUNT = 500


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of one core."""

    read_byte_s: float
    """A byte of memory, one after another."""
    hash_byte_s: float
    """A byte through SHA-256."""
    verify_s: float
    """One Ed25519 signature."""


def rates() -> Rates:
    """Measure this machine."""
    table = np.ones(READ_SIZE // 8, np.int64)
    data = bytes(HASH_SIZE)
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    base = bytes(BASE_SIZE)
    public, signature = key.public_key(), key.sign(base)

    def verify() -> None:
        for _ in range(VERIFY_COUNT):
            public.verify(signature, base)

    return Rates(
        read_byte_s=_best_s(table.sum) / READ_SIZE,
        hash_byte_s=_best_s(lambda: hashlib.sha256(data).digest()) / HASH_SIZE,
        verify_s=_best_s(verify) / VERIFY_COUNT,
    )


def random_read_s(table_size: int) -> float:
    """Give the seconds for a word anywhere in a table of so many bytes; several reads are under way at once."""
    words = np.ones(max(table_size // 8, 1), np.int64)
    places = np.random.Generator(np.random.PCG64(SEED)).integers(0, len(words), RANDOM_COUNT)
    found = np.empty(RANDOM_COUNT, np.int64)
    return _best_s(lambda: np.take(words, places, out=found, mode="clip")) / RANDOM_COUNT


def sync_s(blocks: Sequence[bytes], folder: Path) -> float:
    """Give the seconds on the wall for writing and syncing some blocks of bytes, one after another, to a bare file."""
    file = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        started_s = time.perf_counter()
        for block in blocks:
            os.write(file, block)
            os.fdatasync(file)
        return time.perf_counter() - started_s
    finally:
        os.close(file)


def _best_s(work: Callable[[], object]) -> float:
    """Give the processor seconds of the fastest of a few tries."""
    spent_s = []
    for _ in range(TRY_COUNT):
        started_s = time.thread_time()
        work()
        spent_s.append(time.thread_time() - started_s)
    return min(spent_s)
