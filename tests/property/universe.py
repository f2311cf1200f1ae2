"""The small universe of the kernel's random tests: its ids and accounts, and commands in which everything happens."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
import numpy.typing as npt

from ledger.transfers import Flag, Result, Transfers, transfers
from tests.property.model import Command

ACCOUNTS = 6
IDS = 40
PARTIES = 2
GROUPS = 3
MEMBERS = 4
CLASSES = 2
HUGE = 2**63 - 1
RECENT_COUNT = 40

# The ids have both halves in use, so that a kernel that forgot one of them is found out.
IDENTIFIERS = [(number % 3) << 64 | number // 3 for number in range(IDS)]

_WEIGHTS: dict[Flag, int] = {
    Flag.NONE: 20,
    Flag.PENDING: 20,
    Flag.POST: 12,
    Flag.VOID: 8,
    Flag.EXPIRE: 3,
    Flag.LINKED: 5,
    Flag.PENDING | Flag.LINKED: 6,
    Flag.POST | Flag.LINKED: 5,
    Flag.VOID | Flag.LINKED: 3,
    Flag.PENDING | Flag.BOUND: 5,
    Flag.PENDING | Flag.BOUND | Flag.LINKED: 2,
    Flag.REVERSAL: 12,
    Flag.REVERSAL | Flag.LINKED: 5,
    Flag.REVERSAL | Flag.MIN_AVAILABLE: 2,
    Flag.BALANCING_DEBIT: 4,
    Flag.BALANCING_CREDIT: 4,
    Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT | Flag.PENDING: 3,
    Flag.BALANCING_DEBIT | Flag.PENDING | Flag.LINKED: 2,
    Flag.BALANCING_CREDIT | Flag.LINKED | Flag.MIN_AVAILABLE: 2,
    Flag.MIN_AVAILABLE: 5,
    Flag.MIN_AVAILABLE | Flag.PENDING: 4,
    Flag.PENDING | Flag.GROUP: 1,
    Flag.PENDING | Flag.GROUP | Flag.LINKED: 10,
    Flag.POST | Flag.GROUP: 8,
    Flag.POST | Flag.GROUP | Flag.LINKED: 3,
    Flag.VOID | Flag.GROUP: 4,
    Flag.EXPIRE | Flag.GROUP: 1,
    Flag.POST | Flag.VOID: 1,
    Flag.EXPIRE | Flag.LINKED: 1,
    Flag.BOUND: 1,
    Flag.GROUP: 1,
    Flag.REVERSAL | Flag.PENDING: 1,
    Flag.POST | Flag.MIN_AVAILABLE: 1,
    Flag.PENDING | Flag.GROUP | Flag.BOUND: 1,
}
FLAGS = list(_WEIGHTS)
_GROUPED = np.uint16(Flag.GROUP)
_IRREVERSIBLE = Flag.PENDING | Flag.VOID | Flag.EXPIRE | Flag.REVERSAL | Flag.GROUP


def array_of(commands: list[Command]) -> Transfers:
    """Make the kernel's form of the model's commands."""
    result = transfers(len(commands))
    for row, command in zip(result, commands, strict=True):
        for name, value in command.items():
            if name in {"id", "related"}:
                row[name + "_hi"], row[name + "_lo"] = value >> 64, value & (2**64 - 1)
            else:
                row[name] = value
    return result


def commands_of(array: Transfers) -> list[Command]:
    """Make the model's form of the kernel's commands."""
    return [
        {
            "id": int(row["id_hi"]) << 64 | int(row["id_lo"]),
            "related": int(row["related_hi"]) << 64 | int(row["related_lo"]),
            **{name: int(row[name]) for name in array.dtype.names or () if not name.startswith(("id_", "related_"))},
        }
        for row in array
    ]


class Log:
    """The records of a run by position: what reversals recall, and what later commands can name."""

    def __init__(self) -> None:
        """Have none."""
        self._starts: list[int] = []
        self._chunks: list[Transfers] = []
        self.serial = 0
        self.holds: deque[np.void] = deque(maxlen=RECENT_COUNT)
        self.movements: deque[np.void] = deque(maxlen=RECENT_COUNT)

    def add(self, position: int, records: Transfers) -> None:
        """Keep the records that begin at a position."""
        self._starts.append(position)
        self._chunks.append(records.copy())
        applied = self._chunks[-1][records["result"] == Result.OK]
        self.holds.extend(applied[applied["flags"] & np.uint16(Flag.PENDING) != 0])
        self.movements.extend(applied[applied["flags"] & np.uint16(_IRREVERSIBLE) == 0])

    def __call__(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Give the records at some positions."""
        rows = transfers(len(positions))
        for index, position in enumerate(positions.tolist()):
            rows[index] = self.record(position)
        return rows

    def record(self, position: int) -> np.void:
        """Give the record at a position."""
        chunk = bisect_right(self._starts, position) - 1
        row: np.void = self._chunks[chunk][position - self._starts[chunk]]
        return row


