"""Commands that look at the database or change a little of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jwt
import psycopg
import pytest
from sqlalchemy import Engine, insert, text

from cli.operating import reconcile
from domain.changes import SetStatus
from domain.failures import Failure, Stage
from panel.journal.accept import Acceptor
from panel.journal.repairs import write_repair
from panel.journal.writer import apply_operation
from panel.migrate import head_revision
from panel.operators.quarantine import note_failures
from panel.runs.lease import hold_turn
from panel.schema import tables
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.cli.conftest import PanelSync
from tests.integration.panel.conftest import accepted, begin_run
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import PATIENT, Database
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.unit.reconcile.worlds import record

INSTALL = Path(__file__).parents[3] / "docs" / "install.md"


@pytest.fixture
async def story(engine: Engine, database: Database) -> Engine:
    """VPS 1: created, set running, repaired to stopped. VPS 2: its create waits."""
    add_user(engine, 5)
    pool = database.api_engine("panel-sync test")
    acceptor = Acceptor(pool, deadlines=PATIENT)
    await acceptor.start()
    created = await accepted(acceptor, create_call(name="[bold]shop"))
    running = await accepted(acceptor, update_call(created.vps_id, "running"))
    await accepted(acceptor, create_call(name="waiting"))
    await acceptor.stop()
    await pool.dispose()
    apply_operation(engine, running.operation_id)
    stopped = SetStatus(
        source="proxmox",
        reason="the guest is stopped in two observations",
        record=record(id=created.vps_id, version=2),
        values={"power_state": "stopped", "power_source": "proxmox"},
    )
    write_repair(engine, begin_run(engine), 1, stopped, {"snapshots": [7, 8], "guest": "main/100"})
    with engine.begin() as connection:
        connection.execute(
            insert(tables.runs).values(
                kind="full",
                trigger="beat",
                epoch=2,
                state="done",
                counts={"repaired": {"update": 1, "create": 0}, "held": 0, "found": 3},
                problems=["proxmox:main: no quorum"],
                finished_at=text("clock_timestamp()"),
            )
        )
    return engine


def test_history_tells_why_in_order(panel_sync: PanelSync, story: Engine) -> None:
    said = panel_sync("vps", "history", "1")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines() if line.strip()]
    assert lines[0] == "VPS 1 of user 5: stopped"
    assert lines.count("request test, with the key current") == 2, "each call says its request and the key it came with"
    told = [line for line in lines if line.startswith(("applied", "because", "evidence", "power_state"))]
    assert told == [
        "applied: created creating",
        "applied: creating -> running",
        "power_state: unknown -> running",
        "applied: running -> stopped",
        "because the guest is stopped in two observations",
        "evidence: guest=main/100, snapshots=[7, 8]",
        "power_state: running -> stopped",
    ]


@pytest.fixture
async def ended(story: Engine, database: Database) -> Engine:
    """VPS 1 is deleted by a call that came with the old key."""
    pool = database.api_engine("panel-sync test")
    acceptor = Acceptor(pool, deadlines=PATIENT)
    await acceptor.start()
    call = replace(delete_call(1), request_id="0123-of-the-delete", api_key_label="previous")
    deleted = await accepted(acceptor, call)
    await acceptor.stop()
    await pool.dispose()
    apply_operation(story, deleted.operation_id)
    return story


def test_history_tells_which_request_deleted_a_vps_and_with_which_key(panel_sync: PanelSync, ended: Engine) -> None:
    said = panel_sync("vps", "history", "1")
    assert said.code == 0
    assert re.match(r"VPS 1 of user 5: .*, deleted [0-9-]+ [0-9:]+\n", said.out)
    last = [line.strip() for line in said.out.split("\n\n")[-1].splitlines()]
    assert "delete by sync" in last[0]
    assert "request 0123-of-the-delete, with the key previous" in last


POWER = """
INSERT INTO power_actions (vps_id, user_id, action, force, cluster, vmid, guest_type, fingerprint, state, valid_until,
  code, reason, asked_at, ended_at)
SELECT 1, 5, 'stop', false, 'main', 100, 'qemu', 'smbios:a', 'failed', t, 'guest_locked', 'The machine is locked',
  t, t + interval '6 seconds' FROM (SELECT accepted_at FROM operations WHERE vps_id = 1 AND kind = 'repair') o (t)
