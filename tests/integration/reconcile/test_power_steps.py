"""Power actions step by step, on a real database: never a wrong machine, and the end is what the guest shows."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, text

from domain.power.actions import Action, Command
from domain.power.port import NotSent, Rejected, TaskEnded, TaskRuns
from domain.source_protocols import Unclear
from reconcile.power_actions import IDENTITY_S, READS_S, PowerWorker
from tests.support.fleets.power_panel import Panel
from tests.support.fleets.switchable import Place, make_switchable, spoil
from tests.support.stand_ins.power_cluster import RUNNING, STOPPED, upid


@pytest.fixture
def panel(engine: Engine, owner: Engine) -> Panel:
    make_switchable(engine)
    return Panel(engine, owner)


@pytest.fixture
def stopped(panel: Panel) -> Panel:
    panel.cluster.change(**STOPPED, pid=None, uptime_s=None)
    return panel


ENDS: list[tuple[Action, bool, Command]] = [
    (Action.STOP, False, Command.SHUTDOWN),
    (Action.STOP, True, Command.STOP),
    (Action.REBOOT, False, Command.REBOOT),
    (Action.RESTART, False, Command.RESET),
]


@pytest.mark.parametrize(("action", "force", "command"), ENDS, ids=[f"{a}{' by force' * f}" for a, f, _ in ENDS])
def test_a_running_machine(panel: Panel, action: Action, command: Command, *, force: bool) -> None:
    assert panel.plays(action, force=force) == ("done", "done")
    assert panel.cluster.sent == [("pve1", command)]


def test_a_stopped_machine_is_started_and_its_record_is_looked_at_soon(stopped: Panel) -> None:
    action_id = stopped.asks(Action.START)
    assert stopped.row(action_id).state == "queued"
    assert stopped.goes_on(action_id) == ("done", "done")
    row = stopped.row(action_id)
    assert (row.command, row.node, row.upid, row.request_id) == ("start", "pve1", upid(1, "qmstart"), "r-1")
    assert row.before == {"status": "stopped", "uptime_s": None, "pid": None, "tasks": []}
    with stopped.engine.connect() as connection:
        assert connection.execute(text("SELECT task, subject FROM task_requests")).all() == [
            ("reconcile.fast", "power")
        ]


def test_a_container_is_restarted_by_a_stop_and_a_start(engine: Engine, owner: Engine) -> None:
    place = make_switchable(engine, Place(guest_type="lxc", fingerprint="mac:bc:24:11:00:00:01"))
    panel = Panel(engine, owner)
    panel.cluster.change(fingerprint=place.fingerprint)
    assert panel.plays(Action.RESTART, place=place) == ("done", "done")
    assert panel.cluster.sent == [("pve1", Command.STOP), ("pve1", Command.START)]


def test_a_container_that_was_stopped_for_a_restart_is_started_late_rather_than_never(
    engine: Engine, owner: Engine
) -> None:
    place = make_switchable(engine, Place(guest_type="lxc", fingerprint="mac:bc:24:11:00:00:01"))
    panel = Panel(engine, owner)
    panel.cluster.change(fingerprint=place.fingerprint)
    action_id = panel.asks(Action.RESTART, place=place)
    panel.comes_to_its_second_command(action_id)
    panel.ages(500)
    assert panel.goes_on(action_id) == ("done", "done")


def test_a_restart_that_is_suspended_between_its_two_commands_says_that_it_is_stopped(
    engine: Engine, owner: Engine
) -> None:
    place = make_switchable(engine, Place(guest_type="lxc", fingerprint="mac:bc:24:11:00:00:01"))
    panel = Panel(engine, owner)
    panel.cluster.change(fingerprint=place.fingerprint)
    action_id = panel.asks(Action.RESTART, place=place)
    panel.comes_to_its_second_command(action_id)
    spoil(engine, "UPDATE vps SET order_state = 'suspended'")
    assert panel.goes_on(action_id) == ("failed", "vps_suspended")
    assert "was stopped" in panel.row(action_id).reason
    assert panel.cluster.sent == [("pve1", Command.STOP)]


# --- another machine, or another owner


def test_a_machine_that_was_replaced_before_the_worker_looks_gets_nothing(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP, force=True)
    panel.cluster.change(fingerprint="smbios:the-next-customer")
    assert panel.goes_on(action_id) == ("refused", "another_machine")
    assert panel.cluster.sent == []


def test_a_machine_that_is_replaced_between_the_two_reads_gets_nothing(panel: Panel) -> None:
    cluster = panel.cluster
    cluster.before_note = lambda: cluster.change(fingerprint="smbios:the-next-customer")
    assert panel.plays(Action.STOP, force=True) == ("refused", "another_machine")
    assert cluster.sent == []


def test_a_machine_whose_identity_cannot_be_read_gets_nothing(panel: Panel) -> None:
    cluster = panel.cluster
    cluster.change(fingerprint=None)
    assert panel.plays(Action.STOP, force=True) == ("refused", "another_machine")
    assert cluster.sent == []


def test_a_container_of_another_name_gets_nothing(engine: Engine, owner: Engine) -> None:
    """Some hosters give a MAC out again together with its address, so the next customer's container has it, too."""
    place = make_switchable(engine, Place(guest_type="lxc", fingerprint="mac:bc:24:11:00:00:01"))
    panel = Panel(engine, owner)
    panel.cluster.change(fingerprint=place.fingerprint, name="the-next-customer")
    assert panel.plays(Action.STOP, force=True, place=place) == ("refused", "identity_in_doubt")
    assert panel.cluster.sent == []
    panel.cluster.change(name="web")
    panel.cluster.before_note = lambda: panel.cluster.change(name="the-next-customer")
    assert panel.plays(Action.STOP, force=True, place=place) == ("refused", "another_machine")
    panel.cluster.change(name="web")
    panel.cluster.before_note = lambda: None
    assert panel.plays(Action.STOP, force=True, place=place) == ("done", "done")


