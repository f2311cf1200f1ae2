"""Conduct: a node answers each statement with what it owes, once, whatever comes in which order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.answers import Answers
from ledger.errors import (
    Conflict,
    Forbidden,
    IntegrityFailure,
    InvariantViolation,
    LedgerError,
    MalformedInput,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from ledger.genesis import network_hash
from ledger.messages import Message, decode, parse
from settlement import coordinator, statements
from settlement.book import WindowState
from settlement.conduct import STATEMENTS_MAX
from settlement.coordinator import Coordinator
from settlement.liquidity import POLICY_EMPTY
from settlement.port import PositionsView, WindowView
from settlement.proposal import Inputs, make_proposal
from settlement.statements import (
    LEDGERS,
    CloseBody,
    DecisionBody,
    ProposalBody,
    VoteBody,
    body_of,
)
from tests.cycle_fixture import Pair
from tests.settlement_fixture import CREATED_NS, NETWORK_HASH, World, genesis_of, key_of, public_key_of

pytestmark = pytest.mark.anyio


def say(body: statements.Body, ledger: str = "--", key: str = "") -> Message:
    """Sign a statement as the operator or as the node of a ledger."""
    signer = key or ("SETTLEMENT" if ledger == "--" else f"NODE-{ledger}")
    return statements.sign(body, key=key_of(signer), network_hash=NETWORK_HASH, ledger=ledger)


def kinds(messages: list[Message]) -> list[str]:
    """Name the kinds of some statements."""
    return [parse(message).topic.removeprefix("statement:") for message in messages]


def world_with_payments() -> World:
    """Give a world with one payment each way."""
    world = World.everywhere()
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 500))
    world.hk.pay("dan", world.payment("HK/WALLET.dan", "SH/WALLET.ben", 200))
    return world


WINDOW = 2  # the world has settled its first window itself; in the second Hong Kong decides
FIRST, LAST = statements.voters(WINDOW)


async def to_acceptance(pair: Pair) -> Inputs:
    """Bring both nodes as far as both acceptances."""
    close = say(CloseBody(WINDOW))
    lists, accepted = {}, {}
    for at in LEDGERS:
        (lists[at],) = await pair.nodes[at].conduct.deliver([close])
    for at, peer in zip(LEDGERS, reversed(LEDGERS), strict=True):
        (accepted[peer],) = await pair.nodes[at].conduct.deliver([lists[peer]])
    for at in LEDGERS:
        assert await pair.nodes[at].conduct.deliver([accepted[at]]) == []
    return Inputs(lists=lists, acceptances=accepted)


async def propose(pair: Pair, inputs: Inputs, *, attempt: int = 1, settle: bool = True) -> ProposalBody:
    """Make a proposal from what both nodes hold."""
    positions = {at: await pair.nodes[at].conduct.positions(WINDOW) for at in LEDGERS}
    return make_proposal(WINDOW, attempt, inputs, positions, settle=settle)


async def heights(pair: Pair) -> list[int]:
    """Give both journals' heights."""
    return [pair.nodes[at].machine.height for at in LEDGERS]


async def test_every_statement_has_its_answer() -> None:
    """Close is answered by a list, a list by an acceptance, a proposal by a vote, and with the vote by the decision."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        assert kinds(list(inputs.lists.values())) == ["list", "list"]
        assert kinds(list(inputs.acceptances.values())) == ["acceptance", "acceptance"]
        proposal = say(await propose(pair, inputs))
        votes = await pair.nodes[FIRST].conduct.deliver([proposal])
        assert kinds(votes) == ["vote"]
        answer = await pair.nodes[LAST].conduct.deliver([proposal, *votes])
        assert kinds(answer) == ["vote", "decision"]
        assert await pair.nodes[FIRST].conduct.deliver(answer) == votes
        states = [(await pair.nodes[at].conduct.window(WINDOW)).state for at in LEDGERS]
        assert states == [WindowState.SETTLED] * 2


async def test_repeated_deliveries_change_nothing() -> None:
    """A statement delivered again gets the same answer and makes no block."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        proposal = say(await propose(pair, inputs))
        votes = await pair.nodes[FIRST].conduct.deliver([proposal])
        answer = await pair.nodes[LAST].conduct.deliver([proposal, *votes])
        await pair.nodes[FIRST].conduct.deliver(answer)
        before = await heights(pair)
        for at, peer in zip(LEDGERS, reversed(LEDGERS), strict=True):
            conduct = pair.nodes[at].conduct
            assert await conduct.deliver([say(CloseBody(WINDOW))]) == [inputs.lists[at]]
            assert await conduct.deliver([inputs.lists[peer]]) == [inputs.acceptances[peer]]
            assert await conduct.deliver([]) == []
        assert await pair.nodes[FIRST].conduct.deliver([proposal]) == votes
        assert await pair.nodes[LAST].conduct.deliver([votes[0], proposal, proposal]) == answer
        assert await heights(pair) == before


