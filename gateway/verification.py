"""Checking exports without any node: each journal replayed, both held against each other, every window's certificate.

There are three verdicts. A pair of which one export is older than the other contradicts itself in nothing, and is not
the whole either: it is ``incomplete``, and what only the newer one has is said. So is a folder for both ledgers that
holds one. One ledger that was named on purpose is verified alone, and what takes two is said not to have been checked.

Nothing is believed but the genesis: the one whose hash the auditor names, or else the one in the export, whose hash is
reported so that the auditor can compare it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import genesis as genesis_documents
from ledger import logs
from ledger.audit import Report, verify
from ledger.errors import IntegrityFailure, MalformedInput, NotFound
from ledger.exports import FILE_NAME, ExportFile
from ledger.runtime import Runtime
from settlement import certificate
from settlement.book import Book, WindowState
from settlement.interpreter import Settlement
from settlement.reconcile import Finding, Older, Outcome, find_older, reconcile
from settlement.report import WindowReport

__all__ = ["Failure", "Verification", "find_exports", "is_for_both", "verify_exports"]

LEDGERS = ("SH", "HK")
DATABASE_HEAD = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an export was refused: where, by which code, and the first bad record."""

    subject: str
    code: str
    sentence: str
    block: int | None = None
    position: int | None = None


@dataclass(slots=True)
class Verification:
    """What came of checking one export or a pair."""

    reports: dict[str, Report] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    windows: list[WindowReport] = field(default_factory=list)
    """Those settled on either ledger, each proved by its certificate."""
    older: Older | None = None
    """Which of the two exports is older than the other, if they are of different moments."""
    is_for_both: bool = False
    """Whether both ledgers' exports were to be checked, so that one alone is not the whole."""
    trusted_hashes: frozenset[bytes] = frozenset()
    """The genesis hashes that the auditor has named; without any, those in the exports were believed."""
    failure: Failure | None = None

    @property
    def verdict(self) -> str:
        """``verified``, ``incomplete`` when one export is missing or older than the other, or ``refused``."""
        if self.failure is not None:
            return "refused"
        return "verified" if self.older is None and self.missing is None else "incomplete"

    @property
    def alone(self) -> str | None:
        """The ledger that was checked without the other, if only one was."""
        return next(iter(self.reports)) if len(self.reports) == 1 and self.failure is None else None

    @property
    def missing(self) -> str | None:
        """The ledger whose export was to be checked too, and is not there."""
        return _other(self.alone) if self.is_for_both and self.alone is not None else None

    @property
    def not_checked(self) -> list[str]:
        """What was not checked, in words; nothing of a pair that is whole."""
        if self.failure is not None:
            return ["whatever follows the failure"]
        if self.older is not None:
            return [f"against {self.older.ledger}, what {self.older.newer} has journaled since"]
        if self.alone is None:
            return []
        return [
            f"the journal of {_other(self.alone)}",
            "both ledgers together: I11, I12, I14",
            "the certificates of the windows",
        ]

    @property
    def is_good(self) -> bool:
        """Whether everything that was checked holds, and nothing is missing."""
        return self.verdict == "verified"

    def to_builtins(self) -> dict[str, Any]:
        """Give the result for programs; amounts and positions are exact."""
        failure = self.failure
        return {
            "verdict": self.verdict,
            "not_checked": self.not_checked,
            "missing": self.missing,
            "ledgers": {
                ledger: {"genesis_trusted": report.genesis_hash in self.trusted_hashes, **_ledger(report)}
                for ledger, report in self.reports.items()
            },
            "findings": [
                {
                    "invariant": finding.invariant,
                    "subject": finding.subject,
                    "outcome": finding.outcome.value,
                    "sentence": finding.sentence,
                    "amounts": {name: str(amount) for name, amount in finding.amounts.items()},
                }
                for finding in self.findings
            ],
            "windows": [_window(report) for report in self.windows],
            "older": None if self.older is None else _older(self.older),
            "failure": None
            if failure is None
            else {
                "subject": failure.subject,
                "code": failure.code,
                "sentence": failure.sentence,
                "block": failure.block,
                "position": failure.position,
            },
        }


