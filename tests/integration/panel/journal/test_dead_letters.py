"""Calls that fail for good: counted even when they kill their process, in nobody's way, and an operator's to decide."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from panel.journal import dead_letters, writer
from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted, Refused
from panel.journal.writer import MAX_ATTEMPTS, apply_operation
from panel.operator_error import OperatorError
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.panel.conftest import accepted
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import Database
from tests.support.fleets.world import journal, operation, vps_row
from tests.support.stand_ins.refusing import allow, refuse

POISON = "poison"

pytestmark = pytest.mark.faults


class KilledError(BaseException):
    """The process ends here: nothing behind it runs, and PostgreSQL undoes its transaction."""


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever applies a call that names the poison is killed."""
    apply_one = writer._apply_one

    def deadly(connection: Any, row: Any, operation: Any) -> Any:
        if operation.payload.get("os") == POISON:
            raise KilledError
        return apply_one(connection, row, operation)

    monkeypatch.setattr(writer, "_apply_one", deadly)


def die(panel: Engine, operation_id: int, *, first: bool = True) -> None:
    """Try it until it is dead: by its first message, and by the ones that follow."""
    for attempt in range(MAX_ATTEMPTS + first):
        with pytest.raises(KilledError):
            apply_operation(panel, operation_id, again=attempt >= first)
    assert apply_operation(panel, operation_id, again=True).state == "dead"


@pytest.mark.usefixtures("killing")
async def test_a_call_that_kills_its_process_is_dead_in_the_end(acceptor: Acceptor, panel: Engine) -> None:
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    later = (await accepted(acceptor, update_call(vps_id, "stopped"))).operation_id
    die(panel, poison)
    row = operation(panel, poison)
    assert (row["attempts"], row["error"]) == (MAX_ATTEMPTS, f"none of {MAX_ATTEMPTS} attempts came to an end")
    assert apply_operation(panel, later).state == "applied"
    assert [row["state"] for row in journal(panel, vps_id)] == ["applied", "dead", "applied"]


@pytest.mark.usefixtures("killing")
async def test_it_kills_from_behind_a_later_call_too(acceptor: Acceptor, panel: Engine) -> None:
    """The message names another call of the queue: the one that kills is counted, and that one only."""
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    later = (await accepted(acceptor, update_call(vps_id, "stopped"))).operation_id
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(KilledError):
            apply_operation(panel, later, again=True)
    assert apply_operation(panel, later, again=True).state == "applied"
    assert operation(panel, poison)["state"] == "dead"
    assert [row["attempts"] for row in journal(panel, vps_id)] == [0, MAX_ATTEMPTS, 0]


