"""What settlement needs of a node, in the same process or across a network: three questions, and statements handed in.

The views are msgspec structs. ``WindowView`` is meant for JSON (byte strings become Base64), ``PositionsView`` for
MessagePack, because its columns hold a whole window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ledger.messages import Message

__all__ = ["BorderView", "MembersView", "NodePort", "PositionsView", "SlotView", "WindowView"]


class WindowView(msgspec.Struct, frozen=True):
    """One window as one node sees it.

    ``open_window`` is the window that takes payments now. ``statements`` names what is journaled here;
    ``attempt_statements`` holds, in their stored form, the proposal, votes and decision of the last attempt, by the
    same names: what an operator that forgot everything needs to go on.
    """

    ledger: str
    number: int
    state: str
    attempt: int
    open_window: int
    outgoing_count: int
    incoming_count: int
    opened_ns: int
    closed_ns: int
    settled_ns: int
    settled_position: int
    statements: tuple[str, ...]
    attempt_statements: dict[str, bytes]


class SlotView(msgspec.Struct, frozen=True, array_like=True):
    """A participant's settlement account in one asset: what it can pay with now, ``None`` for an issuer."""

    participant: str
    asset: str
    available: int | None


class BorderView(msgspec.Struct, frozen=True, array_like=True):
    """What can leave this ledger's side of the border in one asset: OMNIBUS if this is its home, else MIRROR."""

    asset: str
    is_home: bool
    available: int


class MembersView(msgspec.Struct, frozen=True, array_like=True):
    """What the payments of one direction do here, in columns of ``count`` elements.

    ``members`` (u4) index the list, ``slots`` (u4) the view's slots; ``amounts`` (i8) above zero are received.
    """

    count: int
    members: bytes
    slots: bytes
    amounts: bytes


class PositionsView(msgspec.Struct, frozen=True, array_like=True):
    """What a window's payments do to this node's participants, and what there is to pay with."""

    ledger: str
    window: int
    slots: tuple[SlotView, ...]
    borders: tuple[BorderView, ...]
    outgoing: MembersView
    incoming: MembersView


class NodePort(Protocol):
    """One node, wherever it runs."""

    @property
    def ledger(self) -> str:
        """The code of its ledger."""

    async def window(self, number: int | None) -> WindowView:
        """Give a window, the open one for ``None``.

        Raises:
            NotFound: ``WINDOW_NOT_FOUND``.
            Unavailable: the node cannot be reached or has stopped.
        """

    async def deliver(self, statements: Sequence[Message]) -> list[Message]:
        """Hand statements in; gives the node's own statements that answer them, also if it had them before.

        Raises:
            LedgerError: one of them was refused; those before it may be journaled.
            Unavailable: as above; whether they are journaled is not known.
        """

    async def positions(self, number: int) -> PositionsView:
        """Give what a window's payments do here, and the balances of this moment.

        Raises:
            NotFound: ``WINDOW_NOT_FOUND``.
            Conflict: ``ACCEPTANCE_MISSING``.
            Unavailable: as above.
        """
