"""Both ledgers against each other, from two replays: what must agree, and what is still on its way.

Between the last voter's decision and its arrival at the first voter one window is settled on one ledger and voted on
the other. That is the only difference there may be, in the last closed window only, and it is reported as what it is.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ledger.genesis import check_pair
from ledger.machine import Machine
from settlement.applied import book_faults
from settlement.book import Book, Window, WindowState
from settlement.chart import AccountCode
from settlement.statements import LEDGERS, DecisionBody, ProposalBody, body_of, statement_key, voters

__all__ = ["Finding", "Outcome", "is_sound", "reconcile"]


class Outcome(enum.StrEnum):
    """How one check came out."""

    OK = "ok"
    IN_FLIGHT = "in flight"
    """Settled on one ledger, voted on the other: it will agree when the decision has arrived."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the reconciliation: which invariant, of what, how it came out, and a sentence."""

    invariant: str
    subject: str
    outcome: Outcome
    sentence: str


Side = tuple[Machine, Book]


def is_sound(findings: list[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.outcome is not Outcome.BROKEN for finding in findings)


def reconcile(sides: Mapping[str, Side]) -> list[Finding]:
    """Check I11 on each ledger, I12 for each asset, I14 and the statements of each window.

    Args:
        sides: by ledger code, a machine that has replayed that journal and the book of its interpreter.

    Raises:
        IntegrityFailure: ``GENESIS_PAIR``, the journals are not of one network.
    """
    check_pair(*(sides[ledger][0].genesis for ledger in LEDGERS))
    findings = [finding for ledger in LEDGERS for finding in _check_books(*sides[ledger])]
    books = {ledger: sides[ledger][1] for ledger in LEDGERS}
    last = max(book.current for book in books.values()) - 1
    findings.extend(_check_window(books, number, is_last=number == last) for number in range(1, last + 1))
    findings.extend(_check_borders(sides, last))
    return findings


def _check_books(machine: Machine, book: Book) -> Iterator[Finding]:
    faults = book_faults(book, machine.state)
    for fault in faults:
        yield Finding("I11", book.ledger, Outcome.BROKEN, fault)
    if not faults:
        sentence = "clearing and netting accounts are at zero, funds equal settlement accounts"
        yield Finding("I11", book.ledger, Outcome.OK, sentence)


# --- I14 --------------------------------------------------------------------------------------------------------------


def _check_window(books: Mapping[str, Book], number: int, *, is_last: bool) -> Finding:
    """Compare one window on both ledgers."""
    subject = f"window {number}"
    windows = {at: books[at].windows.get(number) for at in LEDGERS}
    sides = {at: window for at, window in windows.items() if window is not None}
    for name in sorted(set.intersection(*({*window.statements} for window in sides.values()))):
        if len({_stored(window, name) for window in sides.values()}) > 1:
            return Finding("I14", subject, Outcome.BROKEN, f"the ledgers hold different statements {name}")
    settled = [at for at, window in sides.items() if window.state is WindowState.SETTLED]
    if len(settled) == len(LEDGERS):
        return _check_settled(sides, subject)
    if not is_last:
        return Finding("I14", subject, Outcome.BROKEN, "a later window was closed before this one was settled on both")
    if not settled:
        return Finding("I14", subject, Outcome.IN_FLIGHT, "the window is closed and not decided")
    if settled != [voters(number)[1]] or len(sides) < len(LEDGERS):
        return Finding("I14", subject, Outcome.BROKEN, f"{settled[0]} has settled what it could not decide")
    (waiting,) = set(LEDGERS) - set(settled)
    if sides[waiting].state is not WindowState.VOTED or sides[waiting].attempt != sides[settled[0]].attempt:
        return Finding("I14", subject, Outcome.BROKEN, f"{settled[0]} has settled what {waiting} has not voted for")
    sentence = f"{settled[0]} has decided, {waiting} has voted and has not heard of it"
    return Finding("I14", subject, Outcome.IN_FLIGHT, sentence)


def _check_settled(sides: Mapping[str, Window], subject: str) -> Finding:
    first, second = (sides[at] for at in LEDGERS)
    if {*first.statements} != {*second.statements} or first.attempt != second.attempt:
        return Finding("I14", subject, Outcome.BROKEN, "one ledger holds a statement that the other does not")
    key = statement_key("decision", voters(first.number)[1], first.attempt)
    if not body_of(first.statements[key], DecisionBody).commit:
        return Finding("I14", subject, Outcome.BROKEN, "the window is settled by an abort")
    return Finding("I14", subject, Outcome.OK, "settled on both ledgers by the same statements")


def _stored(window: Window, name: str) -> tuple[bytes, bytes, bytes]:
    message = window.statements[name]
    return message.base, message.signature, message.body


# --- I12 --------------------------------------------------------------------------------------------------------------


def _check_borders(sides: Mapping[str, Side], last: int) -> Iterator[Finding]:
    """Compare OMNIBUS and MIRROR of each asset, allowing for a window that one side has not applied yet."""
    books = {ledger: book for ledger, (_, book) in sides.items()}
    for asset in books[LEDGERS[0]].genesis.assets:
        if asset.kind != "money":
            continue
        balances = {at: _border(sides[at], asset.code) for at in LEDGERS}
        home, abroad = asset.home, next(at for at in LEDGERS if at != asset.home)
        on_its_way = sum(_unapplied(books, at, last, asset.code) for at in LEDGERS)
        omnibus, mirror = balances[home], balances[abroad]
        if omnibus - mirror != on_its_way:
            sentence = f"OMNIBUS is {omnibus}, MIRROR {mirror}"
            yield Finding("I12", asset.code, Outcome.BROKEN, sentence)
        elif on_its_way:
            sentence = f"OMNIBUS is {omnibus}, MIRROR {mirror}; the difference is window {last}, on its way"
            yield Finding("I12", asset.code, Outcome.IN_FLIGHT, sentence)
        else:
            yield Finding("I12", asset.code, Outcome.OK, f"OMNIBUS and MIRROR are both {omnibus}")


def _border(side: Side, asset: str) -> int:
    machine, book = side
    number = book.genesis.asset(asset).number
    account = book.institution.get((AccountCode.OMNIBUS, number)) or book.institution[AccountCode.MIRROR, number]
    return machine.state.balance(account)


def _unapplied(books: Mapping[str, Book], ledger: str, last: int, asset: str) -> int:
    """Give by how much OMNIBUS is ahead of MIRROR because ``ledger`` has not applied the last window and the other has.

    What reaches the ledger abroad raises OMNIBUS at home and MIRROR abroad by the sum of its net positions there.
    """
    window = books[ledger].windows.get(last)
    other = next(book for at, book in books.items() if at != ledger).windows.get(last)
    if window is None or other is None or other.state is not WindowState.SETTLED:
        return 0
    if window.state is WindowState.SETTLED:
        return 0
    key = statement_key("proposal", attempt=other.attempt)
    nets = body_of(other.statements[key], ProposalBody).nets
    home = books[ledger].genesis.asset(asset).home
    crossed = sum(net.amount for net in nets if net.asset == asset and net.ledger != home)
    return crossed if ledger != home else -crossed
