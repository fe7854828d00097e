"""Many stories at once: the first that goes wrong is cut down to what matters and told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.convergence.harness.play import Ending, play
from tests.convergence.harness.story import Story, shrunk, story_of


@dataclass(frozen=True, slots=True)
class Tally:
    """Over stories without ambiguity: ``held`` differences of ``records``; ``writes`` of the reconciler."""

    stories: int
    held: int
    records: int
    writes: int


def failure_text(story: Story, ending: Ending, player: Callable[[Story], Ending] = play) -> str:
    """A failing story, cut down to the smallest that fails in the same way, as text."""
    kind = _kind(ending.wrong[0])
    small = shrunk(story, lambda smaller: any(_kind(wrong) == kind for wrong in player(smaller).wrong))
    return f"{small}\n=> " + "\n=> ".join(player(small).wrong)


def _kind(sentence: str) -> str:
    return re.sub(r"\d+", "#", sentence)


def play_all(seeds: Iterable[int], player: Callable[[Story], Ending] = play) -> Tally:
    """Play the stories of these seeds. Raises AssertionError with the minimal story of the first that fails."""
    stories = held = records = writes = 0
    for seed in seeds:
        story = story_of(seed)
        ending = player(story)
        if ending.wrong:
            raise AssertionError("\n" + failure_text(story, ending, player))
        stories += 1
        writes += ending.writes
        if not ending.ambiguous:
            held += len(ending.held)
            records += ending.records
    return Tally(stories, held, records, writes)
