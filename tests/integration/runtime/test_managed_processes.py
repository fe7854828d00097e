"""The supervisor on real child processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import runtime
from runtime.errors import NotReadyError, ProcessDiedError, RuntimeFaultError
from runtime.processes import supervisor as supervising
from runtime.processes.child_logs import bound_logs
from runtime.processes.free_ports import free_port
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess, RestartPolicy, Supervisor
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.integration.runtime.conftest import wait_gone
from tests.support.waiting import wait_until

ROOT = Path(runtime.__file__).resolve().parent.parent

# Writes its name to a shared journal when ready and when told to stop.
WELL_BEHAVED = """
import os, signal, sys
def note(what):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(what + " " + os.environ["NAME"] + "\\n")
def stop(number, frame):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("ready")
while True:
    signal.pause()
"""

DEAF_WITH_CHILD = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
while True:
    signal.pause()
"""

SUPERVISE = """
import os, sys
from pathlib import Path
from runtime.processes.supervisor import ManagedProcess, Supervisor
directory = Path(sys.argv[1])
deaf = ManagedProcess(
    "deaf", [sys.executable, "-S", "-c", sys.argv[2]], {}, directory / "deaf.log",
    ready=lambda: bool((directory / "deaf.log").read_text()), stop_grace_s=float(sys.argv[3]),
)
class Telling(Supervisor):
    def request_stop(self):
        super().request_stop()
        os.write(1, b"heard\\n")
Telling([deaf]).run(lambda: print(deaf.tail()[0], flush=True))
print("done", flush=True)
"""


def python(name: str, code: str, directory: Path, **options: object) -> ManagedProcess:
    env = {"NAME": name, "JOURNAL": str(directory / "journal")}
    argv = [sys.executable, "-S", "-c", code]
    return ManagedProcess(name, argv, env, directory / f"{name}.log", **options)  # type: ignore[arg-type]


def well_behaved(name: str, directory: Path) -> ManagedProcess:
    return python(name, WELL_BEHAVED, directory, ready=lambda: f"ready {name}" in journal(directory))


def journal(directory: Path) -> list[str]:
    path = directory / "journal"
    return path.read_text().splitlines() if path.exists() else []


def test_started_in_order_and_stopped_in_reverse(tmp_path: Path) -> None:
    with Supervisor([well_behaved(name, tmp_path) for name in "abc"]) as supervisor:
        assert journal(tmp_path) == ["ready a", "ready b", "ready c"]
        supervisor.check()
        pids = [process.pid for process in supervisor.processes]
    assert journal(tmp_path)[3:] == ["stopped c", "stopped b", "stopped a"]
    assert all(wait_gone(pid, timeout_s=0) for pid in pids)
    assert [process.exit_code for process in supervisor.processes] == [0, 0, 0]


def test_an_early_death_stops_the_start_and_shows_the_log(tmp_path: Path) -> None:
    broken = python("broken", "import sys; print('cannot reach the moon'); sys.exit(3)", tmp_path, ready=bool)
    supervisor = Supervisor([well_behaved("a", tmp_path), broken, well_behaved("b", tmp_path)])
    with pytest.raises(ProcessDiedError, match=r"(?s)broken ended unexpectedly, code 3.*cannot reach the moon"):
        supervisor.start()
    assert journal(tmp_path) == ["ready a", "stopped a"]


def test_a_program_that_is_not_there_is_an_early_death(tmp_path: Path) -> None:
    absent = ManagedProcess("absent", ["/no/such/program"], {}, tmp_path / "log", ready=lambda: False)
    absent.start()
    with pytest.raises(ProcessDiedError, match="cannot run /no/such/program: No such file"):
        absent.wait_ready()
    absent.stop()


def test_never_ready_is_told_apart_and_stopped(tmp_path: Path) -> None:
    never = python("never", WELL_BEHAVED, tmp_path, ready=lambda: False, ready_timeout_s=0.2, stop_grace_s=5)
    with pytest.raises(NotReadyError, match=r"never was not ready after 0.2 s"):
        Supervisor([never]).start()
    assert not never.running


def test_one_deaf_to_the_signal_is_killed_with_all_below_it(tmp_path: Path) -> None:
    deaf = python("deaf", DEAF_WITH_CHILD, tmp_path, stop_grace_s=0.2)
    deaf.start()
    below = int(wait_until(deaf.tail, "the child below it to be told")[0])
    assert deaf.stop() == -signal.SIGKILL
    assert wait_gone(below, timeout_s=0)


def test_what_is_left_of_the_group_goes_with_its_leader(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['/bin/sleep', '600']).pid, flush=True)"
    short = python("short", code, tmp_path)
    short.start()
    assert short.wait_exit(120)
    short.stop()
    assert wait_gone(int(short.tail()[0]), timeout_s=120)


def test_a_death_is_raised_without_restart(tmp_path: Path) -> None:
    with Supervisor([well_behaved("a", tmp_path)]) as supervisor:
        os.kill(supervisor.process("a").pid, signal.SIGKILL)
        with pytest.raises(ProcessDiedError, match="a ended unexpectedly, code -9"):
            supervisor.wait()


