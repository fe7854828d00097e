"""A command imports what it uses: asking for help costs no database driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOKING = """
import sys
from cli.main import main
sys.argv = ["panel-sync", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {
    "alembic", "celery", "fastapi", "httpx", "kombu", "psycopg", "pydantic", "redis", "sqlalchemy", "structlog",
    "uvicorn",
}  # fmt: skip


def imported(directory: Path, *arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the heavy libraries that it imports."""
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", LOOKING, *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout, set(ran.stderr.split()) & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["no-such-command"]], ids=" ".join)
def test_before_a_command_is_chosen_nothing_is(tmp_path: Path, arguments: list[str]) -> None:
    said, found = imported(tmp_path, *arguments)
    assert not found - ({"pydantic"} if arguments == ["no-such-command"] else set()), "but Typer's own, for its error"
    if arguments == ["--version"]:
        assert said == "panel-sync 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "not_these"),
    [
        (["token", "--help"], {"celery", "fastapi", "httpx", "kombu", "uvicorn"}),
        (["runs", "--help"], {"celery", "fastapi", "httpx", "kombu", "uvicorn"}),
        (["findings", "ack", "--help"], {"celery", "fastapi", "httpx", "kombu", "uvicorn"}),
        (["api", "--help"], {"celery", "fastapi", "sqlalchemy", "uvicorn"}),
        (["plan", "--help"], {"fastapi", "uvicorn"}),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_a_command_imports_what_it_uses(tmp_path: Path, arguments: list[str], not_these: set[str]) -> None:
    _, found = imported(tmp_path, *arguments)
    assert not found & not_these
