"""Names of legs: ids made from a payment's UETR."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedInput
from ledger.transfers import id_halves
from settlement.legs import LEG_COUNT, Leg, leg_halves, leg_id, parse_uetr, uetr_of

UETRS = st.uuids(version=4).map(lambda value: value.int)
LEGS = st.integers(min_value=0, max_value=LEG_COUNT - 1)


@given(UETRS, LEGS)
def test_a_leg_leads_back_to_its_payment(uetr: int, leg: int) -> None:
    """The UETR that an id was made from can be read from the id."""
    assert uetr_of(leg_id(uetr, leg)) == uetr


@given(UETRS, UETRS, LEGS, LEGS)
def test_no_two_legs_share_an_id(one: int, other: int, leg: int, other_leg: int) -> None:
    """Two legs have the same id only if they are the same leg of the same payment."""
    assert (leg_id(one, leg) == leg_id(other, other_leg)) is ((one, leg) == (other, other_leg))


@given(UETRS)
def test_legs_of_one_payment_are_all_different(uetr: int) -> None:
    """The 64 ids of one payment are 64 different numbers."""
    assert len({leg_id(uetr, leg) for leg in range(LEG_COUNT)}) == LEG_COUNT


@given(st.lists(st.tuples(UETRS, LEGS), min_size=1, max_size=20))
def test_columns_and_numbers_agree(named: list[tuple[int, int]]) -> None:
    """Ids made in columns are those made one by one."""
    halves = np.array([id_halves(uetr) for uetr, _ in named], np.uint64)
    high, low = leg_halves(halves[:, 0], halves[:, 1], [leg for _, leg in named])

    expected = [id_halves(leg_id(uetr, leg)) for uetr, leg in named]
    assert list(zip(high.tolist(), low.tolist(), strict=True)) == expected


def test_every_leg_has_room() -> None:
    """Every leg, again in another window or cancelled, is one of the 64, and no two share a number."""
    payment = [leg for leg in Leg if leg < Leg.QUOTE_OPEN]
    others = [leg for leg in Leg if Leg.QUOTE_OPEN <= leg < Leg.AGAIN]
    numbers = payment + others + [base + leg for base in (Leg.AGAIN, Leg.CANCELLATION) for leg in payment]

    assert max(numbers) < LEG_COUNT
    assert len(set(numbers)) == len(numbers)
    assert len(set(Leg)) == len(Leg.__members__)


@given(UETRS)
def test_a_uetr_is_read(uetr: int) -> None:
    """A lower-case UUIDv4 is read as its number."""
    assert parse_uetr(str(uuid.UUID(int=uetr))) == uetr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8f6d3c1e-2b4a-4c5d-9e6f",
        "8F6D3C1E-2B4A-4C5D-9E6F-0A1B2C3D4E5F",
        "8f6d3c1e2b4a4c5d9e6f0a1b2c3d4e5f",
        "{8f6d3c1e-2b4a-4c5d-9e6f-0a1b2c3d4e5f}",
        "8f6d3c1e-2b4a-1c5d-9e6f-0a1b2c3d4e5f",
        "8f6d3c1e-2b4a-4c5d-7e6f-0a1b2c3d4e5f",
        "8f6d3c1e-2b4a-4c5d-9e6f-0a1b2c3d4e5f\n",
        "8f6d3c1e-2b4a-4c5d-9e6f-0a1b2c3d4e5g",
    ],
)
def test_anything_else_is_no_uetr(text: str) -> None:
    """Another version or variant, another spelling, or no UUID at all is refused."""
    with pytest.raises(MalformedInput) as caught:
        parse_uetr(text)

    assert caught.value.code == "UETR_INVALID"
