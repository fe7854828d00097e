"""The audit: who decided what, and how each credential was used or tried."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.audit import list_access, list_actions, list_refused_calls

router = APIRouter(prefix="/ops/audit", include_in_schema=False, route_class=OperatorPageRoute)

LATEST = 100


@router.get("")
async def show_audit(
    request: Request, edge: EdgeOf, _operator: Operator, refused: Annotated[bool, Query()] = False
) -> Response:
    """The latest rows of each list. ``refused``: of the uses of credentials, only the refused ones."""

    def read(connection: Connection) -> dict[str, Any]:
        return {
            "actions": list_actions(connection, LATEST),
            "access": list_access(connection, LATEST, refused=refused),
            "refused_calls": list_refused_calls(connection, LATEST),
        }

    return await large_page(request, "operators/audit.html", refused=refused, **await in_transaction(edge, read))
