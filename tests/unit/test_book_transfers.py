"""The client's writer of book transfers: every flag and column, and what it refuses before anything is sent."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid

import pytest

from gateway.client import BookTransfers
from ledger import columns
from ledger.accounts import address
from ledger.errors import MalformedInput
from ledger.transfers import Flag, Transfers, id_of

A, B, ABROAD = address("SH", 5), address("SH", 6), address("HK", 5)
DAY = 20_787


@pytest.fixture
def moves() -> BookTransfers:
    """A message without commands, whose ids count from one."""
    numbers = itertools.count(1)
    return BookTransfers(lambda: str(uuid.UUID(int=next(numbers))))


def read(moves: BookTransfers) -> Transfers:
    """Decode what would be sent."""
    return columns.decode(moves.encode())


def flags(moves: BookTransfers) -> list[Flag]:
    """Give the commands' flags."""
    return [Flag(int(value)) for value in read(moves)["flags"]]


def test_a_plain_transfer(moves: BookTransfers) -> None:
    """A transfer says its accounts, its amount and its id, and no optional column."""
    name = moves.transfer(debit=A, credit=B, amount=7)

    (command,) = read(moves)
    assert columns.mask_of(moves.encode()) == 0
    assert (command["debit"], command["credit"], command["amount"]) == (5, 6, 7)
    assert (id_of(command["id_hi"], command["id_lo"]), [name]) == (uuid.UUID(name).int, moves.identifiers)


@pytest.mark.parametrize("kind", ["transfer", "hold"])
def test_conditions_of_what_moves_money(moves: BookTransfers, kind: str) -> None:
    """Transfers and holds can balance, keep a minimum and bear value from another day."""
    make = getattr(moves, kind)
    make(debit=A, credit=B, amount=0, balancing="debit")
    make(debit=A, credit=B, amount=1, balancing="credit", min_available=0)
    make(debit=A, credit=B, amount=2, balancing="both", min_available=9, value_date="2026-11-30")
    make(debit=A, credit=B, amount=3, value_date=dt.date(2026, 11, 30))

    plain = Flag.PENDING if kind == "hold" else Flag.NONE
    both = Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT
    assert flags(moves) == [
        plain | Flag.BALANCING_DEBIT,
        plain | Flag.BALANCING_CREDIT | Flag.MIN_AVAILABLE,
        plain | both | Flag.MIN_AVAILABLE,
        plain,
    ]
    assert read(moves)["minimum"].tolist() == [0, 0, 9, 0]
    assert read(moves)["value_day"].tolist() == [0, 0, DAY, DAY]


def test_holds_and_their_ends(moves: BookTransfers) -> None:
    """A hold has a timeout; posts and voids name it, a part or all, by itself or as a group."""
    hold = moves.hold(debit=A, credit=B, amount=9, timeout_s=60)
    moves.post(hold)
    moves.post(hold, amount=4, value_date="2026-11-30")
    moves.post(hold, group=True)
    moves.void(hold)
    moves.void(hold, group=True)

    commands = read(moves)
    assert flags(moves) == [
        Flag.PENDING,
        Flag.POST,
        Flag.POST,
        Flag.POST | Flag.GROUP,
        Flag.VOID,
        Flag.VOID | Flag.GROUP,
    ]
    assert commands["timeout_s"].tolist() == [60, 0, 0, 0, 0, 0]
    assert commands["amount"].tolist() == [9, 0, 4, 0, 0, 0]
    assert commands["related_lo"].tolist() == [0, *[uuid.UUID(hold).int] * 5]
    assert commands["value_day"].tolist() == [0, 0, DAY, 0, 0, 0]


def test_a_reversal_points_back(moves: BookTransfers) -> None:
    """A reversal names its original and the swapped accounts, wholly or in part."""
    original = moves.transfer(debit=A, credit=B, amount=9)
    moves.reverse(original, debit=B, credit=A)
    moves.reverse(original, debit=B, credit=A, amount=2, value_date="2026-11-30")

    commands = read(moves)
    assert flags(moves) == [Flag.NONE, Flag.REVERSAL, Flag.REVERSAL]
    assert commands["related_lo"].tolist() == [0, 1, 1]
    assert (commands["debit"].tolist(), commands["amount"].tolist()) == ([5, 6, 6], [9, 0, 2])
    assert commands["value_day"].tolist() == [0, 0, DAY]


def test_a_chain_ends_with_its_last_command(moves: BookTransfers) -> None:
    """All but the last command of a chain are linked, and chains side by side stay two."""
    moves.transfer(debit=A, credit=B, amount=1)
    for _ in range(2):
        with moves.chain():
            for amount in (2, 3, 4):
                moves.transfer(debit=A, credit=B, amount=amount)
    with moves.chain():
        moves.transfer(debit=A, credit=B, amount=5)

    linked = Flag.LINKED
    assert flags(moves) == [Flag.NONE, linked, linked, Flag.NONE, linked, linked, Flag.NONE, Flag.NONE]


