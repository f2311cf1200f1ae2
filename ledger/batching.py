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
from ledger.transfers import Flag, Result, Transfers, transfers

__all__ = ["FLIGHT_COUNT", "WAITING_COUNT_MAX", "Batcher"]

FLIGHT_COUNT = 2
"""Messages under way at a time: one is being applied while the other is being committed."""
WAITING_COUNT_MAX = 2**18
"""Transfers that may wait for a message."""
_FIELDS = ("amount", "debit", "credit", "timeout_s", "flags")
_U32, _I64, _U128 = 2**32, 2**63, 2**128
_LINKED = int(Flag.LINKED)
_RESULTS = {int(result): result for result in Result}

Send = Callable[[Transfers], Awaitable[Sequence[int]]]
"""Signs commands as one message in columns and submits it; gives the result code of each, in order."""


class Batcher:
    """Collects the transfers of one event loop's tasks. All of them are one party's."""

    def __init__(self, send: Send, *, count_max: int = COUNT_MAX) -> None:
        """Collect for ``send``, on the running event loop; no message has more than ``count_max`` transfers.

        Raises:
            InvariantViolation: ``count_max`` is no size of a message.
        """
        if not 1 <= count_max <= COUNT_MAX:
            raise InvariantViolation("a message has 1 to 65,536 transfers")
        self._send = send
        self._count_max = count_max
        self._loop = asyncio.get_running_loop()
        self._rows: list[tuple[int, ...]] = []
        self._futures: list[asyncio.Future[Result]] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._is_scheduled = False

    @property
    def waiting_count(self) -> int:
        """How many transfers wait for a message."""
        return len(self._rows)

    def transfer(
        self,
        identifier: int,
        *,
        debit: int,
        credit: int,
        amount: int,
        flags: int = 0,
        related: int = 0,
        timeout_s: int = 0,
    ) -> asyncio.Future[Result]:
        """Ask for one command; awaiting what this gives yields its result, after its commit.

        Args:
            identifier: its id, 128 bits, unique for ever within the party.
            debit: account number.
            credit: account number.
            amount: minor units.
            flags: its kind, bits of ``Flag``; LINKED only makes sense in a message of one's own, and is refused.
            related: the hold that a POST or VOID ends.
            timeout_s: of a PENDING one.

        Raises:
            InvariantViolation: LINKED, or a number beyond its field.
            Unavailable: ``BUSY``, too many wait.
            LedgerError: when awaited: the message was refused as a whole, or cannot be answered; see the module.
        """
        # Plain comparisons on plain integers: this runs once a transfer, and everything here counts.
        if len(self._rows) >= WAITING_COUNT_MAX:
            raise Unavailable("BUSY", "Too many transfers are waiting.", retry_after_s=1)
        if flags & _LINKED or not 0 <= flags < 2**16:
            raise InvariantViolation("what somebody else sends cannot be linked to this, nor is every number a flag")
        if not (
            0 <= debit < _U32
            and 0 <= credit < _U32
            and 0 <= timeout_s < _U32
            and -_I64 <= amount < _I64
            and 0 <= identifier < _U128
            and 0 <= related < _U128
        ):
            raise InvariantViolation("a number is beyond the field that it is for")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._futures.append(future)
        self._rows.append((identifier, related, amount, debit, credit, timeout_s, flags))
        if not self._is_scheduled and len(self._flights) < FLIGHT_COUNT:
            self._is_scheduled = True
            self._loop.call_soon(self._launch)
        return future

    def _launch(self) -> None:
        """Send what waits, as long as a message may be under way."""
        self._is_scheduled = False
        while self._rows and len(self._flights) < FLIGHT_COUNT:
            rows, self._rows = self._rows[: self._count_max], self._rows[self._count_max :]
            futures, self._futures = self._futures[: self._count_max], self._futures[self._count_max :]
            flight = self._loop.create_task(self._fly(rows, futures))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._launch()

    async def _fly(self, rows: list[tuple[int, ...]], futures: list[asyncio.Future[Result]]) -> None:
        """Send one message and give each of its transfers what became of it."""
        try:
            results = await self._send(_commands(rows))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it belongs to whoever asked for the transfers
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, code in zip(futures, results, strict=True):
            if not future.done():  # otherwise whoever asked has gone
                future.set_result(_RESULTS[code])


def _commands(rows: list[tuple[int, ...]]) -> Transfers:
    """Put rows into columns."""
    commands = transfers(len(rows))
    identifiers, related, *columns = zip(*rows, strict=True)
    for prefix, values in (("id", identifiers), ("related", related)):
        if any(values):
            halves = np.frombuffer(b"".join([value.to_bytes(16, "big") for value in values]), ">u8").reshape(-1, 2)
            commands[f"{prefix}_hi"], commands[f"{prefix}_lo"] = halves[:, 0], halves[:, 1]
    for name, values in zip(_FIELDS, columns, strict=True):
        commands[name] = np.array(values, commands.dtype[name])
    commands["item"] = np.arange(len(rows), dtype=np.uint32)
    return commands
