"""The shell completes commands, those of a group too, and asking it what may follow loads no more than it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMPLETING = "from cli.main import main; import sys; sys.argv[0] = 'panel-sync'; main()"


def completed(words: str) -> set[str]:
    """What bash is told that may follow these words."""
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", COMPLETING],
        env={
            "PATH": os.environ["PATH"],
            "_PANEL_SYNC_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param("panel-sync fin", {"findings"}, id="a command"),
        pytest.param("panel-sync findings a", {"ack"}, id="one of a group"),
        pytest.param("panel-sync plan --cl", {"--class", "--cluster"}, id="an option"),
    ],
)
def test_what_the_shell_is_offered(words: str, offered: set[str]) -> None:
    assert completed(words) == offered


def test_the_root_says_how_to_switch_it_on() -> None:
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", COMPLETING, "--show-completion", "bash"],
        # Typer would look for a shell among the parents of this process, and there may be none.
        env={"PATH": os.environ["PATH"], "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complete -o default -F _panel_sync_completion panel-sync" in ran.stdout
