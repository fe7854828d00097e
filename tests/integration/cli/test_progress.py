"""Whatever may take seconds says on a terminal what it is doing, and nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cli.output import console
from lab.simulators.main_site import MainSiteServer
from tests.integration.cli.conftest import PanelSync
from tests.support.fleets.world import add_user


@pytest.fixture
def given(engine: Engine) -> Iterator[dict[str, str]]:
    """The settings of a panel with a main site."""
    add_user(engine, 5)
    with MainSiteServer() as site:
        site.add_user(username="ann", email="ann@example.org")
        yield {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "mapped"}


SLOW = {
    ("plan",): ["reading the main site and new guests", "selecting what differs"],
    ("reconcile", "--apply", "--yes"): ["reading the main site's users", "reading the main site and new guests"],
    ("held", "--all"): ["reading what is held"],
    ("users", "import"): ["reading the main site's users"],
    ("users", "unmapped"): ["reading the main site's users"],
    ("users", "map", "--by-email"): ["reading the main site's users", "checking the maps"],
    ("users", "map", "--csv", "maps.csv", "--apply"): ["checking the maps", "writing the maps"],
    ("doctor",): ["looking at PostgreSQL", "looking at the main site"],
    ("migrate",): ["migrating the database"],
}


@pytest.mark.parametrize("arguments", SLOW, ids=" ".join)
def test_on_a_terminal_it_is_told(
    panel_sync: PanelSync,
    given: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    (tmp_path / "maps.csv").write_text("panel_id,main_site_id\n5,1\n", encoding="utf-8")
    with monkeypatch.context() as terminal:
        for name, value in (("_force_terminal", True), ("is_interactive", True)):
            terminal.setattr(console.err, name, value)
        watched = panel_sync(*arguments, **given)
    plain = panel_sync(*arguments, **given)
    for doing in SLOW[arguments]:
        assert doing in watched.err
        assert doing not in plain.err
