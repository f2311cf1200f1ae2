"""What random runs say to a ledger: plans that Hypothesis draws, and how a plan becomes a message when its turn comes.

A plan is plain numbers and names. ``Scribe`` aims it at what the model knows by then: holds that live, transfers that
can be reversed, accounts on a book, keys of a party. So most of what is said can be done, and the rest fails in every
way.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ledger.accounts import address
from ledger.transfers import Flag
from tests.property.ledger_model import COMPARED, LedgerModel
from tests.property.ledger_rules import MOVABLE
from tests.property.ledger_words import BLANK, TRANSFERS, Sent, body_of, key_id, public_key
from tests.property.model import Command

REGISTRAR = "REGISTRAR-SH"
BANKS = ("ALPHA", "BETA")
CUSTOMERS = ("ann", "ben", "cai")
NEWCOMERS = ("dee", "eli", "fay")
WALLETS = (
    ("ALPHA", "ann", "CNY"),
    ("ALPHA", "ann", "CNY"),
    ("ALPHA", "ben", "CNY"),
    ("ALPHA", "ben", "HKD"),
    ("BETA", "cai", "CNY"),
    ("BETA", "cai", "CNY"),
)
"""Each by the bank that opens it, its owner and its asset."""
SPEAKERS = (*BANKS, *CUSTOMERS)
ACCOUNTS_MAX = 40
REUSED = range(40, 48)
"""Numbers of ids that each party uses again and again."""
KEPT = 40
"""How many of the last messages can be sent again."""

_PENDING, _GROUP, _LINKED = int(Flag.PENDING), int(Flag.GROUP), int(Flag.LINKED)
_ENDS = int(Flag.POST | Flag.VOID)
_WEIGHTS: dict[Flag, int] = {
    Flag.NONE: 6,
    Flag.PENDING: 7,
    Flag.POST: 5,
    Flag.VOID: 3,
    Flag.REVERSAL: 4,
    Flag.BALANCING_DEBIT: 2,
    Flag.BALANCING_DEBIT | Flag.PENDING: 1,
    Flag.BALANCING_CREDIT: 1,
    Flag.MIN_AVAILABLE: 2,
    Flag.MIN_AVAILABLE | Flag.PENDING: 1,
    Flag.MIN_AVAILABLE | Flag.BALANCING_DEBIT: 1,
    Flag.POST | Flag.GROUP: 2,
    Flag.VOID | Flag.GROUP: 1,
    Flag.PENDING | Flag.GROUP: 1,
    Flag.POST | Flag.VOID: 1,
    Flag.REVERSAL | Flag.PENDING: 1,
}
FLAGS = [int(flag) for flag, weight in _WEIGHTS.items() for _ in range(weight)]
SMALL = st.integers(0, 99)


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Draw from one of some strategies, each as often as its weight says."""
    strategies = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