async def test_a_nodes_own_statement_comes_back_to_nothing() -> None:
    """A node that is handed its own list answers nothing as long as it has not seen the other's."""
    async with Pair.make(world_with_payments()) as pair:
        conduct = pair.nodes["SH"].conduct
        lists = await conduct.deliver([say(CloseBody(WINDOW))])
        assert await conduct.deliver(lists) == []


async def test_the_decision_is_one_block() -> None:
    """Proposal, both votes and decision stand in one block of the last voter's journal."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        proposal = say(await propose(pair, inputs))
        votes = await pair.nodes[FIRST].conduct.deliver([proposal])
        before = await heights(pair)
        await pair.nodes[LAST].conduct.deliver([*votes, proposal])
        assert [after - height for after, height in zip(await heights(pair), before, strict=True)] == [1, 0]


async def test_the_last_voter_waits_for_the_first() -> None:
    """A proposal without the first voter's vote is not journaled by the last voter."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        proposal = await propose(pair, inputs)
        other_attempt = VoteBody(WINDOW, 2, bytes(32), yes=True, reason=0)
        for extra in ([], [say(other_attempt, FIRST)]):
            with pytest.raises(Conflict, match="VOTE_MISSING"):
                await pair.nodes[LAST].conduct.deliver([say(proposal), *extra])
        assert (await pair.nodes[LAST].conduct.window(WINDOW)).attempt == 0


@pytest.mark.parametrize("yes", [True, False])
async def test_a_vote_on_another_proposal_stops_the_last_voter(yes: bool) -> None:
    """A first vote that is on something else leaves nothing in the last voter's journal."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        proposal = say(await propose(pair, inputs))
        vote = say(VoteBody(WINDOW, 1, bytes(32), yes=yes, reason=0 if yes else 1), FIRST)
        with pytest.raises(Conflict, match="VOTE_MISMATCH"):
            await pair.nodes[LAST].conduct.deliver([proposal, vote])
        forged = say(body_of(vote, VoteBody), FIRST, key="SETTLEMENT")
        with pytest.raises(Forbidden, match="SPEAKER_WRONG"):
            await pair.nodes[LAST].conduct.deliver([proposal, forged])
        assert (await pair.nodes[LAST].conduct.window(WINDOW)).attempt == 0


async def test_a_second_key_neither_proposes_nor_votes() -> None:
    """A proposal, or the first vote beside it, is refused under a further key of its speaker, before anybody votes."""
    world = world_with_payments()
    for party, key in (("SETTLEMENT", "second"), (f"NODE-{FIRST}", "third")):
        for node in world.nodes:
            node.post(party, "/v1/keys", {"party": party, "public_key": public_key_of(key)})
    async with Pair.make(world) as pair:
        inputs = await to_acceptance(pair)
        body = await propose(pair, inputs)
        with pytest.raises(Forbidden, match="SPEAKER_KEY"):
            await pair.nodes[FIRST].conduct.deliver([say(body, key="second")])
        (vote,) = await pair.nodes[FIRST].conduct.deliver([say(body)])
        with pytest.raises(Forbidden, match="SPEAKER_KEY"):
            await pair.nodes[LAST].conduct.deliver([say(body), say(body_of(vote, VoteBody), FIRST, key="third")])
        assert (await pair.nodes[LAST].conduct.window(WINDOW)).attempt == 0


async def test_a_bad_proposal_leaves_no_vote() -> None:
    """A proposal by somebody else, or one that does not net, is refused whole."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        body = await propose(pair, inputs)
        with pytest.raises(Forbidden, match="ROLE_MISSING"):
            await pair.nodes[FIRST].conduct.deliver([say(body, key="NODE-HK")])
        with pytest.raises(Conflict, match="NETS_MISMATCH"):
            await pair.nodes[FIRST].conduct.deliver([say(msgspec.structs.replace(body, nets=()))])
        view = await pair.nodes[FIRST].conduct.window(WINDOW)
        assert (view.attempt, view.state) == (0, WindowState.ACCEPTED)


