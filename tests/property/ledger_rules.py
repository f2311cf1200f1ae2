"""Of each message of the modelled ledger: which documented rule refuses it first, and what it does otherwise.

An ``authorise`` gives the code of the refusal, nothing to let it pass; an ``execute`` gives the commands it derives.
The pages: docs/api.md (Writes), docs/errors.md, docs/limits.md (Rules with a date), docs/accounts.md (issuance).
"""

from __future__ import annotations

import copy
import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ledger.accounts import parse_address
from ledger.transfers import Flag
from tests.property.ledger_words import TRANSFERS, Sent, public_key
from tests.property.model import NO_LIMITS, Command, Model

__all__ = ["AUTHORISE", "EXECUTE", "Rules", "malformed"]

Ledger = Any
"""The model that is asked."""

ASSETS = {"CNY": 1, "HKD": 2}
LEGS = {"ISSUE": 9, "ISSUE_FUNDS": 10}
CODES = {"ISSUANCE": 1, "BOOK": 6}
MOVABLE = ("WALLET", "POSITION", "FEES", "SUSPENSE")
OWN_BOOK = ("SETTLE", "FUNDS", "CLEARING", "POSITION", "FEES", "SUSPENSE")
NEVER_SENT = int(Flag.EXPIRE | Flag.BOUND)
LIMITS = {"balance": "maximum", "payment": "item", "day": "day", "year": "year"}


def malformed(sent: Sent) -> str:
    """Give the code of a body that is none, of those that the tests write."""
    if sent.topic == TRANSFERS and any(command["flags"] & NEVER_SENT for command in sent.content):
        return "COLUMNS_FLAGS"
    return ""


# --- limits with a date -----------------------------------------------------------------------------------------------


@dataclass
class Rules:
    """Rule sets: their versions in order, how many of each have begun, and the number of each class."""

    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)

    def begin(self, money: Model) -> None:
        """Put in force every version whose day has come."""
        for name, versions in self.versions.items():
            while self.begun.get(name, 0) < len(versions):
                version = versions[self.begun.get(name, 0)]
                if day_in(version["valid_from"]) > money.day:
                    break
                for entry in version["classes"]:
                    limits = {own: entry[said] for said, own in LIMITS.items()}
                    given = {own: int(limit) for own, limit in limits.items() if limit is not None}
                    money.classes[self.numbers[version["asset"], entry["class"]]] = NO_LIMITS | given
                self.begun[name] = self.begun.get(name, 0) + 1

    def in_force(self, asset: str, klass: str) -> int:
        """Give the number of a class with limits in force, 0 if there is none."""
        number = self.numbers.get((asset, klass), 0)
        if not number:
            return 0
        name = self.owners[asset, klass]
        begun = self.begun.get(name, 0)
        named = [entry["class"] for entry in self.versions[name][begun - 1]["classes"]] if begun else []
        return number if klass in named else 0


def day_in(date: str) -> int:
    """Give a date in days since 1970-01-01."""
    return (dt.date.fromisoformat(date) - dt.date(1970, 1, 1)).days


