"""``panel-sync reconcile --apply`` as a real process, killed or stopped at chosen instants: all is healed, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.simulators.main_site.feeds import Feeds
from panel.runs.lease import LOCK_KEY
from tests.integration.cli.test_operations_document import environment
from tests.stories.steps import Sold, converge, execute, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.waiting import wait_until

GATE = 4711
"""An advisory lock: whoever comes to a stop waits for it, in the middle of its transaction."""

STOP_HERE = f"""
CREATE SEQUENCE stops;
CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = 0 AS $$ BEGIN
  IF (SELECT kind FROM runs ORDER BY id DESC LIMIT 1) = 'full' AND nextval('stops') = TG_ARGV[0]::int THEN
    PERFORM pg_advisory_xact_lock_shared({GATE});
  END IF;
  RETURN NEW;
END $$
"""

INSTANTS = [
    pytest.param("BEFORE INSERT ON snapshots", "", 1, 0, id="before any evidence"),
    pytest.param("AFTER INSERT ON operations", "WHEN (NEW.kind = 'repair')", 1, 0, id="in the first write"),
    pytest.param("AFTER INSERT ON operations", "WHEN (NEW.kind = 'repair')", 3, 0, id="in the last fact of that write"),
    pytest.param("AFTER INSERT ON operations", "WHEN (NEW.kind = 'repair')", 4, 3, id="after all facts"),
    pytest.param("BEFORE UPDATE ON runs", "WHEN (NEW.state = 'done')", 1, 4, id="all written, nothing said"),
]
"""Where the run is stopped, at which such row, and how many of its four repairs are written by then. The three facts
share a transaction."""


@pytest.fixture
def world(database: Database, engine: Any) -> Iterator[Bench]:
    with bench(database, engine) as made:
        yield made


@contextmanager
def reconciling(world: Bench, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """The command under way."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli.main", "reconcile", "--apply", "--yes"],
        env={**os.environ, **environment(world.settings), "PANEL_DATA_DIR": str(directory)},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def drift(world: Bench) -> tuple[Sold, Sold, Sold]:
    """Four differences: two suspensions, a greater plan and an order without a record."""
    sold = sell(world, "one"), sell(world, "two"), sell(world, "three")
    converge(world, *sold)
    # Another process allows for a second more of the main site's clock: what is known is older than that.
    execute(
        world,
        "UPDATE vps SET order_changed_at = order_changed_at - interval '1 minute',"
        " plan_changed_at = plan_changed_at - interval '1 minute'",
    )
    for one in sold[:2]:
        world.site.set_status(one.order_id, "suspended", notify=False)
        world.pve.set_status(one.vmid, "running")
    world.site.change_order(sold[2].order_id, cpu=8)
    lost = world.site.place_order(user_id=2, name="lost", notify=False)
    world.site.set_status(lost.id, "running", notify=False)
    world.clock.tick()
    return sold


def healed(world: Bench) -> bool:
    found = {row["name"]: (row["order_state"], row["cpu"]) for row in world.vps()}
    return found == {"one": ("suspended", 2), "two": ("suspended", 2), "three": ("active", 8), "lost": ("active", 2)}


def half_done(world: Bench) -> list[dict[str, Any]]:
    """Records, lanes and the journal that do not tell the same."""
    return world._rows(
        "SELECT v.id FROM vps v JOIN vps_queues l ON l.vps_id = v.id WHERE l.applied_seq <> l.last_seq"
        " OR v.applied_seq <> l.applied_seq OR l.last_seq <> (SELECT max(seq) FROM operations o WHERE o.vps_id = v.id)"
        " OR v.order_state <> (SELECT o.after ->> 'order_state' FROM operations o WHERE o.vps_id = v.id"
        "   AND o.after ? 'order_state' ORDER BY o.seq DESC LIMIT 1)"
    )


def lease_is_taken(world: Bench) -> bool:
    key = {"high": LOCK_KEY >> 32, "low": LOCK_KEY & 0xFFFFFFFF}
    return bool(
        world._rows(
            f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {key['high']}"
            f" AND objid = {key['low']}"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


@pytest.mark.parametrize(("event", "when", "nth", "written"), INSTANTS)
def test_killed_at_an_instant_a_run_loses_nothing(
    world: Bench, database: Database, tmp_path: Path, event: str, when: str, nth: int, written: int
) -> None:
    drift(world)
    table = event.rsplit(maxsplit=1)[-1]
    committed = len(world.repairs())
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(STOP_HERE)
        owner.execute(f"CREATE TRIGGER stop {event} FOR EACH ROW {when} EXECUTE FUNCTION stop_here({nth})")
        owner.execute("SELECT pg_advisory_lock(%s)", (GATE,))
        waiting = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {GATE}"
        with reconciling(world, tmp_path) as process:
            wait_until(lambda: world._rows(waiting), f"the run to come to: {event}")
            assert lease_is_taken(world)
            process.kill()
            process.wait()
            wait_until(lambda: not lease_is_taken(world), "the lease to be free")
        owner.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
        wait_until(lambda: not world._rows(waiting), "the killed run's transaction to end")
        owner.execute("SET lock_timeout = '5s'")
        owner.execute(f"DROP TRIGGER stop ON {table}")

    assert len(world.repairs()) - committed == written
    assert half_done(world) == []
    assert healed(world) == (written == 4)
    (killed,) = world._rows("SELECT id, epoch, state, finished_at FROM runs ORDER BY id DESC LIMIT 1")
    assert (killed["state"], killed["finished_at"]) == ("running", None)

    world.run()
    assert healed(world)
    assert half_done(world) == []
    assert len(world.repairs()) - committed == 4, "nothing twice"
    states = {row["id"]: (row["state"], row["epoch"]) for row in world._rows("SELECT * FROM runs")}
    assert states[killed["id"]] == ("abandoned", killed["epoch"])
    assert states[max(states)] == ("done", killed["epoch"] + 1)
    epochs = [row["epoch"] for row in world.repairs()]
    assert epochs == sorted(epochs)


def test_a_stopped_run_whose_lease_went_to_another_writes_nothing_when_it_wakes(
    world: Bench, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP while it confirms an order; its connections are cut, another run heals; then it goes on."""
    *_, third = drift(world)
    before = len(world.repairs())
    real, stopped = Feeds.single_order, list[int]()

    def single_order(self: Feeds, order_id: int) -> Any:
        if not stopped:
            stopped.append(process.pid)
            os.kill(process.pid, signal.SIGSTOP)
        return real(self, order_id)

    monkeypatch.setattr(Feeds, "single_order", single_order)
    with reconciling(world, tmp_path) as process:
        wait_until(lambda: stopped, "the run to ask for the order")
        (first,) = world._rows("SELECT id, epoch FROM runs WHERE state = 'running'")
        assert len(world.repairs()) - before == 3, "stopped before the last write"
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            cut = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'panel-sync command'"
            ).fetchall()
        assert cut
        wait_until(lambda: not lease_is_taken(world), "the lease to be free")
        world.site.change_order(third.order_id, cpu=16)
        world.run()
        assert {row["cpu"] for row in world.vps()} == {2, 16}
        tables = ("vps", "operations", "findings", "holds", "quarantine", "runs", "snapshots", "leases")
        as_left = {table: world._rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables}

        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert "another run took over" in err
    assert {table: world._rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables} == as_left
    assert world._rows(f"SELECT state FROM runs WHERE id = {first['id']}") == [{"state": "abandoned"}]
