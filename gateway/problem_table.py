"""The table of problems: for each code its HTTP status, ISO 20022 reason, sentence, cause and cure.

The sentences are data, in ``problems.json`` beside this file: ``requests`` are codes of requests that were not carried
out, ``refusals`` result codes of payments and postings that were journaled and refused. ``BY_CLASS`` answers for every
expected error whose code is in neither. ``problems.py`` is the machinery.
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import msgspec

from ledger.errors import (
    Conflict,
    Forbidden,
    LedgerError,
    MalformedInput,
    NotFound,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from ledger.transfers import Result
from settlement.views import ISO_REASON

__all__ = ["BY_CLASS", "REFUSALS", "ROWS", "STATUSES", "Row"]

Sentence = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z].*\.\Z")]


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said about one problem. ``iso`` is an ExternalStatusReason1Code or empty; the rest are sentences."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    iso: Annotated[str, msgspec.Meta(pattern=r"\A([A-Z0-9]{4})?\Z")]
    sentence: Sentence
    cause: Sentence
    cure: Sentence


class Row(Texts, frozen=True, forbid_unknown_fields=True):
    """One problem with its code."""

    code: str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests: dict[str, Texts]
    refusals: dict[str, Texts]


def _row(code: str, texts: Texts) -> Row:
    return Row(texts.status, texts.iso, texts.sentence, texts.cause, texts.cure, code)


_TABLE = msgspec.json.decode(resources.files("gateway").joinpath("problems.json").read_bytes(), type=_Table)

ROWS: dict[str, Row] = {code: _row(code, texts) for code, texts in _TABLE.requests.items()}
"""By code."""
REFUSALS: dict[Result, Row] = {
    Result[name]: msgspec.structs.replace(_row(name, texts), iso=ISO_REASON[Result[name]])
    for name, texts in _TABLE.refusals.items()
}
"""By result; every one but ``OK``. Their ISO reasons are those of settlement."""

STATUSES: dict[type[LedgerError], frozenset[int]] = {
    MalformedInput: frozenset({400, 408, 413, 415, 431}),
    Unauthenticated: frozenset({401, 421}),
    Forbidden: frozenset({403}),
    NotFound: frozenset({404}),
    Conflict: frozenset({409}),
    Rejected: frozenset({422}),
    Unavailable: frozenset({503}),
}
"""The HTTP statuses of each class: by them the other side of a connection makes the same class again."""

BY_CLASS: dict[type[LedgerError], Row] = {
    kind: Row(status, iso, sentence, cause, cure, code)
    for kind, code, status, iso, sentence, cause, cure in (
        (
            MalformedInput,
            "MALFORMED",
            400,
            "FF01",
            "The request is not of the form.",
            "A field is missing, unknown, of the wrong type or out of its bounds.",
            "Send what the API's description of this request asks for.",
        ),
        (
            Unauthenticated,
            "UNAUTHENTICATED",
            401,
            "DS0E",
            "The signature does not hold.",
            "The message is not signed, or not by a known and unrevoked key.",
            "Sign the request again with a registered key.",
        ),
        (
            Forbidden,
            "FORBIDDEN",
            403,
            "DS0G",
            "The key may not do this.",
            "The signing party has no right to what it asked for.",
            "Ask with the key of the party whose right it is.",
        ),
        (
            NotFound,
            "NOT_FOUND",
            404,
            "",
            "There is no such thing here.",
            "The request names something that this ledger does not have.",
            "Check the name, and that it belongs to this ledger.",
        ),
        (
            Conflict,
            "CONFLICT",
            409,
            "",
            "The request contradicts what is already journaled.",
            "Something with this name exists with other content.",
            "Read what is there, and use another name for something new.",
        ),
        (
            Rejected,
            "REJECTED",
            422,
            "AG01",
            "The request was understood and refused.",
            "A rule of the business forbids it.",
            "Change what the rule is about; sending the same again will not help.",
        ),
        (
            Unavailable,
            "UNAVAILABLE",
            503,
            "AB07",
            "The server cannot answer now.",
            "It is starting, stopping or overloaded.",
            "Send the same request with the same idempotency key again after the time in Retry-After.",
        ),
    )
}
"""By class; the code of an answer stays the error's own."""
