"""Caddy, nginx and HAProxy as a hoster sets them up before the panel, each with one more line: the mark.

The proxy puts a secret into a header of every request that it passes on. A request that comes to the server without it
was never one for the proxy: it was a part of another one.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess

MARK = "X-Proxy-Mark"
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
PACKAGES = {"caddy": "caddy", "nginx": "nginx-light", "haproxy": "haproxy"}

CADDY = """{{
    admin off
    auto_https off
}}
:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{behind} {{
        header_up {header} {mark}
    }}
}}
"""
NGINX = """daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/errors;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' '';
    }}
    upstream panel {{
        server 127.0.0.1:{behind};
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://panel;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header {header} {mark};
            {more}
        }}
    }}
}}
"""
HAPROXY = """global
    maxconn 200
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 120s
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
frontend public
    bind 127.0.0.1:{port}
    http-request set-header {header} {mark}
    default_backend panel
backend panel
    server panel 127.0.0.1:{behind}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy: its program, the file that configures it, and how it is started with that."""

    program: str
    configuration: str
    arguments: Callable[[Path], tuple[str, ...]]
    more: str = ""


KINDS: Mapping[str, Kind] = {
    "caddy": Kind("caddy", CADDY, lambda file: ("run", "--adapter", "caddyfile", "--config", str(file))),
    "nginx": Kind("nginx", NGINX, lambda file: ("-p", str(file.parent), "-c", str(file))),
    "nginx that passes bodies on as they come": Kind(
        "nginx", NGINX, lambda file: ("-p", str(file.parent), "-c", str(file)), "proxy_request_buffering off;"
    ),
    "haproxy": Kind("haproxy", HAPROXY, lambda file: ("-db", "-f", str(file))),
}


@contextmanager
def proxy(kind: Kind, behind: int, mark: str, directory: Path) -> Iterator[int]:
    """A proxy before the server on the port ``behind``; the port of the proxy."""
    program = shutil.which(kind.program, path=PLACES)
    if program is None:
        pytest.fail(f"{kind.program} is not installed: apt install {PACKAGES[kind.program]}")
    port = free_port()
    file = directory / "configuration"
    file.write_text(
        kind.configuration.format(port=port, behind=behind, header=MARK, mark=mark, directory=directory, more=kind.more)
    )
    environment = {
        "PATH": PLACES,
        "HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory),
        "XDG_DATA_HOME": str(directory),
    }
    process = ManagedProcess(
        "proxy",
        (program, *kind.arguments(file)),
        environment,
        directory / "log",
        ready=lambda: _listens(port),
        cwd=directory,
    )
    process.start()
    try:
        process.wait_ready()
        yield port
    finally:
        process.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def said(connection: socket.socket, *, for_s: float, until: bytes | None = None) -> bytes:
    """What comes on a connection until it ends, or these bytes have come, or the time is over."""
    data = b""
    ends = time.monotonic() + for_s
    while (left := ends - time.monotonic()) > 0 and (until is None or until not in data):
        connection.settimeout(left)
        try:
            chunk = connection.recv(65536)
        except (TimeoutError, ConnectionError):
            break
        if not chunk:
            break
        data += chunk
    return data