def authorise_rules(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a registrar bring a version that does not begin in the past and follows the one before."""
    version = sent.content
    earlier = ledger.rules.versions.get(version["rules"], [])
    last = earlier[-1] if earlier else version
    names = [entry["class"] for entry in version["classes"]]
    taken = [
        name
        for name in names
        if ledger.rules.owners.get((version["asset"], name), version["rules"]) != version["rules"]
    ]
    broken = (
        ("ROLE_MISSING", "registrar" not in ledger.parties[who].roles),
        ("RULES_PAST", day_in(version["valid_from"]) < ledger.money.day),
        ("CLASS_TAKEN", bool(taken)),
        ("RULES_ASSET", version["asset"] != last["asset"]),
        ("RULES_ORDER", version["valid_from"] < last["valid_from"]),
        ("RULES_INCOMPLETE", not {entry["class"] for entry in last["classes"]} <= set(names)),
    )
    return first(broken)


def execute_rules(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Keep the version; if its day has come it is in force."""
    version, rules = sent.content, ledger.rules
    rules.versions.setdefault(version["rules"], []).append(copy.deepcopy(version))
    for entry in version["classes"]:
        rules.numbers.setdefault((version["asset"], entry["class"]), len(rules.numbers) + 1)
        rules.owners[version["asset"], entry["class"]] = version["rules"]
    rules.begin(ledger.money)
    ledger.moves_money = True
    return []


def authorise_classes(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let an operator give wallets on its book classes in force."""
    if "operator" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    for entry in sent.content["accounts"]:
        number = parse_address(entry["account"])[1]
        code = on_book(ledger, who, number, ("WALLET",))
        if code:
            return code
        account = ledger.money.accounts[number]
        asset = "CNY" if account.asset == ASSETS["CNY"] else "HKD"
        broken = (
            ("CLASS_NOT_FOUND", entry["class"] is not None and not ledger.rules.in_force(asset, entry["class"])),
            ("ACCOUNT_CLOSED", account.closed),
        )
        if first(broken):
            return first(broken)
    return ""


def execute_classes(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Give the wallets their classes; one that never had one needs nothing to have none."""
    for entry in sent.content["accounts"]:
        account = ledger.money.accounts[parse_address(entry["account"])[1]]
        asset = "CNY" if account.asset == ASSETS["CNY"] else "HKD"
        klass = 0 if entry["class"] is None else ledger.rules.in_force(asset, entry["class"])
        if klass or account.klass is not None:
            account.klass = klass
    ledger.moves_money = True
    return []


def authorise_caps(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a registrar cap what participants owe, in assets in which they take part."""
    if "registrar" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    for cap in sent.content["caps"]:
        broken = (
            ("PARTICIPANT_NOT_FOUND", cap["participant"] not in ledger.participants),
            ("PARTICIPANT_ASSET", cap["asset"] not in ledger.participants.get(cap["participant"], ())),
        )
        if first(broken):
            return first(broken)
    return ""


def execute_caps(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Set the maximum of the CLEARING accounts; a cap that never was needs no lifting."""
    for cap in sent.content["caps"]:
        account = ledger.money.accounts[ledger.own(cap["participant"], "CLEARING", cap["asset"])]
        if cap["maximum"] is not None:
            account.maximum = int(cap["maximum"])
        elif account.maximum is not None:
            account.maximum = NO_LIMITS["maximum"]
    ledger.moves_money = True
    return []


def authorise_clock(ledger: Ledger, who: str, _sent: Sent) -> str:
    """Let a registrar move the test clock."""
    return "" if "registrar" in ledger.parties[who].roles else "ROLE_MISSING"


def execute_clock(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Move it, from the next block on."""
    ledger.offset_ns += sent.content["advance_s"] * 10**9
    return []


# --- parties and keys -------------------------------------------------------------------------------------------------


def keeper(ledger: Ledger, who: str, owner: str) -> str:
    """Let a party look after its own keys, and a registrar after those whom it has registered."""
    broken = (
        ("ROLE_MISSING", who != owner and "registrar" not in ledger.parties[who].roles),
        ("KEYS_GUARDED", who != owner and ledger.parties[owner].is_founder),
    )
    return first(broken)


def authorise_parties(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a registrar register parties whose codes and keys are free."""
    if "registrar" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    for party in sent.content["parties"]:
        broken = (
            ("PARTY_EXISTS", party["code"] in ledger.parties),
            ("KEY_EXISTS", party["public_key"] in ledger.keys),
        )
        if first(broken):
            return first(broken)
    return ""


def execute_parties(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Register them."""
    for party in sent.content["parties"]:
        ledger.register(party["code"], party["roles"], party["public_key"])
    return []


def authorise_key(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a party, or a registrar for it, add a key that nobody has."""
    owner = sent.content["party"]
    if who != owner and "registrar" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    if owner not in ledger.parties:
        return "PARTY_NOT_FOUND"
    return keeper(ledger, who, owner) or first((("KEY_EXISTS", sent.content["public_key"] in ledger.keys),))


def execute_key(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Add it."""
    ledger.add_key(sent.content["public_key"], sent.content["party"])
    return []


def authorise_revocation(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a party, or a registrar for it, end a key that lives and may end."""
    name = ledger.key_named(sent.content["key_id"])
    if not name:
        return "KEY_NOT_FOUND"
    key = ledger.keys[name]
    broken = (
        ("KEY_REVOKED_ALREADY", key.revoked_at is not None),
        ("KEYS_GUARDED", ledger.parties[key.party].lasting == name),
    )
    return keeper(ledger, who, key.party) or first(broken)


def execute_revocation(ledger: Ledger, _who: str, sent: Sent, position: int) -> list[Command]:
    """End it, from this position on."""
    ledger.keys[ledger.key_named(sent.content["key_id"])].revoked_at = position
    return []


def authorise_rotation(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let the signing key be replaced by one that nobody has."""
    broken = (
        ("KEYS_GUARDED", ledger.parties[who].lasting == public_key(sent.key)),
        ("KEY_EXISTS", sent.content["public_key"] in ledger.keys),
    )
    return first(broken)


def execute_rotation(ledger: Ledger, who: str, sent: Sent, position: int) -> list[Command]:
    """Replace it, at one position."""
    ledger.add_key(sent.content["public_key"], who)
    ledger.keys[public_key(sent.key)].revoked_at = position
    return []


# --- accounts ---------------------------------------------------------------------------------------------------------


def on_book(ledger: Ledger, who: str, number: int, kinds: tuple[str, ...]) -> str:
    """Let a participant touch accounts of some kinds on its own book."""
    place = ledger.places.get(number)
    is_there = place is not None and place.book == who and place.kind in kinds
    return first((("NOT_PARTICIPANT", who not in ledger.participants), ("NOT_ON_BOOK", not is_there)))


def authorise_participant(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a participant open its accounts in assets where it has none."""
    taken = ledger.participants.get(who, set()) & set(sent.content["assets"])
    broken = (
        ("ROLE_MISSING", "participant" not in ledger.parties[who].roles),
        ("PARTICIPANT_EXISTS", bool(taken)),
    )
    return first(broken)


def execute_participant(ledger: Ledger, who: str, sent: Sent, _position: int) -> list[Command]:
    """Open them; the settlement accounts stand on the institution's book."""
    ledger.participants.setdefault(who, set()).update(sent.content["assets"])
    for asset in sent.content["assets"]:
        for kind in OWN_BOOK:
            ledger.open(kind, who, asset, book="" if kind == "SETTLE" else who)
    return []


def authorise_accounts(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let an operator open accounts for parties, in assets in which it takes part and classes in force."""
    if "operator" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    if who not in ledger.participants:
        return "NOT_PARTICIPANT"
    for account in sent.content["accounts"]:
        asset, klass = account["asset"], account.get("class")
        broken = (
            ("PARTICIPANT_ASSET", asset not in ledger.participants[who]),
            ("PARTY_NOT_FOUND", account["owner"] not in ledger.parties),
            ("CLASS_NOT_FOUND", klass is not None and not ledger.rules.in_force(asset, klass)),
        )
        if first(broken):
            return first(broken)
    return ""


def execute_accounts(ledger: Ledger, who: str, sent: Sent, _position: int) -> list[Command]:
    """Open them."""
    for account in sent.content["accounts"]:
        asset, klass = account["asset"], account.get("class")
        number = 0 if klass is None else ledger.rules.in_force(asset, klass)
        ledger.open("WALLET", account["owner"], asset, book=who, klass=number)
    return []


def authorise_closings(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a participant close accounts on its book that are empty and without holds."""
    for number in numbers(sent):
        if code := on_book(ledger, who, number, MOVABLE):
            return code
        account = ledger.money.accounts[number]
        broken = (
            ("ACCOUNT_CLOSED", account.closed),
            ("ACCOUNT_PENDING", bool(account.pending_debits or account.pending_credits)),
            ("ACCOUNT_NOT_EMPTY", account.debits != account.credits),
        )
        if first(broken):
            return first(broken)
    return ""


def authorise_reopenings(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a participant open closed accounts on its book again."""
    for number in numbers(sent):
        if code := on_book(ledger, who, number, MOVABLE):
            return code
        if not ledger.money.accounts[number].closed:
            return "ACCOUNT_OPEN"
    return ""


def execute_turning(ledger: Ledger, _who: str, sent: Sent, _position: int) -> list[Command]:
    """Close what is open and open what is closed."""
    for number in numbers(sent):
        account = ledger.money.accounts[number]
        account.closed = not account.closed
    ledger.moves_money = True
    return []


def numbers(sent: Sent) -> list[int]:
    """Give the accounts that a message names."""
    return [parse_address(address)[1] for address in sent.content["accounts"]]


# --- money ------------------------------------------------------------------------------------------------------------


def authorise_transfers(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let a party move money between accounts of one book of which it owns the debited one; one wrong refuses all."""
    for command in sent.content:
        if command["flags"] & (Flag.POST | Flag.VOID):
            continue
        debit, credit = ledger.places.get(command["debit"]), ledger.places.get(command["credit"])
        if debit is None or debit.owner != who or debit.kind not in MOVABLE:
            return "NOT_OWNER"
        if credit is not None and (credit.kind not in MOVABLE or credit.book != debit.book):
            return "OTHER_BOOK"
    return ""


def execute_transfers(ledger: Ledger, who: str, sent: Sent, position: int) -> list[Command]:
    """Derive exactly the commands that were sent."""
    return [
        ledger.command(who, position, item=item, code=CODES["BOOK"]) | command
        for item, command in enumerate(sent.content)
    ]


def authorise_issuances(ledger: Ledger, who: str, sent: Sent) -> str:
    """Let the issuer of an asset issue it, to participants in it."""
    if "issuer" not in ledger.parties[who].roles:
        return "ROLE_MISSING"
    for issuance in sent.content["issuances"]:
        asset = issuance["money"]["asset"]
        broken = (
            ("NOT_ISSUER", asset != "CNY"),
            ("PARTICIPANT_NOT_FOUND", issuance["participant"] not in ledger.participants),
            ("PARTICIPANT_ASSET", asset not in ledger.participants.get(issuance["participant"], ())),
        )
        if first(broken):
            return first(broken)
    return ""


def execute_issuances(ledger: Ledger, who: str, sent: Sent, position: int) -> list[Command]:
    """Derive ISSUE → SETTLE and FUNDS → POSITION of each, linked."""
    commands = []
    for item, issuance in enumerate(sent.content["issuances"]):
        own = {kind: ledger.own(issuance["participant"], kind, "CNY") for kind in OWN_BOOK}
        issue = next(number for number, place in ledger.places.items() if place.kind == "ISSUE")
        legs = (("ISSUE", issue, own["SETTLE"]), ("ISSUE_FUNDS", own["FUNDS"], own["POSITION"]))
        for leg, debit, credit in legs:
            identifier = leg_of(uuid.UUID(issuance["id"]).int, LEGS[leg])
            command = ledger.command(who, position, item=item, code=CODES["ISSUANCE"], leg=LEGS[leg], id=identifier)
            flags = int(Flag.LINKED) if leg == "ISSUE" else 0
            amount = int(issuance["money"]["amount"])
            commands.append(command | {"debit": debit, "credit": credit, "amount": amount, "flags": flags})
    return commands


def leg_of(uetr: int, leg: int) -> int:
    """Give the id of a leg: that of its payment with the six fixed bits of a UUIDv4 replaced."""
    text = f"{uetr:0128b}"
    return int(text[:48] + f"{leg >> 2:04b}" + text[52:64] + f"{leg & 3:02b}" + text[66:], 2)


def first(broken: Iterable[tuple[str, bool]]) -> str:
    """Give the first code whose rule is broken, nothing if none is."""
    return next((code for code, is_broken in broken if is_broken), "")


AUTHORISE: dict[str, Callable[[Ledger, str, Sent], str]] = {
    "/v1/parties": authorise_parties,
    "/v1/keys": authorise_key,
    "/v1/keys/revocations": authorise_revocation,
    "/v1/keys/rotations": authorise_rotation,
    "/v1/participants": authorise_participant,
    "/v1/accounts": authorise_accounts,
    "/v1/accounts/closings": authorise_closings,
    "/v1/accounts/reopenings": authorise_reopenings,
    "/v1/accounts/classes": authorise_classes,
    "/v1/rules": authorise_rules,
    "/v1/caps": authorise_caps,
    "/v1/clock": authorise_clock,
    "/v1/issuances": authorise_issuances,
    TRANSFERS: authorise_transfers,
}
EXECUTE: dict[str, Callable[[Ledger, str, Sent, int], list[Command]]] = {
    "/v1/parties": execute_parties,
    "/v1/keys": execute_key,
    "/v1/keys/revocations": execute_revocation,
    "/v1/keys/rotations": execute_rotation,
    "/v1/participants": execute_participant,
    "/v1/accounts": execute_accounts,
    "/v1/accounts/closings": execute_turning,
    "/v1/accounts/reopenings": execute_turning,
    "/v1/accounts/classes": execute_classes,
    "/v1/rules": execute_rules,
    "/v1/caps": execute_caps,
    "/v1/clock": execute_clock,
    "/v1/issuances": execute_issuances,
    TRANSFERS: execute_transfers,
}
