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
from starlette.responses import JSONResponse, Response

from api.dependencies import Edge
from api.http.deadline import within
from api.http.problems import ProblemError
from panel.journal.calls import DatabaseAwayError
from panel.sessions import is_away

T = TypeVar("T")


async def in_transaction(edge: Edge, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, before the deadline of reads.

    Raises ProblemError if it takes too long, DatabaseAwayError, and what ``work`` raises.
    """

    async def run_work() -> T:
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
        return await within(edge.deadlines.read_s, run_work())
    except TimeoutError:
        message = "The database did not answer in time; check whether it was done before you send the request again"
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None


async def data_response(read: T, shown: Callable[[T], object] = lambda read: read) -> Response:
    """The response with what was read, or with an action's result. ``shown``: makes of it what is answered.

    It is made in a thread. A large held set takes seconds, and the event loop has sync calls to answer meanwhile.
    """
    return Response(await asyncio.to_thread(_encoded, read, shown), media_type="application/json")


def _encoded(read: T, shown: Callable[[T], object]) -> bytes:
    content = {"status": "success", "data": shown(read)}
    # What JSON knows is not walked through in Python first: only the rest is.
    text = json.dumps(content, default=jsonable_encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def message_response(message: str, status_code: int) -> Response:
    """The response with the sentence that says what an action did."""
    return JSONResponse({"status": "success", "message": message}, status_code)
