"""Linked chains: all or nothing, with nothing left behind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ledger import posting
from ledger.registry import IdStatus
from ledger.state import State
from ledger.transfers import Flag, Result, Transfers, transfers
from tests.posting_fixture import CREDIT, LIMITED, NOW, SECOND, Ledger, command, end, state_of

OK, FAILED, OPEN = Result.OK, Result.LINKED_FAILED, Result.CHAIN_OPEN


def ledger_with_holds() -> Ledger:
    """Three accounts, money in the second, and three open holds (ids 1, 2, 3) from it to the third."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED, CREDIT))
    ledger.post(
        command(9, amount=100),
        *(command(number, debit=2, credit=3, flags=Flag.PENDING, timeout_s=60) for number in (1, 2, 3)),
    )
    return ledger


def chain(*members: Transfers) -> list[Transfers]:
    """Link commands to a chain."""
    for member in members[:-1]:
        member["flags"] |= np.uint16(Flag.LINKED)
    return list(members)


def test_a_chain_that_passes_is_applied_whole() -> None:
    """Members of a good chain are applied in order, each seeing the ones before."""
    ledger = Ledger(state_of(CREDIT, CREDIT | LIMITED, CREDIT | LIMITED))
    assert ledger.results(*chain(command(1), command(2, debit=2, credit=3), command(3, debit=3, credit=1))) == [OK] * 3


@pytest.mark.parametrize("bad", range(4))
def test_one_refusal_takes_the_whole_chain_back(bad: int) -> None:
    """Whichever member is refused keeps its reason, the others say LINKED_FAILED, and money is as before (I9)."""
    ledger = ledger_with_holds()
    before = ledger.state.money_digest()
    members = [
        command(10, debit=2, credit=3, flags=Flag.PENDING, timeout_s=5),
        end(11, 1, amount=4, flags=Flag.POST),
        end(12, 2, flags=Flag.VOID),
        command(13, debit=2, credit=1),
    ]
    members[bad]["amount"] = 10_000 if bad in (0, 1, 3) else -1
    reason = [Result.DEBIT_LIMIT, Result.HOLD_EXCEEDED, Result.AMOUNT_INVALID, Result.DEBIT_LIMIT][bad]
    assert ledger.results(*chain(*members)) == [reason if index == bad else FAILED for index in range(4)]
    assert ledger.state.money_digest() == before
    assert all(ledger.state.lookup(1, identifier).status is IdStatus.REFUSED for identifier in range(10, 14))
    assert [ledger.state.lookup(1, identifier).position for identifier in range(10, 14)] == [104, 105, 106, 107]
    assert ledger.state.lookup(1, 1).status is IdStatus.HOLD_OPEN


def test_a_refused_chain_stands_in_the_journal_as_it_was_asked() -> None:
    """Members that were applied and taken back have the fields they came with, and no links."""
    ledger = ledger_with_holds()
    asked = np.concatenate(
        chain(end(11, 1, flags=Flag.POST, member=3), end(12, 2, flags=Flag.VOID, amount=1), command(13, amount=0))
    )
    records = ledger.post(asked.copy())
    asked["result"] = [FAILED, FAILED, Result.AMOUNT_INVALID]
    assert records.tobytes() == asked.tobytes()


def test_what_a_chain_took_back_can_be_done_afterwards() -> None:
    """Holds whose end was taken back can end again, once, and their deadlines still count."""
    ledger = ledger_with_holds()
    ledger.post(*chain(end(11, 1, flags=Flag.POST), end(12, 2, flags=Flag.VOID), command(13, amount=0)))
    assert ledger.results(end(21, 1, flags=Flag.POST), end(22, 1, flags=Flag.POST)) == [OK, Result.HOLD_POSTED]
    ledger.now += 60 * SECOND
    assert posting.due(ledger.state, ledger.now)["related_lo"].tolist() == [2, 3]


