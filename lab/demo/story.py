"""The story: its scenes in order."""

from __future__ import annotations

from lab.demo.scenes import (
    blind_token,
    cut_feed,
    disorder,
    lost_calls,
    lost_delete,
    migration,
    orders,
    redis_killed,
    task_list,
)
from lab.demo.stage import Stage

SCENES = (
    (orders.TITLE, orders.play),
    (lost_calls.TITLE, lost_calls.play),
    (lost_delete.TITLE, lost_delete.play),
    (migration.TITLE, migration.play),
    (blind_token.TITLE, blind_token.play),
    (cut_feed.TITLE, cut_feed.play),
    (redis_killed.TITLE, redis_killed.play),
    (disorder.TITLE, disorder.play),
    (task_list.TITLE, task_list.play),
)


def play_story(stage: Stage) -> None:
    """Play every scene. The results are in the stage's sights.

    Raises DemoError at the first scene that does not come true.
    """
    for number, (title, play) in enumerate(SCENES, 1):
        stage.screen.heading(f"{number}. {title}")
        play(stage)
