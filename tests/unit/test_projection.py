"""The SQL tables beside a journal: what they say, up to where, and that they come back however they are lost."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.projection import database as projections
from gateway.projection.database import Projection, projection_file
from gateway.projection.keeper import Keeper
from gateway.projection.offline import project
from gateway.projection.rows import Money, money_of
from gateway.projection.tables import PROJECTED
from ledger import genesis, journal, messages
from ledger.errors import IntegrityFailure, LedgerError, Unavailable
from ledger.reader import Reader
from ledger.runtime import ManualRuntime, SystemRuntime
from ledger.store import MemoryStore, Store, create_store
from ledger.transfers import Result, id_of
from ledger.writer import Writer, open_machine
from settlement.chart import AccountCode
from settlement.interpreter import Settlement
from settlement.legs import Leg, TransferCode
from settlement.views import account_view
from tests.ledger_fixture import make_runtime
from tests.receipt_fixture import PAIR, journals
from tests.settlement_fixture import key_of
from tests.store_places import Database, SqlitePlace

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


class Place:
    """The tables of one database, beside no journal."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.file = projection_file(Path(database.address)) if isinstance(database, SqlitePlace) else None

    def open(self) -> Projection:
        """Open the projection."""
        return Projection.open(str(self.database.address), self.folder)

    def run(self, statement: str) -> list[Any]:
        """Run one statement on the tables."""
        if self.file is None:
            return self.database.run(statement)
        connection = sqlite3.connect(self.file, isolation_level=None)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def content(self) -> dict[str, list[Any]]:
        """Read all tables, in order of their first column."""
        return {name: self.run(f"SELECT * FROM {name} ORDER BY 1") for name in ("watermarks", *PROJECTED)}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Read one table by column."""
        names = [column.name for column in PROJECTED[name].columns]
        quoted = ", ".join(f'"{column}"' for column in names)
        return [dict(zip(names, row, strict=True)) for row in self.run(f"SELECT {quoted} FROM {name} ORDER BY 1")]


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Place:
    """An empty place for a projection on each kind of database in turn."""
    return Place(database, tmp_path)


@functools.cache
def store_of(count: int | None = None, ledger: str = "SH") -> MemoryStore:
    """Give Shanghai's journal or another one, or its first blocks."""
    whole = journals().stores[ledger]
    store = MemoryStore(genesis.encode(PAIR[ledger]), runtime=ManualRuntime())
    for block in list(whole.blocks())[:count]:
        store.append(journal.decode(block))
    return store


@functools.cache
def money(store: Store) -> Money:
    """Give the money after a journal; nobody changes either."""
    document = genesis.decode(store.genesis())
    return money_of(open_machine(store, lambda: Settlement(document), bytes(16)))


def made(place: Place, store: Store, **options: Any) -> list[str]:
    """Check a projection and bring it to the end of a journal; gives the tables that were made anew."""
    projection = place.open()
    found = projection.check(store)
    projection.update(store, money(store), **options)
    projection.close()
    return found


# --- what the tables say ----------------------------------------------------------------------------------------------


def test_accounts_and_balances_are_the_machines(place: Place) -> None:
    """Each account stands with owner, asset, code, limits and counters as the machine has them."""
    assert made(place, store_of()) == ["accounts", "balances", "messages"]
    machine, book = journals().machines["SH"], journals().world.sh.book
    accounts, balances = place.rows("accounts"), place.rows("balances")
    assert len(accounts) == len(balances) == machine.state.account_count
    for row, amounts in zip(accounts, balances, strict=True):
        view, account = account_view(machine, book, row["number"]), machine.state.account(row["number"])
        limits = machine.state.limits(row["number"])
        shown = (row["address"], row["owner"], row["asset"], row["code"], bool(row["is_closed"]))
        assert shown == (view.address, view.owner, view.asset, view.code, view.closed)
        assert (row["minimum"], row["maximum"], row["class"]) == (limits.minimum, limits.maximum, limits.klass)
        assert bool(row["is_credit_normal"]) == account.is_credit_normal
        assert [amounts[name] for name in COUNTERS] == [getattr(account, name) for name in COUNTERS]
        assert (amounts["account"], amounts["balance"], amounts["available"]) == (
            view.number,
            view.posted,
            view.available,
        )
    assert {row["code"] for row in accounts} <= {code.name for code in AccountCode}
    assert any(row["available"] != row["balance"] for row in balances)