def test_a_hold_made_and_ended_inside_a_refused_chain_never_was() -> None:
    """A hold that lived only inside a refused chain is no hold; its id is used up."""
    ledger = ledger_with_holds()
    before = ledger.state.money_digest()
    made = command(10, debit=2, credit=3, flags=Flag.PENDING)
    assert ledger.results(*chain(made, end(11, 10, flags=Flag.POST), command(12, amount=0)))[:2] == [FAILED, FAILED]
    assert ledger.state.money_digest() == before
    assert ledger.result(end(13, 10, flags=Flag.POST)) is Result.HOLD_NOT_FOUND


def test_a_slot_freed_inside_a_chain_is_not_reused_before_the_chain_is_over() -> None:
    """A chain that ends one hold, makes another and fails gives the first hold back unharmed."""
    ledger = ledger_with_holds()
    before = ledger.state.holds.copy()
    members = chain(
        end(11, 1, flags=Flag.VOID),
        command(12, debit=2, credit=1, amount=3, flags=Flag.PENDING, group=5),
        command(13, amount=0),
    )
    assert ledger.results(*members) == [FAILED, FAILED, Result.AMOUNT_INVALID]
    assert ledger.state.holds.tobytes() == before.tobytes()


def test_a_chain_may_make_and_end_a_hold() -> None:
    """PENDING and POST of the same hold in one chain are applied both."""
    ledger = ledger_with_holds()
    made = command(10, debit=2, credit=3, flags=Flag.PENDING)
    assert ledger.results(*chain(made, end(11, 10, flags=Flag.POST))) == [OK, OK]
    assert ledger.state.lookup(1, 10).status is IdStatus.HOLD_POSTED


def test_an_id_twice_in_a_chain_is_seen() -> None:
    """The second use of an id inside a chain is ID_EXISTS and fails the chain; the id stays with the first position."""
    ledger = ledger_with_holds()
    assert ledger.results(*chain(command(10), command(11), command(10))) == [FAILED, FAILED, Result.ID_EXISTS]
    assert ledger.state.lookup(1, 10).position == 104


def test_an_id_twice_after_the_refusal_is_registered_once() -> None:
    """Members behind the refused one use their ids up too, each once."""
    ledger = ledger_with_holds()
    assert ledger.results(*chain(command(10, amount=0), command(11), command(11), command(9))) == [
        Result.AMOUNT_INVALID,
        FAILED,
        FAILED,
        FAILED,
    ]
    assert ledger.state.lookup(1, 11).position == 105
    assert ledger.state.lookup(1, 9).status is IdStatus.POSTED


def test_an_open_chain_is_refused() -> None:
    """A chain without an end is refused: CHAIN_OPEN on the last member, LINKED_FAILED on the others."""
    ledger = ledger_with_holds()
    before = ledger.state.money_digest()
    members = [command(10 + index, flags=Flag.LINKED) for index in range(3)]
    assert ledger.results(command(8, amount=0), *members) == [Result.AMOUNT_INVALID, FAILED, FAILED, OPEN]
    assert ledger.state.money_digest() == before
    assert ledger.state.lookup(1, 12).status is IdStatus.REFUSED


def test_a_chain_of_one_open_member_is_refused() -> None:
    """A single command with LINKED is CHAIN_OPEN."""
    assert ledger_with_holds().results(command(10, flags=Flag.LINKED)) == [OPEN]


def test_neighbouring_chains_do_not_touch_each_other() -> None:
    """A refused chain leaves the chains and commands on both sides of it alone."""
    ledger = ledger_with_holds()
    results = ledger.results(
        *chain(command(10), end(11, 1, flags=Flag.POST)),
        *chain(command(12), end(13, 2, flags=Flag.POST), end(14, 2, flags=Flag.POST)),
        *chain(end(15, 2, flags=Flag.VOID), command(16)),
        command(17),
    )
    assert results == [OK, OK, FAILED, FAILED, Result.HOLD_POSTED, OK, OK, OK]
    assert ledger.state.hold_count == 1


def test_members_that_arrive_refused_fail_the_chain_and_keep_their_results() -> None:
    """Two members that arrive refused both keep their results; the others say LINKED_FAILED."""
    ledger = ledger_with_holds()
    members = [command(10 + index) for index in range(4)]
    members[1]["result"], members[3]["result"] = Result.PAYEE_CLOSED, Result.QUOTE_EXPIRED
    assert ledger.results(*chain(*members)) == [FAILED, Result.PAYEE_CLOSED, FAILED, Result.QUOTE_EXPIRED]


