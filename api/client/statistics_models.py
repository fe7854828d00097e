"""The models of statistics in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

from api import openapi
from api.record_models import Id
from domain.statistics.measurements import Timeframe

Bytes = Annotated[int | None, Field(description="Bytes")]
BytesPerSecond = Annotated[int | None, Field(description="Bytes a second, on average")]


class StatisticsPoint(BaseModel):
    """The averages of a while: from a minute (`hour`) to a week (`year`). Null: not measured, as while it is off."""

    time: Annotated[AwareDatetime, Field(description="By Proxmox's clock")]
    cpu: Annotated[float | None, Field(description="The busy share of the ordered cores; 1: all of them")]
    memory_used_bytes: Bytes
    memory_total_bytes: Bytes
    network_in_bytes_per_second: BytesPerSecond
    network_out_bytes_per_second: BytesPerSecond
    disk_read_bytes_per_second: BytesPerSecond
    disk_write_bytes_per_second: BytesPerSecond


class VpsStatistics(BaseModel):
    """The statistics of a VPS, as far as they are certainly of its present machine and owner."""

    vps_id: Id
    timeframe: Timeframe
    cores: Annotated[int, Field(description="As ordered")]
    as_of: Annotated[AwareDatetime | None, Field(description="When Proxmox was asked; null: nothing is kept")]
    stale: Annotated[bool, Field(description="They could not be renewed within a minute")]
    code: Annotated[str | None, Field(description="Why there is nothing, or nothing newer, as one word")]
    reason: Annotated[str | None, Field(description="The same as a sentence")]
    points: Annotated[list[StatisticsPoint], Field(description="Oldest first, 400 at most")]


class StatisticsAnswer(BaseModel):
    """The statistics of one VPS."""

    status: Literal["success"]
    data: VpsStatistics


STATISTICS_RESPONSES: openapi.Responses = {
    200: {"model": StatisticsAnswer},
    **openapi.problems(401, 404, 422, 429, 500, 503),
}
STATISTICS_RESPONSES[429]["description"] = "Too many reads of statistics in the last minute"
