"""What a window's payments oblige participants to: derived twice, from what was signed and from what is held.

``derived_nets`` reads both lists, both acceptances and both selections and gives the net positions of both ledgers; it
needs public data only, so a certificate is checked with it. ``held_entries`` reads the living holds of one ledger: a
pending leg that credits a CLEARING account pays, one that debits it receives. A node compares the two before it votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger import posting
from ledger.errors import Conflict
from ledger.state import State
from settlement import packing
from settlement.book import PEER, Book, Group, PaymentState, Window, group_of
from settlement.chart import AccountCode
from settlement.netting import Amounts, Entries, entries, net_entries
from settlement.statements import (
    LEDGERS,
    LIST_COUNT_MAX,
    AcceptanceBody,
    Completeness,
    ListBody,
    NetPosition,
    rows_root,
)

__all__ = [
    "Held",
    "Signed",
    "accepted_of",
    "check_acceptance",
    "completeness",
    "deferred_members",
    "derived_nets",
    "gross_by_asset",
    "held_entries",
    "held_nets",
    "listed_members",
    "net_columns",
]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed inputs of a netting, by the payer's ledger: its list, and the acceptance of that list by the peer."""

    lists: Mapping[str, ListBody]
    acceptances: Mapping[str, AcceptanceBody]

    def count(self, ledger: str) -> int:
        """Give how many payments one direction has."""
        return self.lists[ledger].count


@dataclass(frozen=True, slots=True)
class Held:
    """What the living holds of one group do: columns of one length, amounts above zero are received."""

    member: npt.NDArray[np.uint32]
    participant: npt.NDArray[np.uint32]
    asset: npt.NDArray[np.uint16]
    amount: Amounts


# --- which payments ---------------------------------------------------------------------------------------------------


def _candidates(window: Window) -> npt.NDArray[np.int64]:
    """Give the members that wait, or waited when the window closed, oldest first. After closing it never changes."""
    states = window.outgoing.states
    waiting = np.flatnonzero((states != PaymentState.CANCELLED) & (states != PaymentState.REFUSED))
    positions = window.outgoing.rows["position"][waiting]
    order: npt.NDArray[np.int64] = waiting[np.argsort(positions, kind="stable")]
    return order


def listed_members(window: Window) -> npt.NDArray[np.int64]:
    """Give the outgoing members by their index in the list: oldest first, as many as a list can hold."""
    return _candidates(window)[:LIST_COUNT_MAX]


def deferred_members(window: Window) -> npt.NDArray[np.int64]:
    """Give the outgoing members for which the list has no room; closing moves them on, the next window counts them."""
    return _candidates(window)[LIST_COUNT_MAX:]


def accepted_of(acceptance: AcceptanceBody) -> Mask:
    """Tell which payments of a list were accepted."""
    accepted: Mask = packing.column(acceptance.reasons, np.uint16, acceptance.count) == 0
    return accepted


def check_acceptance(body: ListBody, acceptance: AcceptanceBody) -> None:
    """Hold an acceptance to its list: as many payments, amounts that the list has fixed, one provider for each FX.

    Raises:
        Conflict: ``ACCEPTANCE_MISMATCH``.
    """
    if (acceptance.window, acceptance.count) != (body.window, body.count):
        raise Conflict("ACCEPTANCE_MISMATCH", "The acceptance counts other payments than the list.")
    accepted = accepted_of(acceptance)
    fixed = packing.rows_of(body)["creditor_amount"]
    amounts = packing.column(acceptance.creditor_amounts, np.int64, body.count)
    providers = packing.column(acceptance.providers, np.uint32, body.count)
    if np.any(accepted & (fixed != 0) & ((amounts != fixed) | (providers != 0))):
        raise Conflict("ACCEPTANCE_MISMATCH", "The acceptance changes an amount that the list has fixed.")
    if np.any(accepted & (fixed == 0) & (providers == 0)):
        raise Conflict("ACCEPTANCE_MISMATCH", "The acceptance converts a payment without a provider.")


