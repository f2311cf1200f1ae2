"""Windows that end otherwise: aborts and what follows, more payments than a list holds, and mistakes of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ledger import columns
from ledger.errors import InvariantViolation
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import Flag, Result, id_halves, transfers
from settlement import answers, applied, obligations, reservation
from settlement.book import Book, PaymentState, Window, WindowState
from settlement.obligations import Signed
from settlement.statements import (
    LEDGERS,
    DecisionBody,
    NetPosition,
    VoteBody,
    VoteReason,
    body_of,
)
from tests.cycle_steps import Steps, accepted, refused, states, world_with_payments
from tests.settlement_fixture import SECOND, Node, public_key_of, uetr_of

YUAN = 100


@pytest.fixture
def steps() -> Steps:
    """Give the first window of that world."""
    return Steps(world_with_payments())


def counters(steps: Steps) -> list[list[tuple[int, ...]]]:
    """Give all accounts' counters on both ledgers."""
    names = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"]
    return [node.machine.state.accounts[names].tolist() for node in steps.nodes.values()]


# --- no, and what comes after -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ledger", "account", "reasons"),
    [
        ("SH", "SETTLE.ALPHA", [VoteReason.YES, VoteReason.FUNDS_SHORT]),
        ("SH", "FUNDS.BETA", [VoteReason.YES, VoteReason.FUNDS_SHORT]),
        ("HK", "SETTLE.FX", [VoteReason.FUNDS_SHORT, VoteReason.PEER]),
    ],
)
def test_a_shortage_aborts(steps: Steps, ledger: str, account: str, reasons: list[VoteReason]) -> None:
    """When either side's funds do not suffice the attempt is aborted on both, and the money is as before."""
    steps.to_acceptance()
    node = steps.world.node(ledger)
    number = node.account(account, "HKD" if ledger == "HK" else "CNY")
    node.machine.state.account_rows["minimum"][number] = node.machine.state.balance(number) - 1_000
    before = counters(steps)
    steps.propose()
    steps.vote()
    steps.decide()
    assert [body_of(steps.messages[f"vote/{at}/1"], VoteBody).reason for at in ("HK", "SH")] == reasons
    assert [each.book.windows[1].state for each in steps.nodes.values()] == [WindowState.ACCEPTED] * 2
    assert not steps.decision().commit
    assert counters(steps) == before


@pytest.mark.parametrize(
    ("account", "field", "value", "reason"),
    [
        ("SETTLE.ALPHA", "flags", 4, VoteReason.ACCOUNT_CLOSED),
        ("NETTING", "credits_posted", 2**63 - 1_000, VoteReason.OVERFLOW),
        ("NETTING", "debits_posted", 2**63 - 1_000, VoteReason.OVERFLOW),
        ("OMNIBUS", "minimum", 1, VoteReason.YES),
    ],
)
def test_votes_name_what_is_in_the_way(steps: Steps, account: str, field: str, value: int, reason: VoteReason) -> None:
    """Closed accounts and counters near their end are reasons for a no; a border that receives is none."""
    steps.to_acceptance()
    steps.propose()
    sh = steps.world.sh
    rows = sh.machine.state.account_rows
    rows[field][sh.account(account)] |= value
    nets = steps.proposal().nets
    assert reservation.shortage(sh.book, sh.machine.state, nets) is reason


def test_a_border_that_is_too_low_is_a_reason(steps: Steps) -> None:
    """More than the omnibus account holds cannot come home."""
    sh = steps.world.sh
    nets = (NetPosition("SH", "ALPHA", "CNY", 5),)
    assert reservation.shortage(sh.book, sh.machine.state, nets) is VoteReason.BORDER_SHORT
    stranger = (NetPosition("SH", "NOBODY", "CNY", 5),)
    assert reservation.shortage(sh.book, sh.machine.state, stranger) is VoteReason.ACCOUNT_CLOSED


def test_after_an_abort_comes_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An aborted attempt is over for ever; the next one can settle a smaller selection."""
    steps = Steps(world_with_payments()).to_acceptance()
    with monkeypatch.context() as patched:
        patched.setattr("settlement.answers.shortage", lambda *_: VoteReason.BORDER_SHORT)
        steps.propose()
        steps.vote()
    steps.decide()
    steps.propose(steps.proposal(2, leave_out={"SH": [1]}))
    sh = steps.world.sh
    ended = {name: sh.book.windows[1].statements.pop(name) for name in ("vote/HK/1", "decision/SH/1")}
    late = VoteBody(1, 1, bytes(32), yes=True, reason=0)
    assert refused(sh, steps.say("HK", late)) == "ATTEMPT_ENDED"
    abort = body_of(ended["decision/SH/1"], DecisionBody)
    other = msgspec.structs.replace(abort, proposal_digest=bytes(32))
    assert refused(sh, steps.say("SH", other)) == "ATTEMPT_ENDED"
    sh.book.windows[1].statements |= ended
    steps.vote()
    steps.decide()
    assert steps.window("SH").attempt == 2
    assert states(steps, "SH")[0][:2] == [PaymentState.SETTLED, PaymentState.CARRIED]


def test_a_yes_that_money_does_not_bear_is_refused(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that signed a yes against its balances may not journal it."""
    steps.to_acceptance()
    steps.propose()
    yes = steps.say("HK", steps.vote_of("HK"))
    with monkeypatch.context() as patched:
        patched.setattr("settlement.reservation.shortage", lambda *_: VoteReason.OVERFLOW)
        assert refused(steps.world.hk, yes) == "VOTE_IMPOSSIBLE"
    accepted(steps.world.hk, yes)


