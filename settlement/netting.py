"""Netting: a window's payments in columns of integers go in, net positions come out, exactly.

An *entry* says what one payment does to one *slot*: a participant's settlement account in one asset on one ledger. An
amount above zero is received, below zero paid; a payment without FX has two entries, one with FX four. Per asset the
entries of a payment sum to zero, so do the net positions of any selection of whole payments (I6): that is checked here,
not assumed.

>>> import numpy as np
>>> netting = net_entries(entries(payment=[0, 0, 1, 1], slot=[0, 1, 1, 0], amount=[-7, 7, -5, 5]), slot_count=2)
>>> netting.nets.tolist(), netting.gross, netting.net, netting.saving_bp
([-2, 2], 12, 2, 8333)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ledger.errors import InvariantViolation, Rejected

__all__ = [
    "ENTRY",
    "BilateralNet",
    "Entries",
    "Netting",
    "bilateral",
    "check_sums",
    "entries",
    "exact_sum",
    "multilateral",
    "net_entries",
]

ENTRY = np.dtype([("payment", "<u4"), ("slot", "<u4"), ("amount", "<i8")])
"""What a payment (its index) does to a slot (its index): minor units received, below zero paid. 16 bytes."""

Entries = npt.NDArray[np.void]
"""Shape (n,), dtype ``ENTRY``."""
Amounts = npt.NDArray[np.int64]

_LOW_BITS = 32
_LOW_MASK = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Netting:
    """The outcome of a netting: ``nets`` by slot (above zero receives), and how much it saves.

    ``gross`` is all that would have been paid one by one, ``net`` what the net senders pay; both count minor units of
    all assets alike, so they are meant for one asset at a time.
    """

    nets: Amounts
    gross: int
    net: int

    @property
    def saving_bp(self) -> int:
        """What need not be paid, in hundredths of a per cent of gross, rounded down; zero of nothing."""
        return (self.gross - self.net) * 10_000 // self.gross if self.gross else 0


@dataclass(frozen=True, slots=True)
class BilateralNet:
    """What is left between pairs that traded: ``payer`` pays ``payee`` ``amount`` (above zero), ascending by pair."""

    payer: npt.NDArray[np.uint32]
    payee: npt.NDArray[np.uint32]
    amount: Amounts
    gross: int

    @property
    def net(self) -> int:
        """All that is left to pay."""
        return exact_sum(self.amount)

    @property
    def saving_bp(self) -> int:
        """What need not be paid, in hundredths of a per cent of gross, rounded down; zero of nothing."""
        return (self.gross - self.net) * 10_000 // self.gross if self.gross else 0


def entries(*, payment: npt.ArrayLike, slot: npt.ArrayLike, amount: npt.ArrayLike) -> Entries:
    """Put three columns of one length together."""
    amounts = np.asarray(amount, np.int64)
    rows = np.empty(len(amounts), ENTRY)
    rows["payment"], rows["slot"], rows["amount"] = payment, slot, amounts
    return rows


def net_entries(rows: Entries, *, slot_count: int, selected: npt.NDArray[np.bool_] | None = None) -> Netting:
    """Add up what the selected payments do to each slot.

    Args:
        rows: the entries, in any order.
        slot_count: how many slots there are.
        selected: by payment; ``None`` selects all.

    Raises:
        Rejected: ``NET_OVERFLOW``, a net position reaches 2^63.
        InvariantViolation: a slot or a payment is out of range.
    """
    if len(rows) and int(rows["slot"].max()) >= slot_count:
        raise InvariantViolation("an entry names a slot that does not exist")
    slots, amounts = rows["slot"], rows["amount"]
    if selected is not None:
        if len(rows) and int(rows["payment"].max()) >= len(selected):
            raise InvariantViolation("an entry names a payment that does not exist")
        chosen = selected[rows["payment"]]
        slots, amounts = slots[chosen], amounts[chosen]
    nets = _sum_by(slots, amounts, slot_count)
    return Netting(nets, gross=-exact_sum(amounts[amounts < 0]), net=-exact_sum(nets[nets < 0]))


def multilateral(
    payer: npt.NDArray[np.uint32], payee: npt.NDArray[np.uint32], amount: Amounts, *, count: int
) -> Netting:
    """Net obligations between ``count`` participants into one position each.

    Raises:
        Rejected: ``NET_OVERFLOW``.
        InvariantViolation: an amount is not positive, or I6: the positions do not sum to zero.
    """
    _check_obligations(amount)
    index = np.arange(len(amount), dtype=np.uint32)
    rows = entries(
        payment=np.concatenate((index, index)),
        slot=np.concatenate((payer, payee)),
        amount=np.concatenate((-amount, amount)),
    )
    netting = net_entries(rows, slot_count=count)
    check_sums(netting.nets, np.zeros(count, np.uint32))
    return netting


def bilateral(payer: npt.NDArray[np.uint32], payee: npt.NDArray[np.uint32], amount: Amounts) -> BilateralNet:
    """Net obligations within each pair of participants; pairs that come out even are left out.

    Raises:
        Rejected: ``NET_OVERFLOW``.
        InvariantViolation: an amount is not positive.
    """
    _check_obligations(amount)
    low, high = np.minimum(payer, payee), np.maximum(payer, payee)
    pair = low.astype(np.uint64) << np.uint64(_LOW_BITS) | high.astype(np.uint64)
    pairs, slots = np.unique(pair, return_inverse=True)
    nets = _sum_by(slots, np.where(payer == low, -amount, amount), len(pairs))
    first = (pairs >> np.uint64(_LOW_BITS)).astype(np.uint32)
    second = (pairs & np.uint64(_LOW_MASK)).astype(np.uint32)
    left = (nets != 0) & (first != second)
    pays_first = nets < 0
    return BilateralNet(
        payer=np.where(pays_first, first, second)[left],
        payee=np.where(pays_first, second, first)[left],
        amount=np.abs(nets)[left],
        gross=exact_sum(amount),
    )


def check_sums(nets: Amounts, asset_of: npt.NDArray[Any]) -> None:
    """Check that net positions sum to zero per asset (I6).

    Raises:
        InvariantViolation: they do not.
    """
    for asset in np.unique(asset_of):
        if exact_sum(nets[asset_of == asset]):
            raise InvariantViolation(f"I6: the net positions of asset {asset} do not sum to zero")


def _check_obligations(amount: Amounts) -> None:
    if np.any(amount <= 0):
        raise InvariantViolation("an obligation is an amount above zero")


@njit(nogil=True, cache=True)
def _add_halves(slots: Any, amounts: Any, low: Any, high: Any) -> None:
    """Add up the lower and the upper halves of amounts by slot, apart, so that no intermediate sum can wrap."""
    for i in range(amounts.size):
        low[slots[i]] += amounts[i] & _LOW_MASK
        high[slots[i]] += amounts[i] >> _LOW_BITS


def _sum_by(slots: npt.NDArray[Any], amounts: Amounts, count: int) -> Amounts:
    low, high = np.zeros(count, np.int64), np.zeros(count, np.int64)
    _add_halves(np.ascontiguousarray(slots, np.int64), np.ascontiguousarray(amounts), low, high)
    high += low >> _LOW_BITS
    if np.any(high >= 2**31) or np.any(high < -(2**31)):
        raise Rejected("NET_OVERFLOW", "A net position is too large.")
    nets = (high << _LOW_BITS) + (low & _LOW_MASK)
    if np.any(nets == -(2**63)):
        raise Rejected("NET_OVERFLOW", "A net position is too large.")
    return nets


def exact_sum(amounts: Amounts) -> int:
    """Sum amounts exactly, whatever the size."""
    return (int((amounts >> _LOW_BITS).sum()) << _LOW_BITS) + int((amounts & _LOW_MASK).sum())
