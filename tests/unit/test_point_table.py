"""The table of balance points: what a list of all points would give, in few chunks; no changed byte is a balance."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ledger.errors import IntegrityFailure, InvariantViolation, Unavailable
from ledger.points import POINT
from ledger.registry import Array
from ledger.store import PointTable, chunks, points
from ledger.store.chunks import CHUNK_COUNT_MAX, FAN_COUNT, merge_start
from tests.points_fixture import ACCOUNTS, GENESIS, blocks_of, check, hash_of, run_beside, table_of
from tests.store_places import Database, SqlitePlace

BULK_COUNT = 16_384
COLUMNS = {
    "points_state": ("format", "genesis_hash", "height", "block_hash", "checksum"),
    "points_chunks": ("chunk", "first_position", "last_position", "count", "directory", "checksum"),
    "points_pages": ("chunk", "page", "data", "checksum"),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages and chunks so small that few points fill many."""
    for module, name, value in (
        (chunks, "PAGE_COUNT", 4),
        (chunks, "FAN_COUNT", 3),
        (chunks, "LEVEL_COUNT", 6),
        (chunks, "CHUNK_COUNT_MAX", 120),
        (points, "WRITTEN_COUNT", 3),
    ):
        monkeypatch.setattr(module, name, value)


def puts_of(seed: int, count: int) -> list[Array]:
    """Give what is put at once: points of many accounts, the large ones too, in any order, some positions twice."""
    draw = np.random.default_rng(seed)
    numbers = np.append(draw.integers(1, 2**32, 3), np.arange(1, ACCOUNTS + 1))
    puts, first = [], 0
    for _ in range(count):
        rows = np.zeros(int(draw.choice([0, 1, 3, 12, 40])), POINT)
        rows["account"] = draw.choice(numbers, len(rows))
        rows["position"] = first + draw.integers(0, 30, len(rows))
        rows["last"] = draw.integers(0, 2**62, len(rows))
        puts.append(rows)
        first += int(draw.integers(30, 40))
    return puts


def hold_against_list(table: PointTable, puts: list[Array], seed: int) -> None:
    """Compare look-ups for all accounts, around places where the answer changes, with those of a plain list."""
    rows = np.concatenate([np.empty(0, POINT), *puts])
    draw = np.random.default_rng(seed)
    numbers = {*range(ACCOUNTS + 2), *rows["account"].tolist(), 2**32 - 1}
    for account in sorted(numbers):
        own = {int(row["position"]): row for row in rows[rows["account"] == account]}
        places = draw.choice([*own, 0], 12).tolist()
        for position in {place + step for place in places for step in (-1, 0, 1)} | {0, 2**63 - 1}:
            before = max((place for place in own if place <= position), default=None)
            after = min((place for place in own if place > position), default=None)
            assert table.at_or_before(account, position) == (None if before is None else own[before])
            assert table.after(account, position) == (None if after is None else own[after])


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.usefixtures("small")
def test_the_table_is_a_list_of_all_points(database: Database, seed: int) -> None:
    """Whatever was put, joined and opened again: each look-up gives what a plain list gives."""
    table, puts = table_of(database), puts_of(seed, 40)
    written, counts = 0, [0]
    for height, rows in enumerate(puts, 1):
        table.put(height, hash_of(height), rows)
        written += bool(len(rows))
        counts.append(table.chunk_count)
        if height % 10 == 0:
            table.close()
            table = table_of(database)
            assert (table.height, table.block_hash, table.chunk_count) == (height, hash_of(height), counts[-1])
            hold_against_list(table, puts[:height], seed)
    assert any(after < before for before, after in itertools.pairwise(counts))
    assert counts[-1] < written
    table.close()


def test_chunks_stay_few() -> None:
    """Whatever sizes come, small chunks are a few, and large ones no more than a few for each that would be full."""
    draw = np.random.default_rng(7)
    for sizes in ([1], [100], [BULK_COUNT, BULK_COUNT + 700], [1, 3_000, 90_000, 400_000], [1, 300_000], [1, 600_000]):
        counts: list[int] = []
        for size in draw.choice(sizes, 1_000).tolist():
            counts.append(size)
            start = merge_start(counts)
            counts[start:] = [sum(counts[start:])]
            assert counts[-1] <= max(CHUNK_COUNT_MAX, size)
            assert len(counts) <= 2 * FAN_COUNT + 3 * sum(counts) / CHUNK_COUNT_MAX


