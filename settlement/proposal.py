"""From two nodes' positions to a proposal: net, select what liquidity allows, write down the net positions.

Payments are numbered through: first Hong Kong's list, then Shanghai's. Slots are the participants' settlement accounts
of both ledgers and, for each asset, its border: what leaves the asset's home raises OMNIBUS and MIRROR alike, what
comes back needs both. Rank is the index in the list, Hong Kong first between equals, so that neither side waits for the
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.errors import Conflict, MalformedInput
from ledger.messages import Message
from settlement import liquidity, packing
from settlement.book import PEER
from settlement.liquidity import POLICY, POLICY_EMPTY, UNLIMITED, Queue
from settlement.netting import Amounts, Entries, check_sums, entries, net_entries
from settlement.port import MembersView, PositionsView
from settlement.statements import (
    LEDGERS,
    Direction,
    ListBody,
    NetPosition,
    ProposalBody,
    body_of,
    digest_of,
    voters,
)

__all__ = ["Inputs", "make_proposal", "queue_of"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The statements a proposal rests on: lists by their ledger, acceptances by the ledger of the list they accept."""

    lists: Mapping[str, Message]
    acceptances: Mapping[str, Message]

    def counts(self) -> dict[str, int]:
        """Give the number of payments of each list."""
        return {ledger: body_of(self.lists[ledger], ListBody).count for ledger in LEDGERS}


@dataclass(frozen=True, slots=True)
class _Slots:
    """The slots of both ledgers, the borders after them: names, asset by index, and what there is to pay with."""

    names: list[tuple[str, str, str]]
    assets: list[str]
    asset_of: npt.NDArray[np.int64]
    is_home: npt.NDArray[np.bool_]
    available: Amounts


def make_proposal(
    window: int, attempt: int, inputs: Inputs, positions: Mapping[str, PositionsView], *, settle: bool
) -> ProposalBody:
    """Propose what settles in this attempt.

    Args:
        window: its number.
        attempt: the number of the attempt, from 1.
        inputs: lists and acceptances.
        positions: both nodes' views, by ledger.
        settle: ``False`` proposes the empty selection, which carries everything and cannot be short.

    Raises:
        Rejected: ``NET_OVERFLOW``.
        Conflict: ``POSITIONS_MISMATCH``, the views do not fit each other or the lists.
    """
    counts = inputs.counts()
    queue, slots = queue_of(counts, positions)
    waits = np.zeros(sum(counts.values()), np.bool_)
    waits[queue.rows["payment"]] = True
    selected = waits & liquidity.select(queue) if settle else np.zeros(len(waits), np.bool_)
    netting = net_entries(queue.rows, slot_count=len(queue.available), selected=selected)
    nets = netting.nets[: len(slots.names)]
    check_sums(nets, slots.asset_of)
    named = (NetPosition(*slots.names[at], int(nets[at])) for at in np.flatnonzero(nets))
    directions, first = [], 0
    for ledger in LEDGERS:
        count = counts[ledger]
        directions.append(
            Direction(
                ledger=ledger,
                list_digest=digest_of(inputs.lists[ledger]),
                acceptance_digest=digest_of(inputs.acceptances[ledger]),
                count=count,
                selection=packing.pack_selection(selected[first : first + count]),
            )
        )
        first += count
    first_voter, last_voter = voters(window)
    return ProposalBody(
        window=window,
        attempt=attempt,
        first_voter=first_voter,
        last_voter=last_voter,
        policy=POLICY if settle else POLICY_EMPTY,
        directions=(directions[0], directions[1]),
        nets=tuple(sorted(named, key=lambda net: (net.ledger, net.participant, net.asset))),
    )


def queue_of(counts: Mapping[str, int], positions: Mapping[str, PositionsView]) -> tuple[Queue, _Slots]:
    """Put both nodes' views together into one queue.

    Raises:
        Conflict: ``POSITIONS_MISMATCH``.
    """
    slots = _slots_of(positions)
    first_payment = {LEDGERS[0]: 0, LEDGERS[1]: counts[LEDGERS[0]]}
    first_slot = {LEDGERS[0]: 0, LEDGERS[1]: len(positions[LEDGERS[0]].slots)}
    parts = []
    for ledger in LEDGERS:
        view = positions[ledger]
        for payer, members in ((ledger, view.outgoing), (PEER[ledger], view.incoming)):
            part = _part(members, count=counts[payer], slot_count=len(view.slots))
            part["payment"] += np.uint32(first_payment[payer])
            part["slot"] += np.uint32(first_slot[ledger])
            parts.append(part)
    rows = np.concatenate(parts)
    count = sum(counts.values())
    rows = np.concatenate((rows, _border_entries(rows, slots, count)))
    value = np.zeros(count, np.int64)
    own = rows[(rows["slot"] < len(slots.names)) & (rows["amount"] < 0)]
    np.add.at(value, own["payment"], -own["amount"])
    rank = np.concatenate([2 * np.arange(counts[ledger]) + place for place, ledger in enumerate(LEDGERS)])
    return Queue(rows=rows, available=slots.available, rank=rank, value=value), slots


def _part(members: MembersView, *, count: int, slot_count: int) -> Entries:
    """Read one direction's columns.

    Raises:
        Conflict: ``POSITIONS_MISMATCH``.
    """
    try:
        member = packing.column(members.members, np.uint32, members.count)
        slot = packing.column(members.slots, np.uint32, members.count)
        amount = packing.column(members.amounts, np.int64, members.count)
    except MalformedInput as error:
        raise Conflict("POSITIONS_MISMATCH", "A column of the positions has another length.") from error
    if np.any(member >= count) or np.any(slot >= slot_count):
        raise Conflict("POSITIONS_MISMATCH", "The positions name a payment or a slot that does not exist.")
    return entries(payment=member, slot=slot, amount=amount)


def _slots_of(positions: Mapping[str, PositionsView]) -> _Slots:
    names = [(at, slot.participant, slot.asset) for at in LEDGERS for slot in positions[at].slots]
    assets = sorted({name[2] for name in names} | {border.asset for at in LEDGERS for border in positions[at].borders})
    homes = {border.asset: at for at in LEDGERS for border in positions[at].borders if border.is_home}
    can_pay = [
        UNLIMITED if slot.available is None else slot.available for at in LEDGERS for slot in positions[at].slots
    ]
    borders = [
        min(
            (border.available for at in LEDGERS for border in positions[at].borders if border.asset == asset), default=0
        )
        for asset in assets
    ]
    index = {asset: place for place, asset in enumerate(assets)}
    return _Slots(
        names=names,
        assets=assets,
        asset_of=np.array([index[asset] for _, _, asset in names], np.int64),
        is_home=np.array([homes.get(asset) == ledger for ledger, _, asset in names], np.bool_),
        available=np.array([*can_pay, *borders], np.int64),
    )


def _border_entries(rows: Entries, slots: _Slots, count: int) -> Entries:
    """Give what each payment does to the border of each asset: the reverse of its effect on the home's participants."""
    at_home = rows[slots.is_home[rows["slot"]]]
    asset = slots.asset_of[at_home["slot"]]
    sums = np.zeros((len(slots.assets), count), np.int64)
    np.add.at(sums, (asset, at_home["payment"].astype(np.int64)), at_home["amount"])
    assets, payments = np.nonzero(sums)
    return entries(payment=payments, slot=assets + len(slots.names), amount=-sums[assets, payments])
