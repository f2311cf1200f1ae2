"""A process that appends blocks for ever and is meant to be killed: ``store_driver.py PLACE SEED``.

It opens the store at PLACE, goes on where that ends, and prints each height the moment it is acknowledged.
"""

from __future__ import annotations

import sys
from itertools import count

import numpy as np

from ledger.runtime import SystemRuntime
from ledger.store import open_store
from tests.block_fixture import Blocks

RECORD_COUNT_MAX = 3_000


def record_count(seed: int, height: int) -> int:
    """Give how many records the block at a height has: mostly few, sometimes several parts."""
    return (
        int(np.random.default_rng([seed, height, 1]).integers(0, RECORD_COUNT_MAX)) if height % 3 == 0 else height % 7
    )


def main() -> None:
    """Append until killed."""
    place, seed = sys.argv[1], int(sys.argv[2])
    store = open_store(place, runtime=SystemRuntime())
    blocks = Blocks(seed)
    for height in range(1, store.last_height() + 1):
        blocks.make(record_count(seed, height))
    sys.stdout.write("ready\n")
    for height in count(len(blocks.made) + 1):
        store.append(blocks.make(record_count(seed, height)))
        sys.stdout.write(f"{height}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
