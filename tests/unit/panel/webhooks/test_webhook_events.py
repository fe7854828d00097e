"""Which type of event tells of a change, and what of its cause leaves the panel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from api.main_site.event_models import PanelEvent
from panel.records.public import BY_OPERATOR
from panel.webhooks.events import TYPES, Cause, type_of

LIVE: dict[str, Any] = {"status": "running", "deleted_at": None, "merged_into": None}
GONE = LIVE | {"deleted_at": datetime(2026, 3, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("before", "after", "expected", "reason"),
    [
        (None, LIVE, "vps.created", "there was no record"),
        (LIVE, LIVE | {"status": "stopped"}, "vps.status_changed", "what the customer sees first"),
        (LIVE, LIVE | {"cpu": 4}, "vps.updated", "anything else"),
        (LIVE, GONE, "vps.deleted", "by a run"),
        (LIVE, GONE | {"merged_into": 2}, "vps.merged", "another id leads on"),
        (GONE, LIVE, "vps.restored", "an operator brought it back"),
        (GONE, LIVE | {"status": "stopped"}, "vps.restored", "whatever its status is by now"),
    ],
)
def test_the_type(before: dict[str, Any] | None, after: dict[str, Any], expected: str, reason: str) -> None:
    assert type_of(before, after) == expected, reason
    assert expected in TYPES


def test_the_openapi_document_has_every_type() -> None:
    assert set(get_args(PanelEvent.model_fields["type"].annotation)) == set(TYPES)


def test_an_operator_s_name_and_words_stay_in_the_panel() -> None:
    cause = Cause("operator", "operator", "Mr Smith called", {"by": "cli:ann"}, operation_id=7)
    assert cause.told() == {
        "source": "operator",
        "reason": BY_OPERATOR,
        "operation_id": 7,
        "run_id": None,
        "evidence": {},
    }


def test_of_a_repair_that_operators_wanted_neither_is_told() -> None:
    evidence = {
        "kind": "link",
        "approved_by": ["api:ann", "api:bob"],
        "adoption": 3,
        "adopted_by": "api:olga",
        "adopted_because": "Mr Smith called",
    }
    told = Cause("repair", "operator", "matched", evidence, operation_id=7, run_id=3).told()
    assert told["evidence"] == {"kind": "link", "adoption": 3}


def test_a_run_s_reason_and_evidence_are_told() -> None:
    cause = Cause("repair", "proxmox", "two reads say so", {"reads": [1, 2]}, operation_id=7, run_id=3)
    told = cause.told()
    assert (told["source"], told["reason"], told["evidence"], told["run_id"]) == (
        "proxmox",
        "two reads say so",
        {"reads": [1, 2]},
        3,
    )
