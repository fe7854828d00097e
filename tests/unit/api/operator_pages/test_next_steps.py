"""Each class of findings that the documentation names has the one thing to do on the operators' pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconcile.decision.findings import _REMOVABLE

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = (ROOT / "api/pages/templates/operators/next_steps.html").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"(?m)^\| `([a-z-]+)`", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))


def test_the_table_is_read() -> None:
    assert {"paid-but-missing", "held", "unlinked-record"} <= set(DOCUMENTED)
    assert len(DOCUMENTED) > 25


@pytest.mark.parametrize("class_", DOCUMENTED)
def test_it_has_a_next_step(class_: str) -> None:
    assert f'class_ == "{class_}"' in TEMPLATE.partition("{% macro place")[0]


def test_no_step_tells_to_remove_a_guest_that_the_finding_does_not_name() -> None:
    """Machines get the numbers of others within seconds: only these findings read again before they speak."""
    steps = re.findall(r'class_ == "([a-z-]+)" %}{% trans %}(.*?){% endtrans %}', TEMPLATE)
    telling = {class_ for class_, step in steps if re.search(r"(?i)\b(remove|destroy)", step)}
    assert telling == {"ended-but-running", "deleted-but-alive"}
    assert telling <= _REMOVABLE
