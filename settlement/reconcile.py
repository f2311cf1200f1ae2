"""Both ledgers against each other, from two replays: what must agree, and what is still on its way.

Between the last voter's decision and its arrival at the first voter one window is settled on one ledger and voted on
the other. That is the only difference there may be between two journals of one moment, in the last closed window only,
and it is reported as what it is.

Statements are compared by what was signed, base and body. The signatures may differ: a speaker can sign one base as
often as it likes, and each replay has checked the one that its journal holds. Of a close the body alone is compared:
where the genesis names several operators, each ledger may have heard another one first.

Exports of different moments differ by more, and yet contradict each other in nothing. ``find_older`` says which one is
the older, and by what that shows:

- a node journals what it signs before anybody else can have it. So where the other ledger holds a statement that this
  ledger's node has signed, and its own export does not, the export ends before that statement;
- a window is closed only after the one before is settled on both. So where the other ledger has closed a window, and
  this export has not even the decision of the one before, the export ends before that decision has arrived.

Then everything that both hold is checked as ever, and what the older one holds must be the beginning of what the newer
one does: its statements of a window are among the other's, and the border differs by exactly the windows that the newer
one has settled and the older one has not. Anything else is broken, as is a pair of which each is older than the other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ledger.genesis import check_pair
from ledger.machine import Machine
from settlement.applied import book_faults
from settlement.book import PEER, Book, Window, WindowState
from settlement.chart import AccountCode
from settlement.statements import LEDGERS, DecisionBody, ProposalBody, body_of, statement_key, voters

__all__ = ["Finding", "Older", "Outcome", "Reach", "find_older", "is_sound", "reconcile"]


class Outcome(enum.StrEnum):
    """How one check came out."""

    OK = "ok"
    IN_FLIGHT = "in flight"
    """Settled on one ledger, voted on the other: it will agree when the decision has arrived."""
    NOT_YET = "not yet"
    """The newer export has it; the older one ends before it."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the reconciliation: which invariant, of what, how it came out, and a sentence.

    ``amounts`` are what the sentence speaks of, by name, in minor units of the asset that is the subject.
    """

    invariant: str
    subject: str
    outcome: Outcome
    sentence: str
    amounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a ledger has come: its last closed window (0 before the first), where that stands, at which attempt."""

    window: int
    state: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Older:
    """Of two exports that are of different moments, the one that ends earlier.

    Attributes:
        ledger: whose export is the older one.
        newer: whose is the newer one.
        reached: how far each has come, by ledger.
        is_signed: whether the newer one holds what the older one's node has signed since: its journal has gone on.
    """

    ledger: str
    newer: str
    reached: Mapping[str, Reach]
    is_signed: bool


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
    older = find_older(sides)
    if len(_unheard(books)) > 1:
        sentence = "each ledger lacks what its own node has signed and the other holds"
        findings.append(Finding("I14", "both ledgers", Outcome.BROKEN, sentence))
    findings.extend(_check_window(books, number, older, is_last=number == last) for number in range(1, last + 1))
    findings.extend(_check_borders(sides, last, older))
    return findings


def _check_books(machine: Machine, book: Book) -> Iterator[Finding]:
    faults = book_faults(book, machine.state)
    for fault in faults:
        yield Finding("I11", book.ledger, Outcome.BROKEN, fault)
    if not faults:
        sentence = "clearing and netting accounts are at zero, funds equal settlement accounts"
        yield Finding("I11", book.ledger, Outcome.OK, sentence)


# --- two moments ------------------------------------------------------------------------------------------------------


def find_older(sides: Mapping[str, Side]) -> Older | None:
    """Say which side is of an earlier moment; ``None`` if both can be of one, or if they contradict each other.

    Args:
        sides: as for ``reconcile``.
    """
    books = {ledger: sides[ledger][1] for ledger in LEDGERS}
    unheard = _unheard(books)
    behind = unheard | {ledger for ledger in LEDGERS if _is_passed(books[ledger], books[PEER[ledger]])}
    if len(behind) != 1:
        return None
    (ledger,) = behind
    return Older(
        ledger=ledger,
        newer=PEER[ledger],
        reached={at: _reach(book) for at, book in books.items()},
        is_signed=bool(unheard),
    )


def _unheard(books: Mapping[str, Book]) -> set[str]:
    """Give the ledgers that lack a statement which their own node has signed and the other ledger holds."""
    return {
        ledger
        for ledger, book in books.items()
        if any(
            _speaker(name) == ledger and name not in _statements(book, number)
            for number, window in books[PEER[ledger]].windows.items()
            for name in window.statements
        )
    }


def _is_passed(book: Book, other: Book) -> bool:
    """Whether the other ledger has closed a window although this one lacks what decided the window before."""
    number = next((number for number, window in sorted(book.windows.items()) if not _is_settled(window)), 0)
    if number not in other.windows or other.current < number + 2:
        return False
    return not {*other.windows[number].statements} <= {*_statements(book, number)}


def _statements(book: Book, number: int) -> Mapping[str, object]:
    window = book.windows.get(number)
    return {} if window is None else window.statements


def _is_settled(window: Window) -> bool:
    return window.state is WindowState.SETTLED


def _speaker(name: str) -> str:
    """Give the ledger whose node makes a statement of this name; empty for the operator's."""
    return next((ledger for ledger in LEDGERS if ledger in name.split("/")[1:2]), "")