def test_a_point_is_written_again_once_a_level() -> None:
    """At bulk rate each point is written twice: when it comes, and when its chunk is joined with fifteen others."""
    counts: list[int] = []
    written = 0
    for _ in range(FAN_COUNT * 10):
        counts.append(BULK_COUNT + 300)
        start = merge_start(counts)
        counts[start:] = [sum(counts[start:])]
        written += counts[-1]
    assert written <= 2 * sum(counts)
    assert len(counts) == 10


def test_real_pages_and_chunks(database: Database) -> None:
    """With the sizes that are in use, points on both sides of each page's border are found."""
    table, rows = table_of(database), np.zeros(5 * chunks.PAGE_COUNT // 2, POINT)
    rows["account"], rows["position"] = 9, np.arange(len(rows)) * 3 + 1
    for height in range(1, FAN_COUNT + 5):
        table.put(height, hash_of(height), rows)
        rows["position"] += 3 * len(rows)
    assert table.chunk_count == 5
    end = int(rows["position"][0])
    for position in range(1, end - 3, 255):
        newest, oldest = table.at_or_before(9, position), table.after(9, position)
        assert newest is not None
        assert oldest is not None
        assert newest["position"] == position - (position - 1) % 3
        assert oldest["position"] == newest["position"] + 3
    assert table.at_or_before(8, end) is None
    assert table.after(10, 0) is None
    table.close()


@pytest.mark.parametrize(("table_name", "column"), [(name, column) for name in COLUMNS for column in COLUMNS[name]])
@pytest.mark.usefixtures("small")
def test_a_changed_byte_is_no_balance(database: Database, table_name: str, column: str) -> None:
    """After any change a look-up is right or refused, and a table that is opened is right, refuses or begins anew."""
    blocks = blocks_of(12)
    table = table_of(database)
    for height, rows in enumerate(blocks, 1):
        table.put(height, hash_of(height), rows)
    ((value,),) = run_beside(database, f"SELECT {column} FROM {table_name} ORDER BY 1 DESC LIMIT 1")
    changed = bytes([*value[:9], value[9] ^ 4, *value[10:]]) if isinstance(value, bytes) else value + 1
    run_beside(database, f"UPDATE {table_name} SET {column} = ? WHERE {column} = ?", (changed, value))
    is_page = table_name == "points_pages"
    assert refused(table, blocks) == is_page
    table.close()
    again = table_of(database)
    if is_page:
        assert again.height == len(blocks)
        assert refused(again, blocks)
    else:
        assert again.height == 0
        check(again, [])
    again.close()


def refused(table: PointTable, blocks: list[Array]) -> bool:
    """Ask for every point; each is given as it was put, or refused. Say whether one was."""
    rows = np.concatenate(blocks)
    own = {(int(row["account"]), int(row["position"])): row for row in rows}
    is_refused = False
    for (account, position), row in own.items():
        for find, place in ((table.at_or_before, position), (table.after, position - 1)):
            with contextlib.suppress(_Corrupt):
                assert answer(find, account, place) == row
                continue
            is_refused = True
    return is_refused


class _Corrupt(Exception):
    """The one way in which a look-up may fail."""


def answer(find: Callable[[int, int], np.void | None], account: int, position: int) -> np.void | None:
    """Ask; a refusal with the code of changed points becomes ``_Corrupt``."""
    try:
        return find(account, position)
    except IntegrityFailure as error:
        raise _Corrupt if error.code == "POINTS_CORRUPT" else error from error


@pytest.mark.usefixtures("small")
def test_a_missing_row_is_no_balance(database: Database) -> None:
    """Neither a page nor a chunk can be missing without being missed."""
    table = table_of(database)
    for height, rows in enumerate(blocks := blocks_of(12), 1):
        table.put(height, hash_of(height), rows)
    run_beside(database, "DELETE FROM points_pages WHERE page = 0")
    assert refused(table, blocks)
    table.close()
    run_beside(database, "DELETE FROM points_chunks WHERE chunk = (SELECT MAX(chunk) FROM points_chunks)")
    again = table_of(database)
    assert again.height == 0
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE points_pages SET checksum = 7",
        "DELETE FROM points_pages",
        "UPDATE points_pages SET page = 3",
    ],
)
def test_nothing_is_joined_with_what_was_changed(
    database: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Whoever puts points into a damaged table is told so, and nothing changes."""
    monkeypatch.setattr(chunks, "FAN_COUNT", 2)
    table = table_of(database)
    table.put(1, hash_of(1), one_point(10))
    run_beside(database, change)
    with pytest.raises(IntegrityFailure, match="POINTS_CORRUPT"):
        table.put(2, hash_of(2), one_point(20))
    assert (table.height, table.chunk_count) == (1, 1)
    table.close()
    again = table_of(database)
    assert (again.height, again.chunk_count) == (1, 1)
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE points_pages SET data = 'text'",
        "UPDATE points_chunks SET directory = 'text'",
        "UPDATE points_chunks SET directory = x'00'",
        "UPDATE points_chunks SET count = 'many'",
        "UPDATE points_chunks SET count = -1",
        "UPDATE points_state SET block_hash = 'text'",
        "UPDATE points_state SET height = 'high'",
        "UPDATE points_state SET height = 0.5",
        "UPDATE points_state SET genesis_hash = 7",
    ],
)
def test_a_cell_of_another_kind_is_no_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """In a file a cell can hold what its column does not; that is refused too, by each who meets it."""
    monkeypatch.setattr(chunks, "FAN_COUNT", 2)
    database = SqlitePlace(tmp_path / "sh.db")
    table = table_of(database)
    table.put(1, hash_of(1), one_point(10))
    run_beside(database, statement)
    if "points_pages" in statement:
        with pytest.raises(IntegrityFailure, match="POINTS_CORRUPT"):
            table.at_or_before(1, 10)
        with pytest.raises(IntegrityFailure, match="POINTS_CORRUPT"):
            table.put(2, hash_of(2), one_point(20))
    table.close()
    again = table_of(database)
    assert again.height == ("points_pages" in statement)
    again.close()


def one_point(position: int) -> Array:
    """Give a point of account 1."""
    rows = np.zeros(1, POINT)
    rows["account"], rows["position"], rows["last"] = 1, position, position - 1
    return rows


def test_a_page_counts_in_its_place_only() -> None:
    """A page's checksum is that of its chunk, its number and its bytes."""
    data = one_point(5).tobytes()
    checksum = zlib.crc32(bytes([7, *bytes(7), 3, 0, 0, 0]) + data)
    assert chunks.read_page(7, 3, data, checksum)["position"] == 5
    for chunk, page in ((7, 4), (8, 3)):
        with pytest.raises(IntegrityFailure, match="POINTS_CORRUPT"):
            chunks.read_page(chunk, page, data, checksum)


def test_whoever_reads_while_chunks_are_joined_finds_the_point(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that has gone into another chunk meanwhile is found there."""
    monkeypatch.setattr(chunks, "FAN_COUNT", 2)
    table, position = table_of(database), 10
    table.put(1, hash_of(1), one_point(position))
    read = table._page

    def join_first(chunk: chunks.Chunk, page: int) -> Array:
        if table.height == 1:
            table.put(2, hash_of(2), one_point(20))
        return read(chunk, page)

    monkeypatch.setattr(table, "_page", join_first)
    found = table.at_or_before(1, position)
    assert found == one_point(position)[0]
    assert (table.height, table.chunk_count) == (2, 1)
    table.close()


def test_points_come_in_the_order_of_their_blocks(database: Database) -> None:
    """Points at or before what is there already are a mistake of ours."""
    table = table_of(database)
    table.put(1, hash_of(1), one_point(10))
    with pytest.raises(InvariantViolation, match="order"):
        table.put(2, hash_of(2), one_point(10))
    assert table.height == 1
    table.close()


def test_only_one_writes(database: Database) -> None:
    """Of two that have opened the table, the second to write is refused."""
    one, two = table_of(database), table_of(database)
    one.put(1, hash_of(1), one_point(10))
    with pytest.raises(Unavailable, match="LEDGER_LOCKED"):
        two.put(1, hash_of(1), one_point(10))
    one.close()
    two.close()


@pytest.mark.parametrize("statement", ["UPDATE points_state SET format = 9", "DELETE FROM points_state"])
def test_another_form_begins_anew(database: Database, statement: str) -> None:
    """A table of another format, or torn, is emptied and filled again."""
    table = table_of(database)
    table.put(1, hash_of(1), one_point(10))
    table.close()
    run_beside(database, statement)
    again = table_of(database)
    assert again.height == 0
    check(again, [])
    again.close()


def test_the_first_format_begins_anew(database: Database) -> None:
    """A table with a row for each point, as older versions made it, makes room."""
    table = table_of(database)
    table.put(1, hash_of(1), one_point(10))
    table.close()
    run_beside(database, "ALTER TABLE points_state DROP COLUMN checksum")
    run_beside(database, "UPDATE points_state SET format = 0")
    run_beside(database, "CREATE TABLE points (account bigint)")
    again = table_of(database)
    assert (again.height, again.block_hash) == (0, GENESIS)
    again.put(1, hash_of(1), one_point(10))
    assert again.after(1, 9) == one_point(10)[0]
    again.close()
    with pytest.raises(Exception, match="points"):
        run_beside(database, "SELECT * FROM points")
