"""Who calls with an API key, during a rotation by one of two, and what is answered to a wrong one."""

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
PREFIX_BYTES = 8  # of a random key of 32 characters or more: enough to know it again, useless to guess the rest

Headers = Sequence[tuple[bytes, bytes]]


class ApiKeys:
    """Keys by label. A rotation has two labels for one caller."""

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        # An unset key is a random one: no header can match it, and all are always compared.
        self._keys = [
            (label, (key.get_secret_value() or secrets.token_urlsafe(32)).encode()) for label, key in keys.items()
        ]

    def label_of(self, headers: Headers) -> str | None:
        """Which key the raw headers carry, by its label; None for none, a wrong one or several."""
        given = _given(headers)
        if len(given) != 1:
            return None
        found = None
        for label, key in self._keys:
            if hmac.compare_digest(given[0], key) and found is None:
                found = label
        return found


class KeyPrefixes:
    """Names wrong keys by a keyed hash of how they begin, so that attempts with one leaked beginning are seen to
    belong together, and neither memory nor tables hold any part of a key."""

    def __init__(self, secret: SecretStr) -> None:
        """``secret``: any that all processes of the panel share, so that they give one prefix one name."""
        self._key = hmac.digest(secret.get_secret_value().encode(), b"panel-sync api key prefixes", hashlib.sha256)

    def name_of(self, headers: Headers) -> str | None:
        """12 hex digits for the key in the raw headers (the first of several); None without one."""
        given = _given(headers)
        if not given:
            return None
        return hmac.digest(self._key, given[0][:PREFIX_BYTES], hashlib.sha256).hex()[:12]


class BadKeyLimiter:
    """Counts wrong keys per address and per key prefix, in memory, bounded. A right key always passes, so that
    neither somebody behind the main site's own proxy nor one who knows how its key begins can lock it out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._addresses = _Windows()
        self._prefixes = _Windows()

    def refusal(self, address: str | None, prefix: str | None) -> ProblemError:
        """Count one more wrong key; what to answer: 401, or 429 once there were too many. ``prefix``: as
        KeyPrefixes names it; None for a call without a key."""
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
    """Counts by name, each within a window of its own; the name that was counted longest ago is forgotten first."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, name: str, now: float) -> float:
        """Count one more; seconds until the window ends if that was one too many, else 0."""
        began, count = self._windows.pop(name, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._windows[name] = (began, count + 1)
        while len(self._windows) > WINDOWS_KEPT:
            self._windows.popitem(last=False)
        return 0.0 if count < BAD_KEYS_ALLOWED else began + WINDOW_S - now


def _given(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == b"x-api-key"]
