"""Shared by ``demo`` and ``chaos``, which start everything in a temporary directory: that directory, and the end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.processes.supervisor import ManagedProcess, Supervisor

STOP_GRACE_S = 1.5


class EndSignals:
    """SIGINT and SIGTERM end the command. A second signal hurries the end, but all parts are still stopped."""

    def __init__(self) -> None:
        self._supervisors: list[Supervisor] = []
        self._ending = False

    def watch(self, supervisor: Supervisor) -> Supervisor:
        """Register a supervisor that a second signal hurries."""
        self._supervisors.append(supervisor)
        return supervisor

    @contextlib.contextmanager
    def hurrying_after(self) -> Iterator[None]:
        """After this block, however it ends, a signal hurries the end instead of beginning it."""
        try:
            yield
        finally:
            self._ending = True

    def on_signal(self) -> None:
        if not self._ending:
            raise KeyboardInterrupt
        for supervisor in self._supervisors:
            supervisor.request_stop()


@contextlib.contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
    """A temporary directory. It stays after a failure, because its logs may say why (the servers' data is removed)."""
    root = Path(tempfile.mkdtemp(prefix=f"panel-sync-{name}-"))
    try:
        yield root
    except KeyboardInterrupt:
        shutil.rmtree(root)
        raise
    shutil.rmtree(root)


def quick_to_stop(parts: list[ManagedProcess]) -> list[ManagedProcess]:
    """Shorten the grace times. A worker takes 8 s for a soft shutdown, but here no running task has to end well."""
    for part in parts:
        part.stop_grace_s = STOP_GRACE_S
    return parts