AMOUNTS = weighted((20, st.integers(0, 30)), (1, st.sampled_from([-1, 500, 2**62, 2**63 - 1])))
TIMEOUTS_S = st.sampled_from([0, 0, 0, 1, 3, 90, 90_000])
COMMANDS = st.tuples(st.sampled_from(FLAGS), SMALL, SMALL, SMALL, AMOUNTS, TIMEOUTS_S, SMALL)
"""Flags, id, debit, credit, amount, timeout, and what it aims at."""
FORMS = st.sampled_from(["alone", "alone", "alone", "chain", "group", "group in chain"])
TRANSFER_PLANS = st.tuples(
    st.just("transfers"), st.sampled_from(SPEAKERS), SMALL, FORMS, st.lists(COMMANDS, min_size=1, max_size=4)
)
AGAIN_PLANS = st.one_of(
    st.tuples(st.just("retry"), SMALL, SMALL),
    st.tuples(st.just("contradict"), SMALL, SMALL),
    st.tuples(st.just("again"), SMALL, st.sampled_from(["", *COMPARED]), SMALL),
)
FAULTS = ("forged", "body", "ledger", "stale", "future", "unknown", "flags")
FAULT_PLANS = st.tuples(st.just("fault"), st.sampled_from(SPEAKERS), SMALL, st.sampled_from(FAULTS))
KEEPERS = st.sampled_from([REGISTRAR] * 12 + [*SPEAKERS, *NEWCOMERS, "NODE-SH"])
EVERYBODY = st.sampled_from([*SPEAKERS, *NEWCOMERS, REGISTRAR, "PBOC", "NODE-SH", "nobody"])
KEY_PLANS = st.one_of(
    st.tuples(st.just("register"), KEEPERS, SMALL, st.sampled_from(NEWCOMERS), SMALL),
    st.tuples(st.just("key"), KEEPERS, SMALL, EVERYBODY, SMALL),
    st.tuples(st.just("revoke"), KEEPERS, SMALL, SMALL),
    st.tuples(st.just("rotate"), EVERYBODY, SMALL, SMALL),
)
OPERATORS = st.sampled_from([*BANKS * 3, "ALPHA", "ALPHA", "ann"])
CLASSES = st.sampled_from(["A", "B", "C"])
TOPS = st.one_of(st.none(), st.integers(0, 400))
LIMITS = st.fixed_dictionaries({"class": CLASSES, "balance": TOPS, "payment": TOPS, "day": TOPS, "year": TOPS})
ACCOUNT_PLANS = st.one_of(
    st.tuples(
        st.just("open"), OPERATORS, SMALL, EVERYBODY, st.sampled_from(["CNY", "HKD"]), st.one_of(st.none(), CLASSES)
    ),
    st.tuples(st.just("turn"), OPERATORS, SMALL, st.lists(SMALL, min_size=1, max_size=2), SMALL),
    st.tuples(st.just("class"), OPERATORS, SMALL, SMALL, st.one_of(st.none(), CLASSES)),
)
ISSUE_PLANS = st.tuples(
    st.just("issue"),
    st.sampled_from(["PBOC", "PBOC", "ALPHA"]),
    SMALL,
    st.lists(st.tuples(SMALL, st.sampled_from([*BANKS, "ALPHA", "ann"]), st.integers(1, 300)), min_size=1, max_size=2),
)
RULE_PLANS = st.tuples(
    st.just("rules"),
    st.sampled_from([REGISTRAR] * 4 + ["ALPHA"]),
    SMALL,
    st.sampled_from(["wallets", "wallets", "others"]),
    st.sampled_from([-1, 0, 0, 0, 1, 2]),
    st.lists(LIMITS, min_size=1, max_size=3, unique_by=lambda entry: entry["class"]),
)
CAP_PLANS = st.tuples(
    st.just("cap"), st.sampled_from([REGISTRAR] * 4 + ["BETA"]), SMALL, st.sampled_from([*BANKS, "ann"]), TOPS
)
CLOCK_PLANS = st.tuples(
    st.just("clock"),
    st.sampled_from([REGISTRAR] * 4 + ["PBOC"]),
    SMALL,
    st.sampled_from([1, 1, 60, 3_600, 86_400, 8_000_000]),
)
PAYMENT_PLANS = weighted((8, TRANSFER_PLANS), (1, AGAIN_PLANS))
PLANS = weighted(
    (4, TRANSFER_PLANS),
    (2, AGAIN_PLANS),
    (2, FAULT_PLANS),
    (4, KEY_PLANS),
    (5, ACCOUNT_PLANS),
    (2, RULE_PLANS),
    (1, ISSUE_PLANS),
    (1, CAP_PLANS),
    (1, CLOCK_PLANS),
)
REPEATS = ("retry", "contradict", "again", "fault")
"""Plans whose messages are not sent again: they would crowd out all others."""
Plan = tuple[Any, ...]


