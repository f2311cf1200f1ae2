"""Keeping the projection beside a running node: on a thread of its own, with a connection of its own.

The ledger never waits for it. What the writer gives is a copy of the accounts between two blocks; everything else is
read from what is durable. A failure is logged and tried again; the projection then lags, and nothing else happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.projection.database import Projection
from gateway.projection.rows import Money, money_of
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError
from ledger.runtime import Runtime
from ledger.store import Store
from ledger.writer import Writer

__all__ = ["Keeper"]

_log = logging.getLogger("hugang.projection")


class Keeper:
    """Brings a projection up to date every so often. Belongs to the event loop on which it is started."""

    def __init__(
        self,
        projection: Projection,
        *,
        store: Store,
        writer: Writer,
        runtime: Runtime,
        interval_s: int,
        halt: Callable[[BaseException], None],
    ) -> None:
        """Keep ``projection`` for a node; nothing is read before ``start``. ``halt`` is told of a damaged journal."""
        self._projection = projection
        self._store = store
        self._writer = writer
        self._runtime = runtime
        self._interval_s = interval_s
        self._halt = halt
        self._lane = runtime.lane("projection")
        self._task: asyncio.Task[None] | None = None
        self._updating: asyncio.Future[None] | None = None
        self._is_ending = False
        self._is_checked = False
        self.height = -1
        """The block up to which the projection has come."""

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End after the transaction that is under way."""
        self._is_ending = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._updating is not None:
            await asyncio.wait([self._updating])
        self._lane.close()
        self._projection.close()

    async def update(self) -> None:
        """Bring the projection up to what is durable now.

        Raises:
            LedgerError: it cannot be used, or the writer has stopped.
        """
        money = await self._writer.read(money_of)
        if money.height != self.height:
            self._updating = self._lane.start(lambda: self._write(money))
            await asyncio.shield(self._updating)
            self.height = money.height

    def _write(self, money: Money) -> None:
        """Write, on the thread of its own."""
        if not self._is_checked:
            torn = self._projection.check(self._store)
            _log.info("the projection is made anew: %s", ", ".join(torn) or "nothing")
            self._is_checked = True
        self._projection.update(self._store, money, is_ending=lambda: self._is_ending)

    async def _run(self) -> None:
        while True:
            try:
                await self.update()
            except LedgerError as error:
                self._is_checked = False
                _log.warning("the projection lags: %s", error)
            except (IntegrityFailure, InvariantViolation) as error:
                self._halt(error)
                return
            await self._runtime.sleep(self._interval_s)
