"""The models of held sets in operators' answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from panel.operators.holds import Approval


class HeldItem(BaseModel):
    """One change of a held set, with the identity that a decision binds to."""

    model_config = ConfigDict(extra="allow")

    subject: str
    action: str
    kind: str
    version: int | None
    target: str | int | None
    values: dict[str, Any] = {}  # what a run would write; for a time only whether there is one
    order: str | None = None
    guest: str | None = None
    evidence: list[str]
    reason: str
    hash: str
    name: Annotated[str | None, Field(description="The VPS's name")] = None
    user_id: Annotated[int | None, Field(description="The customer")] = None
    username: str | None = None
    clusters: list[str] = []


class HeldSetView(BaseModel):
    """A set of changes that waits for an operator's decision."""

    hash: str
    scope: str
    reason: str
    items: list[HeldItem]
    items_total: Annotated[int | None, Field(description="How many items the set has without the filter")] = None
    run_id: int
    created_at: AwareDatetime
    decision: Literal["approved", "rejected", "expired"] | None
    decided_by: str | None
    decided_at: AwareDatetime | None
    needs_second: Annotated[
        bool, Field(description="Two operators must approve it, each with a key of their own (SECOND_APPROVAL_ABOVE)")
    ]
    approvals: Annotated[list[Approval], Field(description="Those in force. A first one decides nothing yet")]
    released: Annotated[int, Field(description="How many items a run may write by these approvals")]


class HeldAnswer(BaseModel):
    """Held sets, newest first."""

    status: Literal["success"]
    data: list[HeldSetView]


class DecisionAnswer(BaseModel):
    """A set that was just decided."""

    status: Literal["success"]
    data: HeldSetView
