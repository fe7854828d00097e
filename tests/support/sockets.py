"""Ports on the loopback: whether one accepts connections, and whose a connection is."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from pathlib import Path


def owner_of_port(port: int, processes: Iterable[int]) -> int | None:
    """The one of these processes whose end of a TCP connection has that local port; None if there is none."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = {f"socket:[{words[9]}]" for words in map(str.split, lines) if words[1].endswith(f":{port:04X}")}
    for pid in processes:
        # Processes end, and files are closed, while one looks.
        with contextlib.suppress(OSError):
            if any(str(file.readlink()) in sockets for file in Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    return None


def port_open(port: int) -> Callable[[], bool]:
    """A check that a TCP port accepts connections."""

    def check() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return True
        except OSError:
            return False

    return check


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
