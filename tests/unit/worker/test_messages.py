"""What is a message of ours: everything the panel sends, and nothing else, whatever it is."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import MAX_BODY, MOST_NUMBERS, envelope_fault, task_fault

KNOWN = {"sync.apply", "reconcile.run"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def body(call: object) -> str:
    return base64.b64encode(json.dumps(call).encode()).decode()


def ours() -> dict[str, Any]:
    return {
        "body": body([[17], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": "sync.apply",
            "id": "a1",
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": "a1",
            "parent_id": None,
            "argsrepr": "op=17",
            "kwargsrepr": "",
            "origin": "gen1@host",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": "a1",
            "reply_to": "r",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "sync"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "t1",
        },
    }


def test_ours_are_taken() -> None:
    assert task_fault(ours(), KNOWN) is None
    several = ours()
    several["body"] = body([[[2**63 - 1] * MOST_NUMBERS], {"ended": 1}, {}])
    assert task_fault(several, KNOWN) is None
    retried = ours()
    retried["headers"] |= {"retries": 3, "eta": "2026-01-01T00:00:00+00:00", "timelimit": [30, 20]}
    assert task_fault(retried, KNOWN) is None


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("headers", [1, 2], "no properties or headers"),
        ("headers", None, "no properties or headers"),
        ("properties", 5, "no properties or headers"),
        ("properties.delivery_info", "sync", "no delivery information"),
        ("properties.delivery_tag", None, "no delivery tag"),
        ("properties.body_encoding", "rot13", "unreadable body"),
        ("content-type", "application/x-python-serialize", "another content type"),
        ("content-type", "application/x-unknown", "another content type"),
        ("content-encoding", "binary", "another content type"),
        ("body", "%%%", "unreadable body"),
        ("body", None, "unreadable body"),
        ("body", body("x" * MAX_BODY), "too large"),
        ("body", base64.b64encode(b"\xff\xfe").decode(), "unreadable body"),
        ("body", body([]), "wrong arguments"),
        ("body", body([[[]], {}, {}]), "wrong arguments"),
        ("body", body([[["1"]], {}, {}]), "wrong arguments"),
        ("body", body([[[True]], {}, {}]), "wrong arguments"),
        ("body", body([[[[1]]], {}, {}]), "wrong arguments"),
        ("body", body([[[1] * (MOST_NUMBERS + 1)], {}, {}]), "wrong arguments"),
        ("body", body([[1], {}, {"callbacks": [{"task": "reconcile.run"}]}]), "names further tasks"),
        ("headers.task", "os.system", "unknown task"),
        ("headers.task", "celery.chain", "unknown task"),
        ("headers.task", {}, "unknown task"),
        ("headers.id", 7, "no task id"),
        ("headers.id", "x" * 300, "no task id"),
        ("headers.eta", 5, "wrong header"),
        ("headers.eta", "tomorrow", "wrong header"),
        ("headers.retries", "many", "wrong header"),
        ("headers.timelimit", 5, "wrong header"),
        ("headers.timelimit", ["a", "b"], "wrong header"),
        ("headers.stamps", {"a": 1}, "wrong header"),
    ],
)
def test_others_are_not(path: str, value: object, fault: str) -> None:
    message = ours()
    *way, name = path.split(".")
    place = message
    for step in way:
        place = place[step]
    place[name] = value
    assert task_fault(message, KNOWN) == fault


@given(JSON)
def test_no_json_makes_it_fail(message: object) -> None:
    assert envelope_fault(message) is not None
    assert task_fault(message, KNOWN) is not None


@given(st.data())
def test_no_change_of_ours_makes_it_fail(data: st.DataObject) -> None:
    message = copy.deepcopy(ours())
    for part in (message, message["headers"], message["properties"]):
        for name in data.draw(st.sets(st.sampled_from(sorted(part)), max_size=3)):
            part[name] = data.draw(JSON)
        if not isinstance(message["headers"], dict) or not isinstance(message["properties"], dict):
            break
    task_fault(message, KNOWN)
