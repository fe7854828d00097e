"""What the journal takes, what it refuses, and what it says at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Engine, text

from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted, Call, Refused, Replayed
from panel.journal.writer import apply_operation
from tests.integration.panel.conftest import accepted, count, facts_of, refused
from tests.support.calls import create_call, delete_call, update_call
from tests.support.fleets.world import journal, operation, vps_row


async def test_the_first_answer_is_what_the_worker_writes(acceptor: Acceptor, panel: Engine) -> None:
    answer = await accepted(acceptor, create_call(order_id="o-1", ip_address="192.0.2.7", ip6_address="2001:db8::7"))
    assert (answer.state, answer.created, answer.vps_id) == ("queued", True, 1)
    assert vps_row(panel, 1) is None
    apply_operation(panel, answer.operation_id)
    row = vps_row(panel, 1)
    assert row is not None
    told = {
        "id": row["id"],
        "user_id": row["user_id"],
        "name": row["name"],
        "status": row["status"],
        "cpu": row["cpu"],
        "ram": row["ram_mb"],
        "disk": row["disk_gb"],
        "os": row["os"],
        "hypervisor": row["hypervisor"],
        "ip_address": row["ip_address"],
        "ip6_address": row["ip6_address"],
        "order_id": row["order_id"],
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
    assert answer.record | told == answer.record


async def test_calls_that_arrive_together_share_commits(acceptor: Acceptor, panel: Engine) -> None:
    answers = await asyncio.gather(*(acceptor.accept(create_call(name=f"vps-{n}")) for n in range(60)))
    ids = [answer.vps_id for answer in answers if isinstance(answer, Accepted)]
    assert sorted(ids) == list(range(1, 61))
    with panel.connect() as connection:
        commits = connection.scalar(text("SELECT count(DISTINCT xmin::text) FROM operations"))
    # The first call goes alone, since nothing else waited when it came.
    assert commits is not None
    assert commits <= 3


async def test_a_refused_call_spoils_no_other_of_its_batch(acceptor: Acceptor, panel: Engine) -> None:
    calls = [create_call(), create_call(user_id=404), update_call(999), create_call(name="second")]
    outcomes = await asyncio.gather(*(acceptor.accept(call) for call in calls))
    assert [facts_of(outcome) for outcome in outcomes] == [
        ("accepted", 1),
        ("user_unknown", 422),
        ("vps_unknown", 404),
        ("accepted", outcomes[3].vps_id if isinstance(outcomes[3], Accepted) else 0),
    ]
    assert count(panel, "operations") == 2


@pytest.mark.parametrize(
    ("call", "status_code", "code", "message"),
    [
        pytest.param(
            create_call(user_id=404), 422, "user_unknown", "User 404 does not exist in the panel database", id="user"
        ),
        pytest.param(update_call(999), 404, "vps_unknown", "VPS 999 does not exist in the panel", id="update by id"),
        pytest.param(delete_call(999), 404, "vps_unknown", "VPS 999 does not exist in the panel", id="delete by id"),
        pytest.param(
            update_call(None, order_id="o-9"),
            404,
            "vps_unknown",
            "VPS of order o-9 does not exist in the panel",
            id="update by order",
        ),
    ],
)
async def test_a_refusal_leaves_nothing_but_its_audit(
    acceptor: Acceptor, panel: Engine, call: Call, status_code: int, code: str, message: str
) -> None:
    outcome = await refused(acceptor, call)
    assert (outcome.status_code, outcome.code, outcome.message) == (status_code, code, message)
    assert {
        table: count(panel, table) for table in ("operations", "vps_queues", "vps", "order_claims", "idempotency_keys")
    } == {
        "operations": 0,
        "vps_queues": 0,
        "vps": 0,
        "order_claims": 0,
        "idempotency_keys": 0,
    }
    with panel.connect() as connection:
        audit = connection.execute(text("SELECT status_code, code, message FROM refused_calls")).all()
    assert [tuple(row) for row in audit] == [(status_code, code, message)]


async def test_an_unknown_user_asks_for_the_users_import_once(acceptor: Acceptor, panel: Engine) -> None:
    await asyncio.gather(*(acceptor.accept(create_call(user_id=404)) for _ in range(5)))
    with panel.connect() as connection:
        task_requests = connection.execute(text("SELECT task, subject FROM task_requests")).all()
    assert [tuple(row) for row in task_requests] == [("users.import", "")]


async def test_a_queue_that_its_own_batch_makes_and_changes_is_stored_as_it_ends(
    acceptor: Acceptor, panel: Engine
) -> None:
    calls = [create_call(order_id="o-1"), update_call(None, order_id="o-1"), delete_call(None, order_id="o-1")]
    outcomes = await asyncio.gather(acceptor.accept(create_call()), *map(acceptor.accept, calls))
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    with panel.connect() as connection:
        queue = connection.execute(text("SELECT last_seq, queue_state FROM vps_queues WHERE order_id = 'o-1'")).one()
        commits = connection.scalar(text("SELECT count(DISTINCT xmin::text) FROM operations WHERE vps_id = 2"))
    assert (tuple(queue), commits) == ((3, "deleted"), 1)


async def test_order_per_vps_is_the_order_of_journaling(acceptor: Acceptor, panel: Engine) -> None:
    first, second = [(await accepted(acceptor, create_call(name=name))).vps_id for name in ("a", "b")]
    for status in ("running", "stopped", "running"):
        await accepted(acceptor, update_call(first, status))
        await accepted(acceptor, update_call(second, status))
    for vps_id in (first, second):
        rows = journal(panel, vps_id)
        assert [(row["seq"], row["payload"].get("status")) for row in rows] == [
            (1, "creating"),
            (2, "running"),
            (3, "stopped"),
            (4, "running"),
        ]


async def test_an_answer_shows_what_is_queued_before_it(acceptor: Acceptor) -> None:
    created = await accepted(acceptor, create_call())
    updated = await accepted(acceptor, update_call(created.vps_id, "running", name="renamed"))
    assert (updated.record["status"], updated.record["name"]) == ("running", "renamed")
    deleted = await accepted(acceptor, delete_call(created.vps_id))
    assert deleted.message == "VPS 1 is being deleted"


async def test_equal_names_of_one_user_are_two_vps(acceptor: Acceptor) -> None:
    first = await accepted(acceptor, create_call(name="same"))
    second = await accepted(acceptor, create_call(name="same"))
    assert (first.vps_id, second.vps_id) == (1, 2)


class TestDeleted:
    """A tombstone beats what comes late, from the moment the delete is accepted."""

    async def test_a_second_delete_succeeds_and_names_the_first(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = (await accepted(acceptor, create_call())).vps_id
        deleted = await accepted(acceptor, delete_call(vps_id))
        again = await accepted(acceptor, delete_call(vps_id))
        assert (again.created, again.operation_id) == (False, deleted.operation_id)
        assert (again.state, again.message) == ("queued", "VPS 1 is being deleted already")
        apply_operation(panel, deleted.operation_id)
        later = await accepted(acceptor, delete_call(vps_id))
        assert (later.created, later.operation_id) == (False, deleted.operation_id)
        assert (later.state, later.message) == ("applied", "VPS 1 was already deleted")
        assert len(journal(panel, vps_id)) == 2

    async def test_two_deletes_of_one_commit_name_the_same_operation(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = (await accepted(acceptor, create_call())).vps_id
        first, again = await asyncio.gather(*(accepted(acceptor, delete_call(vps_id)) for _ in range(2)))
        assert [first.created, again.created] == [True, False]
        assert again.operation_id == first.operation_id == journal(panel, vps_id)[-1]["id"]
        assert again.state == "queued"

    async def test_an_update_is_refused_though_the_delete_is_only_queued(self, acceptor: Acceptor) -> None:
        vps_id = (await accepted(acceptor, create_call())).vps_id
        await accepted(acceptor, delete_call(vps_id))
        late = await refused(acceptor, update_call(vps_id))
        assert (late.status_code, late.code) == (404, "vps_deleted")

    async def test_a_create_after_it_is_a_new_intent(self, acceptor: Acceptor) -> None:
        first = await accepted(acceptor, create_call(order_id="o-1"))
        await accepted(acceptor, delete_call(None, order_id="o-1"))
        second = await accepted(acceptor, create_call(order_id="o-1"))
        assert second.created
        assert second.vps_id != first.vps_id
        updated = await accepted(acceptor, update_call(None, order_id="o-1"))
        assert updated.vps_id == second.vps_id


class TestOrderClaim:
    """An order id makes a create safe to repeat."""

    async def test_a_repeated_create_gives_the_same_vps(self, acceptor: Acceptor, panel: Engine) -> None:
        first = await accepted(acceptor, create_call(order_id="o-1"))
        again = await accepted(acceptor, create_call(order_id="o-1", name="another"))
        assert (again.vps_id, again.operation_id, again.created) == (first.vps_id, first.operation_id, False)
        assert again.record["name"] == "test-vps-01"
        assert count(panel, "operations") == 1

    async def test_a_create_that_is_applied_says_so_while_later_calls_wait(
        self, acceptor: Acceptor, panel: Engine
    ) -> None:
        first = await accepted(acceptor, create_call(order_id="o-1"))
        apply_operation(panel, first.operation_id)
        await accepted(acceptor, update_call(first.vps_id))
        again = await accepted(acceptor, create_call(order_id="o-1"))
        assert (again.operation_id, again.state, again.created) == (first.operation_id, "applied", False)

    async def test_within_one_batch_too(self, acceptor: Acceptor, panel: Engine) -> None:
        outcomes = await asyncio.gather(*(acceptor.accept(create_call(order_id="o-1")) for _ in range(20)))
        assert {outcome.vps_id for outcome in outcomes if isinstance(outcome, Accepted)} == {
            journal(panel, 1)[0]["vps_id"]
        }
        assert sum(isinstance(outcome, Accepted) and outcome.created for outcome in outcomes) == 1
        assert {outcome.operation_id for outcome in outcomes if isinstance(outcome, Accepted)} == {
            journal(panel, 1)[0]["id"]
        }
        assert count(panel, "operations") == 1

    async def test_an_update_in_the_create_s_own_batch_finds_it(self, acceptor: Acceptor, panel: Engine) -> None:
        created, updated = await asyncio.gather(
            acceptor.accept(create_call(order_id="o-1")), acceptor.accept(update_call(None, order_id="o-1"))
        )
        assert [facts_of(created), facts_of(updated)] == [("accepted", 1), ("accepted", 1)]
        assert [row["action"] for row in journal(panel, 1)] == ["create", "update"]


class TestIdempotencyKey:
    """The same key and body get the first answer again; nothing is written twice."""

    async def test_a_retry_is_answered_with_the_first_answer(self, acceptor: Acceptor, panel: Engine) -> None:
        first = await accepted(acceptor, create_call(key="k-1"))
        again = await acceptor.accept(create_call(key="k-1"))
        assert isinstance(again, Replayed)
        assert (again.operation_id, again.vps_id, again.status_code) == (first.operation_id, first.vps_id, 202)
        assert again.answer["vps"] == first.record
        assert count(panel, "operations") == 1

    async def test_what_a_waiting_call_was_told_is_replayed(self, acceptor: Acceptor) -> None:
        await accepted(acceptor, create_call(key="k-1"))
        await acceptor.store_final_answer("k-1", 201, {"status": "success", "message": "done"})
        again = await acceptor.accept(create_call(key="k-1"))
        assert isinstance(again, Replayed)
        assert (again.status_code, again.answer["message"]) == (201, "done")

    async def test_another_body_under_the_same_key_is_refused(self, acceptor: Acceptor, panel: Engine) -> None:
        await accepted(acceptor, create_call(key="k-1"))
        outcome = await refused(acceptor, create_call(key="k-1", name="another"))
        assert (outcome.status_code, outcome.code) == (422, "idempotency_key_reused")
        assert count(panel, "operations") == 1

    async def test_the_same_key_while_the_first_is_under_way(self, acceptor: Acceptor, panel: Engine) -> None:
        outcomes = await asyncio.gather(*(acceptor.accept(create_call(key="k-1")) for _ in range(10)))
        assert sum(isinstance(outcome, Accepted) for outcome in outcomes) == 1
        others = [outcome for outcome in outcomes if not isinstance(outcome, Accepted)]
        assert all(isinstance(o, Replayed) or (isinstance(o, Refused) and o.status_code == 409) for o in others)
        assert count(panel, "operations") == 1

    async def test_a_refused_call_leaves_its_key_reusable(self, acceptor: Acceptor) -> None:
        await refused(acceptor, create_call(user_id=404, key="k-1"))
        await accepted(acceptor, create_call(key="k-1"))

    async def test_a_replay_after_the_delete_returns_the_old_answer(self, acceptor: Acceptor) -> None:
        first = await accepted(acceptor, create_call(key="k-1", order_id="o-1"))
        await accepted(acceptor, delete_call(first.vps_id))
        again = await acceptor.accept(create_call(key="k-1", order_id="o-1"))
        assert isinstance(again, Replayed)
        assert again.vps_id == first.vps_id


async def test_a_no_op_keeps_its_key_with_the_operation_that_did_it(acceptor: Acceptor, panel: Engine) -> None:
    first = await accepted(acceptor, create_call(order_id="o-1"))
    again = await accepted(acceptor, create_call(order_id="o-1", key="k-1"))
    assert operation(panel, again.operation_id)["id"] == first.operation_id
    replayed = await acceptor.accept(create_call(order_id="o-1", key="k-1"))
    assert isinstance(replayed, Replayed)
    assert replayed.status_code == 200
