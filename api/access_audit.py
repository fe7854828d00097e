"""Counts how credentials are used, in memory, and stores the counts every few seconds: no call waits for its audit.

It counts every use of an API key, but only the refused requests of clients. A killed process loses at most 5 s of
counts. The journal and operators' actions are not counted here: each is written in the transaction that it is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from api.http.addresses import network_of
from api.http.deadline import within
from panel.operators.audit import Use, store_uses

log = structlog.get_logger(__name__)

STORE_EVERY_S = 5.0
STORE_S = 3.0
USES_AN_HOUR = 300
"""How many different uses one process keeps apart in an hour. Further uses are counted together, without the network,
the client and the beginning of a wrong key. So neither memory nor the table grows with the number of attackers."""

HOUR_S = 3600.0
MANY = "*"
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}


class AccessAudit:
    """One per API process."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._hour_began = clock()
        self._told_apart: set[Use] = set()
        self._pending: dict[Use, tuple[int, str]] = {}
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to store counts."""
        self._task = asyncio.create_task(self._store_forever(), name="access-audit")

    async def stop(self) -> None:
        """Store what is left and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.store()

    def note(self, scope: Scope, status: int, code: str | None = None, times: int = 1) -> None:
        """Count a finished request, by the ``caller`` that the edge found. A client's successes are not counted.

        ``code``: the problem's code, if it is not that of the request. ``times``: of so many items of it.
        """
        who = scope.get("caller")
        if who is None or (who.startswith("client:") and status < 400):
            return
        client = scope.get("client")
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        path = getattr(scope.get("route"), "path_format", "?")
        network = network_of(client[0] if client else None)
        code = scope.get("problem_code", "") if code is None else code
        use = self._bounded(Use(who, network, f"{method} {path}", status, code))
        count, _ = self._pending.get(use, (0, ""))
        self._pending[use] = (count + times, scope["request_id"])

    async def store(self) -> None:
        """Write the counts. If the database is away they are kept for the next time."""
        if not self._pending:
            return
        taken, self._pending = self._pending, {}
        try:
            await within(STORE_S, self._write([(use, count, last) for use, (count, last) in taken.items()]))
        except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
            for use, (count, last) in taken.items():
                more, newest = self._pending.get(use, (0, last))
                self._pending[use] = (count + more, newest)
            if not self._away:
                log.warning("access_not_stored", uses=len(taken), error=type(error).__name__)
            self._away = True
        else:
            self._away = False

    async def _write(self, uses: list[tuple[Use, int, str]]) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(store_uses, uses)

    async def _store_forever(self) -> None:
        while True:
            await asyncio.sleep(STORE_EVERY_S)
            await self.store()

    def _bounded(self, use: Use) -> Use:
        now = self._clock()
        if now - self._hour_began >= HOUR_S:
            self._hour_began = now
            self._told_apart.clear()
        if use in self._told_apart:
            return use
        if len(self._told_apart) < USES_AN_HOUR:
            self._told_apart.add(use)
            return use
        kind, _, rest = use.who.partition(":")
        who = f"{kind}:{MANY}" if rest and kind in {"key", "client"} else use.who
        return Use(who, MANY, use.route, use.status_code, use.code)
