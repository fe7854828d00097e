"""The models of operators' requests and answers. The API validates bodies with them. For answers they make the OpenAPI
document, together with the panel's own dataclasses; ``JournalEntry`` and ``RunView`` also choose the fields of a row
that are shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from api.operators.power_models import PowerEntry
from api.operators.webhook_models import ReplayBody, WebhookNumbers
from api.operators.whole_numbers import Id, whole
from panel.journal.dead_letters import DeadView
from panel.operators.findings import FindingView
from panel.operators.pauses import PauseView
from panel.operators.quarantine import QuarantinedView
from panel.records.identities import IdentityView
from panel.runs.source_states import SourceView

Seconds = Annotated[int, Field(ge=1, le=30 * 86400, description="Seconds; at most 30 days"), BeforeValidator(whole)]
# Python's strip() also removes U+001C to U+001F and U+0085, which regular expressions elsewhere do not call space.
_NOT_BLANK = r"^[^\u0000]*[^\u0000\s\u001c-\u001f\u0085][^\u0000]*$"
Text = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"pattern": _NOT_BLANK})]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]


class Body(BaseModel):
    """A request's body: no other field, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PauseBody(Body):
    """What to pause: ``all``, ``feed``, a cluster's name, ``vps:12`` or ``user:5``."""

    target: Name
    reason: Text
    for_s: Seconds


class ResumeBody(Body):
    """What to resume."""

    target: Name


class ReleaseBody(Body):
    """What to release from quarantine: a subject as ``/api/ops/quarantine`` names it, or ``all``."""

    subject: Annotated[str, Field(pattern=r"^(all|(vps|order|guest):[^\x00\n]{1,255})$")]


class RestoreBody(Body):
    """Why a deleted record is brought back."""

    reason: Text


class SnoozeBody(Body):
    """For how long a finding is left out of lists and alarms."""

    for_s: Seconds


class IgnoreBody(Body):
    """Why a guest that no order names is ignored for good."""

    reason: Text


class DiscardBody(Body):
    """Why a dead call is given up."""

    reason: Text


class AcknowledgeBody(Body):
    """A degraded source as ``/api/ops/sources`` names it, or ``plan``: an operator has seen a plan, so runs may make
    and delete records within their limits."""

    source: Name


_AT_MOST_ONE: JsonDict = {
    "anyOf": [
        {"properties": {"vps": {"type": "null"}, "user": {"type": "null"}}},
        {"properties": {"vps": {"type": "null"}, "cluster": {"type": "null"}}},
        {"properties": {"user": {"type": "null"}, "cluster": {"type": "null"}}},
    ]
}


class ReconcileBody(Body):
    """What to reconcile: one VPS, one user or one cluster. Without any of them, everything."""

    model_config = ConfigDict(json_schema_extra=_AT_MOST_ONE)

    vps: Id | None = None
    user: Id | None = None
    cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> ReconcileBody:
        if len(self.named) > 1:
            raise ValueError("give only one of vps, user and cluster")
        return self

    @property
    def named(self) -> list[str]:
        """The subject (``vps:17``) in a list, or an empty list for everything."""
        return [f"{kind}:{name}" for kind, name in self.model_dump(exclude_none=True).items()]


BODIES: tuple[type[BaseModel], ...] = (
    PauseBody,
    ResumeBody,
    ReleaseBody,
    RestoreBody,
    SnoozeBody,
    IgnoreBody,
    DiscardBody,
    AcknowledgeBody,
    ReconcileBody,
    ReplayBody,
)


class JournalEntry(BaseModel):
    """One change of a VPS, and why it was made."""

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
    api_key_label: Annotated[str | None, Field(description="For a call: the label of the main site's key that it used")]
    accepted_at: AwareDatetime
    applied_at: AwareDatetime | None


class HistoryView(BaseModel):
    """The history of a VPS, oldest change first."""

    vps_id: int
    live: bool
    entries: list[JournalEntry]
    older: int = Field(description="How many older changes are kept besides: the next pages, by `offset`.")
    removed: int = Field(description="How many older changes of power, plan and name were pruned (`JOURNAL_DAYS`).")
    identity: IdentityView | None = Field(description="null: the record names no guest.")
    power: list[PowerEntry] = Field(
        description="What its customers asked for while these changes were made: the latest 100 of it, oldest first."
    )


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


