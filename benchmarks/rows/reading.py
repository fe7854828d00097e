"""A customer's list of VPS, against FastAPI and psycopg without row-level security, and an ETag hit against a miss."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import psycopg

from benchmarks.live import Panel, calls_panel
from benchmarks.measure import Aim, Ratio
from benchmarks.measuring.bursts import Measured, compared, measured
from benchmarks.measuring.load import burst, request
from benchmarks.measuring.model import complain, wait_applied
from benchmarks.servers import Servers
from benchmarks.yardsticks.plain_fastapi import Shown
from benchmarks.yardsticks.started import SECRET, Yardstick, plain_fastapi
from cli.operating.tokens import client_token

CONNECTIONS = 16
OWNED = {6: 1, 7: 20, 8: 1_000}
"""How many VPS each customer has."""
PAGE = 100
"""The longest page that the panel gives. The yardstick gives as many rows."""
TABLE = "CREATE TABLE shown (" + ", ".join(
    f"{name} {'bigint' if 'int' in str(field.annotation) else 'text'}" for name, field in Shown.model_fields.items()
) + "); CREATE INDEX ON shown (user_id, id)"  # fmt: skip


def measure(servers: Servers) -> list[Ratio]:
    """A row for each length of a list, and one for a list that did not change."""
    url = servers.database()
    with calls_panel(servers, url) as panel, plain_fastapi(servers, TABLE) as plain:
        _sell(panel)
        _copy(panel, plain)
        rows = [_row(servers, panel, plain, user_id) for user_id in OWNED]
        return [*rows, _unchanged(servers, panel)]


def _sell(panel: Panel) -> None:
    """All machines, by calls that a worker applies."""
    with psycopg.connect(panel.url, autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, username) SELECT i, 'customer' || i FROM generate_series(6, 8) i")
        panel.worker.start()
        key = {"X-API-Key": panel.settings.vps_sync_api_key.get_secret_value()}
        for user_id, count in OWNED.items():
            vps = {"user_id": user_id, "cpu": 2, "ram": 4096, "disk": 50, "os": "Debian 13", "ip_address": "192.0.2.7"}
            items = [{"action": "create", "vps": {**vps, "name": f"web-{n}"}} for n in range(count)]
            for first in range(0, count, 200):
                body = json.dumps({"items": items[first : first + 200]}).encode()
                burst(
                    panel.settings.port, [request("POST", "/api/vps/sync/batch", key, body)], connections=1, status=200
                )
        wait_applied(connection, panel.worker)
        found: dict[int, int] = dict(connection.execute("SELECT user_id, count(*) FROM vps GROUP BY 1").fetchall())
    panel.worker.stop()
    complain([] if found == OWNED else [f"the customers should have {OWNED} and have {found}"])


def _copy(panel: Panel, plain: Yardstick) -> None:
    """The same rows into the yardstick's table, with the values that the panel shows."""
    names = list(Shown.model_fields)
    with psycopg.connect(plain.url, autocommit=True) as connection, connection.cursor() as cursor:
        for user_id, count in OWNED.items():
            one = _read(panel, user_id, 1)[0]
            with cursor.copy(f"COPY shown ({', '.join(names)}) FROM STDIN".encode()) as copy:
                for number in range(count):
                    copy.write_row([number if name == "id" else one.get(name) for name in names])
        cursor.execute("VACUUM ANALYZE shown")


def _read(panel: Panel, user_id: int, limit: int) -> list[dict[str, Any]]:
    answer = burst(panel.settings.port, [_request(_token(panel, user_id), limit)], connections=1, status=200)
    found: list[dict[str, Any]] = json.loads(answer.bodies[0])["data"]
    return found


def _token(panel: Panel, user_id: int) -> str:
    return client_token(panel.settings, user_id, datetime.now(UTC), timedelta(hours=2))


def _request(token: str, limit: int, **headers: str) -> bytes:
    return request("GET", f"/api/vps?limit={limit}", {"Authorization": f"Bearer {token}", **headers})


def _row(servers: Servers, panel: Panel, plain: Yardstick, user_id: int) -> Ratio:
    count = OWNED[user_id]
    limit = min(count, PAGE)
    theirs_token = jwt.encode({"user_id": user_id, "exp": datetime.now(UTC) + timedelta(hours=2)}, SECRET)
    ours, theirs = _request(_token(panel, user_id), limit), _request(theirs_token, limit)
    lists = [_read(panel, user_id, limit)]
    complain([] if len(lists[0]) == limit else [f"a list of {limit} has {len(lists[0])}"])
    found = _in_turn(servers, (panel.settings.port, panel.edge_pids, ours), (plain.port, [plain.pid], theirs))
    what = f"list of {count:,} VPS" + (f" (its first {PAGE})" if count > PAGE else "")
    return compared(f"{what}, times slower than FastAPI + psycopg", *found, Aim("<=", 1.3), dearer=True)


def _unchanged(servers: Servers, panel: Panel) -> Ratio:
    """A reader who has the list already, against one who has not."""
    token = _token(panel, 7)
    url = f"http://127.0.0.1:{panel.settings.port}/api/vps?limit=20"
    tag = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False).headers["ETag"]
    hit, miss = _request(token, 20, **{"If-None-Match": tag}), _request(token, 20)
    port, pids = panel.settings.port, panel.edge_pids
    found = _in_turn(servers, (port, pids, hit), (port, pids, miss), status=304)
    return compared("list of 20 VPS that did not change, ETag hit / miss", *found, Aim(">=", 2.0))


Server = tuple[int, list[int], bytes]
"""Port, processes, request."""


def _in_turn(
    servers: Servers, ours: Server, theirs: Server, status: int = 200
) -> tuple[list[Measured], list[Measured]]:
    seconds, pairs = (0.5, 2) if servers.quick else (2.0, 5)
    series: tuple[list[Measured], list[Measured]] = ([], [])
    for turn in range(pairs + 1):
        for found, (port, pids, asked), expected in ((series[0], ours, status), (series[1], theirs, 200)):
            one, _ = measured(
                port, itertools.repeat(asked), pids, servers.postgres_pid,
                connections=CONNECTIONS, seconds=seconds, status=expected,
            )  # fmt: skip
            if turn > 0:  # the first ones warm up
                found.append(one)
    return series
