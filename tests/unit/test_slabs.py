"""Memory that is given out again: only when nobody refers to it, zeroed, and never more of it than is allowed."""

from __future__ import annotations

import sys
import threading

import numpy as np

from ledger import slabs
from ledger.slabs import Slabs
from ledger.transfers import TRANSFER, Transfers

COUNT = slabs.COUNT_MIN


def address(rows: Transfers) -> int:
    """Give where an array begins."""
    return int(rows.ctypes.data)


def test_memory_nobody_refers_to_is_given_out_again_and_zeroed() -> None:
    """What was written before is gone, and it is the same memory."""
    pool = Slabs()
    rows = pool.transfers(COUNT)
    place = address(rows)
    rows.view(np.uint8).fill(255)
    del rows
    again = pool.transfers(COUNT)
    assert address(again) == place
    assert not again.view(np.uint8).any()


def test_memory_that_anything_refers_to_is_left_alone() -> None:
    """A part of an array, a view as bytes and a memoryview keep it, each by itself."""
    for refer in (
        lambda rows: rows[5:6],
        lambda rows: rows.view(np.uint8)[3:],
        lambda rows: memoryview(rows["amount"]),
    ):
        pool = Slabs()
        rows = pool.transfers(COUNT)
        place, kept = address(rows), refer(rows)
        del rows
        other = pool.transfers(COUNT)
        assert address(other) != place
        del kept, other
        assert place in {address(rows) for rows in [pool.transfers(COUNT), pool.transfers(COUNT)]}


def test_few_transfers_have_memory_of_their_own() -> None:
    """Below the least count nothing is kept."""
    pool = Slabs(size_max=0)
    assert len(pool.transfers(COUNT - 1)) == COUNT - 1
    assert len(pool.transfers(COUNT)) == COUNT


def test_no_more_is_kept_than_allowed_and_what_is_free_makes_room() -> None:
    """Beyond the limit memory is new; free memory of another size goes first."""
    pool = Slabs(size_max=2 * COUNT * TRANSFER.itemsize)
    first, second, third = (pool.transfers(COUNT) for _ in range(3))
    places = {address(first), address(second)}
    del first, second, third
    assert address(pool.transfers(COUNT)) in places
    double = pool.transfers(2 * COUNT)
    place = address(double)
    del double
    assert address(pool.transfers(2 * COUNT)) == place


def test_threads_never_share_memory() -> None:
    """Eight threads that take, mark, hold and drop arrays always find their own marks."""
    seed = 7
    sys.stdout.write(f"seed {seed}\n")
    pool, wrong = Slabs(), []

    def work(number: int) -> None:
        generator = np.random.default_rng([seed, number])
        held: list[Transfers] = []
        for _ in range(100):
            rows = pool.transfers(int(generator.integers(COUNT, 3 * COUNT)))
            if rows["party"].any():
                wrong.append(number)
            rows["party"] = number
            held = [*held, rows][-int(generator.integers(1, 5)) :]
            if any((rows["party"] != number).any() for rows in held):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
