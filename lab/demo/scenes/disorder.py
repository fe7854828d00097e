"""Calls that arrive twice, late or too early."""

from __future__ import annotations

import secrets

from lab.demo.errors import DemoError
from lab.demo.fault_and_repair import heal, update_of
from lab.demo.scenes.lost_calls import drop_next
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import ANNA, BORIS
from lab.simulators.main_site.faults import CallFaultKind

TITLE = "Calls in disorder"
TWICE, EARLY, LATE = "twin-01", "early-01", "shop-01"


def play(stage: Stage) -> None:
    """A retry with a key, a create made twice without one, two updates reordered, an update before its create."""
    _repeated_with_key(stage)
    _created_twice(stage)
    _reordered(stage)
    _update_before_create(stage)


def _repeated_with_key(stage: Stage) -> None:
    vps, key = {"id": stage.vps_id("web-01"), "status": "running"}, secrets.token_urlsafe(12)
    mark = stage.journal.last_id()
    first, second = (stage.panel.sync("update", vps, idempotency_key=key) for _ in range(2))
    replayed = second.headers.get("Idempotent-Replayed")
    journaled = len(stage.journal.since(mark, kind="sync"))
    if (first.status_code, replayed, journaled) != (202, "true", 1) or first.json() != second.json():
        seen = f"{first.status_code}, {second.status_code}, replayed {replayed}, {journaled} journaled"
        raise DemoError("a repeated key replays the first answer", seen, ("api",))
    operation = first.json()["operation"]["id"]
    stage.screen.right(f"an update repeated with its Idempotency-Key replays the first answer (operation {operation})")


def _created_twice(stage: Stage) -> None:
    stage.screen.say(f"The create of {TWICE} is sent twice, without a key: names are not unique, so both are accepted.")

    def create_twice() -> None:
        drop_next(stage, "create", CallFaultKind.DUPLICATE)
        order = stage.site.place_order(user_id=ANNA.main_site_id, name=TWICE, cluster="riga")
        stage.site.set_status(order.id, "running")
        ids.extend(operation.vps_id for operation in stage.journal.since(mark) if operation.action == "create")
        _applied(stage)

    ids: list[int] = []
    mark = stage.journal.last_id()
    heal(
        stage,
        scene=TITLE,
        fault="a create is sent twice",
        make=create_twice,
        wrong=lambda: stage.difference(TWICE),
        repaired=lambda operation: operation.action == "merge",
    )
    survivor = stage.vps_id(TWICE)
    loser = next(vps_id for vps_id in ids if vps_id != survivor)
    answer = stage.panel.sync("update", {"id": loser, "status": "running"})
    reached = answer.json()["vps"]["id"] if answer.is_success else answer.status_code
    if reached != survivor:
        raise DemoError(f"a call for VPS {loser} reaches its survivor {survivor}", str(reached), ("api",))
    stage.screen.right(f"both ids keep working: a call for VPS {loser} reaches VPS {survivor}")
    _applied(stage)


def _reordered(stage: Stage) -> None:
    stage.screen.say(f"{LATE} is started and then stopped; the two calls overtake each other.")
    order = stage.existing(LATE)

    def reorder() -> None:
        drop_next(stage, "update", CallFaultKind.REORDER)
        stage.site.set_status(order.id, "running")
        stage.site.set_status(order.id, "stopped")
        _applied(stage)

    heal(
        stage,
        scene=TITLE,
        fault="two updates are reordered",
        make=reorder,
        wrong=lambda: stage.difference(LATE),
        repaired=update_of(stage.vps_id(LATE), "stopped"),
    )
    stage.site.set_status(order.id, "running")


def _update_before_create(stage: Stage) -> None:
    stage.screen.say(f"The workers are paused: {EARLY} is created and updated before its create is applied.")
    mark = stage.journal.last_id()
    with stage.paused("worker-sync"):
        order = stage.site.place_order(user_id=BORIS.main_site_id, name=EARLY, cluster="berlin")
        stage.site.set_status(order.id, "running")
        queued = [(o.action, o.state) for o in stage.journal.since(mark, kind="sync")]
        broken = stage.difference(EARLY)
        if queued != [("create", "queued"), ("update", "queued")] or broken is None:
            raise DemoError(
                "both calls are accepted and neither is applied", f"{queued}, {broken}", ("worker-sync", "api")
            )
        stage.screen.broken(broken)
    took = stage.until(
        "both are applied, in the order in which they were journaled",
        lambda: stage.difference(EARLY) is None,
        seen=lambda: stage.difference(EARLY) or "applied just after the deadline",
        logs=("worker-sync", "api"),
    )
    results = [o.result or o.state for o in stage.journal.since(mark, kind="sync")]
    reason = f"the order of the VPS's queue: {', then '.join(results)}"
    stage.screen.right(f"applied in {took:.1f} s: {', then '.join(results)}")
    stage.sights.append(Sight(TITLE, "an update comes before its create is applied", broken, f"{took:.1f} s", reason))


def _applied(stage: Stage) -> None:
    stage.until(
        "the workers apply the accepted calls",
        lambda: not stage.journal.queued_operations(),
        logs=("worker-sync", "api"),
    )
