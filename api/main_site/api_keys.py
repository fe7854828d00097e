"""Checks API keys: which key a call has (during a rotation there are two), and how a wrong key is answered."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from pydantic import SecretStr

from api.http.addresses import network_of
from api.http.problems import ProblemError

BAD_KEYS_ALLOWED = 20
WINDOW_S = 60.0
WINDOWS_KEPT = 10_000  # addresses, and as many key prefixes
PREFIX_BYTES = 8  # of a random key of 32 characters or more: enough to recognise it, too few to guess the rest

Headers = Sequence[tuple[bytes, bytes]]


class ApiKeys:
    """Keys by label. A rotation has two labels for one caller."""

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        # An unset key becomes a random one that no header can match. So every call is compared with all keys.
        self._keys = [
            (label, (key.get_secret_value() or secrets.token_urlsafe(32)).encode()) for label, key in keys.items()
        ]

    def label_of(self, headers: Headers) -> str | None:
        """The label of the key in the raw headers; None if there is no key, a wrong key or several keys."""
        given = _given(headers)
        if len(given) != 1:
            return None
        matching = None
        for label, key in self._keys:
            if hmac.compare_digest(given[0], key) and matching is None:
                matching = label
        return matching

    def bound_to(self, token: str) -> dict[str, str]:
        """For each key, a hash of the token with that key, in hex, and the key's label. Neither the token nor the key
        follows from it, and without the key nobody can make it."""
        return {hmac.digest(key, token.encode(), hashlib.sha256).hex(): label for label, key in self._keys}


class KeyPrefixes:
    """Names wrong keys by a keyed hash of their first bytes. So an operator sees which attempts use the same leaked
    beginning of a key, and neither memory nor tables hold any part of a key."""

    def __init__(self, secret: SecretStr) -> None:
        """``secret``: one that all processes of the panel share, so that they give a prefix the same name."""
        self._key = hmac.digest(secret.get_secret_value().encode(), b"panel-sync api key prefixes", hashlib.sha256)

    def name_of(self, headers: Headers) -> str | None:
        """12 hex digits for the first key in the raw headers; None if there is no key."""
        given = _given(headers)
        if not given:
            return None
        return hmac.digest(self._key, given[0][:PREFIX_BYTES], hashlib.sha256).hex()[:12]


class BadKeyLimiter:
    """Counts wrong keys per address and per key prefix, in bounded memory.

    A right key always passes. So nobody can lock the main site out, neither from behind its own proxy nor with the
    beginning of its key.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._addresses = _Windows()
        self._prefixes = _Windows()

    def refusal(self, address: str | None, prefix: str | None) -> ProblemError:
        """Count one more wrong key. Returns the answer: 401, or 429 after too many. ``prefix``: as KeyPrefixes names
        it; None for a call without a key."""
        now = self._clock()
        wait_s = self._addresses.count(network_of(address), now)
        if prefix is not None:
            wait_s = max(wait_s, self._prefixes.count(prefix, now))
        if wait_s == 0:
            return ProblemError(401, "invalid_api_key", "Invalid or missing API key")
        wait = str(max(1, round(wait_s)))
        message = f"Too many calls with an invalid API key; try again in {wait} s"
        return ProblemError(429, "too_many_bad_keys", message, headers={"Retry-After": wait})


class _Windows:
    """Counts by name, each in its own window of time. When it is full, it forgets the name that was counted longest
    ago."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, name: str, now: float) -> float:
        """Count one more. Returns the seconds until the window ends if the limit was reached before, else 0."""
        began, count = self._windows.pop(name, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._windows[name] = (began, count + 1)
        while len(self._windows) > WINDOWS_KEPT:
            self._windows.popitem(last=False)
        return 0.0 if count < BAD_KEYS_ALLOWED else began + WINDOW_S - now


def _given(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == b"x-api-key"]
