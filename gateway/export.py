"""The export as a stream: a thread writes it, the event loop sends it, and a bounded queue keeps the two in step."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, AsyncIterator

from gateway.node import Node
from ledger.errors import Unavailable
from ledger.exports import write_export

__all__ = ["Exports"]

CHUNK_SIZE = 256 * 2**10
QUEUE_COUNT_MAX = 8
"""Chunks between the two: at most 2 MiB of a journal are in memory for a slow reader."""


class Exports:
    """Gives one export at a time: each takes a thread for as long as its reader takes."""

    def __init__(self, node: Node) -> None:
        """Export the journal of ``node``."""
        self._node = node
        self._is_busy = False

    async def begin(self) -> AsyncIterator[bytes]:
        """Begin an export and give it in chunks; whoever stops reading ends it.

        Raises:
            Unavailable: ``EXPORT_BUSY``.
        """
        if self._is_busy:
            raise Unavailable("EXPORT_BUSY", "An export is under way already.", retry_after_s=5)
        self._is_busy = True
        chunks = self._chunks()
        first = await anext(chunks)  # begun here, so that its end is certain even if nobody reads on
        return _joined(first, chunks)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        pipe = _Pipe(asyncio.get_running_loop())
        writing = asyncio.ensure_future(self._node.runtime.offload(self._write, pipe))
        try:
            while (chunk := await pipe.queue.get()) is not None:
                pipe.taken()
                yield chunk
            await writing
        finally:
            pipe.abandon()
            await asyncio.wait([writing])
            writing.exception()  # a reader that has gone is no failure
            self._is_busy = False

    def _write(self, pipe: _Pipe) -> None:
        """Write the export; on a worker thread."""
        try:
            with io.BufferedWriter(pipe, CHUNK_SIZE) as file:
                write_export(self._node.store, file)
        finally:
            pipe.end()


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        await rest.aclose()


class _Pipe(io.RawIOBase):
    """A file that one thread writes and the event loop reads; writing waits while the queue is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = loop
        self._room = threading.Semaphore(QUEUE_COUNT_MAX)
        self._is_abandoned = False

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(memoryview(data))  # type: ignore[arg-type]  # the buffer protocol has no name before 3.12
        self._room.acquire()
        if self._is_abandoned:
            raise BrokenPipeError("the reader of the export has gone")
        self._loop.call_soon_threadsafe(self.queue.put_nowait, chunk)
        return len(chunk)

    def end(self) -> None:
        """Tell the reader that no more comes."""
        self._loop.call_soon_threadsafe(self.queue.put_nowait, None)

    def taken(self) -> None:
        """Make room for one more chunk."""
        self._room.release()

    def abandon(self) -> None:
        """Let the writer end, whether or not it was done."""
        self._is_abandoned = True
        self._room.release()