"""


def test_history_tells_what_the_customer_switched_in_the_same_order(
    panel_sync: PanelSync, story: Engine, owner: Engine
) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE users SET username = 'anna' WHERE id = 5"))
        connection.execute(text(POWER))
    said = panel_sync("vps", "history", "1").out
    order = [said.index(part) for part in ("update by sync", "customer 5 (anna) asked: shut down", "update by proxmox")]
    assert order == sorted(order)
    assert re.search(
        r"shut down; failed [0-9-]+ [0-9:]+  \(power action 1\)\n  guest_locked: The machine is locked", said
    )
    entries = json.loads(panel_sync("vps", "history", "1", "--json").out)
    assert [entry["kind"] for entry in entries] == ["sync", "sync", "power", "repair"]


GUEST = """
INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, signature, fingerprint,
  fingerprint_state, fingerprint_read_at, doubt, doubted_at, first_seen_at, changed_at, read_at)
SELECT 'main', 100, 'qemu', 'pve1', 'running', 'running', t, false, 'x', :fingerprint, :state,
  CASE WHEN :state <> 'unread' THEN t - interval '5 minutes' END, :doubt,
  CASE WHEN CAST(:doubt AS text) IS NOT NULL THEN t END, t, t, t FROM clock_timestamp() t
"""
LINK = """
UPDATE vps SET cluster = 'main', node = 'pve1', vmid = 100, guest_type = 'qemu', fingerprint = 'smbios:a',
  link_state = 'verified' WHERE id = 1
