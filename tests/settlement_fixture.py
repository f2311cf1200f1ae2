"""Two ledgers in memory: a genesis pair, keys by party code, signed messages, and machines that apply them.

``World()`` has Shanghai and Hong Kong with the same parties of the genesis as a real network. ``World.with_banks()``
adds two participants on each side, an FX provider in Hong Kong, and customers with accounts::

    SH   ALPHA (ann, ben)   BETA (cai)           in CNY
    HK   GAMMA (dan)        DELTA (eva)   FX     in CNY and HKD

An account is named by code and owner, ``WALLET.ann``, and by its asset where that is not plain.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import signatures
from ledger.accounts import AccountFlag, address
from ledger.errors import InvariantViolation, LedgerError
from ledger.genesis import Genesis, GenesisAsset, GenesisParty, network_hash
from ledger.machine import Draft, Machine
from ledger.messages import Kind, Message, key_id_of, public_bytes
from ledger.transfers import Result, Transfers, id_of
from settlement import answers, drafts, obligations, packing, statements, views
from settlement.applied import check_books
from settlement.book import Book
from settlement.chart import AccountCode
from settlement.interpreter import Settlement
from settlement.statements import CloseBody

Selection = npt.NDArray[np.bool_]

NETWORK = "hugang-test"
CREATED_NS = 1_750_204_800_000_000_000
SECOND = 1_000_000_000
ASSETS = (
    GenesisAsset(code="CNY", number=1, scale=2, kind="money", home="SH"),
    GenesisAsset(code="HKD", number=2, scale=2, kind="money", home="HK"),
    GenesisAsset(code="QCNY", number=3, scale=2, kind="memo", home="SH"),
    GenesisAsset(code="QHKD", number=4, scale=2, kind="memo", home="HK"),
)
NUMBERS = {asset.code: asset.number for asset in ASSETS}
BANKS = {"SH": ("ALPHA", "BETA"), "HK": ("GAMMA", "DELTA", "FX")}
CUSTOMERS = {"SH": {"ann": "ALPHA", "ben": "ALPHA", "cai": "BETA"}, "HK": {"dan": "GAMMA", "eva": "DELTA"}}


def key_of(code: str) -> Ed25519PrivateKey:
    """Give the private key of a party: it follows from the code, so that every run signs the same bytes."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"test key of {code}".encode()).digest())


def public_key_of(code: str) -> str:
    """Give a party's public key in hex."""
    return public_bytes(key_of(code)).hex()


def uetr_of(name: object) -> str:
    """Give a UUIDv4 that follows from a name."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"id of {name}".encode()).digest()[:16], version=4))


def genesis_of(ledger: str, *, test_clock: bool = False) -> Genesis:
    """Give a ledger's genesis."""
    issuer, asset = ("PBOC", "CNY") if ledger == "SH" else ("HKMA", "HKD")
    roles = (
        ("NODE-SH", "node", "SH", ()),
        ("NODE-HK", "node", "HK", ()),
        ("SETTLEMENT", "settlement", "", ()),
        ("AUDITOR", "auditor", "", ()),
        (f"REGISTRAR-{ledger}", "registrar", "", ()),
        (issuer, "issuer", "", (asset,)),
    )
    parties = tuple(
        GenesisParty(code=code, name=code, roles=(role,), public_key=public_key_of(code), ledger=of, assets=assets)
        for code, role, of, assets in roles
    )
    return Genesis(
        format=1,
        network=NETWORK,
        ledger=ledger,
        created_ns=CREATED_NS,
        test_clock=test_clock,
        assets=ASSETS,
        parties=parties,
    )


NETWORK_HASH = network_hash(genesis_of("SH"))


