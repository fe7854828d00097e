import os
from pathlib import Path

import pytest

from runtime.processes.child_logs import open_log, rotate_log, tail, with_tail

CASES = {
    "absent": (None, 3, []),
    "empty": ("", 3, []),
    "shorter than asked": ("one\ntwo\n", 3, ["one", "two"]),
    "exactly the last lines": ("one\ntwo\nthree\nfour\n", 2, ["three", "four"]),
    "last line unfinished": ("one\ntwo", 1, ["two"]),
    "long file is read from its end": ("x\n" * 100_000 + "end\n", 1, ["end"]),
}


@pytest.mark.parametrize(("content", "lines", "expected"), CASES.values(), ids=CASES)
def test_tail(tmp_path: Path, content: str | None, lines: int, expected: list[str]) -> None:
    log = tmp_path / "a.log"
    if content is not None:
        log.write_text(content)
    assert tail(log, lines) == expected


def test_tail_survives_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"caf\xe9\n")
    assert tail(log, 1) == ["caf\ufffd"]


def test_rotation_keeps_the_previous_run_only(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for run in ("first", "second", "third"):
        rotate_log(log)
        log.write_text(run)
    assert log.read_text() == "third"
    assert (tmp_path / "a.log.1").read_text() == "second"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_log_is_private_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "sub" / "a.log"
    for text in (b"one\n", b"two\n"):
        fd = open_log(log)
        os.write(fd, text)
        os.close(fd)
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_message_with_and_without_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert "is empty" in with_tail("It ended", log)
    log.write_text("why\n")
    assert with_tail("It ended", log) == f"It ended; the last lines of {log}:\n  why"
