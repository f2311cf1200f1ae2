"""Random days on two ledgers against a model of plain dictionaries, written from ``docs/accounts.md`` alone.

Limits have a model of their own, ``limits_model``: some wallets of Shanghai get a class, whose rules change from day to
day, and participants of both ledgers net debit caps.

The model knows what each customer has, what waits in the open window, and what a quote has left; it says beforehand how
every message must end. After every step the machines must agree with it and keep I1 to I4, I11, I12 and the balance of
every book; at the end each journal is replayed by the plain loop and must give the same money, the same tree and the
same book.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.schemas import date
from ledger.errors import Unauthenticated
from ledger.meters import business_day, business_day_start_ns
from ledger.transfers import Result
from settlement import drafts
from settlement.interpreter import Settlement
from settlement.repeats import difference, request_of, requests_of
from tests.property.limits_model import Limits, LimitsModel
from tests.settlement_fixture import CREATED_NS, World, issuance, key_of, money, public_key_of, uetr_of
from tests.snapshot_fixture import parts_of, reborn

WALLETS = ("SH/ann/CNY", "SH/ben/CNY", "SH/cai/CNY", "HK/dan/CNY", "HK/dan/HKD", "HK/eva/CNY", "HK/eva/HKD")
BANK = {"ann": "ALPHA", "ben": "ALPHA", "cai": "BETA", "dan": "GAMMA", "eva": "DELTA"}
AMOUNTS = st.one_of(st.integers(1, 9), st.integers(1, 200_000_00), st.just(50_000_00))
RATES = {"HKD": 108_430_000, "CNY": 92_220_000}
QUOTE_MAXIMUM = 30_000_00
METERED = tuple(name for name in WALLETS if name[:2] == "SH")
"""Wallets that may get a class."""
FIRST_DAY = business_day(CREATED_NS)
DAYS_MAX = 300
"""So that the value dates below stay within a year."""
TOPS = st.one_of(st.none(), st.integers(7, 150_000_00))
LIMITS = st.builds(Limits, balance=TOPS, payment=TOPS, day=TOPS, year=TOPS)


@dataclass
class Wait:
    """A payment in the open window: what it holds, and what it will do."""

    uetr: str
    debtor: str
    creditor: str
    amount: int
    fee: int
    received: int
    quote: str
    refund_of: str


def bank_of(name: str) -> tuple[str, str]:
    """Give the bank of a wallet, and its asset."""
    return BANK[name.split("/")[1]], name[-3:]


class TwoLedgers(RuleBasedStateMachine):
    """Rules send messages; the model says how they end."""

    def __init__(self) -> None:
        """Count names from one, so that every payment has its own."""
        super().__init__()
        self.names = itertools.count(1)

    @initialize()
    def start(self) -> None:
        """Begin with money on both ledgers and one quote in each direction."""
        self.world = World.everywhere()
        self.has = {name: 100_000_00 for name in WALLETS if name[:2] == "SH" or name.endswith("HKD")}
        self.has |= {"HK/dan/CNY": 50_000_00, "HK/eva/CNY": 50_000_00, "FX/CNY": 500_000_00, "FX/HKD": 1_000_000_00}
        self.waits: list[Wait] = []
        self.left = dict.fromkeys(RATES, QUOTE_MAXIMUM)
        self.quotes = {
            asset: self.world.quote(
                sell=asset,
                maximum=QUOTE_MAXIMUM,
                buy={"HKD": "CNY", "CNY": "HKD"}[asset],
                rate=f"{rate // 10**8}.{rate % 10**8:08d}",
                name=asset,
                expires="2030-01-01T00:00:00Z",
            )
            for asset, rate in RATES.items()
        }
        self.received: dict[str, tuple[str, str, int]] = {}
        self.refunded: dict[str, int] = {}
        self.fees: dict[str, int] = {}
        self.closed: set[str] = set()
        self.limits = LimitsModel(FIRST_DAY)
        self.asked: list[tuple[Wait, dict[str, Any], int]] = []
        self.bring(Limits(balance=150_000_00, payment=60_000_00, day=80_000_00, year=120_000_00), 0)
        for name in METERED[:2]:
            self.classify(name, is_member=True)

    # --- the model ----------------------------------------------------------------------------------------------------

    def free(self, name: str) -> int:
        """Give what an account has that nothing holds."""
        held = sum(wait.amount + wait.fee for wait in self.waits if wait.debtor == name)
        sold = sum(wait.received for wait in self.waits if name == f"FX/{wait.quote}" and wait.debtor[:2] == "HK")
        return self.has[name] - held - sold

    def expected(self, wait: Wait) -> Result:
        """Say how a payment must end on the payer's ledger."""
        if wait.debtor[:2] == wait.creditor[:2] and wait.creditor in self.closed:
            return Result.PAYEE_CLOSED
        if wait.refund_of:
            payer, payee, amount = self.received.get(wait.refund_of, ("", "", 0))
            if (payer, payee) != (wait.creditor, wait.debtor):
                return Result.REFUND_NOT_FOUND
            if self.refunded.get(wait.refund_of, 0) + wait.amount > amount:
                return Result.REFUND_EXCEEDED
        converts = bool(wait.quote) and wait.debtor[:2] == "HK"
        debtor, creditor = wait.debtor, wait.creditor
        across = debtor[:2] != creditor[:2]
        same_book = not across and BANK[debtor.split("/")[1]] == BANK[creditor.split("/")[1]]
        is_full = not across and self.limits.is_full(creditor, self.has[creditor], wait.received)
        beyond = self.limits.refusal(debtor, wait.amount)
        fee_beyond = self.limits.refusal(debtor, wait.fee, before=wait.amount) if wait.fee else Result.OK
        rules = (
            (converts and wait.received == 0, Result.CONVERTED_TO_ZERO),
            (converts and wait.received > QUOTE_MAXIMUM, Result.QUOTE_EXHAUSTED),
            (wait.debtor == wait.creditor, Result.SAME_ACCOUNT),
            (wait.debtor in self.closed, Result.DEBIT_CLOSED),
            (self.free(wait.debtor) < wait.amount, Result.DEBIT_LIMIT),
            ((is_full and same_book) or (across and self.is_over_cap(wait)), Result.CREDIT_MAXIMUM),
            (beyond is not Result.OK, beyond),
            (converts and self.free(f"FX/{wait.quote or 'CNY'}") < wait.received, Result.PROVIDER_LIMIT),
            (is_full, Result.CREDIT_MAXIMUM),
            (converts and self.left.get(wait.quote, 0) < wait.received, Result.QUOTE_EXHAUSTED),
            (self.free(wait.debtor) < wait.amount + wait.fee, Result.DEBIT_LIMIT),
            (fee_beyond is not Result.OK, fee_beyond),
        )
        return next((reason for holds, reason in rules if holds), Result.OK)

    def is_over_cap(self, wait: Wait) -> bool:
        """Whether the payer's participant would owe more to windows than its cap."""
        bank = bank_of(wait.debtor)
        owed = sum(other.amount for other in self.waits if bank_of(other.debtor) == bank)
        return bank in self.limits.caps and owed + wait.amount > self.limits.caps[bank]

    def settle_one(self, wait: Wait) -> None:
        """Move what a settled payment moves."""
        self.has[wait.debtor] -= wait.amount + wait.fee
        self.has[wait.creditor] += wait.received
        bank = BANK[wait.debtor.split("/")[1]] + wait.debtor[-4:]
        self.fees[bank] = self.fees.get(bank, 0) + wait.fee
        if wait.quote:
            self.has[f"FX/{wait.debtor[-3:]}"] += wait.amount
            self.has[f"FX/{wait.quote}"] -= wait.received
        if not wait.quote:
            self.received[wait.uetr] = (wait.debtor, wait.creditor, wait.received)

    def take(self, wait: Wait) -> None:
        """Take note of a payment that its ledger has accepted."""
        self.limits.count(wait.uetr, wait.debtor, wait.amount + wait.fee)
        if wait.refund_of:
            self.refunded[wait.refund_of] = self.refunded.get(wait.refund_of, 0) + wait.amount
        if wait.quote and wait.debtor[:2] == "HK":
            self.left[wait.quote] -= wait.received
        if wait.debtor[:2] == wait.creditor[:2]:
            self.settle_one(wait)
        else:
            self.waits.append(wait)

    def drop(self, wait: Wait) -> None:
        """Undo what a payment holds."""
        self.limits.give_back(wait.uetr)
        if wait.refund_of:
            self.refunded[wait.refund_of] -= wait.amount
        if wait.quote and wait.debtor[:2] == "HK":
            self.left[wait.quote] += wait.received

    # --- rules --------------------------------------------------------------------------------------------------------

    def make(
        self, debtor: str, creditor: str, amount: int, fee: int, refund_of: str, **more: Any
    ) -> tuple[Wait, dict[str, Any]]:
        """Write a payment for the machines and for the model."""
        paid, received = debtor[-3:], creditor[-3:]
        quote = "" if paid == received else received
        uetr = uetr_of(next(self.names))
        more |= {"creditor_asset": received, "quote": self.quotes[received]} if quote else {}
        more |= {"fee": money(fee, paid)} if fee else {}
        more |= {"refund_of": refund_of} if refund_of else {}
        places = [f"{name.split('/')[0]}/WALLET.{name.split('/')[1]}" for name in (debtor, creditor)]
        body = self.world.payment(*places, amount, paid, uetr=uetr, **more)
        gets = amount * RATES[quote] // 10**8 if quote else amount
        return Wait(uetr, debtor, creditor, amount, fee, gets, quote, refund_of), body

    def send(self, who: str, made: list[tuple[Wait, dict[str, Any]]]) -> None:
        """Send a message and compare how each of its items ends."""
        node = self.world.node(made[0][0].debtor[:2])
        records = node.pay(who, *(body for _, body in made))
        for item, (wait, body) in enumerate(made):
            part = records[records["item"] == item]
            self.asked.append(
                (wait, body, int(node.machine.position) - len(records) + int(np.searchsorted(records["item"], item)))
            )
            expected = self.expected(wait)
            found = drafts.reason_of(part["leg"], part["result"]) if part["result"].any() else Result.OK
            assert {date(day) for day in part["value_day"].tolist()} == {body.get("value_date")}
            assert found is expected, (wait, found, expected)
            if found is Result.OK:
                self.take(wait)

    @rule(
        debtor=st.sampled_from(WALLETS),
        creditor=st.sampled_from(WALLETS),
        amount=AMOUNTS,
        fee=st.sampled_from([0, 0, 7]),
        value_date=st.sampled_from(["", "2025-06-01", "2026-01-31"]),
    )
    def pay(self, debtor: str, creditor: str, amount: int, fee: int, value_date: str) -> None:
        """Pay anything to anybody, as of today or of another day."""
        more = {"value_date": value_date} if value_date else {}
        self.send(debtor.split("/")[1], [self.make(debtor, creditor, amount, fee, "", **more)])

    @precondition(lambda self: self.limits.day == FIRST_DAY)
    @rule(debtor=st.sampled_from(WALLETS), value_date=st.sampled_from(["2024-06-15", "2026-06-30"]))
    def pay_too_far_away(self, debtor: str, value_date: str) -> None:
        """Ask for a value date more than a year from the first day: nothing is journaled."""
        _, body = self.make(debtor, debtor, 1, 0, "", value_date=value_date)
        error = self.world.node(debtor[:2]).refusal(debtor.split("/")[1], "/v1/payments", body)
        assert error.code == "VALUE_DATE_RANGE"

    @rule(
        owner=st.sampled_from(["ann", "dan"]),
        items=st.lists(st.tuples(st.sampled_from(WALLETS), AMOUNTS, st.booleans()), min_size=2, max_size=5),
    )
    def batch(self, owner: str, items: list[tuple[str, int, bool]]) -> None:
        """Send several payments of one owner in one message."""
        debtor = {"ann": "SH/ann/CNY", "dan": "HK/dan/HKD"}[owner]
        self.send(owner, [self.make(debtor, creditor, amount, 3 if fee else 0, "") for creditor, amount, fee in items])

    @precondition(lambda self: self.received)
    @rule(data=st.data(), share=st.integers(1, 3), cross=st.booleans())
    def refund(self, data: st.DataObject, share: int, *, cross: bool) -> None:
        """Give back a part of something received, or try to give back somebody else's."""
        original = data.draw(st.sampled_from(sorted(self.received)))
        payer, payee, amount = self.received[original]
        if cross:
            payee = data.draw(st.sampled_from([name for name in WALLETS if name[-3:] == payer[-3:]]))
        self.send(payee.split("/")[1], [self.make(payee, payer, max(1, amount // share), 0, original)])

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), changed=st.sampled_from(["", "", "creditor", "money", "reference", "refund_of"]))
    def repeat(self, data: st.DataObject, changed: str) -> None:
        """Use a UETR again, for the same or something else: nothing moves, and the record leads to the first one."""
        wait, body, first = data.draw(st.sampled_from(self.asked))
        paid = wait.debtor[-3:]
        other: dict[str, Any] = {
            "creditor": self.world.address("SH/WALLET.ben", "CNY"),
            "money": money(wait.amount + 1, paid),
            "reference": "again",
            "refund_of": uetr_of("nothing"),
        }
        node, again = self.world.node(wait.debtor[:2]), body | {name: other[name] for name in [changed] if name}
        records = node.pay(wait.debtor.split("/")[1], again)
        repeated = records[records["result"] == Result.ID_EXISTS]
        assert repeated["debit_previous"].tolist() == [first + 1]
        assert drafts.reason_of(records["leg"], records["result"]) is Result.ID_EXISTS
        requests = [request_of(requests_of("/v1/payments", json.dumps(each).encode()), 0) for each in (body, again)]
        assert requests[1] is not None
        field = {"money": "money.amount"}.get(changed, changed)
        assert difference(requests[0], requests[1]) == (field if again != body else None)

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel something that waits."""
        wait = data.draw(st.sampled_from(self.waits))
        self.world.node(wait.debtor[:2]).post(wait.debtor.split("/")[1], "/v1/cancellations", {"uetr": wait.uetr})
        self.waits.remove(wait)
        self.drop(wait)

    @rule(owner=st.sampled_from(sorted(BANK)))
    def rotate(self, owner: str) -> None:
        """Replace a customer's key: the new one signs from now on, and the old one no more, whenever it has signed."""
        node, new = self.world.sh if BANK[owner] in ("ALPHA", "BETA") else self.world.hk, f"key {next(self.names)}"
        late = node.request(owner, "/v1/cancellations", {"uetr": uetr_of("nothing")})
        node.post(owner, "/v1/keys/rotations", {"public_key": public_key_of(new)})
        node.keys[owner] = new
        with pytest.raises(Unauthenticated, match="KEY_REVOKED"):
            node.apply([late])

    @rule(amount=AMOUNTS, bank=st.sampled_from(["ALPHA", "BETA"]))
    def issue(self, amount: int, bank: str) -> None:
        """Issue more to a participant."""
        self.world.sh.post("PBOC", "/v1/issuances", {"issuances": [issuance(bank, amount, name=str(next(self.names)))]})

    @rule(name=st.sampled_from(WALLETS), to=st.sampled_from(WALLETS))
    def close_or_reopen(self, name: str, to: str) -> None:
        """Close an open wallet, emptied first if another takes it, or open a closed one; with money it stays open."""
        if name != to and (name[:2], name[-3:]) == (to[:2], to[-3:]) and self.free(name):
            self.send(name.split("/")[1], [self.make(name, to, self.free(name), 0, "")])
        ledger, owner, asset = name.split("/")
        node, bank = self.world.node(ledger), BANK[owner]
        body = {"accounts": [node.address(f"WALLET.{owner}", asset)]}
        if name in self.closed:
            node.post(bank, "/v1/accounts/reopenings", body)
            self.closed.remove(name)
        elif any(wait.debtor == name for wait in self.waits):
            assert node.refusal(bank, "/v1/accounts/closings", body).code == "ACCOUNT_PENDING"
        elif self.has[name]:
            assert node.refusal(bank, "/v1/accounts/closings", body).code == "ACCOUNT_NOT_EMPTY"
        else:
            node.post(bank, "/v1/accounts/closings", body)
            self.closed.add(name)

    @rule(limits=LIMITS, wait_days=st.sampled_from([0, 0, 1]))
    def bring(self, limits: Limits, wait_days: int) -> None:
        """Bring a version of the rules that holds from today, tomorrow, or the day on which the last one begins."""
        begins = max([self.limits.day + wait_days, *(day for day, _ in self.limits.versions[-1:])])
        entry = {name: None if top is None else str(top) for name, top in vars(limits).items()}
        body = {"rules": "wallets", "valid_from": date(begins), "asset": "CNY", "classes": [{"class": "IV", **entry}]}
        self.world.sh.post("REGISTRAR-SH", "/v1/rules", body)
        self.limits.versions.append((begins, limits))

    @rule(name=st.sampled_from(METERED), is_member=st.booleans())
    def classify(self, name: str, *, is_member: bool) -> None:
        """Give a wallet the class or take it away, if it is open and the class is in force."""
        owner = name.split("/")[1]
        account = self.world.sh.address(f"WALLET.{owner}")
        body = {"accounts": [{"account": account, "class": "IV" if is_member else None}]}
        if is_member and self.limits.in_force() is None:
            assert self.world.sh.refusal(BANK[owner], "/v1/accounts/classes", body).code == "CLASS_NOT_FOUND"
        elif name in self.closed:
            assert self.world.sh.refusal(BANK[owner], "/v1/accounts/classes", body).code == "ACCOUNT_CLOSED"
        else:
            self.world.sh.post(BANK[owner], "/v1/accounts/classes", body)
            self.limits.give(name) if is_member else self.limits.members.discard(name)

    @rule(
        bank=st.sampled_from([("ALPHA", "CNY"), ("BETA", "CNY"), ("GAMMA", "CNY"), ("GAMMA", "HKD"), ("DELTA", "CNY")]),
        maximum=st.one_of(st.none(), st.integers(0, 100_000_00)),
    )
    def cap(self, bank: tuple[str, str], maximum: int | None) -> None:
        """Cap a participant, or lift its cap."""
        node = self.world.sh if bank[0] in ("ALPHA", "BETA") else self.world.hk
        text = None if maximum is None else str(maximum)
        entry = {"participant": bank[0], "asset": bank[1], "maximum": text}
        node.post(f"REGISTRAR-{node.ledger}", "/v1/caps", {"caps": [entry]})
        self.limits.caps.pop(bank, None)
        self.limits.caps |= {} if maximum is None else {bank: maximum}

    @rule(days=st.sampled_from([1, 1, 200]))
    def begin_day(self, days: int) -> None:
        """Let the first block of a later day come in Shanghai."""
        day = self.limits.day + days
        if day <= FIRST_DAY + DAYS_MAX:
            body = {"issuances": [issuance("ALPHA", 1, name=str(next(self.names)))]}
            self.world.sh.post("PBOC", "/v1/issuances", body, at_ns=business_day_start_ns(day))
            self.limits.begin_day(day)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Settle the window, leaving some payments out."""
        left_out = {wait.uetr for wait in self.waits if data.draw(st.integers(0, 3)) == 0}
        rejections = self.rejections()
        assert self.world.settle(sorted(left_out))
        waits, self.waits = self.waits, []
        for wait in waits:
            if wait.uetr in rejections:
                view = self.world.node(wait.debtor[:2]).view(wait.debtor.split("/")[1], {"uetr": wait.uetr})
                assert view.reason is rejections[wait.uetr]
                self.drop(wait)
            elif wait.uetr in left_out:
                self.waits.append(wait)
            else:
                self.settle_one(wait)
                if wait.quote and wait.debtor[:2] == "SH":
                    self.left[wait.quote] -= wait.received

    def rejections(self) -> dict[str, Result]:
        """Say which payments the payee's ledger will reject, in the order of the list."""
        free = {asset: self.free(f"FX/{asset}") for asset in RATES}
        left = dict(self.left)
        held = dict(self.has)
        found = {}
        for wait in self.waits:
            if wait.creditor in self.closed:
                found[wait.uetr] = Result.PAYEE_CLOSED
                continue
            if wait.creditor in METERED:
                if self.limits.is_full(wait.creditor, held[wait.creditor], wait.received):
                    found[wait.uetr] = Result.CREDIT_MAXIMUM
                else:
                    held[wait.creditor] += wait.received
            if not wait.quote or wait.debtor[:2] == "HK":
                continue
            if wait.received == 0:
                found[wait.uetr] = Result.CONVERTED_TO_ZERO
            elif wait.received > QUOTE_MAXIMUM or free[wait.quote] >= wait.received > left[wait.quote]:
                found[wait.uetr] = Result.QUOTE_EXHAUSTED
            elif wait.received > free[wait.quote]:
                found[wait.uetr] = Result.PROVIDER_LIMIT
            else:
                free[wait.quote] -= wait.received
                left[wait.quote] -= wait.received
        return found

    @rule(ledger=st.sampled_from(["SH", "HK"]))
    def keep_and_go_on(self, ledger: str) -> None:
        """Keep a ledger in a snapshot, and go on with what comes back."""
        node = self.world.node(ledger)
        if node.machine.is_exact:
            settlement = Settlement(node.machine.genesis)
            node.machine = reborn(node.machine, settlement, key_of(f"NODE-{ledger}"))
            node.settlement = settlement

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def machines_agree_with_the_model(self) -> None:
        """Balances and available balances are the model's, and the invariants hold on both ledgers."""
        if not hasattr(self, "world"):
            return
        self.world.check()
        for name in WALLETS:
            ledger, owner, asset = name.split("/")
            node = self.world.node(ledger)
            account = node.machine.state.account(node.account(f"WALLET.{owner}", asset))
            assert (account.balance, account.available) == (self.has[name], self.free(name)), name
            assert account.is_closed is (name in self.closed)
            limits = node.machine.state.limits(account.number)
            assert [limits.day_used, limits.year_used] == self.limits.meters.get(name, [0, 0]), name
        for asset in RATES:
            position = self.world.hk.machine.state.account(self.world.hk.account("POSITION.FX", asset))
            assert (position.balance, position.available) == (self.has[f"FX/{asset}"], self.free(f"FX/{asset}"))
            quote = self.world.hk.book.quotes[int(self.quotes[asset].replace("-", ""), 16)]
            assert self.world.hk.machine.state.account(quote.account).available == self.left[asset]
        for bank, earned in self.fees.items():
            code, asset = bank.split("/")
            node = self.world.sh if code in ("ALPHA", "BETA") else self.world.hk
            assert node.balance(f"FEES.{code}", asset) == earned

    def teardown(self) -> None:
        """Replay both journals with the plain loop."""
        if not hasattr(self, "world"):
            return
        for node in self.world.nodes:
            again = node.replayed(compiled=False)
            assert again.machine.state.money_digest() == node.machine.state.money_digest()
            assert again.machine.frontier.root() == node.machine.frontier.root()
            assert parts_of(again.machine) == parts_of(node.machine)
            for name in ("refunded", "openings", "quotes", "current", "incoming_waiting", "rules", "caps"):
                assert getattr(again.book, name) == getattr(node.book, name)
            for window, before in node.book.windows.items():
                for table in ("outgoing", "incoming"):
                    one, other = getattr(before, table), getattr(again.book.windows[window], table)
                    assert one.rows.tobytes() == other.rows.tobytes()
                    assert one.states.tobytes() == other.states.tobytes()


TestTwoLedgers = TwoLedgers.TestCase
TestTwoLedgers.settings = settings(stateful_step_count=20, max_examples=max(10, settings.default.max_examples // 5))
