"""Names, content types and addresses from outside end no listing and command no terminal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from domain.changes import Delete
from domain.failures import Failure, Stage
from panel.operators.holds import keep_holds
from panel.operators.pauses import pause
from panel.operators.quarantine import note_failures
from reconcile.decision.gate import Held
from tests.integration.cli.conftest import PanelSync
from tests.integration.panel.conftest import begin_run
from tests.integration.sources.raw_server import RawServer
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.unit.reconcile.worlds import record

EVIL = "[/x][link=https://evil.example]y[/link]\x1b[2J\u202e"
TYPE = "[/x][link=https://evil.example]y[/link]"
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Type: {TYPE}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
SHOWN = "[/x][link=https://evil.example]y[/link]\\x1b[2J\\u202e"


DOCTORS = ("sources", "pauses", "held sets", "quarantine")
"""What doctor shows of the text above, by the subject of its line."""


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
        "INSERT INTO source_states (source, degraded_since, degraded_reason, unwell_since, unwell_cause, unwell_reason)"
        " VALUES (:evil, now(), :evil, now(), 'unread', :evil)",
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


def test_doctor_shows_it_as_it_is(panel_sync: PanelSync, told: Engine) -> None:
    with told.begin() as connection:
        run_id = begin_run(told)
        pause(connection, "user:5", EVIL, timedelta(hours=1), EVIL)
        keep_holds(connection, run_id, [Held(EVIL, EVIL, (Delete(source="orders", reason=EVIL, record=record(id=1)),))])
        note_failures(connection, run_id, [Failure(f"order:{EVIL}", Stage.DECIDE, EVIL)])
    with RawServer(ANSWER) as site:
        given = {"MAIN_SITE_URL": f"http://{site.authority}", "MAIN_SITE_API_KEY": random_key()}
        said = panel_sync("doctor", USER_ID_SPACE="mapped", COLUMNS="2000", **given)
    assert said.code == 1, said.err
    shown = {subject: line for line in said.out.splitlines() for subject in DOCTORS if f" {subject} " in line}
    assert set(shown) == set(DOCTORS), said.out
    assert [subject for subject, line in shown.items() if SHOWN not in "".join(line.split())] == []
    assert f"({TYPE})" in said.out, "the content type of the main site's answer"
    assert not {"\x1b", "\u202e"} & set(said.out + said.err)
