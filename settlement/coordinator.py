"""Driving a settlement cycle over two nodes: a process that computes and proposes, and keeps no truth.

Everything it needs it reads from the nodes, so it may die anywhere, start again, or run twice at the same time: every
delivery is idempotent, and a step that another run has taken first is read and gone on from. ``run_cycle`` settles one
window; ``recover`` finds the window that waits to be settled and does that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import messages
from ledger.errors import Conflict, IntegrityFailure, LedgerError, Rejected, Unavailable
from ledger.messages import Message
from ledger.runtime import Runtime
from settlement import cosigning, statements
from settlement.book import PEER, WindowState
from settlement.cosigning import CosigningPort
from settlement.obligations import Signed
from settlement.port import NodePort, WindowView
from settlement.proposal import Inputs, make_proposal
from settlement.report import WindowReport, report_of
from settlement.statements import (
    ATTEMPT_MAX,
    LEDGERS,
    OPERATOR_LEDGER,
    AcceptanceBody,
    CloseBody,
    DecisionBody,
    ListBody,
    ProposalBody,
    body_of,
    statement_key,
    voters,
)

__all__ = ["ATTEMPTS_TO_SETTLE", "ROUNDS_MAX", "Coordinator", "CycleReport", "recover", "run_cycle"]

ATTEMPTS_TO_SETTLE = 3
"""Attempts that try to settle; later ones propose the empty selection, which no balance can refuse."""
ROUNDS_MAX = 12
"""How often the way to a decision is begun anew in one run."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CycleReport:
    """A window that is settled on both ledgers: what it came to, and how long each stage took, in nanoseconds."""

    window: WindowReport
    stages_ns: Mapping[str, int]


@dataclass(slots=True)
class Coordinator:
    """One run over two nodes. ``progress`` is told each stage as it begins.

    With ``cosigners``, by ledger, both nodes cosign each other's checkpoints before a window is netted, and once more
    when it is decided.
    """

    ports: Mapping[str, NodePort]
    key: Ed25519PrivateKey
    network_hash: bytes
    runtime: Runtime
    progress: Progress = field(default=lambda _: None)
    cosigners: Mapping[str, CosigningPort] = field(default_factory=dict)
    stages_ns: dict[str, int] = field(default_factory=dict)
    _stage: str = ""
    _since_ns: int = 0

    async def settle(self, window: int) -> CycleReport:
        """Settle a window on both ledgers, from wherever it stands.

        Raises:
            Unavailable: a node cannot be reached, or too many attempts failed; call again.
            NotFound: a node has not come to this window.
            LedgerError: a node refuses what this run has made.
            IntegrityFailure: the nodes contradict each other.
        """
        inputs = await self._inputs(window)
        for _ in range(ROUNDS_MAX):
            await self._cosign()
            try:
                decided = await self._attempt(window, inputs)
            except Conflict as error:
                if error.code not in ("ATTEMPT_ENDED", "ATTEMPT_OPEN", "ATTEMPT_ORDER", "CHECKPOINT_MISSING"):
                    raise
                continue  # another run was faster: look again
            if decided is not None:
                with contextlib.suppress(LedgerError):  # the window is settled, whatever becomes of this
                    await self._cosign()
                self._enter("")
                signed = _signed(inputs)
                return CycleReport(report_of(signed, *decided), dict(self.stages_ns))
        raise Unavailable("CYCLE_UNDECIDED", "The window could not be settled yet.", retry_after_s=1, window=window)

    async def _cosign(self) -> None:
        """Have both nodes cosign what the other has journaled so far; netting never comes first."""
        if self.cosigners:
            self._enter("cosign")
            await cosigning.exchange(self.cosigners)

    # --- steps 1 to 3: both know the same set ------------------------------------------------------------------------

    async def _inputs(self, window: int) -> Inputs:
        self._enter("close")
        close = self._sign(CloseBody(window))
        lists = await self._both({at: [close] for at in LEDGERS}, "list")
        self._enter("accept")
        accepted = await self._both({at: [lists[PEER[at]]] for at in LEDGERS}, "acceptance")
        self._enter("reject")
        await asyncio.gather(*(self.ports[at].deliver([accepted[PEER[at]]]) for at in LEDGERS))
        return Inputs(lists=lists, acceptances={PEER[at]: accepted[at] for at in LEDGERS})

    async def _both(self, deliveries: Mapping[str, list[Message]], kind: str) -> dict[str, Message]:
        """Deliver to both nodes at once; give each one's answer of a kind."""
        answers = await asyncio.gather(*(self.ports[at].deliver(deliveries[at]) for at in LEDGERS))
        return {at: _only(answer, kind) for at, answer in zip(LEDGERS, answers, strict=True)}

    # --- steps 4 to 8: propose, vote, decide -------------------------------------------------------------------------

    async def _attempt(self, window: int, inputs: Inputs) -> tuple[ProposalBody, DecisionBody] | None:
        """Go on with the attempt that is open, or begin one; gives proposal and decision if it was committed."""
        self._enter("net")
        views = dict(
            zip(LEDGERS, await asyncio.gather(*(self.ports[at].window(window) for at in LEDGERS)), strict=True)
        )
        first, last = voters(window)
        proposal = _open_proposal(views[first]) or await self._propose(window, inputs, views)
        self._enter("vote")
        first_votes = await self.ports[first].deliver([proposal])
        vote = _only(first_votes, "vote")
        self._enter("decide")
        answer = await self.ports[last].deliver([proposal, vote])
        last_vote, decision = _only(answer, "vote"), _only(answer, "decision")
        self._enter("apply")
        await self.ports[first].deliver([last_vote, decision])
        body = body_of(decision, DecisionBody)
        return (body_of(proposal, ProposalBody), body) if body.commit else None

    async def _propose(self, window: int, inputs: Inputs, views: Mapping[str, WindowView]) -> Message:
        """Make the next attempt's proposal from what both nodes hold now.

        Raises:
            Conflict: ``ATTEMPT_ORDER``, another run has gone on between the two looks.
        """
        first, last = voters(window)
        if views[first].attempt != views[last].attempt:
            raise Conflict("ATTEMPT_ORDER", "The nodes were seen at different attempts.", window=window)
        attempt = min(views[first].attempt + 1, ATTEMPT_MAX)
        positions = dict(
            zip(LEDGERS, await asyncio.gather(*(self.ports[at].positions(window) for at in LEDGERS)), strict=True)
        )
        try:
            body = make_proposal(window, attempt, inputs, positions, settle=attempt <= ATTEMPTS_TO_SETTLE)
        except Rejected as error:
            if error.code != "NET_OVERFLOW":
                raise
            body = make_proposal(window, attempt, inputs, positions, settle=False)
        return self._sign(body)

    def _sign(self, body: CloseBody | ProposalBody) -> Message:
        return statements.sign(body, key=self.key, network_hash=self.network_hash, ledger=OPERATOR_LEDGER)

    def _enter(self, stage: str) -> None:
        """Count the time since the last stage to that one."""
        now_ns = self.runtime.monotonic_ns()
        if self._stage:
            self.stages_ns[self._stage] = self.stages_ns.get(self._stage, 0) + now_ns - self._since_ns
        self._stage, self._since_ns = stage, now_ns
        if stage:
            self.progress(stage)


