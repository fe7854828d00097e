"""Every action of an operator is wired: its command, its request, its role and its row in the audit."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from sqlalchemy import Connection, create_mock_engine

from api.operators import action_routes, reading_routes
from cli.lazy_commands import Later
from cli.main import app
from panel.operator_error import OperatorError
from panel.operators import actions
from panel.operators.actions.action import Action, Done, action
from panel.operators.audit import Actor

ROOT = Path(__file__).resolve().parents[4]
OLD_PATHS = {"/findings/{finding_id:id}/heed"}
"""What an action was called before: answered as ever."""

BY_WORKERS = {"runs.ask_for_run", "runs.ask_what_if"}
"""What has no command: the operator's own command applies what it has shown, and makes its plans itself."""


def listed() -> dict[str, Action[..., Any]]:
    """module.function -> action"""
    found: dict[str, Action[..., Any]] = {}
    for module in iter_modules(actions.__path__):
        loaded = vars(import_module(f"{actions.__name__}.{module.name}"))
        found |= {f"{module.name}.{name}": one for name, one in loaded.items() if isinstance(one, Action)}
    return found


ACTIONS = listed()
COMMANDS = "\n".join(path.read_text("utf-8") for path in (ROOT / "cli" / "operating").rglob("*.py"))


def command_of(name: str) -> Any:
    """The command of these words, or None."""
    found: Any = app
    for word in name.split():
        found = found.commands.get(word)
        found = found.loaded() if isinstance(found, Later) else found
    return found


def test_all_are_looked_at() -> None:
    assert len(ACTIONS) >= 20
    assert {"holds.approve", "findings.unignore", "users.map_many"} <= set(ACTIONS)


@pytest.mark.parametrize("name", ACTIONS)
def test_each_has_a_command_of_its_name_that_calls_it(name: str) -> None:
    assert command_of(ACTIONS[name].name) is not None
    assert (re.search(rf"\b{re.escape(name)}\b", COMMANDS) is not None) is (name not in BY_WORKERS)


def test_each_that_has_a_path_is_a_request_and_no_other_request_decides() -> None:
    decides = {route.path.removeprefix("/api/ops") for route in action_routes.router.routes}  # type: ignore[attr-defined]
    assert decides == {one.path for one in ACTIONS.values() if one.path is not None} | OLD_PATHS
    methods = {method for route in reading_routes.router.routes for method in route.methods}  # type: ignore[attr-defined]
    assert methods == {"GET"}


def test_the_old_word_of_unignore_is_the_same_command_and_not_shown() -> None:
    old, new = command_of("findings heed"), command_of("findings unignore")
    assert inspect.unwrap(old.callback) is inspect.unwrap(new.callback)
    assert (old.hidden, new.hidden) == (True, False)


def test_only_an_action_writes_the_audit_of_decisions() -> None:
    calls = {
        str(path.relative_to(ROOT))
        for package in ("api", "cli", "panel", "reconcile", "worker")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"(?<!def )\bnote_actions\(", path.read_text("utf-8"))
    }
    assert calls == {"panel/operators/actions/action.py"}


def test_a_reader_decides_nothing() -> None:
    with pytest.raises(OperatorError) as refused:
        remember(NOWHERE, Actor("api:eyes", "read"), "vps:1")
    assert (refused.value.fault, DONE) == ("forbidden", [])


DONE: list[str] = []
NOWHERE: Any = create_mock_engine("postgresql+psycopg://", lambda *_: None)


@action("remember")
def remember(_connection: Connection, _actor: Actor, subject: str) -> Done[None]:
    """Something to decide."""
    DONE.append(subject)
    return Done((subject,), "remembered", None)
