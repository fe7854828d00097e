"""Each class of blind spots and each reason of the money reports has its words on the operators' pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from panel.operators.reports.blind_spots import CLASSES
from panel.operators.reports.money import REASONS

TEMPLATES = Path(__file__).resolve().parents[4] / "api/pages/templates/operators/reports"
SPOTS = (TEMPLATES / "spot_words.html").read_text(encoding="utf-8")
MONEY = (TEMPLATES / "money_words.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("class_", CLASSES)
def test_a_blind_spot_says_why_and_what_to_do(class_: str) -> None:
    why, remedy = SPOTS.split("{% endmacro %}")[:2]
    assert f'"{class_}"' in why
    assert f'"{class_}"' in remedy


@pytest.mark.parametrize("reason", [reason for reasons in REASONS.values() for reason in reasons])
def test_a_reason_has_words(reason: str) -> None:
    assert f'word == "{reason}"' in MONEY
