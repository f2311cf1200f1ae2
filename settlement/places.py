"""Where a payment is: from its id through the registry to the row that knows it.

The registry of ids gives the position of a payment's leg; three tables of the book, sorted by position, lead on to the
window and member, or to the payment that was decided at once. A payment that was carried is followed from window to
window.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ledger.machine import Machine
from ledger.state import State
from settlement.book import Book, PaymentState, PaymentTable
from settlement.legs import Leg, leg_id, uetr_of
from settlement.statements import statement_key
from settlement.table import Table

__all__ = ["Place", "incoming_base", "incoming_place", "is_withdrawn", "outgoing_place", "payee_ids", "peer_party"]

_BASE_TAG = b"hugang/incoming/0\0"


@dataclass(frozen=True, slots=True)
class Place:
    """A payment's row: member ``index`` of a window, or ``window`` 0 and the index in ``Book.gross``."""

    window: int
    index: int


def peer_party(machine: Machine) -> int:
    """Give the party of the other ledger's node: the scope of the ids of incoming legs."""
    peer = next(party for party in machine.genesis.parties if party.ledger not in ("", machine.genesis.ledger))
    return machine.directory.by_code(peer.code).number


def incoming_base(uetr: int, window: int) -> int:
    """Give what the ids of a carried payment's legs are made from on the payee's ledger in another window.

    The ids of its first acceptance are used up. SHA-256 over the UETR and the window's number gives fresh ones, and
    legs are numbered from ``Leg.AGAIN`` on, so that nobody can choose a UETR whose ids get into the way.
    """
    digest = hashlib.sha256(_BASE_TAG + uetr.to_bytes(16, "big") + window.to_bytes(8, "big")).digest()
    return uetr_of(int.from_bytes(digest[:16], "big"))


def payee_ids(uetr: int, window: int) -> tuple[int, int]:
    """Give the ids that the payee's leg may have in a window: as carried into it, and as accepted at first."""
    return leg_id(incoming_base(uetr, window), Leg.AGAIN + Leg.PAYEE), leg_id(uetr, Leg.PAYEE)


def outgoing_place(book: Book, state: State, party: int, uetr: int) -> Place | None:
    """Find a payment by the party that signed it, as its own ledger knows it."""
    position = _position(state, party, leg_id(uetr, Leg.PAYER))
    if position is None:
        return None
    index = book.gross.find("position", position)
    if index is not None:
        return Place(0, index)
    place = _look_up(book.outgoing_places, position)
    while place is not None:
        table: PaymentTable = book.windows[place.window].outgoing
        if table.states[place.index] != PaymentState.CARRIED:
            break
        place = Place(place.window + 1, int(table.moved_to[place.index]))
    return place


def incoming_place(book: Book, state: State, peer: int, uetr: int) -> Place | None:
    """Find a payment that came from the other ledger; ``peer`` is the party of that ledger's node."""
    position = _position(state, peer, leg_id(uetr, Leg.PAYEE))
    place = None if position is None else _look_up(book.incoming_places, position)
    if place is None or not _was_carried(book, place):
        return place
    for window in range(place.window + 1, book.current + 1):
        position = _position(state, peer, payee_ids(uetr, window)[0])
        following = None if position is None else _look_up(book.incoming_places, position)
        place = following or place
    return place


def is_withdrawn(book: Book, place: Place, uetr: int) -> bool:
    """Whether a payment that came in and was carried out has been cancelled since: it is not in the next list.

    ``place`` is what ``incoming_place`` gives. While the next list is not journaled here, and while one was full, the
    payment waits. After that it never comes back: its ids are used up.
    """
    if not _was_carried(book, place) or uetr in book.incoming_waiting:
        return False
    return statement_key("list", book.peer) in book.windows[place.window + 1].statements


def _was_carried(book: Book, place: Place) -> bool:
    return bool(book.windows[place.window].incoming.states[place.index] == PaymentState.CARRIED)


def _position(state: State, party: int, identifier: int) -> int | None:
    entry = state.lookup(party, identifier)
    return None if entry is None else entry.position


def _look_up(places: Table, position: int) -> Place | None:
    index = places.find("position", position)
    return None if index is None else Place(int(places["window"][index]), int(places["member"][index]))
