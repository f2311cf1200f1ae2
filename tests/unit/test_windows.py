"""Windows: every statement in its turn, and a stable code for each that comes out of turn or says another thing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ledger.answers import Answers
from ledger.transfers import Result
from settlement import answers, applied
from settlement.book import Group, Payments, PaymentState, WindowState, group_of
from settlement.obligations import check_acceptance
from settlement.statements import (
    LEDGERS,
    WINDOW_MAX,
    AcceptanceBody,
    Body,
    CloseBody,
    ListBody,
    NetPosition,
    ProposalBody,
    VoteBody,
    VoteReason,
    body_of,
    digest_of,
)
from settlement.views import PaymentStatus
from tests.cycle_steps import Steps, accepted, refused, states, world_with_payments
from tests.settlement_fixture import World, public_key_of, uetr_of
from tests.signed_again import signed_again

YUAN = 100


@pytest.fixture
def steps() -> Steps:
    """Give the first window of that world."""
    return Steps(world_with_payments())


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_window_settles(steps: Steps) -> None:
    """Payees are paid, settlement accounts move by net positions, the border agrees, nothing is left held."""
    world = steps.to_decision().world
    assert world.hk.balance("WALLET.dan") == 40 * YUAN
    assert world.hk.balance("WALLET.eva", "HKD") == 100_000_00 + 10_843
    assert world.sh.balance("WALLET.ann") == 100_000_00 - 40 * YUAN
    assert world.sh.balance("SETTLE.ALPHA") == world.sh.balance("FUNDS.ALPHA") == 1_000_000_00 - 40 * YUAN
    assert world.hk.balance("SETTLE.GAMMA") == world.hk.balance("FUNDS.GAMMA") == 40 * YUAN
    assert world.hk.balance("POSITION.FX") == 100 * YUAN
    assert world.sh.balance("OMNIBUS") == world.hk.balance("MIRROR") == 140 * YUAN
    for node in steps.nodes.values():
        assert len(node.machine.state.holds) == 0
        assert node.book.windows[1].state is WindowState.SETTLED
        assert applied.book_faults(node.book, node.machine.state) == []


def test_states_follow_the_cycle(steps: Steps) -> None:
    """A window goes from OPEN over CLOSED, ACCEPTED, NETTED and VOTED to SETTLED on both nodes."""
    seen = []
    turns = (steps.close, steps.list, steps.accept, steps.propose, steps.vote, steps.decide)
    for turn in (lambda: None, *turns):
        turn()
        seen.append({ledger: steps.window(ledger).state.value for ledger in LEDGERS})
    assert [pair["SH"] for pair in seen] == ["OPEN", "CLOSED", "CLOSED", "ACCEPTED", "NETTED", "VOTED", "SETTLED"]
    assert all(pair["SH"] == pair["HK"] for pair in seen)


def test_members_end_as_they_should(steps: Steps) -> None:
    """Both sides agree on what is settled, rejected and carried."""
    steps.to_acceptance()
    steps.propose(steps.proposal(leave_out={"SH": [0]}))
    steps.vote()
    steps.decide()
    settled, rejected, carried = PaymentState.SETTLED, PaymentState.REJECTED, PaymentState.CARRIED
    assert states(steps, "SH") == ([carried, settled, rejected], [])
    assert states(steps, "HK") == ([], [carried, settled, rejected])
    window = steps.window("SH")
    assert window.outgoing.reasons.tolist() == [0, 0, Result.PAYEE_NOT_FOUND]
    following = steps.world.sh.book.open_window
    assert (following.carried_in, following.outgoing.count, window.outgoing.moved_to[0]) == (1, 1, 0)


def test_carried_payments_settle_later(steps: Steps) -> None:
    """A payment left out of one window is listed, accepted and settled in the next, under fresh ids."""
    steps.to_acceptance()
    steps.propose(steps.proposal(leave_out={"SH": [0, 1]}))
    steps.vote()
    steps.decide()
    assert steps.world.hk.balance("WALLET.dan") == 0
    Steps(steps.world, 2).to_decision()
    assert steps.world.hk.balance("WALLET.dan") == 40 * YUAN
    assert steps.world.hk.balance("WALLET.eva", "HKD") == 100_000_00 + 10_843
    assert states(Steps(steps.world, 2), "HK")[1] == [PaymentState.SETTLED, PaymentState.SETTLED]


def test_carried_payments_can_be_cancelled(steps: Steps) -> None:
    """What waits for the next window is its owner's to cancel again."""
    steps.to_acceptance()
    steps.propose(steps.proposal(leave_out={"SH": [0]}))
    steps.vote()
    steps.decide()
    row = steps.window("SH").outgoing.rows[0]
    uetr = (int(row["uetr_hi"]) << 64) | int(row["uetr_lo"])
    text = f"{uetr:032x}"
    name = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    steps.world.sh.post("ann", "/v1/cancellations", {"uetr": name})
    later = Steps(steps.world, 2).to_decision()
    count = later.decision().directions[1]
    assert (count.carried_in, count.accepted, count.cancelled, count.settled) == (1, 0, 1, 0)
    assert steps.world.sh.balance("WALLET.ann") == 100_000_00


