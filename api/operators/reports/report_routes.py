"""The reports that operators read: the overview, coverage, drift, money, deleted records, one VPS, the journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import Edge, EdgeOf, Operator
from api.http.problems import ProblemError
from api.operators.reading_routes import READS, Limit, OfCluster, Offset, OfUser, VpsId
from api.operators.reports import report_models
from api.operators.reports.csv_download import CSV, csv_download
from api.operators.transactions import data_response, in_transaction, make_report
from domain.record_columns import MAX_ID
from panel.operator_error import OperatorError
from panel.operators.pages.overview import overview
from panel.operators.pages.vps_view import VpsView, vps_view
from panel.operators.reports.as_json import overview_as_json, vps_as_json
from panel.operators.reports.blind_spots import CLASSES as SPOT_CLASSES
from panel.operators.reports.blind_spots import SpotFilter
from panel.operators.reports.coverage import CoverageReport, coverage, coverage_as_json
from panel.operators.reports.csv_lines import Writable
from panel.operators.reports.deleted import DeletedFilter, list_deleted
from panel.operators.reports.drift import CLASSES as DRIFT_CLASSES
from panel.operators.reports.drift import DriftFilter, DriftReport, drift, drift_as_json
from panel.operators.reports.looks import configured
from panel.operators.reports.money import REASONS, MoneyFilter, MoneyReport, money, write_money
from panel.operators.reports.money_statements import Subject
from panel.records.operations import list_operations

router = APIRouter(prefix="/api/ops", tags=["operators"])

Older = Annotated[int, Query(ge=0, le=100_000, description="Only what has lasted for at least so many days")]
OfSpotClass = Annotated[str | None, Query(alias="class", json_schema_extra={"enum": list(SPOT_CLASSES)})]
OfDriftClass = Annotated[str | None, Query(alias="class", json_schema_extra={"enum": list(DRIFT_CLASSES)})]
Reason = {one: Annotated[str | None, Query(json_schema_extra={"enum": list(known)})] for one, known in REASONS.items()}
State = Annotated[str | None, Query(pattern="^(queued|applied|superseded|rejected|dead)$")]
OfVps = Annotated[int | None, Query(alias="vps", ge=1, le=MAX_ID)]
# As text: pydantic would take a bare number for a day, too.
OfDay = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        description="Deleted on this day (UTC), as 2026-11-30",
        json_schema_extra={"format": "date"},
    ),
]


@router.get("/overview", summary="Overview", responses={200: {"model": report_models.OverviewAnswer}, **READS})
async def get_overview(edge: EdgeOf, _by: Operator) -> Response:
    """In sync or not, what to look at first, findings by class, sources, last runs, what is left alone."""
    now = await in_transaction(edge, lambda connection: overview(connection, edge.settings.mend_within_s))
    return await data_response(now, overview_as_json)


@router.get("/coverage", summary="Coverage", responses={200: {"model": report_models.CoverageAnswer}, **READS})
async def get_coverage(
    edge: EdgeOf,
    _by: Operator,
    class_: OfSpotClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """What the last look of the runs covers: each source and node, whether its last look was complete, and why not; how
    many records can be judged; and what cannot, by class, with the reason. The filter chooses the listed spots."""
    wanted, of = SpotFilter(class_, cluster, user), configured(edge.settings)

    def read(connection: Connection) -> CoverageReport:
        return coverage(connection, of, wanted, limit=limit, offset=offset)

    return await data_response(await make_report(edge, read), coverage_as_json)


@router.get("/drift", summary="Drift", responses={200: {"model": report_models.DriftAnswer}, **READS})
async def get_drift(
    edge: EdgeOf,
    _by: Operator,
    class_: OfDriftClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """Every live record that differs from its order or its guest, as runs saw them last, with the facts that differ."""
    wanted, of = DriftFilter(class_, cluster, user), configured(edge.settings)

    def read(connection: Connection) -> DriftReport:
        return drift(connection, of, wanted, limit=limit, offset=offset)

    return await data_response(await make_report(edge, read), drift_as_json)


def _money_routes(subject: Subject, summary: str, description: str) -> None:
    """The two routes of one subject: as JSON, and as a file."""
    file = {200: {"description": "All rows that the filter leaves", "content": {CSV: {"schema": {"type": "string"}}}}}
    path = f"/money/{subject.value}"

    async def get_money(
        edge: EdgeOf,
        _by: Operator,
        reason: str | None = None,
        cluster: OfCluster = None,
        user: OfUser = None,
        days: Older = 0,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Response:
        wanted, of = MoneyFilter(reason, cluster, user, timedelta(days=days)), configured(edge.settings)

        def read(connection: Connection) -> MoneyReport:
            return money(connection, of, subject, wanted, limit=limit, offset=offset)

        return await data_response(await make_report(edge, read))

    async def get_money_file(
        edge: EdgeOf,
        _by: Operator,
        reason: str | None = None,
        cluster: OfCluster = None,
        user: OfUser = None,
        days: Older = 0,
    ) -> Response:
        return await money_file(edge, subject, MoneyFilter(reason, cluster, user, timedelta(days=days)))

    for route in (get_money, get_money_file):
        route.__annotations__["reason"] = Reason[subject]
    name = subject.value.replace("-", "_")
    add: Callable[..., Any] = router.add_api_route
    add(path, get_money, summary=summary, description=description, operation_id=f"get_money_{name}",
        responses={200: {"model": report_models.MoneyAnswer}, **READS})  # fmt: skip
    add(f"{path}.csv", get_money_file, summary=f"{summary}, as a file", operation_id=f"get_money_file_{name}",
        description=f"{description} As CSV (RFC 4180, UTF-8, with a header line). A text that a spreadsheet would take "
        "for a formula has an apostrophe before it.",
        response_class=Response, responses={**file, **READS})  # fmt: skip


async def money_file(edge: Edge, subject: Subject, wanted: MoneyFilter) -> Response:
    """The answer with all rows of a money report as CSV. Raises what ``csv_download`` raises."""
    of = configured(edge.settings)

    def write(connection: Connection, out: Writable) -> None:
        write_money(connection, of, subject, wanted, out)

    return await csv_download(edge, subject.value, write)


_money_routes(
    Subject.UNPAID,
    "Running but unpaid",
    "Guests that run although their order ended, is suspended or is gone, or that nobody ordered; the oldest first.",
)
_money_routes(
    Subject.MISSING,
    "Paid but missing",
    "Active orders without a guest, or whose guest is gone, in error, or stopped although the order says that it runs; "
    "the oldest first.",
)


@router.get("/deleted", summary="Deleted VPS", responses={200: {"model": report_models.DeletedAnswer}, **READS})
async def get_deleted(
    edge: EdgeOf,
    _by: Operator,
    user: OfUser = None,
    day: OfDay = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """The records that were deleted in the last 7 days and can be restored, with the reason of each delete; the latest
    first."""
    wanted = DeletedFilter(user, day_of(day))
    return await data_response(
        await in_transaction(edge, lambda connection: list_deleted(connection, wanted, limit=limit, offset=offset))
    )


def day_of(day: str | None) -> date | None:
    """The day of a filter; None if it is left open. Raises ProblemError."""
    try:
        return date.fromisoformat(day) if day else None
    except ValueError:
        raise ProblemError(422, "invalid_parameter", "day: there is no such day", field="day") from None


@router.get("/vps/{vps_id:id}", summary="One VPS", responses={200: {"model": report_models.VpsAnswer}, **READS})
async def get_vps(edge: EdgeOf, _by: Operator, vps_id: VpsId) -> Response:
    """One VPS, deleted ones included: its order, its record and its guest side by side, where they differ, and what
    stands in the way of making them agree."""
    of, above = configured(edge.settings), edge.settings.second_approval_above

    def read(connection: Connection) -> VpsView:
        view = vps_view(
            connection, vps_id, proof=of.proof, names=of.names, shared_ids=of.shared_ids, second_above=above
        )
        if view.record is None and not view.waiting:
            raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
        return view

    return await data_response(await in_transaction(edge, read), vps_as_json)


@router.get("/operations", summary="Journal", responses={200: {"model": report_models.OperationsAnswer}, **READS})
async def get_operations(
    edge: EdgeOf, _by: Operator, state: State = None, vps: OfVps = None, limit: Limit = 100, offset: Offset = 0
) -> Response:
    """The journal, newest first: accepted calls, repairs by runs, and what operators did to records."""

    def read(connection: Connection) -> Any:  # noqa: ANN401 - rows
        return list_operations(connection, state=state, vps_id=vps, limit=limit, offset=offset)

    names = tuple(report_models.OperationEntry.model_fields)
    rows = await in_transaction(edge, read)
    return await data_response(rows, lambda found: [{name: row._mapping[name] for name in names} for row in found])