async def test_only_statements_are_delivered() -> None:
    """Requests, too many statements and statements of no window are refused."""
    async with Pair.make() as pair:
        conduct = pair.nodes["SH"].conduct
        request = pair.world.sh.request("ann", "/v1/payments", {})
        for delivery in ([request], [say(CloseBody(1))] * (STATEMENTS_MAX + 1)):
            with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
                await conduct.deliver(delivery)
        with pytest.raises(NotFound, match="WINDOW_NOT_FOUND"):
            await conduct.deliver([say(CloseBody(2))])


async def test_statements_of_another_network_are_refused() -> None:
    """What the same keys say in another network of the same name is refused by both nodes, and changes nothing."""
    elsewhere = network_hash(msgspec.structs.replace(genesis_of("SH"), created_ns=CREATED_NS + 1))
    async with Pair.make(world_with_payments()) as pair:
        close = statements.sign(CloseBody(WINDOW), key=key_of("SETTLEMENT"), network_hash=elsewhere, ledger="--")
        for node in pair.nodes.values():
            before = node.machine.position
            with pytest.raises(Unauthenticated, match="NETWORK_MISMATCH"):
                await node.conduct.deliver([close])
            assert node.machine.position == before


async def test_views_say_where_a_window_stands() -> None:
    """A view crosses JSON and carries what an operator needs to go on after it forgot everything."""
    async with Pair.make(world_with_payments()) as pair:
        node = pair.nodes[FIRST].conduct
        view = await node.window(None)
        assert (view.ledger, view.number, view.open_window, view.state) == (FIRST, WINDOW, WINDOW, "OPEN")
        assert view.attempt_statements == {}
        with pytest.raises(NotFound, match="WINDOW_NOT_FOUND"):
            await node.window(9)
        with pytest.raises(Conflict, match="ACCEPTANCE_MISSING"):
            await node.positions(WINDOW)
        inputs = await to_acceptance(pair)
        proposal = say(await propose(pair, inputs))
        votes = await node.deliver([proposal])
        view = await node.window(WINDOW)
        again = msgspec.json.decode(msgspec.json.encode(view), type=WindowView)
        assert again == view
        stored = {name: decode(data) for name, data in again.attempt_statements.items()}
        assert stored == {"proposal/--/1": proposal, f"vote/{FIRST}/1": votes[0]}
        assert set(view.statements) == {
            *stored,
            "close",
            *(f"{kind}/{at}" for kind in ("list", "acceptance") for at in LEDGERS),
        }
        positions = await node.positions(WINDOW)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(positions), type=PositionsView) == positions