def test_reserved_funds_cannot_be_spent(steps: Steps) -> None:
    """Between vote and decision a net sender's funds are held, so that nothing can make the yes fail."""
    steps.to_acceptance()
    steps.propose()
    steps.vote()
    sh = steps.world.sh
    accounts = sh.machine.state
    held = accounts.account(sh.account("SETTLE.ALPHA"))
    assert held.balance - held.available == 40 * YUAN
    everything = steps.world.payment("SH/POSITION.ALPHA", "SH/POSITION.BETA", 800_000_00)
    accounts.account_rows["minimum"][sh.account("SETTLE.ALPHA")] = 200_000_00 - 39 * YUAN
    assert Result.OK not in sh.pay("ALPHA", everything)["result"].tolist()
    steps.decide()
    assert sh.balance("SETTLE.ALPHA") == 1_000_000_00 - 40 * YUAN


def test_bound_payments_cannot_be_cancelled(steps: Steps) -> None:
    """From the closing to the decision a payment is nobody's to cancel."""
    payment = steps.world.payment("SH/WALLET.ben", "HK/WALLET.dan", 5, uetr=uetr_of("mine"))
    steps.world.sh.pay("ben", payment)
    steps.close()
    with pytest.raises(Exception, match="WINDOW_CLOSED"):
        steps.world.sh.post("ben", "/v1/cancellations", {"uetr": uetr_of("mine")})


# --- more than a list can hold ----------------------------------------------------------------------------------------


