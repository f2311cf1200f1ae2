"""A whole ledger in plain dictionaries: who may say what, what it does and at which position, written from the docs.

What a command does is ``model.Model``'s. Here stand messages (docs/api.md, docs/errors.md), keys by position, limits
under dated rules (docs/limits.md), blocks and their times (docs/architecture.md). Nothing here looks into the ledger.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ledger.transfers import NO_MESSAGE, Flag, Result
from tests.property import ledger_rules as rules
from tests.property.ledger_words import BLANK, LIFETIME_S, TRANSFERS, Sent, key_id, public_key
from tests.property.model import Account, Command, Key, Model

SECOND = 10**9
OK = ""

# docs/architecture.md, the chart of accounts: normal side, and whether there is a minimum of zero.
CHART = {
    "ISSUE": (False, False),
    "SETTLE": (True, True),
    "OMNIBUS": (True, True),
    "MIRROR": (False, True),
    "NETTING": (True, False),
    "FUNDS": (False, True),
    "CLEARING": (True, False),
    "POSITION": (True, True),
    "FEES": (True, True),
    "SUSPENSE": (True, True),
    "WALLET": (True, True),
}
ASSETS = {"CNY": 1, "HKD": 2}
COMPARED = ("related", "amount", "minimum", "debit", "credit", "timeout_s", "flags", "value_day")
"""docs/api.md: by what commands in columns are compared, in this order; ``related`` by its two halves."""


@dataclass
class Party:
    """A party: its number, its roles, whether the genesis names it, and whether its first key lasts for ever."""

    number: int
    roles: frozenset[str]
    is_founder: bool = False
    lasting: str = ""


@dataclass
class KeyEntry:
    """A key: whose it is, and the position from which it no longer counts."""

    party: str
    revoked_at: int | None = None


@dataclass
class Place:
    """What an account is: who may debit it, whose book it stands on (``""``: the institution's), and its kind."""

    owner: str
    book: str
    kind: str


@dataclass
class Block:
    """What a block must have: time, first position, messages (as places in their group), and records."""

    timestamp_ns: int
    first_position: int
    expired_count: int
    messages: list[int]
    positions: list[int]
    """Of the messages."""
    records: list[Command]


@dataclass(frozen=True)
class Answered:
    """The place of a message: the first answer, and every retry's."""

    position: int
    count: int
    height: int


Outcome = Answered | str
"""An answer, or the code of a refusal that is not journaled."""


@dataclass
class LedgerModel:
    """One ledger. ``asked`` has what each id was first used for: message, record, and the command or ``None``."""

    created_ns: int
    money: Model = field(default_factory=Model)
    parties: dict[str, Party] = field(default_factory=dict)
    keys: dict[str, KeyEntry] = field(default_factory=dict)
    """By the public key in hex."""
    places: dict[int, Place] = field(default_factory=dict)
    participants: dict[str, set[str]] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[tuple[str, bytes], Answered]] = field(default_factory=dict)
    asked: dict[Key, tuple[int, int, Command | None]] = field(default_factory=dict)
    rules: rules.Rules = field(default_factory=rules.Rules)
    blocks: list[Block] = field(default_factory=list)
    """Made, and not compared yet."""
    height: int = 0
    position: int = 0
    timestamp_ns: int = 0
    offset_ns: int = 0
    durable: LedgerModel | None = None
    """What stood before an attempt that began a day and became no block."""
    moves_money: bool = False
    """Whether anything changed the money since somebody last looked."""

    def __post_init__(self) -> None:
        """Have the parties and accounts of the genesis."""
        self.timestamp_ns = self.created_ns
        self.money.day = day_of(self.created_ns)
        self.money.year = year_of(self.money.day)
        self.money.year_of[self.money.day] = self.money.year
        founders = ("NODE-SH", "node"), ("NODE-HK", "node"), ("SETTLEMENT", "settlement"), ("AUDITOR", "auditor")
        for code, role in (*founders, ("REGISTRAR-SH", "registrar"), ("PBOC", "issuer")):
            self.register(code, [role], public_key(code), is_founder=True)
            if role in ("node", "settlement"):
                self.parties[code].lasting = public_key(code)
        for kind, owner, asset in (
            ("ISSUE", "PBOC", "CNY"),
            ("NETTING", "NODE-SH", "CNY"),
            ("OMNIBUS", "NODE-SH", "CNY"),
            ("MIRROR", "NODE-SH", "HKD"),
            ("NETTING", "NODE-SH", "HKD"),
        ):
            self.open(kind, owner, asset, book="PBOC" if kind == "ISSUE" else "")
        self.open("CLEARING", "PBOC", "CNY", book="PBOC")
        self.participants["PBOC"] = set()

    # --- what exists --------------------------------------------------------------------------------------------------

    def register(self, code: str, roles: list[str], key: str, *, is_founder: bool = False) -> None:
        """Have a party with its first key."""
        self.parties[code] = Party(len(self.parties) + 1, frozenset(roles), is_founder)
        self.keys[key] = KeyEntry(code)

    def add_key(self, key: str, party: str) -> None:
        """Give a party one more key."""
        self.keys[key] = KeyEntry(party)

    def key_named(self, identifier: str) -> str:
        """Give the registered key with an id, nothing if there is none."""
        return next((key for key in self.keys if key_id(key) == identifier), "")

    def open(self, kind: str, owner: str, asset: str, *, book: str, klass: int = 0) -> None:
        """Open an account, by the chart."""
        credit_normal, limited = CHART[kind]
        number = len(self.places) + 1
        self.places[number] = Place(owner, book, kind)
        self.money.accounts[number] = Account(ASSETS[asset], credit_normal, limited, minimum=0, klass=klass or None)
        self.moves_money = True

    def own(self, party: str, kind: str, asset: str) -> int:
        """Give the account of a kind on a participant's own book."""
        return next(
            number
            for number, place in self.places.items()
            if (place.owner, place.kind, self.money.accounts[number].asset) == (party, kind, ASSETS[asset])
        )

    # --- blocks -------------------------------------------------------------------------------------------------------

    def admit(self, sent: Sent, now_ns: int) -> str:
        """Give the code with which a message is refused at the door; nothing changes."""
        key = self.keys.get(public_key(sent.key))
        if sent.fault == "ledger":
            return "LEDGER_MISMATCH"
        if key is None:
            return "KEY_UNKNOWN"
        if key.revoked_at is not None:
            return "KEY_REVOKED"
        if sent.fault in ("body", "forged"):
            return "DIGEST_MISMATCH" if sent.fault == "body" else "SIGNATURE_INVALID"
        return stale(sent, now_ns) or rules.malformed(sent)

    def next_ns(self, now_ns: int) -> int:
        """Give the time of the next block: the clock's, but after the last block and on no earlier day than begun."""
        day_start = self.money.day * 86_400 * SECOND - 8 * 3_600 * SECOND
        return max(now_ns + self.offset_ns, self.timestamp_ns + 1, day_start)

    def make_block(self, group: list[tuple[int, Sent]], now_ns: int) -> list[Outcome]:
        """Expire what is due, then carry out messages in order; gives what each is answered."""
        timestamp_ns = self.next_ns(now_ns)
        real_ns = timestamp_ns - self.offset_ns
        day, before = day_of(timestamp_ns), None
        if day > self.money.day:
            before = copy.deepcopy(self)
            self.begin_day(day)
        first = self.position
        records = self.expire(timestamp_ns)
        expired_count = len(records)
        taken: dict[int, int] = {}
        outcomes: list[Outcome] = []
        for place, sent in group:
            position = self.position
            outcomes.append(self.say(sent, timestamp_ns, real_ns, records))
            if self.position > position:
                taken[place] = position
        if self.position > first:
            self.height, self.timestamp_ns, self.durable = self.height + 1, timestamp_ns, None
            self.blocks.append(Block(timestamp_ns, first, expired_count, list(taken), list(taken.values()), records))
        elif self.durable is None:
            self.durable = before
        return outcomes

    def tick(self, now_ns: int) -> None:
        """Let an idle node expire what is due, in blocks of nothing else."""
        while self.money.due(self.next_ns(now_ns)):
            self.make_block([], now_ns)

    def reopened(self) -> LedgerModel:
        """Give what is there after a new start: a day that began without a block has not begun."""
        return self.durable or self

    def begin_day(self, day: int) -> None:
        """Begin a business day: meters start again, and rules of this day come into force."""
        self.money.begin_day(day, year_of(day))
        self.rules.begin(self.money)
        self.moves_money = True

    def expire(self, timestamp_ns: int) -> list[Command]:
        """Expire what is due."""
        commands = []
        for (party, identifier), is_grouped in self.money.due(timestamp_ns):
            flags = int(Flag.EXPIRE | Flag.GROUP if is_grouped else Flag.EXPIRE)
            commands.append(BLANK | {"related": identifier, "party": party, "flags": flags, "message": NO_MESSAGE})
        return self.post(commands, timestamp_ns)

    def post(self, commands: list[Command], timestamp_ns: int) -> list[Command]:
        """Give commands positions and carry them out."""
        records = self.money.post(commands, now=timestamp_ns, first=self.position)
        self.position += len(records)
        self.moves_money |= any(record["result"] == Result.OK for record in records)
        return records

    # --- messages -----------------------------------------------------------------------------------------------------

    def say(self, sent: Sent, timestamp_ns: int, real_ns: int, records: list[Command]) -> Outcome:
        """Take a message in its turn: a retry's first answer, a refusal, or its records behind those before."""
        key = self.keys[public_key(sent.key)]
        name = key.party, sent.idempotency_key
        if name in self.answers:
            identity, answered = self.answers[name]
            return answered if identity == (sent.topic, sent.body) else "IDEMPOTENCY_CONFLICT"
        if key.revoked_at is not None:
            return "KEY_REVOKED"
        code = stale(sent, real_ns) or AUTHORISE[sent.topic](self, key.party, sent)
        if code:
            return code
        position = self.position
        self.position += 1
        derived = self.post(EXECUTE[sent.topic](self, key.party, sent, position), timestamp_ns)
        for place, record in enumerate(derived, position + 1):
            command = sent.content[record["item"]] if sent.topic == TRANSFERS else None
            self.asked.setdefault((record["party"], record["id"]), (position, place, command))
        records += derived
        answered = Answered(position, len(derived), self.height + 1)
        self.answers[name] = (sent.topic, sent.body), answered
        return answered

    def difference(self, record: Command, command: Command) -> tuple[int, int, str | None]:
        """Say of a record whose id exists where it was first used, and in which field the two differ first."""
        position, place, first = self.asked[record["party"], record["id"]]
        if first is None:
            return position, place, "$"
        differing = next((name for name in COMPARED if first[name] != command[name]), None)
        if differing == "related":
            differing += "_lo" if first["related"] >> 64 == command["related"] >> 64 else "_hi"
        return position, place, differing

    def command(self, party: str, position: int, **values: Any) -> Command:
        """Give a command of a message of a party."""
        return BLANK | {"party": self.parties[party].number, "message": position} | values


def stale(sent: Sent, now_ns: int) -> str:
    """Give the code of a message whose times do not hold: clocks may differ by half a minute."""
    if sent.created_s * SECOND > now_ns + 30 * SECOND:
        return "SIGNATURE_FROM_FUTURE"
    return "SIGNATURE_STALE" if (sent.created_s + LIFETIME_S) * SECOND < now_ns - 30 * SECOND else ""


def day_of(timestamp_ns: int) -> int:
    """Give the business day: it begins at 00:00 in UTC+8."""
    return (timestamp_ns // SECOND + 8 * 3_600) // 86_400


def year_of(day: int) -> int:
    """Give the calendar year of a business day."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).year


AUTHORISE: dict[str, Callable[[LedgerModel, str, Sent], str]] = rules.AUTHORISE
EXECUTE: dict[str, Callable[[LedgerModel, str, Sent, int], list[Command]]] = rules.EXECUTE
