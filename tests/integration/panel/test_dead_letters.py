"""Calls that fail for good: counted even when they kill their process, in nobody's way, and an operator's to decide."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from panel import dead_letters, writer
from panel.accept import Acceptor
from panel.calls import Refused
from panel.operators import OperatorError
from panel.writer import MAX_ATTEMPTS, apply_operation
from tests.integration.panel.conftest import accepted
from tests.support.calls import create_call, delete_call, update_call
from tests.support.world import journal, operation, vps_row

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
    """The message names another call of the lane: the one that kills is counted, and that one only."""
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
        dead_letters.requeue(connection, dead.operation_id, "ann")


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
        again = dead_letters.requeue(connection, call.operation_id, "ann")
        assert dead_letters.list_dead(connection) == []
    assert apply_operation(panel, again).state == "applied"
    old = operation(panel, call.operation_id)
    assert (old["state"], old["reason"]) == ("superseded", f"tried once more as operation {again}, by ann")
    row = vps_row(panel, created.vps_id)
    assert row is not None
    assert (row["deleted_at"] is not None, row["status"]) == {
        "create": (False, "creating"), "update": (False, "running"), "delete": (True, "creating"),
    }[action]  # fmt: skip
    with panel.begin() as connection, pytest.raises(OperatorError, match="is superseded, not dead"):
        dead_letters.requeue(connection, call.operation_id, "ann")


@pytest.mark.usefixtures("killing")
async def test_a_dead_update_does_not_undo_a_later_one(acceptor: Acceptor, panel: Engine) -> None:
    vps_id = (await accepted(acceptor, create_call())).vps_id
    poison = (await accepted(acceptor, update_call(vps_id, os=POISON))).operation_id
    die(panel, poison)
    await accepted(acceptor, update_call(vps_id, "stopped"))
    with panel.begin() as connection, pytest.raises(OperatorError, match="was changed since"):
        dead_letters.requeue(connection, poison, "ann")
    with panel.begin() as connection:
        dead_letters.discard(connection, poison, "the order is gone", "ann")
    row = operation(panel, poison)
    assert (row["state"], row["reason"]) == ("rejected", "discarded by ann: the order is gone")


async def test_a_discarded_delete_leaves_a_record_that_takes_calls(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await accepted(acceptor, create_call())
    apply_operation(panel, created.operation_id)
    deleted = await accepted(acceptor, delete_call(created.vps_id))

    def killed(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_apply_one", killed)
        die(panel, deleted.operation_id)
    assert isinstance(await acceptor.accept(update_call(created.vps_id)), Refused)
    with panel.begin() as connection:
        dead_letters.discard(connection, deleted.operation_id, "sold again", "ann")
    updated = await accepted(acceptor, update_call(created.vps_id))
    assert apply_operation(panel, updated.operation_id).state == "applied"


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
        dead_letters.discard(connection, operation_id, reason, "ann")
