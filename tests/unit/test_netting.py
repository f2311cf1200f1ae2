"""Netting: the published example, exactness at the edge of 63 bits, and agreement with the naive sum."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.compiled import plain
from ledger.errors import InvariantViolation, Rejected
from settlement import netting
from settlement.netting import bilateral, check_sums, entries, exact_sum, multilateral, net_entries

CENTRAL, COMERCIAL, MERIDIONAL = range(3)

# Banco de México, "The Use of Netting", April 2000: six payments between three banks.
PAYER = np.array([CENTRAL, CENTRAL, COMERCIAL, COMERCIAL, MERIDIONAL, MERIDIONAL], np.uint32)
PAYEE = np.array([COMERCIAL, MERIDIONAL, CENTRAL, MERIDIONAL, CENTRAL, COMERCIAL], np.uint32)
AMOUNT = np.array([25, 7, 17, 9, 11, 14], np.int64)


def test_the_published_example_nets_multilaterally() -> None:
    """Banco de México's six payments net to -4, +13 and -9, and 84.3 per cent of them need not be paid."""
    found = multilateral(PAYER, PAYEE, AMOUNT, count=3)
    assert found.nets.tolist() == [-4, 13, -9]
    assert (found.gross, found.net, found.saving_bp) == (83, 13, 8433)


def test_the_published_example_nets_bilaterally() -> None:
    """Within pairs, Central pays Comercial 8, Meridional pays Central 4 and Comercial 5."""
    left = bilateral(PAYER, PAYEE, AMOUNT)
    assert list(zip(left.payer.tolist(), left.payee.tolist(), left.amount.tolist(), strict=True)) == [
        (CENTRAL, COMERCIAL, 8),
        (MERIDIONAL, CENTRAL, 4),
        (MERIDIONAL, COMERCIAL, 5),
    ]
    assert (left.gross, left.net, left.saving_bp) == (83, 17, 7951)


def test_nothing_nets_to_nothing() -> None:
    """No payments give zero positions and no saving."""
    none = np.array([], np.uint32)
    found = multilateral(none, none, none.astype(np.int64), count=2)
    assert found.nets.tolist() == [0, 0]
    assert (found.gross, found.saving_bp) == (0, 0)
    assert bilateral(none, none, none.astype(np.int64)).saving_bp == 0


def test_payments_to_oneself_need_no_settlement() -> None:
    """A payment within one participant is gross, and leaves nothing to pay in either form."""
    one, amount = np.array([1], np.uint32), np.array([5], np.int64)
    found = multilateral(one, one, amount, count=2)
    assert (found.nets.tolist(), found.gross, found.net) == ([0, 0], 5, 0)
    assert bilateral(one, one, amount).net == 0


def test_only_what_is_selected_counts() -> None:
    """Entries of payments that are not selected change no position."""
    rows = entries(payment=[0, 0, 1, 1], slot=[0, 1, 1, 0], amount=[-7, 7, -5, 5])
    found = net_entries(rows, slot_count=2, selected=np.array([False, True]))
    assert found.nets.tolist() == [5, -5]
    assert found.gross == 5


def test_sums_are_exact_to_the_last_unit() -> None:
    """Positions up to 2^63 - 1 come out exactly, also when partial sums go beyond."""
    largest = 2**63 - 1
    rows = entries(payment=[0, 1, 2, 3], slot=[0, 0, 0, 1], amount=[largest, largest, -largest, -largest])
    found = net_entries(rows, slot_count=2)
    assert found.nets.tolist() == [largest, -largest]
    assert found.gross == 2 * largest
    assert exact_sum(np.full(7, largest)) == 7 * largest


@pytest.mark.parametrize("amounts", [[2**63 - 1, 1], [-(2**63) + 1, -1], [-(2**63) + 1, -(2**63) + 1]])
def test_positions_that_do_not_fit_are_refused(amounts: list[int]) -> None:
    """A net position that reaches 2^63 on either side is refused, never wrapped."""
    with pytest.raises(Rejected, match="NET_OVERFLOW"):
        net_entries(entries(payment=[0, 1], slot=[0, 0], amount=amounts), slot_count=1)


@pytest.mark.parametrize("amount", [0, -1])
def test_obligations_are_positive(amount: int) -> None:
    """An obligation of zero or less is our own mistake."""
    one, amounts = np.array([0], np.uint32), np.array([amount], np.int64)
    with pytest.raises(InvariantViolation, match="above zero"):
        multilateral(one, one, amounts, count=1)
    with pytest.raises(InvariantViolation, match="above zero"):
        bilateral(one, one, amounts)


def test_entries_stay_inside_their_tables() -> None:
    """A slot or a payment beyond the tables is our own mistake."""
    with pytest.raises(InvariantViolation, match="slot"):
        net_entries(entries(payment=[0], slot=[2], amount=[1]), slot_count=2)
    with pytest.raises(InvariantViolation, match="payment"):
        net_entries(entries(payment=[2], slot=[0], amount=[1]), slot_count=1, selected=np.ones(2, np.bool_))


def test_sums_are_checked_per_asset() -> None:
    """Positions that sum to zero over all assets but not within each are a broken invariant (I6)."""
    nets = np.array([-3, 3, -4, 4], np.int64)
    check_sums(nets, np.array([1, 1, 2, 2]))
    with pytest.raises(InvariantViolation, match="I6"):
        check_sums(nets, np.array([1, 2, 2, 1]))


def test_compiled_and_plain_sums_agree() -> None:
    """The compiled loop and the plain one give the same halves."""
    slots, amounts = np.array([0, 1, 0]), np.array([-5, 2**62, 2**40 + 3])
    sums = [(np.zeros(2, np.int64), np.zeros(2, np.int64)) for _ in range(2)]
    netting._add_halves(slots, amounts, *sums[0])
    plain(netting._add_halves)(slots, amounts, *sums[1])
    assert [half.tolist() for half in sums[0]] == [half.tolist() for half in sums[1]]


obligations = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.one_of(st.integers(1, 9), st.integers(1, 2**60))), max_size=12
)


@given(obligations)
def test_netting_agrees_with_the_naive_sum(rows: list[tuple[int, int, int]]) -> None:
    """Multilateral positions are what adding up one by one in unbounded integers gives, and sum to zero (I6)."""
    expected = defaultdict(int)
    for payer, payee, amount in rows:
        expected[payer] -= amount
        expected[payee] += amount
    payer, payee, amount = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    found = multilateral(payer.astype(np.uint32), payee.astype(np.uint32), amount, count=6)
    assert found.nets.tolist() == [expected[i] for i in range(6)]
    assert found.gross == sum(amount for _, _, amount in rows)
    assert sum(found.nets.tolist()) == 0


@given(obligations)
def test_bilateral_positions_add_up_to_the_multilateral_ones(rows: list[tuple[int, int, int]]) -> None:
    """Netting the bilateral remainders again gives the same positions, with no more to pay than before."""
    payer, payee, amount = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    payer, payee = payer.astype(np.uint32), payee.astype(np.uint32)
    left = bilateral(payer, payee, amount)
    whole = multilateral(payer, payee, amount, count=6)
    again = multilateral(left.payer, left.payee, left.amount, count=6)
    assert again.nets.tolist() == whole.nets.tolist()
    assert whole.net <= left.net <= left.gross == whole.gross
