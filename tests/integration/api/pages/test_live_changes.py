"""Live updates of a real API: who hears what, over a lost database connection, and to the end of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from panel.journal.writer import apply_operation
from tests.integration.api.pages.conftest import OWN
from tests.integration.api.test_api_sync import create, update
from tests.support.api_process import ApiProcess, api_process
from tests.support.databases import Database
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[ApiProcess]:
    with api_process(database, tmp_path) as running:
        yield running


class Listener:
    """Reads a stream in a thread, to its end."""

    def __init__(self, url: str, headers: dict[str, str], cookies: httpx.Cookies | None = None) -> None:
        self.lines: list[str] = []
        self.status = 0
        self.headers = httpx.Headers()
        self.ended = threading.Event()
        self._client = httpx.Client(timeout=None, headers=headers, cookies=cookies, trust_env=False)  # noqa: S113 - it waits
        self._url = url
        threading.Thread(target=self._read, daemon=True).start()
        wait_until(lambda: self.status, "the stream is open")

    def _read(self) -> None:
        with self._client, self._client.stream("GET", self._url) as answer:
            self.headers = answer.headers
            self.status = answer.status_code
            for line in answer.iter_lines():
                self.lines.append(line)
        self.ended.set()

    @property
    def heard(self) -> int:
        return self.lines.count("event: vps-changed")

    def hears(self, times: int) -> None:
        """Wait until it has heard of changes so many times. A stream that opens beside it makes it look once more."""
        wait_until(lambda: self.heard >= times, f"it hears {times} times")


def test_customers_hear_of_their_own_until_the_process_ends(api: ApiProcess, engine: Engine) -> None:
    events = f"{api.url}/api/vps/events"
    with httpx.Client(base_url=api.url, headers=api.main_site, timeout=120, trust_env=False) as site:

        def called(body: dict[str, object]) -> int:
            answer = site.post("/api/vps/sync", json=body).raise_for_status().json()
            apply_operation(engine, answer["operation"]["id"])
            return int(answer["vps"]["id"])

        mine, his = called(create(user_id=5)), called(create(user_id=6))
        cookies = _signed_in(api, 5)
        annas, boriss = Listener(events, {}, cookies), Listener(events, api.client(6))
        for one in (annas, boriss):
            assert (one.status, one.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
            assert one.headers["Cache-Control"] == "no-store"
            one.hears(1)
        called(update(mine, "running"))
        annas.hears(2)
        called(update(his, "running"))
        boriss.hears(2)

        with engine.connect() as connection:
            connection.execute(text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'panel-sync api read'"
            ))  # fmt: skip
        called(update(mine, "stopped"))
        annas.hears(3)
        assert not annas.ended.is_set()

        more = [Listener(events, api.client(5)) for _ in range(6)]

        def another() -> httpx.Response:
            with httpx.stream("GET", events, headers=api.client(5), timeout=120, trust_env=False) as answer:
                if answer.status_code != 200:
                    answer.read()
            return answer

        with httpx.stream("GET", events, headers=api.client(5), timeout=120, trust_env=False) as eighth:
            assert eighth.status_code == 200
            full = another()
            assert (full.status_code, full.json()["code"]) == (503, "too_many_streams")
            assert full.headers["Retry-After"] == "30"
        wait_until(lambda: another().status_code == 200, "who goes away makes room")
        assert httpx.get(events, timeout=120, trust_env=False).status_code == 401

    more[-1].hears(1)
    assert boriss.heard == 2, "nothing of Anna's"
    api.process.send_signal(signal.SIGTERM)
    assert api.process.wait_exit(PATIENCE_S)
    for one in (annas, boriss, *more):
        assert one.ended.wait(PATIENCE_S)
    assert not [event for event in api.log() if event["level"] == "error"]


def _signed_in(api: ApiProcess, user_id: int) -> httpx.Cookies:
    """The cookies of a browser on this machine."""
    with httpx.Client(base_url=api.url, timeout=120, trust_env=False) as browser:
        answer = browser.post("/sign-in", data={"token": api.token(user_id)}, headers=OWN)
        assert answer.status_code == 303
        return browser.cookies
