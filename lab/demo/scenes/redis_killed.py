"""Redis is killed while sync calls arrive. Every call is accepted, and applied when Redis is back."""

from __future__ import annotations

from lab.demo.errors import DemoError
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import BORIS, CLARA
from lab.simulators.main_site.calls import CallOutcome, CallRecord

TITLE = "Redis is killed"
TOGGLED = ("web-01", "shop-01", "mail-01")
ACCEPTED = 202


def play(stage: Stage) -> None:
    """Calls before, during and after the outage: each is journaled and applied, none is lost."""
    first_call, mark = len(stage.site.list_calls()), stage.journal.last_id()
    stage.screen.say("Calls keep coming while Redis is killed by SIGKILL.")
    _set(stage, TOGGLED[0], "stopped")
    stage.redis.kill()
    down = stage.journal.last_id()
    _set(stage, TOGGLED[1], "stopped")
    _set(stage, TOGGLED[2], "stopped")
    for name, customer in (("burst-01", BORIS), ("burst-02", CLARA)):
        order = stage.site.place_order(user_id=customer.main_site_id, name=name, cluster="riga")
        stage.site.set_status(order.id, "running")
    for name in TOGGLED:
        _set(stage, name, "running")
    calls = stage.site.list_calls()[first_call:]
    _all_accepted(calls)
    waiting = [o for o in stage.journal.since(down, kind="sync") if o.state == "queued"]
    meanwhile = len(stage.journal.since(down, kind="sync"))
    if stage.redis.running or len(waiting) != meanwhile or not waiting:
        raise DemoError("with Redis dead every call waits in the journal", f"{len(waiting)} of {meanwhile} wait")
    broken = f"{len(calls)} calls, all 202; {len(waiting)} wait, none of them applied"
    stage.screen.broken(f"{broken}: Redis is dead")
    stage.redis.start()
    took = stage.until(
        "Redis is back: the relay publishes the journaled calls",
        lambda: not stage.journal.queued_operations(),
        within_s=180,
        progress=lambda: f"{stage.journal.queued_operations()} left",
        seen=lambda: f"{stage.journal.queued_operations()} operations are still queued",
        logs=("api", "worker-sync"),
    )
    journaled = stage.journal.since(mark, kind="sync")
    applied = [o for o in journaled if o.state == "applied"]
    if len(journaled) != len(calls) or len(applied) != len(calls):
        raise DemoError(f"{len(calls)} calls are journaled and applied", f"{len(journaled)} and {len(applied)}")
    stage.until_true("all clients see the truth")
    reason = f"{len(applied)} of {len(calls)} calls applied from the journal, none lost"
    stage.screen.right(f"{reason}, {took:.1f} s after Redis came back")
    stage.sights.append(Sight(TITLE, "SIGKILL between sync calls", broken, f"{took:.1f} s", reason))


def _set(stage: Stage, name: str, status: str) -> None:
    stage.site.set_status(stage.existing(name).id, status)


def _all_accepted(calls: list[CallRecord]) -> None:
    refused = [c for c in calls if c.outcome is not CallOutcome.ANSWERED or c.status != ACCEPTED]
    if refused:
        seen = "; ".join(f"{c.action}: {c.outcome} {c.status}" for c in refused)
        raise DemoError("every call is answered 202", seen, ("api", "main-site"))
