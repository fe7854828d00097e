"""A set of calls beside what else happens: a run's report, a held lock, calls of one order that overtake each other,
and calls that fail or kill their process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from panel.journal import rows, writer
from panel.journal.accept import Acceptor
from panel.journal.call_sets import apply as sets
from panel.journal.call_sets import decision
from panel.journal.call_sets.apply import apply_calls
from panel.journal.calls import Accepted
from panel.journal.publish import call_bells
from panel.journal.relay import CLAIM_FIRST
from panel.journal.repairs import note_confirmations
from panel.observations.proof import Proof
from tests.integration.panel.conftest import accepted, database_time
from tests.support.calls import create_call, delete_call, update_call
from tests.support.fleets.world import operation, vps_row


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def _marks(panel: Engine) -> None:
    with panel.begin() as connection:
        note_confirmations(connection, {"main": database_time(panel)}, Proof(3, timedelta(seconds=60)))


def _unmarks(panel: Engine) -> None:
    with panel.begin() as connection:
        connection.execute(text("UPDATE vps SET power_unconfirmed_since = NULL"))


def states(panel: Engine, *calls: Accepted) -> list[str]:
    return [operation(panel, one.operation_id)["state"] for one in calls]


def after(report: Callable[[Engine], None], panel: Engine, real: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, after a run's report that commits just before."""

    def late(*arguments: Any) -> Any:
        report(panel)
        return real(*arguments)

    return late


@pytest.mark.parametrize(("report", "marked"), [(_marks, True), (_unmarks, False)], ids=["marks", "takes back"])
@pytest.mark.parametrize("way", ["a set", "one by one"])
async def test_what_a_runs_report_says_meanwhile_stays(
    acceptor: Acceptor,
    panel: Engine,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    report: Callable[[Engine], None],
    marked: bool,
) -> None:
    created = await accepted(acceptor, create_call(cluster="main", vmid=100, node="pve1"))
    apply_calls(panel, [created.operation_id])
    if not marked:
        _marks(panel)
    update = await accepted(acceptor, update_call(created.vps_id, "running"))
    if way == "a set":
        monkeypatch.setattr(sets, "decide", after(report, panel, decision.decide))
        assert apply_calls(panel, [update.operation_id]).startswith("applied")
    else:
        monkeypatch.setattr(writer, "_update", after(report, panel, writer._update))
        assert writer.apply_operation(panel, update.operation_id).state == "applied"
    row = vps_row(panel, created.vps_id)
    assert row is not None
    assert (row["power_unconfirmed_since"] is not None) is marked


async def _deleted_and_bought_again(acceptor: Acceptor) -> tuple[Accepted, Accepted, Accepted]:
    first = await accepted(acceptor, create_call(order_id="o-1"))
    gone = await accepted(acceptor, delete_call(first.vps_id))
    second = await accepted(acceptor, create_call(order_id="o-1"))
    assert second.vps_id != first.vps_id
    return first, gone, second


async def test_the_next_create_of_an_order_overtakes_no_create_and_delete(acceptor: Acceptor, panel: Engine) -> None:
    first, gone, second = await _deleted_and_bought_again(acceptor)
    apply_calls(panel, [second.operation_id])  # its message is quicker
    assert states(panel, first, gone, second) == ["queued"] * 3
    apply_calls(panel, [first.operation_id, gone.operation_id])
    apply_calls(panel, [second.operation_id])
    assert states(panel, first, gone, second) == ["applied"] * 3


async def test_nor_does_it_while_the_former_vps_is_held_for_a_moment(acceptor: Acceptor, panel: Engine) -> None:
    first, gone, second = await _deleted_and_bought_again(acceptor)
    with panel.begin() as connection:
        bells = call_bells(connection.execute(CLAIM_FIRST, {"limit": 500}).all(), 200)
    assert len(bells) == 1, "all three calls are in one message, in their order"
    with panel.connect() as holder, holder.begin():  # a run that writes this VPS, for longer than a set waits
        rows.lock_vps_queues(holder, [first.vps_id])
        apply_calls(panel, list(bells[0].operations))
    assert states(panel, first, gone, second) == ["queued"] * 3
    for one in (first, gone, second):
        apply_calls(panel, [one.operation_id])
    assert states(panel, first, gone, second) == ["applied"] * 3


async def test_one_message_is_one_try(acceptor: Acceptor, panel: Engine, owner: Engine) -> None:
    """The calls after one that fails do not try it again at once."""
    created = await accepted(acceptor, create_call())
    updates = [await accepted(acceptor, update_call(created.vps_id)) for _ in range(4)]
    other = await accepted(acceptor, create_call(name="other"))
    with owner.begin() as connection:
        wrong = text("UPDATE operations SET payload = payload || '{\"ram\": 1}' WHERE id = :id")
        connection.execute(wrong, {"id": created.operation_id})
    apply_calls(panel, [one.operation_id for one in (created, *updates, other)])
    failed = operation(panel, created.operation_id)
    assert (failed["state"], failed["attempts"]) == ("queued", 1)
    assert states(panel, *updates, other) == ["queued"] * 4 + ["applied"]


async def test_a_call_that_kills_its_process_is_noted_by_whichever_call_of_its_vps_tries_it(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kills(*_: object) -> None:
        raise KilledError

    killer = await accepted(acceptor, create_call())
    other = await accepted(acceptor, create_call(name="other"))
    apply_calls(panel, [killer.operation_id, other.operation_id], again=True)  # its process was killed once
    later = await accepted(acceptor, update_call(killer.vps_id))
    monkeypatch.setattr(writer, "_create", kills)
    with pytest.raises(KilledError):
        apply_calls(panel, [later.operation_id])
    assert operation(panel, killer.operation_id)["attempts"] == 1
