"""Users mapped in bulk: shown first, done as a whole, and every refused line names its field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from lab.simulators.main_site import MainSiteServer
from tests.integration.cli.conftest import PanelSync
from tests.support.fleets.world import add_user


def maps(engine: Engine) -> dict[int, str | None]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, main_site_user_id FROM users ORDER BY id"))
        return {row.id: row.main_site_user_id for row in rows}


@pytest.fixture
def three(engine: Engine) -> Engine:
    """Users 5 and 6 are nobody yet, 7 is the main site's 70."""
    add_user(engine, 5)
    add_user(engine, 6)
    add_user(engine, 7, main_site_user_id="70")
    return engine


def file(tmp_path: Path, *lines: str, head: str = "panel_id,main_site_id") -> str:
    path = tmp_path / "maps.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8-sig")
    return str(path)


def test_it_is_shown_and_done_only_on_a_word(panel_sync: PanelSync, three: Engine, tmp_path: Path) -> None:
    given = ("users", "map", "--csv", file(tmp_path, "5,50", "6,60", "7,70"))
    said = panel_sync(*given)
    assert (said.code, maps(three)) == (0, {5: None, 6: None, 7: "70"})
    assert "user 5 would be the main site's 50" in said.out
    assert "2 to map, 1 mapped already, 0 refused" in said.out
    assert "Nothing was written. To write it, add --apply." in said.out
    assert panel_sync(*given, "--dry-run").code == 0
    said = panel_sync(*given, "--apply")
    assert (said.code, maps(three)) == (0, {5: "50", 6: "60", 7: "70"})
    assert "user 6 is the main site's 60" in said.out
    with three.connect() as connection:
        noted = connection.scalar(text("SELECT count(*) FROM operator_actions WHERE action = 'users map'"))
    assert noted == 2


BAD = ("5,50", "x,1", ",1", "6,", "99,4", "7,71", "6,70", "5,51", "6,50", "")


def test_bad_lines_name_line_and_field_and_nothing_is_done(
    panel_sync: PanelSync, three: Engine, tmp_path: Path
) -> None:
    said = panel_sync("users", "map", "--csv", file(tmp_path, *BAD), "--apply")
    assert (said.code, maps(three)) == (1, {5: None, 6: None, 7: "70"})
    refused = [line.removeprefix("refused: ") for line in said.out.splitlines() if line.startswith("refused: ")]
    assert refused == [
        "line 3, panel_id: 'x' is not a panel user's id: a whole number from 1",
        "line 4, panel_id: is empty",
        "line 5, main_site_id: is empty",
        "line 6, panel_id: user 99 does not exist in the panel",
        "line 7, panel_id: user 7 is mapped to the main site's 70 already (--replace changes that)",
        "line 8, main_site_id: 70 is mapped to panel user 7 already",
        "line 9, panel_id: user 5 is named in line 2 too",
        "line 10, panel_id: user 6 is named in line 8 too",
    ]
    assert "all or nothing" in said.out


def test_item_by_item_does_what_is_good(panel_sync: PanelSync, three: Engine, tmp_path: Path) -> None:
    said = panel_sync("users", "map", "--csv", file(tmp_path, *BAD), "--apply", "--item-by-item")
    assert (said.code, maps(three)) == (1, {5: "50", 6: None, 7: "70"})


def test_two_users_are_exchanged(panel_sync: PanelSync, three: Engine, tmp_path: Path) -> None:
    panel_sync("users", "map", "5", "50")
    given = file(tmp_path, "5;70", "7;50", head="panel_id;main_site_id")
    assert panel_sync("users", "map", "--csv", given, "--apply").code == 1
    said = panel_sync("users", "map", "--csv", given, "--apply", "--replace")
    assert (said.code, maps(three)) == (0, {5: "70", 6: None, 7: "50"})
    assert "(was 50)" in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--csv", "nowhere.csv"], "can't be read"),
        (["5"], "panel-sync users map 5 77"),
        (["5", "1", "--by-email"], "or --by-email"),
    ],
)
def test_wrong_uses(panel_sync: PanelSync, three: Engine, arguments: list[str], says: str) -> None:
    said = panel_sync("users", "map", *arguments)
    assert (said.code, says in said.err) == (2, True)


def test_a_file_without_its_columns(panel_sync: PanelSync, three: Engine, tmp_path: Path) -> None:
    said = panel_sync("users", "map", "--csv", file(tmp_path, "5,50", head="id,site"))
    assert (said.code, "panel_id,main_site_id" in said.err) == (2, True)


class TestFeed:
    """What the main site's own list adds."""

    @pytest.fixture
    def site(self) -> Iterator[MainSiteServer]:
        with MainSiteServer() as running:
            for name in ("ann", "bob", "cid"):
                running.add_user(username=name, email=f"{name}@example.org")
            running.fill(2, user_id=2)
            yield running

    @pytest.fixture
    def given(self, site: MainSiteServer) -> dict[str, str]:
        return {"MAIN_SITE_URL": site.url, "MAIN_SITE_API_KEY": site.api_key, "USER_ID_SPACE": "mapped"}

    def test_who_is_unmapped(self, panel_sync: PanelSync, given: dict[str, str]) -> None:
        panel_sync("users", "add", "5", "--username", "a", "--email", "ANN@example.org")
        panel_sync("users", "add", "6", "--username", "b", "--email", "bob@example.org", "--email-verified")
        panel_sync("users", "add", "7", "--username", "c", "--main-site-id", "3")
        found = json.loads(panel_sync("users", "unmapped", "--json", **given).out)
        assert [(one["main_site_id"], one["panel_id"], one["sure"]) for one in found] == [
            ("1", 5, False),
            ("2", 6, True),
        ]
        assert panel_sync("users", "unmapped", "--csv", **given).out.splitlines() == [
            "panel_id,main_site_id",
            ",1",
            "6,2",
        ]
        assert "user 5 (not verified)" in panel_sync("users", "unmapped", **given).out

    def test_by_verified_email(self, panel_sync: PanelSync, engine: Engine, given: dict[str, str]) -> None:
        panel_sync("users", "add", "5", "--username", "a", "--email", "ANN@example.org")
        panel_sync("users", "add", "6", "--username", "b", "--email", "bob@example.org", "--email-verified")
        said = panel_sync("users", "map", "--by-email", **given)
        assert "user 6 would be the main site's 2" in said.out
        assert "panel user 5, main site's 1" in said.out
        assert maps(engine) == {5: None, 6: None}
        assert panel_sync("users", "map", "--by-email", "--apply", **given).code == 0
        assert maps(engine) == {5: None, 6: "2"}
        assert panel_sync("users", "verified", "5").code == 0
        assert panel_sync("users", "verified", "99").code == 2

    def test_a_verified_email_is_mapped_by_the_import(
        self, panel_sync: PanelSync, engine: Engine, given: dict[str, str]
    ) -> None:
        panel_sync("users", "add", "5", "--username", "a", "--email", "ann@example.org")
        panel_sync("users", "add", "6", "--username", "b", "--email", "bob@example.org", "--email-verified")
        assert "1 mapped" in panel_sync("users", "import", **given).out
        assert maps(engine) == {5: None, 6: "2"}
