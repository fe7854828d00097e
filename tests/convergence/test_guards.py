"""A harness that cannot fail proves nothing: every guard, broken, is caught by the story the document names."""

from __future__ import annotations

import pytest

from tests.convergence.broken import GUARDS, Guard
from tests.convergence.document import DOCUMENT, caught, recorded
from tests.convergence.panel import without_database
from tests.convergence.play import play
from tests.convergence.story import story_of

SEEDS = recorded(DOCUMENT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_broken_guard_is_caught(guard: Guard) -> None:
    seed = SEEDS[guard.name] - 1
    assert caught(guard, range(seed, seed + 1)) is not None, (
        "write the document anew: python -m tests.convergence.document"
    )
    with without_database():
        assert play(story_of(seed)).wrong == (), "whole, it ends well"


def test_the_document_names_every_guard_and_no_other() -> None:
    assert len(GUARDS) >= 20
    assert list(SEEDS) == [guard.name for guard in GUARDS]
