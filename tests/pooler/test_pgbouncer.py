"""The panel behind a real pgbouncer in transaction mode: calls and reads go through it, runs ask for a session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from cli.health.checks import Verdict, check_postgres
from panel.runs.lease import hold_turn
from panel.sessions import NoSessionError, require_session, sync_engine
from panel.settings import Settings
from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess
from runtime.servers.server_account import unprivileged_account
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import LivePanel, live_panel
from tests.support.sockets import port_open
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.pooler]

PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm"}
PARTS = frozenset({"api", "worker-sync", "worker-reconcile", "beat"})


@contextmanager
def pgbouncer(database: Database, directory: Path, mode: str, more: str = "") -> Iterator[str]:
    """The application's URL through a pgbouncer in that mode."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    url, port = make_url(database.app_url), free_port()
    account = unprivileged_account()
    config = directory / f"{mode}.ini"
    config.write_text(
        f"[databases]\n{url.database} = host=127.0.0.1 port={url.port} user={url.username} password={url.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 8\n{more}\n"
    )
    # Root may not run it; who it runs as must be able to read its file.
    for path in (config, *config.parents):
        if account is not None and path.is_relative_to("/tmp"):  # noqa: S108 - pytest's own
            path.chmod(path.stat().st_mode | 0o055)
    user = ["-u", "nobody"] if account is not None else []
    process = ManagedProcess(
        f"pgbouncer-{mode}", [program, *user, str(config)], {}, directory / f"{mode}.log", ready=port_open(port)
    )
    process.start()
    try:
        process.wait_ready()
        yield url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    finally:
        process.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "pooler"
    made.mkdir(mode=0o755)
    return made


def test_a_transaction_pooler_is_told_from_a_session(database: Database, directory: Path) -> None:
    with psycopg.connect(database.app_url) as direct:
        require_session(direct)
    with pgbouncer(database, directory, "session") as url, psycopg.connect(url) as kept:
        require_session(kept)
    with (  # noqa: SIM117 - the server, then what is asked of it
        pgbouncer(database, directory, "transaction") as url,
        psycopg.connect(url, prepare_threshold=None) as shared,
    ):
        with pytest.raises(NoSessionError, match="DATABASE_SESSION_URL"):
            require_session(shared)


def test_a_run_says_which_setting_to_change(database: Database, directory: Path) -> None:
    with pgbouncer(database, directory, "transaction", "ignore_startup_parameters = options") as url:
        engine = sync_engine(url, "panel-sync test")
        with pytest.raises(NoSessionError, match="DATABASE_SESSION_URL"), hold_turn(engine, "full", "test"):
            raise AssertionError
        engine.dispose()
        found = check_postgres(Settings(_env_file=None, database_url=url))
    [problem] = [check for check in found if check.seen.startswith("no run can take place")]
    assert problem.verdict is Verdict.PROBLEM
    assert "DATABASE_SESSION_URL" in problem.mend


def calls_and_reads(panel: LivePanel) -> None:
    add_user(panel.engine, 5)
    for number in range(30):
        answer = panel.sync("create", PLAN | {"name": f"vps-{number}"})
        assert answer.status_code in (200, 202), answer.text
    wait_until(lambda: len(panel.listed(5)) == 30, "all are applied", 60)
    waited = httpx.post(
        f"{panel.url}/api/vps/sync",
        json={"action": "create", "vps": PLAN | {"name": "waited"}},
        headers={"X-API-Key": panel.sync_key, "Prefer": "wait=10"},
        trust_env=False,
    )
    assert waited.status_code == 201, waited.text
    assert panel.listed(6) == {}


def test_calls_and_reads_through_it_and_sessions_beside_it(database: Database, directory: Path, tmp_path: Path) -> None:
    with (
        pgbouncer(database, directory, "transaction") as url,
        live_panel(
            database,
            tmp_path,
            environment={"DATABASE_URL": url, "DATABASE_SESSION_URL": database.app_url, "FULL_INTERVAL_S": "2"},
            parts=PARTS,
        ) as panel,
    ):
        calls_and_reads(panel)
        done = "SELECT 1 FROM runs WHERE kind = 'full' AND state = 'done'"
        wait_until(lambda: panel.rows(done), "a run", 60)
        checks = httpx.get(f"{panel.url}/readyz", trust_env=False).json()["checks"]
        assert (checks["database"], checks["relay"]) == ("ok", "ok")
        assert {c.verdict for c in check_postgres(panel.settings) if c.subject == "pooler"} == {Verdict.OK}


def test_calls_and_reads_through_it_alone(database: Database, directory: Path, tmp_path: Path) -> None:
    with (
        pgbouncer(database, directory, "transaction", "ignore_startup_parameters = options") as url,
        live_panel(
            database,
            tmp_path,
            environment={"DATABASE_URL": url, "FULL_INTERVAL_S": "2"},
            parts=PARTS - {"beat"},
        ) as panel,
    ):
        calls_and_reads(panel)
        checks = httpx.get(f"{panel.url}/readyz", trust_env=False).json()["checks"]
        assert checks["relay"] == "ok, by polling: no session of its own (set DATABASE_SESSION_URL)"
