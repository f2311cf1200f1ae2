"""Where blocks lie, kept in memory, and reading rows without SQLAlchemy's expressions."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select

from ledger.errors import IntegrityFailure, NotFound
from ledger.store import sql
from ledger.store.index import BlockIndex
from ledger.store.questions import Question
from tests.block_fixture import Blocks
from tests.store_places import Database

SEED = 20_260_105
COUNTS = (0, 3, 1, 700, 0, 2)


def index_of(*counts: int) -> BlockIndex:
    """Give the index of blocks with so many positions each."""
    index, end = BlockIndex(), 0
    for height, count in enumerate(counts, 1):
        index.add(height, end, count)
        end += count
    return index


def test_every_position_has_its_block() -> None:
    """A position belongs to the one block that begins at or before it and ends after it; later ones are not known."""
    index = index_of(2, 1, 3)
    assert [index.height_of(position) for position in range(7)] == [1, 1, 2, 3, 3, 3, None]
    assert (index.height, BlockIndex().height, BlockIndex().height_of(0)) == (3, 0, None)


def test_what_is_known_is_not_told_again() -> None:
    """A block that is known already changes nothing, whatever is said of it."""
    index = index_of(2, 1)
    index.add(1, 17, 4)
    assert [index.height_of(position) for position in range(4)] == [1, 1, 2, None]


@pytest.mark.parametrize(
    ("height", "first_position", "count", "code"),
    [
        (4, 3, 1, "BLOCK_MISSING"),
        (3, 2, 1, "STORE_CORRUPT"),
        (3, 4, 1, "STORE_CORRUPT"),
        (3, 3, 0, "STORE_CORRUPT"),
        (3, 3, 2**63 - 3, "STORE_CORRUPT"),
    ],
)
def test_blocks_follow_one_another(height: int, first_position: int, count: int, code: str) -> None:
    """A gap between heights, a gap or an overlap of positions, and a block without positions are damage."""
    index = index_of(2, 1)
    with pytest.raises(IntegrityFailure, match=code):
        index.add(height, first_position, count)
    assert index.height == 2


def test_the_largest_position_is_within_reach() -> None:
    """Positions end where a signed number of 64 bits does."""
    index = index_of(2)
    index.add(2, 2, 2**63 - 3)
    assert index.height_of(2**63 - 2) == 2


def test_places_are_learned_as_they_are_committed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writer, reader beside it and whoever opens later find each position, also when places come in several runs."""
    monkeypatch.setattr(sql, "PLACE_COUNT_MAX", 2)
    blocks = Blocks(SEED)
    store = database.create()
    reader = database.open_reader()
    expected: list[int] = []
    for count in COUNTS:
        with pytest.raises(NotFound, match="POSITION_NOT_FOUND"):
            reader.height_of(len(expected))
        block = blocks.make(count)
        store.append(block)
        expected += [block.header.height] * block.header.position_count
        if count != COUNTS[0]:
            assert reader.height_of(len(expected) - 1) == store.height_of(len(expected) - 1) == block.header.height
    later = database.open_reader()
    for each in (store, reader, later):
        assert [each.height_of(position) for position in range(len(expected))] == expected
        each.close()


def test_a_lost_row_is_noticed_by_whoever_looks_behind_it(database: Database) -> None:
    """Where a block's row is missing, positions behind it are not taken for those of another block."""
    blocks = Blocks(SEED)
    store = database.create()
    for _ in range(3):
        store.append(blocks.make())
    store.close()
    database.run("DELETE FROM bodies WHERE height = 2")
    database.run("DELETE FROM blocks WHERE height = 2")
    reader = database.open_reader()
    with pytest.raises(IntegrityFailure, match="BLOCK_MISSING"):
        reader.height_of(blocks.made[2].header.first_position)
    reader.close()


def test_the_long_way_gives_the_same(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be asked the short way is asked the long way, with the same rows."""
    block = Blocks(SEED).make(700)
    store = database.create()
    store.append(block)
    short = store.header(1), store.body_part(1, 1)
    monkeypatch.setattr(Question, "ask", lambda *_, **__: None)
    assert (
        (store.header(1), store.body_part(1, 1)) == short == (block.encoded.header, block.encoded.body[2**16 : 2**17])
    )
    store.close()


def test_a_question_that_fails_is_explained(database: Database) -> None:
    """A statement that the database refuses gives nothing the short way and its failure the long way; others go on."""
    nothing = Question(select(Table("nothing", MetaData(), Column("x", Integer)).c.x))
    store = database.create()
    assert nothing.ask(store._reads) is None
    with pytest.raises(IntegrityFailure, match="STORE_CORRUPT"):
        store._ask(nothing)
    store.append(Blocks(SEED).make())
    assert store.height_of(0) == 1
    store.close()