@dataclass
class Node:
    """One ledger's machine, fed with one block a message."""

    ledger: str
    machine: Machine
    settlement: Settlement
    on_records: Callable[[Node, Transfers], None] | None = None
    """Told of the records of every block."""
    blocks: list[tuple[int, tuple[Message, ...]]] = field(default_factory=list)
    """Everything that was journaled, in order: the instant of each block and its messages."""
    sent: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    """By party code the name of the key with which it signs by itself, if not its first one."""

    @classmethod
    def of(cls, ledger: str, *, compiled: bool = True, test_clock: bool = False) -> Node:
        """Stand before block 1."""
        genesis = genesis_of(ledger, test_clock=test_clock)
        settlement = Settlement(genesis)
        return cls(ledger, Machine(genesis, settlement, hash_key=bytes(16), compiled=compiled), settlement)

    def replayed(self, *, compiled: bool = True) -> Node:
        """Give a fresh node that was fed with the same blocks, with every signature checked again."""
        fresh = Node.of(self.ledger, compiled=compiled, test_clock=self.machine.genesis.test_clock)
        for timestamp_ns, block in self.blocks:
            fresh.apply(block, at_ns=timestamp_ns)
        return fresh

    @property
    def book(self) -> Book:
        """What settlement remembers here."""
        return self.settlement.book

    def request(
        self, who: str, topic: str, body: object, *, key: str = "", idempotency_key: str = "", at_ns: int | None = None
    ) -> Message:
        """Sign a request as ``who``, with the key of ``key`` if that is another; ``body`` is JSON or bytes already."""
        data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self.sent += 1
        seconds = ((at_ns or self.machine.timestamp_ns) - self.book.clock_offset_ns) // SECOND
        signer = key_of(key or self.keys.get(who, who))
        base = signatures.signature_base(
            method="POST",
            authority=f"{self.ledger.lower()}.hugang.example",
            path=topic,
            created=seconds,
            expires=seconds + 60,
            key_id=key_id_of(public_bytes(signer)),
            genesis_hash=self.machine.genesis_hash,
            content_type="application/json",
            content_digest=hashlib.sha256(data).digest(),
            idempotency_key=idempotency_key or f"message-{self.sent}",
        )
        return Message(Kind.REQUEST, base, signatures.sign(signer, base), data)

    def apply(self, messages: Sequence[Message], *, at_ns: int | None = None) -> Draft:
        """Admit messages and apply them in one block, a second after the last."""
        timestamp_ns = self.machine.timestamp_ns + SECOND if at_ns is None else at_ns
        admitted = [self.machine.admit(message, at_ns=None) for message in messages]
        draft = self.machine.apply(admitted, timestamp_ns)
        self.machine.seal(hashlib.sha256(self.machine.grow(draft).tree_root).digest())
        if self.on_records is not None:
            self.on_records(self, draft.transfers)
        if not draft.is_empty:
            self.blocks.append((timestamp_ns, tuple(entry.message for entry in draft.entries)))
        return draft

    def post(self, who: str, topic: str, body: object, *, at_ns: int | None = None) -> Transfers:
        """Send one message and give the records that follow it.

        Raises:
            LedgerError: it was not journaled.
        """
        draft = self.apply([self.request(who, topic, body, at_ns=at_ns)], at_ns=at_ns)
        outcome = draft.outcomes[0]
        if isinstance(outcome, LedgerError):
            raise outcome
        return draft.transfers

    def pay(self, who: str, *payments: dict[str, Any], at_ns: int | None = None) -> Transfers:
        """Send one payment, or several as a batch, and give the records."""
        if len(payments) == 1:
            return self.post(who, "/v1/payments", payments[0], at_ns=at_ns)
        return self.post(who, "/v1/batches", {"payments": list(payments)}, at_ns=at_ns)

    def refusal(self, who: str, topic: str, body: object, *, key: str = "", at_ns: int | None = None) -> LedgerError:
        """Send a message that must not be journaled; gives why not, after checking that nothing has changed."""
        before = (self.machine.state.money_digest(), self.machine.position, len(self.machine.state.registry))
        outcome = self.apply([self.request(who, topic, body, key=key, at_ns=at_ns)], at_ns=at_ns).outcomes[0]
        if not isinstance(outcome, LedgerError):
            raise InvariantViolation("the message was journaled")
        if (self.machine.state.money_digest(), self.machine.position, len(self.machine.state.registry)) != before:
            raise InvariantViolation("I9: a message that was not journaled has changed something")
        return outcome

    def refused(self, who: str, *payments: dict[str, Any], at_ns: int | None = None) -> list[Result]:
        """Send payments that must all be refused; gives their reasons, after checking that no money has changed."""
        before = self.machine.state.money_digest()
        records = self.pay(who, *payments, at_ns=at_ns)
        if self.machine.state.money_digest() != before:
            raise InvariantViolation("I9: a refusal has changed money")
        parts = [records[records["item"] == item] for item in range(len(payments))]
        return [drafts.reason_of(part["leg"], part["result"]) for part in parts]

    def view(self, who: str, payment: dict[str, Any], *, payer: str = "") -> views.PaymentView:
        """Show a payment to a party."""
        number = self.machine.directory.by_code(who).number
        signer = self.machine.directory.by_code(payer).number if payer else None
        uetr = uuid.UUID(payment["uetr"]).int
        return views.payment_view(self.machine, self.book, number, uetr, payer=signer)

    def say(self, body: statements.Body, *, who: str = "") -> Message:
        """Sign a statement as this ledger's node, or as ``who``."""
        ledger = statements.OPERATOR_LEDGER if who else self.ledger
        signer = key_of(who or f"NODE-{self.ledger}")
        return statements.sign(body, key=signer, network_hash=NETWORK_HASH, ledger=ledger)

    def deliver(self, message: Message) -> Transfers:
        """Apply a statement that somebody signed; gives its records.

        Raises:
            LedgerError: it was not journaled.
        """
        draft = self.apply([message])
        outcome = draft.outcomes[0]
        if isinstance(outcome, LedgerError):
            raise outcome
        return draft.transfers

    def account(self, name: str, asset: str = "CNY") -> int:
        """Give the number of ``CODE.owner`` in an asset; an institution's own account is named by its code alone."""
        code, _, owner = name.partition(".")
        number = NUMBERS[asset]
        if not owner:
            return self.book.institution[AccountCode[code], number]
        if code != "WALLET":
            return self.book.participant_by_code(owner).account(AccountCode[code], number)
        party = self.machine.directory.by_code(owner).number
        accounts = self.machine.state.accounts
        chosen = (accounts["owner"] == party) & (accounts["asset"] == number) & (accounts["code"] == AccountCode.WALLET)
        return int(chosen.nonzero()[0][0])

    def address(self, name: str, asset: str = "CNY") -> str:
        """Give an account's address."""
        return address(self.ledger, self.account(name, asset))

    def balance(self, name: str, asset: str = "CNY") -> int:
        """Give an account's posted balance."""
        return self.machine.state.balance(self.account(name, asset))


