"""Each code for which there are no statistics, or none newer, has its sentence: of the API, and on the page."""

from __future__ import annotations

import ast
import re

import pytest

from api.client.statistics_requests import REASONS, SAME
from api.pages import rendering
from api.pages.languages import LANGUAGES
from panel.statistics.readings import AWAY, SILENT
from tests.unit.api.pages.test_power_words import ROOT, codes

READER = "reconcile/vps_statistics.py"


def stored_by_the_reader() -> set[str]:
    """The codes that the worker stores besides those with which a power action is refused."""
    found = {AWAY, SILENT}
    for call in ast.walk(ast.parse((ROOT / READER).read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] not in ("_problem", "store_problem"):
            continue
        for argument in ast.walk(call.args[-1]):
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
    return found


STORED = codes("domain/power/permission.py") | codes("panel/power/facts.py") | stored_by_the_reader()
TOLD = sorted({SAME.get(code, code) for code in STORED} | set(REASONS))


def words(language: str, code: str) -> str:
    source = '{% import "statistics.html" as statistics %}{{ statistics.why(code) }}'
    return rendering._ENVIRONMENTS[language].from_string(source).render(code=code).strip()


def test_the_codes_are_found() -> None:
    assert {"failed", "not_read", "another_machine", "not_linked", "vps_unknown"} <= stored_by_the_reader()
    assert {"vps_changing", "facts_stale", "cluster_away", "vps_paused", "order_not_active"} <= set(TOLD)


@pytest.mark.parametrize("code", TOLD)
def test_it_has_its_sentence(code: str) -> None:
    assert REASONS[code]
    said = {language: words(language, code) for language in LANGUAGES}
    for language, text in said.items():
        assert text.endswith(".")
        assert text != words(language, "no-such-code"), "a sentence of its own"
    assert re.search("[а-я]", said["ru"])


@pytest.mark.parametrize("code", ["vps_changing", "facts_stale", "cluster_away", "vps_paused", "order_not_active"])
def test_no_doubt_of_the_machine_is_told_where_there_is_none(code: str) -> None:
    assert "being checked" not in REASONS[code]
    assert "being checked" not in words("en", code)
