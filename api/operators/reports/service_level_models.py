"""The model of the answer about the service level."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from panel.operators.service_levels import ServiceLevels


class ServiceLevelsAnswer(BaseModel):
    """How long differences lasted, by class of drift."""

    status: Literal["success"]
    data: ServiceLevels
