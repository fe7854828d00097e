"""The routes by which operators read what another repair policy, or other limits, would do."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.dependencies import EdgeOf, Operator
from api.operators.reading_routes import READS
from api.operators.repair_policy_models import PastDeletesAnswer, WhatIfAnswer, WhatIfsAnswer
from api.operators.transactions import data_response, in_transaction
from domain.record_columns import MAX_ID
from domain.repair_policy.budget import Handling
from panel.operators.repair_policy.past_deletes import LARGEST_LIMIT, MOST, MOST_DAYS, OtherLimits, past_deletes
from panel.operators.repair_policy.what_ifs import latest_what_ifs, what_if

router = APIRouter(prefix="/api/ops", tags=["operators"])

WhatIfId = Annotated[int, Path(ge=1, le=MAX_ID)]
Limit = Annotated[int | None, Query(ge=0, le=LARGEST_LIMIT, description="In place of the setting's")]
Mode = Annotated[Handling | None, Query(description="In place of what REPAIR_POLICY says")]


@router.get("/what-ifs", summary="What-ifs", responses={200: {"model": WhatIfsAnswer}, **READS})
async def get_what_ifs(edge: EdgeOf, _by: Operator, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Response:
    """The latest plans that operators asked for under another repair policy, newest first."""
    return await data_response(await in_transaction(edge, lambda connection: latest_what_ifs(connection, limit)))


@router.get("/what-ifs/{what_if_id:id}", responses={200: {"model": WhatIfAnswer}, **READS})
async def get_what_if(edge: EdgeOf, _by: Operator, what_if_id: WhatIfId) -> Response:
    """What the next run would do under that policy, once a worker has made the plan; until then it is ``waiting``."""
    return await data_response(await in_transaction(edge, lambda connection: what_if(connection, what_if_id)))


@router.get("/deletes", summary="Past deletes", responses={200: {"model": PastDeletesAnswer}, **READS})
async def get_deletes(
    edge: EdgeOf,
    _by: Operator,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = 30,
    orphan: Mode = None,
    missed_delete: Annotated[Mode, Query(alias="missed-delete")] = None,
    deletes_run: Limit = None,
    deletes_hour: Limit = None,
    deletes_day: Limit = None,
    pushed_deletes_hour: Limit = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="How many deletes are listed; all are counted")] = 200,
    offset: Annotated[int, Query(ge=0, le=MOST, description="How many of the list to leave out")] = 0,
) -> Response:
    """The deletes of the last days, and what the limits and ``REPAIR_POLICY`` of the settings, or others, would have
    made of them."""
    policy = {"missed-delete": missed_delete, "orphan": orphan}
    other = OtherLimits(
        deletes_run,
        deletes_hour,
        deletes_day,
        pushed_deletes_hour,
        {name: mode.value for name, mode in policy.items() if mode is not None},
    )
    found = await in_transaction(edge, lambda connection: past_deletes(connection, edge.settings, days, other))
    return await data_response(replace(found, deletes=found.deletes[offset : offset + limit]))
