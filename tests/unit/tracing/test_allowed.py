"""What a span may say: a list of attributes, each with a form. No value that names somebody fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing.allowed import ATTRIBUTES, NAMELESS, allowed_attributes, allowed_name
from tracing.statement_names import statement_name

PAGE = Path(__file__).resolve().parents[3] / "docs" / "monitoring.md"


@pytest.mark.parametrize(
    ("key", "value", "kept", "reason"),
    [
        ("http.route", "/api/vps/{vps_id}", True, "the template of a path"),
        ("http.route", "/api/vps/sync/records?name=anna", False, "a query"),
        ("http.response.status_code", 202, True, "a number"),
        ("http.response.status_code", "202", False, "a text where a number belongs"),
        ("panel.operation_id", True, False, "a truth value is no number"),
        ("panel.operation_id", 2**63, False, "too large for the format"),
        ("error.type", "OperationalError", True, "an exception's class"),
        ("error.type", "Key (email)=(a@b.test) already exists", False, "an exception's message"),
        ("db.collection.name", "operations", True, "a table"),
        ("db.collection.name", "O'Neill", False, "a value"),
        ("panel.source", "pve-1.fra", True, "a cluster's name"),
        ("panel.source", "root@pam!sync=secret", False, "a token"),
        ("panel.source", "Анна", False, "a person's name"),
        ("db.query.text", "SELECT 1", False, "the text of a statement"),
        ("url.full", "https://pve:8006/nodes", False, "an address"),
        ("client.address", "203.0.113.7", False, "a caller's address"),
        ("http.request.header.authorization", "Bearer x", False, "a header"),
        ("exception.message", "x", False, "words of an exception"),
    ],
)
def test_attributes(key: str, value: object, kept: bool, reason: str) -> None:
    assert allowed_attributes({key: value}) == ({key: value} if kept else {}), reason


KEYS = st.sampled_from(sorted(ATTRIBUTES)) | st.text(max_size=30)


@given(st.dictionaries(KEYS, st.text() | st.integers() | st.booleans() | st.floats() | st.lists(st.text())))
def test_nothing_but_listed_attributes_of_their_form(given_attributes: dict[str, object]) -> None:
    kept = allowed_attributes(given_attributes)
    assert kept.keys() <= ATTRIBUTES.keys()
    for value in kept.values():
        assert isinstance(value, int) or not re.search(r"[@?=&%\"'\s\x00-\x1f]", value.replace(" ", ""))
        assert str(value).isascii()


def test_names() -> None:
    for name in ("POST /api/vps/sync", "SELECT operations", "repair missed-status", "publish sync.apply"):
        assert allowed_name(name) == name
    for name in ("GET /vps?name=anna", "person5@example.test", "a\nb", "", "x" * 200):
        assert allowed_name(name) == NAMELESS


def test_the_page_says_what_is_exported() -> None:
    told = re.findall(r"^\| `([a-z._]+)` \|", PAGE.read_text(encoding="utf-8").partition("## Traces")[2], re.MULTILINE)
    assert sorted(told) == sorted(ATTRIBUTES)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("INSERT INTO operations (kind, payload) VALUES (%(kind)s, %(payload)s)", "INSERT operations"),
        ("\n UPDATE operations SET publishes = 1 WHERE id IN (SELECT id FROM vps)", "UPDATE operations"),
        ("DELETE FROM task_requests WHERE task = %(task)s", "DELETE task_requests"),
        ("SELECT * FROM vps WHERE name = %(name)s FOR UPDATE", "SELECT vps"),
        ("SELECT pg_advisory_xact_lock(k) FROM unnest(%(keys)s) AS k", "SELECT"),
        ("WITH gone AS (DELETE FROM absences) SELECT 1", "WITH absences"),
        ("SELECT 'a customer''s text'", "SELECT"),
        ("", "OTHER"),
    ],
)
def test_a_statement_is_told_by_its_first_word_and_its_table(statement: str, name: str) -> None:
    assert str(statement_name(statement)) == name
