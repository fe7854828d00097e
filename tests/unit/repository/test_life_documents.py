"""The pages that tell a run, a sync call and a power action follow the code: what they name exists, in its order."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from reconcile import run, run_context

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("life-of-a-run.md", "life-of-a-sync-call.md", "life-of-a-power-action.md")
ROOMS = "api|domain|panel|reconcile|runtime|sources|worker"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def found(dotted: str) -> object:
    """The module, class, function or method of that name. Raises AttributeError or ModuleNotFoundError."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_names_exists(name: str) -> None:
    named = re.findall(rf"`((?:{ROOMS})\.[\w.]+)`", page(name))
    tasks = {"reconcile.run", "reconcile.fast"}
    assert len(named) > 12
    assert [one for one in named if one not in tasks and not found(one)] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_within_a_page_lead_to_a_heading(name: str) -> None:
    text = page(name)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"\]\(#([^)]+)\)", text)
    assert linked
    assert set(linked) <= anchors


def called(function: object) -> list[str]:
    """What a function calls, by the last part of its name, in order."""
    tree = ast.parse(inspect.getsource(function))  # type: ignore[arg-type]
    calls = sorted((n for n in ast.walk(tree) if isinstance(n, ast.Call)), key=lambda n: (n.lineno, n.col_offset))
    return [ast.unparse(call.func).rpartition(".")[2] for call in calls]


def test_the_steps_of_a_run_come_in_the_order_of_the_page() -> None:
    steps = re.findall(r"^\| \[\d+\]\(#.+?\) \| (.+?) \|", page("life-of-a-run.md"), re.MULTILINE)
    names = [name for step in steps for name in re.findall(r"`(\w+)`", step)]
    turn = called(run_context._in_turn)
    lease = turn.index("take_lease")
    code = [*turn[:lease], *called(run._read_ahead), *turn[lease:], *called(run._full_steps), "end_run"]
    assert [name for name in code if name in names] == names