class Scribe:
    """Makes messages of plans, and remembers the last ones."""

    def __init__(self) -> None:
        """Begin to count."""
        self.serial = 0
        self.sent: deque[Sent] = deque(maxlen=KEPT)
        self.kinds: dict[str, Callable[..., Sent]] = {
            "transfers": self.transfers,
            "retry": self.retry,
            "contradict": self.contradict,
            "again": self.again,
            "fault": self.fault,
            "register": self.register,
            "key": self.key,
            "revoke": self.revoke,
            "rotate": self.rotate,
            "open": self.open,
            "turn": self.turn,
            "class": self.klass,
            "rules": self.rules,
            "cap": self.cap,
            "clock": self.clock,
            "issue": self.issue,
        }

    def write(self, model: LedgerModel, now_s: int, plan: Plan) -> Sent:
        """Make a message of a plan."""
        self.model, self.now_s = model, now_s
        sent = self.kinds[plan[0]](*plan[1:])
        if plan[0] not in REPEATS:
            self.sent.append(sent)
        return sent

    def next(self) -> int:
        """Count one more."""
        self.serial += 1
        return self.serial

    def say(self, who: str, pick: int, topic: str, content: Any) -> Sent:
        """Make a message of a party, signed now by one of its keys under a new idempotency key."""
        body = body_of(topic, content)
        return Sent(self.signing(who, pick), topic, content, body, f"message-{self.next()}", self.now_s)

    def signing(self, who: str, pick: int) -> str:
        """Name a key of a party: one that lives, if it has one and it is not meant to fail."""
        keys = {public_key(name): name for name in self.names(who)}
        living = [name for key, name in keys.items() if self.model.keys[key].revoked_at is None]
        names = living if living and pick < 90 else list(keys.values())
        return names[pick % len(names)] if names else who

    def names(self, who: str) -> list[str]:
        """Name all keys that a party has or had."""
        own = [who, *(f"key-{number}" for number in range(self.serial + 1))]
        return [name for name in own if getattr(self.model.keys.get(public_key(name)), "party", None) == who]

    def new_key(self, pick: int) -> str:
        """Give a public key for somebody: one that nobody has, as a rule."""
        taken = list(self.model.keys)
        return taken[pick % len(taken)] if pick >= 85 else public_key(f"key-{self.next()}")

    # --- commands -----------------------------------------------------------------------------------------------------

    def transfers(self, who: str, pick: int, form: str, plans: list[Plan]) -> Sent:
        """Make commands."""
        commands = [self.command(who, plan) for plan in plans]
        if form != "alone":
            for command in commands[:-1]:
                command["flags"] |= _LINKED
        if form.startswith("group") and len(commands) > 1:
            for command in commands[: len(commands) - (form == "group in chain")]:
                command["flags"] = command["flags"] & _LINKED | _PENDING | _GROUP
                command["minimum"], command["amount"] = 0, max(1, command["amount"])
        return self.say(who, pick, TRANSFERS, commands)

    def command(self, who: str, plan: Plan) -> Command:
        """Aim a command."""
        flags, ident, debit, credit, amount, timeout_s, aim = plan
        own = [number for number, place in self.model.places.items() if place.owner == who and place.kind in MOVABLE]
        book = self.model.places[own[debit % len(own)]].book if own else ""
        accounts = self.model.money.accounts
        if debit < 90:
            own = [number for number in own if accounts[number].available() > 0] or own
        number = own[debit % len(own)] if own and debit < 99 else debit
        others = [n for n, place in self.model.places.items() if place.book == book and place.kind in MOVABLE]
        if number in own and credit < 90:
            others = [n for n in others if n != number and accounts[n].asset == accounts[number].asset] or others
        takes_zero = flags & (_ENDS | Flag.REVERSAL | Flag.BALANCING_DEBIT) or aim == 61
        command = {name: BLANK[name] for name in ("id", *COMPARED)} | {
            "id": identifier(ident if ident in REUSED else 100 + self.next()),
            "amount": amount or (0 if takes_zero else 1),
            "flags": flags,
            "debit": number,
            "credit": others[credit % len(others)] if others and credit < 97 else credit,
            "timeout_s": timeout_s,
            "value_day": {57: 20_000, 58: 2**16 - 1, 59: 2**16}.get(aim, 0),
            "minimum": amount % 50 - 20 if flags & Flag.MIN_AVAILABLE or aim == 60 else 0,
        }
        if flags & (_ENDS | Flag.REVERSAL):
            self.aim(command, who, aim)
        return command

    def aim(self, command: Command, who: str, aim: int) -> None:
        """Let an end name a hold and a reversal a transfer, as a rule one that is there."""
        party, money = getattr(self.model.parties.get(who), "number", 0), self.model.money
        command["related"] = identifier(REUSED[aim % len(REUSED)])
        holds = [key for key in money.holds if key[0] == party]
        if command["flags"] & _ENDS and aim < 85:
            if not holds:
                command.update(related=0, flags=_PENDING, amount=max(1, command["amount"]))
                return
            key = holds[aim % len(holds)]
            command["related"] = key[1]
            if aim % 5:
                is_grouped = bool(money.holds[key].circle)
                command["flags"] = command["flags"] & ~_GROUP | _GROUP * is_grouped
                command["amount"] *= not is_grouped
        moved = [(key, move) for key, move in money.moved.items() if key[0] == party]
        mine = [(key, move) for key, move in moved if self.model.places[move[2]].owner == who] or moved
        if command["flags"] & Flag.REVERSAL and mine and aim < 90:
            (_, command["related"]), (_, debit, credit) = mine[-1 - aim % len(mine)]
            command["debit"], command["credit"] = (credit, debit) if aim % 9 else (debit, credit)
            command["amount"] = max(command["amount"], 0) % 20

    def again(self, index: int, name: str, value: int) -> Sent:
        """Use ids again, for the same or with one field changed."""
        earlier = [sent for sent in self.sent if sent.topic == TRANSFERS and not sent.fault]
        if not earlier:
            return self.transfers("ann", 0, "alone", [(0, 0, 0, 1, 1, 0, 0)])
        sent = earlier[index % len(earlier)]
        commands = [dict(command) for command in sent.content]
        if name:
            command = commands[value % len(commands)]
            command[name] = command[name] + 1 if name != "flags" else command[name] ^ _LINKED
            if command["amount"] >= 2**63:
                command["amount"] = 0
        return self.say(self.party_of(sent), 0, TRANSFERS, commands)

    def party_of(self, sent: Sent) -> str:
        """Give the party whose key signed."""
        return getattr(self.model.keys.get(public_key(sent.key)), "party", sent.key)

    # --- messages again, and with faults ------------------------------------------------------------------------------

    def retry(self, index: int, pick: int) -> Sent:
        """Sign an earlier message again, perhaps with another key of its party."""
        if not self.sent:
            return self.clock("PBOC", 0, 1)
        sent = self.sent[-1 - index % len(self.sent)]
        key = sent.key if pick % 2 else self.signing(self.party_of(sent), pick)
        return replace(sent, key=key, created_s=self.now_s)

    def contradict(self, index: int, pick: int) -> Sent:
        """Use a party's idempotency key for another body, or another party's for this one."""
        if not self.sent:
            return self.clock("PBOC", 0, 1)
        sent = self.sent[-1 - index % len(self.sent)]
        who = self.party_of(sent) if pick % 4 else "ben"
        other = self.transfers(who, pick % 90, "alone", [(0, 99, index, pick, 1 + pick, 0, 0)])
        return replace(other, idempotency_key=sent.idempotency_key)

    def fault(self, who: str, pick: int, fault: str) -> Sent:
        """Send what is refused at the door."""
        flags = int(Flag.BOUND if pick % 2 else Flag.EXPIRE) if fault == "flags" else 0
        sent = self.transfers(who, pick % 90, "alone", [(flags, 99, pick, pick, 1, 0, 0)])
        if fault in ("stale", "future"):
            return replace(sent, created_s=self.now_s + (-91 if fault == "stale" else 31))
        if fault == "unknown":
            return replace(sent, key=f"stranger-{pick}")
        return replace(sent, fault=fault if fault != "flags" else "")

    # --- parties, keys and accounts -----------------------------------------------------------------------------------

    def register(self, who: str, pick: int, code: str, aim: int) -> Sent:
        """Register a newcomer."""
        key = public_key(code) if aim < 70 and public_key(code) not in self.model.keys else self.new_key(aim)
        party = {"code": code, "name": code, "roles": [], "public_key": key}
        return self.say(who, pick, "/v1/parties", {"parties": [party]})

    def key(self, who: str, pick: int, party: str, aim: int) -> Sent:
        """Add a key."""
        signer = who if pick % 3 else party
        return self.say(signer, pick, "/v1/keys", {"party": party, "public_key": self.new_key(aim)})

    def revoke(self, who: str, pick: int, aim: int) -> Sent:
        """End a key; the registrar's and the issuer's last ones stay, or nothing more would happen."""
        kept = {public_key(code) for code in (REGISTRAR, "PBOC")}
        keys = [key for key in self.model.keys if key not in kept]
        named = keys[aim % len(keys)] if aim < 95 else public_key("nobody")
        return self.say(who, pick, "/v1/keys/revocations", {"key_id": key_id(named)})

    def rotate(self, who: str, pick: int, aim: int) -> Sent:
        """Replace a key."""
        return self.say(who, pick, "/v1/keys/rotations", {"public_key": self.new_key(aim)})

    def open(self, who: str, pick: int, owner: str, asset: str, klass: str | None) -> Sent:
        """Open an account, as long as there are few."""
        if len(self.model.places) >= ACCOUNTS_MAX:
            return self.clock(who, pick, 1)
        account = {"owner": owner, "asset": asset} | ({} if klass is None else {"class": klass})
        return self.say(who, pick, "/v1/accounts", {"accounts": [account]})

    def turn(self, who: str, pick: int, picks: list[int], aim: int) -> Sent:
        """Close accounts, or open closed ones again: whatever fits the first, as a rule."""
        numbers = [self.on_book(who, number) for number in picks]
        is_closed = self.model.money.accounts[numbers[0]].closed
        what = "reopenings" if is_closed == (aim < 90) else "closings"
        addresses = [address("SH", number) for number in dict.fromkeys(numbers)]
        return self.say(who, pick, f"/v1/accounts/{what}", {"accounts": addresses})

    def on_book(self, who: str, pick: int) -> int:
        """Name an account: as a rule one on a party's book, and an empty one before others."""
        if pick >= 93:
            return 1 + pick % len(self.model.places)
        own = [n for n, place in self.model.places.items() if place.book == who and place.kind in MOVABLE] or [1]
        accounts = self.model.money.accounts
        empty = [n for n in own if accounts[n].debits == accounts[n].credits]
        return own[pick % len(own)] if pick % 3 or not empty else empty[pick % len(empty)]

    def klass(self, who: str, pick: int, aim: int, klass: str | None) -> Sent:
        """Give a wallet a class."""
        own = [n for n, place in self.model.places.items() if place.book == who and place.kind == "WALLET"]
        number = own[aim % len(own)] if own and aim < 93 else self.on_book(who, aim)
        known = [name for _, name in self.model.rules.numbers]
        if klass is not None and known and pick % 5:
            klass = known[aim % len(known)]
        entry = {"account": address("SH", number), "class": klass}
        return self.say(who, pick, "/v1/accounts/classes", {"accounts": [entry]})

    # --- the ledger's own ---------------------------------------------------------------------------------------------

    def rules(self, who: str, pick: int, name: str, days: int, limits: list[dict[str, Any]]) -> Sent:
        """Bring a version of a rule set."""
        date = dt.date(1970, 1, 1) + dt.timedelta(days=self.model.money.day + days)
        classes = [
            {said: value if said == "class" or value is None else str(value) for said, value in entry.items()}
            for entry in limits
        ]
        if pick % 4:
            earlier = self.model.rules.versions.get(name, [{"classes": []}])[-1]["classes"]
            classes += [entry for entry in earlier if all(entry["class"] != said["class"] for said in classes)]
        body = {"rules": name, "valid_from": date.isoformat(), "asset": "CNY", "classes": classes}
        return self.say(who, pick, "/v1/rules", body)

    def cap(self, who: str, pick: int, participant: str, maximum: int | None) -> Sent:
        """Cap what a participant may owe, or lift its cap."""
        cap = {"participant": participant, "asset": "CNY" if pick % 3 else "HKD"}
        return self.say(who, pick, "/v1/caps", {"caps": [cap | {"maximum": None if maximum is None else str(maximum)}]})

    def clock(self, who: str, pick: int, seconds: int) -> Sent:
        """Move the test clock."""
        return self.say(who, pick, "/v1/clock", {"advance_s": seconds})

    def issue(self, who: str, pick: int, plans: list[tuple[int, str, int]]) -> Sent:
        """Issue money."""
        issuances = []
        for number, participant, amount in plans:
            serial = number if number < 10 else 100 + self.next()
            name = str(uuid.UUID(int=serial, version=4))
            issuances.append({"id": name, "participant": participant, "money": {"asset": "CNY", "amount": str(amount)}})
        return self.say(who, pick, "/v1/issuances", {"issuances": issuances})


