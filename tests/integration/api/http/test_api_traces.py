"""The trace of a call: from its header into the journal and the log, whether traces are exported or not."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import structlog
from sqlalchemy import Engine, text

from tests.integration.api.test_api_sync import create
from tests.support.collected_spans import Collected
from tracing.spans import switch_on
from tracing.traceparent import trace_id_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01"

Events = list[structlog.typing.EventDict]


def journaled(engine: Engine) -> list[str | None]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT traceparent FROM operations ORDER BY id")))


@pytest.mark.parametrize(
    ("given", "kept", "reason"),
    [
        ([CALLER], CALLER, "the worker's log lines have its id, too"),
        ([f"01-{TRACE}-{SPAN}-01-{'x' * 200}"], CALLER, "what is kept has a known length"),
        ([], None, "no header, no trace"),
        (["anna@private.test"], None, "a wrong header is no reason to refuse a call, and is kept nowhere"),
        ([CALLER, CALLER], None, "nobody can tell which one counts"),
    ],
)
async def test_while_traces_are_off_the_caller_s_is_kept(
    site: httpx.AsyncClient, engine: Engine, logged: Events, given: list[str], kept: str | None, reason: str
) -> None:
    headers = [("traceparent", one) for one in given]
    answer = await site.post("/api/vps/sync", json=create(), headers=headers)
    assert answer.status_code == 202
    assert journaled(engine) == [kept], reason
    (line,) = [event for event in logged if event["event"] == "http_request"]
    assert line.get("trace_id") == trace_id_of(kept)
    assert line["operation_id"]


async def test_calls_that_share_a_commit_are_joined_by_links(site: httpx.AsyncClient, engine: Engine) -> None:
    traces = [f"{number:032x}" for number in range(1, 9)]
    collected = Collected()
    switch_on("test", collected.send)
    try:
        answers = await asyncio.gather(
            *(
                site.post("/api/vps/sync", json=create(), headers={"traceparent": f"00-{trace}-{SPAN}-01"})
                for trace in traces
            )
        )
    finally:
        sent = collected.every()
    assert {answer.status_code for answer in answers} == {202}
    requests = {span.trace: span for span in sent if span.name == "POST /api/vps/sync"}
    assert sorted(requests) == traces
    assert {span.parent for span in requests.values()} == {SPAN}
    assert set(journaled(engine)) == {f"00-{span.trace}-{span.id}-01" for span in requests.values()}
    commits = [span for span in sent if span.name == "journal calls"]
    assert sorted(trace for span in commits for trace in (span.trace, *span.links)) == traces
    assert sum(int(span.attributes["panel.calls"]) for span in commits) == len(traces)
    assert max(len(span.links) for span in commits) > 0, "they shared a commit"
