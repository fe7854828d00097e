"""Commands that are interrupted or fail inside, with every key at hand: what they print holds none of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import ProgrammingError
from sqlalchemy import Engine, text

from cli import main as command_line
from reconcile import run as reconcile_run
from tests.integration.cli.conftest import PanelSync
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import wait_until


class Silent:
    """A Proxmox that takes requests and never answers them."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                one, _ = self._server.accept()
                self._held.append(one)
                if one.recv(4096):
                    self.asked.set()

    def close(self) -> None:
        """Away, so that nobody waits for it any more."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for one in self._held:
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def clusters(url: str, secret: str) -> str:
    return json.dumps([{"name": "main", "urls": [url], "token_id": "root@pam!sync", "token_secret": secret}])


def _heeds_ctrl_c() -> None:
    """Whoever runs the tests in the background of a shell has it ignore SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_one_line(engine: Engine, database: Database, silent: Silent, tmp_path: Path) -> None:
    secret = random_key()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database.app_url,
        "PROXMOX_CLUSTERS": clusters(silent.url, secret),
        "COLUMNS": "300",
    }
    command = [sys.executable, "-P", "-m", "cli.main", "plan"]
    said_in = tmp_path / "said"
    with said_in.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            env=environment,
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_heeds_ctrl_c,  # noqa: PLW1509 - one call of the system, no lock
        )
        try:
            wait_until(lambda: silent.asked.is_set() or process.poll() is not None, "Proxmox to be asked")
            assert process.poll() is None, said_in.read_text(encoding="utf-8")
            process.send_signal(signal.SIGINT)
            silent.close()
            assert process.wait(120) == 130
        finally:
            process.kill()
            process.wait()
    said = said_in.read_text(encoding="utf-8")
    assert secret not in said
    assert [line for line in said.splitlines() if "run_interrupted" in line]
    assert "Traceback" not in said
    with engine.connect() as connection:
        assert connection.execute(text("SELECT state, error FROM runs")).one() == ("failed", "KeyboardInterrupt")


def test_a_failure_inside_shows_where_and_no_key(
    panel_sync: PanelSync, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's log line and the command's own: two tracebacks, with an error that quotes a URL."""
    secret = random_key()

    def broken(*_: object) -> None:
        at_hand = secret, settings["DATABASE_URL"]
        raise ValueError(f"could not read {at_hand[1]}")

    monkeypatch.setattr(reconcile_run, "load_world", broken)
    said = panel_sync("plan", PROXMOX_CLUSTERS=clusters("http://127.0.0.1:1", secret), COLUMNS="300")
    assert said.code == 1
    assert said.out == ""
    for event in ("run_failed", "command_failed", "could not read postgresql://", "in broken"):
        assert event in said.err
    assert "locals" not in said.err
    for key in (secret, settings["DATABASE_URL"].split(":")[2].partition("@")[0], settings["JWT_SECRET"]):
        assert key not in said.err


def test_a_thread_that_fails_shows_no_key_either(
    panel_sync: PanelSync, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        def fail() -> None:
            raise ValueError(settings["JWT_SECRET"])

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(reconcile_run, "load_world", broken)
    said = panel_sync("plan")
    assert said.code == 130
    assert "uncaught_exception_in_thread" in said.err
    assert settings["JWT_SECRET"] not in said.err


def test_an_interrupt_that_a_library_met_in_its_midst_is_one(bare: PanelSync, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver raises while it tidies up is not what ended the command."""

    def interrupted(*_: object, **__: object) -> None:
        error = ProgrammingError("can't change 'autocommit' now")
        error.__context__ = KeyboardInterrupt()
        raise error

    monkeypatch.setattr(command_line, "app", interrupted)
    said = bare("plan")
    assert (said.code, "command_failed" in said.err) == (130, False)


def test_an_interrupt_that_got_lost_in_a_callback_is_one(bare: PanelSync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python writes "Exception ignored" and goes on."""

    class Gone:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def interrupted() -> None:
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr(sys, "unraisablehook", lambda _: None)
            del [Gone()][:]
        raise SystemExit(0)

    monkeypatch.setattr(command_line, "app", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert bare("plan").code == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
