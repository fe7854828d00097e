"""An attempt that fails: what is tried again, after which pause, how often, and what health says of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from tests.unit.sources.canned import DATE, KEY, Canned, StillClock, answer, html, order, page
from tests.unit.sources.read_orders import feed_of, ids, read


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no", request=request)


def cut(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("peer closed", request=request)


def wait_in_vain(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


Step = httpx.Response | Callable[[httpx.Request], httpx.Response]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(status: int) -> None:
    still = StillClock()
    transport = Canned(answer({}, status=status), answer({}, status=status), page([order(1)]))
    sweep = feed_of(transport, still).orders()
    assert ids(list(sweep.pages)) == ["1"]
    assert sweep.complete
    assert still.slept == [0.5, 1.0]


def test_the_age_of_a_page_counts_from_the_attempt_that_was_answered() -> None:
    sweep = feed_of(Canned(refuse, page([order(1)]))).orders()
    assert [shown.began_s for shown in sweep.pages] == [0.5]


@pytest.mark.parametrize(
    ("step", "attempts", "sentence"),
    [
        pytest.param(refuse, 3, "no connection could be made", id="connection refused"),
        pytest.param(answer({}, status=503), 3, "answered 503", id="503 for good"),
        pytest.param(answer({}, status=500), 1, "answered 500", id="500"),
        pytest.param(answer({}, status=401), 1, "MAIN_SITE_API_KEY is refused", id="401"),
        pytest.param(cut, 1, "before the whole answer had arrived", id="cut"),
        pytest.param(wait_in_vain, 1, "no answer within 30 s", id="timeout"),
        pytest.param(html(), 1, "not JSON", id="HTML"),
    ],
)
def test_attempts_are_bounded(step: Step, attempts: int, sentence: str) -> None:
    transport = Canned(step)
    _, sweep = read(transport)
    assert len(transport.requests) == attempts
    assert sentence in (sweep.problem or "")


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("2", 2.0), ("0", 0.5), ("Sun, 01 Mar 2026 12:00:07 GMT", 7.0), ("soon", 0.5), ("31", None)],
)
def test_retry_after_is_honoured_within_bounds(asked: str, pause: float | None) -> None:
    still = StillClock()
    busy = answer({}, status=503)
    busy.headers["Retry-After"] = asked
    sweep = feed_of(Canned(busy, page([])), still).orders()
    assert len(list(sweep.pages)) == (0 if pause is None else 1)
    assert still.slept == ([] if pause is None else [pause])


def test_health_tells_key_clock_and_shape() -> None:
    ahead = page([], date=DATE + timedelta(seconds=9))
    health = feed_of(Canned(ahead)).health()
    assert health.ok
    assert health.clock_skew_s == pytest.approx(9.5)
    refused = feed_of(Canned(answer({}, status=401))).health()
    assert not refused.ok
    assert "MAIN_SITE_API_KEY is refused" in refused.problems[0]
    assert KEY not in str(refused)
    for step in (refuse, html(), answer({"data": 5}), answer({}, status=500)):
        assert not feed_of(Canned(step)).health().ok