def test_limits_are_projected(place: Place) -> None:
    """A maximum and a class stand with the account, and what is not limited has none."""
    store = store_of()
    machine = open_machine(store, lambda: Settlement(PAIR["SH"]), bytes(16))
    wallet = journals().world.sh.account("WALLET.ann")
    machine.state.set_limit(wallet, minimum=-5, maximum=7_00)
    projection = place.open()
    projection.check(store)
    projection.update(store, money_of(machine))
    projection.close()
    found = {row["number"]: row for row in place.rows("accounts")}
    assert (found[wallet]["minimum"], found[wallet]["maximum"]) == (-5, 7_00)
    assert found[wallet + 1]["maximum"] is None


def test_messages_are_the_journals(place: Place) -> None:
    """Each message stands where it is journaled, with who signed what and how many items were refused."""
    store = store_of()
    made(place, store)
    machine, reader = journals().machines["SH"], Reader(store)
    rows = place.rows("messages")
    assert len(rows) == sum(journal.decode_header(block.header).entry_count for block in store.blocks())
    for row in rows:
        entry = reader.entry(row["position"])
        envelope = messages.parse(entry.message)
        records = reader.records(row["position"] + 1, entry.count)
        party = machine.directory.party(machine.directory.keys[envelope.key_id].party).code
        assert (row["topic"], row["party"], row["base"].encode()) == (envelope.topic, party, entry.message.base)
        assert (row["digest"], row["signature"]) == (envelope.digest.hex(), entry.message.signature.hex())
        assert (row["record_count"], row["body_size"]) == (entry.count, len(entry.message.body))
        assert row["item_count"] == len({*records["item"].tolist()})
        assert row["refused_count"] == len({*records["item"][records["result"] != 0].tolist()})
        assert row["height"] == store.height_of(row["position"])
        assert row["timestamp_ns"] == reader.header(row["height"]).timestamp_ns
        assert row["idempotency_key"] == envelope.idempotency_key
    assert {row["kind"] for row in rows} == {"request", "statement"}


def test_transfers_are_the_journals(place: Place) -> None:
    """Each record stands at its position with what it says, once transfers are asked for."""
    store = store_of()
    made(place, store)
    assert place.rows("transfers") == []
    assert made(place, store, with_transfers=True) == []
    rows, machine, reader = place.rows("transfers"), journals().machines["SH"], Reader(store)
    assert len(rows) == sum(journal.decode_header(block.header).transfer_count for block in store.blocks())
    for row in rows:
        record = reader.record(row["position"])
        assert uuid.UUID(row["id"]).int == id_of(record["id_hi"], record["id_lo"])
        related = id_of(record["related_hi"], record["related_lo"])
        assert (row["related"] and uuid.UUID(row["related"]).int) == (related or None)
        same = ("message", "item", "leg", "debit", "credit", "amount", "minimum", "timeout_s", "flags")
        assert [row[name] for name in same] == [int(record[name]) for name in same]
        assert Result[row["result"]] == record["result"]
        assert row["party"] == machine.directory.party(int(record["party"])).code
        assert (row["window_number"] or 0) == int(record["group"]) // 4
        assert row["height"] == store.height_of(row["position"])
    assert {row["result"] for row in rows} >= {"OK", "DEBIT_LIMIT"}


@pytest.mark.parametrize("ledger", ["SH", "HK"])
def test_a_payments_records_bear_its_uetr(place: Place, ledger: str) -> None:
    """All records of a payment are found by its UETR on either ledger: its legs, its end, and when it comes again."""
    made(place, store_of(ledger=ledger), with_transfers=True)
    found: dict[str | None, list[tuple[str, str]]] = {}
    for row in place.rows("transfers"):
        found.setdefault(row["uetr"], []).append((row["code"], row["result"]))
    incoming, outgoing = ("INCOMING", "OK"), ("PAYMENT", "OK")
    expected = {
        "SH": {
            "inside": [outgoing],
            "between": [outgoing] * 4,
            "refused": [("PAYMENT", "DEBIT_LIMIT")],
            "cancelled": [outgoing] * 2,
            "carried": [outgoing],
            "back": [incoming],
        },
        "HK": {
            "single": [incoming],
            "exchange": [incoming] * 4,
            "carried": [incoming] * 2,
            "rejected": [("INCOMING", "PAYEE_NOT_FOUND")],
            "back": [outgoing],
        },
    }[ledger]
    uetrs = {name: body["uetr"] for name, body in journals().payments.items()}
    assert {name: found.get(uetrs[name]) for name in expected} == expected
    assert {code for code, _ in found[None]}.isdisjoint({"PAYMENT", "INCOMING"})


