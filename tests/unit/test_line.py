"""What waits for the writer: small messages before large ones, decisions in their turn, nothing lost."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ledger import line
from ledger.line import LARGE_SIZE, Line, Waiting
from ledger.machine import Admitted
from ledger.messages import Kind, Message, parse
from tests.ledger_fixture import statement

BASE = statement("alice", "note", b"", serial=1)
NOBODY: asyncio.Future[Any] = cast("asyncio.Future[Any]", object())
"""Who waits is no matter here."""


def message(name: int, *, size: int = 0) -> Waiting:
    """Give a message that waits; its party number is its name."""
    content = Message(Kind.STATEMENT, BASE.base, BASE.signature, bytes(size))
    return Waiting(Admitted(content, parse(BASE), name, None), None, NOBODY)


def decision() -> Waiting:
    """Give a decision that waits."""
    return Waiting(None, lambda _machine: (), NOBODY)


def names(taken: list[Waiting]) -> list[Any]:
    """Name what was taken."""
    return ["decision" if item.admitted is None else item.admitted.party for item in taken]


def line_of(*items: Waiting, batch_limit: int = 100) -> Line:
    """Let some wait."""
    found = Line(batch_limit)
    for item in items:
        found.add(item)
    return found


def test_small_messages_go_before_large_ones() -> None:
    """A payment that came behind somebody's bulk stands before it in the next block; each kind keeps its order."""
    waiting = line_of(message(1, size=LARGE_SIZE), message(2, size=LARGE_SIZE), message(3), message(4))
    assert names(list(waiting)) == [3, 4, 1, 2]
    assert names(waiting.take()) == [3, 4, 1, 2]
    assert len(waiting) == 0


def test_large_messages_do_not_starve() -> None:
    """A block that takes all small ones still takes large ones behind them."""
    waiting = line_of(*(message(n) for n in range(9)), message(9, size=LARGE_SIZE), batch_limit=10)
    assert names(waiting.take()) == list(range(10))


def test_a_decision_stands_alone_in_its_turn() -> None:
    """Small messages before a decision make a block, then the decision one of its own, then what came after."""
    waiting = line_of(message(1), decision(), message(2), message(3, size=LARGE_SIZE))
    assert names(waiting.take()) == [1]
    assert names(waiting.take()) == ["decision"]
    assert names(waiting.take()) == [2, 3]
    assert waiting.take() == []


def test_what_had_no_room_comes_first_again() -> None:
    """Messages that are put back stand before all others of their kind, in the order they had."""
    small, large = [message(1), message(2)], [message(3, size=LARGE_SIZE), message(4, size=LARGE_SIZE)]
    waiting = line_of(*small, *large)
    taken = waiting.take()
    waiting.add(message(5))
    waiting.add(message(6, size=LARGE_SIZE))
    waiting.put_back(taken[1:])
    assert names(waiting.take()) == [2, 5, 3, 4, 6]


def test_a_block_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies beyond the limit wait for the next block; one that is larger by itself is taken alone."""
    monkeypatch.setattr(line, "BATCH_SIZE_MAX", 2 * LARGE_SIZE)
    waiting = line_of(message(1, size=3 * LARGE_SIZE), message(2, size=LARGE_SIZE), message(3, size=LARGE_SIZE))
    assert names(waiting.take()) == [1]
    assert names(waiting.take()) == [2, 3]


def test_overlapping_pays_for_many_or_for_much() -> None:
    """A block is applied during a commit when enough waits, and never past a decision."""
    assert not line_of(message(1)).is_worth_overlapping
    assert line_of(*(message(n) for n in range(line.OVERLAP_COUNT))).is_worth_overlapping
    much = line_of(message(1, size=line.OVERLAP_SIZE))
    assert much.is_worth_overlapping
    much.add(decision())
    assert not much.is_worth_overlapping


def test_nothing_is_left_when_it_is_cleared() -> None:
    """A writer that has stopped forgets whoever waited, and counts from zero."""
    waiting = line_of(message(1, size=line.OVERLAP_SIZE), decision())
    waiting.clear()
    assert (len(waiting), waiting.is_worth_overlapping, waiting.take()) == (0, False, [])
