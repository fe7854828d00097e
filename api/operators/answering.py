"""One transaction of an operator's request, in time, and what is answered of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi.encoders import jsonable_encoder
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import JSONResponse, Response

from api.dependencies import Edge
from api.http.deadline import within
from api.http.problems import ProblemError
from panel.journal.calls import DatabaseAwayError
from panel.sessions import is_away

T = TypeVar("T")


async def asked(edge: Edge, work: Callable[[Connection], T]) -> T:
    """Do it in one transaction, in time. Raises ProblemError, DatabaseAwayError and what ``work`` raises."""

    async def done() -> T:
        try:
            async with edge.reader.begin() as connection:
                return await connection.run_sync(work)
        except DBAPIError as error:
            if is_away(error):
                raise DatabaseAwayError(type(error.orig).__name__) from error
            raise
        except (PoolTimeoutError, OSError) as error:
            raise DatabaseAwayError(type(error).__name__) from error

    try:
        return await within(edge.deadlines.read_s, done())
    except TimeoutError:
        message = "The database did not answer in time; look whether it was done before you ask again"
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None


def data(found: object) -> Response:
    """What was found, or what an action left."""
    return JSONResponse({"status": "success", "data": jsonable_encoder(found)})


def sentence(message: str, status_code: int) -> Response:
    """What an action did, in words."""
    return JSONResponse({"status": "success", "message": message}, status_code)
