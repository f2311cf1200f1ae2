"""The pages for people: the API's description as plain HTML, made here, without scripts, needing no other server."""

from __future__ import annotations

import json
from html import escape
from typing import Any

__all__ = ["api_page"]

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "h2{border-top:2px solid #ddd;padding-top:1rem;margin-top:2.5rem}code,pre{font:14px/1.4 ui-monospace,monospace}"
    "pre{background:#f5f5f2;padding:.8rem;overflow:auto}table{border-collapse:collapse}"
    "td,th{border:1px solid #ddd;padding:.25rem .6rem;text-align:left;vertical-align:top}"
    ".method{display:inline-block;min-width:3.5rem;color:#8a1c1c}nav li{list-style:none}summary{cursor:pointer}"
)


def api_page(document: dict[str, Any]) -> str:
    """Render an OpenAPI document: a list of contents, then each operation with its parameters, bodies and examples."""
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    contents = "".join(
        f'<li><a href="#{escape(_anchor(path, method))}"><code><span class="method">{method.upper()}</span> '
        f"{escape(path)}</code></a> {escape(operation.get('summary', ''))}</li>"
        for path, method, operation in operations
    )
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{_paragraphs(document['info'].get('description', ''))}"
        '<p>The same as a document for programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"<nav><ul>{contents}</ul></nav>"
        + "".join(_operation(path, method, operation) for path, method, operation in operations)
        + _schemas(document.get("components", {}).get("schemas", {}))
        + "</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    name = f'<code><span class="method">{method.upper()}</span> {escape(path)}</code>'
    summary = f"<p><strong>{escape(operation.get('summary', ''))}</strong></p>"
    parts = [
        f'<h2 id="{escape(_anchor(path, method))}">{name}</h2>{summary}',
        _paragraphs(operation.get("description", "")),
    ]
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
            f"<td>{'yes' if each.get('required') else 'no'}</td><td>{escape(each.get('description', ''))}</td></tr>"
            for each in operation["parameters"]
        )
        parts.append(f"<table><tr><th>parameter</th><th>in</th><th>required</th><th></th></tr>{rows}</table>")
    if "requestBody" in operation:
        parts.append("<h3>Body</h3>" + _content(operation["requestBody"].get("content", {})))
    for status, response in operation.get("responses", {}).items():
        body = _content(response.get("content", {}))
        head = f"<code>{escape(str(status))}</code> {escape(response.get('description', ''))}"
        parts.append(f"<details><summary>{head}</summary>{body}</details>" if body else f"<p>{head}</p>")
    return "".join(parts)


def _content(content: dict[str, Any]) -> str:
    parts = []
    for media_type, value in content.items():
        parts.append(f"<p><code>{escape(media_type)}</code> {_schema_name(value.get('schema', {}))}</p>")
        examples = [each["value"] for each in value.get("examples", {}).values()]
        examples += [value["example"]] if "example" in value else []
        parts += [_pre(example) for example in examples]
    return "".join(parts)


def _schemas(schemas: dict[str, Any]) -> str:
    entries = "".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>{_pre(schema)}</details>'
        for name, schema in schemas.items()
    )
    return f"<h2>Schemas</h2>{entries}"


def _schema_name(schema: dict[str, Any]) -> str:
    reference = schema.get("$ref", "").rsplit("/", 1)[-1]
    return f'<a href="#schema-{escape(reference)}">{escape(reference)}</a>' if reference else ""


def _pre(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def _anchor(path: str, method: str) -> str:
    return f"{method}-{path.strip('/').replace('/', '-')}"