def find_exports(target: Path) -> list[Path]:
    """Give the exports of a folder as ``hugang export`` writes it, of one ledger's folder, or the one file named.

    Raises:
        NotFound: there is none.
    """
    if target.is_file():
        with target.open("rb") as file:
            if file.read(len(DATABASE_HEAD)) == DATABASE_HEAD:
                sentence = "This is a node's database; hugang export writes what can be verified."
                raise NotFound("EXPORT_NOT_FOUND", sentence, file=str(target))
        return [target]
    places = [target / FILE_NAME, *_pair_places(target)]
    found = [place for place in places if place.is_file()]
    if not found:
        near = sorted(place.parent.parent for place in target.glob(f"*/*/{FILE_NAME}") if place.is_file())
        hint = f"{near[0]} looks like one" if near else "hugang export writes one"
        raise NotFound("EXPORT_NOT_FOUND", f"No export lies there; {hint}.", folder=str(target), file=FILE_NAME)
    return found


def is_for_both(target: Path) -> bool:
    """Whether a folder is one in which both ledgers' exports belong; one ledger's folder or file is asked for alone."""
    return target.is_dir() and not (target / FILE_NAME).is_file()


def _pair_places(target: Path) -> list[Path]:
    """Name the files of both ledgers in a folder as ``hugang export`` writes it."""
    return [target / ledger.lower() / FILE_NAME for ledger in LEDGERS]


def verify_exports(
    exports: list[Path],
    *,
    is_for_both: bool = False,
    trusted_hashes: frozenset[bytes] = frozenset(),
    checkpoints: Sequence[bytes] = (),
    runtime: Runtime,
    progress: Callable[[Path, int], None] = lambda _path, _height: None,
) -> Verification:
    """Check exports; two of them are also reconciled.

    Args:
        exports: one journal, or those of both ledgers.
        is_for_both: whether one journal alone is not the whole.
        trusted_hashes: SHA-256 of the genesis documents that the auditor trusts; empty believes those in the exports.
        checkpoints: notes that the auditor has kept; the journal of each one's ledger must contain it.
        runtime: for measuring and the id tables' keys.
        progress: told each height that has been checked.

    Raises:
        NotFound: ``CHECKPOINT_OF_NONE``, a checkpoint is of none of these journals.
        MalformedInput: a checkpoint is none.
        Unauthenticated: a checkpoint's signature does not hold.
    """
    result = Verification(is_for_both=is_for_both, trusted_hashes=trusted_hashes)
    books = {}
    documents = []
    _check_owned(exports, checkpoints)
    for path in exports:
        settlement: list[Settlement] = []
        subject = f"{path.parent.name}/{path.name}".lstrip("/")
        try:
            report = _verify_one(
                path,
                settlement,
                trusted_hashes=trusted_hashes,
                checkpoints=checkpoints,
                runtime=runtime,
                progress=functools.partial(progress, path),
            )
        except IntegrityFailure as error:
            result.failure = Failure(subject, error.code, error.sentence, error.block, error.position)
            return result
        result.reports[report.ledger] = report
        books[report.ledger] = (report.machine, settlement[0].book)
        documents.append(report.machine.genesis)
    if len(documents) > 1:
        try:
            for pair in itertools.combinations(documents, 2):
                genesis_documents.check_pair(*pair)
        except IntegrityFailure as error:
            result.failure = Failure("genesis", error.code, error.sentence)
            return result
        result.findings, result.older = reconcile(books), find_older(books)
        broken = next((finding for finding in result.findings if finding.outcome is Outcome.BROKEN), None)
        if broken is not None:
            result.failure = Failure(f"{broken.invariant} {broken.subject}", "RECONCILIATION", broken.sentence)
            return result
        _check_certificates(result, books)
    return result


