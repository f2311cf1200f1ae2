"""Asking the other node at the start: every answer it may give, and none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from gateway import peer
from ledger.errors import IntegrityFailure, MalformedInput
from ledger.runtime import ManualRuntime

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1:9/"
Answer = Callable[[httpx.Request], httpx.Response]


class Ear:
    """Notes what is heard, and does with it what it was told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[bytes] = []
        self._error = error

    async def __call__(self, note: bytes) -> None:
        """Hear a note."""
        self.heard.append(note)
        if self._error is not None:
            raise self._error


async def asked(answer: Answer, ear: Ear) -> bool:
    """Ask a node that answers so."""
    return await peer.ask(URL, ear, httpx.MockTransport(answer))


async def test_a_note_is_heard() -> None:
    """The note is handed on as it came, from the one address that everybody may read."""
    ear, paths = Ear(), []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(str(request.url))
        return httpx.Response(200, content=b"a note")

    assert await asked(answer, ear)
    assert (ear.heard, paths) == ([b"a note"], ["http://127.0.0.1:9/v1/checkpoints/cosigned"])


async def test_nothing_cosigned_is_an_answer() -> None:
    """A node that has cosigned nothing yet has answered."""
    ear = Ear()
    assert await asked(lambda _: httpx.Response(404), ear)
    assert ear.heard == []


@pytest.mark.parametrize("status", [301, 401, 500, 503])
async def test_other_answers_are_none(status: int) -> None:
    """Any other status is no answer."""
    ear = Ear()
    assert not await asked(lambda _: httpx.Response(status, content=b"x"), ear)
    assert ear.heard == []


async def test_an_endless_answer_is_not_read() -> None:
    """An answer larger than any note is given up."""
    ear = Ear()
    assert not await asked(lambda _: httpx.Response(200, content=bytes(peer.NOTE_SIZE_MAX + 1)), ear)
    assert ear.heard == []


async def test_a_node_that_is_away() -> None:
    """A node that cannot be reached, or does not answer in time, has not answered."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    def late(_: httpx.Request) -> httpx.Response:
        raise TimeoutError

    for answer in (refuse, late):
        assert not await asked(answer, Ear())


async def test_a_note_of_no_use() -> None:
    """A note that cannot be used is no answer, and one that this journal lacks is the caller's to act on."""
    assert not await asked(lambda _: httpx.Response(200, content=b"x"), Ear(MalformedInput("NOTE_MALFORMED", "No.")))
    with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
        await asked(lambda _: httpx.Response(200, content=b"x"), Ear(IntegrityFailure("HISTORY_LOST", "Lost.")))


async def test_asking_goes_on_until_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable node is asked again after longer and longer waits, and no more once it has answered."""
    answers = iter([False] * 8 + [True])
    times_s: list[int] = []
    runtime = ManualRuntime(start_ns=0)

    async def ask(_url: str, _hear: object) -> bool:
        times_s.append(runtime.monotonic_ns() // 10**9)
        return next(answers)

    monkeypatch.setattr(peer, "ask", ask)
    task = asyncio.ensure_future(peer.keep_asking(URL, Ear(), runtime))
    await runtime.advance(1_000)
    await task
    assert times_s == [1, 3, 7, 15, 30, 60, 90, 120, 150]
