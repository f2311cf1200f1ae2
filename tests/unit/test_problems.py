"""One table of problems: complete, consistent with the classes of errors, silent about what clients need not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway.problem_table import BY_CLASS, REFUSALS, ROWS, STATUSES
from gateway.problems import PAGE, errors_page, problem, problem_of, problem_page, refusal_of, row, row_of
from ledger import errors
from ledger.errors import IntegrityFailure, InvariantViolation, LedgerError, NotFound, Rejected, Unavailable
from ledger.transfers import Result
from settlement.views import ISO_REASON

ROOT = Path(__file__).resolve().parents[2]
NO_SERVER = ("cli", "demo", "supervisor.py", "names.py", "verification.py")
"""Parts of the gateway that run in a person's terminal: their errors never become an answer."""
KINDS: dict[str, type[LedgerError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, LedgerError) and kind is not LedgerError
}


def raised_codes() -> list[tuple[str, str, str]]:
    """Give (code, class, file) of every expected error that the code of a server can raise."""
    found = []
    for package in ("ledger", "settlement", "gateway"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if package == "gateway" and path.relative_to(ROOT / package).parts[0] in NO_SERVER:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                is_error = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS
                if is_error and node.args and isinstance(node.args[0], ast.Constant):
                    found.append((node.args[0].value, node.func.id, path.name))
    return found


def test_every_code_is_in_the_table() -> None:
    """Each code that a server raises has its own row, so that no client reads a general sentence."""
    raised = raised_codes()
    assert len(raised) > 100
    assert sorted({f"{code} ({file})" for code, _, file in raised if code not in ROWS}) == []


def test_statuses_follow_the_classes() -> None:
    """Whatever the table says of a code, its status is one of its class, so that a client can tell who must act."""
    for code, name, _ in raised_codes():
        kind = KINDS[name]
        entry = row_of(kind(code, "inner text"))
        assert entry.status in STATUSES[kind], code
        assert entry.code == code


def test_a_status_names_one_class() -> None:
    """No two classes share a status, so that a class can be made again on the other side of a connection."""
    statuses = [status for permitted in STATUSES.values() for status in permitted]
    assert len(statuses) == len(set(statuses))
    assert set(STATUSES) == set(KINDS.values())
    assert all(BY_CLASS[kind].status in permitted for kind, permitted in STATUSES.items())


def test_every_result_has_a_refusal() -> None:
    """Each result but OK reads as a 422 with settlement's own ISO reason."""
    assert set(REFUSALS) == set(Result) - {Result.OK}
    assert all(refusal.status == 422 for refusal in REFUSALS.values())
    assert {result: refusal.iso for result, refusal in REFUSALS.items()} == {
        result: reason for result, reason in ISO_REASON.items() if result is not Result.OK
    }


def test_codes_are_stable_names() -> None:
    """Each code is UPPER_SNAKE, and each ISO reason has four capitals or digits."""
    rows = [*ROWS.values(), *REFUSALS.values()]
    assert all(re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", entry.code) for entry in rows)
    assert all(re.fullmatch(r"([A-Z0-9]{4})?", entry.iso) for entry in rows)


@pytest.mark.parametrize("kind", list(KINDS.values()))
def test_an_unknown_code_is_answered_by_its_class(kind: type[LedgerError]) -> None:
    """An error whose code is not in the table keeps its code and gets the sentence and status of its class."""
    entry = row_of(kind("NEVER_HEARD_OF", "inner text"))
    assert (entry.code, entry.status, entry.sentence) == (
        "NEVER_HEARD_OF",
        BY_CLASS[kind].status,
        BY_CLASS[kind].sentence,
    )


def test_a_problem_has_the_members_of_the_standard() -> None:
    """A problem names type, title, status, detail, code and request, and the fields of its error."""
    made = problem_of(NotFound("WINDOW_NOT_FOUND", "inner text", window=9), "r1")
    assert made.status == 404
    assert made.body == {
        "type": "/problems/WINDOW_NOT_FOUND",
        "title": ROWS["WINDOW_NOT_FOUND"].sentence,
        "status": 404,
        "detail": ROWS["WINDOW_NOT_FOUND"].cure,
        "code": "WINDOW_NOT_FOUND",
        "request_id": "r1",
        "fields": {"window": 9},
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntegrityFailure("BLOCK_HASH", "secret detail", block=7), "INTEGRITY_FAILURE"),
        (InvariantViolation("secret detail"), "INTERNAL_ERROR"),
        (ValueError("secret detail"), "INTERNAL_ERROR"),
    ],
)
def test_what_nobody_expects_says_nothing(error: Exception, code: str) -> None:
    """A failure of ours is a 500 with a fixed sentence, and its text stays inside."""
    made = problem_of(error, "r1")
    assert (made.status, made.body["code"]) == (500, code)
    assert b"secret" not in made.encode()


def test_an_expected_error_keeps_its_inner_text() -> None:
    """The sentence of an exception is for the log; clients read the table's."""
    assert b"inner" not in problem_of(Rejected("REJECTED_X", "inner text"), "r1").encode()


def test_later_says_when() -> None:
    """A 503 carries Retry-After, the error's own if it names one."""
    assert problem_of(Unavailable("BUSY", "x", retry_after_s=7), "r1").headers == {"retry-after": "7"}
    assert problem_of(Unavailable("BUSY", "x"), "r1").headers == {"retry-after": "1"}


def test_unauthenticated_names_the_scheme() -> None:
    """A 401 carries WWW-Authenticate, and a 421 does not."""
    assert "www-authenticate" in problem("SIGNATURE_MISSING", "r1").headers
    assert problem("AUTHORITY_MISMATCH", "r1").headers == {}


def test_a_refusal_names_its_payment() -> None:
    """A refused payment is a 422 that carries what it is given beside the code."""
    made = refusal_of(Result.DEBIT_LIMIT, "r1", uetr="u")
    assert (made.status, made.body["code"], made.body["iso_reason"], made.body["uetr"]) == (
        422,
        "DEBIT_LIMIT",
        "AM04",
        "u",
    )


def test_a_problem_that_is_not_in_the_table_is_our_mistake() -> None:
    """Asking for a code that nobody has written down breaks at once."""
    with pytest.raises(InvariantViolation):
        problem("NEVER_HEARD_OF", "r1")
    assert row("NEVER_HEARD_OF") is None
    assert problem_page("NEVER_HEARD_OF") is None


def test_every_row_has_a_page() -> None:
    """Each problem's type leads to a page with its cause and its cure."""
    for code, entry in ROWS.items():
        page = problem_page(code)
        assert page is not None
        assert entry.cause in page
        assert entry.cure in page


def test_the_page_of_errors_is_up_to_date() -> None:
    """docs/errors.md is what the table gives; python -m gateway.problems writes it."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == errors_page()
