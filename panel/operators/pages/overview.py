"""The state of the whole panel at one moment, for the page that operators open first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from panel.operators.findings import FindingCount, count_findings
from panel.operators.metrics import NUMBERS
from panel.operators.pages.attention import Matter, matters
from panel.operators.pauses import PauseView, pauses_in_force
from panel.operators.quarantine import QuarantinedView, list_quarantined
from panel.operators.service_levels import ServiceLevels, service_levels
from panel.records.history import recent_runs
from panel.runs.schedule_duties import Duty, list_duties
from panel.runs.source_states import SourceView, list_sources

LAST_RUNS = 8


@dataclass(frozen=True, slots=True)
class Overview:
    """``numbers``: of :mod:`panel.operators.metrics`. ``last_full``: the last full run that came to its end; None
    before the first. ``in_sync``: how many records that run found in agreement with their order and their guest."""

    numbers: Mapping[str, Any]
    last_full: Row[Any] | None
    in_sync: int | None
    by_approval: int
    findings: Sequence[FindingCount]
    matters: Sequence[Matter]
    sources: Sequence[SourceView]
    lanes: Sequence[Duty]
    runs: Sequence[Row[Any]]
    pauses: Sequence[PauseView]
    quarantined: Sequence[QuarantinedView]
    service: ServiceLevels

    @property
    def not_in_sync(self) -> int | None:
        """How many live records differ, or have something pending."""
        return None if self.in_sync is None else max(0, self.numbers["live"] - self.in_sync)


def overview(connection: Connection, mend_within_s: float) -> Overview:
    """The panel as it is now. ``mend_within_s``: MEND_WITHIN_S."""
    last = connection.execute(LAST_FULL).one_or_none()
    findings = count_findings(connection)
    return Overview(
        numbers=dict(connection.execute(NUMBERS).one()._mapping),
        last_full=last,
        in_sync=None if last is None else last.counts.get("settled"),
        by_approval=connection.scalar(BY_APPROVAL) or 0,
        findings=findings,
        matters=matters(connection, findings),
        sources=list_sources(connection),
        lanes=[duty for duty in list_duties(connection) if duty.every_s is not None],
        runs=recent_runs(connection, limit=LAST_RUNS),
        pauses=list(pauses_in_force(connection).values()),
        quarantined=list_quarantined(connection, LAST_RUNS),
        service=service_levels(connection, mend_within_s),
    )


LAST_FULL = text("SELECT * FROM runs WHERE kind = 'full' AND state = 'done' ORDER BY id DESC LIMIT 1")
BY_APPROVAL = text("SELECT count(*) FROM holds WHERE decision IS NULL AND starts_with(scope, 'by-approval:')")
