"""What to send, and what an answer means: the guest's state decides, never the text of an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.guests import GuestType, PowerState, power_of
from domain.power import conduct
from domain.power.actions import Action, Before, Command, GuestNow, State, commands_of, task_kinds
from domain.power.conduct import Adopt, End, Reached, Send, Wait
from domain.power.port import OwnTask, TaskEnded

RUNS = GuestNow("pve1", "smbios:a", PowerState.RUNNING, "running", uptime_s=5000, pid=77)
STANDS = GuestNow("pve1", "smbios:a", PowerState.STOPPED, "stopped")
RAN = Before("running", 5000, 77, frozenset({"old"}))
STOOD = Before("stopped", None, None, frozenset({"old"}))
OK, FAILED = TaskEnded(ok=True, said="OK"), TaskEnded(ok=False, said="got timeout")


def told(step: object) -> object:
    """The kind of a step, and its code if it is an end."""
    return (step.state, step.code) if isinstance(step, End) else type(step)


def test_what_is_sent_for_each_action() -> None:
    asked = [(a, t, f) for a in Action for t in GuestType for f in (False, True)]
    sent = {(a.value, t.value): tuple(c.value for c in commands_of(a, t, force=f)) for a, t, f in asked if not f}
    assert sent == {
        ("start", "qemu"): ("start",), ("start", "lxc"): ("start",),
        ("stop", "qemu"): ("shutdown",), ("stop", "lxc"): ("shutdown",),
        ("reboot", "qemu"): ("reboot",), ("reboot", "lxc"): ("reboot",),
        ("restart", "qemu"): ("reset",), ("restart", "lxc"): ("stop", "start"),
    }  # fmt: skip
    assert commands_of(Action.STOP, GuestType.QEMU, force=True) == (Command.STOP,)


def paused(word: str) -> GuestNow:
    return replace(RUNS, status=word, power=power_of(GuestType.QEMU, word))


FIRST: list[tuple[str, Command, GuestNow, bool, object]] = [
    ("a stopped guest is started", Command.START, STANDS, False, Send),
    ("a hibernated guest is woken", Command.START, replace(STANDS, lock="suspended"), False, Send),
    ("a running guest runs already", Command.START, RUNS, False, (State.DONE, "already_running")),
    ("a paused guest is not started", Command.START, paused("paused"), False, (State.REFUSED, "guest_state")),
    ("a running guest is shut down", Command.SHUTDOWN, RUNS, False, Send),
    ("a stopped guest is stopped already", Command.SHUTDOWN, STANDS, False, (State.DONE, "already_stopped")),
    ("a stopped guest, by force", Command.STOP, STANDS, False, (State.DONE, "already_stopped")),
    ("a guest that hangs is stopped by force", Command.STOP, paused("io-error"), False, Send),
    ("a stopped container has nothing to restart", Command.STOP, STANDS, True, (State.REFUSED, "guest_stopped")),
    ("a stopped guest has nothing to reboot", Command.REBOOT, STANDS, False, (State.REFUSED, "guest_stopped")),
    ("a stopped guest has nothing to reset", Command.RESET, STANDS, False, (State.REFUSED, "guest_stopped")),
    ("a word that nobody knows", Command.RESET, paused("inmigrate"), False, Wait),
    ("a word that nobody knows, by force", Command.STOP, paused("inmigrate"), False, Send),
    ("a template", Command.START, replace(STANDS, template=True), False, (State.REFUSED, "identity_in_doubt")),
    (
        "the HA manager would cut the power",
        Command.SHUTDOWN,
        replace(RUNS, ha=True),
        False,
        (State.REFUSED, "ha_cuts_power"),
    ),
    ("the HA manager is told to cut the power", Command.STOP, replace(RUNS, ha=True), False, Send),
    (
        "a guest of the HA manager stands already",
        Command.SHUTDOWN,
        replace(STANDS, ha=True),
        False,
        (State.DONE, "already_stopped"),
    ),
    ("a backup is running", Command.STOP, replace(RUNS, lock="backup"), False, (State.REFUSED, "guest_locked")),
]


@pytest.mark.parametrize(("_name", "command", "now", "restart", "expected"), FIRST, ids=[case[0] for case in FIRST])
def test_the_first_step(_name: str, command: Command, now: GuestNow, *, restart: bool, expected: object) -> None:
    assert told(conduct.first_step(command, now, of_a_restart=restart)) == expected


def test_a_lock_is_told_in_words() -> None:
    step = conduct.first_step(Command.STOP, replace(RUNS, lock="backup"), of_a_restart=False)
    assert isinstance(step, End)
    assert "a backup of it is running" in step.reason


REACHED: list[tuple[str, Command, Before, GuestNow, float, bool]] = [
    ("it runs", Command.START, STOOD, RUNS, 5, True),
    ("it does not run yet", Command.START, STOOD, STANDS, 5, False),
    ("a paused process does not run", Command.START, STOOD, paused("paused"), 5, False),
    ("it is stopped", Command.SHUTDOWN, RAN, STANDS, 5, True),
    ("a paused process is not stopped", Command.STOP, RAN, paused("paused"), 5, False),
    ("another process", Command.REBOOT, RAN, replace(RUNS, pid=78, uptime_s=None), 30, True),
    ("a younger process", Command.REBOOT, RAN, replace(RUNS, pid=None, uptime_s=3), 30, True),
    ("the same process", Command.REBOOT, RAN, replace(RUNS, uptime_s=5030), 30, False),
    ("the node rounds the uptime", Command.REBOOT, RAN, replace(RUNS, uptime_s=5027), 30, False),
    ("nothing is said of the process", Command.REBOOT, RAN, replace(RUNS, pid=None, uptime_s=None), 30, False),
    ("it stands between", Command.REBOOT, RAN, STANDS, 30, False),
    ("a reset leaves no trace", Command.RESET, RAN, RUNS, 30, False),
]


@pytest.mark.parametrize(("_name", "command", "before", "now", "elapsed_s", "expected"), REACHED,
                         ids=[case[0] for case in REACHED])  # fmt: skip
def test_what_the_guest_itself_shows(
    _name: str, command: Command, before: Before, now: GuestNow, elapsed_s: float, *, expected: bool
) -> None:
    assert conduct.reached(command, before, now, elapsed_s) is expected


HA_RUNS, HA_STANDS = replace(RUNS, ha=True), replace(STANDS, ha=True)
ENDED: list[tuple[str, Command, TaskEnded, Before, GuestNow, float, object]] = [
    ("started", Command.START, OK, STOOD, RUNS, 5, Reached),
    ("started with warnings", Command.START, TaskEnded(ok=True, said="WARNINGS: 2"), STOOD, RUNS, 5, Reached),
    ("an error that was none: it runs already", Command.START, FAILED, STOOD, RUNS, 5, Reached),
    ("an error that was none: it stands already", Command.SHUTDOWN, FAILED, RAN, STANDS, 5, Reached),
    ("HA only noted the request", Command.START, OK, STOOD, HA_STANDS, 150, Wait),
    ("HA never did it", Command.START, OK, STOOD, HA_STANDS, 400, (State.FAILED, "not_reached")),
    ("the node is slow to tell", Command.START, OK, STOOD, STANDS, 5, Wait),
    ("success, but it is not so", Command.START, OK, STOOD, STANDS, 200, (State.FAILED, "not_reached")),
    ("the system did not shut down", Command.SHUTDOWN, FAILED, RAN, RUNS, 61, (State.FAILED, "guest_did_not_stop")),
    ("nor for a reboot", Command.REBOOT, FAILED, RAN, replace(RUNS, uptime_s=5061), 61,
     (State.FAILED, "guest_did_not_stop")),
    ("a lock came between", Command.START, FAILED, STOOD, replace(STANDS, lock="backup"), 5,
     (State.FAILED, "guest_locked")),
    ("Proxmox could not", Command.START, FAILED, STOOD, STANDS, 5, (State.FAILED, "proxmox_failed")),
    ("reset", Command.RESET, OK, RAN, RUNS, 5, Reached),
    ("not reset", Command.RESET, FAILED, RAN, RUNS, 5, (State.FAILED, "proxmox_failed")),
    ("rebooted", Command.REBOOT, OK, RAN, replace(RUNS, pid=78), 30, Reached),
    ("a reboot that nothing shows yet", Command.REBOOT, OK, RAN, replace(RUNS, uptime_s=5030), 30, Wait),
    ("a reboot that nothing ever shows", Command.REBOOT, OK, RAN, replace(RUNS, uptime_s=5500), 500,
     (State.UNKNOWN, "not_confirmed")),
]  # fmt: skip


@pytest.mark.parametrize(("_name", "command", "task", "before", "now", "elapsed_s", "expected"), ENDED,
                         ids=[case[0] for case in ENDED])  # fmt: skip
def test_what_the_end_of_a_task_means(
    _name: str, command: Command, task: TaskEnded, before: Before, now: GuestNow, elapsed_s: float, expected: object
) -> None:
    assert told(conduct.after_task(command, task, before, now, elapsed_s)) == expected


MINE, OTHER = OwnTask("new", "qmstart"), OwnTask("new", "vzdump")
SEARCHED: list[tuple[str, dict[str, Any], object]] = [
    ("its task is there", {"tasks": (OwnTask("old", "qmstop"), MINE)}, Adopt),
    ("only what was there before", {"tasks": (OwnTask("old", "qmstart"),)}, Wait),
    ("a task of another kind", {"tasks": (OTHER,)}, Wait),
    ("a task of another kind, after long", {"tasks": (OTHER,), "elapsed_s": 60}, (State.UNKNOWN, "answer_lost")),
    ("two new tasks: nobody knows which", {"tasks": (MINE, OwnTask("newer", "qmstart")), "elapsed_s": 60},
     (State.UNKNOWN, "answer_lost")),
    ("no task, but it runs", {"tasks": (), "now": RUNS}, Reached),
    ("no task, and it stands", {"tasks": (), "elapsed_s": 10}, Wait),
    ("no task for long", {"tasks": (), "elapsed_s": 60}, (State.UNKNOWN, "answer_lost")),
    ("the tasks cannot be listed", {"tasks": None, "elapsed_s": 60}, (State.UNKNOWN, "answer_lost")),
    ("what was there before was not known",
     {"tasks": (MINE,), "before": replace(STOOD, tasks=None), "elapsed_s": 60}, (State.UNKNOWN, "answer_lost")),
    ("refused", {"tasks": (), "rejected": True, "elapsed_s": 10}, (State.FAILED, "proxmox_refused")),
    ("refused by a lock", {"tasks": (), "rejected": True, "elapsed_s": 10, "now": replace(STANDS, lock="backup")},
     (State.FAILED, "guest_locked")),
    ("refused because it runs already", {"tasks": (), "rejected": True, "elapsed_s": 2, "now": RUNS}, Reached),
    ("refused, but a task began all the same", {"tasks": (MINE,), "rejected": True}, Adopt),
    ("refused, and the tasks cannot be listed", {"tasks": None, "rejected": True, "elapsed_s": 10},
     (State.UNKNOWN, "answer_lost")),
]  # fmt: skip


@pytest.mark.parametrize(("_name", "given", "expected"), SEARCHED, ids=[case[0] for case in SEARCHED])
def test_what_became_of_a_command_whose_answer_was_lost(_name: str, given: dict[str, Any], expected: object) -> None:
    case: dict[str, Any] = {"before": STOOD, "now": STANDS, "elapsed_s": 3, "rejected": False} | given
    found = conduct.search(Command.START, case["before"], case["now"], case["tasks"], case["elapsed_s"],
                           rejected=case["rejected"])  # fmt: skip
    assert told(found) == expected


def test_waiting_ends() -> None:
    for command in Command:
        assert told(conduct.while_it_runs(command, HA_RUNS, 1)) == Wait
        assert told(conduct.while_it_runs(command, HA_RUNS, 1000)) == (State.UNKNOWN, "not_confirmed")
    assert conduct.not_told().state is State.UNKNOWN


def test_the_tasks_of_a_command() -> None:
    assert task_kinds(Command.START) == {"qmstart", "vzstart", "hastart"}
    assert task_kinds(Command.SHUTDOWN) == {"qmshutdown", "vzshutdown", "hastop"}
    assert task_kinds(Command.RESET) == {"qmreset", "vzreset"}


def test_what_was_seen_before_is_kept_whole() -> None:
    for before in (RAN, STOOD, replace(STOOD, tasks=None)):
        assert Before.from_plain(before.to_plain()) == before