class PausesAnswer(BaseModel):
    """Pauses in force."""

    status: Literal["success"]
    data: list[PauseView]


class QuarantineAnswer(BaseModel):
    """The quarantined subjects. The one that has failed for longest comes first."""

    status: Literal["success"]
    data: list[QuarantinedView]


class DeadAnswer(BaseModel):
    """Dead calls, the newest first."""

    status: Literal["success"]
    data: list[DeadView]


class JournalNumbers(BaseModel):
    """The number of waiting calls, the age of the oldest of them, and the number of dead calls."""

    queued: int
    oldest_queued_s: float | None
    unpublished_s: Annotated[float | None, Field(description="Age of the oldest call that the relay has not published")]
    dead: int


class PhaseNumbers(BaseModel):
    """How long a phase of a run took, in seconds."""

    mean_s: float
    longest_s: float


class RunNumbers(BaseModel):
    """Runs of one kind in the last day."""

    kind: Literal["full", "fast", "plan"]
    done_day: int
    failed_day: int
    last_done_s: Annotated[float | None, Field(description="Seconds since the last successful run ended")]
    longest_s: float | None
    phases: Annotated[dict[str, PhaseNumbers], Field(description="By phase, of the successful runs")]


class SourceNumbers(BaseModel):
    """The age of a source's last complete read, in seconds."""

    source: str
    read_s: float
    degraded: bool
    unwell_s: Annotated[float | None, Field(description="For how long it has not been believed; null: it is believed")]
    backing_off: Annotated[bool, Field(description="Whether some runs leave it alone, because it refused or was late")]


class FindingNumbers(BaseModel):
    """Open findings of a class: how many there are, and the age of the oldest in seconds."""

    model_config = ConfigDict(populate_by_name=True)

    class_: Annotated[str, Field(alias="class")]
    severity: Literal["info", "warning", "alarm"]
    open: int
    oldest_s: float


class HeldNumbers(BaseModel):
    """Held sets that exceed a limit and wait for an operator. Sets by approval do not count."""

    sets: int
    items: int
    oldest_s: float | None


class RepairNumbers(BaseModel):
    """Repairs of a class in the last day and hour, and how long the differences had lasted that they repaired.

    The time counts from when the panel could first see the difference. It is null if no source says when that was, as
    for a plan.
    """

    kind: str
    day: int
    hour: int
    median_s: float | None
    p95_s: float | None
    longest_s: float | None


class LaneNumbers(BaseModel):
    """A periodic duty of the panel. ``late``: it was not done for three intervals (at least a minute)."""

    lane: str
    every_s: float
    last_done_s: float | None
    late: bool


class Metrics(BaseModel):
    """Numbers at one moment; ages in seconds."""

    journal: JournalNumbers
    records: dict[str, int]
    runs: list[RunNumbers]
    sources: list[SourceNumbers]
    findings: list[FindingNumbers]
    held: HeldNumbers
    pauses: int
    quarantined: int
    lanes: list[LaneNumbers]
    repairs: list[RepairNumbers]
    webhooks: WebhookNumbers


class MetricsAnswer(BaseModel):
    """Numbers for monitoring."""

    status: Literal["success"]
    data: Metrics


class FindingsAnswer(BaseModel):
    """Findings, the most severe first."""

    status: Literal["success"]
    data: list[FindingView]


class FindingAnswer(BaseModel):
    """A finding as it is now."""

    status: Literal["success"]
    data: FindingView


class HistoryAnswer(BaseModel):
    """The history of a VPS."""

    status: Literal["success"]
    data: HistoryView


class RunsAnswer(BaseModel):
    """Runs, newest first."""

    status: Literal["success"]
    data: list[RunView]


class SourcesAnswer(BaseModel):
    """Every source that the panel knows."""

    status: Literal["success"]
    data: list[SourceView]


class DoneAnswer(BaseModel):
    """A sentence that says what was done."""

    status: Literal["success"]
    message: str
