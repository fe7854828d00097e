"""A harness that cannot fail proves nothing: every guard, broken, is caught by the story the document names."""

from __future__ import annotations

import pytest

from tests.convergence.harness.broken import GUARDS, Guard
from tests.convergence.harness.document import DOCUMENT, THROUGH_POSTGRESQL, before_the_rows, caught, recorded
from tests.convergence.harness.panel import without_database
from tests.convergence.harness.play import play
from tests.convergence.harness.story import story_of

SEEDS = recorded(DOCUMENT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_broken_guard_is_caught(guard: Guard) -> None:
    seed = SEEDS[guard.name] - 1
    assert caught(guard, range(seed, seed + 1)) is not None, (
        "write the document anew: python -m tests.convergence.harness.document"
    )
    with without_database():
        assert play(story_of(seed)).wrong == (), "whole, it ends well"


def test_the_document_names_every_guard_and_no_other() -> None:
    assert len(GUARDS) >= 20
    assert list(SEEDS) == [guard.name for guard in GUARDS]


def test_the_document_says_what_it_is_made_from() -> None:
    """Playing its table takes minutes, so the rows are compared by the tests above."""
    page = DOCUMENT.read_text(encoding="utf-8")
    assert page.startswith(before_the_rows())
    assert page.endswith(THROUGH_POSTGRESQL)
