"""The OpenAPI 3.1 document: what the framework generates for reads, and the signed writes described by their own types.

Every status of every operation has an example. The examples of problems come from the table of problems, so that they
cannot differ from what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.problems import MEDIA_TYPE, problem
from gateway.problems import row as problem_row

__all__ = ["SIGNED_WRITE", "Operation", "answers", "describe", "problems_of", "schema_of", "write_operation"]

_EXAMPLE_REQUEST_ID = "8a3c64c1f7a24bb0a9d7a2b1f1f0c9e4"
_DESCRIPTION = (
    "{subject} of a prototype for cross-border e-CNY payments between Shanghai and Hong Kong. All money is simulated."
    "\n\n"
    "Writes are POST requests signed with Ed25519 by the profile of RFC 9421 that docs/api.md shows; reads that are "
    "not public are signed too. Amounts are whole minor units as digits in a string. Every failure is a problem of "
    "RFC 9457 with a stable code."
)
_SENTENCE_END = re.compile(r"[.;:](?:\s|$)")
SIGNED_WRITE: list[dict[str, Any]] = [
    {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
    for name, text in (
        ("Content-Digest", "SHA-256 of the body (RFC 9530)."),
        ("Idempotency-Key", "The client's name for this message; a retry carries the same key and body."),
        ("Signature-Input", "Covered components and parameters (RFC 9421)."),
        ("Signature", "The Ed25519 signature (RFC 9421)."),
    )
]
"""The headers of every signed write, as parameters."""
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details. Decide by code.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
        "request_id": {"type": "string"},
        "iso_reason": {"type": "string", "pattern": "^[A-Z0-9]{4}$"},
        "fields": {"type": "object"},
    },
}
_ANY_WRITE = ("BODY_MALFORMED", "SIGNATURE_INVALID", "BODY_TOO_LARGE", "MEDIA_TYPE_UNSUPPORTED", "BUSY")


@dataclass(frozen=True, slots=True)
class Operation:
    """How one signed write is described: sentences, examples of the body and of ``data``, its own problems."""

    summary: str
    description: str
    body: dict[str, Any] | str
    data: dict[str, Any]
    problems: tuple[str, ...] = ()
    status: int = 201


def describe(document: dict[str, Any], writes: Mapping[str, dict[str, Any]], *, subject: str) -> dict[str, Any]:
    """Complete the framework's document with the signed writes, and put everything into one order.

    ``subject`` says what of the prototype is served. A read is titled by the first sentence of its description, where
    the framework would take a function's name.
    """
    document["info"]["description"] = _DESCRIPTION.format(subject=subject)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for item in document["paths"].values():
        for operation in item.values():
            operation["summary"] = _SENTENCE_END.split(operation["description"], maxsplit=1)[0]
    for path, operation in writes.items():
        schemas.update(operation.pop("x-schemas", {}))
        document["paths"].setdefault(path, {})["post"] = operation
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None) if _is_generated(operation) else None
    document["paths"] = dict(sorted(document["paths"].items()))
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _is_generated(operation: Mapping[str, Any]) -> bool:
    """Whether the 422 is the framework's own, for a validation error that we answer with 400."""
    content = operation["responses"].get("422", {}).get("content", {})
    return "application/json" in content


def answers(example: Any, *codes: str, status: int = 200, media_type: str = "application/json") -> dict[int | str, Any]:
    """Describe an operation's answers: one success with its example, and the problems it may end with."""
    success = {"description": "Success.", "content": {media_type: {"schema": schema_of(example), "example": example}}}
    return {status: success, **problems_of((*codes, "INTERNAL_ERROR"))}


def schema_of(example: Any) -> dict[str, Any]:
    """Say of what shape an example is: names and types; what is null in the example may be anything."""
    if isinstance(example, dict):
        properties = {name: schema_of(value) for name, value in example.items()}
        return {"type": "object", "properties": properties}
    if isinstance(example, list):
        return {"type": "array", "items": schema_of(example[0]) if example else {}}
    for kind, name in ((bool, "boolean"), (int, "integer"), (str, "string")):
        if isinstance(example, kind):
            return {"type": name}
    return {}


def problems_of(codes: Iterable[str]) -> dict[int | str, Any]:
    """Describe problems, grouped by status, with an example each."""
    grouped: dict[int | str, Any] = {}
    for code in codes:
        made = problem(code, _EXAMPLE_REQUEST_ID)
        entry = grouped.setdefault(
            made.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][code] = {"value": made.body}
        known = problem_row(code)
        sentence = known.sentence if known is not None else ""
        entry["description"] = f"{entry['description']} {sentence}".strip()
    return grouped


def _ecma(schemas: dict[str, Any]) -> dict[str, Any]:
    """Write the anchors of patterns as JSON Schema's dialect of regular expressions has them."""
    text = msgspec.json.encode(schemas).replace(rb"\\A", b"^").replace(rb"\\Z", b"$")
    result: dict[str, Any] = msgspec.json.decode(text)
    return result


def write_operation(kind: type[msgspec.Struct] | None, operation: Operation) -> dict[str, Any]:
    """Describe a signed write, of JSON of a ``kind`` or of bytes.

    The schemas it needs are under ``x-schemas`` until ``describe`` moves them.
    """
    schema: dict[str, Any] = {"type": "string", "format": "binary"}
    schemas: dict[str, Any] = {}
    if kind is not None:
        (schema,), schemas = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    schemas = _ecma(schemas)
    media_type = "application/octet-stream" if kind is None else "application/json"
    example = {"data": operation.data}
    content: dict[str, Any] = {"schema": schema_of(example), "example": example}
    success = {"description": "Journaled and durable.", "content": {"application/json": content}}
    return {
        "summary": operation.summary,
        "description": operation.description,
        "parameters": SIGNED_WRITE,
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": schema, "example": operation.body}},
        },
        "responses": {
            str(status): response
            for status, response in {
                operation.status: success,
                **problems_of((*_ANY_WRITE, "IDEMPOTENCY_CONFLICT", *operation.problems, "INTERNAL_ERROR")),
            }.items()
        },
        "x-schemas": schemas,
    }
