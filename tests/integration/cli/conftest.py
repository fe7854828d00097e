from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.logs import logging_of_its_own


@dataclass(frozen=True, slots=True)
class Said:
    """A command's exit code and what it printed."""

    code: int
    out: str
    err: str


PanelSync = Callable[..., Said]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> PanelSync:
    """Run ``panel-sync`` in an empty directory with these settings and no others; in this process, for speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, **settings: str) -> Said:
        with pytest.MonkeyPatch.context() as patch:
            given = {"PANEL_DATA_DIR": str(tmp_path / "data"), "COLUMNS": os.environ["COLUMNS"], **settings}
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["panel-sync", *arguments])
            with pytest.raises(SystemExit) as ended, logging_of_its_own():
                main()
        shown = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, shown.out, shown.err)

    return run


@pytest.fixture
def settings(database: Database) -> dict[str, str]:
    """The settings of a panel on this test's database."""
    return {
        "DATABASE_URL": database.app_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "VPS_SYNC_API_KEY": random_key(),
        "OPS_API_KEY": random_key(),
        "JWT_SECRET": random_key(),
        "FLOWER_PASSWORD": random_key(),
    }


@pytest.fixture
def panel_sync(bare: PanelSync, settings: dict[str, str]) -> PanelSync:
    """Run ``panel-sync`` on this test's database."""

    def run(*arguments: str, **more: str) -> Said:
        return bare(*arguments, **settings | more)

    return run
