"""Facts that are written together leave every table as facts that are written one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from domain.changes import Change, Link, SetSize, SetStatus, Update
from domain.confirmations import OrderNamesGuest
from domain.guests import GuestKey
from panel.journal.accept import Acceptor
from panel.journal.repairs import NotWritten, Written, write_updates
from panel.journal.writer import apply_operation
from panel.runs.lease import FencedError
from reconcile.apply import REFUSALS, TOGETHER, apply_changes, sets_of
from reconcile.confirming import OutOfTimeError
from tests.integration.panel.conftest import EPOCH, accepted, begin_run, count, decided_on, setting, statements, write
from tests.support.calls import create_call, delete_call, update_call
from tests.support.fleets.world import vps_row
from tests.support.stand_ins.webhook_receiver import want_events

THEN = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
WHY: dict[str, Any] = {"source": "proxmox", "reason": "a test says so"}
STOPPED = {"power_state": "stopped", "power_source": "proxmox", "power_as_of": THEN, "power_changed_at": THEN}

FACTS: dict[str, dict[str, Any]] = {
    "stopped": STOPPED,
    "suspended": {"order_state": "suspended", "order_source": "orders"},
    "a larger plan": {"cpu": 8, "ram_mb": 16384},
    "a name to escape": {"name": 'a\\b "c" \t д €'},
    "missing": {"missing_since": THEN, "power_unconfirmed_since": THEN},
    "nothing new": {"cpu": 4},
    "an address": {"ip_address": "2001:db8::7", "ip6_address": None},
}
UNFIT = ("changed since", "a call waits", "deleted", "no record")


async def records(acceptor: Acceptor, panel: Engine, names: Sequence[str]) -> dict[str, int]:
    """For each name a record, as the name says."""
    ids = {}
    for name in names:
        created = await accepted(acceptor, create_call(status="running"))
        apply_operation(panel, created.operation_id)
        ids[name] = created.vps_id
        if name == "deleted":
            apply_operation(panel, (await accepted(acceptor, delete_call(created.vps_id))).operation_id)
        if name == "a call waits":
            await accepted(acceptor, update_call(created.vps_id, status="stopped"))
    return ids


def change_of(name: str, vps_id: int) -> Update:
    version = 7 if name == "changed since" else 2 if name == "deleted" else 1
    return setting(10**9 + vps_id if name == "no record" else vps_id, version, **FACTS.get(name, STOPPED))


def told(panel: Engine, ids: dict[str, int]) -> dict[str, list[Any]]:
    """By name of a record: the rows about it in every table that a repair writes, without ids and the clock's times."""
    found: dict[str, list[Any]] = {}
    with panel.connect() as connection:
        for name, vps_id in ids.items():
            rows = [row for query in WRITTEN for row in connection.scalars(text(query), {"id": vps_id})]
            found[name] = [without_clock(row) for row in rows]
    return found


WRITTEN = (
    "SELECT to_jsonb(v) FROM vps v WHERE id = :id",
    "SELECT to_jsonb(q) FROM vps_queues q WHERE vps_id = :id",
    "SELECT to_jsonb(o) FROM operations o WHERE vps_id = :id ORDER BY seq",
    "SELECT CAST(body AS jsonb) FROM webhook_events WHERE vps_id = :id ORDER BY id",
)
OF_EACH = {"id", "vps_id", "operation_id", "idempotency_key", "request_id", "order_id", "body_hash", "payload_hash"}


def without_clock(value: Any) -> Any:
    match value:
        case dict():
            return {name: without_clock(said) for name, said in value.items() if name not in OF_EACH}
        case list():
            return [without_clock(said) for said in value]
        case str() if TIME.match(value):
            return "then" if datetime.fromisoformat(value) == THEN else "a time"
        case _:
            return value


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


async def test_together_they_come_to_what_they_come_to_one_by_one(acceptor: Acceptor, panel: Engine) -> None:
    names = [*FACTS, *UNFIT]
    together, singly = await records(acceptor, panel, names), await records(acceptor, panel, names)
    want_events(panel)
    run_id = begin_run(panel)
    evidence = {"snapshot": 1}
    asked = [(change_of(name, vps_id), evidence) for name, vps_id in together.items()]
    as_one = write_updates(panel, run_id, EPOCH, asked)
    one_by_one = [write(panel, run_id, change_of(name, vps_id)) for name, vps_id in singly.items()]
    for name, one, other in zip(names, as_one, one_by_one, strict=True):
        assert type(one) is type(other), name
        if isinstance(one, Written) and isinstance(other, Written):
            assert (one.vps_id, one.text) == (together[name], other.text)
    assert [isinstance(one, NotWritten) for one in as_one] == [name in UNFIT for name in names]
    assert told(panel, together) == told(panel, singly)
    for name, values in FACTS.items():
        row = vps_row(panel, together[name])
        assert row is not None
        assert {column: row[column] for column in values} == values, name
    assert count(panel, "vps_queues WHERE queue_state = 'live'") == 2 * len(names) - 2, "but for the deleted ones"
    assert count(panel, "webhook_events") == 2 * len(FACTS)


async def test_the_next_fact_of_a_record_follows_the_version_of_this_run(acceptor: Acceptor, panel: Engine) -> None:
    ids = await records(acceptor, panel, ["stopped", "suspended"])
    run_id = begin_run(panel)
    changes = [change_of(name, vps_id) for name, vps_id in ids.items()]
    sizes = [SetSize(record=change.record, values={"cpu": 8}, **WHY) for change in changes]
    outcome = apply_changes(panel, run_id, EPOCH, [*changes, *sizes], AsksNothing())
    assert outcome.written == [*changes, *sizes]
    with panel.connect() as connection:
        assert list(connection.scalars(text("SELECT version FROM vps ORDER BY id"))) == [3, 3]


