"""``kill -9`` at every named point of the writer and the store: nothing acknowledged is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.audit import Report, verify
from ledger.runtime import SystemRuntime
from tests.ledger_fixture import FixtureInterpreter
from tests.store_places import Database, SqlitePlace

pytestmark = [pytest.mark.faults, pytest.mark.long]

ROOT = Path(__file__).parents[2]
COUNT = 18
POINTS = (
    "writer.before_apply",
    "writer.after_apply",
    "writer.before_commit",
    "store.before_commit",
    "store.after_commit",
    "writer.after_commit",
)
Answers = dict[int, str]


def drive(database: Database, **environment: str) -> tuple[int, Answers]:
    """Run the driver; give how it ended and the answers it printed, by serial number."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.journal_driver", database.address, str(COUNT)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        pytest.fail(done.stderr)
    database.settle()
    return done.returncode, {int(line.split()[0]): line for line in done.stdout.splitlines()}


def inspect(database: Database) -> Report:
    """Verify what is stored."""
    runtime = SystemRuntime()
    store = database.open_reader()
    report = verify(store, interpreter_factory=FixtureInterpreter, runtime=runtime, compiled=False)
    store.close()
    return report


def money(report: Report) -> tuple[bytes, int, int, int]:
    """Give what must not depend on when a process died."""
    return report.machine.state.money_digest(), report.message_count, report.record_count, report.refused_count


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Give the end of a run in which nothing dies."""
    place = SqlitePlace(tmp_path_factory.mktemp("undisturbed") / "sh.db")
    code, answers = drive(place)
    assert code == 0
    assert sorted(answers) == list(range(1, COUNT + 1))
    return inspect(place)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("at", [1, 3])
def test_dying_at_a_point_loses_nothing(database: Database, undisturbed: Report, point: str, at: int) -> None:
    """After a death at any point the next run ends as if nothing had happened, and gives all answers again."""
    code, before = drive(database, HUGANG_CRASH=str(at), HUGANG_CRASH_POINT=point)
    assert code == -signal.SIGKILL
    durable = inspect(database)
    assert durable.message_count >= len(before)
    code, after = drive(database)
    assert code == 0
    assert before.items() <= after.items()
    assert sorted(after) == list(range(1, COUNT + 1))
    assert money(inspect(database)) == money(undisturbed)


def test_dying_again_and_again_comes_to_the_end(database: Database, undisturbed: Report) -> None:
    """A process that is killed after its second block each time still gets the work done, one life after another."""
    known: Answers = {}
    for life in range(COUNT):
        code, answers = drive(database, HUGANG_CRASH="2", HUGANG_CRASH_POINT="writer.after_commit")
        assert all(known[serial] == line for serial, line in answers.items() if serial in known)
        known |= answers
        if code == 0:
            assert life >= 2
            break
        assert inspect(database).message_count >= len(known)
    else:
        pytest.fail("the work was never done")
    assert money(inspect(database)) == money(undisturbed)