@dataclass
class World:
    """Both ledgers."""

    sh: Node = field(default_factory=lambda: Node.of("SH"))
    hk: Node = field(default_factory=lambda: Node.of("HK"))

    def node(self, ledger: str) -> Node:
        """Give the node of a ledger."""
        return {"SH": self.sh, "HK": self.hk}[ledger]

    @classmethod
    def with_banks(cls) -> World:
        """Have participants and customers join, with no money yet."""
        world = cls()
        for ledger, banks in BANKS.items():
            world._join(ledger, banks, CUSTOMERS[ledger])
        return world

    @classmethod
    def funded(cls) -> World:
        """Have participants and customers hold money of their own ledger."""
        world = cls.with_banks()
        world.sh.post("PBOC", "/v1/issuances", {"issuances": [issuance(name, 1_000_000_00) for name in BANKS["SH"]]})
        hkd = [issuance(name, 1_000_000_00, "HKD") for name in BANKS["HK"]]
        world.hk.post("HKMA", "/v1/issuances", {"issuances": hkd})
        for ledger, asset in (("SH", "CNY"), ("HK", "HKD")):
            for customer, bank in CUSTOMERS[ledger].items():
                world.node(ledger).pay(
                    bank, world.payment(f"{ledger}/POSITION.{bank}", f"{ledger}/WALLET.{customer}", 100_000_00, asset)
                )
        return world

    @classmethod
    def everywhere(cls) -> World:
        """Have FX, dan and eva hold CNY in Hong Kong as well, by a window that the issuer has paid into."""
        world = cls.funded()
        payees = (("POSITION.FX", 500_000_00), ("WALLET.dan", 50_000_00), ("WALLET.eva", 50_000_00))
        world.sh.pay("PBOC", *(world.payment("SH/ISSUE", f"HK/{name}", amount) for name, amount in payees))
        if not world.settle():
            raise InvariantViolation("the first window did not settle")
        return world

    def payment(
        self, debtor: str, creditor: str, amount: int, asset: str = "CNY", *, uetr: str = "", **more: Any
    ) -> dict[str, Any]:
        """Write a payment between accounts named ``LEDGER/CODE.owner``; ``more`` are fields of the body."""
        received = more.get("creditor_asset", asset)
        return {
            "uetr": uetr or uetr_of((debtor, creditor, amount, asset, self.sh.sent + self.hk.sent)),
            "debtor": self.address(debtor, asset),
            "creditor": self.address(creditor, received),
            "money": money(amount, asset),
            **more,
        }

    def address(self, name: str, asset: str = "CNY") -> str:
        """Give the address of ``LEDGER/CODE.owner``."""
        ledger, _, account = name.partition("/")
        return self.node(ledger).address(account, asset)

    def quote(
        self,
        *,
        sell: str,
        maximum: int,
        buy: str,
        rate: str,
        name: str = "quote",
        expires: str = "2025-07-01T00:00:00Z",
    ) -> str:
        """Have the provider FX publish a quote in Hong Kong; gives its id."""
        quote = uetr_of(name)
        body = {"quote": quote, "sell": money(maximum, sell), "buy": buy, "rate": rate, "expires": expires}
        self.hk.post("FX", "/v1/quotes", body)
        return quote

    def agree(self) -> tuple[int, answers.Signed]:
        """Close the open window and have both nodes list and accept; gives its number and what they signed."""
        number = self.sh.book.current
        close = self.sh.say(CloseBody(number), who="SETTLEMENT")
        for node in self.nodes:
            node.deliver(close)
        for kind in (answers.list_of, answers.acceptance_of):
            said = [node.say(kind(node.book, node.book.window(number))) for node in self.nodes]
            for message, own, peer in zip(said, self.nodes, reversed(self.nodes), strict=True):
                own.deliver(message)
                peer.deliver(message)
        return number, answers.signed_of(self.sh.book.window(number))

    def decide(self, number: int, signed: answers.Signed, selections: dict[str, Selection]) -> bool:
        """Propose these selections, have both nodes vote, and decide; gives whether the window settled."""
        window = self.sh.book.window(number)
        first, last = (self.node(ledger) for ledger in statements.voters(number))
        peers = {"SH": "HK", "HK": "SH"}
        directions = [
            statements.Direction(
                ledger=ledger,
                list_digest=statements.digest_of(window.statements[statements.statement_key("list", ledger)]),
                acceptance_digest=statements.digest_of(
                    window.statements[statements.statement_key("acceptance", peers[ledger])]
                ),
                count=signed.count(ledger),
                selection=packing.pack_selection(selections[ledger]),
            )
            for ledger in statements.LEDGERS
        ]
        body = statements.ProposalBody(
            window=number,
            attempt=window.attempt + 1,
            first_voter=first.ledger,
            last_voter=last.ledger,
            policy="all/1",
            directions=(directions[0], directions[1]),
            nets=obligations.derived_nets(signed, selections),
        )
        proposal = self.sh.say(body, who="SETTLEMENT")
        votes: list[Message] = []
        for voter in (first, last):
            voter.deliver(proposal)
            for vote in votes:
                voter.deliver(vote)
            said = answers.vote_of(
                voter.book,
                voter.machine.state,
                body,
                proposal_digest=statements.digest_of(proposal),
                first_vote=statements.body_of(votes[0], statements.VoteBody) if votes else None,
            )
            votes.append(voter.say(said))
            voter.deliver(votes[-1])
        decided = answers.decision_of(signed, proposal, first_vote=votes[0], last_vote=votes[1])
        decision = last.say(decided)
        last.deliver(decision)
        first.deliver(votes[1])
        first.deliver(decision)
        return decided.commit

    def settle(self, leave_out: Sequence[str] = ()) -> bool:
        """Settle the open window whole, but for the payments whose UETRs are left out."""
        number, signed = self.agree()
        selections = {ledger: obligations.accepted_of(signed.acceptances[ledger]) for ledger in statements.LEDGERS}
        for ledger, selected in selections.items():
            rows = packing.rows_of(signed.lists[ledger])
            names = [str(uuid.UUID(int=id_of(row["uetr_hi"], row["uetr_lo"]))) for row in rows]
            selections[ledger] = selected & ~np.isin(names, list(leave_out))
        return self.decide(number, signed, selections)

    def check(self) -> None:
        """Check I1 to I4 and I11 on both ledgers, that each book balances, and I12 between them."""
        for node in self.nodes:
            node.machine.state.check()
            accounts = node.machine.state.accounts
            limited = accounts[(accounts["flags"] & AccountFlag.LIMITED) != 0]
            credit = (limited["flags"] & AccountFlag.CREDIT_NORMAL) != 0
            posted = np.where(credit, 1, -1) * (limited["credits_posted"] - limited["debits_posted"])
            outflow = np.where(credit, limited["debits_pending"], limited["credits_pending"])
            if np.any(posted - outflow < limited["minimum"]):
                raise InvariantViolation(f"I4 on {node.ledger}")
            check_books(node.book, node.machine.state)
            check_each_book(node)
        for asset, home in (("CNY", self.sh), ("HKD", self.hk)):
            away = self.hk if home is self.sh else self.sh
            if home.balance("OMNIBUS", asset) != away.balance("MIRROR", asset):
                raise InvariantViolation(f"I12 in {asset}")

    @property
    def nodes(self) -> tuple[Node, Node]:
        """Both, Shanghai first."""
        return self.sh, self.hk

    def _join(self, ledger: str, banks: Sequence[str], customers: dict[str, str]) -> None:
        node = self.node(ledger)
        registrar = f"REGISTRAR-{ledger}"
        parties = [
            party(code, "participant", *(["fx-provider"] if code == "FX" else ["operator"])) for code in banks
        ] + [party(code) for code in customers]
        node.post(registrar, "/v1/parties", {"parties": parties})
        assets = ["CNY"] if ledger == "SH" else ["CNY", "HKD"]
        for code in banks:
            node.post(code, "/v1/participants", {"assets": assets})
        for owner, bank in customers.items():
            node.post(bank, "/v1/accounts", {"accounts": [{"owner": owner, "asset": asset} for asset in assets]})


def check_each_book(node: Node) -> None:
    """Check that each book balances by itself in each asset, in what is posted and in what is pending."""
    sums: dict[tuple[str, str, str], int] = {}
    for row in views.trial_balance(node.machine, node.book):
        for kind, difference in (
            ("posted", row.debits_posted - row.credits_posted),
            ("pending", row.debits_pending - row.credits_pending),
        ):
            key = (row.book, row.asset, kind)
            sums[key] = sums.get(key, 0) + difference
    wrong = [key for key, difference in sums.items() if difference]
    if wrong:
        raise InvariantViolation(f"the books {wrong} on {node.ledger} do not balance")


def money(amount: int, asset: str = "CNY") -> dict[str, str]:
    """Write money."""
    return {"asset": asset, "amount": str(amount)}


def party(code: str, *roles: str) -> dict[str, Any]:
    """Write a party for registration."""
    return {"code": code, "name": code, "roles": list(roles), "public_key": public_key_of(code)}


def issuance(participant: str, amount: int, asset: str = "CNY", *, name: str = "first") -> dict[str, Any]:
    """Write an issuance."""
    return {"id": uetr_of((name, participant, asset)), "participant": participant, "money": money(amount, asset)}