"""
CONFLICT = "UPDATE vps SET link_state = 'conflict', claimed_cluster = 'main', claimed_vmid = 100 WHERE id = 1"
IDENTITIES = {
    "guest main/100 is smbios:a, read {moment} UTC (5 min ago)": ("smbios:a", "read", None),
    "the identity of guest main/100 has been in doubt since {moment} UTC: a call named its address for another record; "
    "nothing is taken from it until its configuration is read again (last read {moment} UTC, 5 min ago)": (
        "smbios:a", "stale", "call",
    ),
    "the configuration of guest main/100 was never read, so nothing is taken from this guest": (None, "unread", None),
    "the identity of guest main/100 could not be read (HTTP 403; last asked {moment} UTC, 5 min ago): give the token "
    "VM.Audit on it": ("smbios:a", "forbidden", None),
    "guest main/100 is smbios:b, read {moment} UTC (5 min ago): not this VPS's machine, which is smbios:a": (
        "smbios:b", "read", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", IDENTITIES)
def test_history_tells_when_the_machine_was_identified_and_what_puts_it_in_doubt(
    panel_sync: PanelSync, story: Engine, told: str
) -> None:
    fingerprint, state, doubt = IDENTITIES[told]
    with story.begin() as connection:
        connection.execute(text(LINK))
        connection.execute(text(GUEST), {"fingerprint": fingerprint, "state": state, "doubt": doubt})
    line = " ".join(" ".join(panel_sync("vps", "history", "1").out.split("\n\n")[0].splitlines()[1:]).split())
    assert re.fullmatch(re.escape(told).replace(r"\{moment\}", r"[0-9-]+ [0-9:]+"), line), line


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (LINK, "guest main/100 was never listed"),
        (
            CONFLICT,
            "a call named guest main/100, which another record had, so this VPS has no guest "
            "(`panel-sync findings --class link-conflict`)",
        ),
    ],
)
def test_history_tells_of_a_vps_that_has_no_guest_that_is_known(
    panel_sync: PanelSync, story: Engine, statement: str, told: str
) -> None:
    with story.begin() as connection:
        connection.execute(text(statement))
    assert panel_sync("vps", "history", "1").out.splitlines()[1] == told


def test_history_tells_of_a_guest_that_is_not_listed_any_more(panel_sync: PanelSync, story: Engine) -> None:
    with story.begin() as connection:
        connection.execute(text(LINK))
        connection.execute(text(GUEST), {"fingerprint": "smbios:a", "state": "stale", "doubt": "order"})
        connection.execute(text("UPDATE guests SET unlisted_since = read_at"))
    line = " ".join(" ".join(panel_sync("vps", "history", "1").out.split("\n\n")[0].splitlines()[1:]).split())
    assert re.fullmatch(r"guest main/100 has not been listed since .* UTC; it was smbios:a, read .* UTC", line), line


def test_history_of_a_vps_on_its_way(panel_sync: PanelSync, story: Engine) -> None:
    said = panel_sync("vps", "history", "2")
    assert (said.code, said.out.splitlines()[0]) == (0, "VPS 2: accepted, not applied yet")


def test_history_of_nothing(panel_sync: PanelSync, story: Engine) -> None:
    said = panel_sync("vps", "history", "99")
    assert (said.code, said.err) == (2, "panel-sync: VPS 99 does not exist in the panel\n")


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        pytest.param([], ["4", "3", "2", "1"], id="all, newest first"),
        pytest.param(["--state", "queued"], ["3"], id="by state"),
        pytest.param(["--vps", "1"], ["4", "2", "1"], id="by VPS"),
        pytest.param(["--limit", "1"], ["4"], id="limited"),
    ],
)
def test_operations(panel_sync: PanelSync, story: Engine, arguments: list[str], ids: list[str]) -> None:
    said = panel_sync("operations", *arguments)
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ids


def test_runs(panel_sync: PanelSync, story: Engine) -> None:
    said = panel_sync("runs", "--limit", "1")
    assert said.code == 0
    assert "found=3 repaired.update=1" in said.out
    assert "proxmox:main: no quorum" in said.out


def test_migrate_makes_tables_and_the_application_s_login(bare: PanelSync, empty_database: Database) -> None:
    urls = {"DATABASE_URL": empty_database.app_url, "DATABASE_OWNER_URL": empty_database.owner_url}
    for _ in range(2):
        said = bare("migrate", **urls)
        assert (said.code, said.err.strip()) == (0, f"The database is at revision {head_revision()}.")
    assert bare("operations", **urls).code == 0


def test_the_owner_that_the_install_page_makes_can_migrate(bare: PanelSync, tmp_path: Path) -> None:
    (made,) = re.findall(r"```sql\n(.*?)```", INSTALL.read_text(encoding="utf-8"), re.DOTALL)
    password, login = random_key(), random_key()
    server = EmbeddedPostgres(tmp_path / "own", durable=False)
    try:
        server.start()
        with psycopg.connect(server.admin_url(), autocommit=True) as superuser:
            for statement in made.replace("one of your own", password).strip().split("\n"):
                superuser.execute(statement.encode())
        at = f"127.0.0.1:{server.port}/panel"
        urls = {
            "DATABASE_URL": f"postgresql://panel:{login}@{at}",
            "DATABASE_OWNER_URL": f"postgresql://panel_owner:{password}@{at}",
        }
        assert bare("migrate", **urls).code == 0
        assert bare("operations", **urls).code == 0
    finally:
        server.destroy()


class TestToken:
    """What clients' tokens say."""

    def test_says_who_and_until_when(self, bare: PanelSync) -> None:
        secret = "s" * 40
        said = bare(
            "token", "--user", "5", "--ttl", "15m", JWT_SECRET=secret, JWT_ISSUER="main-site", JWT_AUDIENCE="panel"
        )
        claims = jwt.decode(said.out.strip(), secret, ["HS256"], issuer="main-site", audience="panel")
        assert (claims["user_id"], claims["sub"], claims["exp"] - claims["iat"]) == (5, "5", 900)

    @pytest.mark.parametrize("ttl", ["0", "-1", "1y", "soon", ""])
    def test_a_wrong_duration(self, bare: PanelSync, ttl: str) -> None:
        said = bare("token", "--user", "5", f"--ttl={ttl}", JWT_SECRET="s" * 40)
        assert said.code == 2
        assert "15m" in said.err


