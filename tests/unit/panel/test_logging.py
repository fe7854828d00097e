"""Log lines carry no secret, whoever writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from panel.logging import configure_logging

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """The test's logging is put back: others read records their own way."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "name", ["api_key", "Authorization", "password", "token", "token_secret", "x_api_key", "db_password"]
)
def test_values_of_secret_names_are_redacted(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logging()
    structlog.get_logger("test").info("something_happened", **{name: SECRET})
    line = json.loads(capsys.readouterr().err)
    assert line[name] == "[redacted]"
    assert (line["event"], line["level"], line["logger"]) == ("something_happened", "info", "test")


def test_the_standard_library_s_records_come_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("some.library").warning("%s went wrong", "it")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["logger"]) == ("it went wrong", "warning", "some.library")


def test_the_process_s_secrets_are_struck_out_of_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(secrets=[SECRET])
    try:
        int(f"redis://:{SECRET}@h/0")  # its error quotes what it got, as some libraries' do
    except ValueError:
        logging.getLogger("some.library").exception("it failed with %s", SECRET)
    said = capsys.readouterr().err
    assert SECRET not in said
    line = json.loads(said)
    assert line["event"] == "it failed with [redacted]"
    assert "redis://:[redacted]@h/0" in line["exception"]


def test_chatty_libraries_are_kept_to_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("httpx").info("GET https://main/api/panel?key=%s", SECRET)
    assert capsys.readouterr().err == ""
