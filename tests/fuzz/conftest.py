"""Millions of refusals, of which nobody needs a line each."""

from __future__ import annotations

import pytest
import structlog

from api.http import protocol


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "log", structlog.wrap_logger(structlog.testing.ReturnLogger(), processors=[]))
