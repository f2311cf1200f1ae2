"""Whatever the kernel makes of commands in columns, the journal stores beside their message and gives back."""

from __future__ import annotations

import numpy as np
import pytest

from ledger import columns, posting, sections
from ledger.machine import Entry
from ledger.sections import COLUMNS_COUNT_MIN, Shape
from ledger.state import State
from ledger.transfers import Flag, Result
from tests.ledger_fixture import statement
from tests.property.drivers import Trio
from tests.property.universe import random_commands

FLAGS = [Flag.REVERSAL, Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT, Flag.MIN_AVAILABLE, Flag.GROUP, Flag.LINKED]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_records_in_columns_survive_the_journal(seed: int) -> None:
    """Random commands of every kind, applied and refused, are stored and read back bit for bit."""
    generator = np.random.default_rng(seed)
    trio = Trio([-2_000], [3_000])
    state: State = trio.compiled
    position, now = 1, 1
    seen: set[int] = set()
    applied = np.uint16(0)
    for step in range(12):
        count = int(generator.integers(COLUMNS_COUNT_MIN, 700))
        body = columns.encode(random_commands(generator, count, ids=4_000, log=trio.log))
        message = statement("alice", "columns", body, serial=step)
        records = columns.decode(body)
        records["party"], records["code"], records["message"] = 1, 9, position
        posting.post(state, records, timestamp_ns=now, first_position=position + 1, recall=trio.log)
        trio.log.add(position + 1, records)
        entry = Entry(message, count, in_columns=True)
        made = sections.encode([entry], records, first_position=position, expired_count=0)
        shape = Shape(position, 1, 0, count, len(made.data))
        (found,), again = sections.decode(shape, made.data)
        assert found.in_columns
        assert again.tobytes() == records.tobytes()
        seen |= set(records["result"].tolist())
        applied |= np.bitwise_or.reduce(records["flags"][records["result"] == Result.OK])
        position += 1 + count
    assert Result.ID_EXISTS in seen
    assert all(applied & flag for flag in FLAGS)