async def test_positions_are_those_of_the_payments() -> None:
    """What two nodes report nets to what their payments oblige, and says what there is to pay with."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        body = await propose(pair, inputs)
        assert [(net.ledger, net.participant, net.asset, net.amount) for net in body.nets] == [
            ("HK", "GAMMA", "CNY", 300),
            ("SH", "ALPHA", "CNY", -300),
        ]
        view = await pair.nodes["SH"].conduct.positions(WINDOW)
        available = {slot.participant: slot.available for slot in view.slots}
        assert available == {"PBOC": None, "ALPHA": 1_000_000_00, "BETA": 1_000_000_00}
        assert {(border.asset, border.is_home, border.available) for border in view.borders} == {
            ("CNY", True, 600_000_00),
            ("HKD", False, 0),
        }


async def test_the_empty_selection_needs_nothing() -> None:
    """The last resort proposes no payment and no net position."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        body = await propose(pair, inputs, settle=False)
        assert (body.policy, body.nets) == (POLICY_EMPTY, ())
        assert [direction.selection for direction in body.directions] == [b"\x00", b"\x00"]


@pytest.mark.parametrize(
    "changes",
    [
        {"members": b"\x00"},
        {"members": b"\x09\x00\x00\x00"},
        {"slots": b"\x09\x00\x00\x00"},
        {"amounts": b""},
    ],
)
async def test_positions_that_do_not_fit_are_refused(changes: dict[str, bytes]) -> None:
    """Positions with torn columns, or of payments or slots that do not exist, make no proposal."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        positions = {at: await pair.nodes[at].conduct.positions(WINDOW) for at in LEDGERS}
        wrong = msgspec.structs.replace(positions["SH"].outgoing, **changes)
        positions["SH"] = msgspec.structs.replace(positions["SH"], outgoing=wrong)
        with pytest.raises(Conflict, match="POSITIONS_MISMATCH"):
            make_proposal(WINDOW, 1, inputs, positions, settle=True)


# --- the operator -----------------------------------------------------------------------------------------------------


class Scripted:
    """A port that passes calls on to a node unless a test has put something in their place."""

    def __init__(self, pair: Pair, ledger: str, **changed: Any) -> None:
        """Replace ``window``, ``positions`` or ``deliver``."""
        self.node = pair.nodes[ledger].conduct
        self.ledger = ledger
        self.changed = changed

    async def window(self, number: int | None) -> WindowView:
        """Ask for a window."""
        return self.changed.get("window", lambda view: view)(await self.node.window(number))

    async def positions(self, number: int) -> PositionsView:
        """Ask for positions."""
        return self.changed.get("positions", lambda view: view)(await self.node.positions(number))

    async def deliver(self, delivered: list[Message]) -> list[Message]:
        """Deliver statements."""
        return self.changed.get("deliver", lambda answer: answer)(await self.node.deliver(delivered))


def operator(pair: Pair, **changed: Any) -> Coordinator:
    """Give an operator over both nodes, the first voter's port changed."""
    ports = {at: Scripted(pair, at, **(changed if at == FIRST else {})) for at in LEDGERS}
    return Coordinator(ports, key_of("SETTLEMENT"), NETWORK_HASH, pair.nodes["SH"].runtime)


async def test_a_run_tells_its_stages() -> None:
    """Progress is told in order, and every stage has its time."""
    seen: list[str] = []
    async with Pair.make(world_with_payments()) as pair:
        report = await coordinator.run_cycle(
            pair.ports(),
            key=key_of("SETTLEMENT"),
            network_hash=NETWORK_HASH,
            window=WINDOW,
            runtime=pair.nodes["SH"].runtime,
            progress=seen.append,
        )
        assert seen == ["close", "accept", "reject", "net", "vote", "decide", "apply"]
        assert list(report.stages_ns) == seen
        assert (report.window.settled, report.window.assets["CNY"].net, report.window.assets["CNY"].gross) == (
            2,
            300,
            700,
        )
        assert report.window.assets["CNY"].saving_bp == 5_714


async def test_too_large_sums_are_carried() -> None:
    """When the sums of one account leave the solver's range, nothing settles instead of something wrong."""

    def inflated(view: PositionsView) -> PositionsView:
        amount = (2**62).to_bytes(8, "little", signed=True)
        return msgspec.structs.replace(view, outgoing=msgspec.structs.replace(view.outgoing, amounts=amount))

    async with Pair.make(world_with_payments()) as pair:
        report = await operator(pair, positions=inflated).settle(WINDOW)
        assert (report.window.settled, report.window.carried_out, report.window.policy) == (0, 2, POLICY_EMPTY)


