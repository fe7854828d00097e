"""``GET /metrics``: what Prometheus reads.

It is not in the OpenAPI document: it is no JSON, its lines are told in docs/monitoring.md, and no client is generated
for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from fastapi import APIRouter, Request
from prometheus_client import Metric
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response

from api.dependencies import Edge, EdgeOf, Monitoring
from api.http.deadline import within
from api.http.problems import ProblemError
from api.operators.transactions import in_transaction
from panel.journal.calls import DatabaseAwayError
from panel.monitoring.exposition import CONTENT_TYPE, as_text
from panel.monitoring.process_files import BusyError
from panel.operators.metric_families import families_of
from panel.operators.metrics import metrics

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

FRESH_S = 10.0
"""For how many seconds the database's numbers are shown again, so that many scrapers cost it no more than one."""

TEXT_S = 3.0
"""How long the files of the processes may take to be read. They are in memory; this is for a machine that hangs."""


class DatabaseNumbers:
    """The database's numbers, read at most every ``FRESH_S``. One for each API process."""

    def __init__(self, edge: Edge, clock: Callable[[], float]) -> None:
        self._edge = edge
        self._clock = clock
        self._reading = asyncio.Lock()
        self._shown: Sequence[Metric] = ()
        self._read_at: float | None = None
        self._fault: str | None = None

    async def families(self) -> Sequence[Metric]:
        """The metrics of the database. Only one caller reads; the others wait for it, within the deadline of reads."""
        async with self._reading:
            if self._read_at is None or self._clock() - self._read_at >= FRESH_S:
                self._shown = families_of(await self._read())
                self._read_at = self._clock()  # also after a failure: its caller has waited for long enough
            return self._shown

    async def _read(self) -> dict[str, object] | None:
        """The numbers; None if the database does not answer in time or cannot say them. Each change is logged once."""
        try:
            numbers = await in_transaction(self._edge, metrics)
        except (DatabaseAwayError, DBAPIError, ProblemError) as error:
            fault = type(error).__name__
            if fault != self._fault:
                log.warning("metrics_without_database", error=fault)
            self._fault = fault
            return None
        self._fault = None
        return numbers


@router.get("/metrics")
async def get_metrics(request: Request, _edge: EdgeOf, _by: Monitoring) -> Response:
    """What the processes counted, and the database's numbers, in Prometheus' text format."""
    numbers: DatabaseNumbers = request.app.state.database_numbers
    families = await numbers.families()
    try:
        text = await within(TEXT_S, asyncio.to_thread(as_text, families))
    except (BusyError, OSError) as error:  # a TimeoutError, too, is an OSError
        log.warning("metrics_not_read", error=type(error).__name__)
        message = "The processes' numbers could not be read; the API's log says why"
        raise ProblemError(503, "metrics_busy", message, headers={"Retry-After": "5"}) from None
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
