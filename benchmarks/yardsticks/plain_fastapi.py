"""FastAPI and psycopg by hand: a call becomes a row, and a customer's rows are read without row-level security."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

KEY = os.environ.get("API_KEY", "")
SECRET = os.environ.get("JWT_SECRET", "")


class Vps(BaseModel):
    """What a call says of a VPS."""

    user_id: int
    name: str
    cpu: int
    ram: int
    disk: int
    os: str


class Call(BaseModel):
    """A call of the main site."""

    action: str
    vps: Vps


class Shown(BaseModel):
    """What a customer sees of a VPS."""

    id: int
    user_id: int
    name: str
    status: str
    cpu: int
    ram: int
    disk: int
    os: str
    hypervisor: str
    node: str | None
    vmid: int | None
    ip_address: str | None
    source: str | None
    as_of: str | None
    created_at: str
    updated_at: str


def app() -> FastAPI:
    """The application, with a pool of ten connections."""
    pool = AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=10, max_size=10, open=False)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    made = FastAPI(lifespan=lifespan)

    @made.post("/api/vps/sync", status_code=202)
    async def accept(call: Call, x_api_key: Annotated[str, Header()]) -> dict[str, Any]:
        if x_api_key != KEY:
            raise HTTPException(401)
        vps = call.vps.model_dump()
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO calls (action, payload) VALUES (%s, %s) RETURNING id", (call.action, Jsonb(vps))
            )
            row = await cursor.fetchone()
        return {"status": "success", "vps": {**vps, "id": None if row is None else row[0]}}

    @made.get("/api/vps")
    async def read(user_id: Annotated[int, Depends(customer)], limit: int = 50) -> list[Shown]:
        async with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute("SELECT * FROM shown WHERE user_id = %s ORDER BY id DESC LIMIT %s", (user_id, limit))
            return [Shown.model_validate(row) for row in await cursor.fetchall()]

    return made


def customer(authorization: Annotated[str, Header()]) -> int:
    """The caller, by the token."""
    claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    return int(claims["user_id"])