def reject_all(
    _context: object, _book: object, _window: object, rows: Payments
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Take a list as a node would whose payees' accounts are all closed."""
    rows["creditor_amount"] = 0
    return np.full(len(rows), Result.PAYEE_CLOSED, np.uint16)


def test_rejected_refunds_give_back_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund that the other side rejects can be made again in full."""
    world = World.funded()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 900, uetr=uetr_of("original")))
    Steps(world).to_decision()
    whole = {"refund_of": uetr_of("original")}
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.ann", 900, **whole))
    again = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 1, **whole)
    assert world.hk.pay("dan", again)["result"].tolist() == [Result.REFUND_EXCEEDED]
    with monkeypatch.context() as patched:
        patched.setattr("settlement.payments.accept_incoming", reject_all)
        steps = Steps(world, 2).to_decision()
    assert steps.decision().directions[0].rejected == 1
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.ann", 900, uetr=uetr_of("second"), **whole))
    Steps(world, 3).to_decision()
    assert world.sh.balance("WALLET.ann") == 100_000_00


def test_empty_windows_settle() -> None:
    """A window without payments goes the whole way and moves nothing."""
    world = World.funded()
    before = [node.machine.state.money_digest() for node in (world.sh, world.hk)]
    steps = Steps(world).to_decision()
    assert steps.proposal(attempt=2).nets == ()
    assert [node.machine.state.money_digest() for node in (world.sh, world.hk)] == before


def test_payments_back_and_forth_net_to_nothing() -> None:
    """Equal payments in both directions settle without any settlement account moving."""
    world = World.funded()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500))
    Steps(world).to_decision()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 300))
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.ann", 300))
    settle = world.sh.balance("SETTLE.ALPHA")
    second = Steps(world, 2).to_decision()
    assert second.proposal(attempt=2).nets == ()
    assert world.sh.balance("SETTLE.ALPHA") == settle
    assert world.sh.balance("OMNIBUS") == 500


def test_exchange_from_hong_kong_settles() -> None:
    """A payment of HKD that pays out CNY moves the provider's positions both ways and takes from the mirror."""
    world = World.funded()
    world.sh.pay("ALPHA", world.payment("SH/POSITION.ALPHA", "HK/POSITION.FX", 5_000))
    Steps(world).to_decision()
    world.quote(sell="CNY", maximum=1_000_000, buy="HKD", rate="0.90000000")
    fx = {"creditor_asset": "CNY", "quote": uetr_of("quote")}
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.cai", 1_000, "HKD", **fx))
    Steps(world, 2).to_decision()
    assert world.sh.balance("WALLET.cai") == 100_000_00 + 900
    assert world.sh.balance("OMNIBUS") == world.hk.balance("MIRROR") == 4_100
    assert (world.hk.balance("POSITION.FX"), world.hk.balance("SETTLE.FX")) == (4_100, 4_100)
    assert world.hk.balance("SETTLE.FX", "HKD") == 1_000_000_00 + 1_000


def test_the_issuer_needs_no_funds() -> None:
    """The central bank pays across the border out of what it issues."""
    world = World.funded()
    world.sh.pay("PBOC", world.payment("SH/SETTLE.PBOC", "HK/WALLET.dan", 700))
    Steps(world).to_decision()
    assert world.sh.balance("ISSUE") == 2_000_000_00 + 700
    assert world.sh.balance("OMNIBUS") == world.hk.balance("MIRROR") == 700
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/SETTLE.PBOC", 700))
    Steps(world, 2).to_decision()
    assert world.sh.balance("ISSUE") == 2_000_000_00


# --- out of turn ------------------------------------------------------------------------------------------------------


def test_closing_takes_the_open_window(steps: Steps) -> None:
    """A window closes once, after it was opened, and the next one not before it is decided."""
    world = steps.world
    assert refused(world.sh, steps.say("--", CloseBody(2))) == "WINDOW_NOT_FOUND"
    steps.close()
    assert refused(world.sh, steps.say("--", CloseBody(2))) == "WINDOW_ORDER"
    height = world.sh.machine.height
    accepted(world.sh, steps.messages["close"])
    assert world.sh.machine.height == height


def test_a_second_signature_is_no_second_statement(steps: Steps) -> None:
    """A statement that is journaled comes again under another signature of its speaker: nothing is journaled."""
    steps.close()
    height = steps.world.sh.machine.height
    again = signed_again(steps.messages["close"])
    assert again.signature != steps.messages["close"].signature
    accepted(steps.world.sh, again)
    assert steps.world.sh.machine.height == height


def test_a_closed_window_cannot_be_closed_again(steps: Steps) -> None:
    """Another operator's closing of the same window is refused; the first one stands."""
    steps.close()
    steps.window("SH").statements.pop("close")
    world = steps.world
    world.sh.machine.answers = Answers(bytes(16))
    assert refused(world.sh, steps.messages["close"]) == "WINDOW_NOT_OPEN"


def test_window_numbers_end(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last window number cannot be closed, since no other could follow."""
    monkeypatch.setattr("settlement.windows.WINDOW_MAX", 1)
    assert refused(steps.world.sh, steps.say("--", CloseBody(1))) == "WINDOW_LAST"
    assert group_of(WINDOW_MAX, Group.NET) < 2**32


def test_only_the_operator_closes(steps: Steps) -> None:
    """Closing signed by a node is refused."""
    assert refused(steps.world.sh, steps.say("--", CloseBody(1), key="NODE-SH")) == "ROLE_MISSING"


def test_only_nodes_speak_for_ledgers(steps: Steps) -> None:
    """A list that the other node or the operator signs in a ledger's name is refused."""
    steps.close()
    body = own_list(steps, "SH")
    for key in ("NODE-HK", "SETTLEMENT"):
        assert refused(steps.world.hk, steps.say("SH", body, key=key)) == "SPEAKER_WRONG"
    assert refused(steps.world.hk, steps.say("US", body, key="NODE-SH")) == "SPEAKER_WRONG"


@pytest.mark.parametrize(("party", "ledger"), [("SETTLEMENT", "--"), ("NODE-HK", "HK"), ("NODE-SH", "SH")])
def test_a_second_key_of_a_speaker_says_nothing(steps: Steps, party: str, ledger: str) -> None:
    """A key that a speaker has added is known to no certificate and no receipt, so no statement counts under it."""
    for node in steps.nodes.values():
        node.post(party, "/v1/keys", {"party": party, "public_key": public_key_of("second")})
    if ledger == "--":
        said: Body = CloseBody(1)
    else:
        steps.close()
        said = own_list(steps, ledger)
    for node in steps.nodes.values():
        assert refused(node, steps.say(ledger, said, key="second")) == "SPEAKER_KEY"
        accepted(node, steps.say(ledger, said))


def own_list(steps: Steps, ledger: str) -> ListBody:
    """Give the list that a node owes."""
    return answers.list_of(steps.world.node(ledger).book, steps.window(ledger))


def test_lists_wait_for_the_closing(steps: Steps) -> None:
    """A list of a window that is still open here is refused."""
    steps.deliver(steps.say("--", CloseBody(1)), ("SH",))
    message = steps.say("SH", own_list(steps, "SH"))
    assert refused(steps.world.hk, message) == "WINDOW_NOT_CLOSED"


@pytest.mark.parametrize("changes", [{"carried_in": 1, "accepted": 2, "carried_in_root": bytes(32)}, {"window": 1}])
def test_lists_are_held_to_what_was_carried(steps: Steps, changes: dict[str, Any]) -> None:
    """A list that carries in what no window has carried out is refused (I13); its own node refuses every other list."""
    steps.close()
    body = msgspec.structs.replace(own_list(steps, "SH"), **changes)
    if "carried_in" in changes:
        assert refused(steps.world.hk, steps.say("SH", body)) == "LIST_MISMATCH"
    wrong = msgspec.structs.replace(body, accepted=body.accepted + 1, cancelled=1)
    assert refused(steps.world.sh, steps.say("SH", wrong)) == "LIST_MISMATCH"


def test_unknown_assets_are_refused(steps: Steps) -> None:
    """A list with an asset that this ledger does not know, or a memo asset, is refused."""
    steps.close()
    for code in ("XAU", "QCNY"):
        body = msgspec.structs.replace(own_list(steps, "SH"), assets=((1, "CNY"), (2, code)))
        assert refused(steps.world.hk, steps.say("SH", body)) == "ASSET_UNKNOWN"


def test_there_is_one_list(steps: Steps) -> None:
    """A second, different list of the same node is refused."""
    steps.close()
    steps.list()
    body = msgspec.structs.replace(body_of(steps.messages["list/SH"], ListBody), accepted=4, cancelled=1)
    assert refused(steps.world.hk, steps.say("SH", body)) == "STATEMENT_EXISTS"


def test_acceptances_wait_for_the_list(steps: Steps) -> None:
    """An acceptance of a list that is not journaled here is refused."""
    steps.close()
    body = AcceptanceBody(1, bytes(32), 0, 0, (), b"", b"", b"", b"")
    assert refused(steps.world.sh, steps.say("HK", body)) == "LIST_MISSING"
    assert refused(steps.world.sh, steps.say("SH", body)) == "LIST_MISSING"


def column(*values: int) -> bytes:
    """Give a column of amounts."""
    return np.array(values, np.int64).tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"list_digest": bytes(32)},
        {"creditor_amounts": column(4_001, 10_843, 0)},
        {"providers": np.array([4, 4, 0], np.uint32).tobytes()},
        {"providers": bytes(12), "participants": ((2, "GAMMA"), (3, "DELTA"))},
    ],
)
def test_acceptances_are_held_to_the_list(steps: Steps, changes: dict[str, Any]) -> None:
    """An acceptance of another list, with another amount, or with FX and no provider, is refused on both sides."""
    steps.close()
    steps.list()
    body = answers.acceptance_of(steps.world.hk.book, steps.window("HK"))
    message = steps.say("HK", msgspec.structs.replace(body, **changes))
    assert refused(steps.world.sh, message) == "ACCEPTANCE_MISMATCH"
    assert refused(steps.world.hk, message) == "ACCEPTANCE_MISMATCH"


