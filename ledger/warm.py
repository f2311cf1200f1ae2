"""Compile every kernel before anybody waits for it; the machine code stays on disk: ``python -m ledger.warm``."""

from __future__ import annotations

import sys

import numpy as np

from ledger import columns, merkle, messages, posting, sections
from ledger.accounts import AccountFlag
from ledger.answers import Answer, Answers
from ledger.machine import Entry
from ledger.registry import Registry
from ledger.runtime import SystemRuntime
from ledger.state import State
from ledger.store import parts
from ledger.transfers import Flag, label, transfers

__all__ = ["warm"]


def warm() -> None:
    """Reach every kernel once, on a state of its own; compiles what is not on disk yet."""
    state = State(bytes(16))
    for _ in range(2):
        state.open_account(owner=1, asset=1, code=1, flags=AccountFlag.CREDIT_NORMAL)
    commands = transfers(7)
    commands["id_lo"] = np.arange(1, 8)
    commands["debit"], commands["credit"], commands["amount"] = 1, 2, 1
    member = Flag.PENDING | Flag.GROUP
    commands["flags"] = [
        Flag.NONE,
        Flag.PENDING,
        Flag.PENDING,
        Flag.PENDING,
        Flag.PENDING,
        member | Flag.LINKED,
        member,
    ]
    commands["group"], commands["timeout_s"] = [0, 1, 2, 3, 4, 0, 0], 1
    posting.post(state, commands, timestamp_ns=1, first_position=0)
    back = transfers(1)
    back["id_lo"], back["related_lo"], back["debit"], back["credit"], back["flags"] = 8, 1, 2, 1, Flag.REVERSAL
    posting.post(state, back, timestamp_ns=1, first_position=7, recall=lambda _: commands[:1])
    members = np.zeros(1, np.uint32)
    posting.group_bind(state, 1)
    posting.group_release(state, 1)
    posting.group_move(state, 1, 2, members)
    posting.group_post(state, 2, np.ones(1, np.bool_), position=7)
    posting.group_void(state, 3, None, position=7)
    state.reserve(id_count=10_000, hold_count=0)
    posting.post(state, posting.due(state, 2**61), timestamp_ns=2**61, first_position=8)
    state.lookup(0, 1)
    state.check()
    Registry.restore(bytes(16), state.registry._entries.copy(), len(state.registry))  # noqa: SLF001 - a part of it
    answers = Answers(bytes(16))
    answers.add(1, "key", Answer(position=0, count=0, height=1, digest=bytes(16)))
    answers.get(1, "key")
    merkle.leaf_hashes(np.zeros((1_000, 1), np.uint8))
    _encode()


def _encode() -> None:
    """Write a body beside its message, read it back, and compress it."""
    commands = transfers(sections.COLUMNS_COUNT_MIN)
    commands["item"] = np.arange(len(commands))
    label(commands, np.uint64(0), np.uint32(0), np.uint16(0))
    message = messages.Message(messages.Kind.STATEMENT, b"", bytes(64), columns.encode(commands))
    entries = (Entry(message, len(commands), in_columns=True),)
    body = sections.encode(entries, commands, first_position=0, expired_count=0)
    shape = sections.Shape(0, 1, 0, len(commands), len(body.data))
    sections.decode(shape, body.data)
    (part,) = parts.compress(bytes(2**12), height=1)
    parts.decompress(part, height=1, part=0)


if __name__ == "__main__":
    clock = SystemRuntime()
    started_ns = clock.monotonic_ns()
    warm()
    sys.stdout.write(f"compiled in {(clock.monotonic_ns() - started_ns) // 1_000_000_000} s\n")
