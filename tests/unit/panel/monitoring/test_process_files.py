"""Processes that count together: they add up, the dead stay counted, and a full disk ends nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panel.monitoring.process_files import VARIABLE, read_together

COUNTING = """
import os, sys
from panel.monitoring.instruments import beat_sent, calls_finished, request_began, request_ended, task_ended
request_began()
request_ended("/api/vps", "GET", 200, 0.02)
request_began()
calls_finished(["applied", "dead"])
task_ended("sync.apply", "success", 0.3)
beat_sent("reconcile.run")
print("counted", flush=True)
sys.stdin.read()
"""

ON_A_FULL_DISK = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from panel.monitoring import exposition, instruments
instruments.calls_finished(["applied"])
assert 'panel_sync_calls_finished_total{state="applied"} 1.0' in exposition.as_text().decode()
"""

FORKED_ON_A_FULL_DISK = """
import os, resource, sys
from panel.monitoring import instruments
if (pid := os.fork()) == 0:
    os._exit(0)  # its files are reserved, so this is not where the next one fails
os.waitpid(pid, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if (pid := os.fork()) == 0:
    instruments.calls_finished(["applied"])
    instruments.task_ended("sync.apply", "success", 0.3)
    os._exit(0 if not instruments.RESERVED.may_count else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@contextmanager
def counting(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has counted, and waits."""
    environment = {"PATH": os.environ["PATH"], VARIABLE: str(directory)}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", COUNTING], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        yield process


def shown(directory: Path) -> dict[str, float]:
    """Some numbers of all processes, by a short name."""
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in read_together(directory)
        for sample in metric.samples
    }
    return {
        "requests": samples[
            "panel_sync_http_requests_total", (("method", "GET"), ("route", "/api/vps"), ("status", "2xx"))
        ],
        "quick": samples[
            "panel_sync_http_request_duration_seconds_bucket",
            (("le", "0.025"), ("method", "GET"), ("route", "/api/vps")),
        ],
        "under way": samples.get(("panel_sync_http_requests_in_flight", ()), 0),
        "dead calls": samples["panel_sync_calls_finished_total", (("state", "dead"),)],
        "task seconds": samples["panel_sync_task_duration_seconds_sum", (("task", "sync.apply"),)],
    }


def test_two_processes_add_up_and_a_killed_one_stays_counted_but_does_nothing_any_more(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"  # made by whoever counts first
    one = {"requests": 1.0, "quick": 1.0, "under way": 1.0, "dead calls": 1.0, "task seconds": 0.3}
    both = {name: 2 * value for name, value in one.items()}
    with counting(directory):
        assert shown(directory) == one
        with counting(directory) as second:
            assert shown(directory) == both
            second.send_signal(signal.SIGKILL)
            second.wait()
            for _ in range(2):  # the dead are folded once, not at each scrape
                assert shown(directory) == both | {"under way": 1.0}
            ids = {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}
            assert str(second.pid) not in ids, "its files would be read for ever"
    assert shown(directory) == both | {"under way": 0.0}


def test_when_beat_last_asked_outlives_beat(tmp_path: Path) -> None:
    with counting(tmp_path):
        pass
    names = {sample.name: sample.value for metric in read_together(tmp_path) for sample in metric.samples}
    assert names["panel_sync_beat_last_sent_timestamp_seconds"] > 0


def test_a_process_without_room_on_the_disk_goes_on_and_counts_for_itself(tmp_path: Path) -> None:
    """A write to a mapped file without room would end it (SIGBUS)."""
    # Without compiled modules: under the limit Python would write halves of them, which every other process reads.
    environment = {"PATH": os.environ["PATH"], VARIABLE: str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for program in (ON_A_FULL_DISK, FORKED_ON_A_FULL_DISK):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)  # noqa: S603 - our own program
