"""The test clock: who moves it, from when on it counts, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ledger.errors import Forbidden, InvariantViolation, LedgerError, Rejected, Unauthenticated
from ledger.meters import business_day
from ledger.posting import TIMESTAMP_LIMIT
from settlement import clock
from settlement.shapes import ADVANCE_S_MAX
from tests.settlement_fixture import CREATED_NS, SECOND, Node, issuance, party

CLOCK = "/v1/clock"
DAY_S = 86_400


@dataclass
class Timed:
    """A node whose blocks are made as the writer makes them: real time, which goes on by a second, and the moves."""

    node: Node
    real_ns: int = CREATED_NS

    def post(self, who: str, topic: str, body: object, *, age_s: int = 0) -> LedgerError | None:
        """Send a message that was signed ``age_s`` seconds ago; gives why it was not journaled."""
        self.real_ns += SECOND
        offset_ns = self.node.book.clock_offset_ns
        message = self.node.request(who, topic, body, at_ns=self.real_ns + offset_ns - age_s * SECOND)
        outcome = self.node.apply([message], at_ns=self.real_ns + offset_ns).outcomes[0]
        return outcome if isinstance(outcome, LedgerError) else None

    def advance(self, seconds: int) -> LedgerError | None:
        """Move the clock."""
        return self.post("REGISTRAR-SH", CLOCK, {"advance_s": seconds})


@pytest.fixture
def timed() -> Timed:
    """A ledger in Shanghai with a test clock."""
    return Timed(Node.of("SH", test_clock=True))


def register(timed: Timed, code: str, *, age_s: int = 0, operator: bool = False) -> LedgerError | None:
    """Send something that any block can hold."""
    roles = ("participant", "operator") if operator else ()
    return timed.post("REGISTRAR-SH", "/v1/parties", {"parties": [party(code, *roles)]}, age_s=age_s)


def test_moves_add_up_from_the_next_block_on(timed: Timed) -> None:
    """The block of a move bears the time before it; those that follow bear real time and all moves."""
    for moves in (1, 2):
        assert timed.advance(DAY_S) is None
        assert timed.node.machine.timestamp_ns == timed.real_ns + (moves - 1) * DAY_S * SECOND
        assert register(timed, f"party-{moves}") is None
        assert timed.node.machine.timestamp_ns == timed.real_ns + moves * DAY_S * SECOND
    assert timed.node.machine.state.business_day == business_day(CREATED_NS) + 2


def test_requests_stay_fresh_by_real_time(timed: Timed) -> None:
    """What was signed just now passes after any move; what was signed long ago does not, and nobody signs ahead."""
    assert timed.advance(ADVANCE_S_MAX) is None
    assert register(timed, "fresh", age_s=60) is None

    stale, ahead = register(timed, "stale", age_s=600), register(timed, "ahead", age_s=-600)
    assert isinstance(stale, Unauthenticated)
    assert isinstance(ahead, Unauthenticated)
    assert (stale.code, ahead.code) == ("SIGNATURE_STALE", "SIGNATURE_FROM_FUTURE")


def test_what_stands_behind_a_move_in_its_block_is_fresh_too(timed: Timed) -> None:
    """A whole block is judged by the real time at its beginning, however many moves it holds."""
    bodies = [(CLOCK, {"advance_s": DAY_S}), ("/v1/parties", {"parties": [party("new")]}), (CLOCK, {"advance_s": 1})]
    messages = [timed.node.request("REGISTRAR-SH", topic, body, at_ns=timed.real_ns) for topic, body in bodies]

    draft = timed.node.apply(messages, at_ns=timed.real_ns + SECOND)
    assert not [outcome for outcome in draft.outcomes if isinstance(outcome, LedgerError)]
    assert timed.node.book.clock_offset_ns == (DAY_S + 1) * SECOND


def test_a_replay_knows_every_move(timed: Timed) -> None:
    """The same blocks give the same clock, days and tree, though every signature is of real time."""
    for moves in range(3):
        assert timed.advance(DAY_S) is None
        assert register(timed, f"party-{moves}") is None

    again = timed.node.replayed()
    assert again.book.clock_offset_ns == 3 * DAY_S * SECOND
    assert again.machine.state.business_day == timed.node.machine.state.business_day
    assert again.machine.frontier.root() == timed.node.machine.frontier.root()


def test_only_a_registrar_moves_the_clock(timed: Timed) -> None:
    """Time is nobody else's to move."""
    error = timed.post("PBOC", CLOCK, {"advance_s": 1})

    assert isinstance(error, Forbidden)
    assert error.code == "ROLE_MISSING"