async def test_one_that_the_database_refuses_keeps_none_of_the_others(acceptor: Acceptor, panel: Engine) -> None:
    names = [*FACTS]
    ids = await records(acceptor, panel, names)
    changes = [change_of(name, vps_id) for name, vps_id in ids.items()]
    bad = setting(ids["suspended"], 1, cpu=-1)
    changes[1] = bad
    run_id = begin_run(panel)
    with pytest.raises(IntegrityError):
        write_updates(panel, run_id, EPOCH, [(change, {}) for change in changes])
    assert count(panel, "operations") == len(names), "nothing is half-written"
    outcome = apply_changes(panel, run_id, EPOCH, changes, AsksNothing())
    assert [change for change, _ in outcome.not_written] == [bad]
    assert outcome.written == [change for change in changes if change is not bad]
    assert [(failure.subject, failure.patience) for failure in outcome.failures] == [(bad.subject, REFUSALS)]


async def test_one_that_somebody_holds_keeps_none_of_the_others(acceptor: Acceptor, panel: Engine) -> None:
    """Nor does it hold the others up: while many wait for one, nobody's calls would be taken."""
    names = [*FACTS]
    ids = await records(acceptor, panel, names)
    changes = [change_of(name, vps_id) for name, vps_id in ids.items()]
    run_id = begin_run(panel)
    with panel.connect() as holder:
        holder.execute(text("SELECT FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": ids["missing"]})
        with pytest.raises(OperationalError, match="lock timeout"):
            write_updates(panel, run_id, EPOCH, [(change, {}) for change in changes])
        outcome = apply_changes(panel, run_id, EPOCH, changes, AsksNothing())
    assert [failure.subject for failure in outcome.failures] == [f"vps:{ids['missing']}"]
    assert len(outcome.written) == len(names) - 1


async def test_a_fenced_run_writes_none_of_them(acceptor: Acceptor, panel: Engine) -> None:
    ids = await records(acceptor, panel, list(FACTS))
    changes = [change_of(name, vps_id) for name, vps_id in ids.items()]
    run_id = begin_run(panel, EPOCH + 1)
    with pytest.raises(FencedError):
        write_updates(panel, run_id, EPOCH, [(change, {}) for change in changes])
    assert apply_changes(panel, run_id, EPOCH, changes, AsksNothing()).fenced
    assert count(panel, "operations") == len(FACTS)


async def test_when_the_time_is_over_what_was_written_stands_and_the_rest_is_left(
    acceptor: Acceptor, panel: Engine
) -> None:
    """The time ends while they are written one by one, because the database refuses the second."""
    ids = await records(acceptor, panel, ["stopped", "suspended", "missing"])
    changes = [change_of(name, vps_id) for name, vps_id in ids.items()]
    changes[1] = setting(ids["suspended"], 1, cpu=-1)
    outcome = apply_changes(panel, begin_run(panel), EPOCH, changes, AsksNothing(times=4))
    assert outcome.written == changes[:1]
    assert outcome.postponed == changes[1:]
    assert count(panel, "operations") == len(ids) + 1


async def test_many_cost_the_statements_of_one(acceptor: Acceptor, panel: Engine) -> None:
    ids = await records(acceptor, panel, [str(n) for n in range(2)])
    more = await records(acceptor, panel, [str(n) for n in range(20)])
    run_id = begin_run(panel)
    seen = []
    for some in (ids, more):
        changes = [change_of("stopped", vps_id) for vps_id in some.values()]
        with statements(panel) as sent:
            assert len(apply_changes(panel, run_id, EPOCH, changes, AsksNothing()).written) == len(some)
        seen.append(len(sent))
    assert seen[0] == seen[1]


class AsksNothing:
    """Confirms whatever is asked, for so many times."""

    def __init__(self, times: int = 1_000) -> None:
        self.left = times

    def hindrance(self, _change: Change) -> tuple[str | None, dict[str, Any]]:
        if self.left == 0:
            raise OutOfTimeError
        self.left -= 1
        return None, {}


def a_link(vps_id: int) -> Link:
    asks = OrderNamesGuest("1", None, GuestKey("main", 100), or_none=False)
    return Link(record=decided_on(vps_id, 1), values={"node": "pve2"}, confirm=(asks,), **WHY)


CHANGES = st.lists(
    st.one_of(
        st.builds(lambda n: SetStatus(record=decided_on(n, 1), values=STOPPED, **WHY), st.integers(1, 9)),
        st.builds(lambda n: SetStatus(record=decided_on(n, 1), values=STOPPED, adoption=3, **WHY), st.integers(1, 9)),
        st.builds(a_link, st.integers(1, 9)),
        st.builds(lambda n: Link(record=decided_on(n, 1), values={"order_id": "1"}, **WHY), st.integers(1, 9)),
    ),
    max_size=40,
)


@given(CHANGES)
def test_sets_keep_the_order_and_have_no_record_twice(changes: list[Change]) -> None:
    sets = list(sets_of(changes))
    assert [change for together in sets for change in together] == changes
    for together in sets:
        assert len({change.subject for change in together}) == len(together)
        asks = [change for change in together if change.confirm or change.adoption or "order_id" in change.values]
        assert len(together) == 1 or not asks


def test_a_set_has_an_end() -> None:
    changes = [setting(n, 1, **STOPPED) for n in range(1, 2 * TOGETHER + 2)]
    assert [len(together) for together in sets_of(changes)] == [TOGETHER, TOGETHER, 1]
