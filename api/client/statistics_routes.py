"""``GET /api/vps/{id}/stats``: CPU, memory, network and disk of a VPS over time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from api.client.statistics_models import STATISTICS_RESPONSES
from api.client.statistics_requests import WAIT_S, Statistics, statistics_of
from api.dependencies import ClientOrCookie, EdgeOf
from domain.record_columns import MAX_ID
from domain.statistics.measurements import Point, Timeframe
from panel.statistics.requests import Wanted

router = APIRouter(prefix="/api/vps", tags=["client"])


@router.get("/{vps_id:id}/stats", summary="Statistics of a VPS", responses=STATISTICS_RESPONSES)
async def get_statistics(
    request: Request,
    edge: EdgeOf,
    caller: ClientOrCookie,
    vps_id: Annotated[int, Path(ge=1, le=MAX_ID)],
    timeframe: Annotated[Timeframe, Query(description="How far back")] = Timeframe.HOUR,
) -> Response:
    """What Proxmox measured, by token or by a session of the pages. What is younger than a minute is answered at once.
    Otherwise Proxmox is asked, and the answer waits for that for up to 3 seconds. If nothing came, it is the last one
    that is known, with `stale`, and `code` says why."""
    wanted = Wanted(vps_id, caller.user_id, timeframe)
    found = await statistics_of(edge, wanted, request.scope["began"], wait_s=WAIT_S)
    return JSONResponse({"status": "success", "data": _view(found)}, headers={"Cache-Control": "no-store"})


def _view(found: Statistics) -> dict[str, Any]:
    return {
        "vps_id": found.wanted.vps_id,
        "timeframe": found.wanted.timeframe.value,
        "cores": found.cores,
        "as_of": None if found.as_of is None else found.as_of.isoformat(),
        "stale": found.stale,
        "code": found.code,
        "reason": found.reason,
        "points": [_point_view(point, found.cores) for point in found.points],
    }


def _point_view(point: Point, cores: int) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(point.at, UTC).isoformat(),
        "cpu": None if point.cores is None else round(point.cores / cores, 4),
        "memory_used_bytes": _whole(point.memory_used),
        "memory_total_bytes": _whole(point.memory_total),
        "network_in_bytes_per_second": _whole(point.network_in),
        "network_out_bytes_per_second": _whole(point.network_out),
        "disk_read_bytes_per_second": _whole(point.disk_read),
        "disk_write_bytes_per_second": _whole(point.disk_write),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
