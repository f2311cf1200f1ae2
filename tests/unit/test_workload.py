"""The synthetic day: its identifiers are well-formed and its shape is the published one, whatever the seed."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from stdnum import bic, lei

from settlement import workload
from settlement.legs import parse_uetr
from settlement.workload import Day, synthetic_participants, wholesale_day

SEEDS = (0, 7, workload.SEED)


@pytest.fixture(scope="module", params=SEEDS)
def day(request: pytest.FixtureRequest) -> Day:
    """A whole day for each of a few seeds."""
    return wholesale_day(request.param)


def test_identifiers_are_well_formed() -> None:
    """Every participant has its own valid BIC with 0 as eighth character and its own LEI with good check digits."""
    participants = synthetic_participants()
    for participant in participants:
        assert bic.validate(participant.bic) == participant.bic
        assert participant.bic[7] == "0"
        assert participant.bic[4:6] == {"SH": "CN", "HK": "HK"}[participant.ledger]
        assert lei.validate(participant.lei) == participant.lei
    assert len({participant.bic for participant in participants}) == len(participants)
    assert len({participant.lei for participant in participants}) == len(participants)


def test_many_participants_keep_their_own_names() -> None:
    """Two thousand participants still have distinct BICs."""
    assert len({participant.bic for participant in synthetic_participants(2_000)}) == 2_000


@pytest.mark.parametrize("count", [0, 1, 3, 2_002])
def test_participants_come_in_halves(count: int) -> None:
    """A number of participants that cannot be halved, or is out of range, is refused."""
    with pytest.raises(ValueError, match="even number"):
        synthetic_participants(count)


def test_a_day_needs_a_payment() -> None:
    """A day without payments is refused."""
    with pytest.raises(ValueError, match="at least one payment"):
        wholesale_day(payment_count=0)


def test_the_day_has_its_size(day: Day) -> None:
    """A day has 35,000 payments between 160 participants, 80 on each ledger."""
    assert len(day.payments) == 35_000
    assert [participant.ledger for participant in day.participants] == ["SH"] * 80 + ["HK"] * 80
    assert [participant.index for participant in day.participants] == list(range(160))


def test_amounts_have_the_published_mean(day: Day) -> None:
    """The mean amount is CNY 21 m to within one in a hundred thousand, and every amount is positive."""
    assert abs(day.gross - workload.AMOUNT_MEAN * 35_000) < day.gross // 100_000
    assert day.payments["amount"].min() > 0


def test_amounts_are_log_normal(day: Day) -> None:
    """Logarithms of the amounts have the spread of the law and no skew to speak of."""
    logarithms = np.log(day.payments["amount"])
    centred = (logarithms - logarithms.mean()) / logarithms.std()
    assert logarithms.std() == pytest.approx(1.5, rel=0.03)
    assert (centred**3).mean() == pytest.approx(0, abs=0.1)


def test_the_five_largest_have_the_published_shares(day: Day) -> None:
    """The five largest send 55 % of the payments and 50 % of the value, to within half a percent."""
    volume, value = day.concentration()
    assert volume == pytest.approx(550, abs=5)
    assert value == pytest.approx(500, abs=5)


def test_every_payment_crosses_the_border(day: Day) -> None:
    """Payer and payee are on different ledgers, and both directions carry 40 to 60 % of the payments."""
    from_shanghai = day.payments["payer"] < 80
    to_shanghai = day.payments["payee"] < 80
    assert (from_shanghai != to_shanghai).all()
    assert 40 <= 100 * int(from_shanghai.sum()) // 35_000 <= 60


def test_everybody_sends(day: Day) -> None:
    """Each of the 160 participants sends at least one payment."""
    assert len(np.unique(day.payments["payer"])) == 160


def test_names_of_payments_are_distinct_uuids(day: Day) -> None:
    """Each payment has its own UETR, and a UETR is a UUIDv4."""
    names = {(int(row["uetr_hi"]) << 64) | int(row["uetr_lo"]) for row in day.payments}
    assert len(names) == 35_000
    for name in sorted(names)[:100]:
        assert parse_uetr(str(uuid.UUID(int=name))) == name


def test_nets_sum_to_zero_and_save_most_of_the_gross(day: Day) -> None:
    """Net positions sum to zero (I6) and need 5 to 25 % of the gross."""
    net = day.net()
    assert int(net.sum()) == 0
    owed = int(-net[net < 0].sum())
    assert 5 <= 100 * owed // day.gross <= 25


def test_funding_covers_what_is_sent_and_little_more(day: Day) -> None:
    """Each participant is funded for what it sends, in whole millions, with less than a million to spare."""
    spare = day.funding() - day.sent()
    assert (spare >= 0).all()
    assert (spare < 1_000_000_00).all()
    assert (day.funding() % 1_000_000_00 == 0).all()


def test_the_same_seed_gives_the_same_day() -> None:
    """A seed names a day, and another seed names another."""
    assert np.array_equal(wholesale_day(5).payments, wholesale_day(5).payments)
    assert not np.array_equal(wholesale_day(5).payments, wholesale_day(6).payments)


def test_the_seeded_day_is_known() -> None:
    """The first payments of seed 1 are these, so that a published figure can be repeated anywhere."""
    first = wholesale_day(1, payment_count=1_000, participant_count=16).payments[:3]
    assert [(int(row["payer"]), int(row["payee"]), int(row["amount"])) for row in first] == [
        (9, 1, 34_142_609),
        (9, 1, 114_970_093),
        (8, 7, 177_524_580),
    ]


@pytest.mark.parametrize("count", [2, 4, 6, 12])
def test_small_days_keep_their_sum(count: int) -> None:
    """With a handful of participants a day still has its size, its mean and nets that sum to zero."""
    day = wholesale_day(3, payment_count=500, participant_count=count)
    assert len(day.payments) == 500
    assert abs(day.gross - workload.AMOUNT_MEAN * 500) < day.gross // 1_000
    assert int(day.net().sum()) == 0


def test_payments_of_one_payer_are_its_own() -> None:
    """The parts by payer, put together, are the day."""
    day = wholesale_day(4, payment_count=300, participant_count=8)
    parts = [day.of_payer(index) for index in range(8)]
    assert all((part["payer"] == index).all() for index, part in enumerate(parts))
    assert sum(len(part) for part in parts) == 300
