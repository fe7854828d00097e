"""The pages: every link leads somewhere, the README fits on a screen, and no room is missing from the map."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"\]\(([^()\s]+)\)")
READERS_LANGUAGES = ("README.md", "README.ru.md")


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", "ls-files", *patterns],  # noqa: S607 - git, wherever it is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


PAGES = [name for name in tracked("*.md") if (ROOT / name).is_file()]


def prose(page: Path) -> str:
    """The page without what stands between fences."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a link to a heading of the page may end in, as GitHub makes it of the heading."""
    found: dict[str, int] = {}
    for heading in re.findall(r"(?m)^#{1,6} (.+)$", prose(page)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return frozenset(slug if not n else f"{slug}-{n}" for slug, last in found.items() for n in range(last + 1))


def broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    assert list(broken(ROOT / name)) == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "CHANGELOG.md"])
def test_every_file_that_a_page_names_exists(name: str) -> None:
    """Named from the top of the repository or from tests/, or by the file's name alone."""
    there = tracked()
    named = set(re.findall(r"`([\w/-]+\.py)(?:::\w+)?`", (ROOT / name).read_text(encoding="utf-8")))
    assert {one for one in named if not any(f"/{path}".endswith(f"/{one}") for path in there)} == set()


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / name for name in READERS_LANGUAGES]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page))]
    assert {name for name in PAGES if not name.startswith("tests/")} <= {str(one.relative_to(ROOT)) for one in reached}


@pytest.mark.parametrize("name", READERS_LANGUAGES)
def test_the_readme_fits_on_a_screen_and_has_a_picture(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert re.search(r"!\[.+\]\(docs/images/.+\.svg\)", text)


def test_the_russian_pages_have_the_commands_settings_and_words_of_the_english_ones() -> None:
    for name in ("contract.md", "install.md", "commands.md", "monitoring.md", "settings.md"):
        english, russian = (set(words(ROOT / "docs" / one / name)) for one in ("", "ru"))
        assert english - russian == set(), name


def words(page: Path) -> list[str]:
    """What means the same in both languages: settings, codes, paths and commands."""
    text = page.read_text(encoding="utf-8")
    return re.findall(
        r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|(?<=`)(?:GET|POST) /[^`]+(?=`)|(?<=`)panel-sync [a-z]+|\b[45]\d\d\b", text
    )


def test_the_map_has_every_room() -> None:
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    told = re.findall(r"(?m)^\| `([\w/]+)/` \|", page)
    rooms = {str(Path(name).parent) for name in tracked("*/__init__.py")}
    rooms = {room for room in rooms if not room.startswith("tests") and room != "migrations/versions"}
    assert sorted(told) == sorted(rooms)


def test_the_map_has_every_folder_of_tests() -> None:
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    there = {Path(name).parts[1] for name in tracked("tests/*/*")}
    assert {name for name in there if f"`tests/{name}`" not in page} == set()
