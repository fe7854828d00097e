"""The panel behind a real pgbouncer in transaction mode: calls and reads go through it, runs ask for a session."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from cli.health.checks import Verdict, check_postgres
from panel.migrate import MigrationRefusedError, migrate
from panel.runs.lease import hold_turn
from panel.sessions import NoSessionError, require_session, sync_engine
from panel.settings import Settings
from runtime.processes.children import descendants
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import LivePanel, live_panel
from tests.support.sockets import owner_of_port
from tests.support.stand_ins.pooler import pgbouncer
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.pooler]

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm"}
PATIENT = {"FULL_INTERVAL_S": "2", "WAIT_CAP_S": "60"}
PARTS = frozenset({"api", "worker-sync", "worker-reconcile", "beat"})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "pooler"
    made.mkdir(mode=0o755)
    return made


def test_a_transaction_pooler_is_told_from_a_session(database: Database, directory: Path) -> None:
    with psycopg.connect(database.app_url) as direct:
        require_session(direct)
    with pgbouncer(database.app_url, directory, "session") as url, psycopg.connect(url) as kept:
        require_session(kept)
    with (  # noqa: SIM117 - the server, then what is asked of it
        pgbouncer(database.app_url, directory, "transaction") as url,
        psycopg.connect(url, prepare_threshold=None) as shared,
    ):
        with pytest.raises(NoSessionError, match="DATABASE_SESSION_URL"):
            require_session(shared)


def test_a_session_url_that_leads_to_a_pooler_is_told(database: Database, directory: Path) -> None:
    with pgbouncer(database.app_url, directory, "transaction", "ignore_startup_parameters = options") as url:
        settings = Settings(_env_file=None, database_url=database.app_url, database_session_url=url)
        [problem] = [check for check in check_postgres(settings) if check.seen.startswith("no run can take place")]
    assert "set DATABASE_SESSION_URL to the server itself" in problem.mend
    assert "DATABASE_URL" not in problem.mend


def test_a_migration_through_a_pooler_is_refused(database: Database, directory: Path) -> None:
    """Its lock would stay in a session of the pooler's, and the next migration wait for it."""
    with (
        pgbouncer(database.owner_url, directory, "transaction") as url,
        pytest.raises(MigrationRefusedError, match="set DATABASE_OWNER_URL to the server itself"),
    ):
        migrate(url, database.app_url)


def test_a_run_says_which_setting_to_change(database: Database, directory: Path) -> None:
    with pgbouncer(database.app_url, directory, "transaction", "ignore_startup_parameters = options") as url:
        engine = sync_engine(url, "panel-sync test")
        with pytest.raises(NoSessionError, match="DATABASE_SESSION_URL"), hold_turn(engine, "full", "test"):
            raise AssertionError
        engine.dispose()
        found = check_postgres(Settings(_env_file=None, database_url=url))
    [problem] = [check for check in found if check.seen.startswith("no run can take place")]
    assert problem.verdict is Verdict.PROBLEM
    assert "DATABASE_SESSION_URL" in problem.mend


def beside_sessions(database: Database, pooler_url: str) -> dict[str, str]:
    """Calls and reads through the pooler, the rest beside it."""
    return {"DATABASE_URL": pooler_url, "DATABASE_SESSION_URL": database.app_url, **PATIENT}


def calls_and_reads(panel: LivePanel) -> None:
    add_user(panel.engine, 5)
    for number in range(30):
        answer = panel.sync("create", PLAN | {"name": f"vps-{number}"})
        assert answer.status_code in (200, 202), answer.text
    wait_until(lambda: len(panel.listed(5)) == 30, "all are applied")
    waited = httpx.post(
        f"{panel.url}/api/vps/sync",
        json={"action": "create", "vps": PLAN | {"name": "waited"}},
        headers={"X-API-Key": panel.sync_key, "Prefer": "wait=60"},
        trust_env=False,
    )
    assert waited.status_code == 201, waited.text
    assert panel.listed(6) == {}


def test_calls_and_reads_through_it_and_sessions_beside_it(database: Database, directory: Path, tmp_path: Path) -> None:
    with (
        pgbouncer(database.app_url, directory, "transaction") as url,
        live_panel(database, tmp_path, environment=beside_sessions(database, url), parts=PARTS) as panel,
    ):
        calls_and_reads(panel)
        done = "SELECT 1 FROM runs WHERE kind = 'full' AND state = 'done'"
        wait_until(lambda: panel.rows(done), "a run")
        wait_until(lambda: ready(panel)["database"] == ready(panel)["relay"] == "ok", "the panel to be well")
        assert {c.verdict for c in check_postgres(panel.settings) if c.subject == "pooler"} == {Verdict.OK}


def ready(panel: LivePanel) -> dict[str, str]:
    checks: dict[str, str] = httpx.get(f"{panel.url}/readyz", trust_env=False, timeout=PATIENCE_S).json()["checks"]
    return checks


def test_calls_and_reads_through_it_alone(database: Database, directory: Path, tmp_path: Path) -> None:
    with (
        pgbouncer(database.app_url, directory, "transaction", "ignore_startup_parameters = options") as url,
        live_panel(
            database,
            tmp_path,
            environment={"DATABASE_URL": url, **PATIENT},
            parts=PARTS - {"beat"},
        ) as panel,
    ):
        calls_and_reads(panel)
        polling = "ok, by polling: no session of its own (set DATABASE_SESSION_URL)"
        wait_until(lambda: ready(panel)["relay"] == polling, "the relay to say that it polls")


def test_calls_go_on_after_it_died_and_came_back(database: Database, directory: Path, tmp_path: Path) -> None:
    with (
        pgbouncer(database.app_url, directory, "transaction") as url,
        live_panel(database, tmp_path, environment=beside_sessions(database, url), parts=PARTS - {"beat"}) as panel,
    ):
        add_user(panel.engine, 5)
        assert panel.sync("create", PLAN | {"name": "before", "order_id": 1}).status_code == 202
        pooler = owner_of_port(make_url(url).port or 0, descendants(os.getpid()))
        assert pooler is not None
        os.kill(pooler, signal.SIGKILL)
        answers: list[int] = []

        def accepted() -> bool:
            answers.append(panel.sync("create", PLAN | {"name": "after", "order_id": 2}).status_code)
            return answers[-1] in (200, 202)

        wait_until(accepted, "a call to be accepted")
        assert set(answers) <= {200, 202, 503}
        wait_until(lambda: {r["name"] for r in panel.listed(5).values()} == {"before", "after"}, "both are applied")
        assert len(panel.listed(5)) == 2
