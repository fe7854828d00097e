"""Who may make sync calls: the main site, by one of two keys while it changes over from one to the other."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence

from pydantic import SecretStr

from api.problems import ProblemError

BAD_KEYS_ALLOWED = 20
WINDOW_S = 60.0
ADDRESSES_KEPT = 10_000


class ApiKeys:
    """The current key and, during a rotation, the previous one."""

    def __init__(self, current: SecretStr, previous: SecretStr) -> None:
        # An unset key is a random one: no header can match it, and both are always compared.
        self._keys = [
            (label, (key.get_secret_value() or secrets.token_urlsafe(32)).encode())
            for label, key in (("current", current), ("previous", previous))
        ]

    def label_of(self, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Which key the raw headers carry ("current" or "previous"); None for none, a wrong one or several."""
        given = [value for name, value in headers if name == b"x-api-key"]
        if len(given) != 1:
            return None
        found = None
        for label, key in self._keys:
            if hmac.compare_digest(given[0], key) and found is None:
                found = label
        return found


class BadKeyLimiter:
    """Counts wrong keys per address, in memory, bounded. A right key always passes, so that somebody behind
    the main site's own proxy cannot lock it out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refusal(self, address: str | None) -> ProblemError:
        """Count one more wrong key; what to answer: 401, or 429 once there were too many."""
        now, who = self._clock(), _network(address)
        began, count = self._windows.pop(who, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._windows[who] = (began, count + 1)
        while len(self._windows) > ADDRESSES_KEPT:
            self._windows.popitem(last=False)
        if count < BAD_KEYS_ALLOWED:
            return ProblemError(401, "invalid_api_key", "Invalid or missing API key")
        wait = str(max(1, round(began + WINDOW_S - now)))
        message = f"Too many calls with an invalid API key; try again in {wait} s"
        return ProblemError(429, "too_many_bad_keys", message, headers={"Retry-After": wait})


def _network(address: str | None) -> str:
    """An IPv4 address, or the /64 that one IPv6 host has to itself."""
    try:
        ip = ipaddress.ip_address((address or "").split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)
