"""A whole panel in one test: real PostgreSQL, the real API over HTTP, the main site's and Proxmox' simulators.

Journaled calls are applied, and runs done, in the test's own thread when it says so: stories unfold in steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from sqlalchemy import Engine, select, text

from api.main import create_app
from domain.source_protocols import OrderFeed
from lab.simulators.main_site import MainSiteServer
from lab.simulators.provisioning import ProxmoxGuests
from lab.simulators.proxmox.server import ProxmoxServer
from panel.journal.writer import apply_operation
from panel.operators.repair_policy.policies import budget_of, handling_of
from panel.schema import tables
from panel.settings import Settings
from reconcile.decision.cases import Policy
from reconcile.run import Reconciler, RunResult, run_fast, run_full
from reconcile.users import import_users
from runtime.processes.free_ports import free_port
from runtime.processes.readiness import http_ok
from sources.main_site import OrdersFeed
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import PATIENCE_S, PATIENT_API_S, wait_until
from worker.wiring import clusters_of, feed_of

QUICK = Policy(
    power_grace=timedelta(0),
    link_grace=timedelta(0),
    create_grace=timedelta(0),
    stuck_creating=timedelta(0),
    paid_missing_grace=timedelta(0),
    orphan_grace=timedelta(0),
    ended_retention=timedelta(days=7),
    deleted_alive_grace=timedelta(0),
    proof_n=3,
    proof_t=timedelta(0),
)
"""Without waiting: every grace is over at once, but three complete absences are still asked for."""


class SteadyClock:
    """The main site's clock: it stands still while a run reads, and is always at a whole second.

    HTTP's Date counts whole seconds, so the panel allows for one more; runs of a story follow each other in less.
    """

    def __init__(self) -> None:
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.moment

    def tick(self) -> None:
        """Go on to the present second."""
        self.moment = max(self.moment, datetime.now(UTC).replace(microsecond=0))


@dataclass(slots=True)
class Bench:
    """The parts, and the verbs of a story."""

    engine: Engine
    settings: Settings
    site: MainSiteServer
    clusters: dict[str, ProxmoxServer]
    panel_url: str
    clock: SteadyClock
    policy: Policy = QUICK
    sweep_interval: timedelta = timedelta(0)
    feed: bool = True
    page_limit: int | None = None  # rows a page of the order feed
    results: list[RunResult] = field(default_factory=list)

    @property
    def pve(self) -> ProxmoxServer:
        return next(iter(self.clusters.values()))

    def reconciler(self) -> Reconciler:
        return Reconciler(
            engine=self.engine,
            feed=self._feed(),
            sources=clusters_of(self.settings, self.engine),
            policy=self.policy,
            budget=budget_of(self.settings),
            shared_ids=self.settings.user_id_space == "shared",
            sweep_interval=self.sweep_interval,
            users_interval=timedelta(0),
            first_run_asks=False,
            handling=handling_of(self.settings),
            second_above=self.settings.second_approval_above,
        )

    def _feed(self) -> OrderFeed | None:
        feed = feed_of(self.settings) if self.feed else None
        if self.page_limit is not None:
            assert isinstance(feed, OrdersFeed)
            feed._limit = str(self.page_limit)
        return feed

    def run(self, times: int = 1) -> RunResult:
        for _ in range(times):
            self.clock.tick()
            self.results.append(run_full(self.reconciler(), trigger="test"))
            assert self.results[-1].state == "done"
        return self.results[-1]

    def fast(self, times: int = 1) -> RunResult:
        for _ in range(times):
            self.results.append(run_fast(self.reconciler(), trigger="test"))
        return self.results[-1]

    def import_users(self) -> None:
        import_users(self.reconciler())

    def drain(self) -> None:
        """Let the main site's calls arrive, and apply everything journaled."""
        assert self.site.drain()
        operations = tables.operations
        with self.engine.connect() as connection:
            queued = connection.execute(
                select(operations.c.id).where(operations.c.state == "queued").order_by(operations.c.id)
            ).all()
        for row in queued:
            apply_operation(self.engine, row.id)

    def client_sees(self, user_id: int) -> list[dict[str, Any]]:
        """What GET /api/vps answers to this client's token, oldest first."""
        secret = self.settings.jwt_secret.get_secret_value()
        claims = {"user_id": user_id, "sub": str(user_id), "exp": datetime.now(UTC) + timedelta(hours=1)}
        token = jwt.encode(claims, secret, algorithm="HS256")
        answer = httpx.get(f"{self.panel_url}/api/vps", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.json()["next_cursor"] is None
        return list(reversed(answer.json()["data"]))

    def call(self, action: str, *, key: str | None = None, **vps: Any) -> httpx.Response:
        """One sync call as a main site makes it; not applied before ``drain``."""
        headers = {"X-API-Key": self.settings.vps_sync_api_key.get_secret_value()}
        if key is not None:
            headers["Idempotency-Key"] = key
        body = {"action": action, "vps": vps}
        return httpx.post(f"{self.panel_url}/api/vps/sync", json=body, headers=headers, trust_env=False)

    def vps(self) -> list[dict[str, Any]]:
        """Live records, oldest first."""
        return self._rows("SELECT * FROM vps WHERE deleted_at IS NULL ORDER BY id")

    def every_vps(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM vps ORDER BY id")

    def repairs(self) -> list[dict[str, Any]]:
        """The journal's repairs, oldest first."""
        return self._rows("SELECT * FROM operations WHERE kind = 'repair' ORDER BY id")

    def findings(self) -> set[tuple[str, str]]:
        rows = self._rows("SELECT class, subject FROM findings WHERE resolved_at IS NULL")
        return {(row["class"], row["subject"]) for row in rows}

    def finding_classes(self) -> set[str]:
        return {class_ for class_, _ in self.findings()}

    def with_policy(self, **changes: Any) -> None:
        self.policy = replace(self.policy, **changes)

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(statement))]


