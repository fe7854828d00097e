"""The check after each measurement: what was accepted is applied, once, and nothing else is there."""

from __future__ import annotations

import json

import pytest

from benchmarks.measuring.model import Created, accepted, complain, differences

MODEL = {1: Created(11, "web-1"), 2: Created(12, "web-2")}
JOURNAL = {1: (11, "applied"), 2: (12, "applied")}
RECORDS = {11: "web-1", 12: "web-2"}


def test_a_panel_that_equals_the_model_has_no_differences() -> None:
    assert differences(MODEL, JOURNAL, RECORDS) == []
    complain([])


@pytest.mark.parametrize(
    ("journal", "records", "said"),
    [
        ({1: (11, "applied")}, RECORDS, "operation 2 was accepted and is lost"),
        (JOURNAL | {2: (12, "queued")}, RECORDS, "operation 2 of VPS 12 is queued, of VPS 12"),
        (JOURNAL | {2: (11, "applied")}, RECORDS, "operation 2 of VPS 12 is applied, of VPS 11"),
        (JOURNAL | {3: (13, "applied")}, RECORDS, "operation 3 was never accepted"),
        (JOURNAL, {11: "web-1"}, "VPS 12 should be web-2 and is None"),
        (JOURNAL, RECORDS | {12: "other"}, "VPS 12 should be web-2 and is other"),
        (JOURNAL, RECORDS | {13: "web-2"}, "VPS 13 should be None and is web-2"),
    ],
)
def test_each_difference_is_told(journal: dict[int, tuple[int, str]], records: dict[int, str], said: str) -> None:
    found = differences(MODEL, journal, records)
    assert found == [said]
    with pytest.raises(RuntimeError, match="does not equal the model"):
        complain(found)


def test_the_model_is_what_the_answers_promise() -> None:
    answer = {"status": "success", "vps": {"id": 11, "name": "web-1"}, "operation": {"id": 1, "state": "queued"}}
    assert accepted([json.dumps(answer).encode()]) == {1: Created(11, "web-1")}
