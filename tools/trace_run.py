"""Measure how far a reader must walk: the files and functions of the project that one full run goes through, and one
sync call, on a panel with three healthy VPSes.

``python -m tools.trace_run`` plays both on a real PostgreSQL with the simulators of the main site and Proxmox VE.
``--calls`` prints the functions too, in the order in which they are first called.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

from panel.sessions import sync_engine
from tests.stories.steps import converge, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Databases

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("api", "domain", "panel", "reconcile", "runtime", "sources", "tracing", "worker")
"""What the panel is made of. The simulators and the story's own steps are not counted."""


@dataclass(slots=True)
class Walk:
    """The project's functions that were called while a recording was on. ``steps``: each call from one function to
    another, once: what a reader follows who reads every function once."""

    recording: bool = False
    functions: dict[CodeType, None] = field(default_factory=dict)
    steps: dict[tuple[CodeType, CodeType], None] = field(default_factory=dict)

    def start(self) -> None:
        """Begin to look on, in this thread and in those that are started from now on."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    @contextmanager
    def recorded(self) -> Iterator[Walk]:
        """Forget what was recorded before, and record until the end of the block."""
        self.functions, self.steps = {}, {}
        self.recording = True
        try:
            yield self
        finally:
            self.recording = False

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event != "call" or not self.recording or not _is_ours(frame.f_code):
            return
        self.functions[frame.f_code] = None
        caller = frame.f_back
        while caller is not None and not _is_ours(caller.f_code):
            caller = caller.f_back
        if caller is not None and caller.f_code is not frame.f_code:
            self.steps[caller.f_code, frame.f_code] = None

    @property
    def files(self) -> list[str]:
        """The files of those functions, in the order of their first call."""
        return list(dict.fromkeys(code.co_filename for code in self.functions))

    @property
    def changes(self) -> int:
        """How many of the steps lead to another file."""
        return sum(one.co_filename != other.co_filename for one, other in self.steps)


_OURS: dict[str, bool] = {}


def _is_ours(code: CodeType) -> bool:
    """Whether it is a named function of the panel: what the reader of a file sees as one."""
    if code.co_name.startswith("<"):
        return False
    ours = _OURS.get(code.co_filename)
    if ours is None:
        path = Path(code.co_filename)
        ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS
        _OURS[code.co_filename] = ours
    return ours


@contextmanager
def _healthy_panel(walk: Walk) -> Iterator[Bench]:
    """A panel whose three VPSes agree with their orders and guests."""
    with tempfile.TemporaryDirectory(prefix="panel-sync-trace-") as directory:
        databases = Databases(Path(directory))
        databases.start()
        try:
            database = databases.clone()
            engine = sync_engine(database.app_url, "panel-sync trace", pool_size=4)
            walk.start()
            with bench(database, engine) as world:
                converge(world, *(sell(world, f"web-{n}") for n in range(3)))
                world.run()
                yield world
            engine.dispose()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            databases.destroy()


def _sync_call(world: Bench) -> Callable[[], None]:
    vps_id = world.vps()[0]["id"]

    def play() -> None:
        world.call("update", id=vps_id, status="running", name="web-renamed").raise_for_status()
        world.drain()

    return play


def main() -> int:
    """Print the figures of one full run and of one sync call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", action="store_true", help="print the functions in the order of their first call")
    options = parser.parse_args()
    walk = Walk()
    with _healthy_panel(walk) as world:
        for name, play in (("full run", world.run), ("sync call", _sync_call(world))):
            with walk.recorded():
                play()
            sys.stdout.write(
                f"{name}: {len(walk.files)} files, {len(walk.functions)} functions, {walk.changes} changes of file\n"
            )
            if options.calls:
                for code in walk.functions:
                    sys.stdout.write(f"  {Path(code.co_filename).relative_to(ROOT)}: {code.co_qualname}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
