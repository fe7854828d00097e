"""What operators look at, decide and type, as statements of one day."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from cli.main import main
from domain.guests import GuestType
from panel.adoptions import inbox
from panel.adoptions.known import Reading
from panel.journal import dead_letters
from panel.journal.restore import restore_vps
from panel.observations.proof import Proof
from panel.operators import audit, findings, holds, metrics, pauses, quarantine, user_maps
from panel.operators.actions import adoptions
from panel.operators.actions.adoptions import SeenGuest
from panel.operators.audit import Use
from panel.operators.pages.overview import overview
from panel.operators.pages.vps_view import vps_view
from panel.operators.repair_policy import what_ifs
from panel.operators.repair_policy.past_deletes import OtherLimits, past_deletes
from panel.operators.reports.blind_spots import SpotFilter
from panel.operators.reports.coverage import coverage
from panel.operators.reports.deleted import DeletedFilter, list_deleted
from panel.operators.reports.drift import DriftFilter, drift
from panel.operators.reports.looks import Configured
from panel.operators.reports.money import MoneyFilter, money, write_money
from panel.operators.reports.money_statements import Subject
from panel.records import history as histories
from panel.records.operations import list_operations
from panel.records.record_search import changed_lately
from panel.runs.source_states import list_sources
from panel.settings import Settings
from panel.webhooks import deliveries, endpoint
from panel.webhooks import views as webhook_views
from tests.support.databases import Database
from tests.support.fleets.hoster import Hoster
from tests.support.keys import random_key
from tests.support.logs import logging_of_its_own

PROOF = Proof(3, timedelta(minutes=10))


def adopt_guests(hoster: Hoster) -> None:
    """An operator looks at guests that nobody ordered, adopts two, and takes one back. A run links the other."""
    actor, reading = audit.Actor("api:ann", "operate"), Reading(shared_ids=False, proof=PROOF)
    loose = replace(hoster.feed.listed["o3"], cluster=None, node=None, vmid=None, name="g900")
    hoster.feed.listed |= {order_id: replace(loose, order_id=order_id) for order_id in ("loose1", "loose2")}
    hoster.full(2)
    with hoster.engine.begin() as connection:
        first, second, *_ = inbox.unmanaged_guests(connection, reading)
        assert [one.order_id for one in first.candidates] == ["loose1", "loose2"]
        assert [order.order_id for order in inbox.guestless_orders(connection, reading)] == ["loose1", "loose2"]
        for guest, order_id in ((first, "loose1"), (second, "loose2")):
            seen = SeenGuest(guest.key, GuestType(guest.guest_type), guest.fingerprint or "")
            adopted = adoptions.adopt(connection, actor, seen, "the old fleet", reading, order_id=order_id).result
        adoptions.withdraw(connection, actor, adopted.id, "a mistake")
    hoster.full()
    assert hoster.count("vps", "vmid = 900 AND deleted_at IS NULL") == 1


def send_events(engine: Engine) -> None:
    """The relay asks, a worker sends what the runs noted, with every kind of answer."""
    with engine.begin() as connection:
        assert endpoint.ring(connection)
        for note in ("delivered", "refused", "away"):
            taken = deliveries.take(connection)
            assert taken is not None
            match note:
                case "delivered":
                    deliveries.note_delivered(connection, taken, 204)
                case "refused":
                    deliveries.note_refused(connection, taken, 400, "answered 400")
                case "away":
                    deliveries.note_away(connection, taken, None, "no connection")
        assert taken is not None
        deliveries.note_delivered(connection, taken, 204)
        assert not deliveries.wake(connection)
        taken = deliveries.take(connection)
        assert taken is not None
        deliveries.note_gone(connection, taken, 410, "answered 410")
        webhook_views.endpoint(connection)
        for state in (None, "waiting", "delivered", "dead"):
            webhook_views.list_events(connection, state)
        webhook_views.enable(connection)
        for again in (webhook_views.Wanted(id=taken.id), webhook_views.Wanted(dead=True)):
            webhook_views.send_again(connection, again)
        endpoint.rest(connection)


def operators_day(engine: Engine, deleted: int, operation_id: int) -> None:
    with engine.begin() as connection:
        restore_vps(connection, deleted, "it was a mistake", "ann")
        metrics.metrics(connection)
        overview(connection, 900)
        vps_view(connection, deleted, proof=PROOF, names=True, shared_ids=False, second_above=5)
        for everything in (False, True):
            listed = findings.list_findings(connection, everything=everything)
            listed_sets = holds.list_holds(connection, decided=everything)
            holds.with_approvals(connection, listed_sets, 5)
            audit.list_access(connection, 50, refused=everything)
        findings.acknowledge_finding(connection, listed[0].id, "ann")
        findings.snooze_finding(connection, listed[0].id, timedelta(hours=1), "ann")
        findings.unsent_alarms(connection)
        dead_letters.list_dead(connection)
        quarantine.list_quarantined(connection)
        pauses.current_pauses(connection)
        histories.vps_history(connection, deleted)
        for kind in (None, "full", "plan"):
            histories.recent_runs(connection, kind=kind)
        list_sources(connection)
        audit.note_actions(connection, audit.Actor("api:ann", "operate"), "pause", ["all"])
        audit.store_uses(connection, [(Use("api:ann", "192.0.2.1", "GET /api", 200, ""), 1, "r")])
        audit.list_actions(connection, 50)
        audit.list_refused_calls(connection, 50)
        asked = what_ifs.ask_what_if(connection, {"orphan": "repair"}, "api:ann")
        assert what_ifs.waiting_policy(connection, asked.id) == asked.policy
        what_ifs.keep_problem(connection, asked.id, "no sources")
        assert what_ifs.what_if(connection, asked.id) == what_ifs.latest_what_ifs(connection)[0]
        settings = Settings(_env_file=None)
        assert past_deletes(connection, settings, 90, OtherLimits(deletes_run=1)).cut
        _reports(connection)


def _reports(connection: Connection) -> None:
    for shared in (False, True):
        of = Configured(("main",), "orders", names=True, shared_ids=shared, proof=PROOF)
        coverage(connection, of, SpotFilter(), limit=50)
        assert drift(connection, of, DriftFilter(), limit=50).records
        for subject in Subject:
            money(connection, of, subject, MoneyFilter(), limit=50)
            write_money(connection, of, subject, MoneyFilter(), io.StringIO())
    assert list_deleted(connection, DeletedFilter(), limit=50)
    changed_lately(connection, limit=10)
    user_maps.users_by_email(connection)
    user_maps.mapped_ids(connection)
    user_maps.orders_by_owner(connection)
    for state in (None, "queued", "dead"):
        list_operations(connection, state=state, limit=50)


LISTS = (
    ("operations",), *(("operations", "--state", s) for s in ("queued", "applied", "superseded", "rejected", "dead")),
    ("operations", "--vps", "1000005"), ("vps", "history", "1000005"), ("runs",), ("runs", "--kind", "plan"),
    ("adopt",), ("adopt", "orders"), ("adopt", "decisions"), ("adopt", "decisions", "--ended"),
    ("power",), ("power", "--all"), ("power", "--vps", "1000005"),
    ("webhooks", "list"), ("webhooks", "list", "--vps", "1000005"),
    ("audit",), ("audit", "--refused"), ("sources",), ("held",), ("quarantined",), ("findings",), ("users", "list"),
    ("service-levels",),
    ("overview",), ("coverage",), ("drift",), ("money", "running-unpaid"), ("money", "paid-missing"), ("pauses",),
    ("vps", "show", "1000005"), ("vps", "deleted"),
    ("deletes",),
)  # fmt: skip


def typed_commands(database: Database, directory: Path) -> None:
    """What people type, in this process."""
    settings = {
        "DATABASE_URL": database.app_url, "VPS_SYNC_API_KEY": random_key(), "OPS_API_KEY": random_key(),
        "JWT_SECRET": random_key(), "PANEL_DATA_DIR": str(directory),
    }  # fmt: skip
    for command in LISTS:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["panel-sync", *command])
            with pytest.raises(SystemExit) as ended, logging_of_its_own():
                main()
        assert not ended.value.code, command