def test_a_real_ledger_has_no_test_clock() -> None:
    """Where the genesis gives none, not even the registrar moves time."""
    error = Timed(Node.of("SH")).advance(1)

    assert isinstance(error, Forbidden)
    assert error.code == "CLOCK_REAL"


def test_the_clock_stays_within_the_calendar(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is stopped before the last day of the calendar is passed."""
    monkeypatch.setattr(clock, "DAY_MAX", business_day(CREATED_NS) + 1)
    assert timed.advance(DAY_S) is None
    assert register(timed, "later") is None

    error = timed.advance(DAY_S)
    assert isinstance(error, Rejected)
    assert error.code == "CLOCK_RANGE"


def test_a_clock_moved_to_its_end_still_posts() -> None:
    """Whatever moves are accepted, what comes after them posts; the one that would go too far changes nothing."""
    timed = Timed(Node.of("SH", test_clock=True))
    assert register(timed, "ALPHA", operator=True) is None
    assert timed.post("ALPHA", "/v1/participants", {"assets": ["CNY"]}) is None
    moves = [timed.advance(ADVANCE_S_MAX) for _ in range(100)]
    machine = timed.node.machine
    before = (machine.state.money_digest(), machine.frontier.root(), machine.height, timed.node.book.clock_offset_ns)

    refused = timed.advance(ADVANCE_S_MAX)

    assert moves[0] is None
    assert isinstance(refused, Rejected)
    assert refused.code == "CLOCK_RANGE"
    after = (machine.state.money_digest(), machine.frontier.root(), machine.height, timed.node.book.clock_offset_ns)
    assert after == before
    assert timed.post("PBOC", "/v1/issuances", {"issuances": [issuance("ALPHA", 100)]}) is None
    timed.real_ns += 365 * DAY_S * SECOND
    assert timed.post("PBOC", "/v1/issuances", {"issuances": [issuance("ALPHA", 200)]}) is None
    assert timed.node.replayed().machine.frontier.root() == machine.frontier.root()


def test_moves_in_one_block_stay_within_the_calendar_together(timed: Timed) -> None:
    """A move is held to the end of the calendar with the moves before it in its own block."""
    body = {"advance_s": ADVANCE_S_MAX}
    messages = [timed.node.request("REGISTRAR-SH", CLOCK, body, at_ns=timed.real_ns) for _ in range(100)]

    outcomes = timed.node.apply(messages, at_ns=timed.real_ns + SECOND).outcomes

    refused = [outcome for outcome in outcomes if isinstance(outcome, LedgerError)]
    assert {error.code for error in refused} == {"CLOCK_RANGE"}
    assert 80 <= len(outcomes) - len(refused) <= 90
    assert business_day(timed.real_ns + timed.node.book.clock_offset_ns) <= clock.DAY_MAX
    assert register(timed, "later") is None


def test_a_block_beyond_the_calendar_is_not_begun(timed: Timed) -> None:
    """A time that no block can bear is refused before anything is done for it, whatever the messages are."""
    machine = timed.node.machine
    before = (machine.state.money_digest(), machine.state.business_day, machine.earliest_ns, machine.position)

    with pytest.raises(InvariantViolation, match="I5"):
        machine.apply([], TIMESTAMP_LIMIT)

    assert (machine.state.money_digest(), machine.state.business_day, machine.earliest_ns, machine.position) == before