class TestUsers:
    """Adding and mapping; a map is never replaced by accident."""

    def test_add_then_list(self, panel_sync: PanelSync) -> None:
        assert panel_sync("users", "add", "5", "--username", "ann", "--main-site-id", "1").code == 0
        assert panel_sync("users", "add", "6", "--username", "bob").code == 0
        assert [line.split()[:3] for line in panel_sync("users", "list").out.splitlines()[1:]] == [
            ["6", "bob", "-"],
            ["5", "ann", "1"],
        ]
        assert "ann" not in panel_sync("users", "list", "--unmapped").out

    def test_map_and_replace(self, panel_sync: PanelSync, engine: Engine) -> None:
        add_user(engine, 5)
        assert panel_sync("users", "map", "5", "77").code == 0
        assert panel_sync("users", "map", "5", "77").code == 0
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET mapped_at = mapped_at - interval '1 day'"))
        refused = panel_sync("users", "map", "5", "78")
        assert (refused.code, "say --replace" in refused.err) == (2, True)
        assert panel_sync("users", "map", "5", "78", "--replace").code == 0
        with engine.connect() as connection:
            row = connection.execute(
                text("SELECT main_site_user_id, map_source, mapped_at, updated_at FROM users")
            ).one()
        assert tuple(row[:2]) == ("78", "operator")
        assert row.updated_at - row.mapped_at < timedelta(seconds=1), "whose orders are whose is news"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["add", "5", "--username", "x"], "User 5 exists already"),
            (["add", "7", "--username", "x", "--main-site-id", "1"], "is mapped to another panel user already"),
            (["map", "6", "1"], "is mapped to another panel user already"),
            (["map", "9", "1"], "User 9 does not exist"),
        ],
    )
    def test_refusals(self, panel_sync: PanelSync, engine: Engine, arguments: list[str], says: str) -> None:
        add_user(engine, 5, main_site_user_id="1")
        add_user(engine, 6)
        said = panel_sync("users", *arguments)
        assert (said.code, says in said.err) == (2, True)


def test_a_run_is_told_whose_run_it_waits_for(
    panel_sync: PanelSync, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "BUSY_S", 0.0)
    with hold_turn(engine, "full", "worker-1:4711") as mine:
        assert mine is not None
        said = panel_sync("plan")
    assert said.code == 2
    assert re.search(
        r"another run is under way: worker-1:4711, since 2\d{3}-\d\d-\d\d [0-9:]{8} UTC; gave up", said.err
    )
    assert panel_sync("plan").code == 0, "free as soon as it ends"


class TestQuarantine:
    """What keeps failing, and its release."""

    @pytest.fixture
    def failing(self, engine: Engine) -> Engine:
        run_id = begin_run(engine)
        with engine.begin() as connection:
            failures = [Failure(s, Stage.DECIDE, "KeyError in match.py:1") for s in ("vps:1", "order:[b]7")]
            note_failures(connection, run_id, failures)
        return engine

    @pytest.mark.usefixtures("failing")
    def test_it_is_listed_with_its_cause(self, panel_sync: PanelSync, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()  # what the preparation logged
        out = panel_sync("quarantined").out
        shown = [line.split()[:3] for line in out.splitlines()[1:]]
        assert shown == [["vps:1", "1", "times"], ["order:[b]7", "1", "times"]]
        assert "KeyError in match.py:1" in out

    @pytest.mark.parametrize(
        ("subject", "left", "asked"),
        [
            ("vps:1", {"order:[b]7"}, "operator vps:1"),
            ("order:[b]7", {"vps:1"}, "operator"),
            ("all", set(), "operator"),
        ],
    )
    def test_release(self, panel_sync: PanelSync, failing: Engine, subject: str, left: set[str], asked: str) -> None:
        assert panel_sync("release", subject).code == 0
        with failing.connect() as connection:
            assert set(connection.scalars(text("SELECT subject FROM quarantine"))) == left
            open_ = text("SELECT subject FROM findings WHERE class = 'quarantined' AND resolved_at IS NULL")
            assert set(connection.scalars(open_)) == left
            assert connection.scalar(text("SELECT subject FROM task_requests WHERE task = 'reconcile.run'")) == asked

    @pytest.mark.usefixtures("failing")
    def test_what_is_not_quarantined(self, panel_sync: PanelSync) -> None:
        said = panel_sync("release", "vps:9")
        assert (said.code, "vps:9 is not quarantined" in said.err) == (2, True)


def test_a_command_finds_the_run_under_way(bare: PanelSync, database: Database, tmp_path: Path) -> None:
    """Without any setting, in a second terminal beside ``panel-sync run``."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "running.json").write_text(json.dumps({"DATABASE_URL": database.app_url, "PROXMOX_CLUSTERS": "[]"}))
    assert bare("operations").code == 0
