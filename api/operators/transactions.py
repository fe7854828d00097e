"""Runs an operator's request in one transaction with a deadline, and makes the response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TypeVar

from fastapi.encoders import jsonable_encoder
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import JSONResponse, Response

from api.dependencies import Edge
from api.http.deadline import within
from api.http.problems import ProblemError
from panel.journal.calls import DatabaseAwayError
from panel.sessions import OF_ONE_MOMENT, is_away

T = TypeVar("T")

REPORT_S = 20.0
"""How long a report may take that joins the whole live fleet. Each of its statements has PostgreSQL's limit besides."""


async def in_transaction(edge: Edge, work: Callable[[Connection], T], within_s: float | None = None) -> T:
    """Do ``work`` in one transaction, before the deadline of reads, or what is left of it.

    Raises ProblemError if it takes too long, DatabaseAwayError, and what ``work`` raises.
    """
    try:
        return await within(edge.deadlines.read_s if within_s is None else within_s, _work_done(edge.reader, work))
    except TimeoutError:
        message = "The database did not answer in time; check whether it was done before you send the request again"
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None


async def make_report(edge: Edge, read: Callable[[Connection], T], within_s: float = REPORT_S) -> T:
    """Make one report in a transaction of its own. Few are made at once, because each keeps a connection for long that
    customers read by, too. Raises ProblemError if too many are being made or it takes too long, DatabaseAwayError, and
    what ``read`` raises."""
    if edge.reports.locked():
        message = "Other reports are being made; send the request again"
        raise ProblemError(503, "overloaded", message, headers={"Retry-After": "5"})
    async with edge.reports:
        try:
            return await within(within_s, _work_done(edge.reader.execution_options(**OF_ONE_MOMENT), read))
        except TimeoutError:
            message = f"The report takes longer than {within_s:g} s; narrow it by a filter, or try again later"
            raise ProblemError(503, "report_too_slow", message, headers={"Retry-After": "30"}) from None


async def _work_done(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except DBAPIError as error:
        if is_away(error):
            raise DatabaseAwayError(type(error.orig).__name__) from error
        raise
    except (PoolTimeoutError, OSError) as error:
        raise DatabaseAwayError(type(error).__name__) from error


async def data_response(read: T, shown: Callable[[T], object] = lambda read: read, status_code: int = 200) -> Response:
    """The response with what was read, or with an action's result. ``shown``: makes of it what is answered.

    It is made in a thread. A large held set takes seconds, and the event loop has sync calls to answer meanwhile.
    """
    return Response(await asyncio.to_thread(_encoded, read, shown), status_code, media_type="application/json")


def _encoded(read: T, shown: Callable[[T], object]) -> bytes:
    content = {"status": "success", "data": shown(read)}
    # What JSON knows is not walked through in Python first: only the rest is.
    text = json.dumps(content, default=jsonable_encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def message_response(message: str, status_code: int) -> Response:
    """The response with the sentence that says what an action did."""
    return JSONResponse({"status": "success", "message": message}, status_code)
