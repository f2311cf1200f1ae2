"""The postings that settle a window's net positions, and whether the balances bear them.

A net sender p of amount n: CLEARING.p ⇢ FUNDS.p and SETTLE.p ⇢ NETTING; a net recipient: FUNDS.p ⇢ CLEARING.p and
NETTING ⇢ SETTLE.p; an issuer, which has no funds: CLEARING.p ⇢ NETTING or the reverse. What a ledger sends or receives
as a whole crosses the border: on the asset's home NETTING ⇢ OMNIBUS or the reverse, on the other ledger NETTING ⇢
MIRROR or the reverse. All legs are one linked chain of bound holds in the window's group NET, so NETTING is zero after
them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.accounts import AccountFlag
from ledger.errors import NotFound
from ledger.state import AccountView, State
from ledger.transfers import Flag, Transfers, transfers
from settlement.book import Book, Group, group_of
from settlement.chart import AccountCode
from settlement.legs import TransferCode
from settlement.statements import NetPosition, VoteReason

__all__ = [
    "NetLeg",
    "border_available",
    "commands",
    "net_id",
    "net_legs",
    "settle_available",
    "shortage",
    "unused_series",
]

AMOUNT_MAX = 2**63 - 1
_ID_TAG = b"hugang/net/0\0"


@dataclass(frozen=True, slots=True)
class NetLeg:
    """One pending leg: debit, credit, amount; ``net`` is the index of the net position it belongs to."""

    net: int
    debit: int
    credit: int
    amount: int


def net_id(window: int, attempt: int, index: int, series: int = 0) -> int:
    """Give the id of a net leg: the first 128 bits of SHA-256 over what it is; series 0 is not among that."""
    numbers = (window, attempt, index, series) if series else (window, attempt, index)
    data = b"".join(number.to_bytes(8, "big") for number in numbers)
    return int.from_bytes(hashlib.sha256(_ID_TAG + data).digest()[:16], "big")


def unused_series(state: State, *, window: int, attempt: int, count: int, party: int) -> int:
    """Give the first series in which none of the ids of so many net legs is used up.

    That is series 0, unless a request under some key of the node's own party has used ids up, by a refusal for one:
    whatever it signs is in the same scope (I8). No such request can stop the vote.
    """
    return next(
        series
        for series in itertools.count()
        if all(state.lookup(party, net_id(window, attempt, index, series)) is None for index in range(count))
    )


def net_legs(book: Book, nets: Iterable[NetPosition]) -> list[NetLeg]:
    """Write out the legs of this ledger's net positions, the border's last; others' positions are passed over.

    Raises:
        NotFound: ``PARTICIPANT_NOT_FOUND``, ``PARTICIPANT_ASSET``.
        MalformedInput: ``ASSET_UNKNOWN``.
    """
    legs: list[NetLeg] = []
    total: dict[int, int] = defaultdict(int)
    count = 0
    for net in nets:
        if net.ledger != book.ledger:
            continue
        asset = book.genesis.asset(net.asset).number
        _add(legs, count, net.amount, _pairs(book, net.participant, asset))
        total[asset] += net.amount
        count += 1
    for asset, amount in sorted(total.items()):
        if amount:
            netting = book.institution[AccountCode.NETTING, asset]
            omnibus = book.institution.get((AccountCode.OMNIBUS, asset))
            border = book.institution[AccountCode.MIRROR, asset] if omnibus is None else omnibus
            _add(legs, count, -amount, [(netting, border)])
            count += 1
    return legs


def _pairs(book: Book, code: str, asset: int) -> list[tuple[int, int]]:
    """Give debit and credit of the legs by which a participant receives."""
    participant = book.participant_by_code(code)
    netting = book.institution[AccountCode.NETTING, asset]
    clearing = participant.account(AccountCode.CLEARING, asset)
    funds = participant.accounts.get((AccountCode.FUNDS, asset))
    if funds is None:
        return [(netting, clearing)]
    return [(funds, clearing), (netting, participant.account(AccountCode.SETTLE, asset))]


def _add(legs: list[NetLeg], net: int, amount: int, pairs: Sequence[tuple[int, int]]) -> None:
    """Add legs; a negative amount turns them round."""
    for debit, credit in pairs:
        if amount > 0:
            legs.append(NetLeg(net, debit, credit, amount))
        else:
            legs.append(NetLeg(net, credit, debit, -amount))


def commands(legs: Sequence[NetLeg], *, window: int, attempt: int, party: int, series: int) -> Transfers:
    """Give the commands that reserve the legs: one linked chain of bound holds, all or nothing."""
    result = transfers(len(legs))
    for index, leg in enumerate(legs):
        command = result[index]
        command["id_hi"], command["id_lo"] = divmod(net_id(window, attempt, index, series), 2**64)
        command["amount"] = leg.amount
        command["debit"], command["credit"] = leg.debit, leg.credit
        command["item"], command["member"] = leg.net, leg.net
    result["party"] = party
    result["code"] = TransferCode.NET
    result["group"] = group_of(window, Group.NET)
    result["flags"] = Flag.PENDING | Flag.BOUND | Flag.LINKED
    if len(legs):
        result["flags"][-1] = Flag.PENDING | Flag.BOUND
    return result


def shortage(book: Book, state: State, nets: Iterable[NetPosition]) -> VoteReason:
    """Say why the net positions of this ledger cannot be reserved now, ``YES`` if they can. Changes nothing.

    What it lets pass, the kernel accepts: the same limits, asked of the same counters (I3, I4).
    """
    debited: dict[int, int] = defaultdict(int)
    credited: dict[int, int] = defaultdict(int)
    try:
        legs = net_legs(book, nets)
    except NotFound:
        return VoteReason.ACCOUNT_CLOSED
    for leg in legs:
        debited[leg.debit] += leg.amount
        credited[leg.credit] += leg.amount
    reasons = {_reason(state.account(at), debited[at], credited[at]) for at in {*debited, *credited}}
    reasons.discard(VoteReason.YES)
    return min(reasons, default=VoteReason.YES)


def _reason(account: AccountView, debited: int, credited: int) -> VoteReason:
    if account.is_closed:
        return VoteReason.ACCOUNT_CLOSED
    if account.debits_posted + account.debits_pending + debited > AMOUNT_MAX:
        return VoteReason.OVERFLOW
    if account.credits_posted + account.credits_pending + credited > AMOUNT_MAX:
        return VoteReason.OVERFLOW
    outflow = debited if account.is_credit_normal else credited
    if account.flags & AccountFlag.LIMITED and outflow and account.available - outflow < account.minimum:
        at_border = account.code in (AccountCode.OMNIBUS, AccountCode.MIRROR)
        return VoteReason.BORDER_SHORT if at_border else VoteReason.FUNDS_SHORT
    return VoteReason.YES


def border_available(book: Book, state: State) -> dict[int, int]:
    """Give by asset what this ledger's side of the border can send: OMNIBUS at home, MIRROR abroad."""
    codes = (AccountCode.OMNIBUS, AccountCode.MIRROR)
    return {asset: _spare(state, number) for (code, asset), number in book.institution.items() if code in codes}


def settle_available(book: Book, state: State) -> dict[tuple[int, int], int | None]:
    """Give by participant and asset what it can pay: the lower of SETTLE and FUNDS; ``None`` for an issuer."""
    available: dict[tuple[int, int], int | None] = {}
    for participant in book.participants:
        for (code, asset), number in participant.accounts.items():
            if code is not AccountCode.SETTLE:
                continue
            funds = participant.accounts.get((AccountCode.FUNDS, asset))
            numbers = [] if funds is None else [number, funds]
            available[participant.number, asset] = min((_spare(state, at) for at in numbers), default=None)
    return available


def _spare(state: State, number: int) -> int:
    """Give what may still leave an account (I4)."""
    account = state.account(number)
    return account.available - account.minimum
