"""An installed package has no lab: what needs it says so, and where it is."""

from __future__ import annotations

import sys

import pytest

from cli.errors import CommandError
from cli.main import COMMANDS


@pytest.mark.parametrize("name", ["demo", "chaos"])
def test_a_command_of_the_lab_says_where_it_can_be_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (command,) = (one for one in COMMANDS if one.name == name)
    for module in [one for one in sys.modules if one.partition(".")[0] == "lab" or one == f"cli.serving.{name}"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "lab", None)
    with pytest.raises(CommandError, match=f"{name} needs .* lab/.* checkout of the source"):
        command.loaded()