def test_a_hold_group_is_a_run_inside_a_chain(moves: BookTransfers) -> None:
    """The holds of a group carry its flag; outside of a chain the group is one, inside it is a part of it."""
    pending, linked = Flag.PENDING | Flag.GROUP, Flag.LINKED
    with moves.hold_group():
        moves.hold(debit=A, credit=B, amount=1)
        moves.hold(debit=A, credit=B, amount=2)
    with moves.chain():
        for _ in range(2):
            with moves.hold_group():
                moves.hold(debit=A, credit=B, amount=1)
                moves.hold(debit=A, credit=B, amount=2)
            moves.transfer(debit=A, credit=B, amount=3)

    inside = [pending | linked, pending | linked, linked]
    assert flags(moves) == [pending | linked, pending, *inside, *inside[:2], Flag.NONE]


def group(moves: BookTransfers, count: int = 2, *, transfer_count: int = 0) -> None:
    """Write a hold group, with something else in it too if asked for."""
    with moves.hold_group():
        for amount in range(1, count + 1):
            moves.hold(debit=A, credit=B, amount=amount)
        for _ in range(transfer_count):
            moves.transfer(debit=A, credit=B, amount=1)


def two_groups(moves: BookTransfers) -> None:
    """Write two groups, one right behind the other, into one chain."""
    with moves.chain():
        group(moves)
        group(moves)


def test_groups_that_would_be_one_are_refused(moves: BookTransfers) -> None:
    """A group inside a group, or right behind one in the same chain, is refused; in the next chain it is not."""
    with pytest.raises(MalformedInput, match="COLUMNS_GROUP"):
        two_groups(moves)
    with pytest.raises(MalformedInput, match="COLUMNS_GROUP"), moves.hold_group():
        group(moves)
    group(moves)
    group(moves)


@pytest.mark.parametrize(("count", "transfer_count"), [(0, 0), (1, 0), (257, 0), (1, 1), (2, 1)])
def test_a_hold_group_has_holds_alone(moves: BookTransfers, count: int, transfer_count: int) -> None:
    """A group of fewer than 2 or more than 256 holds, or with anything else in it, is refused."""
    with pytest.raises(MalformedInput, match="COLUMNS_GROUP"):
        group(moves, count, transfer_count=transfer_count)


def fail(moves: BookTransfers) -> None:
    """Fail inside a group."""
    with moves.hold_group():
        raise KeyError


def test_a_failure_inside_a_group_comes_out(moves: BookTransfers) -> None:
    """Whatever fails inside a group is what its caller sees, and the next group is written as if nothing had been."""
    with pytest.raises(KeyError):
        fail(moves)
    group(moves)
    assert flags(moves) == [Flag.PENDING | Flag.GROUP | Flag.LINKED, Flag.PENDING | Flag.GROUP]


def test_chains_do_not_nest(moves: BookTransfers) -> None:
    """A chain inside a chain is refused."""
    with pytest.raises(MalformedInput, match="COLUMNS_CHAIN"), moves.chain(), moves.chain():
        pass


def test_ids_are_given_or_drawn(moves: BookTransfers) -> None:
    """An id that is given is used, and results are found by it; one that is no UUID is refused."""
    name = str(uuid.UUID(int=2**127 + 5))
    assert moves.void("00000000-0000-0000-0000-000000000009", identifier=name) == name
    assert (read(moves)["id_hi"][0], read(moves)["id_lo"][0]) == (2**63, 5)
    with pytest.raises(MalformedInput, match="ID_INVALID"):
        moves.void("rent")


def test_accounts_are_on_one_ledger(moves: BookTransfers) -> None:
    """An address of another ledger would be read as an account of this one; it is refused, and so is a typing error."""
    with pytest.raises(MalformedInput, match="LEDGER_UNKNOWN"):
        moves.transfer(debit=A, credit=ABROAD, amount=1)
    with pytest.raises(MalformedInput, match="ADDRESS"):
        moves.transfer(debit=A[:-1] + "9", credit=B, amount=1)


@pytest.mark.parametrize("date", ["2026-02-30", "1970-01-01", "tomorrow", dt.date(1969, 12, 31)])
def test_value_dates_are_days(moves: BookTransfers, date: dt.date | str) -> None:
    """A value date that is none, or that a record could not tell from the day of booking, is refused."""
    with pytest.raises(MalformedInput, match="VALUE_DATE_INVALID"):
        moves.transfer(debit=A, credit=B, amount=1, value_date=date)


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1])
def test_numbers_fit_their_columns(moves: BookTransfers, amount: int) -> None:
    """A number that no column can hold is refused, and its item is named."""
    moves.transfer(debit=A, credit=B, amount=1)
    moves.transfer(debit=A, credit=B, amount=amount)
    with pytest.raises(MalformedInput) as caught:
        moves.encode()
    assert (caught.value.code, caught.value.fields) == ("AMOUNT_INVALID", {"item": 1})


@pytest.mark.parametrize("count", [0, columns.COUNT_MAX + 1])
def test_a_message_has_its_size(moves: BookTransfers, count: int) -> None:
    """A message without commands, or with more than one may have, is refused."""
    hold = str(uuid.UUID(int=1))
    for _ in range(count):
        moves.void(hold)
    assert len(moves) == count
    with pytest.raises(MalformedInput, match="COLUMNS_COUNT"):
        moves.encode()
