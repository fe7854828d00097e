"""What operators' requests and answers look like. Bodies are validated by these models; answers are described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[int, Field(ge=1, le=30 * 86400, description="Seconds; at most 30 days")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PauseBody(_Body):
    """What to pause: ``all``, ``feed`` or a cluster's name."""

    target: Name
    reason: Text
    for_s: Seconds


class ResumeBody(_Body):
    """What to resume."""

    target: Name


class RestoreBody(_Body):
    """Why a deleted record is brought back."""

    reason: Text


class SnoozeBody(_Body):
    """For how long a finding is left out."""

    for_s: Seconds


class AcknowledgeBody(_Body):
    """A degraded source as ``/api/ops/sources`` names it, or ``plan``: an operator has seen a plan, so that deletes
    need no first-run word any more."""

    source: Name


class ReconcileBody(_Body):
    """What to reconcile: at most one of them; none is everything."""

    vps: Id | None = None
    user: Id | None = None
    cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> ReconcileBody:
        if len(self.named) > 1:
            raise ValueError("give one of vps, user and cluster")
        return self

    @property
    def named(self) -> list[str]:
        """The subject, if one is given: ``vps:17``."""
        return [f"{kind}:{name}" for kind, name in self.model_dump(exclude_none=True).items()]


BODIES: tuple[type[BaseModel], ...] = (
    PauseBody,
    ResumeBody,
    RestoreBody,
    SnoozeBody,
    AcknowledgeBody,
    ReconcileBody,
)


class HeldItem(BaseModel):
    """One change of a held set, with the identity that a decision binds to."""

    model_config = ConfigDict(extra="allow")

    subject: str
    action: str
    kind: str
    version: int | None
    target: str | int | None
    evidence: list[str]
    reason: str
    hash: str


class HeldSetView(BaseModel):
    """A set of changes that exceeded a limit."""

    hash: str
    scope: str
    reason: str
    items: list[HeldItem]
    run_id: int
    created_at: AwareDatetime
    decision: Literal["approved", "rejected", "expired"] | None
    decided_by: str | None
    decided_at: AwareDatetime | None


class FindingView(BaseModel):
    """Something that a run found and may not mend."""

    id: int
    class_: Annotated[str, Field(alias="class")]
    subject: str
    severity: Literal["info", "warning", "alarm"]
    reason: str
    vps_id: int | None
    order_id: str | None
    cluster: str | None
    vmid: int | None
    first_seen_at: AwareDatetime
    last_seen_at: AwareDatetime
    age_s: float
    acknowledged_by: str | None
    acknowledged_at: AwareDatetime | None
    snoozed_until: AwareDatetime | None
    snoozed: bool
    resolved_at: AwareDatetime | None


class JournalEntry(BaseModel):
    """One change of a VPS, and why."""

    id: int
    kind: Literal["sync", "repair", "operator"]
    action: str
    source: str
    state: str
    result: str | None
    reason: str | None
    error: str | None
    evidence: dict[str, Any] | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    run_id: int | None
    request_id: str | None
    accepted_at: AwareDatetime
    applied_at: AwareDatetime | None


class HistoryView(BaseModel):
    """A VPS's story, oldest change first."""

    vps_id: int
    live: bool
    entries: list[JournalEntry]


class RunView(BaseModel):
    """One run."""

    id: int
    kind: Literal["full", "fast", "plan"]
    trigger: str
    state: str
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    counts: dict[str, Any]
    problems: list[str]
    plan_hash: str | None
    error: str | None


class SourceView(BaseModel):
    """What is known of a source, and whether it is paused."""

    source: str
    read_at: Annotated[AwareDatetime | None, Field(description="Its last complete read")]
    degraded_reason: str | None
    paused_until: AwareDatetime | None
    paused_by: str | None
    pause_reason: str | None


class HeldAnswer(BaseModel):
    """Held sets, newest first."""

    status: Literal["success"]
    data: list[HeldSetView]


class DecisionAnswer(BaseModel):
    """A set that was just decided."""

    status: Literal["success"]
    data: HeldSetView


class FindingsAnswer(BaseModel):
    """Findings, the loudest first."""

    status: Literal["success"]
    data: list[FindingView]


class FindingAnswer(BaseModel):
    """A finding as it is now."""

    status: Literal["success"]
    data: FindingView


class HistoryAnswer(BaseModel):
    """A VPS's story."""

    status: Literal["success"]
    data: HistoryView


class RunsAnswer(BaseModel):
    """Runs, newest first."""

    status: Literal["success"]
    data: list[RunView]


class SourcesAnswer(BaseModel):
    """Every source that is known."""

    status: Literal["success"]
    data: list[SourceView]


class DoneAnswer(BaseModel):
    """Done, in a sentence."""

    status: Literal["success"]
    message: str
