"""A main site of canned answers, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import SecretStr

from sources.clock import Clock
from sources.config import MainSiteConfig

CANARY = "rootpw-canary-5f1c"
KEY = "k3y-canary-" + "x" * 32
DATE = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
AS_OF = "2026-03-01T11:59:58.000Z"
NO_DATES = (
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Sun, 01 Mar 2026 12:00:00 +9999999999999999",
    "Sun, 01 Mar 2026 99999999999999999999:00:00 GMT",
)
"""``Date`` headers whose numbers overflow."""


class StillClock:
    """``slept`` lists the pauses in seconds; the jitter is at its upper end."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self, chance: float = 1.0) -> Clock:
        return Clock(
            monotonic=lambda: self.now,
            wall=lambda: DATE + timedelta(seconds=self.now - 1_000.0),
            sleep=self.sleep,
            chance=lambda: chance,
        )


def order(number: int, **fields: object) -> dict[str, object]:
    return {"id": number, "userId": 7, "status": "running", "rootPassword": CANARY, **fields}


def page(
    rows: Iterable[object],
    *,
    next_cursor: object = None,
    total: object = None,
    as_of: object = AS_OF,
    date: datetime | None = DATE,
    **fields: object,
) -> httpx.Response:
    listed = list(rows)
    document = {
        "status": "success",
        "data": listed,
        "next_cursor": next_cursor,
        "total": len(listed) if total is None else total,
        "as_of": as_of,
        **fields,
    }
    return answer(document, date=date)


def answer(document: object, *, status: int = 200, date: datetime | None = DATE) -> httpx.Response:
    headers = {} if date is None else {"Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    return httpx.Response(status, json=document, headers=headers)


def html(status: int = 200) -> httpx.Response:
    return httpx.Response(status, html=f"<html>{CANARY}</html>")


class Canned(httpx.MockTransport):
    """Gives the answers in turn and repeats the last; a callable may raise or look at the request."""

    def __init__(self, *answers: httpx.Response | Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = answers
        super().__init__(self._next)

    def _next(self, request: httpx.Request) -> httpx.Response:
        given = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        if callable(given):
            return given(request)
        # A response can be read once; every request gets its own.
        return httpx.Response(given.status_code, headers=given.headers, content=given.content)

    @property
    def asked(self) -> list[str]:
        return [request.url.raw_path.decode("ascii").removeprefix("/api/panel") for request in self.requests]


def main_site(**changes: object) -> MainSiteConfig:
    given: dict[str, object] = {"base_url": "https://site.test", "api_key": SecretStr(KEY), **changes}
    return MainSiteConfig(**given)  # type: ignore[arg-type]
