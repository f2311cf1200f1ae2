"""What a node does in settlement cycles by itself: it journals what others say and makes what it owes in answer.

``deliver`` takes statements in any order and any number of times. What is new is journaled in the writer's turn, where
nothing can come in between; what this node has to say to it is derived there from the state of that moment:

=====================  ===============================================================================================
statement journaled    answer
=====================  ===============================================================================================
close                  this node's list
the other's list       this node's acceptance
proposal               as first voter: this node's vote, in the same block
proposal and vote      as last voter: this node's vote and the decision, all four in one block
=====================  ===============================================================================================

A node that dies anywhere and opens again owes at most a list or an acceptance; ``resume`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import messages
from ledger.errors import Conflict, InvariantViolation, MalformedInput
from ledger.machine import Admitted, Machine
from ledger.messages import Kind, Message
from ledger.runtime import Runtime
from ledger.writer import Writer
from settlement import answers, statements, windows
from settlement.book import Book, Window, WindowState
from settlement.port import PositionsView, WindowView
from settlement.speakers import check_speaker
from settlement.statements import Body, CloseBody, ProposalBody, VoteBody, digest_of, kind_of, statement_key
from settlement.window_views import positions_view, window_view

__all__ = ["STATEMENTS_MAX", "Conduct"]

STATEMENTS_MAX = 16
"""Statements of one delivery."""
_RANK = {kind: rank for rank, kind in enumerate(("close", "list", "acceptance", "proposal", "vote", "decision"))}


class Conduct:
    """A node's side of the settlement cycle; it is the node's ``NodePort`` in its own process."""

    def __init__(
        self,
        *,
        machine: Machine,
        book: Book,
        writer: Writer,
        private_key: Ed25519PrivateKey,
        runtime: Runtime,
        cosigned_size: Callable[[], int] | None = None,
    ) -> None:
        """Speak for the node whose journal ``writer`` writes.

        Args:
            machine: the writer's.
            book: that of the machine's interpreter.
            writer: journals what is said.
            private_key: the node's.
            runtime: threads and crossings.
            cosigned_size: how many leaves of this journal the other node has cosigned; with it, the node votes on
                nothing that lies beyond them.
        """
        self._machine = machine
        self._book = book
        self._writer = writer
        self._private_key = private_key
        self._runtime = runtime
        self._cosigned_size = cosigned_size

    @property
    def ledger(self) -> str:
        """The code of this node's ledger."""
        return self._book.ledger

    async def window(self, number: int | None) -> WindowView:
        """Give a window, the open one for ``None``; see ``NodePort``."""
        return await self._writer.read(lambda _: window_view(self._book, number))

    async def positions(self, number: int) -> PositionsView:
        """Give what a window's payments do here, and the balances of this moment; see ``NodePort``."""
        return await self._writer.read(lambda machine: positions_view(self._book, machine.state, number))

    async def statements(self, number: int) -> dict[str, Message]:
        """Give all statements of a window that are journaled here, by their names.

        Raises:
            NotFound: ``WINDOW_NOT_FOUND``.
        """
        return await self._writer.read(lambda _: dict(self._book.window(number).statements))

    async def deliver(self, statements: Sequence[Message]) -> list[Message]:
        """Journal what is new, make what this node owes, and give its own statements that answer; see ``NodePort``.

        Raises:
            MalformedInput: too many, or something that is no statement.
            Unauthenticated: a signature does not hold.
            LedgerError: a statement was refused; those before it, in the order of the cycle, may be journaled.
        """
        if len(statements) > STATEMENTS_MAX or any(message.kind is not Kind.STATEMENT for message in statements):
            raise MalformedInput("STATEMENT_MALFORMED", "A delivery holds a few statements and nothing else.")
        offered = [await self._runtime.offload(self._machine.admit, message, at_ns=None) for message in statements]
        offered.sort(key=_rank)
        self._runtime.crossing("conduct.before_deliver")
        while await self._writer.decide(lambda machine: self._take(machine, offered)):
            await self._fulfil()
        await self._fulfil()
        self._runtime.crossing("conduct.after_deliver")
        return await self._writer.read(lambda _: self._answers(offered))

    async def resume(self) -> None:
        """Make what this node still owes; called once after the writer has started."""
        await self._fulfil()

    async def _fulfil(self) -> None:
        """Journal this node's own statements, one block each, until it owes none."""
        while await self._writer.decide(self._owed):
            self._runtime.crossing("conduct.after_own")

    # --- in the writer's turn -----------------------------------------------------------------------------------------

    def _owed(self, machine: Machine) -> list[Admitted]:
        """Give the next statement that this node owes to what is journaled."""
        window = self._book.windows.get(self._book.current - 1)
        if window is None or window.state is not WindowState.CLOSED:
            return []
        own, peer = self._book.ledger, self._book.peer
        if statement_key("list", own) not in window.statements:
            return [self._say(machine, answers.list_of(self._book, window))]
        listed = statement_key("list", peer) in window.statements
        if listed and statement_key("acceptance", own) not in window.statements:
            return [self._say(machine, answers.acceptance_of(self._book, window))]
        return []

    def _take(self, machine: Machine, offered: Sequence[Admitted]) -> list[Admitted]:
        """Give the next bundle: the first statement that is new, and what belongs into the same block.

        Raises:
            LedgerError: it may not be journaled.
        """
        new = [admitted for admitted in offered if not self._is_said(machine, admitted)]
        if not new:
            return []
        if isinstance(new[0].content, ProposalBody):
            return self._vote(machine, new[0], new[1:])
        return new[:1]

    def _is_said(self, machine: Machine, admitted: Admitted) -> bool:
        """Whether a statement adds nothing: it is journaled, or closes a window that another operator has closed.

        Raises:
            Forbidden: whoever closes it once more is no operator, as ``check_speaker`` says.
        """
        if machine.has_journaled(admitted):
            return True
        window = self._book.windows.get(admitted.content.window)
        is_closed = window is not None and statement_key("close") in window.statements
        if not is_closed or not isinstance(admitted.content, CloseBody):
            return False
        check_speaker(machine, admitted)
        return True

    def _vote(self, machine: Machine, proposal: Admitted, others: Sequence[Admitted]) -> list[Admitted]:
        """Give a proposal with this node's vote; the last voter adds the other's vote before and its decision after."""
        body: ProposalBody = proposal.content
        check_speaker(machine, proposal)
        windows.check_proposal(self._book, machine, body)
        self._check_cosigned(machine, self._book.window(body.window))
        digest = digest_of(proposal.message)
        if body.first_voter == self.ledger:
            vote = answers.vote_of(self._book, machine.state, body, proposal_digest=digest, first_vote=None)
            return [proposal, self._say(machine, vote)]
        first = self._first_vote(machine, body, others)
        windows.check_vote(first.content, proposal_digest=digest, first_vote=None)
        vote = answers.vote_of(self._book, machine.state, body, proposal_digest=digest, first_vote=first.content)
        last = self._say(machine, vote)
        decision = answers.decision_of(
            answers.signed_of(self._book.window(body.window)),
            proposal.message,
            first_vote=first.message,
            last_vote=last.message,
        )
        return [proposal, first, last, self._say(machine, decision)]

    def _check_cosigned(self, machine: Machine, window: Window) -> None:
        """Let nothing be netted that the other node has not cosigned: neither side could be held to it.

        Raises:
            Conflict: ``CHECKPOINT_MISSING``.
        """
        if self._cosigned_size is None:
            return
        close = messages.parse(window.statements[statement_key("close")])
        closed = machine.answers.get(machine.directory.keys[close.key_id].party, close.idempotency_key)
        if closed is None:
            raise InvariantViolation("a close is remembered that was never answered")
        if self._cosigned_size() <= closed.position:
            raise Conflict("CHECKPOINT_MISSING", "The close is in no cosigned checkpoint.", window=window.number)

    def _first_vote(self, machine: Machine, body: ProposalBody, others: Sequence[Admitted]) -> Admitted:
        """Find the first voter's vote among what was delivered; without it the last voter does not begin.

        Raises:
            Conflict: ``VOTE_MISSING``.
        """
        for admitted in others:
            vote = admitted.content
            is_vote = isinstance(vote, VoteBody) and (vote.window, vote.attempt) == (body.window, body.attempt)
            if is_vote and admitted.envelope.ledger == body.first_voter:
                machine.directory.signer(admitted.envelope.key_id)
                check_speaker(machine, admitted)
                return admitted
        raise Conflict("VOTE_MISSING", "The first voter's vote did not come with the proposal.", window=body.window)

    def _say(self, machine: Machine, body: Body) -> Admitted:
        """Sign a statement of this node's own."""
        self._runtime.crossing(f"conduct.before_{kind_of(body)}")
        message = statements.sign(body, key=self._private_key, network_hash=machine.network_hash, ledger=self.ledger)
        return machine.admit(message, at_ns=None, check_signature=False)

    def _answers(self, offered: Sequence[Admitted]) -> list[Message]:
        """Give this node's own statements that answer what was delivered, each once, in the order of the cycle."""
        found: dict[str, Message] = {}
        for admitted in offered:
            window = self._book.window(admitted.content.window)
            for key in self._answer_keys(admitted, window):
                if key in window.statements:
                    found[key] = window.statements[key]
        return list(found.values())

    def _answer_keys(self, admitted: Admitted, window: Window) -> list[str]:
        kind = kind_of(admitted.content)
        if kind == "close":
            return [statement_key("list", self.ledger)]
        if kind == "list":
            return [statement_key("acceptance", self.ledger)]
        if kind in ("proposal", "vote"):
            attempt = admitted.content.attempt
            keys = [statement_key("vote", self.ledger, attempt), statement_key("decision", self.ledger, attempt)]
            return [key for key in keys if key in window.statements]
        return []


def _rank(admitted: Admitted) -> int:
    return _RANK[kind_of(admitted.content)]
