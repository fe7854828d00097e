"""The models of requests and answers about adoptions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from api.operators.operator_models import Body, Text
from api.operators.whole_numbers import Id, whole
from domain.guests import GuestKey, GuestType
from panel.adoptions.decisions import AdoptionView
from panel.adoptions.inbox import GuestlessOrder, InboxGuest
from panel.operators.actions.adoptions import SeenGuest

Cluster = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Vmid = Annotated[int, Field(ge=1, le=999_999_999), BeforeValidator(whole)]

_ONE: JsonDict = {
    "oneOf": [
        {"required": ["order_id"], "properties": {"order_id": {"type": "string"}, "vps": {"type": "null"}}},
        {"required": ["vps"], "properties": {"vps": {"type": "integer"}, "order_id": {"type": "null"}}},
    ]
}


class AdoptBody(Body):
    """Which guest belongs to which order, and why. The order is named by its id or by its VPS in the panel."""

    model_config = ConfigDict(json_schema_extra=_ONE)

    cluster: Cluster
    vmid: Vmid
    guest_type: Literal["qemu", "lxc"]
    fingerprint: Annotated[
        str, Field(min_length=1, max_length=200, description="As the list shows it: the machine that you saw")
    ]
    order_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    vps: Id | None = None
    reason: Text

    @model_validator(mode="after")
    def _one(self) -> AdoptBody:
        if (self.order_id is None) == (self.vps is None):
            raise ValueError("give either order_id or vps")
        return self

    @property
    def seen(self) -> SeenGuest:
        """The guest."""
        return SeenGuest(GuestKey(self.cluster, self.vmid), GuestType(self.guest_type), self.fingerprint)


class WithdrawBody(Body):
    """Why an adoption is withdrawn."""

    reason: Text


class InboxAnswer(BaseModel):
    """Guests that no order names, by cluster and VMID."""

    status: Literal["success"]
    data: list[InboxGuest]


class GuestlessOrdersAnswer(BaseModel):
    """Orders that have no guest, by id."""

    status: Literal["success"]
    data: list[GuestlessOrder]


class AdoptionsAnswer(BaseModel):
    """Adoptions: those that wait, the oldest first, or those that ended, the latest first."""

    status: Literal["success"]
    data: list[AdoptionView]


class AdoptionAnswer(BaseModel):
    """An adoption as it is now."""

    status: Literal["success"]
    data: AdoptionView


BODIES: tuple[type[BaseModel], ...] = (AdoptBody, WithdrawBody)
