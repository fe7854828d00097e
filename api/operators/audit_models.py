"""What the answers of ``GET /api/ops/audit`` look like."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from panel.operators.audit import AccessView, ActionView, RefusedCallView


class AuditView(BaseModel):
    """Operators' decisions, uses of credentials, and refused sync calls, each newest first."""

    actions: list[ActionView]
    access: list[AccessView]
    refused_calls: list[RefusedCallView]


class AuditAnswer(BaseModel):
    """The audit."""

    status: Literal["success"]
    data: AuditView
