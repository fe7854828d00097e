"""Beat's own look at what is unapplied."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from panel.journal.accept import Acceptor
from panel.journal.sweep import ring_unapplied
from panel.journal.writer import apply_operation
from tests.integration.panel.conftest import accepted
from tests.support.calls import create_call


@pytest.mark.parametrize(
    ("age_s", "publishes", "applied_lately", "rung"),
    [
        pytest.param(90, 1, False, 1, id="forgotten"),
        pytest.param(10, 1, False, 0, id="young: its first message may be on its way"),
        pytest.param(90, 0, False, 0, id="never published: the relay's own work"),
        pytest.param(90, 1, True, 0, id="a moving backlog: it stands in line"),
    ],
)
async def test_only_what_is_forgotten_is_rung(
    acceptor: Acceptor, panel: Engine, owner: Engine, age_s: int, publishes: int, applied_lately: bool, rung: int
) -> None:
    other = await accepted(acceptor, create_call(name="other"))
    apply_operation(panel, other.operation_id)
    waiting = await accepted(acceptor, create_call())
    with owner.begin() as connection:
        connection.execute(
            text(
                "UPDATE operations SET publishes = :publishes, publish_at = clock_timestamp() + interval '5 minutes',"
                " accepted_at = clock_timestamp() - make_interval(secs => :age) WHERE id = :id"
            ),
            {"publishes": publishes, "age": age_s, "id": waiting.operation_id},
        )
        if not applied_lately:
            connection.execute(
                text("UPDATE operations SET applied_at = clock_timestamp() - interval '2 minutes' WHERE id = :id"),
                {"id": other.operation_id},
            )
    assert ring_unapplied(panel) == rung