def test_an_expire_may_end_a_chain_and_fail_it() -> None:
    """An EXPIRE as last member is one of the chain: refused, it takes the others back and uses up no id."""
    ledger = ledger_with_holds()
    before = ledger.state.money_digest()
    assert ledger.results(*chain(command(10), end(0, 1, flags=Flag.EXPIRE))) == [FAILED, Result.HOLD_NOT_FOUND]
    assert ledger.state.money_digest() == before
    assert ledger.state.lookup(1, 0) is None
    ledger.now += 60 * SECOND
    assert ledger.results(*chain(command(11), end(0, 1, flags=Flag.EXPIRE))) == [OK, OK]


def test_a_long_chain_is_taken_back_whole() -> None:
    """Ten thousand members and one refusal leave nothing behind but used ids."""
    ledger = Ledger(state_of(CREDIT, CREDIT))
    before = ledger.state.money_digest()
    members = transfers(10_001)
    members["id_lo"] = np.arange(1, 10_002)
    members["debit"], members["credit"], members["amount"], members["party"] = 1, 2, 1, 1
    members["flags"][:-1] = Flag.LINKED
    members["flags"][:-1:2] |= np.uint16(Flag.PENDING)
    members["amount"][-1] = 0
    results = ledger.post(members)["result"]
    assert set(results[:-1].tolist()) == {int(FAILED)}
    assert ledger.state.money_digest() == before
    assert ledger.state.hold_count == 0
    assert len(ledger.state.registry) == 10_001


@pytest.mark.parametrize("compiled", [True, False])
def test_every_order_of_members_is_taken_back(compiled: bool) -> None:
    """A refusal behind any order of transfer, hold, post, void and post of a new hold leaves money as before."""
    for order in itertools.permutations(range(4)):
        ledger = ledger_with_holds()
        ledger.compiled = compiled
        before = ledger.state.money_digest()
        members = [
            command(20, debit=2, credit=1, amount=7),
            command(21, debit=2, credit=3, amount=8, flags=Flag.PENDING, timeout_s=1),
            end(22, 1, amount=3, flags=Flag.POST),
            end(23, 2, flags=Flag.VOID),
        ]
        picked = chain(*(members[index] for index in order), command(30, debit=99))
        assert ledger.results(*picked) == [FAILED] * 4 + [Result.DEBIT_NOT_FOUND]
        assert ledger.state.money_digest() == before


def test_a_batch_cut_anywhere_between_chains_gives_the_same_records() -> None:
    """One large batch, and its chains posted one by one, make the same records and the same money."""
    seed = 11
    generator = np.random.default_rng(seed)
    commands = transfers(3_000)
    commands["id_lo"] = generator.integers(0, 9_000, len(commands))
    commands["related_lo"] = generator.integers(0, 9_000, len(commands))
    commands["debit"] = generator.integers(1, 4, len(commands))
    commands["credit"] = generator.integers(1, 4, len(commands))
    commands["amount"] = generator.integers(1, 30, len(commands))
    commands["flags"] = generator.choice([0, 0, 1, 1, 1, 2, 4, 16, 17], len(commands))
    commands["flags"][-1] = 0
    whole, cut = (State(key) for key in (b"a key of sixteen bytes", b"b key of sixteen bytes"))
    for state in (whole, cut):
        for flags in (CREDIT, CREDIT | LIMITED, LIMITED):
            state.open_account(owner=1, asset=1, code=1, flags=flags, minimum=-500)
    first, second = commands.copy(), commands.copy()
    posting.post(whole, first, timestamp_ns=NOW, first_position=0)
    start = 0
    for index in np.flatnonzero(commands["flags"] & Flag.LINKED == 0):
        posting.post(cut, second[start : index + 1], timestamp_ns=NOW, first_position=start)
        start = int(index) + 1
    assert first.tobytes() == second.tobytes(), f"seed {seed}"
    assert whole.money_digest() == cut.money_digest()
    assert np.count_nonzero(first["result"] == 0) > 300
