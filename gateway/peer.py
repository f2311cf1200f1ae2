"""What a node asks the other one when it starts: what it has cosigned last of this node's journal.

A node that was put back as a whole from an older copy cannot know that by itself. Its cosigner knows, and says it with
a note that this node has signed. Where the cosigner cannot be reached, the node starts without and goes on asking:
payments inside its ledger wait for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import httpx

from ledger.errors import LedgerError
from ledger.runtime import Runtime

__all__ = ["ask", "keep_asking"]

PATH = "/v1/checkpoints/cosigned"
ASK_TIME_S_MAX = 2
"""How long the start of a node may wait for the answer."""
WAITS_S = (1, 2, 4, 8, 15, 30)
"""How long to wait before asking again; the last one again and again."""
NOTE_SIZE_MAX = 2**14
_log = logging.getLogger("hugang.node")
Hear = Callable[[bytes], Awaitable[None]]


async def ask(url: str, hear: Hear, transport: httpx.AsyncBaseTransport | None = None) -> bool:
    """Ask once, and tell ``hear`` what the other node says.

    Args:
        url: the other node's scheme and authority.
        hear: takes a note, and raises ``LedgerError`` for one that is of no use.
        transport: carries the request; by default the network.

    Returns:
        Whether there was an answer; that nothing was cosigned yet is one.

    Raises:
        IntegrityFailure: from ``hear``: this node's journal lacks what it has signed.
    """
    note = b""
    async with httpx.AsyncClient(timeout=ASK_TIME_S_MAX, trust_env=False, transport=transport) as client:
        try:
            async with asyncio.timeout(ASK_TIME_S_MAX), client.stream("GET", url.rstrip("/") + PATH) as response:
                async for part in response.aiter_bytes():
                    note += part
                    if len(note) > NOTE_SIZE_MAX:
                        return False
        except (httpx.TransportError, TimeoutError):
            return False
    if response.status_code != 200:
        return response.status_code == 404
    try:
        await hear(note)
    except LedgerError as error:
        _log.warning("what the other node says of this journal cannot be used: %s", error)
        return False
    return True


async def keep_asking(url: str, hear: Hear, runtime: Runtime) -> None:
    """Ask until there is an answer."""
    tries = 0
    while True:
        await runtime.sleep(WAITS_S[min(tries, len(WAITS_S) - 1)])
        if await ask(url, hear):
            return
        tries += 1