def test_the_queries_of_the_page_run(place: Place) -> None:
    """Each query of the page runs as it stands, and gives what the machine says."""
    made(place, store_of(), with_transfers=True)
    section = PAGE.read_text(encoding="utf-8").split("## SQL tables")[1].split("\n## ")[0]
    uetr = journals().payments["between"]["uetr"]
    holdings, refused, days, payment, uneven = (
        place.run(query.replace("d675dcb1-af95-4cd0-a632-1bb26d3f6aee", uetr))
        for query in re.findall(r"```sql\n(.+?)```", section, re.DOTALL)
    )
    world, machine = journals().world, journals().machines["SH"]
    wallets = {owner: machine.state.account(world.sh.account(f"WALLET.{owner}")) for owner in ("ann", "ben", "cai")}
    assert [(owner, int(balance), int(available)) for owner, _, balance, available in holdings] == [
        (owner, account.balance, account.available) for owner, account in wallets.items()
    ]
    assert {party: int(count) for party, count, _ in refused}["ann"] == 1
    records = np.concatenate([journal.decode(block).transfers for block in store_of().blocks()])
    paid = records[(records["code"] == TransferCode.PAYMENT) & (records["leg"] == Leg.PAYER) & (records["result"] == 0)]
    paid = paid[machine.state.accounts["code"][paid["debit"]] == AccountCode.WALLET]
    assert [(day, int(amount), int(count)) for day, amount, count in days] == [
        ("booking", int(paid["amount"].sum()), len(paid))
    ]
    assert [code for _, code, *_ in payment] == ["PAYMENT"] * 4
    assert uneven == []


