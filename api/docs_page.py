"""The page at /docs: the OpenAPI document as plain HTML, without scripts and without anything from other sites."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; font-size: 1.1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .2rem .6rem }
tr { border-bottom: 1px solid #eee } code { background: #f4f4f4; padding: 0 .2rem }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The content of /openapi.json for people."""
    return HTMLResponse(page(request.app.openapi()), headers={"Content-Security-Policy": POLICY})


def page(document: dict[str, Any]) -> str:
    """The document as one HTML page. Pure; every text is escaped."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{STYLE}</style></head>",
        f"<body><h1>{title}</h1><p>{escape(info['description'])}</p>",
        '<p>The same for programs: <a href="openapi.json">openapi.json</a></p>',
        *_operations(document),
        *_schemas(document),
        "</body></html>",
    ]
    return "\n".join(parts)


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</h2>"
            yield f"<p>{escape(operation.get('description', ''))}</p>"
            needed = [name for scheme in operation.get("security", []) for name in scheme]
            if needed:
                yield f"<p>Credential: {escape(' or '.join(needed))}</p>"
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body is not None:
                yield f"<p>Body: {_kind(body)}</p>"
            parameters = operation.get("parameters", [])
            if parameters:
                rows = [(_code(p["name"]), escape(p["in"]), _kind(p["schema"]), _about(p)) for p in parameters]
                yield _table(("parameter", "in", "is", ""), rows)
            answers = operation["responses"].items()
            yield _table(
                ("answer", "", "body"), [(_code(s), escape(a["description"]), _content(a)) for s, a in answers]
            )


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<h2 id="{escape(name)}"><code>{escape(name)}</code></h2><p>{escape(schema.get("description", ""))}</p>'
        required = schema.get("required", [])
        fields = schema.get("properties", {}).items()
        rows = [(_code(f), _kind(s), "required" if f in required else "", _about(s)) for f, s in fields]
        if rows:
            yield _table(("field", "is", "", ""), rows)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table. Its cells are HTML already."""
    head = "".join(f"<th>{head}</th>" for head in heads)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _content(answer: dict[str, Any]) -> str:
    return ", ".join(_kind(media.get("schema", {})) for media in answer.get("content", {}).values())


def _kind(schema: dict[str, Any]) -> str:
    """The type of a schema, and its limits."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    several = schema.get("oneOf") or schema.get("anyOf")
    if several:
        return " or ".join(_kind(part) for part in several)
    if "enum" in schema:
        return " ".join(_code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return _code(str(schema["const"]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    limits = [f"{name} {schema[name]}" for name in _LIMITS if name in schema]
    return escape(", ".join([schema.get("format", kind), *limits]))


_LIMITS = ("minimum", "maximum", "minLength", "maxLength", "pattern", "default")


def _about(part: dict[str, Any]) -> str:
    return escape(part.get("description", ""))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
