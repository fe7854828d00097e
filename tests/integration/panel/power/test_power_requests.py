"""What the database says of a VPS before its customer may switch it; and one action at a time, decided by an index."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import DBAPIError

from domain.power.actions import Action, Before, Command
from domain.power.permission import DOUBTFUL_FINDINGS, Refusal
from domain.records import STALE_AFTER
from panel.journal.relay import Relay
from panel.operators.prune import prune
from panel.power import progress
from panel.power.facts import FACTS, permitted
from panel.power.progress import TakenOverError
from panel.power.requests import Limited, Wanted, ask
from panel.power.views import actions_of_vps, list_actions
from tests.integration.panel.journal.test_relay import Recorder
from tests.support.databases import Database
from tests.support.fleets.switchable import PLACE, RULES, Place, make_switchable, spoil

OTHER = Place(vps_id=2, user_id=6, vmid=101, fingerprint="smbios:b")
HELD = (
    "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 't', 1, 'done');"
    "INSERT INTO holds (plan_hash, scope, reason, items, run_id)"
    " SELECT 'h', '{scope}', 'r', '[{{\"subject\": \"vps:1\"}}]', max(id) FROM runs"
)
DOUBTS = [
    ("suspended", "UPDATE vps SET order_state = 'suspended' WHERE id = 1", "vps_suspended"),
    ("its order is suspended", "UPDATE orders_seen SET state = 'suspended' WHERE order_id = '1'", "vps_suspended"),
    ("a call waits", "UPDATE vps_queues SET last_seq = 2 WHERE vps_id = 1", "vps_changing"),
    ("no order known", "DELETE FROM orders_seen WHERE order_id = '1'", "owner_in_doubt"),
    ("its order vanished", "UPDATE orders_seen SET unlisted_since = now() WHERE order_id = '1'", "owner_in_doubt"),
    ("the owner is not mapped", "UPDATE orders_seen SET owner = 'm77' WHERE order_id = '1'", "owner_in_doubt"),
    ("the owner is another", "UPDATE orders_seen SET owner = 'm6' WHERE order_id = '1'", "owner_in_doubt"),
    ("its order names another guest", "UPDATE orders_seen SET vmid = 300 WHERE order_id = '1'", "owner_in_doubt"),
    ("its order names another record", "UPDATE orders_seen SET panel_vps_id = 9 WHERE order_id = '1'",
     "owner_in_doubt"),
    ("another order names its guest", "UPDATE orders_seen SET vmid = 100 WHERE order_id = '2'", "owner_in_doubt"),
    ("another order names it", "UPDATE orders_seen SET panel_vps_id = 1 WHERE order_id = '2'", "owner_in_doubt"),
    *((f"{target} is paused", f"INSERT INTO pauses VALUES ('{target}', 'r', 'ann', now(), now() + interval '1 h')",
       "vps_paused") for target in ("all", "proxmox:main", "vps:1", "user:5")),
    *((f"{subject} is quarantined",
       "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 't', 1, 'done');"
       "INSERT INTO quarantine (subject, stage, cause, failures, first_failed_at, last_failed_at, next_try_at,"
       f" last_run_id) SELECT '{subject}', 'write', 'c', 1, now(), now(), now(), max(id) FROM runs", "vps_quarantined")
      for subject in ("vps:1", "order:1", "guest:main/100")),
    ("a change of it is held", HELD.format(scope="owners"), "vps_in_doubt"),
    *((f"a finding about {what}",
       f"INSERT INTO findings (class, subject, severity, reason, {columns})"
       f" VALUES ('sold-on', 's', 'alarm', 'r', {row})",
       "vps_in_doubt")
      for what, columns, row in (("the VPS", "vps_id", "1"), ("its order", "order_id", "'1'"),
                                 ("its guest", "cluster, vmid", "'main', 100"))),
    ("only pushed", "UPDATE vps SET link_state = 'pushed' WHERE id = 1", "identity_unverified"),
    ("its cluster is not configured", "UPDATE vps SET cluster = 'old' WHERE id = 1;"
     "UPDATE orders_seen SET cluster = 'old' WHERE order_id = '1'", "not_linked"),
    ("its cluster is not read", "INSERT INTO source_states (source, unwell_since, unwell_cause) VALUES"
     " ('proxmox:main', now(), 'unread')", "cluster_away"),
    ("its token is refused", "INSERT INTO source_states (source, backoff_state) VALUES ('proxmox:main',"
     " jsonb_build_object('open_until', now() + interval '1 min'))", "cluster_away"),
    ("its guest was never listed", "DELETE FROM guests WHERE vmid = 100", "guest_unknown"),
    ("a list left its guest out", "UPDATE guests SET unlisted_since = now() WHERE vmid = 100", "guest_unknown"),
    ("its guest is missing", "UPDATE vps SET missing_since = now() WHERE id = 1", "guest_unknown"),
    ("the identity is in doubt", "UPDATE guests SET fingerprint_state = 'stale' WHERE vmid = 100", "identity_in_doubt"),
    ("another machine", "UPDATE guests SET fingerprint = 'smbios:c' WHERE vmid = 100", "another_machine"),
    ("a clone", "UPDATE guests SET fingerprint = (SELECT fingerprint FROM vps WHERE id = 1) WHERE vmid = 101",
     "identity_in_doubt"),
    ("a record with the same machine",
     "UPDATE vps SET fingerprint = (SELECT fingerprint FROM vps WHERE id = 1) WHERE id = 2", "identity_in_doubt"),
    ("an identity tag twice", "UPDATE guests SET tags = '{pnl-8d3f1e64-0c5b-4e0c-9a77-3f4f5d2b1a00}'",
     "identity_in_doubt"),
    ("it is seen at a second place", "UPDATE guests SET moving_since = now() WHERE vmid = 100", "identity_in_doubt"),
    ("not confirmed lately", "UPDATE vps SET power_as_of = now() - interval '11 min' WHERE id = 1", "facts_stale"),
    ("the orders were not read lately", "UPDATE source_states SET delta_since = now() - interval '11 min'"
     " WHERE source = 'orders'", "facts_stale"),
    ("the orders were never read", "DELETE FROM source_states WHERE source = 'orders'", "facts_stale"),
    *((f"the feed is {cause}", "UPDATE source_states SET unwell_since = now(),"
       f" unwell_cause = '{cause}' WHERE source = 'orders'", "facts_stale")
      for cause in ("unread", "old", "mass-loss")),
    ("the feed is paused", "INSERT INTO pauses VALUES ('feed', 'r', 'ann', now(), now() + interval '1 h')",
     "facts_stale"),
    ("no known state", "UPDATE guests SET power = 'unknown' WHERE vmid = 100", "guest_unknown"),
    ("a template", "UPDATE guests SET template = true WHERE vmid = 100", "identity_in_doubt"),
]  # fmt: skip
HARMLESS = [
    ("an ended order named its guest", "UPDATE orders_seen SET vmid = 100, state = 'ended' WHERE order_id = '2'"),
    ("a pause is over", "INSERT INTO pauses VALUES ('all', 'r', 'ann', now(), now() - interval '1 h')"),
    ("a pause of the feed is over", "INSERT INTO pauses VALUES ('feed', 'r', 'ann', now(), now() - interval '1 h')"),
    ("the feed is incomplete", "UPDATE source_states SET unwell_since = now(), unwell_cause = 'incomplete'"),
    ("many machines turned at once", HELD.format(scope="flips:main:to stopped")),
    ("a finding is resolved", "INSERT INTO findings (class, subject, severity, reason, vps_id, resolved_at)"
     " VALUES ('sold-on', 's', 'alarm', 'r', 1, now())"),
    ("a template has the same identity", "UPDATE guests SET template = true, fingerprint ="
     " (SELECT fingerprint FROM vps WHERE id = 1) WHERE vmid = 101"),
    ("its node was read since", "UPDATE vps SET power_as_of = now() - interval '11 min' WHERE id = 1;"
     "INSERT INTO runs (kind, trigger, epoch, state) VALUES ('fast', 't', 1, 'done');"
     "INSERT INTO snapshots (run_id, source, scope, complete, count)"
     " SELECT max(id), 'proxmox:main', 'pve1', true, 2 FROM runs;"
     "INSERT INTO scopes (source, scope, snapshot_id, began_at, count)"
     " SELECT 'proxmox:main', 'pve1', max(id), now(), 2 FROM snapshots"),
]  # fmt: skip


@pytest.fixture
def panel(engine: Engine) -> Engine:
    make_switchable(engine)
    make_switchable(engine, OTHER)
    return engine


def change(engine: Engine, statements: str) -> None:
    for statement in statements.split(";"):
        spoil(engine, statement.replace("now()", "clock_timestamp()"))


def code_of(engine: Engine, place: Place = PLACE) -> str | None:
    with engine.connect() as connection:
        found = permitted(connection, place.vps_id, place.user_id, RULES)
    return found.code if isinstance(found, Refusal) else None


def test_what_is_in_doubt_is_refused(owner: Engine, panel: Engine, subtests: pytest.Subtests) -> None:
    assert (code_of(panel), code_of(panel, OTHER)) == (None, None)
    assert code_of(panel, replace(PLACE, user_id=6)) == "vps_unknown"
    assert code_of(panel, replace(PLACE, vps_id=77)) == "vps_unknown"
    cases = [*DOUBTS, *((name, statement, None) for name, statement in HARMLESS)]
    for name, statement, code in cases:
        with subtests.test(name), owner.connect() as connection:
            for one in statement.split(";"):
                connection.execute(text(one.replace("now()", "clock_timestamp()")))
            found = permitted(connection, 1, 5, RULES)
            assert (found.code if isinstance(found, Refusal) else None) == code
            connection.rollback()


def test_a_panel_whose_ids_are_the_main_sites(panel: Engine) -> None:
    spoil(panel, "UPDATE orders_seen SET owner = '5' WHERE order_id = '1'")
    with panel.connect() as connection:
        assert not isinstance(permitted(connection, 1, 5, replace(RULES, shared_ids=True)), Refusal)


def test_without_a_main_site_no_order_is_waited_for(panel: Engine) -> None:
    spoil(panel, "UPDATE source_states SET delta_since = NULL")
    with panel.connect() as connection:
        assert not isinstance(permitted(connection, 1, 5, replace(RULES, feed=None)), Refusal)


def test_without_a_main_site_the_last_call_must_not_be_dead(panel: Engine) -> None:
    """It may have suspended the VPS. What a feed shows, or a later call said, counts more."""
    call = ("INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at, reason)"
            " VALUES ('{}', 'update', 1, {}, 'sync', '{{}}', '{}', clock_timestamp(), 'r')")  # fmt: skip
    spoil(panel, call.format("sync", 2, "dead"))
    spoil(panel, call.format("operator", 3, "applied"))
    with panel.connect() as connection:
        assert not isinstance(permitted(connection, 1, 5, RULES), Refusal)
        refused = permitted(connection, 1, 5, replace(RULES, feed=None))
        assert isinstance(refused, Refusal)
        assert refused.code == "vps_quarantined"
        connection.execute(text(call.format("sync", 4, "applied")))
        assert not isinstance(permitted(connection, 1, 5, replace(RULES, feed=None)), Refusal)


def test_open_findings_about_others_are_not_looked_at(panel: Engine, owner: Engine) -> None:
    """A panel may have one for each guest, and each page of a VPS asks."""
    values = {"id": 1, "shared": False, "feed": "orders", "stale_after": STALE_AFTER, "subject": "[]",
              "doubtful": list(DOUBTFUL_FINDINGS)}  # fmt: skip
    with owner.begin() as connection:
        connection.execute(text(
            "INSERT INTO findings (class, subject, severity, reason, vps_id, order_id, cluster, vmid)"
            " SELECT 'unverified-guest', 's' || n, 'warning', 'r', n, 'o' || n, 'main', n"
            " FROM generate_series(1000, 4000) AS n"
        ))  # fmt: skip
        connection.execute(text("ANALYZE findings"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {FACTS}"), values | asdict(RULES.proof)))
    assert {"ix_findings_vps_id", "ix_findings_open_order", "ix_findings_open_guest"} <= set(
        re.findall(r"ix_\w+", plan)
    )


def wanted(action: Action = Action.STOP, place: Place = PLACE) -> Wanted:
    return Wanted(place.vps_id, place.user_id, action, force=False)


def asked(engine: Engine, action: Action = Action.STOP, place: Place = PLACE) -> Row[Any] | Refusal | Limited:
    with engine.begin() as connection:
        return ask(connection, wanted(action, place), RULES)


def stored(engine: Engine, action: Action = Action.STOP, place: Place = PLACE) -> int:
    row = asked(engine, action, place)
    assert isinstance(row, Row), row
    return int(row.id)


def test_of_many_at_once_one_is_accepted(panel: Engine) -> None:
    outcomes: list[Row[Any] | Refusal | Limited] = []
    ready = threading.Barrier(4)

    def click(action: Action) -> None:
        ready.wait()
        outcomes.append(asked(panel, action))

    clicks = [threading.Thread(target=click, args=(action,)) for action in Action]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    refused = [outcome.code for outcome in outcomes if isinstance(outcome, Refusal)]
    assert refused == ["power_action_in_progress"] * 3
    assert stored(panel, place=OTHER), "another VPS is not in the way"


def test_the_index_decides_not_the_code_before_it(panel: Engine) -> None:
    stored(panel)
    columns = "vps_id, user_id, action, force, cluster, vmid, guest_type, fingerprint, state, valid_until"
    with pytest.raises(DBAPIError) as refused:
        spoil(panel, f"INSERT INTO power_actions ({columns}) SELECT 1, 5, 'start', false, 'main', 999, 'qemu', 'f',"
              " 'queued', clock_timestamp()")  # fmt: skip
    assert getattr(refused.value.orig, "sqlstate", None) == "23505"


def test_a_customer_is_limited_by_the_hour(panel: Engine, owner: Engine) -> None:
    for _ in range(RULES.an_hour):
        action_id = stored(panel)
        spoil(owner, "UPDATE power_actions SET state = 'done', code = 'c', reason = 'r', ended_at = clock_timestamp()")
    spoil(owner, "UPDATE power_actions SET asked_at = asked_at - interval '10 min'")
    limited = asked(panel)
    assert isinstance(limited, Limited)
    assert 2900 < limited.retry_after_s <= 3001
    assert stored(panel, place=OTHER), "each customer has a limit of their own"
    spoil(owner, "UPDATE power_actions SET asked_at = asked_at - interval '51 min' WHERE id = :id", id=action_id)
    assert stored(panel)


# --- publishing


def test_the_relay_publishes_an_action_until_it_is_over(panel: Engine, owner: Engine, database: Database) -> None:
    recorder = Recorder()
    relay = Relay(database.app_url, recorder)
    action_id = stored(panel)
    relay.relay_once()
    assert [(bell.task, bell.argument) for bell in recorder.taken()] == [("power.act", action_id)]
    relay.relay_once()
    assert recorder.taken() == []
    spoil(owner, "UPDATE power_actions SET publish_at = clock_timestamp()")
    recorder.broken = True
    relay.relay_once()
    recorder.broken = False
    spoil(owner, "UPDATE power_actions SET publish_at = publish_at - interval '2 s'")
    relay.relay_once()
    assert len(recorder.taken()) == 1, "what the broker did not take is published again"
    spoil(owner, "UPDATE power_actions SET state = 'done', code = 'c', reason = 'r', ended_at = clock_timestamp(),"
          " publish_at = clock_timestamp()")  # fmt: skip
    relay.relay_once()
    assert recorder.taken() == []
    relay.stop()


OLD = "asked_at = asked_at - interval '36 min'"
GIVEN_UP = [
    ("no worker ever took it", OLD, ("failed", "expired")),
    ("its request was sent, perhaps", f"{OLD}, state = 'sending', sending_at = asked_at, begun_at = asked_at,"
     " command = 'stop', node = 'n', before = '{}'", ("unknown", "answer_lost")),
    ("half of a restart was done", f"{OLD}, step = 1", ("failed", "expired")),
    ("a worker has it", f"{OLD}, taken_until = clock_timestamp() + interval '1 min'", ("queued", None)),
    ("a worker may still end it", "asked_at = asked_at - interval '34 min'", ("queued", None)),
]  # fmt: skip


@pytest.mark.parametrize(("_name", "given", "end"), GIVEN_UP, ids=[case[0] for case in GIVEN_UP])
def test_an_action_that_no_worker_takes_does_not_stay_open(
    panel: Engine, owner: Engine, database: Database, _name: str, given: str, end: tuple[str, str | None]
) -> None:
    action_id = stored(panel)
    spoil(owner, f"UPDATE power_actions SET {given}")
    now = [0.0]
    relay = Relay(database.app_url, Recorder(), clock=lambda: now[0])
    now[0] = 16.0
    relay._check_lanes()
    relay.stop()
    with panel.connect() as connection:
        row = connection.execute(text("SELECT * FROM power_actions WHERE id = :id"), {"id": action_id}).one()
    assert (row.state, row.code) == end
    assert ("was stopped" in (row.reason or "")) == ("step" in given)


def test_calls_are_published_before_the_table_is_made(panel: Engine, owner: Engine, database: Database) -> None:
    spoil(panel, "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state)"
          " VALUES ('sync', 'update', 1, 2, 'sync', '{}', 'queued')")  # fmt: skip
    recorder, now = Recorder(), [0.0]
    relay = Relay(database.app_url, recorder, clock=lambda: now[0])
    spoil(owner, "ALTER TABLE power_actions RENAME TO not_yet")
    try:
        relay.relay_once()
        now[0] = 16.0
        relay._check_lanes()
    finally:
        spoil(owner, "ALTER TABLE not_yet RENAME TO power_actions")
        relay.stop()
    assert [bell.task for bell in recorder.taken()] == ["sync.apply"]


# --- progress


def test_an_action_is_taken_by_one_and_noted_once(panel: Engine, owner: Engine) -> None:
    action_id = stored(panel)
    before = Before("running", 1, 2, frozenset())
    with panel.begin() as connection:
        first = progress.take(connection, action_id)
        assert first is not None
        assert progress.take(connection, action_id) is None
    spoil(owner, "UPDATE power_actions SET taken_until = clock_timestamp() - interval '1 s'")
    with panel.begin() as connection:
        second = progress.take(connection, action_id)
        assert second is not None
    with panel.begin() as connection, pytest.raises(TakenOverError):
        progress.note_sending(connection, first, Command.SHUTDOWN, "pve1", before)
    with panel.begin() as connection:
        progress.note_sending(connection, second, Command.SHUTDOWN, "pve1", before)
    with panel.begin() as connection, pytest.raises(TakenOverError):
        progress.note_sending(connection, second, Command.SHUTDOWN, "pve1", before)


WRITTEN_ONCE = ("vps_id = 2", "user_id = 6", "action = 'start'", "force = true", "vmid = 101", "cluster = 'b'",
                "fingerprint = 'f'", "guest_type = 'lxc'", "asked_at = clock_timestamp()",
                "request_id = 'x'")  # fmt: skip


def test_who_asked_for_what_is_never_rewritten_or_deleted(panel: Engine) -> None:
    stored(panel)
    for statement in (*(f"UPDATE power_actions SET {one}" for one in WRITTEN_ONCE), "DELETE FROM power_actions"):
        with pytest.raises(DBAPIError) as denied:
            spoil(panel, statement)
        assert getattr(denied.value.orig, "sqlstate", None) == "42501", statement


def test_clients_see_what_they_asked_for_and_no_more(panel: Engine) -> None:
    stored(panel), stored(panel, place=OTHER)
    with panel.begin() as connection:
        connection.execute(text("SELECT set_config('role', 'panel_client', true)"))
        for user, seen in (("5", [1]), ("6", [2]), ("7", []), ("", [])):
            connection.execute(text("SELECT set_config('panel.user_id', :id, true)"), {"id": user})
            assert list(connection.scalars(text("SELECT vps_id FROM power_actions"))) == seen
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT fingerprint FROM power_actions"))


def test_operators_see_what_is_open_or_failed(panel: Engine, owner: Engine) -> None:
    first, second = stored(panel), stored(panel, place=OTHER)
    end = "UPDATE power_actions SET state = '{}', code = 'c', reason = 'r', ended_at = clock_timestamp() WHERE id = {}"
    spoil(owner, end.format("done", first))
    spoil(owner, end.format("unknown", second))
    with panel.connect() as connection:
        assert [row.id for row in list_actions(connection)] == [second]
        assert [row.id for row in list_actions(connection, everything=True)] == [second, first]
        assert [row.id for row in list_actions(connection, vps_id=1)] == []
        assert [row.id for row in actions_of_vps(connection, 1, 10)] == [first]


def test_old_actions_are_pruned_with_the_journal(panel: Engine, owner: Engine) -> None:
    old, young = stored(panel), stored(panel, place=OTHER)
    spoil(owner, "UPDATE power_actions SET state = 'done', code = 'c', reason = 'r', ended_at = clock_timestamp()")
    aged = "UPDATE power_actions SET asked_at = asked_at - interval '{0} d', ended_at = ended_at - interval '{0} d'"
    spoil(owner, aged.format(401) + f" WHERE id = {old}")
    spoil(owner, aged.format(399) + f" WHERE id = {young}")
    assert prune(panel, 400, RULES.proof)["power_actions"] == 1
    with panel.connect() as connection:
        assert [row.id for row in list_actions(connection, everything=True)] == [young]