CHANGES = [
    ("suspended", "UPDATE vps SET order_state = 'suspended'", "vps_suspended"),
    ("sold to somebody else", "INSERT INTO users (id, username) VALUES (6, 'u6'); UPDATE vps SET user_id = 6",
     "vps_unknown"),
    ("deleted", "UPDATE vps SET deleted_at = clock_timestamp(), deleted_reason = 'sync'", "vps_unknown"),
    ("another machine by a run", "UPDATE vps SET fingerprint = 'smbios:b'; UPDATE guests SET fingerprint = 'smbios:b'",
     "another_machine"),
    ("paused", "INSERT INTO pauses VALUES ('all', 'r', 'ann', clock_timestamp(), clock_timestamp() + interval '1 h')",
     "vps_paused"),
]  # fmt: skip


@pytest.mark.parametrize(("_name", "change", "code"), CHANGES, ids=[case[0] for case in CHANGES])
@pytest.mark.parametrize("late", [False, True], ids=["before it is taken", "while it is looked at"])
def test_what_changes_after_it_was_asked_for_stops_it(
    panel: Panel, _name: str, change: str, code: str, *, late: bool
) -> None:
    action_id = panel.asks(Action.STOP, force=True)

    def changed() -> None:
        for statement in change.split("; "):
            spoil(panel.engine, statement)

    if late:
        panel.cluster.before_note = changed
    else:
        changed()
    assert panel.goes_on(action_id) == ("refused", code)
    assert panel.cluster.sent == []


def test_what_passes_is_waited_for(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP)
    spoil(panel.engine, "UPDATE guests SET fingerprint_state = 'stale'")
    panel.step(action_id)
    waiting = panel.row(action_id)
    assert (waiting.state, waiting.sending_at) == ("queued", None)
    assert "same machine" in waiting.reason
    spoil(panel.engine, "UPDATE guests SET fingerprint_state = 'read'")
    assert panel.goes_on(action_id) == ("done", "done")


def test_nothing_is_begun_late(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP)
    panel.ages(121)
    assert panel.goes_on(action_id) == ("failed", "expired")
    assert panel.cluster.sent == []


def test_a_cluster_that_does_not_answer_gets_nothing(panel: Panel) -> None:
    panel.cluster.guest = None
    action_id = panel.asks(Action.STOP)
    panel.step(action_id)
    assert panel.row(action_id).state == "queued"
    assert panel.due_in_s(action_id) > 15, "it keeps no process from other machines' actions"
    panel.ages(121)
    assert panel.goes_on(action_id) == ("failed", "expired")
    assert "looked at" in panel.row(action_id).reason
    assert panel.cluster.sent == []


@pytest.mark.parametrize("slow_s", [IDENTITY_S + 1, READS_S + 1])
def test_what_was_read_too_long_ago_is_not_acted_on(panel: Panel, slow_s: float) -> None:
    """A worker that was stopped in mid step, or a database that took its time."""
    action_id = panel.asks(Action.STOP)

    def slowly() -> None:
        panel.clock.now += slow_s
        panel.cluster.before_note = lambda: None

    panel.cluster.before_note = slowly
    panel.step(action_id)
    assert panel.cluster.sent == []
    assert panel.row(action_id).state in {"queued", "failed"}


def test_the_time_of_a_suspended_host_counts(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.__getitem__)
    assert PowerWorker(panel.engine, lambda _: None, None).clock() == 7.0


