"""Child processes that die with this one, and the process trees below them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runtime.processes.launch
from runtime.errors import RuntimeFaultError
from runtime.processes.child_logs import open_log

_POLL_S = 0.01
_DEATH_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system user a child runs as."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Whether this process already runs as that user."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


class Child:
    """One process in a session of its own, tied to this process by a parent-death signal.

    Only `reap` collects the ended process. Until then its process id and group id cannot become another process's, so
    no signal reaches a stranger.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    @property
    def exited(self) -> bool:
        """Whether the process has ended, reaped or not."""
        if self._popen.returncode is not None:
            return True
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return status is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself. Does nothing once it was reaped."""
        if self._popen.returncode is None:
            os.kill(self.pid, number)

    def wait_exit(self, timeout_s: float, hurry: threading.Event | None = None) -> bool:
        """Return whether the process ended within `timeout_s` seconds. Setting `hurry` ends the wait early."""
        deadline = time.monotonic() + timeout_s
        while not self.exited:
            if time.monotonic() >= deadline or (hurry is not None and hurry.is_set()):
                return False
            time.sleep(_POLL_S)
        return True

    def reap(self) -> int:
        """Wait for the end, kill the rest of its process group, return the exit code.

        The code is negative for a signal, as in subprocess.
        """
        if self._popen.returncode is None:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()

    def stop(self, number: int, grace_s: float, hurry: threading.Event | None = None) -> int:
        """Signal the process, kill its whole tree after `grace_s` seconds, return the exit code.

        Setting `hurry` cuts the grace short.
        """
        if not self.exited:
            self.signal(number)
            if not self.wait_exit(grace_s, hurry):
                self.kill_tree()
        return self.reap()

    def kill_tree(self) -> None:
        """SIGKILL the process and everything below it at once, and return when all are dead."""
        kill_paused(self.pause_tree())

    def pause_tree(self) -> list[int]:
        """SIGSTOP the process and everything below it, and return the process ids, children first."""
        if self.exited:
            return []
        return pause_tree(self.pid)

    def resume_tree(self) -> None:
        """SIGCONT the process and everything below it."""
        if not self.exited:
            for pid in [*descendants(self.pid), self.pid]:
                signal_if_there(pid, signal.SIGCONT)


def run_as(account: Account | None) -> dict[str, Any]:
    """The arguments for :mod:`subprocess` that run a program as `account`; none if no change of user is needed."""
    if account is None or account.is_ours:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    death_signal: int,
    cwd: Path | None = None,
    account: Account | None = None,
) -> Child:
    """Start `argv` with exactly the environment `env`, its output appended to `log`.

    `death_signal` reaches the child when this process dies, however it dies. `account` needs root. Files that the child
    makes are private to its user.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(runtime.processes.launch.__file__).resolve())]
    user = f"{account.uid}:{account.gid}" if account and not account.is_ours else "-"
    command = [*launcher, str(os.getpid()), str(int(death_signal)), user, *argv]

    def start() -> Child:
        output = open_log(log)
        try:
            # No `with`, because Child owns the process and reaps it.
            popen = subprocess.Popen(  # noqa: S603 - the caller chose the program, no shell takes part
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(output)
        return Child(popen)

    # The kernel sends the parent-death signal when the *thread* that forked ends. So only threads that live as long as
    # the process start children.
    if threading.current_thread() is threading.main_thread():
        return start()
    return _starter.call(start)


class _Starter:
    """A thread that starts children on behalf of short-lived threads. It begins when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Child], Future[Child]]] = queue.SimpleQueue()

    def call(self, start: Callable[[], Child]) -> Child:
        with self._lock:
            # A forked copy of this process does not have the thread, so it starts its own.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="child-starter", daemon=True)
                self._thread.start()
        result: Future[Child] = Future()
        self._jobs.put((start, result))
        return result.result()

    def _run(self) -> None:
        while True:
            start, result = self._jobs.get()
            try:
                result.set_result(start())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                result.set_exception(error)


def pause_tree(root: int) -> list[int]:
    """SIGSTOP `root` and everything below it, and return the process ids, children first.

    A parent is stopped before its children are listed, so no child appears after the listing. A stopped parent does not
    reap, so the ids stay valid.
    """
    signal_if_there(root, signal.SIGSTOP)
    stopped: list[int] = []
    while fresh := [pid for pid in descendants(root) if pid not in stopped]:
        for pid in fresh:
            signal_if_there(pid, signal.SIGSTOP)
        stopped.extend(fresh)
    return [*reversed(stopped), root]


def kill_paused(tree: Sequence[int]) -> None:
    """SIGKILL what pause_tree stopped, and return when none of it runs any more."""
    for pid in tree:
        signal_if_there(pid, signal.SIGKILL)
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    while not all(_is_dead(pid) for pid in tree):
        if time.monotonic() >= deadline:
            raise RuntimeFaultError(f"these processes were killed but do not end: {', '.join(map(str, tree))}")
        time.sleep(_POLL_S)


def descendants(root: int) -> list[int]:
    """Return the process ids below `root`, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid in process_ids():
        parent = parent_of(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    below = list(children.get(root, []))
    for pid in below:
        below.extend(children.get(pid, []))
    return below


def process_ids() -> list[int]:
    """Return the ids of all processes that this process can see."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int | None:
    """Return the parent's process id, or None if `pid` is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def signal_if_there(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_dead(pid: int) -> bool:
    """Return whether a process has ended, though its parent may not have collected it yet."""
    fields = _stat(pid)
    return not fields or fields[0] in {"Z", "X"}


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The program's name is in parentheses and may itself hold parentheses and spaces.
    return stat[stat.rindex(")") + 2 :].split()


_starter = _Starter()
