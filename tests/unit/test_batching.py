"""Single transfers of many tasks, sent together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ledger import batching
from ledger.batching import Batcher
from ledger.errors import InvariantViolation, Unavailable
from ledger.transfers import Flag, Result, Transfers, id_of

pytestmark = pytest.mark.anyio


class Sender:
    """Takes messages, and answers when it is let."""

    def __init__(self) -> None:
        """Begin with nothing taken."""
        self.taken: list[Transfers] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def __call__(self, commands: Transfers) -> Sequence[int]:
        """Refuse what is for 13."""
        self.taken.append(commands)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [Result.DEBIT_LIMIT if amount == 13 else Result.OK for amount in commands["amount"]]

    @property
    def sizes(self) -> list[int]:
        """How many transfers each message had."""
        return [len(commands) for commands in self.taken]


def numbers(commands: Transfers) -> list[int]:
    """Give the ids of a message in order."""
    return [id_of(row["id_hi"], row["id_lo"]) for row in commands]


async def test_tasks_share_a_message_and_get_their_own_results() -> None:
    """What was asked for in one go is one message, in order; each task gets the result of its own command."""
    sender = Sender()
    batcher = Batcher(sender)
    asked = [batcher.transfer(2**100 + n, debit=1, credit=2, amount=n) for n in range(10, 16)]
    results = await asyncio.gather(*asked)
    assert results == [Result.OK] * 3 + [Result.DEBIT_LIMIT] + [Result.OK] * 2
    (message,) = sender.taken
    assert numbers(message) == [2**100 + n for n in range(10, 16)]
    assert message["item"].tolist() == list(range(6))


async def test_all_fields_arrive() -> None:
    """A command's kind, its hold and its timeout stand in the message as they were asked for."""
    sender = Sender()
    batcher = Batcher(sender)
    await batcher.transfer(7, debit=1, credit=2, amount=3, flags=Flag.PENDING, timeout_s=9)
    await batcher.transfer(8, debit=0, credit=0, amount=0, flags=Flag.POST, related=7 << 64 | 5)
    first, second = sender.taken
    assert (first["flags"][0], first["timeout_s"][0]) == (Flag.PENDING, 9)
    assert (second["related_hi"][0], second["related_lo"][0], second["flags"][0]) == (7, 5, Flag.POST)


async def test_the_next_message_fills_while_others_are_under_way() -> None:
    """With as many messages under way as may be, what comes waits, and goes together when one has landed."""
    sender = Sender()
    sender.gate.clear()
    batcher = Batcher(sender)
    asked: list[asyncio.Future[Any]] = []
    for n in range(6):
        asked.append(batcher.transfer(1 + n, debit=1, credit=2, amount=1))
        for _ in range(3):
            await asyncio.sleep(0)
    assert sender.sizes == [1] * batching.FLIGHT_COUNT
    assert batcher.waiting_count == 6 - batching.FLIGHT_COUNT
    sender.gate.set()
    await asyncio.gather(*asked)
    assert sender.sizes == [1] * batching.FLIGHT_COUNT + [6 - batching.FLIGHT_COUNT]


async def test_no_message_is_larger_than_allowed() -> None:
    """More than one message can carry goes in several."""
    sender = Sender()
    batcher = Batcher(sender, count_max=4)
    await asyncio.gather(*(batcher.transfer(1 + n, debit=1, credit=2, amount=1) for n in range(10)))
    assert sender.sizes == [4, 4, 2]
    assert [number for message in sender.taken for number in numbers(message)] == list(range(1, 11))


async def test_a_message_that_fails_fails_for_everybody_in_it() -> None:
    """A refused message is everybody's exception, and the next message goes as if nothing had been."""
    sender = Sender()
    sender.failure = Unavailable("WRITER_STOPPED", "The ledger takes no messages now.", retry_after_s=1)
    batcher = Batcher(sender)
    asked = [batcher.transfer(1 + n, debit=1, credit=2, amount=1) for n in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, Unavailable) and error.code == "WRITER_STOPPED" for error in found)
    sender.failure = None
    assert await batcher.transfer(1, debit=1, credit=2, amount=1) is Result.OK


async def test_a_task_that_went_away_spoils_nothing() -> None:
    """The transfer of a task that was cancelled is carried out all the same; the others get their results."""
    sender = Sender()
    sender.gate.clear()
    batcher = Batcher(sender)
    gone = batcher.transfer(1, debit=1, credit=2, amount=1)
    here = batcher.transfer(2, debit=1, credit=2, amount=1)
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    sender.gate.set()
    assert await here is Result.OK
    assert gone.cancelled()
    assert sender.sizes == [2]


async def test_too_many_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded."""
    monkeypatch.setattr(batching, "WAITING_COUNT_MAX", 1)
    sender = Sender()
    batcher = Batcher(sender)
    first = batcher.transfer(1, debit=1, credit=2, amount=1)
    with pytest.raises(Unavailable, match="BUSY"):
        await batcher.transfer(2, debit=1, credit=2, amount=1)
    assert await first is Result.OK


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": Flag.LINKED},
        {"debit": 2**32},
        {"credit": -1},
        {"amount": 2**63},
        {"identifier": 2**128},
        {"related": -1},
        {"timeout_s": 2**32},
        {"flags": 2**16},
    ],
)
async def test_what_would_spoil_the_message_is_our_mistake(changes: dict[str, int]) -> None:
    """A number that no field holds, or a link to what somebody else sends, is refused before it is collected."""
    sender = Sender()
    command: dict[str, Any] = {"identifier": 1, "debit": 1, "credit": 2, "amount": 1} | changes
    with pytest.raises(InvariantViolation):
        await Batcher(sender).transfer(**command)
    assert not sender.taken


@pytest.mark.parametrize("count_max", [0, 65_537])
async def test_a_message_has_a_size(count_max: int) -> None:
    """A message of no size that the format knows is never made."""
    with pytest.raises(InvariantViolation):
        Batcher(Sender(), count_max=count_max)


async def test_whoever_has_gone_is_not_told_of_a_failure() -> None:
    """A task that gave up waiting gets nothing; the others get the failure of their message."""
    sender = Sender()
    sender.gate.clear()
    sender.failure = Unavailable("STOPPING", "The node stops.", retry_after_s=1)
    batcher = Batcher(sender)
    gone, waiting = (batcher.transfer(number, debit=1, credit=2, amount=1) for number in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    sender.gate.set()
    with pytest.raises(Unavailable):
        await waiting
    assert gone.cancelled()