def test_a_cluster_that_falls_silent_after_the_request_is_not_asked_all_the_time(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP)
    panel.step(action_id)
    guest, panel.cluster.guest = panel.cluster.guest, None
    panel.step(action_id)
    assert (panel.row(action_id).state, panel.due_in_s(action_id) > 15) == ("sent", True)
    panel.cluster.guest = guest
    assert panel.goes_on(action_id) == ("done", "done")


def test_switched_off_means_off(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP)
    panel.rules = None
    assert panel.goes_on(action_id) == ("refused", "power_actions_off")
    assert panel.cluster.sent == []


def test_a_guest_that_moved_is_found(panel: Panel) -> None:
    panel.cluster.change(node="pve2")
    assert panel.plays(Action.STOP) == ("done", "done")
    assert panel.cluster.sent == [("pve2", Command.SHUTDOWN)]


# --- quirks of Proxmox


def test_a_locked_guest_is_told_plainly_and_nothing_is_sent(panel: Panel) -> None:
    panel.cluster.change(lock="backup")
    action_id = panel.asks(Action.STOP)
    assert panel.goes_on(action_id) == ("refused", "guest_locked")
    assert "a backup of it is running" in panel.row(action_id).reason
    assert panel.cluster.sent == []


def test_a_lock_that_comes_between_is_told_plainly_too(panel: Panel) -> None:
    panel.cluster.takes_effect = False
    panel.cluster.state = TaskEnded(ok=False, said="VM is locked (backup)")
    panel.cluster.before_note = lambda: panel.cluster.change(lock="backup")
    assert panel.plays(Action.STOP) == ("failed", "guest_locked")


def test_a_success_of_ha_is_only_a_request(stopped: Panel) -> None:
    cluster = stopped.cluster
    cluster.change(ha=True)
    cluster.kind, cluster.takes_effect = "hastart", False
    action_id = stopped.asks(Action.START)
    for _ in range(4):
        stopped.step(action_id)
    assert stopped.row(action_id).state == "sent"
    cluster.change(**RUNNING, node="pve3")
    assert stopped.goes_on(action_id) == ("done", "done")
    assert len(cluster.sent) == 1


def test_a_task_that_fails_after_it_was_accepted(panel: Panel) -> None:
    panel.cluster.takes_effect = False
    panel.cluster.state = TaskEnded(ok=False, said="VM quit/powerdown failed - got timeout")
    action_id = panel.asks(Action.STOP)
    assert panel.goes_on(action_id) == ("failed", "guest_did_not_stop")
    assert panel.row(action_id).evidence["said"] == "VM quit/powerdown failed - got timeout"


def test_an_immediate_error_is_told_apart_by_the_state_not_by_its_text(stopped: Panel) -> None:
    """A container that somebody else started a moment ago: Proxmox answers 500, and it runs."""
    cluster = stopped.cluster
    cluster.begins, cluster.reply = False, Rejected("CT 100 already running", final=False)
    cluster.before_note = lambda: cluster.change(**RUNNING)
    assert stopped.plays(Action.START) == ("done", "done")
    assert len(cluster.sent) == 1


def test_an_immediate_error_that_means_it(stopped: Panel) -> None:
    cluster = stopped.cluster
    cluster.begins, cluster.reply = False, Rejected("no space left", final=False)
    action_id = stopped.asks(Action.START)
    stopped.step(action_id)
    stopped.ages(10)
    assert stopped.goes_on(action_id) == ("failed", "proxmox_refused")
    assert len(cluster.sent) == 1


def test_a_missing_right_ends_it_at_once(panel: Panel) -> None:
    panel.cluster.begins, panel.cluster.reply = False, Rejected("the token lacks VM.PowerMgmt", final=True)
    assert panel.plays(Action.STOP) == ("failed", "not_entitled")


def test_without_a_connection_nothing_was_sent(panel: Panel) -> None:
    panel.cluster.begins, panel.cluster.reply = False, NotSent("no connection could be made")
    assert panel.plays(Action.STOP) == ("failed", "cluster_away")


def test_a_task_that_never_ends_ends_as_unknown(panel: Panel) -> None:
    panel.cluster.takes_effect, panel.cluster.state = False, TaskRuns()
    action_id = panel.asks(Action.STOP)
    for _ in range(3):
        panel.step(action_id)
    assert panel.row(action_id).state == "sent"
    panel.ages(600)
    assert panel.goes_on(action_id) == ("unknown", "not_confirmed")


def test_a_task_that_nobody_knows_any_more_is_judged_by_the_guest(stopped: Panel) -> None:
    """Its node was restarted, and the guest runs."""
    stopped.cluster.state = Unclear("no such task")
    assert stopped.plays(Action.START) == ("done", "done")
