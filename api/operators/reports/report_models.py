"""What the answers of operators' reports look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from domain.changes import OperationState
from panel.operators.reports.coverage import CoverageReport
from panel.operators.reports.deleted import DeletedVps
from panel.operators.reports.drift import DriftReport
from panel.operators.reports.money import MoneyReport


class CoverageAnswer(BaseModel):
    """What the last look of the runs covers."""

    status: Literal["success"]
    data: CoverageReport


class DriftAnswer(BaseModel):
    """The records that differ."""

    status: Literal["success"]
    data: DriftReport


class MoneyAnswer(BaseModel):
    """Machines that run unpaid, or orders that are paid and whose machine is missing."""

    status: Literal["success"]
    data: MoneyReport


class DeletedAnswer(BaseModel):
    """The deleted records that can be restored."""

    status: Literal["success"]
    data: list[DeletedVps]


class OverviewAnswer(BaseModel):
    """What the page that operators open first shows."""

    status: Literal["success"]
    data: dict[str, Any]


class VpsAnswer(BaseModel):
    """One VPS: `lines` holds each fact as order, panel and guest say it, and whether they differ."""

    status: Literal["success"]
    data: dict[str, Any]


class OperationEntry(BaseModel):
    """One operation of the journal."""

    id: int
    vps_id: int
    kind: Literal["sync", "repair", "operator"]
    action: str
    source: str
    state: OperationState
    attempts: int
    result: str | None
    reason: str | None
    error: str | None
    request_id: str | None
    run_id: int | None
    accepted_at: AwareDatetime
    applied_at: AwareDatetime | None


class OperationsAnswer(BaseModel):
    """Operations of the journal, newest first."""

    status: Literal["success"]
    data: list[OperationEntry] = Field(description="At most `limit`")