# --- up to where ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row_count_max", [1, 5_000])
def test_step_by_step_or_at_once(place: Place, row_count_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often and in whatever portions a projection is brought up to date, it is what a new one would be."""
    whole = store_of()
    made(place, whole, with_transfers=True)
    expected = place.content()
    monkeypatch.setattr(projections, "ROW_COUNT_MAX", row_count_max)
    projection = place.open()
    projection.forget()
    for count in (0, 3, 11, 12, whole.last_height()):
        store = store_of(count)
        assert projection.check(store) == (["accounts", "balances", "messages"] if count == 0 else [])
        projection.update(store, money(store), with_transfers=True)
        marks = projection.watermarks()
        assert {mark.height for mark in marks.values()} == {count}
        assert marks["messages"].row_count == place.run("SELECT count(*) FROM messages")[0][0]
    projection.close()
    assert place.content() == expected


def test_only_what_has_changed_is_written(place: Place) -> None:
    """An update by the same keeper touches the rows of accounts that have changed, and no others."""
    earlier, whole = store_of(30), store_of()
    projection = place.open()
    projection.check(earlier)
    projection.update(earlier, money(earlier))
    place.run("UPDATE balances SET available = -77")
    before = {row["account"]: row for row in place.rows("balances")}
    projection.update(whole, money(whole))
    projection.close()
    rows = place.rows("balances")
    kept = [row["account"] for row in rows if row["available"] == -77]
    now = journals().machines["SH"].state
    for number in kept:
        assert [before[number][name] for name in COUNTERS] == [getattr(now.account(number), name) for name in COUNTERS]
    assert 0 < len(kept) < len(rows)


def test_an_update_that_is_ended_goes_on_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A projection that is told to end keeps what it has, with a watermark that is true, and goes on from there."""
    store = store_of()
    made(place, store)
    expected = place.content()
    monkeypatch.setattr(projections, "ROW_COUNT_MAX", 1)
    projection = place.open()
    projection.forget()
    projection.check(store)
    projection.update(store, money(store), is_ending=lambda: True)
    assert projection.watermarks()["messages"].height == 1
    projection.close()
    assert made(place, store) == []
    assert place.content() == expected


def test_two_keep_one_projection(place: Place) -> None:
    """What another process has already written is neither written again nor taken back."""
    earlier, whole = store_of(20), store_of()
    one, other = place.open(), place.open()
    one.check(earlier)
    one.update(earlier, money(earlier))
    other.check(whole)
    other.update(whole, money(whole), with_transfers=True)
    expected = place.content()
    one.update(earlier, money(earlier))
    one.update(whole, money(whole))
    assert place.content() == expected
    one.close()
    other.close()


# --- lost and torn ----------------------------------------------------------------------------------------------------

BREAKS = {
    "dropped": "DROP TABLE {name}",
    "cut": "DELETE FROM {name} WHERE {key} = (SELECT max({key}) FROM {name})",
    "no watermark": "DELETE FROM watermarks WHERE name = '{name}'",
    "ahead of the journal": "UPDATE watermarks SET height = 1000000 WHERE name = '{name}'",
    "of another journal": "UPDATE watermarks SET block_hash = {zeros} WHERE name = '{name}'",
    "of another layout": "UPDATE watermarks SET layout = 0 WHERE name = '{name}'",
    "another column": "ALTER TABLE {name} ADD COLUMN more INTEGER",
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_torn_table_is_made_again(place: Place, what: str) -> None:
    """A table that is not what its watermark says is made anew, and the others are left as they are."""
    store = store_of()
    made(place, store, with_transfers=True)
    expected = place.content()
    for name, table in PROJECTED.items():
        key = table.primary_key.columns[0].name
        place.run(BREAKS[what].format(name=name, key=key, zeros=zeros(place)))

        # Transfers without a watermark are transfers that nobody has asked for.
        is_forgotten = (name, what) == ("transfers", "no watermark")
        assert made(place, store, with_transfers=is_forgotten) == ([] if is_forgotten else [name])
        assert place.content() == expected


def zeros(place: Place) -> str:
    """Write 32 zero bytes."""
    return f"x'{bytes(32).hex()}'" if place.file is not None else f"'\\x{bytes(32).hex()}'::bytea"


def test_tables_of_the_layout_before_are_made_again(place: Place) -> None:
    """Tables of the first layout, with transfers or where nobody has asked for them, are replaced by today's."""
    store = store_of()
    for with_transfers in (True, False):
        made(place, store, with_transfers=with_transfers)
        expected = place.content()
        place.run("DROP INDEX ix_transfers_uetr")
        place.run("ALTER TABLE transfers DROP COLUMN uetr")
        place.run("UPDATE watermarks SET layout = 1")
        torn = [name for name in PROJECTED if with_transfers or name != "transfers"]
        assert made(place, store) == torn
        assert place.content() == expected
        projection = place.open()
        projection.forget()
        projection.close()


def test_lost_watermarks_lose_everything(place: Place) -> None:
    """Without the table of watermarks nothing is believed."""
    store = store_of()
    made(place, store)
    expected = place.content()
    place.run("DROP TABLE watermarks")
    assert made(place, store) == ["accounts", "balances", "messages"]
    assert place.content() == expected


@pytest.mark.parametrize("name", ["watermarks", "accounts", "transfers"])
def test_somebody_elses_table_is_never_touched(place: Place, name: str) -> None:
    """A table that has one of the names and other columns is refused, by every way, and stays as it is."""
    if place.file is not None:
        place.file.touch()
    place.run(f"CREATE TABLE {name} (name varchar(16), mine INTEGER)")
    place.run(f"INSERT INTO {name} VALUES ('accounts', 7)")
    projection = place.open()
    calls: tuple[Callable[[], object], ...] = (lambda: projection.check(store_of(0)), projection.forget)
    for call in calls:
        assert refusal(call) == "PROJECTION_FOREIGN"
    projection.close()
    assert place.run(f"SELECT * FROM {name}") == [("accounts", 7)]


@pytest.mark.parametrize("damage", ["garbage", "cut", "lost"])
def test_a_file_that_cannot_be_read_is_replaced(tmp_path: Path, damage: str) -> None:
    """A file that is no database any more, or none at all, is made again."""
    place, store = Place(SqlitePlace(tmp_path / "journal.db"), tmp_path), store_of()
    made(place, store)
    expected = place.content()
    assert place.file is not None
    data = place.file.read_bytes()
    changed = {"garbage": b"no database" * 1_000, "cut": data[: len(data) // 2], "lost": None}[damage]
    if changed is None:
        place.file.unlink()
    else:
        place.file.write_bytes(changed)
    assert made(place, store) == ["accounts", "balances", "messages"]
    assert place.content() == expected


def test_a_place_that_does_not_do_is_unavailable(tmp_path: Path) -> None:
    """A folder that is not there, or a file that is locked, is told apart from damage, and nothing is removed."""
    for folder in (tmp_path / "nowhere", tmp_path):
        (tmp_path / "journal-projection.db").mkdir(exist_ok=True)
        with pytest.raises(Unavailable, match="PROJECTION_FAILED"):
            Projection.open("journal.db", folder).check(store_of(0))
    assert (tmp_path / "journal-projection.db").is_dir()


# --- from a stored journal --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(database: Database, tmp_path: Path) -> Path:
    """The folder of a node whose journal lies in each kind of database in turn."""
    address = str(database.address)
    store = create_store(address, genesis.encode(PAIR["SH"]), runtime=make_runtime())
    for block in journals().stores["SH"].blocks():
        store.append(journal.decode(block))
    store.close()
    settings = {"ledger": "SH", "port": 8701, "peer_url": "http://127.0.0.1:8702", "database": address}
    (tmp_path / "node.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_stored_journal_is_projected(database: Database, folder: Path) -> None:
    """The command's work: from a journal in a database to tables beside it, and again, and anew."""
    place = Place(database, folder)
    first = project(folder, make_runtime(), with_transfers=True, anew=False)
    height = journals().stores["SH"].last_height()
    assert (first.ledger, first.made) == ("SH", ("accounts", "balances", "messages"))
    assert {mark.height for mark in first.watermarks.values()} == {height}
    content = place.content()
    again = project(folder, make_runtime(), with_transfers=False, anew=False)
    assert (again.made, again.watermarks) == ((), first.watermarks)
    anew = project(folder, make_runtime(), with_transfers=False, anew=True)
    assert anew.made == first.made
    assert set(anew.watermarks) == {"accounts", "balances", "messages"}
    assert place.rows("transfers") == []
    project(folder, make_runtime(), with_transfers=True, anew=False)
    assert place.content() == content


@pytest.mark.parametrize("address", ["sqlite:///{}/journal.db", "journal.db", "{}/journal.db"])
def test_where_a_files_projection_lies(tmp_path: Path, address: str) -> None:
    """However the journal's file is named, the projection lies beside it."""
    projection = Projection.open(address.format(tmp_path), tmp_path)
    projection.check(store_of(0))
    projection.close()
    assert (tmp_path / "journal-projection.db").is_file()


def refusal(call: Callable[[], object]) -> str:
    """Give the code of the expected failure that a call ends with."""
    with pytest.raises(LedgerError) as caught:
        call()
    return caught.value.code


def test_without_a_journal_there_is_nothing_to_project(tmp_path: Path) -> None:
    """A folder without settings, or without a journal, is refused, and nothing is made in it."""
    assert refusal(lambda: project(tmp_path, make_runtime(), with_transfers=False, anew=False)) == "FILE_UNREADABLE"
    settings = {"ledger": "SH", "port": 8701, "peer_url": "http://127.0.0.1:8702"}
    (tmp_path / "node.json").write_text(json.dumps(settings))
    assert refusal(lambda: project(tmp_path, make_runtime(), with_transfers=False, anew=False)) == "STORE_NOT_FOUND"
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


class Broken(Projection):
    """A projection whose journal turns out to be damaged."""

    def check(self, store: Store) -> list[str]:
        """Find the damage."""
        raise IntegrityFailure(
            "STORE_CORRUPT", "A stored body is shorter than its header says.", block=store.last_height()
        )


def test_a_damaged_journal_stops_the_node(tmp_path: Path) -> None:
    """What is found to be damaged while the tables are made stops the node, as it does wherever it is found."""
    told: list[BaseException] = []

    async def keep() -> None:
        is_told = asyncio.Event()

        def halt(error: BaseException) -> None:
            told.append(error)
            is_told.set()

        runtime = SystemRuntime()
        store = store_of()
        machine = open_machine(store, lambda: Settlement(PAIR["SH"]), bytes(16))
        writer = Writer(machine, store, key_of("NODE-SH"), runtime)
        projection = Broken.open("journal.db", tmp_path)
        keeper = Keeper(projection, store=store, writer=writer, runtime=runtime, interval_s=1, halt=halt)
        await writer.start()
        keeper.start()
        await is_told.wait()
        await keeper.stop()
        await writer.stop()
        runtime.close()

    asyncio.run(keep())
    assert [str(error).split(":")[0] for error in told] == ["STORE_CORRUPT"]
