"""Checks whether a process that was just started answers yet."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from runtime.processes.free_ports import LOOPBACK

_TIMEOUT_S = 2.0


def http_ok(port: int, path: str, host: str = LOOPBACK) -> Callable[[], bool]:
    """Return a check that GET `path` over plain HTTP answers with a 2xx."""

    def check() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check
