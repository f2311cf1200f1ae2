"""Reads and plays ``docs/accounts.md``: what is signed there is sent to two machines, and every number is looked up.

The page has four kinds of table, known by their header. ``SIGNED`` says what is sent, in a small language::

    issue ALPHA 1,000,000.00 CNY
    q1: sell 50,000.00 HKD for CNY at 1.08430000
    p1: WALLET.ann → HK/WALLET.dan 5,000.00 CNY [as HKD by q1] [fee 2.00] [refund of p0]
    cancel p1
    settle

``POSTINGS`` lists all records that follow, ``HELD`` the accounts with something pending, and ``ACCOUNTS`` every account
whose posted sums have changed since the last such table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ledger.transfers import Flag, Result, Transfers
from settlement import views
from settlement.chart import AccountCode
from settlement.legs import Leg, TransferCode
from tests.settlement_fixture import NUMBERS, Node, World, issuance, money, uetr_of

SIGNED = ("ledger", "signed by", "says")
POSTINGS = ("when", "ledger", "leg", "debit", "credit", "amount", "how")
HELD = ("ledger", "account", "asset", "posted", "held out", "held in", "available")
ACCOUNTS = ("ledger", "book", "account", "asset", "before", "debits", "credits", "after")
HEADERS = (SIGNED, POSTINGS, HELD, ACCOUNTS)

_CODES = {number: code for code, number in NUMBERS.items()}
_PAYMENT = re.compile(
    r"(?P<name>p\d+): (?P<debtor>\S+) → (?:(?P<ledger>SH|HK)/)?(?P<creditor>\S+) "
    r"(?P<amount>[\d,.]+) (?P<asset>[A-Z]{3})"
    r"(?: as (?P<received>[A-Z]{3}) by (?P<quote>q\d+))?(?: fee (?P<fee>[\d,.]+))?(?: refund of (?P<refund>p\d+))?"
)
_QUOTE = re.compile(
    r"(?P<name>q\d+): sell (?P<maximum>[\d,.]+) (?P<sell>[A-Z]{3}) for (?P<buy>[A-Z]{3}) at (?P<rate>[\d.]+)"
)
_ISSUE = re.compile(r"issue (?P<participant>\S+) (?P<amount>[\d,.]+) (?P<asset>[A-Z]{3})")
_EXPIRES = "2025-12-31T00:00:00Z"
_WHEN = {
    TransferCode.ISSUANCE: "issuance",
    TransferCode.QUOTE: "quote",
    TransferCode.PAYMENT: "payment",
    TransferCode.INCOMING: "acceptance",
    TransferCode.NET: "vote",
}


@dataclass(frozen=True)
class Table:
    """One table of the page: its header, its rows, and the section it stands in."""

    section: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables_of(text: str) -> Iterator[Table]:
    """Find the tables of the page; a table of another header is prose."""
    section, lines = "", text.splitlines()
    for index, line in enumerate(lines):
        if line.startswith("## "):
            section = line.removeprefix("## ")
        header = _cells(line)
        if header in HEADERS and index + 1 < len(lines) and set(lines[index + 1]) <= set("|-: "):
            rows = []
            for following in lines[index + 2 :]:
                if not following.startswith("|"):
                    break
                rows.append(_cells(following))
            yield Table(section, header, rows)


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().strip("`") for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()


def minor(text: str) -> int:
    """Read an amount of the page in minor units."""
    return int(text.replace(",", "").replace(".", ""))


def people(amount: int) -> str:
    """Write minor units as the page does."""
    return f"{amount // 100:,}.{amount % 100:02d}"


@dataclass
class Player:
    """Two machines that follow the page, and what they have done since it was last asked."""

    world: World = field(default_factory=World.with_banks)
    quotes: dict[str, str] = field(default_factory=dict)
    postings: list[tuple[str, ...]] = field(default_factory=list)
    before: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note where every account stands."""
        for node in self.world.nodes:
            node.on_records = self._note
        self.mark()

    def _note(self, node: Node, records: Transfers) -> None:
        self.postings.extend(self._posting(node, record) for record in records)

    def mark(self) -> None:
        """Let the next table of accounts begin here."""
        self.before = dict(self._sums())

    def _sums(self) -> Iterator[tuple[tuple[str, int], tuple[int, int]]]:
        for node in self.world.nodes:
            for number, row in enumerate(node.machine.state.accounts):
                yield (node.ledger, number), (int(row["debits_posted"]), int(row["credits_posted"]))

    def send(self, ledger: str, who: str, says: str) -> None:
        """Send what a row of the page says."""
        node = self.world.node(ledger) if ledger in ("SH", "HK") else self.world.sh
        if match := _PAYMENT.fullmatch(says):
            self._pay(node, who, match)
        elif match := _QUOTE.fullmatch(says):
            self.quotes[match["name"]] = uetr_of(match["name"])
            body = {"quote": uetr_of(match["name"]), "sell": money(minor(match["maximum"]), match["sell"])}
            node.post(who, "/v1/quotes", body | {"buy": match["buy"], "rate": match["rate"], "expires": _EXPIRES})
        elif match := _ISSUE.fullmatch(says):
            body = issuance(match["participant"], minor(match["amount"]), match["asset"], name=says)
            node.post(who, "/v1/issuances", {"issuances": [body]})
        elif says.startswith("cancel "):
            node.post(who, "/v1/cancellations", {"uetr": uetr_of(says.removeprefix("cancel "))})
        elif says == "settle":
            if not self.world.settle():
                raise ValueError("the window did not settle")
        else:
            raise ValueError(f"the page says what nobody understands: {says}")

    def _pay(self, node: Node, who: str, match: re.Match[str]) -> None:
        more = {}
        if match["quote"]:
            more |= {"creditor_asset": match["received"], "quote": self.quotes[match["quote"]]}
        if match["fee"]:
            more["fee"] = money(minor(match["fee"]), match["asset"])
        if match["refund"]:
            more["refund_of"] = uetr_of(match["refund"])
        payment = self.world.payment(
            f"{node.ledger}/{match['debtor']}",
            f"{match['ledger'] or node.ledger}/{match['creditor']}",
            minor(match["amount"]),
            match["asset"],
            uetr=uetr_of(match["name"]),
            **more,
        )
        node.pay(who, payment)

    def _posting(self, node: Node, record: np.void) -> tuple[str, ...]:
        """Write a record as the page does."""
        if record["result"]:
            raise ValueError(f"a posting was refused: {Result(int(record['result'])).name}")
        flags = Flag(int(record["flags"])) & (Flag.PENDING | Flag.VOID)
        code = TransferCode(int(record["code"]))
        leg = Leg(int(record["leg"])).name.lower().replace("_", " ") if code is not TransferCode.NET else "net"
        asset = _CODES[int(node.machine.state.accounts["asset"][record["debit"]])]
        return (
            "cancellation" if flags is Flag.VOID else _WHEN[code],
            node.ledger,
            leg,
            self.name(node, int(record["debit"])),
            self.name(node, int(record["credit"])),
            f"{people(int(record['amount']))} {asset}",
            {Flag.PENDING: "held", Flag.VOID: "voided"}.get(flags, "posted"),
        )

    def name(self, node: Node, number: int) -> str:
        """Name an account as the page does."""
        code = AccountCode(node.machine.state.account(number).code)
        if number in node.book.institution.values():
            return code.name
        if code is AccountCode.QUOTE:
            quote = next(quote for quote in node.book.quotes.values() if quote.account == number)
            return f"{code.name}.{next(name for name, text in self.quotes.items() if _int(text) == quote.quote)}"
        return f"{code.name}.{views.account_view(node.machine, node.book, number).owner}"

    def take_postings(self) -> list[tuple[str, ...]]:
        """Give the records since the last time, as the page writes them."""
        taken, self.postings[:] = list(self.postings), []
        return taken

    def held(self) -> list[tuple[str, ...]]:
        """Give every account with something pending, as the page writes it."""
        rows = []
        for node in self.world.nodes:
            for number in range(1, node.machine.state.account_count + 1):
                view = views.account_view(node.machine, node.book, number)
                if view.pending_in or view.pending_out:
                    amounts = (view.posted, view.pending_out, view.pending_in, view.available)
                    rows.append((node.ledger, self.name(node, number), view.asset, *map(signed, amounts)))
        return rows

    def accounts(self) -> list[tuple[str, ...]]:
        """Give every account whose posted sums have changed since ``mark``, as the page writes it."""
        rows = []
        for (ledger, number), (debits, credit_sum) in self._sums():
            old = self.before.get((ledger, number), (0, 0))
            if (debits, credit_sum) != old:
                node = self.world.node(ledger)
                view = views.account_view(node.machine, node.book, number)
                change = (debits - old[0], credit_sum - old[1])
                sign = 1 if node.machine.state.account(number).is_credit_normal else -1
                earlier = view.posted - sign * (change[1] - change[0])
                rows.append(
                    (
                        ledger,
                        view.book,
                        self.name(node, number),
                        view.asset,
                        signed(earlier),
                        people(change[0]),
                        people(change[1]),
                        signed(view.posted),
                    )
                )
        self.mark()
        return rows


def signed(amount: int) -> str:
    """Write a balance, which may be below zero, as the page does."""
    return people(amount) if amount >= 0 else f"−{people(-amount)}"


def _int(identifier: str) -> int:
    return int(identifier.replace("-", ""), 16)


def play(text: str) -> list[str]:
    """Send what the page says and give every difference between the page and the machines."""
    player, found = Player(), []
    for table in tables_of(text):
        if table.header == SIGNED:
            for row in table.rows:
                player.send(*row)
            continue
        actual = {POSTINGS: player.take_postings, HELD: player.held, ACCOUNTS: player.accounts}[table.header]()
        if actual != table.rows:
            missing = [row for row in actual if row not in table.rows]
            wrong = [row for row in table.rows if row not in actual]
            found.append(f"{table.section}: the page lacks {missing}, the machines lack {wrong}")
    found += [f"after the page: {row} is still held" for row in player.held()]
    found += [f"the page does not show {row}" for row in player.take_postings()]
    player.world.check()
    return found
