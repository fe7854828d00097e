"""Stories that once went wrong, cut down to what matters, through real PostgreSQL."""

from __future__ import annotations

import pytest

from tests.convergence.harness.broken import VERSION, broken
from tests.convergence.harness.sql_worlds import SqlWorlds, sql_worlds
from tests.convergence.harness.story import Happening, Round, Story

__all__ = ["sql_worlds"]

EQUAL = ("linked", "linked", "linked")
STORIES = {
    "an order removed with its guest takes its record along": Story(
        0, ("linked", "linked"), (Round(0, (Happening("vanish-both", 0),)),)
    ),
    "a VMID given away between two lists to an equal machine is another machine": Story(
        0, EQUAL, (Round(0, (Happening("reuse", 2),)),), names="equal"
    ),
    "two sights of a stopped guest are two lists that showed it": Story(
        0, (*EQUAL, "missed"), (Round(0, (Happening("power", 3),)), Round(0, (Happening("pve-node-hidden", 0),)))
    ),
    "while the feed is empty no record takes over the next owner's machine": Story(
        0,
        ("linked", "linked"),
        (
            Round(0, (Happening("reuse", 0), Happening("feed-empty", 0), Happening("post-dropped", 0))),
            *(Round(0, (Happening("feed-empty", 0),)) for _ in range(2)),
        ),
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_story_that_once_went_wrong_ends_well(sql_worlds: SqlWorlds, story: Story) -> None:
    ending = sql_worlds.play(story)
    assert (ending.wrong, ending.held) == ((), ())


def test_a_record_that_a_call_changed_is_not_written_by_a_run_that_looked_before(sql_worlds: SqlWorlds) -> None:
    story = Story(
        0,
        ("linked",),
        (
            Round(0, (Happening("resize", 0), Happening("post-dropped", 0))),
            Round(0, (Happening("resize", 0), Happening("post-dropped", 0), Happening("call-mid-run", 0))),
        ),
    )
    assert sql_worlds.play(story).wrong == ()
    with broken(VERSION):
        assert any("looked before the last call" in wrong for wrong in sql_worlds.play(story).wrong)
