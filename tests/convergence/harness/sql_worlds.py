"""Stories on one database, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from panel.sessions import sync_engine
from tests.convergence.harness.play import Ending, play_on
from tests.convergence.harness.sql_panel import emptied
from tests.convergence.harness.story import Story
from tests.convergence.harness.truth import USERS
from tests.support.databases import Databases
from tests.support.fleets.world import add_user

ROUNDS, QUIET = 3, 7
"""Quiet rounds: the proof of an absence takes three, and begins anew when a machine's last move is over."""


LEFT_OUT = {"lock-forgotten", "unmade-vmid"}


@dataclass(slots=True)
class SqlWorlds:
    """Plays stories; ``compared``: runs whose selection was compared with the unfiltered one."""

    engine: Engine
    owner: Engine
    compared: int = 0

    def play(self, story: Story) -> Ending:
        """Play the last rounds of a story: graces are over at once here, so fewer are enough.

        Only a lock protects for as long as it does anywhere: one that nobody takes away would outlast the test. And all
        rounds are within two minutes here, so no machine comes late enough to be in doubt for that.
        """
        rounds = tuple(replace(r, happenings=tuple(h for h in r.happenings if h.kind not in LEFT_OUT))
                       for r in story.rounds[-ROUNDS:])  # fmt: skip
        with emptied(self.owner, self.engine) as panel:
            ending = play_on(panel, replace(story, rounds=rounds), datetime.now(UTC), [0.0] * QUIET)
            self.compared += panel.compared
        return ending


@pytest.fixture(scope="module")
def sql_worlds(databases: Databases) -> Iterator[SqlWorlds]:
    """A database for a module's stories, with the customers that all stories have."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    owner = sync_engine(database.owner_url, "panel-sync test", pool_size=1)
    for main_site_id, user_id in USERS.items():
        add_user(engine, user_id, main_site_user_id=main_site_id)
    yield SqlWorlds(engine, owner)
    engine.dispose()
    owner.dispose()
    databases.drop(database)
