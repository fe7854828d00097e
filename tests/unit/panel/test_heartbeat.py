"""A beat is worth what it says: when a worker counts as deaf, and what health checks are told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from panel.heartbeat import OLD_S, VARIABLE, MessageIntake, Pulse, main


def test_a_worker_that_waits_for_messages_is_well() -> None:
    intake = MessageIntake(0.0)
    assert all(intake.is_healthy(now, waits=True, limit_s=OLD_S) for now in (5.0, 500.0, 5000.0))
    assert intake.is_healthy(5000.0 + OLD_S, waits=False, limit_s=OLD_S)
    assert not intake.is_healthy(5001.0 + OLD_S, waits=False, limit_s=OLD_S)


def test_one_that_is_busy_is_well_for_as_long_as_its_task_may_take() -> None:
    intake = MessageIntake(0.0)
    assert intake.is_healthy(700.0, waits=False, limit_s=720.0)
    assert not intake.is_healthy(721.0, waits=False, limit_s=720.0)
    assert intake.is_healthy(722.0, waits=True, limit_s=30.0), "it waits again"


def test_the_health_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main() == 2
    monkeypatch.setenv(VARIABLE, str(tmp_path / "beat"))
    assert main() == 1
    Pulse().beat()
    assert main() == 0
    Pulse(lambda: time.monotonic() - OLD_S - 5).beat()
    assert main() == 1
    assert "the last heartbeat is 35 s old" in capsys.readouterr().err


def test_a_heartbeat_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no" / "such" / "place"))
    pulse = Pulse()
    pulse.beat()
    assert pulse.count == 1
