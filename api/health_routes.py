"""Liveness and readiness, for supervisors and load balancers."""

from __future__ import annotations

import asyncio

import psycopg
from fastapi import APIRouter, Request
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from api import openapi
from api.dependencies import EdgeOf
from api.http.problems import ProblemError, problem_for
from api.readiness_states import AWAY, NO_SESSION, NOT_CONFIGURED, OK, READ_ONLY
from panel.broker import async_redis_client, refusal_code, try_work_async
from panel.journal.calls import DatabaseAwayError
from panel.journal.relay import Relay
from panel.migrate import head_revision
from panel.records.reads import database_health
from panel.sessions import listening, sqlstate

router = APIRouter(tags=["health"])

REDIS_S = 0.5
REACH_S = 0.5


@router.get("/healthz", summary="Is the process alive", responses=openapi.HEALTH_RESPONSES)
async def healthz() -> Response:
    """The event loop answers. Nothing else is checked, so that a database outage restarts no process."""
    return JSONResponse({"status": "success"})


@router.get("/readyz", summary="Can it serve", responses=openapi.READY_RESPONSES)
async def readyz(request: Request, edge: EdgeOf) -> Response:
    """Ready if the database is at this version's migration. Redis and the relay are reported but not required: calls
    are accepted without them and published later. A database that takes no writes is only reported, too: every call is
    503 then, but clients can still read, and a balancer that removed this process would end that."""
    relay: Relay | None = request.app.state.relay
    database, redis = await asyncio.gather(_database(edge), _redis(edge.settings.redis_url))
    checks = {"database": database, "redis": redis, "relay": NOT_CONFIGURED if relay is None else relay.health}
    if database not in (OK, READ_ONLY):
        problem = ProblemError(503, "not_ready", f"The database is {database}", headers={"Retry-After": "5"})
        problem.extra["checks"] = checks
        return problem_for(request, problem)
    return JSONResponse({"status": "success", "checks": checks})


async def _database(edge: EdgeOf) -> str:
    try:
        revision, writable = await edge.read(database_health(edge.reader))
    except DatabaseAwayError as error:
        return await _away(error.__cause__, edge.settings.database_url)
    wanted = await asyncio.to_thread(head_revision)
    if revision != wanted:
        return f"at migration {revision or 'none'}, this version needs {wanted}"
    return OK if writable else READ_ONLY


async def _away(fault: BaseException | None, url: str) -> str:
    if fault is not None and (state := sqlstate(fault)) is not None:
        return f"away (SQLSTATE {state})"
    if type(getattr(fault, "orig", None)) is not psycopg.OperationalError:  # a timeout is a subclass of it
        return AWAY
    try:
        async with asyncio.timeout(REACH_S):  # to look up a name may take longer than to connect
            return NO_SESSION if await asyncio.to_thread(listening, url, REACH_S) else AWAY
    except TimeoutError:
        return AWAY


async def _redis(url: str) -> str:
    if not url:
        return NOT_CONFIGURED
    client = async_redis_client(url, REDIS_S)
    try:
        async with asyncio.timeout(2 * REDIS_S):
            await try_work_async(client)
    except (RedisError, OSError, TimeoutError) as error:
        return AWAY if (code := refusal_code(error)) is None else f"refuses: {code}"
    else:
        return OK
    finally:
        await client.aclose()
