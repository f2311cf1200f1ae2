"""How a node shows its windows: the views of ``settlement.port``, made in the writer's turn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger import messages
from ledger.errors import Conflict
from ledger.state import State
from settlement.book import Book, Group, Window, WindowState, group_of
from settlement.obligations import Held, held_entries, listed_members
from settlement.port import BorderView, MembersView, PositionsView, SlotView, WindowView
from settlement.reservation import border_available, settle_available
from settlement.statements import LEDGERS, OPERATOR_LEDGER, statement_key

__all__ = ["positions_view", "window_view"]

_ATTEMPT_KINDS = ("proposal", "vote", "decision")


def window_view(book: Book, number: int | None) -> WindowView:
    """Show a window, the open one for ``None``.

    Raises:
        NotFound: ``WINDOW_NOT_FOUND``.
    """
    window = book.open_window if number is None else book.window(number)
    speakers = (*LEDGERS, OPERATOR_LEDGER)
    keys = [statement_key(kind, ledger, window.attempt) for kind in _ATTEMPT_KINDS for ledger in speakers]
    held = {key: messages.encode(window.statements[key]) for key in keys if key in window.statements}
    return WindowView(
        ledger=book.ledger,
        number=window.number,
        state=window.state.value,
        attempt=window.attempt,
        open_window=book.current,
        outgoing_count=window.outgoing.count,
        incoming_count=window.incoming.count,
        opened_ns=window.opened_ns,
        closed_ns=window.closed_ns,
        settled_ns=window.settled_ns,
        settled_position=window.settled_position,
        statements=tuple(sorted(window.statements)),
        attempt_statements=held,
    )


def positions_view(book: Book, state: State, number: int) -> PositionsView:
    """Show what a window's payments do to this ledger's participants, and what there is to pay with.

    Raises:
        NotFound: ``WINDOW_NOT_FOUND``.
        Conflict: ``ACCEPTANCE_MISSING``, not both sides have accepted or rejected yet.
    """
    window = book.window(number)
    if window.state in (WindowState.OPEN, WindowState.CLOSED):
        raise Conflict("ACCEPTANCE_MISSING", "Not all acceptances are journaled here.", window=number)
    codes = {asset.number: asset.code for asset in book.genesis.assets}
    homes = {asset.number: asset.home for asset in book.genesis.assets}
    available = settle_available(book, state)
    slots = [SlotView(book.participant(of).code, codes[asset], amount) for (of, asset), amount in available.items()]
    keys = np.array([of << 16 | asset for of, asset in available], np.int64)
    return PositionsView(
        ledger=book.ledger,
        window=number,
        slots=tuple(slots),
        borders=tuple(
            BorderView(codes[asset], homes[asset] == book.ledger, amount)
            for asset, amount in border_available(book, state).items()
        ),
        outgoing=_members(_by_list(window, _held(book, state, window, Group.OUTGOING)), keys),
        incoming=_members(_held(book, state, window, Group.INCOMING), keys),
    )


def _held(book: Book, state: State, window: Window, kind: Group) -> Held:
    return held_entries(book, state, group_of(window.number, kind))


def _by_list(window: Window, held: Held) -> Held:
    """Number outgoing payments by their index in the list instead of their member."""
    places = np.zeros(window.outgoing.count, np.uint32)
    members = listed_members(window)
    places[members] = np.arange(len(members), dtype=np.uint32)
    return Held(places[held.member], held.participant, held.asset, held.amount)


def _members(held: Held, keys: npt.NDArray[np.int64]) -> MembersView:
    order = np.argsort(keys)
    key = held.participant.astype(np.int64) << 16 | held.asset
    slots = order[np.searchsorted(keys[order], key)].astype(np.uint32) if len(key) else np.empty(0, np.uint32)
    return MembersView(
        count=len(key),
        members=held.member.astype("<u4").tobytes(),
        slots=slots.astype("<u4").tobytes(),
        amounts=held.amount.astype("<i8").tobytes(),
    )
