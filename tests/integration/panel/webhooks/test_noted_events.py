"""Every change that the panel makes by itself is one event, noted with it or not at all; a call is none."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from api.main_site.event_models import PanelEvent
from domain.changes import Create, Delete, Merge, Unlink
from domain.power.actions import Action
from panel.journal.accept import Acceptor
from panel.journal.repairs import NotWritten, Written
from panel.journal.restore import restore_vps
from panel.journal.writer import apply_operation
from panel.observations.proof import Proof
from panel.operators.prune import prune
from panel.power import due
from panel.records.public import public_record
from panel.records.reads import records_of_order
from panel.runs.lease import FencedError
from tests.integration.panel.conftest import EPOCH, accepted, begin_run, decided_on, setting, write
from tests.support.calls import PLAN, create_call, delete_call, update_call
from tests.support.fleets.power_panel import Panel
from tests.support.fleets.switchable import make_switchable
from tests.support.fleets.world import vps_row
from tests.support.stand_ins.webhook_receiver import events, note_event, want_events
from tests.unit.reconcile.worlds import order

WHY: dict[str, Any] = {"source": "orders", "reason": "a test says so"}
STOPPED = {"power_state": "stopped", "power_source": "proxmox", "status": "stopped"}


@pytest.fixture
def told(panel: Engine) -> Engine:
    """A panel that tells the main site."""
    want_events(panel)
    return panel


async def made(acceptor: Acceptor, engine: Engine, **payload: Any) -> int:
    created = await accepted(acceptor, create_call(**payload))
    apply_operation(engine, created.operation_id)
    return created.vps_id


def bodies(engine: Engine) -> list[dict[str, Any]]:
    """Each as the OpenAPI document says it."""
    for event in events(engine):
        PanelEvent.model_validate_json(event["body"])
    return [json.loads(event["body"]) for event in events(engine)]


def types(engine: Engine) -> list[tuple[str, int]]:
    return [(event["type"], event["vps_id"]) for event in events(engine)]


async def test_what_the_main_site_says_is_no_event(acceptor: Acceptor, told: Engine) -> None:
    vps_id = await made(acceptor, told, status="running", order_id="o-1")
    for call in (update_call(vps_id, "stopped"), delete_call(vps_id)):
        apply_operation(told, (await accepted(acceptor, call)).operation_id)
    assert events(told) == []


async def test_a_repair_of_a_status(acceptor: Acceptor, told: Engine) -> None:
    vps_id = await made(acceptor, told, status="running", order_id="o-1")
    run_id = begin_run(told, EPOCH)
    written = write(told, run_id, setting(vps_id, 1, **STOPPED))
    assert isinstance(written, Written)
    [event] = events(told)
    [body] = bodies(told)
    assert (event["type"], event["vps_id"], event["state"], event["attempts"]) == (
        "vps.status_changed",
        vps_id,
        "waiting",
        0,
    )
    row = vps_row(told, vps_id)
    assert row is not None
    assert body["type"] == event["type"]
    assert body["timestamp"] == row["updated_at"].isoformat()
    assert body["data"]["vps"] == public_record(row)
    assert body["data"]["vps"]["order_id"] == "o-1"
    assert body["data"]["sequence"] == row["applied_seq"] == 2
    assert body["data"]["before"]["status"] == "running"
    assert body["data"]["after"]["status"] == "stopped"
    assert "version" not in body["data"]["after"]
    assert body["data"]["cause"] == {
        "source": "orders",
        "reason": "a test says so",
        "operation_id": written.operation_id,
        "run_id": run_id,
        "evidence": {"snapshot": 1},
    }


async def test_the_record_is_that_of_the_look_up(acceptor: Acceptor, told: Engine) -> None:
    vps_id = await made(acceptor, told, status="running", order_id="o-1")
    write(told, begin_run(told, EPOCH), setting(vps_id, 1, cpu=8))
    [body] = bodies(told)
    [found] = await records_of_order(acceptor._engine, "o-1")
    assert body["data"]["vps"] == public_record(found)
    assert body["data"]["before"] == {"cpu": PLAN["cpu"]}
    assert types(told) == [("vps.updated", vps_id)]


async def test_a_memory_is_told_under_the_contract_s_name(acceptor: Acceptor, told: Engine) -> None:
    vps_id = await made(acceptor, told)
    write(told, begin_run(told, EPOCH), setting(vps_id, 1, ram_mb=16384))
    assert bodies(told)[0]["data"]["after"] == {"ram": 16384}


async def test_every_other_repair(acceptor: Acceptor, told: Engine) -> None:
    first = await made(acceptor, told, status="running", cluster="main", vmid=101)
    second = await made(acceptor, told, status="running")
    third = await made(acceptor, told, status="running")
    run_id = begin_run(told, EPOCH)
    values = dict(PLAN) | {"user_id": 5, "order_id": "o-9", "order_state": "active", "power_state": "unknown"}
    for name in ("ram", "disk"):
        if name in values:
            values[{"ram": "ram_mb", "disk": "disk_gb"}[name]] = values.pop(name)
    values.pop("status", None)
    new = write(told, run_id, Create(**WHY, order=order(order_id="o-9", mapped_at=None), values=values))
    assert isinstance(new, Written), new
    assert isinstance(write(told, run_id, Unlink(**WHY, record=decided_on(first, 1), values={})), Written)
    assert isinstance(write(told, run_id, Delete(**WHY, record=decided_on(second, 1), values={})), Written)
    merged = Merge(**WHY, record=decided_on(third, 1), survivor=decided_on(first, 2), values={})
    assert isinstance(write(told, run_id, merged), Written)
    assert types(told) == [
        ("vps.created", new.vps_id),
        ("vps.updated", first),
        ("vps.deleted", second),
        ("vps.merged", third),
        ("vps.updated", first),
    ]
    of_merge = bodies(told)[3]["data"]
    assert of_merge["after"]["merged_into"] == first
    assert bodies(told)[0]["data"]["before"] is None


async def test_a_restore(acceptor: Acceptor, told: Engine) -> None:
    vps_id = await made(acceptor, told, status="running")
    apply_operation(told, (await accepted(acceptor, delete_call(vps_id))).operation_id)
    with told.begin() as connection:
        restore_vps(connection, vps_id, "Mr Smith called", "cli:ann")
    assert types(told) == [("vps.restored", vps_id)]
    [event] = events(told)
    assert "Smith" not in event["body"]
    assert "ann" not in event["body"]


@pytest.mark.parametrize("end", ["done", "given up"])
def test_the_end_of_a_power_action(engine: Engine, owner: Engine, end: str) -> None:
    make_switchable(engine)
    want_events(engine)
    panel = Panel(engine, owner)
    if end == "done":
        assert panel.plays(Action.STOP) == ("done", "done")
    else:
        action_id = panel.asks(Action.STOP)
        panel.ages(due.GIVEN_UP_S + 1)
        with engine.begin() as connection:
            assert due.end_given_up(connection) == [action_id]
    assert types(engine) == [("vps.power_action_ended", 1)]
    [body] = bodies(engine)
    action = body["data"]["action"]
    assert (action["action"], action["force"], action["state"]) == (
        "stop",
        False,
        "done" if end == "done" else "failed",
    )
    assert body["data"]["cause"]["reason"] == action["reason"]
    assert body["timestamp"] == action["ended_at"]
    assert "fingerprint" not in body["data"]["vps"]


async def test_what_is_rolled_back_is_told_to_nobody(acceptor: Acceptor, told: Engine) -> None:
    """The event goes with the change, whatever stops it after the event was noted."""
    vps_id = await made(acceptor, told, status="running", order_id="o-1")
    other = await made(acceptor, told, status="running")
    run_id = begin_run(told, EPOCH)
    taken = write(told, run_id, setting(other, 1, order_id="o-1"))
    assert isinstance(taken, NotWritten)
    assert isinstance(write(told, run_id, setting(vps_id, 9, **STOPPED)), NotWritten)
    with pytest.raises(FencedError):
        write(told, run_id, setting(vps_id, 1, **STOPPED), epoch=EPOCH + 1)
    apply_operation(told, (await accepted(acceptor, delete_call(vps_id))).operation_id)
    with told.connect() as connection:
        restore_vps(connection, vps_id, "a mistake", "cli:ann")
        connection.rollback()
    assert events(told) == []


async def test_while_it_is_off_nothing_is_noted(acceptor: Acceptor, panel: Engine) -> None:
    vps_id = await made(acceptor, panel, status="running")
    assert isinstance(write(panel, begin_run(panel, EPOCH), setting(vps_id, 1, **STOPPED)), Written)
    assert events(panel) == []


def test_an_event_goes_after_thirty_days(engine: Engine, owner: Engine) -> None:
    old, young = note_event(engine, 1), note_event(engine, 2)
    with owner.begin() as connection:
        connection.execute(
            text("UPDATE webhook_events SET created_at = created_at - interval '31 days' WHERE id = :id"), {"id": old}
        )
    assert prune(engine, 400, Proof(3, timedelta(minutes=10)))["webhook_events"] == 1
    assert [event["id"] for event in events(engine)] == [young]
