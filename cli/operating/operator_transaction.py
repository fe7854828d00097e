"""A command's transaction on the panel's database, and the operator who gives the command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection

from cli.connect import opened_panel
from cli.environment import command_settings
from panel.operators.actions.action import Action, Done
from panel.operators.audit import Actor

P = ParamSpec("P")
T = TypeVar("T")


def operator() -> Actor:
    """The operator who gives the command, by login name. No key is needed: who can reach the database may decide."""
    name = os.environ.get("SUDO_USER") or os.environ.get("USER") or "operator"
    return Actor(f"cli:{name}", "operate")


@contextlib.contextmanager
def transaction(**options: str) -> Iterator[Connection]:
    """One transaction on the database of the settings. ``options``: SQLAlchemy's for its execution. Raises CommandError
    if the database cannot be reached."""
    settings = command_settings("database_url")
    with opened_panel(settings.session_url) as engine, engine.execution_options(**options).begin() as connection:
        yield connection


def act(action: Action[P, T], *args: P.args, **kwargs: P.kwargs) -> Done[T]:
    """Do ``action`` as the command's operator, in its own transaction. Raises OperatorError, CommandError."""
    with transaction() as connection:
        return action(connection, operator(), *args, **kwargs)
