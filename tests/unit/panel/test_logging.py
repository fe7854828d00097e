"""Log lines carry no secret, whoever writes them."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from panel.logging import configure_logging
from tests.support.logs import logging_of_its_own

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """The test's logging is put back: others read records their own way."""
    with logging_of_its_own():
        yield


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


def test_the_level_of_a_room_counts_for_structlog_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    room = logging.getLogger("a.room")
    room.setLevel(logging.WARNING)
    try:
        structlog.get_logger("a.room").info("left_out")
        structlog.get_logger("a.room").warning("kept")
    finally:
        room.setLevel(logging.NOTSET)
    assert json.loads(capsys.readouterr().err)["event"] == "kept"


def test_a_line_that_cannot_be_written_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # else it is told on the real stderr
    stream = io.StringIO()
    configure_logging(stream=stream)
    stream.close()
    structlog.get_logger("test").info("something_happened")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("where", ["the main thread", "a thread"])
def test_what_nobody_catches_is_redacted_too(capsys: pytest.CaptureFixture[str], log_format: str, where: str) -> None:
    configure_logging(log_format, secrets=[SECRET])

    def fail() -> None:
        password = f"redis://:{SECRET}@h/0"
        raise ValueError(password)

    if where == "a thread":
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    else:
        try:
            fail()
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "uncaught_exception" in said
    assert "redis://:[redacted]@h/0" in said


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(log_format)

    def fail(_password: str) -> None:
        raise ValueError

    for log in (structlog.get_logger("a"), logging.getLogger("b")):
        try:
            fail(SECRET)
        except ValueError:
            log.exception("it_failed")
    said = capsys.readouterr().err
    assert SECRET not in said
    assert said.count("in fail") == 2


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert json.loads(capsys.readouterr().err)["event"] == "interrupted"
