"""Who appears in the demonstration. Every institution and person is invented; see ``settlement.workload``.

Beside the wholesale participants of the day there are two wallet operators in Shanghai, two banks and an FX provider in
Hong Kong, and their customers. A customer's party code is its name in capitals.
"""

from __future__ import annotations

from dataclasses import dataclass

from settlement.workload import SyntheticParticipant

__all__ = [
    "BANKS",
    "CUSTOMERS",
    "ENDINGS",
    "FX_PROVIDER",
    "ISSUERS",
    "QUOTES",
    "Bank",
    "Customer",
    "OfferedRate",
    "customer_party",
    "institution",
]


@dataclass(frozen=True, slots=True)
class Bank:
    """An institution with customers, or the FX provider: what it is issued and what it gets through the first window.

    ``issued`` and ``received`` are minor units by asset: of its own ledger's money from its issuer, and of the other
    ledger's money from that one's issuer.
    """

    code: str
    ledger: str
    name: str
    roles: tuple[str, ...]
    assets: tuple[str, ...]
    issued: tuple[tuple[str, int], ...]
    received: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer's account: its name in the address book, its bank, asset, title, and what it starts with."""

    name: str
    bank: str
    asset: str
    title: str
    opening: int = 0


ISSUERS = {"SH": ("PBOC", "CNY"), "HK": ("HKMA", "HKD")}
"""Who issues what, by ledger."""
FX_PROVIDER = "QKOWHKH0"
_OPERATOR = ("participant", "operator")

BANKS = (
    Bank("QPUDCNS0", "SH", "Synthetic Pudong Wallet Operator", _OPERATOR, ("CNY",), (("CNY", 50_000_000_00),)),
    Bank("QBUNCNS0", "SH", "Synthetic Bund Wallet Operator", _OPERATOR, ("CNY",), (("CNY", 50_000_000_00),)),
    Bank(
        "QHARHKH0", "HK", "Synthetic Harbour Bank", _OPERATOR, ("CNY", "HKD"),
        (("HKD", 50_000_000_00),), (("CNY", 20_000_000_00),),
    ),
    Bank("QPEAHKH0", "HK", "Synthetic Peak Bank", _OPERATOR, ("CNY", "HKD"), (("HKD", 50_000_000_00),)),
    Bank(
        FX_PROVIDER, "HK", "Synthetic Kowloon FX", ("participant", "fx-provider"), ("CNY", "HKD"),
        (("HKD", 100_000_000_00),), (("CNY", 100_000_000_00),),
    ),
)  # fmt: skip

CUSTOMERS = (
    Customer("lin", "QPUDCNS0", "CNY", "Lin's e-CNY wallet, Shanghai", 20_000_00),
    Customer("tea-house", "QBUNCNS0", "CNY", "a tea house, Shanghai"),
    Customer("jade-export", "QBUNCNS0", "CNY", "an exporter, Shanghai"),
    Customer("chan", "QHARHKH0", "CNY", "Chan's e-CNY wallet, Hong Kong", 5_000_00),
    Customer("chan-hkd", "QHARHKH0", "HKD", "Chan's Hong Kong dollars", 30_000_00),
    Customer("pearl-import", "QHARHKH0", "CNY", "an importer, Hong Kong", 8_000_000_00),
    Customer("ferry-shop", "QPEAHKH0", "HKD", "a shop at the ferry, Hong Kong"),
    Customer("book-shop", "QPEAHKH0", "CNY", "a book shop, Hong Kong"),
)


@dataclass(frozen=True, slots=True)
class OfferedRate:
    """What the FX provider pays for what it receives: ``rate`` sold for each bought, up to ``maximum`` minor units."""

    buy: str
    sell: str
    rate: str
    maximum: int


QUOTES = (
    OfferedRate("CNY", "HKD", "1.08430000", 50_000_000_00),
    OfferedRate("HKD", "CNY", "0.92220000", 20_000_000_00),
)

ENDINGS = {
    "lin": 20_000_00 - 66_00 - 1_280_00 + 4_611_00 + 20_00,
    "tea-house": 88_00,
    "jade-export": 3_600_000_00,
    "chan": 5_000_00 - 88_00,
    "chan-hkd": 30_000_00 - 5_000_00,
    "pearl-import": 8_000_000_00 - 3_600_000_00,
    "ferry-shop": 1_387_90,
    "book-shop": 66_00 - 20_00,
}
"""What each customer holds when both windows are settled, worked out by hand: minor units.

HKD 5,000.00 at 0.9222 are CNY 4,611.00; CNY 1,280.00 at 1.0843 are HKD 1,387.904, and the payee gets what is whole.
"""


def customer_party(customer: Customer) -> str:
    """Give the party code of a customer; Chan's two accounts have one owner."""
    return customer.name.removesuffix("-hkd").upper()


def institution(participant: SyntheticParticipant, funding: int) -> Bank:
    """Make a wholesale participant of the day an institution: Shanghai is issued its funds, Hong Kong receives them.

    Who sends nothing on a small day needs none.
    """
    money = (("CNY", funding),) if funding else ()
    at_home = participant.ledger == "SH"
    return Bank(
        code=participant.bic,
        ledger=participant.ledger,
        name=participant.name,
        roles=("participant",),
        assets=("CNY",),
        issued=money if at_home else (),
        received=() if at_home else money,
    )
