"""Commands that are imported only when they are chosen, so that `--help` stays fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.errors import CommandError

if TYPE_CHECKING:
    from typer._click.core import Command, Context


NO_LAB = (
    "{name} needs the simulators and the faults of lab/, which an installed package leaves out. "
    "Run it in a checkout of the source: .venv/bin/panel-sync {name}"
)


class Later(TyperCommand):
    """A command as a list shows it. ``at``: "module:function" or "module:typer_app". ``summary``: the first paragraph
    of its docstring."""

    def __init__(self, name: str, at: str, panel: str, summary: str) -> None:
        super().__init__(name, help=summary, rich_help_panel=panel)
        self.at = at

    def loaded(self) -> Command:
        """The imported command. Raises CommandError if it needs lab/ and that is not installed."""
        module, _, name = self.at.partition(":")
        try:
            target = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "lab":
                raise
            raise CommandError(NO_LAB.format(name=self.name)) from error
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False)
            target.command(self.name)(function)
        command = get_command(target)
        command.name = self.name
        return command


class Commands(TyperGroup):
    """A group of commands, some of them not imported yet (:class:`Later`)."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """The command to run, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.loaded() if isinstance(command, Later) else command, rest
