"""Power commands whose answer was lost, and workers that die or hang: nothing is ever sent a second time."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from domain.power.actions import Action, Command
from domain.power.port import OwnTask, TaskEnded, TaskRuns
from reconcile.power_actions import OVER
from tests.support.fleets.power_panel import Panel
from tests.support.fleets.switchable import Place, make_switchable
from tests.support.stand_ins.power_cluster import LOST, STOPPED, PowerCluster, upid


@pytest.fixture
def panel(engine: Engine, owner: Engine) -> Panel:
    make_switchable(engine)
    return Panel(engine, owner)


@pytest.fixture
def stopped(panel: Panel) -> Panel:
    panel.cluster.change(**STOPPED, pid=None, uptime_s=None)
    return panel


def test_a_lost_answer_is_looked_for_and_never_sent_again(stopped: Panel) -> None:
    cluster = stopped.cluster
    cluster.tasks = [OwnTask(upid(99, "qmstart"), "qmstart")]
    cluster.reply, cluster.takes_effect, cluster.state = LOST, False, TaskRuns()
    action_id = stopped.asks(Action.START)
    stopped.step(action_id)
    assert (stopped.row(action_id).state, stopped.row(action_id).upid) == ("sending", None)
    stopped.step(action_id)
    assert (stopped.row(action_id).state, stopped.row(action_id).upid) == ("sent", upid(1, "qmstart"))
    cluster.effect(Command.START)
    cluster.states[upid(1, "qmstart")] = TaskEnded(ok=True, said="OK")
    assert stopped.goes_on(action_id) == ("done", "done")
    assert len(cluster.sent) == 1


@pytest.mark.parametrize("lists_tasks", [True, False])
def test_a_lost_answer_that_nobody_can_find_ends_as_unknown(stopped: Panel, *, lists_tasks: bool) -> None:
    """Without Sys.Audit a token does not see its own tasks."""
    cluster = stopped.cluster
    cluster.begins, cluster.reply, cluster.lists_tasks = False, LOST, lists_tasks
    action_id = stopped.asks(Action.START)
    for _ in range(4):
        stopped.step(action_id)
    assert stopped.row(action_id).state == "sending"
    stopped.ages(60)
    assert stopped.goes_on(action_id) == ("unknown", "answer_lost")
    assert len(cluster.sent) == 1


class KilledError(BaseException):
    """The worker's process is killed here."""


@pytest.mark.parametrize("arrived", [True, False], ids=["after the request", "before the request"])
def test_a_worker_that_dies_after_its_note_sends_nothing_again(
    stopped: Panel, monkeypatch: pytest.MonkeyPatch, *, arrived: bool
) -> None:
    cluster, send = stopped.cluster, PowerCluster.send

    def killed(*arguments: Any) -> Any:
        if arrived:
            send(*arguments)
        raise KilledError

    action_id = stopped.asks(Action.START)
    with monkeypatch.context() as patch:
        patch.setattr(PowerCluster, "send", killed)
        with pytest.raises(KilledError):
            stopped.step(action_id)
    row = stopped.row(action_id)
    assert row.state == "sending"
    assert 0 < (row.publish_at - row.taken_until).total_seconds() < 2, (
        "it is published once the dead one's time is over"
    )
    assert stopped.step(action_id) == OVER, "while the dead worker's time is not over, nobody else begins"
    stopped.ages(101)
    assert stopped.goes_on(action_id) == (("done", "done") if arrived else ("unknown", "answer_lost"))
    assert len(cluster.sent) == int(arrived)


def test_a_step_that_fails_is_given_back(panel: Panel) -> None:
    """The database was away for a moment, or the time limit struck."""
    action_id = panel.asks(Action.STOP)

    def fails() -> None:
        panel.cluster.before_note = lambda: None
        raise RuntimeError

    panel.cluster.before_note = fails
    with pytest.raises(RuntimeError):
        panel.step(action_id)
    row = panel.row(action_id)
    assert (row.state, row.taken_until) == ("queued", None)
    assert panel.goes_on(action_id) == ("done", "done")
    assert len(panel.cluster.sent) == 1


def test_a_worker_that_hangs_and_wakes_up_late_sends_nothing(panel: Panel) -> None:
    """It hangs just before its note; another one takes the action and does it."""
    action_id = panel.asks(Action.STOP, force=True)

    def another_one() -> None:
        panel.cluster.before_note = lambda: None
        panel.ages(101)
        assert panel.goes_on(action_id) == ("done", "done")

    panel.cluster.before_note = another_one
    assert panel.step(action_id) == OVER
    assert panel.cluster.sent == [("pve1", Command.STOP)]
    assert panel.row(action_id).state == "done"


def test_a_machine_that_is_replaced_after_the_request_is_not_taken_for_its_own(panel: Panel) -> None:
    panel.cluster.reply, panel.cluster.begins = LOST, False
    action_id = panel.asks(Action.STOP, force=True)
    panel.step(action_id)
    panel.cluster.change(**STOPPED, fingerprint="smbios:the-next-customer")
    assert panel.goes_on(action_id) == ("unknown", "another_machine")
    assert len(panel.cluster.sent) == 1


@pytest.mark.parametrize("arrived", [True, False], ids=["by this restart", "by somebody else"])
def test_a_container_that_somebody_else_stopped_is_not_started(engine: Engine, owner: Engine, *, arrived: bool) -> None:
    """The answer to the restart's stop was lost, and the container is stopped."""
    place = make_switchable(engine, Place(guest_type="lxc", fingerprint="mac:bc:24:11:00:00:01"))
    panel = Panel(engine, owner)
    panel.cluster.change(fingerprint=place.fingerprint)
    panel.cluster.reply, panel.cluster.begins = LOST, arrived
    action_id = panel.asks(Action.RESTART, place=place)
    panel.step(action_id)
    panel.cluster.change(**STOPPED)
    panel.cluster.reply = None
    assert panel.goes_on(action_id) == (("done", "done") if arrived else ("failed", "guest_stopped"))
    assert len(panel.cluster.sent) == 1 + arrived


def test_nothing_stays_open_for_ever(panel: Panel) -> None:
    panel.cluster.reply, panel.cluster.begins = LOST, False
    action_id = panel.asks(Action.STOP)
    panel.step(action_id)
    panel.cluster.guest = None
    panel.ages(3600)
    assert panel.goes_on(action_id, steps=1) == ("unknown", "answer_lost")


def test_an_action_that_is_over_is_left_alone(panel: Panel) -> None:
    action_id = panel.asks(Action.STOP)
    panel.goes_on(action_id)
    before = list(panel.cluster.asked)
    assert panel.step(action_id) == OVER
    assert panel.step(action_id + 1) == OVER, "there is no such action"
    assert panel.cluster.asked == before