def _verify_one(
    path: Path,
    settlement: list[Settlement],
    *,
    trusted_hashes: frozenset[bytes],
    checkpoints: Sequence[bytes],
    runtime: Runtime,
    progress: Callable[[int], None],
) -> Report:
    """Replay one journal; its interpreter is left in ``settlement``."""
    with ExportFile(path) as export:
        document = export.genesis()
        own_hash = hashlib.sha256(document).digest()
        trusted = own_hash if own_hash in trusted_hashes else min(trusted_hashes, default=None)

        def interpreter() -> Settlement:
            settlement.append(Settlement(genesis_documents.decode(document)))
            return settlement[-1]

        return verify(
            export,
            interpreter_factory=interpreter,
            trusted_genesis_hash=trusted,
            checkpoints=[note for note in checkpoints if _is_of(note, document)],
            progress=progress,
            runtime=runtime,
        )


def _check_owned(exports: list[Path], checkpoints: Sequence[bytes]) -> None:
    """Refuse a checkpoint that no journal here would be held to."""
    documents = []
    for path in exports if checkpoints else ():
        with ExportFile(path) as export:
            documents.append(export.genesis())
    if any(not any(_is_of(note, document) for document in documents) for note in checkpoints):
        raise NotFound("CHECKPOINT_OF_NONE", "A checkpoint is of none of these journals.")


def _is_of(note: bytes, document: bytes) -> bool:
    """Whether a note's first line names the log of a genesis; whether it is a checkpoint is the verifier's to say."""
    try:
        genesis = genesis_documents.decode(document)
    except MalformedInput:
        return True
    return note.partition(b"\n")[0] == logs.origin(genesis.network, genesis.ledger).encode()


def _check_certificates(result: Verification, books: dict[str, Any]) -> None:
    """Build every settled window's certificate from one journal and prove it from the two genesis blocks (I6, I13).

    The journal is the one that has settled more: what both have settled, they have settled by the same statements.
    """
    machines = [machine for machine, _ in books.values()]
    pair = (machines[0].genesis, machines[1].genesis)
    book, settled = max(((book, _settled(book)) for _, book in books.values()), key=lambda entry: len(entry[1]))
    try:
        built = [certificate.build(book.windows[number].statements) for number in settled]
        result.windows = [proved.report for proved in certificate.verify_chain(built, pair)]
    except IntegrityFailure as error:
        result.failure = Failure("certificate", error.code, error.sentence)


def _settled(book: Book) -> list[int]:
    """Give the windows that a ledger has settled, in order."""
    return sorted(number for number, window in book.windows.items() if window.state is WindowState.SETTLED)


def _other(ledger: str) -> str:
    return next(other for other in LEDGERS if other != ledger)


def _older(older: Older) -> dict[str, Any]:
    return {
        "ledger": older.ledger,
        "newer": older.newer,
        "is_signed": older.is_signed,
        "reached": {
            ledger: {"window": reach.window, "state": reach.state, "attempt": reach.attempt}
            for ledger, reach in sorted(older.reached.items())
        },
    }


def _ledger(report: Report) -> dict[str, Any]:
    return {
        "network": report.network,
        "genesis_hash": report.genesis_hash.hex(),
        "blocks": report.block_count,
        "messages": report.message_count,
        "records": report.record_count,
        "refused": report.refused_count,
        "expired": report.expired_count,
        "tree_size": report.tree_size,
        "tree_root": report.tree_root.hex(),
        "last_hash": report.last_hash.hex(),
        "seconds": {stage: round(spent_ns / 1e9, 3) for stage, spent_ns in report.stages_ns.items()},
    }


def _window(report: WindowReport) -> dict[str, Any]:
    return {
        "window": report.window,
        "attempt": report.attempt,
        "settled": report.settled,
        "carried_out": report.carried_out,
        "assets": {
            asset: {"gross": str(totals.gross), "net": str(totals.net), "saved_bp": totals.saving_bp}
            for asset, totals in report.assets.items()
        },
        "net_sums": _net_sums(report),
    }


def _net_sums(report: WindowReport) -> dict[str, str]:
    """Give the sum of all net positions by asset, over both ledgers: zero each (I6)."""
    sums: dict[str, int] = dict.fromkeys(report.assets, 0)
    for net in report.nets:
        sums[net.asset] = sums.get(net.asset, 0) + net.amount
    return {asset: str(total) for asset, total in sums.items()}