def test_an_acceptance_for_an_unknown_reason_leaves_payments_readable(steps: Steps) -> None:
    """A node that rejects for a reason that is no result is refused, and the payer reads the payment as it stands."""
    steps.close()
    steps.list()
    body = answers.acceptance_of(steps.world.hk.book, steps.window("HK"))
    reasons = np.array([0, 0, 9_999], np.uint16).tobytes()
    message = steps.say("HK", msgspec.structs.replace(body, reasons=reasons))
    assert refused(steps.world.sh, message) == "STATEMENT_MALFORMED"
    view = steps.world.sh.view("ann", {"uetr": uetr_of("astray")})
    assert (view.status, view.iso_reason) == (PaymentStatus.ACCEPTED, "")


def test_acceptances_count_the_list(steps: Steps) -> None:
    """An acceptance of fewer payments than the list has does not fit it."""
    steps.close()
    steps.list()
    signed = body_of(steps.messages["list/SH"], ListBody)
    with pytest.raises(Exception, match="ACCEPTANCE_MISMATCH"):
        check_acceptance(signed, AcceptanceBody(1, bytes(32), 0, 0, (), b"", b"", b"", b""))


def test_proposals_wait_for_acceptances(steps: Steps) -> None:
    """A proposal before both acceptances is refused."""
    other = Steps(world_with_payments()).to_acceptance()
    message = steps.say("--", other.proposal())
    assert refused(steps.world.sh, message) == "ACCEPTANCE_MISSING"
    steps.close()
    assert refused(steps.world.sh, message) == "ACCEPTANCE_MISSING"