async def test_a_database_that_goes_away_is_not_counted(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await accepted(acceptor, create_call())

    def cut(connection: Any, *_: Any) -> Any:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_apply_one", cut)
        for _ in range(MAX_ATTEMPTS + 1):
            with pytest.raises(DBAPIError):
                apply_operation(panel, created.operation_id, again=True)
    assert apply_operation(panel, created.operation_id, again=True).state == "applied"
    assert operation(panel, created.operation_id)["attempts"] == 0


async def test_cuts_that_leave_no_time_to_take_a_note_back_are_not_counted_either(
    acceptor: Acceptor, panel: Engine, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away for longer, each time just after the attempt was noted."""
    created = await accepted(acceptor, create_call())

    def crash(*_: Any) -> Any:
        postgres_server.kill()
        raise OperationalError("SELECT 1", {}, psycopg.OperationalError("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_apply_one", crash)
        for _ in range(MAX_ATTEMPTS + 1):
            with pytest.raises(DBAPIError):
                apply_operation(panel, created.operation_id, again=True)
            with pytest.raises(DBAPIError):  # away still
                apply_operation(panel, created.operation_id, again=True)
            postgres_server.start()
    assert apply_operation(panel, created.operation_id, again=True).state == "applied"
    assert operation(panel, created.operation_id)["attempts"] == 0


POISONS = ("0A000", "22023", "23514", "42883", "54000", "P0001", "XX000")


@pytest.mark.parametrize(
    ("sqlstate", "rung"),
    [*((state, "itself") for state in POISONS), ("23514", "a later call"), ("XX000", "a later call")],
)
async def test_what_the_database_refuses_is_dead_in_the_end_whatever_it_says(
    acceptor: Acceptor, panel: Engine, database: Database, sqlstate: str, rung: str
) -> None:
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    later = (await accepted(acceptor, update_call(vps_id, "stopped"))).operation_id
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "vps", "UPDATE", sqlstate, f"NEW.os = '{POISON}'")
    for attempt in range(MAX_ATTEMPTS):
        apply_operation(panel, poison if rung == "itself" else later, again=attempt > 0)
    row = operation(panel, poison)
    assert (row["state"], row["attempts"]) == ("dead", MAX_ATTEMPTS)
    assert sqlstate in row["error"]
    assert apply_operation(panel, later).state == "applied"


@pytest.mark.parametrize("sqlstate", ["25006", "40001", "42501", "42P01", "53100", "55P03", "57014", "58030"])
async def test_what_is_the_database_s_own_fault_is_never_counted(
    acceptor: Acceptor, panel: Engine, database: Database, sqlstate: str
) -> None:
    created = await accepted(acceptor, create_call())
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "vps", "INSERT", sqlstate)
        for attempt in range(MAX_ATTEMPTS + 2):
            with pytest.raises(DBAPIError):
                apply_operation(panel, created.operation_id, again=attempt > 0)
        allow(owner, "vps")
    assert operation(panel, created.operation_id)["attempts"] == 0
    assert apply_operation(panel, created.operation_id, again=True).state == "applied"


async def test_what_only_the_commit_refuses_is_dead_in_the_end(
    acceptor: Acceptor, panel: Engine, database: Database
) -> None:
    """By a deferred constraint, for one: no savepoint sees it."""
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    later = (await accepted(acceptor, update_call(vps_id, "stopped"))).operation_id
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "vps", "UPDATE", "P0001", f"NEW.os = '{POISON}'", deferred=True)
    for attempt in range(MAX_ATTEMPTS + 1):
        with pytest.raises(DBAPIError):
            apply_operation(panel, later, again=attempt > 0)
    assert apply_operation(panel, later, again=True).state == "applied"
    row = operation(panel, poison)
    assert (row["state"], row["attempts"], row["error"]) == ("dead", MAX_ATTEMPTS, "RaiseException P0001")


@pytest.mark.usefixtures("killing")
async def test_the_order_of_a_dead_create_is_free_again(acceptor: Acceptor, panel: Engine) -> None:
    dead = await accepted(acceptor, create_call(os=POISON, order_id="7041"))
    die(panel, dead.operation_id)
    for call in (update_call(dead.vps_id), delete_call(dead.vps_id)):
        outcome = await acceptor.accept(call)
        assert isinstance(outcome, Refused)
        assert outcome.code == "vps_unknown"
    anew = await accepted(acceptor, create_call(order_id="7041"))
    assert anew.vps_id != dead.vps_id
    assert apply_operation(panel, anew.operation_id).state == "applied"
    with panel.begin() as connection, pytest.raises(OperatorError, match=f"belongs to VPS {anew.vps_id} by now"):
        dead_letters.requeue(connection, dead.operation_id)


@pytest.mark.parametrize("action", ["create", "update", "delete"])
async def test_a_dead_call_is_tried_once_more(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    created = await accepted(acceptor, create_call())
    call = created
    if action != "create":
        apply_operation(panel, created.operation_id)
        made = delete_call(created.vps_id) if action == "delete" else update_call(created.vps_id, "running")
        call = await accepted(acceptor, made)

    def killed(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_apply_one", killed)
        die(panel, call.operation_id)
    with panel.begin() as connection:
        assert [one.id for one in dead_letters.list_dead(connection)] == [call.operation_id]
        again = dead_letters.requeue(connection, call.operation_id)
        assert dead_letters.list_dead(connection) == []
    assert apply_operation(panel, again).state == "applied"
    old = operation(panel, call.operation_id)
    assert (old["state"], old["reason"]) == (
        "superseded",
        f"tried once more as operation {again}, as an operator decided",
    )
    row = vps_row(panel, created.vps_id)
    assert row is not None
    assert (row["deleted_at"] is not None, row["status"]) == {
        "create": (False, "creating"), "update": (False, "running"), "delete": (True, "creating"),
    }[action]  # fmt: skip
    with panel.begin() as connection, pytest.raises(OperatorError, match="is superseded, not dead"):
        dead_letters.requeue(connection, call.operation_id)


@pytest.mark.usefixtures("killing")
async def test_a_dead_update_does_not_undo_a_later_one(acceptor: Acceptor, panel: Engine) -> None:
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    die(panel, poison)
    await accepted(acceptor, update_call(vps_id, "stopped"))
    with panel.begin() as connection, pytest.raises(OperatorError, match="was changed since"):
        dead_letters.requeue(connection, poison)
    with panel.begin() as connection:
        dead_letters.discard(connection, poison, "the order is gone")
    row = operation(panel, poison)
    assert (row["state"], row["reason"]) == ("rejected", "an operator left it undone: the order is gone")


@pytest.fixture
async def undeleted(acceptor: Acceptor, panel: Engine, database: Database) -> tuple[Accepted, Accepted]:
    """The create of a live record with order 7041, and its delete, which is dead."""
    created = await accepted(acceptor, create_call(order_id="7041"))
    apply_operation(panel, created.operation_id)
    deleted = await accepted(acceptor, delete_call(created.vps_id))
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "vps", "UPDATE", "22023", "NEW.deleted_at IS NOT NULL")
        for _ in range(MAX_ATTEMPTS):
            apply_operation(panel, deleted.operation_id)
        allow(owner, "vps")
    assert operation(panel, deleted.operation_id)["state"] == "dead"
    return created, deleted


class TestDeadDelete:
    """Its record lives on: nobody is told anything else, and nobody waits for it."""

    async def test_sent_again_it_is_journaled_again(
        self, acceptor: Acceptor, panel: Engine, undeleted: tuple[Accepted, Accepted]
    ) -> None:
        created, dead = undeleted
        again = await accepted(acceptor, delete_call(created.vps_id))
        assert (again.created, again.state) == (True, "queued")
        assert apply_operation(panel, again.operation_id).state == "applied"
        row = vps_row(panel, created.vps_id)
        assert row is not None
        assert row["deleted_at"] is not None
        with panel.begin() as connection, pytest.raises(OperatorError, match="is deleted"):
            dead_letters.requeue(connection, dead.operation_id)

    @pytest.mark.parametrize("discarded", [False, True], ids=["dead", "discarded"])
    async def test_its_record_takes_calls(
        self, acceptor: Acceptor, panel: Engine, undeleted: tuple[Accepted, Accepted], *, discarded: bool
    ) -> None:
        created, dead = undeleted
        if discarded:
            with panel.begin() as connection:
                dead_letters.discard(connection, dead.operation_id, "sold again")
        updated = await accepted(acceptor, update_call(created.vps_id))
        assert apply_operation(panel, updated.operation_id).state == "applied"
        known = await accepted(acceptor, create_call(order_id="7041"))
        assert (known.created, known.vps_id) == (False, created.vps_id)


@pytest.mark.parametrize("discarded", [False, True], ids=["dead", "discarded"])
async def test_a_create_waits_for_no_delete_that_is_dead(
    acceptor: Acceptor, panel: Engine, database: Database, *, discarded: bool
) -> None:
    """It was accepted while the delete of its order's older record was under way, which then failed for good."""
    old = await accepted(acceptor, create_call(order_id="7041"))
    apply_operation(panel, old.operation_id)
    gone = await accepted(acceptor, delete_call(old.vps_id))
    new = await accepted(acceptor, create_call(order_id="7041"))
    updated = await accepted(acceptor, update_call(new.vps_id, "running"))
    assert apply_operation(panel, updated.operation_id).state == "queued"
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "vps", "UPDATE", "22023", "NEW.deleted_at IS NOT NULL")
        for _ in range(MAX_ATTEMPTS):
            apply_operation(panel, gone.operation_id)
        allow(owner, "vps")
    if discarded:
        with panel.begin() as connection:
            dead_letters.discard(connection, gone.operation_id, "kept")
    assert apply_operation(panel, updated.operation_id, again=True).state == "rejected"
    row = operation(panel, new.operation_id)
    why = f"order 7041 belongs to vps={old.vps_id}: the delete of that VPS failed"
    assert (row["state"], row["error"]) == ("dead", why)
    known = await accepted(acceptor, create_call(order_id="7041"))  # as of any order that has its record
    assert (known.created, known.vps_id) == (False, old.vps_id)
    with panel.begin() as connection, pytest.raises(OperatorError, match=f"belongs to VPS {old.vps_id} by now"):
        dead_letters.requeue(connection, new.operation_id)

    deleted = await accepted(acceptor, delete_call(old.vps_id))
    with panel.begin() as connection:
        again = dead_letters.requeue(connection, new.operation_id)
    assert apply_operation(panel, again).state == "queued"
    assert apply_operation(panel, deleted.operation_id).state == "applied"
    assert apply_operation(panel, again).state == "applied"
    found = await accepted(acceptor, update_call(None, "stopped", order_id="7041"))
    assert found.vps_id == new.vps_id


@pytest.mark.parametrize(
    ("operation_id", "reason", "said"),
    [(4711, "why", "there is no call 4711"), (1, "why", "is queued, not dead"), (1, " ", "needs a reason")],
    ids=["unknown", "not dead", "no reason"],
)
async def test_what_cannot_be_discarded(
    acceptor: Acceptor, panel: Engine, operation_id: int, reason: str, said: str
) -> None:
    await accepted(acceptor, create_call())
    with panel.begin() as connection, pytest.raises(OperatorError, match=said):
        dead_letters.discard(connection, operation_id, reason)


@pytest.mark.parametrize("delete", ["queued", "rejected"])
async def test_a_dead_create_is_not_tried_again_after_its_delete(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch, delete: str
) -> None:
    """The main site was told 202 for the delete: the VPS must not come."""
    created = await accepted(acceptor, create_call(order_id="7041"))
    deleted = await accepted(acceptor, delete_call(created.vps_id))

    def killed(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_apply_one", killed)
        die(panel, created.operation_id)
    if delete == "rejected":
        assert apply_operation(panel, deleted.operation_id).state == "rejected"
    why = (
        f"VPS {created.vps_id} was deleted by a later call (operation {deleted.operation_id}); discard this create. "
        "If the VPS is wanted after all, let the main site create it anew"
    )
    with panel.begin() as connection, pytest.raises(OperatorError) as refusal:
        dead_letters.requeue(connection, created.operation_id)
    assert str(refusal.value) == why
    with panel.begin() as connection:
        dead_letters.discard(connection, created.operation_id, "deleted since")
    assert vps_row(panel, created.vps_id) is None
