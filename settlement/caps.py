"""Net debit caps: how much a participant may owe to windows that are not decided.

A cap is the maximum of the participant's CLEARING account, whose credits are what it owes. A payment that would owe
more is refused; money that comes in, and a window that settles, always pass. While this node's yes to a window is
reserved, a net recipient's own net position stands on the same side of the account. It is nothing that the participant
owes, so nothing bounds it when it is reserved, and until the decision the maximum is higher by just that much: also
where the cap is below what is owed, a net position always finds room, and a payment never more than the cap leaves.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.machine import Admitted, Context, Machine
from ledger.meters import UNLIMITED
from ledger.parties import Role
from ledger.state import State
from settlement.bodies import CapsBody
from settlement.book import Book
from settlement.chart import AccountCode
from settlement.opening import require_role
from settlement.reservation import NetLeg

__all__ = ["authorise_caps", "execute_caps", "give_room", "lift", "take_room"]


def authorise_caps(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a registrar cap participants in assets in which they have accounts.

    Raises:
        Forbidden: ``ROLE_MISSING``.
        NotFound: ``PARTICIPANT_NOT_FOUND``, ``PARTICIPANT_ASSET``.
    """
    body: CapsBody = admitted.content
    require_role(machine.directory, admitted.party, Role.REGISTRAR)
    for cap in body.caps:
        _clearing(book, cap.participant, cap.asset)


def execute_caps(book: Book, admitted: Admitted, context: Context) -> None:
    """Set or lift caps; what is owed already stays owed, also where it is above the new cap."""
    body: CapsBody = admitted.content
    for cap in body.caps:
        number = _clearing(book, cap.participant, cap.asset)
        if cap.maximum is None:
            book.caps.pop(number, None)
        else:
            book.caps[number] = int(cap.maximum)
        _apply(book, context.state, number)


def lift(book: Book, state: State, legs: Iterable[NetLeg]) -> None:
    """Take the maximum off each CLEARING account that a net leg credits; ``give_room`` follows in the same block."""
    for leg in legs:
        if leg.credit in book.caps:
            state.set_limit(leg.credit, maximum=UNLIMITED)


def give_room(book: Book, state: State, legs: Iterable[NetLeg]) -> None:
    """Put the maximum of each such account at its cap and what the leg has reserved."""
    for leg in legs:
        if state.account(leg.credit).code == AccountCode.CLEARING:
            book.cap_rooms[leg.credit] = leg.amount
            _apply(book, state, leg.credit)


def take_room(book: Book, state: State) -> None:
    """Lower them again: the net positions are posted or void."""
    numbers, book.cap_rooms = tuple(book.cap_rooms), {}
    for number in numbers:
        _apply(book, state, number)


def _apply(book: Book, state: State, number: int) -> None:
    """Bring a CLEARING account's maximum in line with its cap and its room; one that never had a cap needs none."""
    cap = book.caps.get(number)
    if cap is not None:
        state.set_limit(number, maximum=min(cap + book.cap_rooms.get(number, 0), UNLIMITED))
    elif state.limits(number).maximum is not None:
        state.set_limit(number, maximum=UNLIMITED)


def _clearing(book: Book, participant: str, asset: str) -> int:
    """Give the CLEARING account of a participant in an asset.

    Raises:
        NotFound: ``PARTICIPANT_NOT_FOUND``, ``PARTICIPANT_ASSET``.
    """
    number = book.genesis.asset(asset).number
    return book.participant_by_code(participant).account(AccountCode.CLEARING, number)