def test_a_server_that_dies_is_started_again_on_its_port(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    policy = RestartPolicy(first_delay_s=0.05)
    with Supervisor([well_behaved("a", tmp_path)], restart=policy, servers=[redis_server]) as supervisor:
        port = redis_server.port
        redis_server.kill()
        deadline = time.monotonic() + 120
        while not redis_server.running:
            assert time.monotonic() < deadline
            supervisor.check()
        assert redis_server.port == port
    assert redis_server.running, "who started it stops it"


def test_a_server_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    class Broken:
        title, running, tried, log_path = "Broken", False, 0, tmp_path / "broken.log"

        def start(self) -> None:
            self.tried += 1
            raise RuntimeFaultError("no room on the disk")

    server = Broken()
    policy = RestartPolicy(first_delay_s=0.01, max_delay_s=0.02)
    with Supervisor([well_behaved("a", tmp_path)], restart=policy, servers=[server]) as supervisor:
        while server.tried < 3:
            supervisor.check()
        assert supervisor.process("a").running


def test_a_death_is_answered_by_restarts_with_growing_delays(tmp_path: Path) -> None:
    policy = RestartPolicy(first_delay_s=0.05, max_delay_s=0.2, stable_after_s=60)
    with Supervisor([well_behaved("a", tmp_path)], restart=policy) as supervisor:
        process = supervisor.process("a")
        waited: list[float] = []
        for _ in range(3):
            process.kill()
            assert process.died
            started = time.monotonic()
            while not process.running:
                supervisor.check()
            waited.append(time.monotonic() - started)
        assert waited[0] >= 0.05
        assert waited[1] >= 0.1
        assert waited[2] >= 0.2
        process.stop()
        supervisor.check()
        supervisor.check()
        assert not process.running, "one that was stopped on purpose stays down"


def test_the_previous_runs_log_is_kept_and_a_restart_appends(tmp_path: Path) -> None:
    for run in ("first", "second"):
        process = python("a", f"print({run!r})", tmp_path)
        for _ in range(2):
            process.start()
            assert process.wait_exit(120)
        process.stop()
    assert (tmp_path / "a.log").read_text() == "second\nsecond\n"
    assert (tmp_path / "a.log.1").read_text() == "first\nfirst\n"


def test_the_environment_is_exactly_the_one_given_and_never_shown(tmp_path: Path) -> None:
    process = ManagedProcess("env", ["/usr/bin/env"], {"SECRET": "hunter2"}, tmp_path / "log")
    process.start()
    assert process.wait_exit(120)
    process.stop()
    assert process.tail() == ["SECRET=hunter2"]
    assert "hunter2" not in repr(process)


def test_pause_and_resume(tmp_path: Path) -> None:
    process = well_behaved("a", tmp_path)
    process.start()
    process.wait_ready()
    process.pause()
    process.send_signal(signal.SIGTERM)
    assert not process.wait_exit(0.2)
    process.resume()
    assert process.wait_exit(120)
    process.stop()


@pytest.mark.parametrize(("grace_s", "signals"), [("0.2", 1), ("600", 2)], ids=["one signal", "second hurries"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals, grace_s: str, signals: int) -> None:
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", SUPERVISE, str(tmp_path), DEAF_WITH_CHILD, grace_s],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervising:
        assert supervising.stdout is not None
        lines = iter(supervising.stdout.readline, "")
        below = int(next(line for line in lines if line.strip().isdigit()))
        for _ in range(signals):  # two equal signals in one instant are one: the next once this one was heard
            supervising.send_signal(number)
            assert "heard\n" in lines
        assert "done\n" in list(lines)
        assert supervising.wait(120) == 0
    assert wait_gone(below, timeout_s=120)


def test_a_log_is_bounded_while_its_process_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "bound_logs", partial(bound_logs, limit=2_000))
    now = [0.0]
    code = "import threading\npause = threading.Event()\nfor n in range(10**6): print(n, flush=True); pause.wait(0.001)"
    process = python("chatty", code, tmp_path)
    kept = process.log_path.with_name(process.log_path.name + ".1")
    with Supervisor([process], clock=lambda: now[0]) as whole:
        for _ in range(3):
            wait_until(lambda: process.log_path.stat().st_size > 2_000, "a log that is too large")
            process.pause()  # so that it writes nothing between a check and a look
            whole.check()
            assert process.log_path.stat().st_size > 2_000, "looked at every ten seconds only"
            now[0] += 10
            whole.check()
            assert process.log_path.stat().st_size < 2_000
            assert kept.stat().st_size > 2_000
            process.resume()
        wait_until(process.tail, "lines behind it")
        assert b"\0" not in process.log_path.read_bytes(), "it goes on at the beginning of the file"
        assert process.running
    assert kept.stat().st_mode & 0o777 == 0o600


def test_misuse_is_an_error(tmp_path: Path) -> None:
    process = well_behaved("a", tmp_path)
    with pytest.raises(RuntimeFaultError, match="not running"):
        _ = process.pid
    with pytest.raises(RuntimeFaultError, match="share a name"):
        Supervisor([process, process])
    assert process.stop() is None
    process.start()
    with pytest.raises(RuntimeFaultError, match="already running"):
        process.start()
    process.stop()


def test_readiness_checks_against_a_real_server(tmp_path: Path) -> None:
    port = free_port()
    assert not http_ok(port, "/")()
    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]
    server = ManagedProcess("http", argv, {}, tmp_path / "http.log", ready=http_ok(port, "/"))
    server.start()
    server.wait_ready()
    assert http_ok(port, "/")()
    assert not http_ok(port, "/absent")()
    server.stop()


def test_a_server_that_does_not_speak_http_is_not_ready() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listening:
        check = http_ok(port, "/")
        listening.settimeout(120)

        def answer() -> None:
            connection, _ = listening.accept()
            connection.sendall(b"+PONG\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert not check()
        thread.join()
