"""Every command says how it is used and how it ends, and a list says of it what it says of itself."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator

import pytest
from typer._click.core import Command, Context

from cli.lazy_commands import Later
from cli.main import COMMANDS, app


def commands(command: Command = app, path: str = "panel-sync") -> Iterator[tuple[str, Command]]:
    """Whatever can be run, with its whole name; a hidden one is the old word for another."""
    command = command.loaded() if isinstance(command, Later) else command
    if command.hidden:
        return
    if getattr(command, "invoke_without_command", True):
        yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


RUN = dict(commands())


def paragraphs(command: Command) -> list[str]:
    return [" ".join(one.split()) for one in inspect.cleandoc(command.help or "").split("\n\n")]


def examples(path: str) -> list[str]:
    """The command lines that its help gives."""
    for said in paragraphs(RUN[path]):
        if found := re.match(r"Examples?: (.+)", said):
            return [one.removesuffix(".") for one in found[1].split("; ")]
    return []


def test_all_are_looked_at() -> None:
    assert len(RUN) > 40
    assert {"panel-sync findings", "panel-sync findings ack", "panel-sync users map"} <= set(RUN)


@pytest.mark.parametrize("path", RUN)
def test_it_has_an_example_that_works(path: str) -> None:
    assert examples(path), f"{path} --help needs a paragraph `Example: {path} ...`"
    for line in examples(path):
        assert line.startswith(path)
        arguments = shlex.split(line.partition(" > ")[0])[len(path.split()) :]
        RUN[path].make_context(path, arguments, parent=Context(app))


@pytest.mark.parametrize("path", RUN)
def test_it_says_how_it_ends(path: str) -> None:
    assert re.match(r"Ends ", paragraphs(RUN[path])[-1]), f"the last paragraph of {path} --help tells its exit codes"


@pytest.mark.parametrize("later", COMMANDS, ids=lambda one: one.name)
def test_a_list_says_what_the_command_says(later: Later) -> None:
    assert later.help == paragraphs(later.loaded())[0]
