"""``panel-sync acknowledge`` says in plain words what the operator said by it, and what follows."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from panel.operators.actions.sources import NOTHING_READ
from panel.operators.gate_context import PLAN_SEEN
from panel.runs.source_states import remember_source
from tests.integration.cli.conftest import PanelSync

SAID = (
    "proxmox:fra1 is believed again. You said that this is right: 60 of 100 guests vanished at once. They count as "
    "missing from the next read on. A record is deleted only after the whole proof of absence, and within the "
    "limits. If much more goes missing, you are asked again.\n"
)


@pytest.fixture
def losing(engine: Engine) -> Engine:
    """A cluster of which much vanished at once."""
    reason = "60 of 100 guests vanished at once; if that is right: panel-sync acknowledge proxmox:fra1"
    with engine.begin() as connection:
        since = connection.scalar(text("SELECT clock_timestamp()"))
        remember_source(connection, "proxmox:fra1", degraded_since=since, degraded_reason=reason)
    return engine


def test_it_says_what_was_confirmed_and_what_follows(panel_sync: PanelSync, losing: Engine) -> None:
    said = panel_sync("acknowledge", "proxmox:fra1")
    assert (said.code, said.out, said.err) == (0, SAID, "A run is on its way: panel-sync runs\n")
    with losing.connect() as connection:
        state = connection.execute(text("SELECT source FROM source_states WHERE acknowledged_at IS NOT NULL"))
        assert state.scalars().all() == ["proxmox:fra1"]
        assert connection.scalar(text("SELECT count(*) FROM task_requests WHERE task = 'reconcile.run'")) == 1


def test_a_source_of_which_nothing_is_missing_is_refused(panel_sync: PanelSync, losing: Engine) -> None:
    said = panel_sync("acknowledge", "orders")
    assert (said.code, said.out) == (2, "")
    assert said.err == "panel-sync: orders is not degraded; `panel-sync sources` lists what is\n"


def test_the_first_plan(panel_sync: PanelSync, engine: Engine) -> None:
    early = panel_sync("acknowledge", "plan")
    assert (early.code, early.err) == (2, f"panel-sync: {NOTHING_READ}\n")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 't', 1, 'done')"))
    said = panel_sync("acknowledge", "plan")
    assert (said.code, said.out) == (0, f"{PLAN_SEEN}\n")
