"""From errors to what a client reads: RFC 9457 problems, all from the one table in ``problem_table.py``.

A problem's body has the members of RFC 9457 (``type``, ``title``, ``status``, ``detail``) and these::

    code         stable, UPPER_SNAKE; programs decide by it, never by a sentence
    request_id   names this one request in the node's log
    iso_reason   ISO 20022 ExternalStatusReason1Code, where a payment's status report would carry one
    fields       what the sentence is about, by name; absent when there is nothing to name

``title`` and ``detail`` are fixed by the code: what happened, and what to do. The text of an exception never leaves the
process. An expected error whose code is not in the table is answered by its class.

``python -m gateway.problems`` writes ``docs/errors.md`` anew.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gateway.problem_table import BY_CLASS, REFUSALS, ROWS, STATUSES, Row
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError
from ledger.transfers import Result

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "errors_page",
    "problem",
    "problem_of",
    "problem_page",
    "refusal_of",
    "row",
    "row_of",
]

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"
PAGE = Path("docs", "errors.md")

_BY_CODE = {entry.code: entry for entry in (*REFUSALS.values(), *ROWS.values())}


@dataclass(frozen=True, slots=True)
class Problem:
    """What goes out: a status, further headers, and the members of the body."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Give the body as JSON."""
        return msgspec.json.encode(self.body)


def row(code: str) -> Row | None:
    """Give the table's row of a code, if it has one."""
    return _BY_CODE.get(code)


def row_of(error: LedgerError) -> Row:
    """Give the row of an error: by its code, else by its class with the error's own code.

    The status is always one of the class; where several classes raise one code, the row's counts for one of them.
    """
    kind = next((kind for kind in type(error).__mro__ if kind in BY_CLASS), None)
    if kind is None:
        raise InvariantViolation("every class of expected errors has a row")
    known = _BY_CODE.get(error.code)
    if known is None:
        return msgspec.structs.replace(BY_CLASS[kind], code=error.code)
    return known if known.status in STATUSES[kind] else msgspec.structs.replace(known, status=BY_CLASS[kind].status)


def problem(code: str, request_id: str, fields: Mapping[str, Any] | None = None, **members: Any) -> Problem:
    """Make a problem from a code of the table; ``members`` stand beside the code in the body.

    Raises:
        InvariantViolation: the table has no such code.
    """
    known = _BY_CODE.get(code)
    if known is None:
        raise InvariantViolation(f"no problem has the code {code}")
    return _build(known, request_id, fields or {}, members)


def problem_of(error: Exception, request_id: str) -> Problem:
    """Make a problem from an exception: any that is not expected says nothing but that it happened."""
    if isinstance(error, LedgerError):
        return _build(row_of(error), request_id, error.fields, {})
    if isinstance(error, IntegrityFailure):
        return problem("INTEGRITY_FAILURE", request_id)
    return problem("INTERNAL_ERROR", request_id)


def refusal_of(result: int, request_id: str, **members: Any) -> Problem:
    """Make the 422 of something understood, journaled and refused with a result code."""
    return _build(REFUSALS[Result(result)], request_id, {}, members)


def problem_page(code: str) -> str | None:
    """Give the page behind a problem's ``type`` as plain HTML, or nothing for an unknown code."""
    known = _BY_CODE.get(code)
    if known is None:
        return None
    iso = f"<p>ISO 20022 reason: {known.iso}</p>" if known.iso else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{known.code}</title>'
        f"<h1>{known.code}</h1><p>{known.sentence}</p><p>HTTP status: {known.status}</p>{iso}"
        f"<h2>Cause</h2><p>{known.cause}</p><h2>Cure</h2><p>{known.cure}</p></html>"
    )


def errors_page() -> str:
    """Give the whole of ``docs/errors.md``."""
    head = (
        "# Errors\n\n"
        "Every problem that a node or the settlement operator answers with. This page is generated from "
        "`gateway/problems.json`;\n`python -m gateway.problems` writes it anew.\n\n"
        "A problem is `application/problem+json` (RFC 9457) with a stable `code`, a `request_id`, and an `iso_reason` "
        "where an ISO 20022\nstatus report would carry one. Decide by `code`. A code that is not listed here is "
        "answered by its kind, in the last table.\n"
    )
    kinds = "".join(
        f"| {kind.__name__} | {entry.status} | {entry.iso or '–'} | {entry.cause} | {entry.cure} |\n"
        for kind, entry in BY_CLASS.items()
    )
    return (
        f"{head}\n## Requests\n\nNothing was journaled, unless the row says so.\n\n{_table(tuple(ROWS.values()))}"
        "\n## Refused payments\n\nThe message was journaled, the payment was refused, and no money moved. The answer "
        "is a 422 that carries the payment's\n`uetr`; reading the payment gives the same reason again.\n\n"
        f"{_table(tuple(REFUSALS.values()))}"
        f"\n## By kind\n\n| kind | status | ISO | cause | cure |\n|---|---|---|---|---|\n{kinds}"
    )


def _table(rows: tuple[Row, ...]) -> str:
    lines = "".join(
        f"| `{entry.code}` | {entry.status} | {entry.iso or '–'} | {entry.sentence} | {entry.cause} | {entry.cure} |\n"
        for entry in sorted(rows, key=lambda entry: entry.code)
    )
    return f"| code | status | ISO | sentence | cause | cure |\n|---|---|---|---|---|---|\n{lines}"


def _build(known: Row, request_id: str, fields: Mapping[str, Any], members: Mapping[str, Any]) -> Problem:
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + known.code,
        "title": known.sentence,
        "status": known.status,
        "detail": known.cure,
        "code": known.code,
        "request_id": request_id,
    }
    if known.iso:
        body["iso_reason"] = known.iso
    if fields:
        body["fields"] = dict(fields)
    body.update(members)
    headers: dict[str, str] = {}
    if known.status == 503:
        headers["retry-after"] = str(fields.get("retry_after_s", 1))
    elif known.status == 401:
        headers["www-authenticate"] = 'Signature realm="hugang"'
    return Problem(known.status, body, headers)


if __name__ == "__main__":
    PAGE.write_text(errors_page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