def _reach(book: Book) -> Reach:
    window = book.windows.get(book.current - 1)
    return Reach(0, WindowState.OPEN, 0) if window is None else Reach(window.number, window.state, window.attempt)


# --- I14 --------------------------------------------------------------------------------------------------------------


def _check_window(books: Mapping[str, Book], number: int, older: Older | None, *, is_last: bool) -> Finding:
    """Compare one window on both ledgers."""
    subject = f"window {number}"
    windows = {at: books[at].windows.get(number) for at in LEDGERS}
    sides = {at: window for at, window in windows.items() if window is not None}
    for name in sorted(set.intersection(*({*window.statements} for window in sides.values()))):
        if len({_said(window, name) for window in sides.values()}) > 1:
            return Finding("I14", subject, Outcome.BROKEN, f"the ledgers hold different statements {name}")
    settled = [at for at, window in sides.items() if _is_settled(window)]
    if len(settled) == len(LEDGERS):
        return _check_settled(sides, subject)
    if older is not None:
        return _check_apart(books, number, older, is_last=is_last)
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


def _check_apart(books: Mapping[str, Book], number: int, older: Older, *, is_last: bool) -> Finding:
    """Compare a window that is not settled on both, in exports of two moments."""
    subject = f"window {number}"
    old, new = books[older.ledger].windows.get(number), books[older.newer].windows.get(number)
    held, all_of_it = (_statements(books[at], number) for at in (older.ledger, older.newer))
    if new is None or (old is not None and _is_settled(old)):
        sentence = f"{older.ledger}'s export ends earlier than {older.newer}'s, and has more of this window"
        return Finding("I14", subject, Outcome.BROKEN, sentence)
    if not _is_settled(new):
        if not is_last:
            sentence = "a later window was closed before this one was settled on both"
            return Finding("I14", subject, Outcome.BROKEN, sentence)
        sentence = f"closed and not decided on {older.newer}, and {older.ledger}'s export ends before"
        return Finding("I14", subject, Outcome.NOT_YET, sentence)
    if not {*held} < {*all_of_it}:
        sentence = f"{older.ledger}'s export holds all statements and is not settled, or one that {older.newer} lacks"
        return Finding("I14", subject, Outcome.BROKEN, sentence)
    sentence = f"settled on {older.newer}; {older.ledger}'s export has {len(held)} of its {len(all_of_it)} statements"
    return Finding("I14", subject, Outcome.NOT_YET, sentence)


def _said(window: Window, name: str) -> tuple[bytes, bytes]:
    """Give what a statement says: its speaker may have signed that more than once, and any operator may close."""
    message = window.statements[name]
    return b"" if name == statement_key("close") else message.base, message.body


# --- I12 --------------------------------------------------------------------------------------------------------------


def _check_borders(sides: Mapping[str, Side], last: int, older: Older | None) -> Iterator[Finding]:
    """Compare OMNIBUS and MIRROR of each asset, allowing for windows that one side has not applied yet."""
    books = {ledger: book for ledger, (_, book) in sides.items()}
    unapplied = range(1, last + 1) if older is not None else (last,)
    for asset in books[LEDGERS[0]].genesis.assets:
        if asset.kind != "money":
            continue
        abroad = PEER[asset.home]
        amounts = {"OMNIBUS": _border(sides[asset.home], asset.code), "MIRROR": _border(sides[abroad], asset.code)}
        difference = amounts["OMNIBUS"] - amounts["MIRROR"]
        on_its_way = sum(_unapplied(books, at, number, asset.code) for at in LEDGERS for number in unapplied)
        if difference != on_its_way:
            outcome, sentence = Outcome.BROKEN, "OMNIBUS and MIRROR differ"
        elif not on_its_way:
            outcome, sentence = Outcome.OK, "OMNIBUS and MIRROR agree"
        elif older is not None:
            outcome = Outcome.NOT_YET
            sentence = f"OMNIBUS and MIRROR differ by what {older.ledger}'s export has not settled yet"
        else:
            outcome, sentence = Outcome.IN_FLIGHT, f"OMNIBUS and MIRROR differ by window {last}, on its way"
        yield Finding("I12", asset.code, outcome, sentence, amounts)


def _border(side: Side, asset: str) -> int:
    machine, book = side
    number = book.genesis.asset(asset).number
    account = book.institution.get((AccountCode.OMNIBUS, number)) or book.institution[AccountCode.MIRROR, number]
    return machine.state.balance(account)


def _unapplied(books: Mapping[str, Book], ledger: str, number: int, asset: str) -> int:
    """Give by how much OMNIBUS is ahead of MIRROR because ``ledger`` has not applied a window and the other has.

    What reaches the ledger abroad raises OMNIBUS at home and MIRROR abroad by the sum of its net positions there.
    """
    window, other = books[ledger].windows.get(number), books[PEER[ledger]].windows.get(number)
    if other is None or not _is_settled(other) or (window is not None and _is_settled(window)):
        return 0
    key = statement_key("proposal", attempt=other.attempt)
    nets = body_of(other.statements[key], ProposalBody).nets
    home = books[ledger].genesis.asset(asset).home
    crossed = sum(net.amount for net in nets if net.asset == asset and net.ledger != home)
    return crossed if ledger != home else -crossed
