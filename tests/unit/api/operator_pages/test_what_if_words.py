"""What held a delete is told in words of the reader's language, not as the code word of the API."""

from __future__ import annotations

import re

import pytest

from api.pages import rendering
from domain.repair_policy.budget import BY_APPROVAL
from domain.repair_policy.delete_limits import DeleteLimit

HOLDERS = ["class", BY_APPROVAL, DeleteLimit.RUN.value, DeleteLimit.HOUR.value, DeleteLimit.DAY.value]


def holder(language: str, by: str) -> str:
    source = '{% import "operators/what_if_parts.html" as words %}{{ words.holder(by) }}'
    return rendering._ENVIRONMENTS[language].from_string(source).render(by=by)


@pytest.mark.parametrize("by", HOLDERS)
def test_what_held_a_delete_is_told_in_words(by: str) -> None:
    assert holder("en", by) not in HOLDERS
    assert re.search("[а-я]", holder("ru", by))
    assert not re.search("[a-z]", holder("ru", by))
