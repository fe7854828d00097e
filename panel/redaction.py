"""Removes secrets from text: the last defence, if code logs a secret by mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from pydantic import SecretStr

from panel.settings import Settings

REDACTED = "[redacted]"

SHORTEST = 8
"""Characters. A shorter secret is not removed: an ordinary word of a line may be equal to it."""


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret in these settings: keys, tokens, and the passwords inside URLs."""
    return frozenset(_all_secrets(settings)) - {""}


def _all_secrets(settings: Settings) -> Iterator[str]:
    for name in type(settings).model_fields:
        yield from _in_value(getattr(settings, name))
    urls = (settings.database_url, settings.database_owner_url, settings.database_session_url, settings.redis_url)
    for url in urls:
        yield from _in_url(url)


def passwords_in(url: str) -> frozenset[str]:
    """The passwords inside one URL."""
    return frozenset(_in_url(url)) - {""}


def _in_url(url: str) -> Iterator[str]:
    """The passwords inside a URL, as written and decoded."""
    parts = urlsplit(url)
    for password in (parts.password or "", *_in_query(parts.query)):
        yield password
        yield unquote(password)
        yield unquote_plus(password)


def _in_query(query: str) -> Iterator[str]:
    """The passwords inside a URL's query (``?password=``, ``&sslpassword=``)."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if re.search("password|secret|token", unquote(name), re.IGNORECASE):
            yield value


def _in_value(value: object) -> Iterator[str]:
    """The secrets inside a setting's value, at any depth: for example a list of clusters, each with its token."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield text
        if "://" in text:  # a proxy's address
            yield from _in_url(text)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _in_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in_value(item)
    elif fields := getattr(type(value), "model_fields", None):
        for name in fields:
            yield from _in_value(getattr(value, name))


# A JWT has three to five parts. The first is the base64url of a JSON object, so its beginning is known. The pattern
# matches only at the start of a word: otherwise a long text without tokens would take quadratic time.
TOKEN = re.compile(r"(?<![\w-])ey[ABIJ][\w-]{5,}\.[\w-]{4,}(?:\.[\w-]*){1,3}", re.ASCII)
"""Clients' JWTs. The process cannot list them like its own secrets, because it does not know them beforehand."""


class Redactor:
    """Replaces secrets in any text, also as JSON, ``repr`` and URLs spell them, and every text that looks like a
    JWT."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets if len(secret) >= SHORTEST for spelling in _spellings(secret)}
        # Longest first, because one secret may begin with another.
        alternatives = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, alternatives))) if alternatives else None

    def __call__(self, text: str) -> str:
        kept = text if self._pattern is None else self._pattern.sub(REDACTED, text)
        return TOKEN.sub(REDACTED, kept)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    for written in (repr(secret)[1:-1], _json(secret)):
        yield written
        yield _json(written)  # a repr or a JSON text inside a JSON line


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]
