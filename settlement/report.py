"""What a settled window came to, read from its signed statements alone: counts, gross and net by asset, positions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from settlement import answers
from settlement.obligations import Signed, gross_by_asset
from settlement.statements import Completeness, DecisionBody, NetPosition, ProposalBody

__all__ = ["AssetTotals", "WindowReport", "report_of"]


@dataclass(frozen=True, slots=True)
class AssetTotals:
    """One asset of a netting, in minor units: all that was owed, and what the net senders of both ledgers pay."""

    gross: int
    net: int

    @property
    def saving_bp(self) -> int:
        """What need not be paid, in hundredths of a per cent of gross, rounded down; zero of nothing."""
        return (self.gross - self.net) * 10_000 // self.gross if self.gross else 0


@dataclass(frozen=True, slots=True)
class WindowReport:
    """A settled window: what became of payments by payer's ledger, gross and net by asset, all net positions."""

    window: int
    attempt: int
    policy: str
    directions: Mapping[str, Completeness]
    assets: Mapping[str, AssetTotals]
    nets: tuple[NetPosition, ...]

    @property
    def settled(self) -> int:
        """How many payments settled."""
        return sum(direction.settled for direction in self.directions.values())

    @property
    def rejected(self) -> int:
        """How many payments the payee's side rejected."""
        return sum(direction.rejected for direction in self.directions.values())

    @property
    def cancelled(self) -> int:
        """How many payments were cancelled before the window closed."""
        return sum(direction.cancelled for direction in self.directions.values())

    @property
    def carried_in(self) -> int:
        """How many payments came from the window before."""
        return sum(direction.carried_in for direction in self.directions.values())

    @property
    def accepted(self) -> int:
        """How many payments the window took."""
        return sum(direction.accepted for direction in self.directions.values())

    @property
    def carried_out(self) -> int:
        """How many payments wait for the next window."""
        return sum(direction.carried_out for direction in self.directions.values())


def report_of(signed: Signed, proposal: ProposalBody, decision: DecisionBody) -> WindowReport:
    """Report a committed window."""
    gross = gross_by_asset(signed, answers.selections_of(proposal))
    net: dict[str, int] = defaultdict(int)
    for position in proposal.nets:
        net[position.asset] += max(-position.amount, 0)
    return WindowReport(
        window=proposal.window,
        attempt=proposal.attempt,
        policy=proposal.policy,
        directions={direction.ledger: direction for direction in decision.directions},
        assets={asset: AssetTotals(amount, net[asset]) for asset, amount in gross.items() if amount},
        nets=proposal.nets,
    )
