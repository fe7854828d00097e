"""What the answers of ``GET /api/ops/audit`` look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field


class ActionView(BaseModel):
    """One decision of an operator."""

    at: AwareDatetime
    by: Annotated[str, Field(description='"api:ann": by HTTP; "cli:ann": by command, ann being the account')]
    action: Annotated[str, Field(description="As the command is called: pause, approve, findings ack, ...")]
    subject: str
    request_id: str | None
    network: str | None


class AccessView(BaseModel):
    """How often a credential was used or tried in one way within one hour."""

    hour: AwareDatetime
    who: Annotated[
        str,
        Field(
            description='"main-site:current", "main-site:previous", "api:ann", "client:5"; of a refused credential '
            '"key:" and a keyed hash of how the key begins, "no-key" or "token"; "*": one of many'
        ),
    ]
    network: Annotated[str, Field(description='An IPv4 address or an IPv6 /64; "*": one of many')]
    route: Annotated[str, Field(description="Method and path template")]
    status_code: int
    code: Annotated[str, Field(description="Of the problem; empty for a success")]
    count: int
    first_at: AwareDatetime
    last_at: AwareDatetime
    last_request_id: str


class RefusedCallView(BaseModel):
    """A sync call that was refused after a right key."""

    at: AwareDatetime
    status_code: int
    code: str
    message: str
    action: str | None
    user_id: int | None
    order_id: str | None
    vps_id: int | None
    request_id: str | None
    api_key_label: str | None
    address: str | None


class AuditView(BaseModel):
    """Who did what, newest first."""

    actions: list[ActionView]
    access: list[AccessView]
    refused_calls: list[RefusedCallView]


class AuditAnswer(BaseModel):
    """The audit of use."""

    status: Literal["success"]
    data: AuditView