def altered(body: ProposalBody, place: int, **changes: Any) -> tuple[Any, ...]:
    """Give a proposal's directions with one of them changed."""
    return tuple(
        msgspec.structs.replace(direction, **changes) if at == place else direction
        for at, direction in enumerate(body.directions)
    )


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        (0, {"list_digest": bytes(32)}),
        (1, {"acceptance_digest": bytes(32)}),
        (1, {"count": 2}),
        (0, {"count": 1, "selection": b"\x00"}),
    ],
)
def test_proposals_are_of_the_lists(steps: Steps, place: int, changes: dict[str, Any]) -> None:
    """A proposal of other lists, acceptances or counts is refused."""
    body = steps.to_acceptance().proposal()
    wrong = msgspec.structs.replace(body, directions=altered(body, place, **changes))
    assert refused(steps.world.sh, steps.say("--", wrong)) == "PROPOSAL_MISMATCH"


def test_proposals_select_accepted_payments(steps: Steps) -> None:
    """A proposal that selects a rejected payment is refused."""
    body = steps.to_acceptance().proposal()
    wrong = msgspec.structs.replace(body, directions=altered(body, 1, selection=b"\x07"))
    assert refused(steps.world.sh, steps.say("--", wrong)) == "SELECTION_INVALID"


@pytest.mark.parametrize(
    "nets",
    [
        (),
        (NetPosition("SH", "ALPHA", "CNY", -4_000), NetPosition("SH", "BETA", "CNY", 4_000)),
    ],
)
def test_proposals_have_the_nets_that_follow(steps: Steps, nets: tuple[NetPosition, ...]) -> None:
    """A proposal whose net positions sum to zero but do not follow from its selections is refused."""
    wrong = steps.to_acceptance().proposal(nets=nets)
    assert refused(steps.world.sh, steps.say("--", wrong)) == "NETS_MISMATCH"


