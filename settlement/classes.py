"""Classes of wallets under dated rules: which limits hold from which business day on, and which wallet has which class.

A rule set is a list of versions, each with everything that its classes are allowed and the business day from which it
holds. A version comes into force at the head of the first block of that day, before anything of that block is carried
out; one that holds from today on, at once. So a replay finds every day under the rules of that day. Versions may wait,
as many as there are dates, but each is journaled after those that begin before it, and names every class that they
name: a wallet's class is never without limits because somebody forgot it.

A class belongs to one rule set and one asset, and keeps its number for ever. What a wallet holds or has paid already
may lie beyond a new limit; then only what brings it nearer passes.
"""

from __future__ import annotations

import dataclasses

from ledger.accounts import parse_address
from ledger.errors import Conflict, Rejected
from ledger.machine import Admitted, Context, Machine
from ledger.meters import UNLIMITED, ClassLimits
from ledger.parties import Role
from ledger.state import State
from settlement.bodies import AccountClassesBody
from settlement.book import Book, ClassRule, RulesVersion
from settlement.chart import AccountCode
from settlement.closing import require_on_book
from settlement.opening import require_role

__all__ = [
    "RULES_COUNT_MAX",
    "VERSION_COUNT_MAX",
    "authorise_classes",
    "authorise_rules",
    "begin_day",
    "execute_classes",
    "execute_rules",
]

RULES_COUNT_MAX = 64
"""Rule sets of one ledger."""
VERSION_COUNT_MAX = 1_000
"""Versions of one rule set."""


# --- rules ------------------------------------------------------------------------------------------------------------


def authorise_rules(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a registrar bring a version of a rule set that holds from today or a later day on.

    Raises:
        Forbidden: ``ROLE_MISSING``.
        Conflict: ``RULES_ASSET``, ``RULES_ORDER``, ``RULES_INCOMPLETE``, ``CLASS_TAKEN``.
        Rejected: ``RULES_PAST``, ``RULES_FULL``.
    """
    version: RulesVersion = admitted.content
    require_role(machine.directory, admitted.party, Role.REGISTRAR)
    if version.valid_from < machine.state.business_day:
        raise Rejected("RULES_PAST", "The day from which the rules are to hold is over.", rules=version.rules)
    earlier = book.rules.get(version.rules, [])
    is_full = len(earlier) >= VERSION_COUNT_MAX or (not earlier and len(book.rules) >= RULES_COUNT_MAX)
    if is_full:
        raise Rejected("RULES_FULL", "There are as many rule sets, or versions of this one, as can be kept.")
    for rule in version.classes:
        owner, _ = book.class_owners.get(book.classes.get((version.asset, rule.name), 0), (version.rules, ""))
        if owner != version.rules:
            raise Conflict("CLASS_TAKEN", "A class belongs to another rule set.", klass=rule.name, rules=owner)
    if earlier:
        _check_follows(version, earlier[-1])


def _check_follows(version: RulesVersion, before: RulesVersion) -> None:
    """Hold a version to the one before it.

    Raises:
        Conflict: ``RULES_ASSET``, ``RULES_ORDER``, ``RULES_INCOMPLETE``.
    """
    if version.asset != before.asset:
        raise Conflict("RULES_ASSET", "A rule set is of one asset.", rules=version.rules)
    if version.valid_from < before.valid_from:
        raise Conflict("RULES_ORDER", "A version that begins later is journaled already.", rules=version.rules)
    missing = {rule.name for rule in before.classes} - {rule.name for rule in version.classes}
    if missing:
        raise Conflict("RULES_INCOMPLETE", "A version names every class of those before.", klass=min(missing))


def execute_rules(book: Book, admitted: Admitted, context: Context) -> None:
    """Keep the version and number its new classes; if it holds from today on, it is in force."""
    version = dataclasses.replace(admitted.content, position=context.position)
    book.rules.setdefault(version.rules, []).append(version)
    for rule in version.classes:
        number = book.classes.setdefault((version.asset, rule.name), len(book.classes) + 1)
        book.class_owners[number] = (version.rules, rule.name)
    _begin(book, context.state, version.rules, context.state.business_day)


def begin_day(book: Book, state: State, day: int) -> None:
    """Put in force what holds from this day on, or from a day before that had no block."""
    for rules in book.rules:
        _begin(book, state, rules, day)


def _begin(book: Book, state: State, rules: str, day: int) -> None:
    versions, begun = book.rules[rules], book.rules_begun.get(rules, 0)
    while begun < len(versions) and versions[begun].valid_from <= day:
        for rule in versions[begun].classes:
            state.set_class_limits(book.classes[versions[begun].asset, rule.name], _limits_of(rule))
        begun += 1
    book.rules_begun[rules] = begun


def _limits_of(rule: ClassRule) -> ClassLimits:
    values = (UNLIMITED if limit is None else limit for limit in (rule.balance, rule.payment, rule.day, rule.year))
    return ClassLimits(*values)


# --- wallets ----------------------------------------------------------------------------------------------------------


def authorise_classes(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let an operator change the classes of open wallets on its own book; one wrong refuses all.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``NOT_PARTICIPANT``, ``NOT_ON_BOOK``.
        NotFound: ``CLASS_NOT_FOUND``.
        Rejected: ``ACCOUNT_CLOSED``.
    """
    body: AccountClassesBody = admitted.content
    require_role(machine.directory, admitted.party, Role.OPERATOR)
    for entry in body.accounts:
        number = require_on_book(book, machine, admitted.party, entry.account, codes=(AccountCode.WALLET,))
        account = machine.state.account(number)
        if entry.klass is not None:
            book.class_in_force(account.asset, entry.klass)
        if account.is_closed:
            raise Rejected("ACCOUNT_CLOSED", "The account is closed.", account=entry.account)


def execute_classes(book: Book, admitted: Admitted, context: Context) -> None:
    """Give the wallets their classes; what their meters have counted stays."""
    body: AccountClassesBody = admitted.content
    for entry in body.accounts:
        number = parse_address(entry.account)[1]
        asset = context.state.account(number).asset
        context.state.set_class(number, 0 if entry.klass is None else book.class_in_force(asset, entry.klass))