async def run_cycle(
    ports: Mapping[str, NodePort],
    *,
    key: Ed25519PrivateKey,
    network_hash: bytes,
    window: int,
    runtime: Runtime,
    progress: Progress | None = None,
    cosigners: Mapping[str, CosigningPort] | None = None,
) -> CycleReport:
    """Settle a window on both ledgers, from wherever it stands; see ``Coordinator.settle``.

    Args:
        ports: the two nodes by the codes of their ledgers.
        key: the settlement operator's.
        network_hash: what ``ledger.genesis.network_hash`` gives for either ledger.
        window: its number.
        runtime: for measuring.
        progress: told each stage as it begins.
        cosigners: the two nodes once more, as cosigners of each other's checkpoints; ``None`` does without.
    """
    coordinator = Coordinator(ports, key, network_hash, runtime, cosigners=cosigners or {})
    if progress is not None:
        coordinator.progress = progress
    return await coordinator.settle(window)


async def recover(
    ports: Mapping[str, NodePort],
    *,
    key: Ed25519PrivateKey,
    network_hash: bytes,
    runtime: Runtime,
    progress: Progress | None = None,
    cosigners: Mapping[str, CosigningPort] | None = None,
) -> CycleReport | None:
    """Finish the window that is closed somewhere and not settled everywhere, if there is one.

    Raises:
        Unavailable: a node cannot be reached; call again.
        IntegrityFailure: the nodes are more than one window apart.
    """
    views = await asyncio.gather(*(ports[at].window(None) for at in LEDGERS))
    numbers = sorted(view.number for view in views)
    if numbers[1] - numbers[0] > 1:
        raise IntegrityFailure("WINDOWS_DIFFER", "The nodes are more than one window apart.")
    window = numbers[1] - 1
    if window == 0:
        return None
    states = {(await port.window(window)).state for port in ports.values()}
    if states == {WindowState.SETTLED.value}:
        return None
    return await run_cycle(
        ports,
        key=key,
        network_hash=network_hash,
        window=window,
        runtime=runtime,
        progress=progress,
        cosigners=cosigners,
    )


def _open_proposal(view: WindowView) -> Message | None:
    """Give the proposal of an attempt that began at a node and that it does not know to have ended in an abort."""
    stored = view.attempt_statements.get(statement_key("proposal", attempt=view.attempt)) if view.attempt else None
    if stored is None or view.state == WindowState.ACCEPTED.value:
        return None
    return messages.decode(stored)


def _only(answer: list[Message], kind: str) -> Message:
    """Give the one statement of a kind.

    Raises:
        IntegrityFailure: the node did not say what it owes.
    """
    found = [message for message in answer if messages.parse(message).topic == f"statement:{kind}"]
    if len(found) != 1:
        raise IntegrityFailure("ANSWER_MISSING", "A node has not answered a statement.", kind=kind)
    return found[0]


def _signed(inputs: Inputs) -> Signed:
    return Signed(
        lists={at: body_of(inputs.lists[at], ListBody) for at in LEDGERS},
        acceptances={at: body_of(inputs.acceptances[at], AcceptanceBody) for at in LEDGERS},
    )
