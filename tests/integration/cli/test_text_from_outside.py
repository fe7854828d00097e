"""Names, content types and addresses from outside end no listing and command no terminal."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from tests.integration.cli.conftest import PanelSync
from tests.support.fleets.world import add_user

EVIL = "[/x][link=https://evil.example]y[/link]\x1b[2J\u202e"
SHOWN = "[/x][link=https://evil.example]y[/link]\\x1b[2J\\u202e"


@pytest.fixture
def told(engine: Engine) -> Engine:
    """Text from outside wherever the panel keeps some."""
    add_user(engine, 5)
    statements = (
        "UPDATE users SET username = :evil, main_site_user_id = :evil, map_source = 'operator'",
        "INSERT INTO operator_actions (by, action, subject, network, request_id)"
        " VALUES ('cli:x', 'pause', :evil, :evil, :evil)",
        "INSERT INTO access_counts (hour, who, network, route, status_code, code, count, first_at, last_at,"
        " last_request_id) VALUES (now(), :evil, :evil, :evil, 401, '', 1, now(), now(), :evil)",
        "INSERT INTO refused_calls (status_code, code, message, action, address, request_id)"
        " VALUES (415, 'x', :evil, :evil, :evil, :evil)",
        "INSERT INTO runs (kind, trigger, epoch, state, problems)"
        " VALUES ('full', 'beat', 1, 'done', ARRAY[cast(:evil AS text)])",
        "INSERT INTO findings (class, subject, reason, severity) VALUES ('orphan', :evil, :evil, 'alarm')",
        "INSERT INTO source_states (source, degraded_since, degraded_reason) VALUES (:evil, now(), :evil)",
        "WITH read AS (INSERT INTO snapshots (run_id, source, scope, complete, count)"
        " SELECT max(id), :evil, :evil, true, 1 FROM runs RETURNING id)"
        " INSERT INTO scopes (source, scope, began_at, count, snapshot_id) SELECT :evil, :evil, now(), 1, id FROM read",
    )
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), {"evil": EVIL})
    return engine


@pytest.mark.parametrize(
    "command",
    [["users", "list"], ["audit"], ["runs"], ["findings"], ["sources"]],
    ids=" ".join,
)
def test_it_is_shown_as_it_is(panel_sync: PanelSync, told: Engine, command: list[str]) -> None:
    said = panel_sync(*command, COLUMNS="2000")
    assert said.code == 0, said.err
    # A long cell is folded.
    assert SHOWN in "".join(said.out.split()), said.out
    assert not {"\x1b", "\u202e"} & set(said.out)