def random_commands(generator: np.random.Generator, count: int, *, ids: int, log: Log) -> Transfers:
    """Make commands in which everything happens; one in five ids is drawn from so many, the others are new."""
    result = transfers(count)
    for name in ("id", "related"):
        number = generator.integers(0, ids, count)
        if name == "id":
            is_new = generator.random(count) < 0.8
            number[is_new] = log.serial + np.arange(int(is_new.sum()))
            log.serial += count
        result[name + "_hi"], result[name + "_lo"] = number % 3, number // 3
    _places(generator, result)
    result["amount"] = generator.integers(0, 60, count)
    huge = generator.random(count) < 0.01
    result["amount"][huge] = HUGE - generator.integers(0, 3, int(huge.sum()))
    result["amount"][generator.random(count) < 0.005] = -1
    weights = np.array(list(_WEIGHTS.values()))
    result["flags"] = generator.choice([int(flag) for flag in FLAGS], count, p=weights / weights.sum())
    result["flags"][generator.random(count) < 0.002] = 2048
    result["timeout_s"] = generator.choice([0, 0, 1, 2, 8, 40], count)
    result["group"] = generator.integers(0, GROUPS + 1, count)
    result["group"][(result["flags"] & _GROUPED != 0) & (generator.random(count) < 0.95)] = 0
    result["member"] = generator.integers(0, MEMBERS, count)
    result["party"] = generator.integers(0, PARTIES, count)
    result["code"] = generator.integers(0, 2**16, count)
    result["value_day"] = generator.choice([0, 20_000, 2**16 - 1, 2**16], count, p=[0.9, 0.08, 0.015, 0.005])
    has_minimum = (result["flags"] & np.uint16(Flag.MIN_AVAILABLE) != 0) | (generator.random(count) < 0.003)
    result["minimum"][has_minimum] = generator.integers(-300, 100, int(has_minimum.sum()))
    result["result"][generator.random(count) < 0.005] = Result.QUOTE_EXPIRED
    result["result"][generator.random(count) < 0.001] = Result.ID_EXISTS
    _whole_groups(generator, result)
    _aim(generator, result, log)
    return result


def _places(generator: np.random.Generator, commands: Transfers) -> None:
    """Let most commands name two different accounts of the first asset, and some what does not go together."""
    count = len(commands)
    debit = generator.integers(1, 5, count)
    credit = (debit + generator.integers(0, 4, count) - (generator.random(count) < 0.9)) % 4 + 1
    credit = np.where(debit == credit, credit % 4 + 1, credit)
    anywhere = generator.random(count) < 0.15
    commands["debit"] = np.where(anywhere, generator.integers(1, ACCOUNTS + 1, count), debit)
    commands["credit"] = np.where(anywhere, generator.integers(1, ACCOUNTS + 1, count), credit)
    for side in ("debit", "credit"):
        commands[side][generator.random(count) < 0.007] = generator.choice([0, ACCOUNTS + 1, 2**32 - 1])


def _whole_groups(generator: np.random.Generator, commands: Transfers) -> None:
    """Let most runs of grouped holds have a second member, and most ends of groups name no amount."""
    flags = commands["flags"]
    run = np.uint16(Flag.PENDING | Flag.GROUP)
    opens = np.flatnonzero((flags[:-1] & run == run) & (flags[:-1] & np.uint16(Flag.LINKED) != 0))
    opens = opens[generator.random(len(opens)) < 0.8]
    flags[opens + 1] = run
    commands["group"][opens + 1] = 0
    ends = (flags & np.uint16(Flag.POST | Flag.VOID | Flag.EXPIRE) != 0) & (flags & _GROUPED != 0)
    commands["amount"][ends & (generator.random(len(commands)) < 0.9)] = 0


def _aim(generator: np.random.Generator, commands: Transfers, log: Log) -> None:
    """Let most reversals, and most ends, name something that could be reversed or ended."""
    for row in np.flatnonzero(generator.random(len(commands)) < 0.85).tolist():
        command = commands[row]
        flags = int(command["flags"])
        if flags & Flag.REVERSAL and log.movements:
            record = log.movements[int(generator.integers(len(log.movements)))]
            if generator.random() < 0.9:
                command["debit"], command["credit"] = record["credit"], record["debit"]
        elif flags & (Flag.POST | Flag.VOID) and log.holds:
            record = log.holds[int(generator.integers(len(log.holds)))]
            if generator.random() < 0.8:
                command["flags"] = command["flags"] & ~_GROUPED | record["flags"] & _GROUPED
                command["amount"] *= not record["flags"] & _GROUPED
                command["group"] = record["group"]
        else:
            continue
        command["related_hi"], command["related_lo"] = record["id_hi"], record["id_lo"]
        command["party"] = record["party"]
