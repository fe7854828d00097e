"""Free TCP ports on the loopback. A reservation keeps two processes from choosing the same port at the same moment.

Ports are chosen below the kernel's range for outgoing connections. Inside that range a client that keeps dialling a
server which is down may be given the very port that it dials, connect to itself and hold the port.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

from runtime.errors import RuntimeFaultError
from runtime.private_directory import private_directory

LOOPBACK = "127.0.0.1"
LOOPBACK_6 = "::1"

# Not TMPDIR: two processes may have different ones, and must see each other's reservations all the same.
_SHARED = Path("/tmp")  # noqa: S108 - guarded by private_directory
_LOWEST = 15_000
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_KERNEL_LOWEST = 32_768
_TRIES = 200

# Port -> descriptor of its lock file. A reservation ends with the process that made it.
_reserved: dict[int, int] = {}


def free_port() -> int:
    """Return a port that nothing listens on and reserve it for this process."""
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, _highest() + 1)
        if port not in _reserved and reserve_port(port):
            return port
    raise RuntimeFaultError(f"no free TCP port was found on {LOOPBACK} in {_TRIES} tries")


def reserve_port(port: int) -> bool:
    """Reserve `port` for this process; False if another process holds it or something listens on it.

    Reserving a port again succeeds while nothing listens there.
    """
    if not is_free(port):
        return False
    if port not in _reserved:
        lock = os.open(_lock_directory() / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        _reserved[port] = lock
    return True


def reached_by(host: str) -> str:
    """Return the address at which this machine itself reaches a server that listens on `host`."""
    return {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": LOOPBACK_6}.get(host, host)  # noqa: S104 - recognised, not bound


def url_host(host: str) -> str:
    """Return the host as written in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on `port` now. `host`: an address or a name of this machine."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RuntimeFaultError(f"{host} is no address of this machine: {error.strerror}") from error
    with socket.socket(family, kind, protocol) as probe:
        # Servers set this, too, so connections of an earlier server in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError:
            return False
    return True


def _highest() -> int:
    """Return the highest port to choose: the last one below the kernel's range."""
    try:
        lowest_of_kernel = int(_KERNEL_RANGE.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        lowest_of_kernel = _DEFAULT_KERNEL_LOWEST
    # If the kernel's range starts very low, there is no room below it, and any unprivileged port is chosen.
    return lowest_of_kernel - 1 if lowest_of_kernel > _LOWEST + _TRIES else 65_535


def _lock_directory() -> Path:
    shared = _SHARED if os.access(_SHARED, os.W_OK) else Path(tempfile.gettempdir())
    return private_directory(shared / f"panel-sync-{os.geteuid()}-ports", mode=0o700)
