"""A real PostgreSQL for the demo, `run` and the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg

from runtime.errors import RuntimeFaultError
from runtime.private_directory import own_directory
from runtime.processes.children import Account, run_as
from runtime.processes.free_ports import LOOPBACK
from runtime.servers.embedded_server import EmbeddedServer, write_private
from runtime.servers.postgres_installation import (
    PostgresInstallation,
    choose_installation,
    find_postgres_installations,
    reachable_installation,
)
from runtime.servers.server_account import can_enter, shared_places, unprivileged_account

__all__ = ["SUPERUSER", "THROWAWAY", "EmbeddedPostgres", "PostgresInstallation", "find_postgres_installations"]

SUPERUSER = "postgres"

THROWAWAY = "panel_sync.throwaway"
"""A setting that only a server that is not durable has. Code that checks the server's other settings looks at it."""

_INITDB_TIMEOUT_S = 120.0
_BUILTIN_LOCALE_SINCE = 17


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL on 127.0.0.1 with a random superuser password, encoding UTF8, time zone UTC.

    `binaries`: a directory with `postgres` and `initdb`; by default the preferred installation that can read the
    existing cluster. `durable=False`, for tests: a crash of the machine may lose data, a crash of the server does not.
    `settings`: further settings of the server. If this process is root, the server runs as an unprivileged user. If
    that user cannot enter `data_dir`, the cluster is under a shared temporary directory; `destroy` removes it there,
    too.
    """

    title = "PostgreSQL"
    # Fast shutdown: it ends open connections, then makes a checkpoint.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir)
        self._extra_settings = dict(settings or {})
        self._binaries = binaries
        self._durable = durable
        self._installation: PostgresInstallation | None = None
        self._account = unprivileged_account()
        self._place: Path | None = None

    @property
    def version(self) -> str:
        """The server's version, such as "18.6"."""
        return self._programs().version

    @property
    def cluster_dir(self) -> Path:
        """PostgreSQL's own data directory."""
        return self._home / "cluster"

    def admin_url(self, database: str = "postgres") -> str:
        """Return a libpq URL, password included, that connects as superuser."""
        return f"postgresql://{SUPERUSER}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def destroy(self) -> None:
        """Stop the server and remove all its files, wherever they are."""
        self.stop()
        for directory in {self._home, self.data_dir}:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)
        # The next start chooses and makes the place again.
        self._place = None

    @property
    def _home(self) -> Path:
        if self._place is None:
            self._place = self._choose_place()
        return self._place

    def _choose_place(self) -> Path:
        if self._account is None:
            return self.data_dir
        own_directory(self.data_dir, mode=0o711)  # so that PostgreSQL's own account can pass through
        if can_enter(self.data_dir, self._account):
            return self.data_dir
        return next(shared_places(f"postgres-cluster\0{self.data_dir}"))

    def _programs(self) -> PostgresInstallation:
        if self._installation is None:
            chosen = choose_installation(binaries=self._binaries, major=self._cluster_major())
            self._installation = reachable_installation(chosen, self._account)
        return self._installation

    def _cluster_major(self) -> int | None:
        try:
            return int((self.cluster_dir / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise RuntimeFaultError(f"{self.cluster_dir} belongs to another user; remove it first") from error

    def _prepare(self) -> None:
        if self.cluster_dir.exists() and not (self.data_dir / "password").exists():
            if self._home == self.data_dir:
                raise RuntimeFaultError(
                    f"{self.data_dir / 'password'} is missing, so {self.cluster_dir} can't be used; remove it"
                )
            # The data directory was removed by hand, but not its cluster, which is elsewhere. The password is lost, so
            # the cluster is of no use any more.
            shutil.rmtree(self.cluster_dir)
        if not self.cluster_dir.exists():
            # A new cluster may have another version than the removed one.
            self._installation = None
            self._make_cluster()
        self._pass_over_stale_pid_file()

    def _pass_over_stale_pid_file(self) -> None:
        """Keep a leftover postmaster.pid from stopping PostgreSQL when another process has its process id now.

        We own the directory, and no server runs on it. PostgreSQL refuses to start while the recorded id is alive,
        unless it is its own parent's. So this process writes its own id, because it is the parent. The rest of the file
        stays: by it PostgreSQL finds out whether a server process of the crashed run still holds the shared memory.
        """
        pid_file = self.cluster_dir / "postmaster.pid"
        try:
            recorded, newline, rest = pid_file.read_text(encoding="utf-8").partition("\n")
        except FileNotFoundError:
            return
        if not recorded:
            # The server crashed before it wrote the first byte.
            pid_file.unlink()
        elif Path(f"/proc/{recorded.strip()}").exists():
            pid_file.write_text(f"{os.getpid()}{newline}{rest}", encoding="utf-8")

    def _make_cluster(self) -> None:
        building = self._home / "cluster.building"
        password_file = self._home / "initdb-password"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        if self._account is not None:
            shutil.chown(building, self._account.uid, self._account.gid)
        write_private(password_file, self._password() + "\n", self._account)
        try:
            self._initdb(building, password_file)
        finally:
            password_file.unlink()
        building.rename(self.cluster_dir)

    def _initdb(self, target: Path, password_file: Path) -> None:
        installation = self._programs()
        locale = ["--locale=C"]
        if installation.major >= _BUILTIN_LOCALE_SINCE:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        sync = [] if self._durable else ["--no-sync"]
        command = [
            installation.program("initdb"),
            f"--pgdata={target}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-instructions",
            *locale,
            *sync,
        ]
        finished = subprocess.run(  # noqa: S603 - PostgreSQL's own initdb
            command,
            **run_as(self._account),
            cwd=self._home,
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INITDB_TIMEOUT_S,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            last = "\n".join(f"  {line}" for line in finished.stdout.splitlines()[-8:])
            raise RuntimeFaultError(f"PostgreSQL could not make a cluster in {target}:\n{last}")

    def _command(self, port: int) -> tuple[Sequence[str], Account | None]:
        return [
            self._programs().program("postgres"),
            "-D",
            str(self.cluster_dir),
            *(part for name, value in self._settings(port) for part in ("-c", f"{name}={value}")),
        ], self._account

    def _settings(self, port: int) -> Iterator[tuple[str, str]]:
        yield "listen_addresses", LOOPBACK
        yield "port", str(port)
        # No socket file: its path may have at most 107 bytes.
        yield "unix_socket_directories", ""
        yield "max_connections", "200"
        yield "timezone", "UTC"
        yield "log_timezone", "UTC"
        yield "logging_collector", "off"
        yield "log_line_prefix", "%m [%p] %q%u@%d "
        if not self._durable:
            # Commits stay synchronous. Without fsync they cost next to nothing, and fault tests kill the server and
            # then count what was committed.
            yield "fsync", "off"
            yield "full_page_writes", "off"
            yield "wal_level", "minimal"
            yield "max_wal_senders", "0"
            # The server lives for minutes and has many databases: vacuum would scan them again and again for nothing.
            yield "autovacuum", "off"
            # A client that gives up while the server is frozen may leave a login half done, and DROP DATABASE waits for
            # it.
            yield "authentication_timeout", "10"
            yield THROWAWAY, "on"
        yield from self._extra_settings.items()

    def _answers(self) -> bool:
        # PostgreSQL writes to this file when it is ready. No connection is tried before that, because its log would
        # show each refusal.
        try:
            status = (self.cluster_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        if len(status) < 8 or status[7].strip() != "ready":
            return False
        try:
            with psycopg.connect(self.admin_url(), connect_timeout=3) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _is_orphan(self, pid: int) -> bool:
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
        if not Path(argv[0].decode("utf-8", "replace")).name.startswith("postgres"):
            return False
        if str(self.cluster_dir).encode() in argv:
            return True
        # It may be a server process without its postmaster. Only root or the same user may read this link.
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cwd").readlink() == self.cluster_dir
        return False