def completeness(ledger: str, signed: Signed, selected: Mask) -> Completeness:
    """Count what became of one direction's payments under a selection (I13)."""
    body, acceptance = signed.lists[ledger], signed.acceptances[ledger]
    carried = packing.rows_of(body)[accepted_of(acceptance) & ~selected]
    return Completeness(
        ledger=ledger,
        carried_in=body.carried_in,
        accepted=body.accepted,
        settled=int(np.count_nonzero(selected)),
        cancelled=body.cancelled,
        rejected=acceptance.rejected,
        carried_out=len(carried),
        carried_out_root=rows_root(carried),
    )


# --- from what was signed ---------------------------------------------------------------------------------------------


class _Slots:
    """Numbers (ledger, participant, asset) by their codes."""

    def __init__(self) -> None:
        self.participants: dict[tuple[str, str], int] = {}
        self.assets: dict[str, int] = {}

    def participant(self, ledger: str, table: packing.CodeTable, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        places = [self.participants.setdefault((ledger, code), len(self.participants)) for _, code in table]
        return _look_up(table, places, numbers)

    def asset(self, table: packing.CodeTable, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        places = [self.assets.setdefault(code, len(self.assets)) for _, code in table]
        return _look_up(table, places, numbers)


def _look_up(table: packing.CodeTable, places: list[int], numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Replace numbers by the places of their codes; the numbers of a table ascend."""
    known = np.array([number for number, _ in table], np.int64)
    found: npt.NDArray[np.int64] = np.array(places, np.int64)[np.searchsorted(known, numbers)]
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """What some payments do to participants: columns of one length."""

    payment: npt.NDArray[np.int64]
    participant: npt.NDArray[np.int64]
    asset: npt.NDArray[np.int64]
    amount: Amounts


def net_columns(signed: Signed) -> tuple[Entries, list[tuple[str, str, str]]]:
    """Give what every listed payment that was accepted does to every slot.

    Payments are numbered through: first Hong Kong's list, then Shanghai's. Slots are (ledger, participant, asset) in no
    particular order.

    The lists and acceptances have passed ``check_acceptance``.
    """
    slots, parts, first = _Slots(), [], 0
    for ledger in LEDGERS:
        parts.extend(_direction_parts(slots, signed, ledger, first))
        first += signed.count(ledger)
    asset_count = len(slots.assets)
    rows = entries(
        payment=np.concatenate([part.payment for part in parts]),
        slot=np.concatenate([part.participant * asset_count + part.asset for part in parts]),
        amount=np.concatenate([part.amount for part in parts]),
    )
    names = [(ledger, code, asset) for ledger, code in slots.participants for asset in slots.assets]
    return rows, names


def _direction_parts(slots: _Slots, signed: Signed, ledger: str, first: int) -> list[_Part]:
    """Write out one direction: the payer pays, the payee receives, a provider on either side does both."""
    body, acceptance = signed.lists[ledger], signed.acceptances[ledger]
    taken = np.flatnonzero(accepted_of(acceptance))
    rows = packing.rows_of(body)[taken]
    bought = packing.column(acceptance.creditor_amounts, np.int64, body.count)[taken]
    paid = rows["amount"].astype(np.int64)
    asset, creditor_asset = slots.asset(body.assets, rows["asset"]), slots.asset(body.assets, rows["creditor_asset"])
    here = packing.column(body.providers, np.uint32, body.count)[taken]
    there = packing.column(acceptance.providers, np.uint32, body.count)[taken]
    payees = packing.column(acceptance.payees, np.uint32, body.count)[taken]
    payment, peer = taken + first, PEER[ledger]
    debtors = slots.participant(ledger, body.participants, rows["debtor_participant"])
    creditors = slots.participant(peer, acceptance.participants, payees)
    parts = [_Part(payment, debtors, asset, -paid), _Part(payment, creditors, creditor_asset, bought)]
    for side, table, providers in ((ledger, body.participants, here), (peer, acceptance.participants, there)):
        on = np.flatnonzero(providers)
        provider = slots.participant(side, table, providers[on])
        parts.append(_Part(payment[on], provider, asset[on], paid[on]))
        parts.append(_Part(payment[on], provider, creditor_asset[on], -bought[on]))
    return parts


def derived_nets(signed: Signed, selections: Mapping[str, Mask]) -> tuple[NetPosition, ...]:
    """Give the net positions of both ledgers that follow from what was signed, in their canonical order.

    Raises:
        Rejected: ``NET_OVERFLOW``.
    """
    rows, names = net_columns(signed)
    selected = np.concatenate([selections[ledger] for ledger in LEDGERS])
    nets = net_entries(rows, slot_count=len(names), selected=selected).nets
    return tuple(sorted((NetPosition(*names[at], int(nets[at])) for at in np.flatnonzero(nets)), key=_order))


def gross_by_asset(signed: Signed, selections: Mapping[str, Mask]) -> dict[str, int]:
    """Give, by asset, all that the selected payments' payers and providers would pay one by one.

    Raises:
        Rejected: ``NET_OVERFLOW``.
    """
    rows, names = net_columns(signed)
    selected = np.concatenate([selections[ledger] for ledger in LEDGERS])
    gross: dict[str, int] = {}
    asset_of = np.array([name[2] for name in names], np.str_)
    for asset in sorted({name[2] for name in names}):
        of_asset = rows[(asset_of == asset)[rows["slot"]]] if len(rows) else rows
        gross[asset] = net_entries(of_asset, slot_count=len(names), selected=selected).gross
    return gross


def _order(net: NetPosition) -> tuple[str, str, str]:
    return net.ledger, net.participant, net.asset


# --- from what is held ------------------------------------------------------------------------------------------------


def held_entries(book: Book, state: State, group: int) -> Held:
    """Read the living holds of a group: what each does to the CLEARING account on one of its sides."""
    holds, accounts = posting.group_holds(state, group), state.accounts
    pays = holds[accounts["code"][holds["credit"]] == AccountCode.CLEARING]
    receives = holds[accounts["code"][holds["debit"]] == AccountCode.CLEARING]
    account = np.concatenate((pays["credit"], receives["debit"]))
    return Held(
        member=np.concatenate((pays["member"], receives["member"])),
        participant=book.participant_of[account],
        asset=accounts["asset"][account],
        amount=np.concatenate((-pays["amount"], receives["amount"])),
    )


def held_nets(book: Book, state: State, window: Window, selections: Mapping[str, Mask]) -> tuple[NetPosition, ...]:
    """Give this ledger's net positions that follow from its own living holds, in their canonical order.

    Raises:
        Rejected: ``NET_OVERFLOW``.
    """
    outgoing = np.zeros(window.outgoing.count, np.bool_)
    outgoing[listed_members(window)] = selections[book.ledger]
    columns = []
    for kind, selected in ((Group.OUTGOING, outgoing), (Group.INCOMING, selections[book.peer])):
        held = held_entries(book, state, group_of(window.number, kind))
        chosen = selected[held.member]
        key = held.participant[chosen].astype(np.int64) << 16 | held.asset[chosen]
        columns.append((key, held.amount[chosen]))
    keys, slot = np.unique(np.concatenate([key for key, _ in columns]), return_inverse=True)
    amount = np.concatenate([amounts for _, amounts in columns])
    rows = entries(payment=np.zeros(len(amount), np.uint32), slot=slot, amount=amount)
    nets = net_entries(rows, slot_count=len(keys)).nets
    codes = {asset.number: asset.code for asset in book.genesis.assets}
    positions = [
        NetPosition(book.ledger, book.participant(key >> 16).code, codes[key & 0xFFFF], net)
        for key, net in zip(keys.tolist(), nets.tolist(), strict=True)
        if net
    ]
    return tuple(sorted(positions, key=_order))