def identifier(number: int) -> int:
    """Give an id with both halves in use; what is numbered later may stand before."""
    return (number % 3) << 64 | (number + 1) * 0x9E3779B97F4A7C15 % 2**64


def beginning(scribe: Scribe, model: LedgerModel, now_s: int) -> Iterator[list[Sent]]:
    """Give groups of messages after which banks and customers have accounts and money, each when those before stand."""
    scribe.model, scribe.now_s = model, now_s
    roles = {"ALPHA": ["participant", "operator"], "BETA": ["participant", "operator"]}
    parties = [
        {"code": code, "name": code, "roles": roles.get(code, []), "public_key": public_key(code)} for code in SPEAKERS
    ]
    yield [scribe.say(REGISTRAR, 0, "/v1/parties", {"parties": parties})]
    joining = (("ALPHA", ["CNY", "HKD"]), ("BETA", ["CNY"]))
    second = [scribe.say(bank, 0, "/v1/participants", {"assets": assets}) for bank, assets in joining]
    for bank, owner, asset in WALLETS:
        second.append(scribe.say(bank, 0, "/v1/accounts", {"accounts": [{"owner": owner, "asset": asset}]}))
    yield [*second, scribe.issue("PBOC", 0, [(11, "ALPHA", 2_000), (12, "BETA", 900)])]
    limits = {"balance": None, "payment": 60, "day": 150, "year": 600}
    yield [scribe.rules(REGISTRAR, 0, "wallets", 0, [{"class": "A", **limits}])]
    yield [scribe.transfers(bank, 0, "alone", funding(model, bank)) for bank in BANKS]


def funding(model: LedgerModel, bank: str) -> list[Plan]:
    """Plan what a bank pays each wallet on its book to begin with."""
    others = [number for number, place in model.places.items() if place.book == bank and place.kind in MOVABLE]
    wallets = [place for place, number in enumerate(others) if model.places[number].kind == "WALLET"]
    return [(0, 99, 0, place, 200, 0, 0) for place in wallets]
