"""A settlement cycle step by step on the machines of a ``World``, so that a test can stop or lie anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from ledger.errors import LedgerError
from ledger.messages import Message
from settlement import answers, statements
from settlement.book import PEER, Window
from settlement.obligations import accepted_of, derived_nets
from settlement.packing import pack_selection
from settlement.statements import (
    LEDGERS,
    Body,
    CloseBody,
    DecisionBody,
    Direction,
    ProposalBody,
    VoteBody,
    body_of,
    digest_of,
    voters,
)
from tests.settlement_fixture import NETWORK_HASH, Node, World, key_of, uetr_of
from tests.signed_again import signed_again

__all__ = ["Steps", "TwiceSigned", "accepted", "refused", "states", "world_with_payments"]


def accepted(node: Node, message: Message) -> None:
    """Deliver a statement that must be journaled; the state must be sound after it."""
    node.deliver(message)
    node.machine.state.check()


def refused(node: Node, message: Message) -> str:
    """Deliver a statement that must be refused without a trace; give the code."""
    before = node.machine.state.money_digest()
    with pytest.raises(LedgerError) as caught:
        node.deliver(message)
    assert node.machine.state.money_digest() == before
    return caught.value.code


@dataclass
class Steps:
    """The cycle of one window: every method makes statements and delivers them to both nodes."""

    world: World
    number: int = 1
    messages: dict[str, Message] = field(default_factory=dict)
    """By name, what was said so far."""

    @property
    def nodes(self) -> dict[str, Node]:
        """Both nodes by ledger code."""
        return {ledger: self.world.node(ledger) for ledger in LEDGERS}

    def window(self, ledger: str) -> Window:
        """Give the window at a node."""
        return self.world.node(ledger).book.windows[self.number]

    def say(self, ledger: str, body: Body, *, key: str = "") -> Message:
        """Sign a statement as the node of a ledger, or as the operator for ``--``."""
        signer = key or ("SETTLEMENT" if ledger == "--" else f"NODE-{ledger}")
        return statements.sign(body, key=key_of(signer), network_hash=NETWORK_HASH, ledger=ledger)

    def deliver(self, message: Message, to: Iterable[str] = LEDGERS) -> Message:
        """Deliver a statement that must be journaled."""
        for ledger in to:
            accepted(self.world.node(ledger), message)
        return message

    def close(self) -> None:
        """Close the window on both."""
        self.messages["close"] = self.deliver(self.say("--", CloseBody(self.number)))

    def list(self) -> None:
        """Exchange lists."""
        for ledger, node in self.nodes.items():
            message = self.say(ledger, answers.list_of(node.book, self.window(ledger)))
            self.messages[f"list/{ledger}"] = self.deliver(message, (ledger,))
        for ledger in LEDGERS:
            self.deliver(self.messages[f"list/{ledger}"], (PEER[ledger],))

    def accept(self) -> None:
        """Exchange acceptances."""
        for ledger, node in self.nodes.items():
            message = self.say(ledger, answers.acceptance_of(node.book, self.window(ledger)))
            self.messages[f"acceptance/{ledger}"] = self.deliver(message, (ledger,))
        for ledger in LEDGERS:
            self.deliver(self.messages[f"acceptance/{ledger}"], (PEER[ledger],))

    def proposal(
        self, attempt: int = 1, *, leave_out: dict[str, list[int]] | None = None, **changes: Any
    ) -> ProposalBody:
        """Make a proposal of all accepted payments but those left out, by payer's ledger; ``changes`` make it wrong."""
        signed = answers.signed_of(self.window("SH"))
        selections = {at: accepted_of(signed.acceptances[at]).copy() for at in LEDGERS}
        for ledger, indices in (leave_out or {}).items():
            selections[ledger][indices] = False
        first, last = voters(self.number)
        directions = tuple(
            Direction(
                ledger=at,
                list_digest=digest_of(self.messages[f"list/{at}"]),
                acceptance_digest=digest_of(self.messages[f"acceptance/{PEER[at]}"]),
                count=signed.count(at),
                selection=pack_selection(selections[at]),
            )
            for at in LEDGERS
        )
        body = ProposalBody(
            window=self.number,
            attempt=attempt,
            first_voter=first,
            last_voter=last,
            policy="fifo-readd/1",
            directions=directions,
            nets=derived_nets(signed, selections),
        )
        return msgspec.structs.replace(body, **changes)

    def propose(self, body: ProposalBody | None = None, to: Iterable[str] = LEDGERS) -> Message:
        """Deliver a proposal."""
        body = body or self.proposal()
        message = self.say("--", body)
        self.messages[f"proposal/--/{body.attempt}"] = message
        return self.deliver(message, to)

    def vote_of(self, ledger: str) -> VoteBody:
        """Give the vote that a node owes to the proposal it has journaled."""
        node, window = self.world.node(ledger), self.window(ledger)
        proposal = window.statements[f"proposal/--/{window.attempt}"]
        first, last = voters(self.number)
        first_vote = window.statements.get(f"vote/{first}/{window.attempt}") if ledger == last else None
        return answers.vote_of(
            node.book,
            node.machine.state,
            body_of(proposal, ProposalBody),
            proposal_digest=digest_of(proposal),
            first_vote=None if first_vote is None else body_of(first_vote, VoteBody),
        )

    def vote(self) -> None:
        """Have both nodes vote, in order, and hear of each other's vote."""
        for ledger in voters(self.number):
            attempt = self.window(ledger).attempt
            message = self.say(ledger, self.vote_of(ledger))
            self.messages[f"vote/{ledger}/{attempt}"] = self.deliver(message, (ledger, PEER[ledger]))

    def decision(self) -> DecisionBody:
        """Give the decision that follows from both votes."""
        first, last = voters(self.number)
        window = self.window(last)
        names = [f"proposal/--/{window.attempt}", *(f"vote/{at}/{window.attempt}" for at in (first, last))]
        proposal, first_vote, last_vote = (window.statements[name] for name in names)
        return answers.decision_of(answers.signed_of(window), proposal, first_vote=first_vote, last_vote=last_vote)

    def decide(self) -> None:
        """Decide as the last voter, and tell the first one."""
        first, last = voters(self.number)
        message = self.say(last, self.decision())
        self.messages[f"decision/{last}/{self.window(last).attempt}"] = self.deliver(message, (last, first))

    def to_acceptance(self) -> Steps:
        """Come as far as both acceptances."""
        self.close()
        self.list()
        self.accept()
        return self

    def to_decision(self, body: ProposalBody | None = None) -> Steps:
        """Settle the window."""
        self.to_acceptance()
        self.propose(body)
        self.vote()
        self.decide()
        return self


