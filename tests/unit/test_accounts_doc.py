"""``docs/accounts.md`` against two machines: every posting and every number of the page is played."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from settlement.fx import convert
from tests.unit import accounts_page

PAGE = Path(__file__).parents[2] / "docs" / "accounts.md"
FLOWS = (
    "Issuance",
    "Funding a wallet",
    "Wallet to wallet inside one participant",
    "Between participants of one ledger",
    "Fee",
    "Redemption",
    "The issuer funds Hong Kong's banks",
    "Top-up",
    "Across the border, CNY to CNY, Shanghai to Hong Kong",
    "Across the border, CNY to CNY, Hong Kong to Shanghai",
    "Across the border, CNY to HKD",
    "Across the border, HKD to CNY",
    "Refund",
    "Return by way of suspense",
    "Cancellation",
    "A window of several payments",
)


def test_the_page_is_what_the_machines_do() -> None:
    """Every record and every changed account of every flow is on the page with its numbers, and no other."""
    assert accounts_page.play(PAGE.read_text()) == []


@pytest.mark.parametrize("flow", FLOWS)
def test_each_flow_has_its_tables(flow: str) -> None:
    """Each flow has a section that says what is signed, what is posted, and which accounts have changed."""
    tables = [table for table in accounts_page.tables_of(PAGE.read_text()) if f". {flow}" in table.section]

    headers = {table.header for table in tables}
    assert headers >= {accounts_page.SIGNED, accounts_page.POSTINGS, accounts_page.ACCOUNTS}
    assert all(table.rows for table in tables if table.header != accounts_page.ACCOUNTS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("| 5,000.00 CNY | held |", "| 5,000.01 CNY | held |"),
        ("| CLEARING.GAMMA | WALLET.dan     |", "| CLEARING.GAMMA | WALLET.eva     |"),
        ("10,096.80 |", "10,096.81 |"),
        ("CNY fee 2.00`", "CNY fee 2.01`"),
        ("| SH     | ALPHA       | FEES.ALPHA     | CNY   |      1.20 |     0.00 |     2.00 |      3.20 |\n", ""),
    ],
)
def test_a_wrong_page_is_noticed(right: str, wrong: str) -> None:
    """A wrong amount, account, balance or message, or a missing row, makes the page differ from the machines."""
    text = PAGE.read_text()
    assert right in text

    assert accounts_page.play(text.replace(right, wrong, 1))


def test_the_conversions_of_the_page_are_right() -> None:
    """Each worked conversion gives what the code gives, and the rate of its quote is the one that is signed."""
    text = PAGE.read_text()
    worked = re.findall(r"(q\d) sells .* at ([\d.]+) .* (\d+) · +(\d+) // 10\^8 = +(\d+)", text)

    assert [name for name, *_ in worked] == ["q1", "q2"]
    for name, rate, paid, rate_e8, received in worked:
        assert int(rate.replace(".", "")) == int(rate_e8)
        assert convert(int(paid), int(rate_e8)) == int(received)
        assert re.search(rf"`{name}: sell .* at {re.escape(rate)}`", text)