async def test_silent_nodes_are_named() -> None:
    """A node that does not say what it owes stops the run."""
    async with Pair.make(world_with_payments()) as pair:
        with pytest.raises(IntegrityFailure, match="ANSWER_MISSING"):
            await operator(pair, deliver=lambda _: []).settle(WINDOW)


async def test_other_conflicts_end_the_run() -> None:
    """A refusal that no second look can cure reaches the caller."""

    def refuse(_: WindowView) -> WindowView:
        raise Conflict("WINDOW_ORDER", "The window before is not decided yet.")

    async with Pair.make(world_with_payments()) as pair:
        with pytest.raises(Conflict, match="WINDOW_ORDER"):
            await operator(pair, window=refuse).settle(WINDOW)

        def reject(_: PositionsView) -> PositionsView:
            raise LedgerError("ODD", "Something else.")

        with pytest.raises(LedgerError, match="ODD"):
            await operator(pair, positions=reject).settle(WINDOW)


async def test_torn_positions_end_the_run() -> None:
    """Positions that make no proposal reach the caller as what they are."""

    def torn(view: PositionsView) -> PositionsView:
        return msgspec.structs.replace(view, outgoing=msgspec.structs.replace(view.outgoing, amounts=b""))

    async with Pair.make(world_with_payments()) as pair:
        with pytest.raises(Conflict, match="POSITIONS_MISMATCH"):
            await operator(pair, positions=torn).settle(WINDOW)


async def test_nodes_seen_at_different_attempts_are_asked_again() -> None:
    """When another run goes on between two looks, the operator looks again, but not for ever."""
    async with Pair.make(world_with_payments()) as pair:
        looks: list[int] = []

        def ahead(view: WindowView) -> WindowView:
            looks.append(view.attempt)
            return msgspec.structs.replace(view, attempt=1) if len(looks) < 3 else view

        report = await operator(pair, window=ahead).settle(WINDOW)
        assert (len(looks), report.window.attempt) == (3, 1)
        with pytest.raises(Unavailable, match="CYCLE_UNDECIDED"):
            await operator(pair, window=lambda view: msgspec.structs.replace(view, attempt=7, state="ACCEPTED")).settle(
                WINDOW
            )


async def test_nodes_too_far_apart_are_named() -> None:
    """Nodes whose open windows are more than one apart cannot have followed the protocol."""
    async with Pair.make(world_with_payments()) as pair:
        ports = operator(pair, window=lambda view: msgspec.structs.replace(view, number=9)).ports
        with pytest.raises(IntegrityFailure, match="WINDOWS_DIFFER"):
            await coordinator.recover(
                ports, key=key_of("SETTLEMENT"), network_hash=NETWORK_HASH, runtime=pair.nodes["SH"].runtime
            )


async def test_settling_again_gives_the_same_report() -> None:
    """A settled window can be settled again: the report is the same and no block is made."""
    async with Pair.make(world_with_payments()) as pair:
        report = await pair.settle(WINDOW)
        before = await heights(pair)
        assert (await pair.settle(WINDOW)).window == report.window
        assert await heights(pair) == before
        statement = (await pair.nodes["SH"].conduct.statements(WINDOW))[f"decision/{LAST}/1"]
        assert body_of(statement, DecisionBody).commit


async def test_a_close_without_an_answer_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that remembers a close, but no answer to it, nets nothing and stops."""
    async with Pair.make(world_with_payments()) as pair:
        inputs = await to_acceptance(pair)
        proposal = say(await propose(pair, inputs))
        node = pair.nodes[FIRST]
        monkeypatch.setattr(node.conduct, "_cosigned_size", lambda: 2**40)
        monkeypatch.setattr(node.machine, "answers", Answers(bytes(16)))
        with pytest.raises(Unavailable):
            await node.conduct.deliver([proposal])
        assert isinstance(node.writer.failure, InvariantViolation)
