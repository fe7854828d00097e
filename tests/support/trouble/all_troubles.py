"""Everything that can go wrong in a whole panel, one after the other, and all places where it may be told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from psycopg import sql

from cli.main import main
from lab.chaos.message_faults import ring
from panel.settings import Settings
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import LOGIN, Databases
from tests.support.keys import random_key
from tests.support.live_panel import LivePanel, Outside
from tests.support.logs import logging_of_its_own
from tests.support.stand_ins.echo_server import EchoServer
from tests.support.trouble.evidence import Evidence
from tests.support.waiting import wait_until

CLIENT = 5
NAME, ADDRESS = "name-of-a-customers-machine", "203.0.113.77"
CRASHING = "login-that-crashes"
PERSONAL = frozenset({NAME, ADDRESS, CRASHING, "login-of-5", "login-of-6", "person5@", f"{CRASHING}@"})
"""``login-of-5`` and the like are what the main site tells of its users."""

BOUGHT = {"user_id": CLIENT, "name": NAME, "cpu": 1, "ram": 1024, "disk": 1, "os": "x"}


@dataclass(slots=True)
class Troubles:
    """What goes wrong, one after the other; each waits until it has been noticed."""

    panel: LivePanel
    world: Outside
    echo: EchoServer
    databases: Databases
    seen: Evidence

    def all(self) -> None:
        self.customers()
        self.bad_requests()
        self.commands_with_wrong_settings()
        self.sources_that_echo()
        self.a_task_that_crashes()
        self.refused_by_proxmox()
        self.look_at_flower()
        self.refused_by_postgresql()
        self.messages_in_redis()
        self.look_at_the_rest()

    def customers(self) -> None:
        self.panel.wait_users()
        order = self.world.site.place_order(user_id=1, name=NAME, ip_address=ADDRESS)
        self.world.site.set_status(order.id, "running")
        assert self.panel.wait_status(CLIENT, NAME, "running")

    def bad_requests(self) -> None:
        url, key = f"{self.panel.url}/api/vps/sync", self.panel.sync_key
        right = {"X-API-Key": key}
        with httpx.Client(trust_env=False, headers=right) as client:
            codes = [
                client.post(url, json=body, headers=more).status_code
                for body, more in (
                    ({"action": key, "vps": {}}, {}),
                    ({"action": "update", "vps": {"id": 1, "status": key}}, {}),
                    ({"action": "create", "vps": {"user_id": key, "name": NAME, "cpu": key}}, {}),
                    ({"action": "create", "vps": BOUGHT}, {"Idempotency-Key": key}),
                    ({"action": "delete", "vps": {"id": 999}}, {"X-Request-Id": key}),
                    ({"action": "delete", "vps": {"id": 999}}, {"Authorization": f"Bearer {key}", "Cookie": key}),
                    ({"action": "delete", "vps": {"id": 999}}, {"X-API-Key": key[:-1]}),
                )
            ]
            codes.append(client.post(url, content=f'{{"key": "{key}"').status_code)
            codes.append(client.get(f"{url}/{key}").status_code)
            codes.append(client.get(f"{url}/records", params={"order_id": "7", "name": key}).status_code)
        token = {"Authorization": f"Bearer {self.panel.token(CLIENT)}x"}
        codes.append(httpx.get(f"{self.panel.url}/api/vps", headers=token, trust_env=False).status_code)
        assert set(codes) <= {400, 401, 404, 415, 422}, codes
        with socket.create_connection(("127.0.0.1", self.panel.settings.port), timeout=120) as raw:
            raw.sendall(f"GET /healthz HTTP/1.1\r\nX-API-Key {key}\r\n\r\n".encode())
            assert raw.recv(100)

    def command(self, *arguments: str, **settings: str) -> str:
        """Run ``panel-sync`` in this process with the panel's settings; what it printed, tracebacks included."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.panel.directory)
            for name in list(os.environ):
                patch.delenv(name)
            data = str(self.panel.directory / "commands")
            given = {"PANEL_DATA_DIR": data, "COLUMNS": "400", **_environment(self.panel.settings), **settings}
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["panel-sync", *arguments])
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), logging_of_its_own():
                try:
                    main()
                except SystemExit:
                    pass
                except Exception:  # noqa: BLE001 - a traceback is what a shell would show, and is searched too
                    said.write(traceback.format_exc())
        return said.getvalue()

    def commands_with_wrong_settings(self) -> None:
        wrong = random_key()
        self.seen.secrets.add(wrong)
        database = re.sub(r":[^:@]+@", f":{wrong}@", self.panel.settings.session_url)
        broker = re.sub(r":[^:@]+@", f":{wrong}@", self.panel.settings.redis_url)
        for expected, arguments, settings in (
            ("password authentication failed", ["runs"], {"DATABASE_URL": database}),
            ("password authentication failed", ["migrate"], {"DATABASE_OWNER_URL": database}),
            ("password authentication failed", ["doctor"], {"DATABASE_URL": database, "REDIS_URL": broker}),
            ("VPS_SYNC_API_KEY", ["up"], {"VPS_SYNC_API_KEY": f"{wrong} with spaces"}),
            ("OPS_API_KEY", ["runs"], {"OPS_API_KEY": f"{wrong}\u00e9"}),
            ("PROXMOX_CLUSTERS", ["plan"], {"PROXMOX_CLUSTERS": f'[{{"token_secret": "{wrong}"'}),
            ("PROXMOX_CLUSTERS", ["plan"], {"PROXMOX_CLUSTERS": json.dumps([{"token_secret": wrong, "name": 1}])}),
            ("DATABASE_URL", ["runs"], {"DATABASE_URL": f"mysql://u:{wrong}@h/d"}),
            ("DATABASE_URL", ["worker"], {"DATABASE_URL": f"postgresql://u:12/{wrong}@h/d"}),
            ("MAIN_SITE_URL", ["plan"], {"MAIN_SITE_URL": f"https://u:{wrong}@h"}),
            ("FINDING_WEBHOOK_URL", ["runs"], {"FINDING_WEBHOOK_URL": f"http://h/{wrong}"}),
            ("MAIN_SITE_WEBHOOK_SECRET", ["runs"], {"MAIN_SITE_WEBHOOK_SECRET": f"whsec_{wrong}"}),
            ("MAIN_SITE_API_KEY", ["doctor"], {"MAIN_SITE_API_KEY": f"{wrong}\u00e9"}),
        ):
            said = self.command(*arguments, DATABASE_SESSION_URL="", **settings)
            assert expected in said, (arguments, said)
            self.seen.see("command with wrong settings", said)

    def sources_that_echo(self) -> None:
        clusters = [dict(c) for c in json.loads(self.world.environment()["PROXMOX_CLUSTERS"])]
        for cluster in clusters:
            cluster |= {"urls": [self.echo.url], "ca_file": None}
        settings = {"MAIN_SITE_URL": self.echo.url, "PROXMOX_CLUSTERS": json.dumps(clusters), "REDIS_URL": ""}
        for status in (500, 401, 200):
            self.echo.status, before = status, self.echo.sent
            self.seen.see("command against echoing sources", self.command("doctor", **settings))
            assert self.echo.sent >= before + 2  # both sources were asked
        for arguments in (["doctor"], ["runs"], ["operations"], ["sources"], ["findings"], ["held"]):
            said = self.command(*arguments)
            assert "Traceback" not in said
            self.seen.see("command that works", said)

    def a_task_that_crashes(self) -> None:
        """The database refuses a user: PostgreSQL's DETAIL quotes the whole row."""
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            check = sql.SQL("ALTER TABLE users ADD CONSTRAINT no_such_user CHECK (username <> {}) NOT VALID")
            admin.execute(check.format(sql.Literal(CRASHING)))
            self.world.site.add_user(username=CRASHING, email=f"{CRASHING}@example.test", panel_user_id=77)
            wait_until(lambda: "no_such_user" in self.log("worker-reconcile"), "the import of users to crash")
            wait_until(lambda: "no_such_user" in self.flower("/api/tasks?limit=10000"), "Flower to show the crash")
            admin.execute("ALTER TABLE users DROP CONSTRAINT no_such_user")

    def refused_by_proxmox(self) -> None:
        self.world.pve.fail_answers("/cluster/resources", message=self.world.pve.authorization)
        self.wait_problem("was answered 500")
        self.world.pve.clear_faults()
        self.world.pve.revoke_token()
        self.wait_problem("the token is refused")
        self.world.pve.restore_token()

    def wait_problem(self, text: str) -> None:
        statement = "SELECT id FROM runs WHERE CAST(problems AS text) LIKE :text"
        wait_until(lambda: self.panel.rows(statement, text=f"%{text}%"), f"a run to note: {text}")

    def refused_by_postgresql(self) -> None:
        """The password changes under everybody's feet."""
        password = re.search(r":([^:@]+)@", self.panel.settings.database_url)
        assert password
        changed = sql.SQL("ALTER ROLE {} PASSWORD {}")
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute(changed.format(sql.Identifier(LOGIN), sql.Literal(random_key())))
            try:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [LOGIN])
                assert self.panel.sync("delete", {"id": 1}).status_code == 503
                # Beat ends with its connection, and sends no task that would need the database.
                ring(self.panel.settings.redis_url, [1])
                wait_until(lambda: "password authentication failed" in self.log("worker-"), "tasks to be refused")
                wait_until(lambda: "beat_database_away" in self.log("beat") or self.panel.process("beat").died, "beat")
            finally:
                admin.execute(changed.format(sql.Identifier(LOGIN), sql.Literal(password[1])))
        wait_until(lambda: self.panel.sync("delete", {"id": 999}).status_code == 404, "the API to be back")

    def messages_in_redis(self) -> None:
        if self.panel.process("worker-sync").running:
            self.panel.process("worker-sync").kill()
        with redis.Redis.from_url(self.panel.redis.url, socket_timeout=60) as client:
            self.panel.sync("create", BOUGHT)
            wait_until(lambda: client.llen("sync"), "a message to wait in Redis")
            for key in client.scan_iter("*"):
                self.seen.see("redis", f"{key!r} = {_value(client, key)!r}\n")
        self.panel.redis.kill()
        self.panel.sync("create", BOUGHT)
        wait_until(lambda: "publish_failed" in self.log("api"), "the relay to miss Redis")
        self.panel.redis.start()

    def look_at_flower(self) -> None:
        pages = ["/", "/workers?refresh=1", "/tasks", "/broker", "/metrics", "/api/workers?refresh=1&status=1",
                 "/api/queues/length", "/api/task/types"]  # fmt: skip
        tasks: dict[str, Any] = json.loads(self.flower("/api/tasks?limit=10000"))
        failed = [uuid for uuid, task in tasks.items() if task.get("traceback")]
        assert failed
        workers = json.loads(self.flower("/api/workers?refresh=1"))
        pages += [f"/worker/{name}" for name in workers]
        pages += [f"{view}/{uuid}" for uuid in failed[:2] for view in ("/task", "/api/task/info")]
        for page in ("/api/tasks?limit=10000", *pages):
            self.seen.see(f"flower {page.split('?')[0]}", self.flower(page))

    def flower(self, page: str) -> str:
        settings = self.panel.settings
        auth = (settings.flower_user, settings.flower_password.get_secret_value())
        url = f"http://127.0.0.1:{settings.flower_port}"
        return httpx.get(f"{url}{page}", auth=auth, trust_env=False, timeout=120).text

    def look_at_the_rest(self) -> None:
        for command_line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.seen.see("command lines", command_line.read_text(encoding="utf-8", errors="replace") + "\n")
        operator = {"X-API-Key": self.panel.settings.ops_api_key.get_secret_value()}
        for path in ("metrics", "runs", "sources", "findings", "quarantine", "held", "pauses", "audit"):
            answer = httpx.get(f"{self.panel.url}/api/ops/{path}", headers=operator, trust_env=False)
            assert answer.status_code == 200, answer.text
            self.seen.see(f"operators' API {path}", answer.text)
        with psycopg.connect(self.admin_url) as admin:
            names = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (name,) in names:
                dump = sql.SQL("SELECT coalesce(string_agg(CAST(t AS text), chr(10)), '-') FROM {} t")
                row = admin.execute(dump.format(sql.Identifier(name))).fetchone()
                assert row is not None
                self.seen.see(f"table {name}", row[0])
        for process in self.panel.supervisor.processes:
            self.seen.see(f"log {process.name}", _all_logs(process) or "-")
        self.seen.see("redis's own log", self.panel.redis.log_path.read_text(encoding="utf-8"))
        self.seen.see("server log of PostgreSQL", self.databases.server.log_path.read_text(encoding="utf-8"))

    def log(self, name: str) -> str:
        return "".join(_all_logs(p) for p in self.panel.supervisor.processes if p.name.startswith(name))

    @property
    def admin_url(self) -> str:
        return self.databases.server.admin_url(self.panel.settings.database_url.rpartition("/")[2])


def _all_logs(process: ManagedProcess) -> str:
    return process.log_path.read_text(encoding="utf-8", errors="replace")


def _environment(settings: Settings) -> dict[str, str]:
    """What a shell would have exported for these settings."""
    plain = {n: getattr(settings, n) for n in ("database_url", "database_owner_url", "redis_url", "main_site_url")}
    secret = ("vps_sync_api_key", "ops_api_key", "jwt_secret", "flower_password", "main_site_api_key")
    plain |= {name: getattr(settings, name).get_secret_value() for name in secret}
    clusters = [
        c.model_dump(mode="json", exclude_none=True) | {"token_secret": c.token_secret.get_secret_value()}
        for c in settings.proxmox_clusters
    ]
    more = {"DEMO": "true", "USER_ID_SPACE": "mapped", "PROXMOX_CLUSTERS": json.dumps(clusters)}
    return {name.upper(): str(value) for name, value in plain.items()} | more


def _value(client: redis.Redis, key: Any) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case kind:
            raise AssertionError(f"a key of another kind: {kind!r}")
