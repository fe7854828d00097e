"""Removes secrets from text: the last defence, behind code that never logs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from pydantic import SecretStr

from panel.settings import Settings

REDACTED = "[redacted]"

SHORTEST = 8
"""Characters. A shorter "secret" is a word that any line may hold for another reason."""


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret in these settings: keys, tokens, and the passwords inside URLs."""
    return frozenset(_fields(settings)) - {""}


def _fields(settings: Settings) -> Iterator[str]:
    for name in type(settings).model_fields:
        yield from _held(getattr(settings, name))
    urls = (settings.database_url, settings.database_owner_url, settings.database_session_url, settings.redis_url)
    for url in urls:
        yield from _in_address(url)


def passwords_in(url: str) -> frozenset[str]:
    """The passwords inside one URL."""
    return frozenset(_in_address(url)) - {""}


def _in_address(url: str) -> Iterator[str]:
    """The passwords inside a URL, as written and decoded."""
    parts = urlsplit(url)
    for password in (parts.password or "", *_in_query(parts.query)):
        yield password
        yield unquote(password)
        yield unquote_plus(password)


def _in_query(query: str) -> Iterator[str]:
    """A URL's query may hold passwords, too (``?password=``, ``&sslpassword=``)."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if re.search("password|secret|token", unquote(name), re.IGNORECASE):
            yield value


def _held(value: object) -> Iterator[str]:
    """The secrets inside a setting's value, however deep: for example a list of clusters, each with its token."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield text
        if "://" in text:  # a proxy's address
            yield from _in_address(text)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _held(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held(item)
    elif fields := getattr(type(value), "model_fields", None):
        for name in fields:
            yield from _held(getattr(value, name))


# Three to five parts, the first of them base64url of the beginning of a JSON object. It matches only at the start of a
# word, so that a long text without tokens takes linear time.
TOKEN = re.compile(r"(?<![\w-])ey[ABIJ][\w-]{5,}\.[\w-]{4,}(?:\.[\w-]*){1,3}", re.ASCII)
"""A client's JWT. No process knows it beforehand."""


class Redactor:
    """Replaces secrets in any text, also as JSON, ``repr`` and URLs spell them, and everything that looks like a
    JWT."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelt for secret in secrets if len(secret) >= SHORTEST for spelt in _spellings(secret)}
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
