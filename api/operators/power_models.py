"""What a power action looks like to operators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field


class PowerEntry(BaseModel):
    """A power action that a customer asked for, and what came of it."""

    id: int
    user_id: int
    action: str
    force: bool
    state: Literal["queued", "sending", "sent", "done", "failed", "refused", "unknown"]
    command: Annotated[str | None, Field(description="What Proxmox was told last, in its own word")]
    node: str | None
    upid: Annotated[str | None, Field(description="Proxmox's name of the task")]
    code: str | None
    reason: str | None
    evidence: dict[str, Any] | None
    request_id: str | None
    asked_at: AwareDatetime
    sending_at: Annotated[AwareDatetime | None, Field(description="When it was noted as about to be sent")]
    ended_at: AwareDatetime | None
