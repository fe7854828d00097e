"""Commands about a set that needs two operators: they show it, take an approval back, and approve nothing."""

from __future__ import annotations

import json
import re

from sqlalchemy import Engine, text

from panel.operators.approvals.deciding import decide_hold
from panel.operators.gate_context import acknowledge_first_plan
from panel.operators.holds import Decision
from panel.operators.service_levels import COUNTED, count_levels
from tests.integration.api.test_api_operators import hold
from tests.integration.cli.conftest import PanelSync
from tests.integration.cli.test_doctor import line
from tests.integration.panel.operators.test_service_levels import mended
from tests.support.keys import random_key


def test_held_approve_and_reject(panel_sync: PanelSync, engine: Engine) -> None:
    held, above = hold(engine, 1, 2).hash, {"SECOND_APPROVAL_ABOVE": "1"}
    with engine.begin() as connection:
        acknowledge_first_plan(connection)
    assert "needs two operators" in panel_sync("held", **above).out
    refused = panel_sync("approve", held[:8], USER="bob", **above)
    assert (refused.code, "a command cannot prove who gives it" in refused.err) == (2, True)
    with engine.begin() as connection:
        decide_hold(connection, held, Decision.APPROVED, "api:anna", above=1)
    said = panel_sync("held", **above).out
    assert re.search(r"approved by api:anna at [0-9-]+ [0-9:]+ UTC, needs a second operator", said), said
    (told,) = json.loads(panel_sync("held", "--json", **above).out)
    assert (told["needs_second"], told["released"], told["decision"]) == (True, 0, None)
    assert [one["by"] for one in told["approvals"]] == ["api:anna"]
    assert told["release"].endswith(f"/ops/held/{held}")
    assert panel_sync("approve", held[:8], USER="bob", **above).code == 2
    assert panel_sync("reject", held[:8], **above).code == 0
    assert panel_sync("held", **above).out.strip() == "nothing is held"
    assert panel_sync("approve", held[:8], SECOND_APPROVAL_ABOVE="").code == 0, "empty: one is enough"


WAITS = "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state) VALUES (7, 1, 0, 'live')"
"""SQL: a call waits to create VPS 7, so commands show it."""


def test_one_vps_is_told_of_the_whole_set(panel_sync: PanelSync, engine: Engine) -> None:
    """Its one item is not above the number. The set is."""
    hold(engine, 7, 8)
    with engine.begin() as connection:
        connection.execute(text(WAITS))
    (held,) = json.loads(panel_sync("vps", "show", "7", "--json", SECOND_APPROVAL_ABOVE="1").out)["held"]
    assert (len(held["items"]), held["needs_second"]) == (1, True)


def test_doctor_says_who_is_missing(panel_sync: PanelSync, engine: Engine) -> None:
    above = {"SECOND_APPROVAL_ABOVE": "1"}
    assert "second operator" not in panel_sync("doctor").out
    assert line(panel_sync("doctor", **above).out, "second operator", "only operator can").startswith("warning")
    reader = json.dumps([{"name": "rita", "role": "read", "key": random_key()}])
    assert "only operator can" in panel_sync("doctor", OPS_API_KEYS=reader, **above).out
    bob = json.dumps([{"name": "bob", "role": "operate", "key": random_key()}])
    assert "second operator" not in panel_sync("doctor", OPS_API_KEYS=bob, **above).out
    hold(engine, 1, 2)
    assert "deletes needs two operators" in line(panel_sync("doctor", **above).out, "second operator", "problem")


def test_service_levels(panel_sync: PanelSync, engine: Engine) -> None:
    assert "no difference was seen or mended yet" in panel_sync("service-levels").out
    mended(engine, "missed-status", 100, 2000)
    with engine.begin() as connection:
        for window in COUNTED:
            count_levels(connection, window, 900)
    out = panel_sync("service-levels").out
    assert "the 24 hours: counted" in out
    assert "50.0 %" in line(out, "missed-status", "2 (")
    told = json.loads(panel_sync("service-levels", "--json").out)
    (level,) = told["classes"]
    assert (level["kind"], level["day"]["within"], level["day"]["share"]) == ("missed-status", 1, 0.5)
