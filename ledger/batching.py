"""Single transfers of many tasks, sent together: one signature, one block and one commit for thousands of them.

A task that moves money once at a time would pay for a signature and a commit each time. A ``Batcher`` lets any number
of tasks await their own transfers, and puts what has come meanwhile into one message in columns. While messages are
under way, the next one fills; nothing waits for a timer. Order is kept: what was asked for first stands first.

Each transfer is a command of its own with its own result; a refused one is an answer, not an exception. When a message
as a whole is refused or lost, everybody in it gets that exception, and may ask again with the same ids (I8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from ledger.columns import COUNT_MAX
from ledger.errors import InvariantViolation, Unavailable
from ledger.transfers import Flag, Result, Transfers, id_halves, transfers

__all__ = ["FLIGHT_COUNT", "WAITING_COUNT_MAX", "Batcher"]

FLIGHT_COUNT = 2
"""Messages under way at a time: one is being applied while the other is being committed."""
WAITING_COUNT_MAX = 2**18
"""Transfers that may wait for a message."""
_FIELDS = ("id_hi", "id_lo", "related_hi", "related_lo", "amount", "debit", "credit", "timeout_s", "flags")

Send = Callable[[Transfers], Awaitable[Sequence[int]]]
"""Signs commands as one message in columns and submits it; gives the result code of each, in order."""


class Batcher:
    """Collects the transfers of one event loop's tasks. All of them are one party's."""

    def __init__(self, send: Send, *, count_max: int = COUNT_MAX) -> None:
        """Collect for ``send``; no message has more than ``count_max`` transfers.

        Raises:
            InvariantViolation: ``count_max`` is no size of a message.
        """
        if not 1 <= count_max <= COUNT_MAX:
            raise InvariantViolation("a message has 1 to 65,536 transfers")
        self._send = send
        self._count_max = count_max
        self._rows: list[tuple[int, ...]] = []
        self._futures: list[asyncio.Future[Result]] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._is_scheduled = False

    @property
    def waiting_count(self) -> int:
        """How many transfers wait for a message."""
        return len(self._rows)

    async def transfer(
        self,
        identifier: int,
        *,
        debit: int,
        credit: int,
        amount: int,
        flags: Flag = Flag.NONE,
        related: int = 0,
        timeout_s: int = 0,
    ) -> Result:
        """Carry out one command and give its result, after its commit.

        Args:
            identifier: its id, 128 bits, unique for ever within the party.
            debit: account number.
            credit: account number.
            amount: minor units.
            flags: its kind; LINKED only makes sense in a message of one's own, and is refused.
            related: the hold that a POST or VOID ends.
            timeout_s: of a PENDING one.

        Raises:
            InvariantViolation: LINKED, or a number beyond its field.
            LedgerError: the message was refused as a whole, or cannot be answered; see the module.
            Unavailable: ``BUSY``, too many wait.
        """
        if len(self._rows) >= WAITING_COUNT_MAX:
            raise Unavailable("BUSY", "Too many transfers are waiting.", retry_after_s=1)
        if flags & Flag.LINKED:
            raise InvariantViolation("what somebody else sends cannot be linked to this")
        _check((identifier, related), amount, (debit, credit, timeout_s))
        row = (*id_halves(identifier), *id_halves(related), amount, debit, credit, timeout_s, int(flags))
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._rows.append(row)
        self._futures.append(future)
        if not self._is_scheduled and len(self._flights) < FLIGHT_COUNT:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._launch)
        return await future

    def _launch(self) -> None:
        """Send what waits, as long as a message may be under way."""
        self._is_scheduled = False
        while self._rows and len(self._flights) < FLIGHT_COUNT:
            rows, self._rows = self._rows[: self._count_max], self._rows[self._count_max :]
            futures, self._futures = self._futures[: self._count_max], self._futures[self._count_max :]
            flight = asyncio.get_running_loop().create_task(self._fly(rows, futures))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._launch()

    async def _fly(self, rows: list[tuple[int, ...]], futures: list[asyncio.Future[Result]]) -> None:
        """Send one message and give each of its transfers what became of it."""
        error: BaseException | None = None
        results: Sequence[int] = ()
        try:
            results = await self._send(_commands(rows))
        except Exception as failure:  # noqa: BLE001 - it belongs to whoever asked for the transfers
            error = failure
        except asyncio.CancelledError as cancelled:
            error = cancelled
        for index, future in enumerate(futures):
            if future.done():
                continue  # whoever asked has gone
            if error is None:
                future.set_result(Result(int(results[index])))
            else:
                future.set_exception(error)


def _check(ids: tuple[int, int], amount: int, numbers: tuple[int, int, int]) -> None:
    """Keep numbers that no field holds from spoiling everybody's message."""
    ids_fit = all(0 <= value < 2**128 for value in ids)
    if not ids_fit or not -(2**63) <= amount < 2**63 or not all(0 <= value < 2**32 for value in numbers):
        raise InvariantViolation("a number is beyond the field that it is for")


def _commands(rows: list[tuple[int, ...]]) -> Transfers:
    """Put rows into columns."""
    commands = transfers(len(rows))
    for name, values in zip(_FIELDS, zip(*rows, strict=True), strict=True):
        commands[name] = np.array(values, commands.dtype[name])
    commands["item"] = np.arange(len(rows), dtype=np.uint32)
    return commands