@contextmanager
def bench(
    database: Database,
    engine: Engine,
    *,
    clusters: tuple[str, ...] = ("main",),
    endpoints: int = 1,
    extended: bool = False,
    user_id_space: str = "mapped",
    main_site_feed: str = "orders",
    **settings: Any,
) -> Iterator[Bench]:
    """Bring everything up; user 1 of the main site is user 5 of the panel, user 2 is user 6.

    ``endpoints``: at how many addresses each cluster answers.
    """
    sync_key, port = random_key(), free_port()
    panel_url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        # With a clock that stands at whole seconds, Date has no fraction to allow for.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("sources.clock.DATE_RESOLUTION_S", 0.0)
        servers = {
            name: stack.enter_context(ProxmoxServer(name=name, endpoints=endpoints, unauthorized_delay_s=0.01))
            for name in clusters
        }
        site = stack.enter_context(
            MainSiteServer(panel_url=panel_url, sync_key=sync_key, guests=ProxmoxGuests(servers), extended=extended)
        )
        clock = SteadyClock()
        site.site._clock = clock
        chosen = Settings(
            _env_file=None,
            vps_sync_api_key=sync_key,
            jwt_secret=random_key(),
            database_url=database.app_url,
            port=port,
            answer_within_s=PATIENT_API_S,
            main_site_url=site.url,
            main_site_api_key=site.api_key,
            main_site_feed=main_site_feed,
            panel_api_cluster=clusters[0],
            user_id_space=user_id_space,
            proxmox_clusters=[server.settings() for server in servers.values()],
            **settings,
        )
        stack.enter_context(_serving(chosen, port))
        for main_site_id, panel_id in ((1, 5), (2, 6)):
            user = site.add_user(
                username=f"user{panel_id}", email=f"user{panel_id}@example.test", panel_user_id=panel_id
            )
            assert user.id == main_site_id
        started = Bench(engine, chosen, site, servers, panel_url, clock)
        started.import_users()
        yield started


@contextmanager
def _serving(settings: Settings, port: int) -> Iterator[None]:
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="panel-api")
    thread.start()
    try:
        wait_until(lambda: server.started, "the API to start")
        wait_until(http_ok(port, "/healthz"), "the API to answer")
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive()
