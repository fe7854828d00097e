"""Supervised child processes: started in order, watched, stopped in reverse order, never left behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from runtime.errors import NotReadyError, ProcessDiedError, RuntimeFaultError
from runtime.private_directory import own_directory
from runtime.processes.child_logs import bound_logs, rotate_log, tail, with_tail
from runtime.processes.children import Child, spawn

_POLL_S = 0.05
_LOGS_S = 10.0  # how often the logs' sizes are looked at

_log = structlog.get_logger(__name__)


class ManagedProcess:
    """One child process with its log, its readiness check and its way of stopping.

    `env` is the child's whole environment. Secrets go there, never into `argv`, which every user can read. `ready` is
    called until it returns True; without it a started process counts as ready. The child leads a session of its own, so
    the terminal's Ctrl-C does not reach it. It gets `death_signal` when this process dies, however it dies. `beats`: a
    file that a healthy child rewrites, with new content, every few seconds.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log_path: Path,
        *,
        ready: Callable[[], bool] | None = None,
        stop_grace_s: float = 10.0,
        ready_timeout_s: float = 120.0,
        death_signal: signal.Signals = signal.SIGKILL,
        cwd: Path | None = None,
        beats: Path | None = None,
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log_path = log_path
        self.stop_grace_s = stop_grace_s
        self.ready_timeout_s = ready_timeout_s
        self.beats = beats
        self.exit_code: int | None = None
        self._env = dict(env)
        self._ready = ready
        self._death_signal = death_signal
        self._cwd = cwd
        self._child: Child | None = None
        self._wanted = False
        self._paused = False
        self._log_rotated = False

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeFaultError if the process is not running."""
        return self._running_child().pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._child is not None and not self._child.exited

    @property
    def died(self) -> bool:
        """Whether the process ended, by itself or by a kill, after a start and without a stop."""
        return self._wanted and not self.running

    def start(self) -> None:
        """Start the process without waiting for it. The log of an earlier run moves to `<log>.1`."""
        if self.running:
            raise RuntimeFaultError(f"{self.name} is already running")
        self._reap()
        self._paused = False
        own_directory(self.log_path.parent)
        if not self._log_rotated:
            rotate_log(self.log_path)
            self._log_rotated = True
        self.exit_code = None
        self._wanted = True
        self._child = spawn(self.argv, env=self._env, log=self.log_path, death_signal=self._death_signal, cwd=self._cwd)

    def wait_ready(self, give_up: threading.Event | None = None) -> None:
        """Return once the process is ready. Setting `give_up` ends the wait early, without an error.

        Raises ProcessDiedError as soon as it ends, NotReadyError after `ready_timeout_s` seconds.
        """
        deadline = time.monotonic() + self.ready_timeout_s
        while give_up is None or not give_up.is_set():
            self.check()
            if self._ready is None or self._ready():
                return
            if time.monotonic() >= deadline:
                raise NotReadyError(
                    with_tail(f"{self.name} was not ready after {self.ready_timeout_s:g} s", self.log_path)
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise ProcessDiedError, with the log's last lines, if the process has died."""
        if self.died:
            self._reap()
            raise ProcessDiedError(with_tail(f"{self.name} ended unexpectedly, code {self.exit_code}", self.log_path))

    def stop(self, hurry: threading.Event | None = None) -> int | None:
        """Stop the process. After its grace time, or once `hurry` is set, kill it and every process below it.

        Returns the exit code (negative for a signal), None if it was never started.
        """
        self._wanted = False
        if self._child is not None:
            self.resume()
            self.exit_code = self._child.stop(signal.SIGTERM, self.stop_grace_s, hurry)
            self._child = None
        return self.exit_code

    def kill(self) -> None:
        """SIGKILL the process and everything below it at once, as a crash would."""
        self._running_child().kill_tree()
        self._reap()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        self._running_child().signal(number)

    def pause(self) -> None:
        """SIGSTOP the process and everything below it."""
        self._running_child().pause_tree()
        self._paused = True

    def resume(self) -> None:
        """Let a paused process continue. Does nothing otherwise."""
        if self._paused and self._child is not None:
            self._child.resume_tree()
        self._paused = False

    def last_beat(self) -> bytes | None:
        """Return the content of the file of beats; None if there is no such file."""
        if self.beats is None:
            return None
        try:
            return self.beats.read_bytes()
        except OSError:
            return None

    def wait_exit(self, timeout_s: float) -> bool:
        """Return whether the process ended within `timeout_s` seconds; True if there is no process."""
        return self._child is None or self._child.wait_exit(timeout_s)

    def tail(self, lines: int = 20) -> list[str]:
        """Return the last lines of the log."""
        return tail(self.log_path, lines)

    def __repr__(self) -> str:
        return f"ManagedProcess({self.name!r})"

    def _running_child(self) -> Child:
        if self._child is None or self._child.exited:
            raise RuntimeFaultError(f"{self.name} is not running")
        return self._child

    def _reap(self) -> None:
        if self._child is not None:
            self.exit_code = self._child.reap()
            self._child = None


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long to wait before a dead process is started again, in seconds. The delay doubles with each death.

    After a process ran for `stable_after_s` seconds, its next delay is the first one again. A process that should beat
    and has not for `silent_s` seconds is killed: it is frozen, or it would have ended itself (:mod:`panel.heartbeat`).
    """

    first_delay_s: float = 1.0
    max_delay_s: float = 30.0
    stable_after_s: float = 60.0
    silent_s: float = 90.0

    def delay_s(self, deaths_in_a_row: int) -> float:
        """Return the delay after the given number of deaths, counted from 1."""
        # The exponent is capped because a process may keep dying for days.
        return min(self.max_delay_s, self.first_delay_s * 2.0 ** min(deaths_in_a_row - 1, 32))


class Server(Protocol):
    """A server that this program starts itself (:mod:`runtime.servers.embedded_server`)."""

    title: str

    @property
    def running(self) -> bool: ...

    @property
    def log_path(self) -> Path: ...

    def start(self) -> None: ...


@dataclass(slots=True)
class _Record:
    """What the supervisor knows about one process. Times are of the monotonic clock."""

    started_at: float
    deaths_in_a_row: int = 0
    restart_at: float | None = None
    beat: bytes | None = None
    looked_at: float = 0.0
    silent_s: float = 0.0

    def listen(self, process: ManagedProcess, monotonic_now: float) -> None:
        """Look for a beat, once a second. One look counts for at most two seconds of silence: while this process was
        frozen or the machine slept, the child could not beat either."""
        if monotonic_now - self.looked_at < 1:
            return
        beat = process.last_beat()
        self.silent_s = self.silent_s + min(2, monotonic_now - self.looked_at) if beat == self.beat else 0.0
        self.beat, self.looked_at = beat, monotonic_now

    def plan_restart(self, policy: RestartPolicy, monotonic_now: float) -> float:
        """Count a death. Returns the delay in seconds until the next start."""
        stable = monotonic_now - self.started_at >= policy.stable_after_s
        self.deaths_in_a_row = 1 if stable else self.deaths_in_a_row + 1
        delay_s = policy.delay_s(self.deaths_in_a_row)
        self.restart_at = monotonic_now + delay_s
        return delay_s


@contextmanager
def stop_signals(on_signal: Callable[[], None]) -> Iterator[None]:
    """Within this block, SIGINT and SIGTERM call `on_signal` instead. For the main thread only."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda _number, _frame: on_signal()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Supervisor:
    """Processes that belong together. Each is ready before the next starts; they stop in reverse order.

    Without `restart`, all processes end when one dies. With it, the dead process is started again, and so is a dead
    server of `servers`; the caller starts these first and stops them last. One thread supervises. Any thread or signal
    handler may call `request_stop`.
    """

    def __init__(
        self,
        processes: Sequence[ManagedProcess],
        *,
        restart: RestartPolicy | None = None,
        servers: Sequence[Server] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = [process.name for process in processes]
        if len(set(names)) != len(names):
            raise RuntimeFaultError(f"two processes share a name: {', '.join(names)}")
        self.processes = tuple(processes)
        self._restart = restart
        self._clock = clock
        self._servers = tuple((server, _Record(started_at=clock())) for server in servers)
        self._logs = [process.log_path for process in processes] + [server.log_path for server in servers]
        self._logs_looked_at = clock()
        self._records: dict[str, _Record] = {}
        self._stop_requested = threading.Event()
        self._hurry = threading.Event()

    def process(self, name: str) -> ManagedProcess:
        """Return the process of that name. Raises KeyError if there is none."""
        return {process.name: process for process in self.processes}[name]

    def start(self) -> None:
        """Start all in order, each once the one before is ready. On any failure stop those that were started."""
        try:
            for process in self.processes:
                if self._stop_requested.is_set():
                    return
                process.start()
                self._records[process.name] = _Record(started_at=self._clock())
                process.wait_ready(self._stop_requested)
                _log.info("process_ready", process=process.name)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Watch until `request_stop`. Without a restart policy, raises ProcessDiedError if a process dies."""
        while not self._stop_requested.wait(_POLL_S):
            self.check()

    def check(self) -> None:
        """Look at every process once. Without a restart policy, raises ProcessDiedError for a dead one. With it, kills
        a process that should beat and does not, and starts a dead one when its delay is over. Bounds the logs."""
        if (now := self._clock()) - self._logs_looked_at >= _LOGS_S:
            self._logs_looked_at = now
            bound_logs(self._logs)
        for server, record in self._servers:
            if self._restart is not None and not server.running:
                _revive_server(server, record, self._restart, self._clock())
        for process in self.processes:
            if process.name not in self._records:
                continue
            if self._restart is None:
                process.check()
            else:
                self._revive(process, self._records[process.name], self._restart, self._clock())

    def request_stop(self) -> None:
        """Ask `wait` and `start` to return. A second call makes `stop` kill instead of wait."""
        if self._stop_requested.is_set():
            self._hurry.set()
        self._stop_requested.set()

    def stop(self) -> None:
        """Stop all in reverse order, each with its own grace time."""
        self._stop_requested.set()
        for process in reversed(self.processes):
            if process.running or process.died:
                code = process.stop(self._hurry)
                _log.info("process_stopped", process=process.name, code=code)
        self._records.clear()

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start all, call `on_ready`, watch until SIGINT or SIGTERM, stop all. For the main thread only."""
        with stop_signals(self.request_stop):
            try:
                self.start()
                if on_ready is not None and not self._stop_requested.is_set():
                    on_ready()
                self.wait()
            finally:
                self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _revive(self, process: ManagedProcess, record: _Record, policy: RestartPolicy, monotonic_now: float) -> None:
        if not process.died:
            if process.beats is None:
                return
            record.listen(process, monotonic_now)
            if record.silent_s < policy.silent_s:
                return
            _log.error("process_silent", process=process.name, no_beat_for_s=round(record.silent_s))
            record.silent_s = 0.0
            try:
                process.kill()
            except RuntimeFaultError as error:  # it hangs in the kernel: try again later
                _log.error("process_not_killed", process=process.name, error=str(error))
                return
        if record.restart_at is None:
            delay_s = record.plan_restart(policy, monotonic_now)
            _log.error("process_died", process=process.name, restart_in_s=delay_s, log=str(process.log_path))
        elif monotonic_now >= record.restart_at:
            process.start()
            record.started_at = monotonic_now
            record.restart_at, record.silent_s = None, 0.0
            _log.info("process_restarted", process=process.name, pid=process.pid)


def _revive_server(server: Server, record: _Record, policy: RestartPolicy, monotonic_now: float) -> None:
    """Start a dead server again when it is due, on its old port, which its clients know."""
    if record.restart_at is None:
        delay_s = record.plan_restart(policy, monotonic_now)
        _log.error("server_died", server=server.title, restart_in_s=delay_s)
    elif monotonic_now >= record.restart_at:
        try:
            server.start()
        except RuntimeFaultError as error:
            delay_s = record.plan_restart(policy, time.monotonic())
            _log.error("server_not_restarted", server=server.title, restart_in_s=delay_s, error=str(error))
            return
        record.started_at, record.restart_at = time.monotonic(), None
        _log.info("server_restarted", server=server.title)
