"""A node that replays for long says so, and whoever waits for it sees it and goes on waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import supervisor as supervisors
from gateway.config import init_network
from gateway.replaying import INTERVAL_NS, Notes, last_note
from gateway.supervisor import LOG_FOLDER, Supervisor, free_ports
from ledger.errors import Unavailable
from ledger.runtime import ManualRuntime


def test_a_note_comes_once_a_second() -> None:
    """A short replay says nothing, a long one a line a second."""
    said: list[str] = []
    runtime = ManualRuntime()
    notes = Notes(said.append, runtime)
    for height in range(1, 10):
        runtime.move_to(runtime.now_ns() + INTERVAL_NS // 4)
        notes(height, 9)
    assert said == ["replayed 4 of 9 blocks", "replayed 8 of 9 blocks"]


def test_the_last_note_of_this_start_counts(tmp_path: Path) -> None:
    """What an earlier start has said is not this one's, and other lines are passed over."""
    log = tmp_path / "sh.log"
    log.write_text("replayed 3 of 9 blocks\n")
    start = log.stat().st_size
    assert last_note(log, 0) == (3, 9)
    assert last_note(log, start) is None
    with log.open("a") as file:
        file.write("replayed 4 of 9 blocks\nreplayed 5 of 9 blocks\nsomething else\nreplayed 6 of")
    assert last_note(log, start) == (5, 9)


def test_a_node_that_replays_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time within which a node must answer begins anew whenever it says more; one that says nothing is given up."""
    init_network(tmp_path, ManualRuntime(), ports=free_ports())
    runtime = ManualRuntime()
    supervisor = Supervisor(tmp_path, runtime)
    log = tmp_path / LOG_FOLDER / "sh.log"
    log.parent.mkdir()
    log.touch()
    supervisor._log_starts["sh"] = 0
    steps: list[int] = []

    def answers(is_saying: Callable[[int], bool]) -> bool:
        runtime.move_to(runtime.now_ns() + 4 * 10**9)
        steps.append(len(steps) + 1)
        if is_saying(steps[-1]):
            log.write_text(f"replayed {steps[-1]} of 9 blocks\n")
        return steps[-1] == 9

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(supervisors, "_answers", lambda _client, _url: answers(lambda _step: True))
    supervisor.wait_ready(["sh"], time_s_max=5, progress=lambda height, count: told.append((height, count)))
    assert told == [(height, 9) for height in range(1, 9)]
    steps.clear()
    monkeypatch.setattr(supervisors, "_answers", lambda _client, _url: answers(lambda step: step < 3))
    with pytest.raises(Unavailable, match="NOT_READY"):
        supervisor.wait_ready(["sh"], time_s_max=5)
    assert steps[-1] < 9
