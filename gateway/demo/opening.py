"""Opening the demonstration: parties are registered, participants join, issuers issue, customers get their accounts.

Everybody signs for themselves; the private keys of all of them lie in the network's folder, since one person plays them
all. Each step is one signed message a party, so 160 participants are 160 messages; they are sent from a few threads, so
that the nodes commit many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli.connect import connect
from gateway.cli.terminal import Meter
from gateway.client import Client
from gateway.config import LEDGERS, network_folder
from gateway.demo.cast import CUSTOMERS, ISSUERS, Bank, Customer, customer_party
from gateway.names import Name, Names, add_party_key, party_key
from ledger.messages import public_bytes
from ledger.runtime import Runtime

__all__ = ["THREAD_COUNT", "Opening", "each"]

THREAD_COUNT = 8
"""Requests under way at once."""
POSITION = 3
"""Place of the POSITION account among those that a participant gets in each asset (``settlement.opening``)."""
ACCOUNT_COUNT = 6

Item = TypeVar("Item")


def each(items: Iterable[Item], action: Callable[[Item], None], meter: Meter) -> None:
    """Do something with each item, a few at a time; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(THREAD_COUNT) as pool:
        for done in [pool.submit(action, item) for item in items]:
            done.result()
            meter.advance()


class Opening:
    """Opens one network for a demonstration."""

    def __init__(
        self, folder: Path, banks: tuple[Bank, ...], runtime: Runtime, *, customers: tuple[Customer, ...] = CUSTOMERS
    ) -> None:
        """Play on the network of ``folder`` with these institutions and customers of theirs."""
        self.banks = banks
        self.customers = customers
        self.names = Names()
        self._folder = folder
        self._runtime = runtime
        self._genesis_keys = network_folder(folder).keys()

    def client(self, ledger: str, key: Ed25519PrivateKey) -> Client:
        """Open a client of one node for a key."""
        return connect(self._folder, ledger.lower(), key)

    def party(self, ledger: str, code: str) -> Client:
        """Open a client of one node for a party whose key lies in the folder."""
        return self.client(ledger, party_key(self._folder, code))

    def issuer(self, ledger: str) -> Client:
        """Open a client of one node for its issuer."""
        return self.client(ledger, self._genesis_keys.pboc if ledger == "SH" else self._genesis_keys.hkma)

    def register(self) -> int:
        """Make everybody's keys and register everybody with the registrar of their ledger; gives their number."""
        homes = {bank.code: bank.ledger for bank in self.banks}
        for ledger in LEDGERS:
            people = {
                customer_party(customer): customer for customer in self.customers if homes[customer.bank] == ledger
            }
            parties = [self._party(bank.code, bank.name, bank.roles) for bank in self.banks if bank.ledger == ledger]
            parties += [self._party(code, customer.title, ()) for code, customer in people.items()]
            registrar = self._genesis_keys.registrar_sh if ledger == "SH" else self._genesis_keys.registrar_hk
            with self.client(ledger, registrar) as client:
                client.register_parties(parties)
        return len(self.banks) + len({customer_party(customer) for customer in self.customers})

    def join(self, meter: Meter) -> None:
        """Let every institution open its accounts, and note where its own money is."""

        def join(bank: Bank) -> None:
            with self.party(bank.ledger, bank.code) as client:
                accounts = client.join(bank.assets)["accounts"]
            for index, asset in enumerate(bank.assets):
                suffix = "" if asset == "CNY" else f"-{asset.lower()}"
                self.names.names[f"{bank.code.lower()}{suffix}"] = Name(
                    bank.ledger, bank.code, accounts[index * ACCOUNT_COUNT + POSITION], asset, bank.name
                )

        each(self.banks, join, meter)

    def issue(self) -> dict[str, int]:
        """Let both issuers issue to the institutions of their ledger; gives what was issued by asset."""
        issued: dict[str, int] = {}
        for ledger, (_, home) in ISSUERS.items():
            amounts = [
                (bank.code, asset, amount)
                for bank in self.banks
                if bank.ledger == ledger
                for asset, amount in bank.issued
            ]
            items = [
                {
                    "id": str(self._runtime.uuid4()),
                    "participant": code,
                    "money": {"asset": asset, "amount": str(amount)},
                }
                for code, asset, amount in amounts
            ]
            if items:
                with self.issuer(ledger) as client:
                    client.post("/v1/issuances", {"issuances": items})
            issued[home] = sum(amount for _, _, amount in amounts)
        return issued

    def send_abroad(self) -> dict[str, Any]:
        """Let the issuer in Shanghai pay the institutions in Hong Kong their CNY, in one signed message."""
        with self.issuer("SH") as client:
            issue = next(account["address"] for account in client.accounts() if account["code"] == "ISSUE")
            payments = [
                client.payment_body(
                    debtor=issue, creditor=self.names.find(bank.code.lower()).address, asset=asset, amount=amount
                )
                for bank in self.banks
                for asset, amount in bank.received
            ]
            return client.pay_batch(payments)

    def open_customers(self) -> None:
        """Let banks open their customers' accounts, and give those their names."""
        for bank in self.banks:
            mine = [customer for customer in self.customers if customer.bank == bank.code]
            if mine:
                with self.party(bank.ledger, bank.code) as client:
                    opened = client.open_accounts([(customer_party(item), item.asset) for item in mine])["accounts"]
                for customer, account in zip(mine, opened, strict=True):
                    self.names.names[customer.name] = Name(
                        bank.ledger, customer_party(customer), account["address"], customer.asset, customer.title
                    )

    def fund_customers(self, ledger: str) -> int:
        """Let banks of one ledger pay their customers what they start with; gives the number of payments."""
        homes = {bank.code: bank for bank in self.banks if bank.ledger == ledger}
        funded = [customer for customer in self.customers if customer.bank in homes and customer.opening]
        for customer in funded:
            self._fund(homes[customer.bank], customer)
        return len(funded)

    def _fund(self, bank: Bank, customer: Customer) -> None:
        suffix = "" if customer.asset == "CNY" else f"-{customer.asset.lower()}"
        with self.party(bank.ledger, bank.code) as client:
            client.pay(
                debtor=self.names.find(f"{bank.code.lower()}{suffix}").address,
                creditor=self.names.find(customer.name).address,
                asset=customer.asset,
                amount=customer.opening,
            )

    def _party(self, code: str, name: str, roles: tuple[str, ...]) -> dict[str, Any]:
        key = Ed25519PrivateKey.from_private_bytes(self._runtime.random_bytes(32))
        add_party_key(self._folder, code, key)
        return {"code": code, "name": name, "roles": list(roles), "public_key": public_bytes(key).hex()}
