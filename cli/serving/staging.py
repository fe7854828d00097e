"""What commands share that start everything in a directory of their own: the directory, and an end in good order."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from runtime.processes.supervisor import ManagedProcess, Supervisor

STOP_GRACE_S = 1.5


class Endings:
    """SIGINT and SIGTERM end the command; while it ends, another one makes it hurry instead of leaving it half done."""

    def __init__(self) -> None:
        self._supervisors: list[Supervisor] = []
        self._ending = False

    def watch(self, supervisor: Supervisor) -> Supervisor:
        """The supervisor, to be hurried when asked for."""
        self._supervisors.append(supervisor)
        return supervisor

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def ending_after(self) -> Iterator[None]:
        """Whatever ends the block, from then on the parts are being stopped."""
        try:
            yield
        finally:
            self._ending = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._ending:
            raise KeyboardInterrupt
        for supervisor in self._supervisors:
            supervisor.request_stop()


@contextlib.contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
    """A temporary directory; after a failure it stays, since its logs may say why (the servers' data is gone)."""
    root = Path(tempfile.mkdtemp(prefix=f"panel-sync-{name}-"))
    try:
        yield root
    except KeyboardInterrupt:
        shutil.rmtree(root)
        raise
    shutil.rmtree(root)


def quick_to_stop(parts: list[ManagedProcess]) -> list[ManagedProcess]:
    """Workers take eight seconds for their soft shutdown; here nothing outlives the run that is worth waiting for."""
    for part in parts:
        part.stop_grace_s = STOP_GRACE_S
    return parts