class TwiceSigned(Steps):
    """The cycle in which Hong Kong is told everything under a second signature of the same speakers."""

    def deliver(self, message: Message, to: Iterable[str] = LEDGERS) -> Message:
        """Deliver a statement that must be journaled, to Hong Kong as it was signed once more."""
        for ledger in to:
            accepted(self.world.node(ledger), signed_again(message) if ledger == "HK" else message)
        return message


def world_with_payments() -> World:
    """Give a world with three payments to Hong Kong: to dan, to eva with FX, and to an account that does not exist."""
    world = World.funded()
    world.quote(sell="HKD", maximum=1_000_000, buy="CNY", rate="1.08430000")
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    fx = {"creditor_asset": "HKD", "quote": uetr_of("quote")}
    world.sh.pay("cai", world.payment("SH/WALLET.cai", "HK/WALLET.eva", 100_00, **fx))
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 3_00)
    world.sh.pay("ann", payment | {"creditor": world.address("HK/CLEARING.GAMMA"), "uetr": uetr_of("astray")})
    return world


def states(steps: Steps, ledger: str) -> tuple[list[int], list[int]]:
    """Give the states of outgoing and incoming payments."""
    window = steps.window(ledger)
    return window.outgoing.states.tolist(), window.incoming.states.tolist()
