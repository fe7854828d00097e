"""Nothing outlives a parent that is killed, and nothing dies with a mere thread of it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import runtime
from runtime.processes import launch
from runtime.processes.supervisor import ManagedProcess
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.integration.runtime.conftest import wait_gone

ROOT = Path(runtime.__file__).resolve().parent.parent

PARENT = """
import sys, time
from pathlib import Path
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from runtime.processes.supervisor import ManagedProcess
kind, directory = sys.argv[1], Path(sys.argv[2])
if kind == "postgres":
    server = EmbeddedPostgres(directory, durable=False)
elif kind == "redis":
    server = EmbeddedRedis(directory)
else:
    server = ManagedProcess("deaf", [sys.executable, "-S", "-c", sys.argv[3]], {}, directory / "log")
server.start()
print(server.pid if kind == "deaf" else server._child.pid, flush=True)
sys.stdin.read()
"""

# Deaf to everything that can be ignored.
DEAF = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("kind", ["postgres", "redis", "deaf"])
def test_the_child_dies_with_a_parent_that_is_killed(kind: str, tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", PARENT, kind, str(tmp_path / "server"), DEAF],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not wait_gone(child, timeout_s=0)
        parent.kill()
    assert wait_gone(child, timeout_s=120)
    server = {"postgres": EmbeddedPostgres, "redis": EmbeddedRedis}.get(kind)
    if server is not None:
        server(tmp_path / "server").destroy()


def test_a_child_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    process = ManagedProcess("deaf", [sys.executable, "-S", "-c", DEAF], {}, tmp_path / "log")
    for _ in range(2):
        thread = threading.Thread(target=process.start)
        thread.start()
        thread.join()
        assert not wait_gone(process.pid, timeout_s=0.3)
        process.kill()


def test_an_error_while_starting_reaches_the_thread_that_asked(tmp_path: Path) -> None:
    process = ManagedProcess("deaf", ["/bin/true"], {}, tmp_path / "log", cwd=tmp_path / "absent")
    errors: list[BaseException] = []

    def start() -> None:
        try:
            process.start()
        except FileNotFoundError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_a_parent_that_died_before_the_tie_is_noticed() -> None:
    ran = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-I", "-S", launch.__file__, "1", str(int(signal.SIGKILL)), "-", "/bin/echo", "ran"],
        capture_output=True,
        check=False,
    )
    assert os.getpid() != 1
    assert (ran.returncode, ran.stdout) == (125, b"")


def test_signals_come_to_the_program_as_if_no_interpreter_had_been_between(tmp_path: Path) -> None:
    # Not a Python program: that would ignore SIGPIPE by itself.
    process = ManagedProcess("grep", ["/bin/grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"], {}, tmp_path / "log")
    process.start()
    assert process.wait_exit(120)
    process.stop()
    masks = [int(line.split()[1], 16) for line in process.tail()]
    assert len(masks) == 2
    # Signals 32 and 33 are the C library's own and out of anyone's reach.
    assert [mask & ((1 << 31) - 1) for mask in masks] == [0, 0]
