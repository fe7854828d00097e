"""The base class of embedded servers: one owner, a remembered port, a password file, a process."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.errors import InUseError, NotReadyError, ProcessDiedError, RuntimeFaultError
from runtime.file_lock import FileLock
from runtime.private_directory import own_directory
from runtime.processes.child_logs import rotate_log, with_tail
from runtime.processes.children import (
    Account,
    Child,
    descendants,
    kill_paused,
    parent_of,
    pause_tree,
    process_ids,
    signal_if_there,
    spawn,
)
from runtime.processes.free_ports import free_port, is_free, reserve_port

_POLL_S = 0.02
_PORT_TRIES = 4
_ORPHAN_GRACE_S = 10.0


class EmbeddedServer(ABC):
    """A server program as a child of this process, on the loopback, in a directory of its own.

    At most one object at a time owns a directory. The server dies with this process; if a server is left behind all the
    same, the next start stops it. Not safe for several threads at once.
    """

    title: str
    ready_timeout_s = 120.0
    stop_grace_s = 20.0
    stop_signal: signal.Signals

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self._port: int | None = None
        self._child: Child | None = None
        self._lock: FileLock | None = None
        self._paused = False
        self._log_rotated = False

    @property
    def port(self) -> int:
        """The TCP port on the loopback, known once the server was started."""
        if self._port is None:
            raise RuntimeFaultError(f"{self.title} has not been started: it has no port yet")
        return self._port

    @property
    def log_path(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def running(self) -> bool:
        """Whether the server process exists, paused or not."""
        return self._child is not None and not self._child.exited

    def start(self) -> None:
        """Start the server and return once it answers. A running server stays as it is.

        Raises InUseError if another live process owns the directory. If the server does not come up, raises
        ProcessDiedError or NotReadyError with the log's last lines.
        """
        if self.running:
            return
        self._reap()
        own_directory(self.data_dir)
        self._own()
        try:
            if not self._log_rotated:
                rotate_log(self.log_path)
                self._log_rotated = True
            self._stop_orphans()
            self._prepare()
            self._start_on_some_port()
        except BaseException:
            self._abandon()
            raise

    def stop(self) -> None:
        """Stop the server cleanly and give the directory back. Kill it if it does not end in time."""
        if self._child is not None:
            self.resume()
            self._child.stop(self.stop_signal, self.stop_grace_s)
            self._child = None
        self._disown()

    def kill(self) -> None:
        """SIGKILL every process of the server at once, as a crash would. The directory stays owned."""
        if self._child is not None:
            self._child.kill_tree()
            self._reap()

    def pause(self) -> None:
        """SIGSTOP every process of the server: connections stay open, and nothing answers."""
        if self._child is None or not self.running:
            raise RuntimeFaultError(f"{self.title} is not running and can't be paused")
        self._child.pause_tree()
        self._paused = True

    def resume(self) -> None:
        """Let a paused server continue. Does nothing otherwise."""
        if self._paused and self._child is not None:
            self._child.resume_tree()
        self._paused = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.data_dir)!r})"

    # Each kind of server provides these.

    @property
    @abstractmethod
    def _home(self) -> Path:
        """The directory whose lock decides who owns the server's files."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make everything on disk that does not depend on the port."""

    @abstractmethod
    def _command(self, port: int) -> tuple[Sequence[str], Account | None]:
        """Write what depends on the port. Return the command line and the user that it runs as."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether this very server answers on its port now."""

    @abstractmethod
    def _is_orphan(self, pid: int) -> bool:
        """Whether `pid` is a server process on this directory. Asked only while we own the directory."""

    # All kinds of server share these.

    def _password(self) -> str:
        """Return the directory's random password. The first call makes it."""
        path = self.data_dir / "password"
        with contextlib.suppress(FileNotFoundError):
            if password := path.read_text(encoding="ascii").strip():
                return password
        password = secrets.token_urlsafe(24)
        write_private(path, password + "\n")
        return password

    def _start_on_some_port(self) -> None:
        for attempt in range(_PORT_TRIES):
            port = self._choose_port(first=attempt == 0)
            command, account = self._command(port)
            self._port = port
            self._paused = False
            self._child = spawn(
                command,
                env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
                log=self.log_path,
                death_signal=self.stop_signal,
                cwd=self._home,
                account=account,
            )
            try:
                self._wait_ready(self._child)
            except ProcessDiedError:
                # Another process may have taken the port between our check and the server's bind.
                if is_free(port) or attempt == _PORT_TRIES - 1:
                    raise
                self._reap()
                continue
            write_private(self.data_dir / "port", f"{port}\n")
            return

    def _choose_port(self, *, first: bool) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):
            remembered = int((self.data_dir / "port").read_text(encoding="ascii"))
            if first and reserve_port(remembered):
                return remembered
        return free_port()

    def _wait_ready(self, child: Child) -> None:
        deadline = time.monotonic() + self.ready_timeout_s
        while True:
            if child.exited:
                code = child.reap()
                raise ProcessDiedError(with_tail(f"{self.title} ended with code {code} while starting", self.log_path))
            if self._answers():
                return
            if time.monotonic() >= deadline:
                raise NotReadyError(
                    with_tail(f"{self.title} did not answer in {self.ready_timeout_s:g} s", self.log_path)
                )
            time.sleep(_POLL_S)

    def _own(self) -> None:
        if self._lock is not None:
            return
        lock = FileLock(self._home / "owner.lock", what=f"{self.title} in {self.data_dir}")
        try:
            lock.acquire()
        except PermissionError as error:
            raise InUseError(f"{self.title} in {self.data_dir} belongs to another user") from error
        self._lock = lock

    def _disown(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _abandon(self) -> None:
        if self._child is not None:
            self._child.kill_tree()
        self._reap()
        self._disown()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.reap()
            self._child = None
        self._paused = False

    def _stop_orphans(self) -> None:
        """Stop server processes whose owner is gone. The stop signal comes before a kill, because they may hold data
        that is not written yet."""
        orphans = self._orphans()
        # Only the main process of each server gets the signal, and stops its helpers. To them the signal would mean
        # something else.
        roots = [pid for pid in orphans if parent_of(pid) not in orphans]
        for root in roots:
            for pid in [*descendants(root), root]:
                signal_if_there(pid, signal.SIGCONT)
            signal_if_there(root, self.stop_signal)
        if not orphans or _until(lambda: not self._orphans(), _ORPHAN_GRACE_S):
            return
        for pid in self._orphans():
            kill_paused(pause_tree(pid))

    def _orphans(self) -> list[int]:
        return [pid for pid in process_ids() if pid != os.getpid() and self._is_orphan(pid)]


def write_private(path: Path, text: str, owner: Account | None = None) -> None:
    """Replace `path` by a file that only its owner can read, completely or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner.uid, owner.gid)
    partial.replace(path)


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