def test_one_attempt_at_a_time(steps: Steps) -> None:
    """While an attempt is open there is no other, attempts follow one another, and an ended one never comes back."""
    steps.to_acceptance()
    sh = steps.world.sh
    other = steps.say("--", steps.proposal(leave_out={"SH": [0]}))
    assert refused(sh, steps.say("--", steps.proposal(2))) == "ATTEMPT_ORDER"
    steps.propose()
    assert refused(sh, other) == "STATEMENT_EXISTS"
    assert refused(sh, steps.say("--", steps.proposal(2))) == "ATTEMPT_OPEN"
    sh.book.windows[1].statements.pop("proposal/--/1")
    assert refused(sh, other) == "ATTEMPT_ENDED"
    sh.book.windows[1].statements["proposal/--/1"] = steps.messages["proposal/--/1"]
    steps.vote()
    steps.decide()
    assert refused(sh, steps.say("--", steps.proposal(2))) == "ATTEMPT_ENDED"


def test_votes_come_in_order(steps: Steps) -> None:
    """Nobody votes before the proposal, the last voter not before the first, and nobody twice."""
    steps.to_acceptance()
    world = steps.world
    vote = VoteBody(1, 1, bytes(32), yes=True, reason=0)
    assert refused(world.sh, steps.say("HK", vote)) == "PROPOSAL_MISSING"
    steps.propose()
    assert refused(world.sh, steps.say("HK", vote)) == "VOTE_MISMATCH"
    digest = digest_of(steps.messages["proposal/--/1"])
    last = msgspec.structs.replace(vote, proposal_digest=digest)
    assert refused(world.sh, steps.say("SH", last)) == "VOTE_ORDER"
    peer = msgspec.structs.replace(last, yes=False, reason=int(VoteReason.PEER))
    assert refused(world.sh, steps.say("HK", peer)) == "VOTE_MISMATCH"
    steps.vote()
    no = msgspec.structs.replace(last, yes=False, reason=int(VoteReason.FUNDS_SHORT))
    assert refused(world.sh, steps.say("HK", no)) == "STATEMENT_EXISTS"


def test_decisions_follow_from_votes(steps: Steps) -> None:
    """Only the last voter decides, after both votes, and only what follows from them."""
    steps.to_acceptance()
    steps.propose()
    world = steps.world
    first, last = world.hk, world.sh
    vote = steps.say("HK", steps.vote_of("HK"))
    steps.deliver(vote)
    own = steps.say("SH", steps.vote_of("SH"))
    signed = answers.signed_of(steps.window("SH"))
    decision = answers.decision_of(signed, steps.messages["proposal/--/1"], first_vote=vote, last_vote=own)
    assert refused(last, steps.say("SH", decision)) == "VOTE_MISSING"
    steps.deliver(own, ("SH",))
    assert refused(last, steps.say("HK", decision)) == "DECISION_MISMATCH"
    abort = msgspec.structs.replace(decision, commit=False, directions=())
    assert refused(last, steps.say("SH", abort)) == "DECISION_MISMATCH"
    assert refused(first, steps.say("SH", decision)) == "VOTE_MISSING"
    steps.deliver(own, ("HK",))
    steps.deliver(steps.say("SH", decision))
    assert refused(last, steps.say("SH", abort)) == "STATEMENT_EXISTS"
    last.book.windows[1].statements.pop("decision/SH/1")
    assert refused(last, steps.say("SH", abort)) == "ATTEMPT_ENDED"
    assert refused(last, steps.say("HK", msgspec.structs.replace(steps.vote_of("HK"), attempt=2))) == "ATTEMPT_ENDED"
