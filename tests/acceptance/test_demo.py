"""``panel-sync demo``: the story from end to end in its own processes, and an end in good order at any time."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.demo.story import SCENES
from panel.settings import Settings
from runtime.processes.children import descendants
from runtime.processes.supervisor import ManagedProcess
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("demo")]

STORY_S = 800.0
PARTS = (
    "postgres", "redis", "proxmox", "main-site", "worker-sync", "worker-reconcile", "worker-power", "worker-statistics",
    "beat", "flower", "api",
)  # fmt: skip
BROKEN = {
    "Calls get lost": 4,
    "A delete gets lost": 1,
    "A guest migrates": 1,
    "A token goes blind": 2,
    "The feed breaks off": 1,
    "Redis is killed": 1,
    "Calls in disorder": 3,
}
"""How many things each scene must show broken before they are right."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    # Short: PostgreSQL's own paths are limited.
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


@pytest.fixture
def demo(scratch: Path) -> Iterator[Callable[..., ManagedProcess]]:
    """Starts a demo from an empty directory, its temporary files in there too."""
    started: list[ManagedProcess] = []
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}

    def start(*arguments: str) -> ManagedProcess:
        (scratch / "tmp").mkdir()
        argv = (sys.executable, "-P", "-m", "cli.main", "demo", *arguments)
        environment = kept | {"TMPDIR": str(scratch / "tmp")}
        process = ManagedProcess(
            "demo",
            argv,
            environment,
            scratch / "demo.out",
            cwd=scratch,
            stop_grace_s=PATIENCE_S,
            death_signal=signal.SIGTERM,
        )
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


def output(process: ManagedProcess) -> str:
    return process.log_path.read_text(encoding="utf-8")


@pytest.mark.demo
def test_the_story_is_told_to_its_end(demo: Callable[..., ManagedProcess], scratch: Path) -> None:
    process = demo("--once")
    assert process.wait_exit(STORY_S), output(process)
    assert process.stop() == 0, output(process)
    told = output(process)
    assert re.search(r"^ +anna +http://127\.0\.0\.1:\d+/sign-in/anna$", told, re.MULTILINE), "one click for a customer"
    assert re.search(r"^ +operators +http://127\.0\.0\.1:\d+/ops +key \S{32}$", told, re.MULTILINE)
    assert "\x1b" not in told, "without a terminal it is plain text"
    story, _, table = told.partition("What was seen")
    scenes = dict(
        zip((title for title, _ in SCENES), re.split(r"^\d\. .*$", story, flags=re.MULTILINE)[1:], strict=True)
    )
    broken = {title: len(re.findall(r"^  broken ", scene, re.MULTILINE)) for title, scene in scenes.items()}
    assert {title: count for title, count in broken.items() if count} == BROKEN
    for title in scenes:
        rows = re.findall(rf"^{re.escape(title)} ", table, re.MULTILINE)
        assert len(rows) >= BROKEN.get(title, 1), title
    assert "N=3, T=15 s for the proof of absence" in scenes["A delete gets lost"]
    assert "The whole story came true" in table
    assert not list((scratch / "tmp").glob("panel-sync-demo-*")), "nothing is left behind"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT], ids=lambda number: number.name)
def test_it_ends_in_good_order_in_the_middle(
    demo: Callable[..., ManagedProcess], scratch: Path, number: signal.Signals
) -> None:
    process = demo()
    wait_until(lambda: "2. Calls get lost" in output(process) or not process.running, "the second scene", STORY_S)
    assert process.running, output(process)
    below = descendants(process.pid)
    assert len(below) > len(PARTS), "PostgreSQL, Redis, the simulators and the panel's parts"
    process.send_signal(number)
    assert process.wait_exit(PATIENCE_S), output(process)
    assert process.stop() == 130, output(process)
    wait_until(lambda: not [pid for pid in below if alive(pid)], "no process is left")
    assert not list((scratch / "tmp").glob("panel-sync-demo-*"))
