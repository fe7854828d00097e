"""Doctor: what is wrong is found, told with its remedy, and never with a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
import redis
from sqlalchemy import Engine, make_url, text

from cli.health.checks import Check, Verdict, clock_check, durability_check, queue_checks
from cli.health.source_checks import match_check
from domain.failures import Failure, Stage
from domain.source_troubles import Cause, Trouble
from lab.simulators.main_site import MainSiteServer
from lab.simulators.proxmox.server import ProxmoxServer
from panel.operators.pauses import pause
from panel.operators.quarantine import note_failures
from panel.runs.source_states import report_sources
from runtime.processes.free_ports import free_port
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.integration.api.test_api_operators import hold
from tests.integration.cli.conftest import PanelSync
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.stand_ins.refusing_redis import refusing_redis
from worker.beat import BEAT_LOCK


def line(out: str, subject: str, words: str) -> str:
    """The one line of the table about a subject that holds these words; its first word is the verdict."""
    found = [row for row in out.splitlines() if subject in row and words in row]
    assert len(found) == 1, out
    return found[0]


class TestJudgements:
    """Pure: what was seen, and the verdict."""

    @pytest.mark.parametrize(
        ("skew_s", "verdict"),
        [(0.0, Verdict.OK), (-4.9, Verdict.OK), (5.1, Verdict.WARNING), (-7200.0, Verdict.WARNING)],
    )
    def test_clocks(self, skew_s: float, verdict: Verdict) -> None:
        assert clock_check("x", skew_s).verdict is verdict

    @pytest.mark.parametrize(
        ("off", "throwaway", "verdict", "says"),
        [
            pytest.param([], False, Verdict.OK, "is on the disk", id="all on"),
            pytest.param(["fsync"], False, Verdict.PROBLEM, "fsync is off turn it on", id="one off"),
            pytest.param(["fsync", "full_page_writes"], False, Verdict.PROBLEM, "are off turn them on", id="two off"),
            pytest.param(["synchronous_commit"], True, Verdict.NOTE, "a server for the demo", id="a demo's"),
        ],
    )
    def test_durability(self, off: list[str], verdict: Verdict, says: str, *, throwaway: bool) -> None:
        check = durability_check(off, throwaway=throwaway)
        assert check.verdict is verdict
        assert says in f"{check.seen} {check.mend}"

    @pytest.mark.parametrize(
        ("space", "listed", "matched", "verdict", "says"),
        [
            pytest.param("mapped", 10, 10, Verdict.OK, "100 %", id="all"),
            pytest.param("mapped", 10, 4, Verdict.WARNING, "4 of 10 users", id="some"),
            pytest.param("mapped", 10, 0, Verdict.PROBLEM, "USER_ID_SPACE=shared", id="none mapped"),
            pytest.param("shared", 10, 0, Verdict.PROBLEM, "likely wrong", id="none shared"),
            pytest.param("mapped", 0, 0, Verdict.NOTE, "lists no users", id="an empty feed"),
        ],
    )
    def test_users(self, space: str, listed: int, matched: int, verdict: Verdict, says: str) -> None:
        check = match_check(space, listed, matched)
        assert check.verdict is verdict
        assert says in f"{check.seen} {check.mend}"

    @pytest.mark.parametrize(
        ("taken", "verdicts"),
        [
            pytest.param({}, [Verdict.PROBLEM, Verdict.PROBLEM], id="nobody"),
            pytest.param({"a": {"sync"}}, [Verdict.OK, Verdict.PROBLEM], id="nobody reconciles"),
            pytest.param({"a": {"sync"}, "b": {"reconcile"}}, [Verdict.OK, Verdict.OK], id="both"),
            pytest.param({"a": {"sync", "reconcile"}}, [Verdict.OK, Verdict.OK], id="one for both"),
        ],
    )
    def test_workers(self, taken: dict[str, set[str]], verdicts: list[Verdict]) -> None:
        assert [check.verdict for check in queue_checks(taken)] == verdicts
        every = ("sync", "reconcile", "power", "statistics", "webhooks")
        expected = [*verdicts, Verdict.PROBLEM, Verdict.WARNING, Verdict.PROBLEM]
        assert [check.verdict for check in queue_checks(taken, every)] == expected

    def test_what_is_not_well_says_how_to_mend_it(self) -> None:
        found: list[Check] = [clock_check("x", 60), match_check("mapped", 2, 1), *queue_checks({}, ["sync"])]
        assert all(check.mend for check in found)


def test_nothing_set(bare: PanelSync) -> None:
    said = bare("doctor")
    assert said.code == 1
    for name in ("DATABASE_URL", "REDIS_URL", "VPS_SYNC_API_KEY", "JWT_SECRET"):
        assert line(said.out, "settings", f"{name} is not set").startswith("problem")


class TestPostgres:
    """Reachable, migrated, the right login, the journal, the scheduler."""

    def test_well(self, panel_sync: PanelSync, database: Database) -> None:
        with psycopg.connect(database.app_url) as scheduler:
            scheduler.execute("SELECT pg_advisory_lock(%s)", (BEAT_LOCK,))
            out = panel_sync("doctor").out
        assert line(out, "PostgreSQL", "version").startswith("ok")
        assert line(out, "PostgreSQL", "fsync, full_page_writes are off: a server for the demo").startswith("note")
        assert line(out, "tables", "revision").startswith("ok")
        assert line(out, "database role", "rows only").startswith("ok")
        assert line(out, "journal", "0 operations").startswith("ok")
        assert line(out, "beat", "one scheduler").startswith("ok")
        assert line(out, "PostgreSQL", "clock").startswith("ok")

    def test_no_scheduler(self, panel_sync: PanelSync) -> None:
        assert line(panel_sync("doctor").out, "beat", "no scheduler").startswith("problem")

    def test_away(self, bare: PanelSync) -> None:
        out = bare("doctor", DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/d").out
        assert line(out, "PostgreSQL", "it can't be reached").startswith("problem")
        assert "hunter2" not in out

    def test_not_migrated(self, bare: PanelSync, empty_database: Database) -> None:
        out = bare("doctor", DATABASE_URL=empty_database.owner_url).out
        assert line(out, "tables", "run: panel-sync migrate").startswith("problem")

    @pytest.mark.parametrize(("url", "kind"), [("owner_url", "owns the tables"), ("admin_url", "is a superuser")])
    def test_a_login_with_too_many_rights(self, bare: PanelSync, database: Database, url: str, kind: str) -> None:
        out = bare("doctor", DATABASE_URL=getattr(database, url)).out
        assert line(out, "database role", kind).startswith("warning")

    def test_what_waits_and_what_died(self, panel_sync: PanelSync, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO vps_queues (vps_id, last_seq, queue_state) VALUES (1, 2, 'live')"))
            connection.execute(
                text(
                    "INSERT INTO operations"
                    " (kind, action, vps_id, seq, source, payload, state, accepted_at, applied_at)"
                    " VALUES ('sync', 'create', 1, 1, 'sync', '{}', 'queued', now() - interval '5 minutes', NULL),"
                    " ('sync', 'update', 1, 2, 'sync', '{}', 'dead', now(), now())"
                )
            )
        out = panel_sync("doctor").out
        waited = line(out, "journal", "the oldest for ")
        assert waited.startswith("warning")
        found = re.search(r"the oldest for (\d+) s", waited)
        assert found is not None
        assert int(found[1]) >= 300
        assert line(out, "journal", "1 operations are dead").startswith("warning")

    def test_what_operators_hold_or_should_decide(self, panel_sync: PanelSync, engine: Engine) -> None:
        assert "quarantine" not in panel_sync("doctor").out
        hold(engine, 1, 2)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO vps_queues (vps_id, last_seq, queue_state) VALUES (7, 1, 'live')"))
            pause(connection, "vps:7", "a move", timedelta(hours=1), "cli:ann")
            pause(connection, "proxmox:main", "an upgrade", timedelta(hours=1), "cli:ann")
            run_id = connection.scalar(text("SELECT max(id) FROM runs")) or 0
            failures = [Failure(f"vps:{n}", Stage.WRITE, "RaiseException (SQLSTATE P0001)") for n in range(1, 5)]
            note_failures(connection, run_id, failures)
        out = panel_sync("doctor").out
        assert line(out, "pauses", "vps:7 is paused until").startswith("note")
        assert line(out, "pauses", "panel-sync resume main").startswith("note")
        assert line(out, "held sets", "deletes (2)").startswith("warning")
        assert line(out, "quarantine", "vps:1 (RaiseException (SQLSTATE P0001))").startswith("warning")
        assert "and 1 more" in out


class TestRedis:
    """Reachable, durable, never evicting; whether workers listen."""

    def test_well_but_without_workers(self, panel_sync: PanelSync, redis_url: str) -> None:
        out = panel_sync("doctor", REDIS_URL=redis_url).out
        assert line(out, "Redis", "version").startswith("ok")
        assert line(out, "Redis", "appendonly, noeviction").startswith("ok")
        assert line(out, "workers", "no worker takes the queue sync").startswith("problem")
        password = make_url(redis_url).password
        assert isinstance(password, str)
        assert password not in out

    @pytest.fixture
    def careless(self, redis_server: EmbeddedRedis) -> Iterator[str]:
        """A Redis that forgets and evicts."""
        with redis.Redis.from_url(redis_server.url, socket_timeout=60) as client:
            client.config_set("appendonly", "no")
            client.config_set("maxmemory-policy", "allkeys-lru")
            yield redis_server.url
            client.config_set("appendonly", "yes")
            client.config_set("maxmemory-policy", "noeviction")

    def test_careless(self, panel_sync: PanelSync, careless: str) -> None:
        out = panel_sync("doctor", REDIS_URL=careless).out
        assert line(out, "Redis", "appendonly is off").startswith("warning")
        assert line(out, "Redis", "maxmemory-policy is allkeys-lru").startswith("warning")

    def test_away(self, panel_sync: PanelSync) -> None:
        out = panel_sync("doctor", REDIS_URL="redis://:hunter2@127.0.0.1:1/0").out
        assert line(out, "Redis", "it can't be reached").startswith("problem")
        assert "hunter2" not in out

    def test_a_refused_password(self, panel_sync: PanelSync, redis_server: EmbeddedRedis) -> None:
        out = panel_sync("doctor", REDIS_URL=f"redis://:hunter2@127.0.0.1:{redis_server.port}/0").out
        assert line(out, "Redis", "the password is refused").startswith("problem")

    @pytest.mark.parametrize(
        ("error", "means"),
        [
            ("READONLY You can't write against a read only replica.", "it takes no writes: it is a replica"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "its memory is full"),
            ("MISCONF Redis is configured to save RDB snapshots", "it takes no writes because it cannot save"),
        ],
    )
    def test_it_answers_and_takes_no_work(
        self, panel_sync: PanelSync, redis_server: EmbeddedRedis, error: str, means: str
    ) -> None:
        """As a replica or a full one does: it answers PING, and refuses what is written."""
        with refusing_redis(redis_server.port) as refusing:
            refusing.error, refusing.but = error, frozenset({b"PING", b"HELLO", b"AUTH", b"CLIENT", b"SELECT"})
            url = redis_server.url.replace(f":{redis_server.port}/", f":{refusing.port}/")
            assert line(panel_sync("doctor", REDIS_URL=url).out, "Redis", means).startswith("problem")
            up = panel_sync("up", REDIS_URL=url, PORT=str(free_port()), FLOWER_PORT=str(free_port()))
        assert (up.code, means in up.err) == (2, True)


class TestSources:
    """The main site and Proxmox, as simulated."""

    @pytest.fixture
    def site(self) -> Iterator[MainSiteServer]:
        with MainSiteServer() as running:
            running.add_user(username="ann", email="ann@example.org", panel_user_id=5)
            running.add_user(username="bob", email="bob@example.org")
            yield running

    def test_users_known_here(self, panel_sync: PanelSync, engine: Engine, site: MainSiteServer) -> None:
        add_user(engine, 5, main_site_user_id="1")
        given = {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "mapped"}
        out = panel_sync("doctor", **given).out
        assert line(out, "main site", "orders: answers").startswith("ok")
        assert line(out, "users", "1 of 2 users of the feed are known here (50 %)").startswith("warning")
        assert site.api_key not in out

    def test_users_that_were_not_imported_yet_say_so(self, panel_sync: PanelSync, site: MainSiteServer) -> None:
        given = {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "shared"}
        assert "not imported yet" in line(panel_sync("doctor", **given).out, "users", "0 of 2 users")
        said = panel_sync("users", "import", **given)
        assert (said.code, said.out) == (0, "2 seen, 2 added, 2 mapped, 0 conflicts\n")
        assert line(panel_sync("doctor", **given).out, "users", "2 of 2 users").startswith("ok")

    def test_what_runs_say_of_a_source(self, panel_sync: PanelSync, engine: Engine, site: MainSiteServer) -> None:
        given = {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "mapped"}
        with engine.begin() as connection:
            report_sources(connection, None, {"orders": Trouble(Cause.OLD, "what it shows is old")})
        assert line(panel_sync("doctor", **given).out, "sources", "what it shows is old").startswith("note")
        with engine.begin() as connection:
            connection.execute(text("UPDATE source_states SET unwell_since = unwell_since - interval '5 minutes'"))
        said = panel_sync("doctor", **given)
        assert said.code == 1
        assert line(said.out, "sources", "orders: for 5 min").startswith("problem")
        assert "replica" in line(said.out, "sources", "orders: for 5 min"), "the remedy"
        listed = panel_sync("sources", "--json", **given)
        (one,) = json.loads(listed.out)
        assert (one["source"], one["cause"], one["alarm"]) == ("orders", "old", True)
        assert "not believed for 5 min: what it shows is old" in panel_sync("sources", **given).out

    def test_panel_api_without_its_cluster(self, panel_sync: PanelSync, site: MainSiteServer) -> None:
        given = {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "mapped"}
        out = panel_sync("doctor", MAIN_SITE_FEED="panel-api", **given).out
        assert line(out, "main site", "PANEL_API_CLUSTER is not set").startswith("problem")
        out = panel_sync("doctor", MAIN_SITE_FEED="panel-api", PANEL_API_CLUSTER="main", **given).out
        assert "PANEL_API_CLUSTER" not in out

    def test_a_refused_key(self, panel_sync: PanelSync, site: MainSiteServer) -> None:
        given = {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": random_key(), "USER_ID_SPACE": "mapped"}
        out = panel_sync("doctor", **given).out
        assert line(out, "main site", "MAIN_SITE_API_KEY is refused").startswith("problem")

    def test_a_cluster(self, panel_sync: PanelSync) -> None:
        with ProxmoxServer(unauthorized_delay_s=0.01) as pve:
            well = panel_sync("doctor", PROXMOX_CLUSTERS=json.dumps([pve.settings()])).out
            wrong = json.dumps([pve.settings() | {"token_secret": "0" * 36}])
            refused = panel_sync("doctor", PROXMOX_CLUSTERS=wrong).out
        assert line(well, f"Proxmox {pve.name}", "Proxmox VE").startswith("ok")
        assert line(refused, f"Proxmox {pve.name}", "token is refused").startswith("problem")

    def test_the_right_to_power_actions_is_a_matter_of_the_setting(self, panel_sync: PanelSync) -> None:
        with ProxmoxServer(unauthorized_delay_s=0.01) as pve:
            clusters = json.dumps([pve.settings()])
            entitled = panel_sync("doctor", PROXMOX_CLUSTERS=clusters, POWER_ACTIONS="true").out
            pve.set_token_rights({"/": ["Sys.Audit"], "/vms": ["VM.Audit"]})
            off = panel_sync("doctor", PROXMOX_CLUSTERS=clusters).out
            on = panel_sync("doctor", PROXMOX_CLUSTERS=clusters, POWER_ACTIONS="true").out
        subject = f"Proxmox {pve.name}"
        assert line(off, subject, "VM.PowerMgmt").startswith("ok"), "it is not needed"
        assert line(on, subject, "the token lacks VM.PowerMgmt").startswith("problem")
        assert "the token lacks VM.PowerMgmt" not in entitled

    def test_a_cluster_by_plain_http(self, panel_sync: PanelSync) -> None:
        cluster = {"name": "main", "urls": ["http://192.0.2.1:8006"], "token_id": "a@pve!b", "token_secret": "x"}
        out = panel_sync("doctor", PROXMOX_CLUSTERS=json.dumps([cluster])).out
        assert line(out, "Proxmox main", "must be reached by https").startswith("problem")
