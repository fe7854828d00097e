"""What both embedded servers promise, on the real programs."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.errors import InUseError, ProcessDiedError, RuntimeFaultError
from runtime.processes.children import descendants, pause_tree
from runtime.servers.embedded_redis import EmbeddedRedis
from runtime.servers.embedded_server import EmbeddedServer
from tests.integration.runtime.conftest import Make, new_server, read, wait_gone, write

NO_ANSWER = (psycopg.OperationalError, redis.ConnectionError, redis.TimeoutError)


def left_behind(server: EmbeddedServer) -> subprocess.Popen[bytes]:
    """Start the stopped server's program as a run that died would have left it: nobody owns it."""
    command, account = server._command(server.port)
    with server.log_path.open("ab") as log:
        orphan = subprocess.Popen(  # noqa: S603 - the server's own command
            command,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd=server._home,
            env={"LC_ALL": "C"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not server._answers():
        assert orphan.poll() is None, server.log_path.read_text()
    return orphan


def test_data_port_and_password_outlive_stop_kill_and_restart(make: Make) -> None:
    server = make()
    server.start()
    port, password = server.port, server._password()
    write(server, "before stop")
    server.stop()
    assert not server.running
    with pytest.raises(NO_ANSWER):
        read(server)

    server.start()
    write(server, "before kill")
    server.kill()
    assert not server.running
    with pytest.raises(NO_ANSWER):
        read(server)

    server.start()
    server.stop()
    server.start()
    assert read(server)[-2:] == ["before stop", "before kill"]
    server.stop()

    again = make()
    again.start()
    assert (again.port, again._password()) == (port, password)
    assert read(again)[-2:] == ["before stop", "before kill"]


def test_a_kill_leaves_no_process_behind(make: Make) -> None:
    server = make()
    server.start()
    write(server, "x")
    assert server._child is not None
    tree = [*descendants(server._child.pid), server._child.pid]
    server.kill()
    assert all(wait_gone(pid, timeout_s=0) for pid in tree)


def test_a_paused_server_holds_connections_and_goes_on_afterwards(make: Make) -> None:
    server = make()
    server.start()
    write(server, "x")
    server.pause()
    assert server.running
    with pytest.raises(NO_ANSWER):
        read(server, within_s=2)
    server.resume()
    assert read(server)[-1] == "x"
    server.pause()
    server.stop()
    assert not server.running


def test_a_directory_has_one_owner(make: Make) -> None:
    first, second = make(), make()
    first.start()
    first.start()
    with pytest.raises(InUseError, match=f"in use by process {os.getpid()}"):
        second.start()
    write(first, "unharmed")
    assert read(first)[-1] == "unharmed"
    first.stop()
    second.start()
    assert read(second)[-1] == "unharmed"


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_a_server_left_behind_is_stopped_by_the_next_start(make: Make, state: str) -> None:
    first = make()
    first.start()
    write(first, "kept")
    first.stop()
    orphan = left_behind(first)
    write(first, "by the orphan")
    if state == "frozen":
        pause_tree(orphan.pid)
    next_one = make()
    next_one.start()
    assert orphan.wait(120) in {0, -signal.SIGKILL}
    assert read(next_one)[-2:] == ["kept", "by the orphan"]


def test_a_remembered_port_that_is_taken_is_avoided(make: Make) -> None:
    server = make()
    server.start()
    port = server.port
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        server.start()
        assert server.port != port
        write(server, "x")
        assert read(server)[-1] == "x"


def test_the_password_is_in_no_command_line_log_or_open_file(make: Make) -> None:
    server = make()
    server.start()
    write(server, "x")
    password = server._password()
    assert len(password) >= 32
    assert server._child is not None
    for shown in ("cmdline", "environ"):
        assert password.encode() not in Path(f"/proc/{server._child.pid}/{shown}").read_bytes()
    assert password not in server.log_path.read_text()
    for path in server.data_dir.iterdir():
        if path.is_file() and password in path.read_text(errors="replace"):
            assert path.stat().st_mode & 0o077 == 0, path
    assert password not in repr(server)


def test_what_the_server_stores_is_closed_to_others(make: Make) -> None:
    server = make()
    server.start()
    write(server, "x")
    stored = server._home / "cluster" if server.title == "PostgreSQL" else server._home
    files = [path for path in stored.rglob("*") if path.is_file() and path.name != "port"]
    assert files
    assert not [path for path in files if path.stat().st_mode & 0o077]


def test_a_stranger_without_the_password_gets_nothing(make: Make) -> None:
    server = make()
    server.start()
    if isinstance(server, EmbeddedRedis):
        with (
            redis.Redis(port=server.port, password="wrong", retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
    else:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")


def test_a_server_that_ends_while_starting_reports_its_log_and_can_be_mended(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    if server.title == "PostgreSQL":
        broken, reason = server._home / "cluster" / "postgresql.auto.conf", "syntax error"
    else:
        # Redis 7 splits the append-only file into parts, listed in a manifest.
        broken = next(server.data_dir.rglob("appendonly.aof.manifest"), server.data_dir / "appendonly.aof")
        reason = "aof manifest" if broken.suffix == ".manifest" else "append only file"
    good = broken.read_bytes()
    broken.write_text("garbage\n")
    with pytest.raises(ProcessDiedError) as caught:
        server.start()
    assert "ended with code 1 while starting" in str(caught.value)
    assert reason in str(caught.value).lower()
    assert not server.running

    broken.write_bytes(good)
    other = make()
    other.start()
    assert other._answers()


def test_unasked_things_are_errors_or_nothing(kind: str, tmp_path: Path) -> None:
    server = new_server(kind, tmp_path / "server")
    with pytest.raises(RuntimeFaultError, match="has not been started"):
        _ = server.port
    with pytest.raises(RuntimeFaultError, match="not running"):
        server.pause()
    server.stop()
    server.kill()
    server.resume()
    assert not (tmp_path / "server").exists()
