"""Each code with which a power action is refused or ends has words on the page, in each language."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from api.pages import rendering
from api.pages.languages import LANGUAGES

ROOT = Path(__file__).resolve().parents[4]
MADE_IN = (
    "domain/power",
    "panel/power",
    "reconcile/power_actions.py",
    "api/client/power_requests.py",
    "api/pages/shown_power.py",
)
CODE_AT = {"Refusal": 0, "End": 1, "ProblemError": 1}
"""Which argument is the code."""

OF_THE_PAGE = {"confirmation_missing"}


def codes(place: str) -> set[str]:
    """The codes that the modules of a place name."""
    path = ROOT / place
    found = set()
    for module in [path] if path.is_file() else sorted(path.glob("*.py")):
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in CODE_AT:
                continue
            code = call.args[CODE_AT[call.func.id]]
            if isinstance(code, ast.Constant):
                found.add(str(code.value))
    return found


CODES = sorted(set().union(*map(codes, MADE_IN)) | OF_THE_PAGE)


def words(language: str, code: str) -> str:
    source = '{% import "words.html" as words %}{{ words.power_reason(code) }}'
    return rendering._ENVIRONMENTS[language].from_string(source).render(code=code).strip()


def test_the_codes_are_found() -> None:
    assert {"vps_suspended", "owner_in_doubt", "guest_did_not_stop", "answer_lost"} <= codes("domain/power")
    assert {"power_action_in_progress", "too_many_power_actions", "expired", "done"} <= set(CODES)
    assert len(CODES) > 30


@pytest.mark.parametrize("code", CODES)
def test_it_has_words_in_each_language(code: str) -> None:
    said = {language: words(language, code) for language in LANGUAGES}
    for language, text in said.items():
        assert text.endswith("."), "a sentence of its own"
        assert text != words(language, "no-such-code").replace("no-such-code", code)
    assert len(set(said.values())) == len(LANGUAGES)
    assert re.search("[а-я]", said["ru"])