def test_what_finds_no_room_is_the_next_windows(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window lists its oldest payments; the others count as accepted by the next window, and settle there."""
    monkeypatch.setattr(obligations, "LIST_COUNT_MAX", 2)
    steps.to_acceptance()
    assert steps.window("SH").outgoing.states.tolist()[2] == PaymentState.CARRIED
    steps.propose(steps.proposal(leave_out={"SH": [0]}))
    steps.vote()
    steps.decide()
    sh = steps.decision().directions[1]
    assert (sh.accepted, sh.settled, sh.rejected, sh.carried_out) == (2, 1, 0, 1)
    later = Steps(steps.world, 2).to_decision()
    count = later.decision().directions[1]
    assert (count.carried_in, count.accepted, count.settled, count.rejected) == (1, 1, 1, 1)
    assert later.window("SH").outgoing.states.tolist() == [PaymentState.REJECTED, PaymentState.SETTLED]
    assert steps.world.hk.balance("WALLET.dan") == 40 * YUAN


# --- our own mistakes stop the node -----------------------------------------------------------------------------------


def test_holds_that_say_another_thing_stop_the_node(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this node's holds do not carry the nets that both signed, it stops instead of voting (I6)."""
    steps.to_acceptance()
    monkeypatch.setattr("settlement.windows.held_nets", lambda *_: ())
    with pytest.raises(InvariantViolation, match="I6"):
        steps.propose(to=("SH",))


def test_a_settlement_account_that_moved_otherwise_stops_the_node(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that would leave a settlement account elsewhere than its net position says stops the node (I11)."""
    steps.to_acceptance()
    steps.propose()
    steps.vote()
    monkeypatch.setattr("settlement.answers.own_nets", lambda *_: ())
    with pytest.raises(InvariantViolation, match="I11"):
        steps.decide()


def test_a_lost_carry_stops_the_node(steps: Steps) -> None:
    """A window that carried in another number than the one before has carried out is never listed (I13)."""
    steps.close()
    steps.window("SH").carried_in = 1
    with pytest.raises(InvariantViolation, match="I13"):
        answers.list_of(steps.world.sh.book, steps.window("SH"))


def test_a_lost_deferral_stops_the_node(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing that does not move on what it defers stops the node (I13)."""
    monkeypatch.setattr(obligations, "LIST_COUNT_MAX", 2)
    monkeypatch.setattr("settlement.windows._defer", lambda *_: None)
    with pytest.raises(InvariantViolation, match="I13"):
        steps.close()


def test_an_uncovered_yes_stops_the_node(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Net positions that the kernel refuses after they were found covered stop the node (I4)."""
    steps.to_acceptance()
    steps.propose()
    sh = steps.world.sh
    steps.deliver(steps.say("HK", steps.vote_of("HK")))
    rows = sh.machine.state.account_rows
    rows["minimum"][sh.account("SETTLE.ALPHA")] = 1_000_000_00
    monkeypatch.setattr("settlement.answers.shortage", lambda *_: VoteReason.YES)
    monkeypatch.setattr("settlement.reservation.shortage", lambda *_: VoteReason.YES)
    with pytest.raises(InvariantViolation, match="I4"):
        steps.deliver(steps.say("SH", steps.vote_of("SH")), ("SH",))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda window: window.outgoing.states.__setitem__(0, PaymentState.REJECTED), "I13"),
        (lambda window: window.outgoing.append(window.outgoing.rows[:1]), "I13"),
    ],
)
def test_payments_that_do_not_add_up_stop_the_node(
    steps: Steps, harm: Callable[[Window], None], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit after which a window's payments are not as many as were signed stops the node (I13)."""
    steps.to_acceptance()
    steps.propose()
    steps.vote()
    honest = applied._end_outgoing

    def harmed(book: Book, state: State, window: Window, **more: Any) -> None:
        honest(book, state, window, **more)
        harm(window)
        if window.outgoing.count > 3:
            window.outgoing.states[3] = PaymentState.CANCELLED

    monkeypatch.setattr(applied, "_end_outgoing", harmed)
    with pytest.raises(InvariantViolation, match=named):
        steps.decide()


def test_a_hold_that_outlives_its_window_stops_the_node(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that leaves a hold of its window alive stops the node (I7)."""
    steps.to_acceptance()
    steps.propose()
    steps.vote()
    monkeypatch.setattr(applied, "_end_incoming", lambda *_: None)
    with pytest.raises(InvariantViolation, match="I7"):
        steps.decide()


def test_money_beside_the_cycle_is_seen(steps: Steps) -> None:
    """A clearing account that is not at zero, or funds that differ from settlement accounts, are named (I11)."""
    sh = steps.to_decision().world.sh
    accounts = sh.machine.state.account_rows
    accounts["credits_posted"][sh.account("CLEARING.ALPHA")] += 1
    accounts["debits_posted"][sh.account("FUNDS.BETA")] += 1
    faults = applied.book_faults(sh.book, sh.machine.state)
    assert len(faults) == 2
    assert all(fault.startswith("I11: ") for fault in faults)
    with pytest.raises(InvariantViolation, match="I11"):
        applied.check_books(sh.book, sh.machine.state)


def use_up(node: Node, *identifiers: int) -> None:
    """Have a further key of a node void holds that are not there, under ids of its choice: each is used up."""
    party = f"NODE-{node.ledger}"
    node.post(party, "/v1/keys", {"party": party, "public_key": public_key_of(f"clerk of {party}")})
    voids = transfers(len(identifiers))
    for void, identifier in zip(voids, identifiers, strict=True):
        void["id_hi"], void["id_lo"] = id_halves(identifier)
        void["related_lo"], void["flags"] = 1, Flag.VOID
    request = node.request(party, "/v1/transfers", columns.encode(voids), key=f"clerk of {party}")
    assert set(node.apply([request]).transfers["result"].tolist()) == {Result.HOLD_NOT_FOUND}


@pytest.mark.parametrize("used", [[(0, 0)], [(2, 0), (0, 1), (1, 2)]])
def test_ids_that_a_nodes_key_has_used_up_stop_no_vote(steps: Steps, used: list[tuple[int, int]]) -> None:
    """Nobody with a key of a node stops it at its vote by taking the ids of its net positions before."""
    for node in steps.nodes.values():
        use_up(node, *(reservation.net_id(1, 1, index, series) for index, series in used))
    steps.to_decision().world.check()

    free = len({series for _, series in used})
    for ledger, node in steps.nodes.items():
        assert steps.window(ledger).state is WindowState.SETTLED
        party = node.machine.directory.by_code(f"NODE-{ledger}").number
        found = node.machine.state.lookup(party, reservation.net_id(1, 1, 0, free))
        assert found is not None
        assert found.status is IdStatus.HOLD_POSTED
        assert node.replayed().machine.state.money_digest() == node.machine.state.money_digest()


def test_net_ids_are_fresh_for_every_attempt() -> None:
    """No two legs of any window, attempt or series share an id."""
    ids = {reservation.net_id(*key) for key in [(1, 1, 0), (1, 1, 1), (1, 2, 0), (2, 1, 0), (257, 1, 0), (1, 1, 0, 1)]}
    assert len(ids) == 6
    assert all(0 <= identifier < 2**128 for identifier in ids)


def test_signed_inputs_know_their_counts(steps: Steps) -> None:
    """The signed inputs of a netting give the payments of each direction."""
    steps.to_acceptance()
    signed = answers.signed_of(steps.window("HK"))
    assert isinstance(signed, Signed)
    assert [signed.count(ledger) for ledger in LEDGERS] == [0, 3]


def test_statements_are_journaled_verbatim_by_both(steps: Steps) -> None:
    """Both journals hold the same statements of a settled window, byte for byte."""
    steps.to_decision()
    assert steps.window("SH").statements == steps.window("HK").statements == steps.messages


def test_finality_has_a_place_and_a_time(steps: Steps) -> None:
    """A settled window knows position and instant of its decision, the last voter's before the first one's."""
    steps.to_decision()
    for node in steps.nodes.values():
        window = node.book.windows[1]
        assert window.settled_ns == node.machine.timestamp_ns
        assert window.settled_position == node.machine.position - 1
        assert window.closed_ns % SECOND == 0
        assert window.closed_ns < window.settled_ns
