"""Text from elsewhere on terminals and in logs: shown, never obeyed."""

from __future__ import annotations

import ast
import io
import json
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from panel.logging import configure_logging
from panel.printable import encodable, printable
from panel.terminal import SafeConsole, progress, styled, table
from tests.support.logs import logging_of_its_own

HOSTILE: list[tuple[str, str, str]] = [
    ("a line break", "a\nb", "a\\nb"),
    ("a carriage return", "a\rb", "a\\rb"),
    ("a colour", "\x1b[31mred", "\\x1b[31mred"),
    ("a window title", "\x1b]0;x\x07", "\\x1b]0;x\\x07"),
    ("an eight-bit control", "a\x9b2J", "a\\x9b2J"),
    ("a backspace", "ok\x08\x08no", "ok\\x08\\x08no"),
    ("a bidi override", "abc\u202egpj.exe", "abc\\u202egpj.exe"),
    ("a bidi isolate", "\u2066x\u2069", "\\u2066x\\u2069"),
    ("a line separator", "a\u2028b", "a\\u2028b"),
    ("a zero-width space", "a\u200bb", "a\\u200bb"),
    ("a tag character", "a\U000e0041", "a\\U000e0041"),
    ("half a surrogate pair", "a\ud800", "a\\ud800"),
]
CASES = pytest.mark.parametrize(("given_text", "shown"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
HARMLESS = ["web-01", "сервер", "خادم", "👩\u200d👩\u200d👧", "e\u0301", "[red]", ":rocket:", "C:\\new"]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    with logging_of_its_own():
        yield


@CASES
def test_what_a_terminal_would_obey_is_shown(given_text: str, shown: str) -> None:
    assert printable(given_text) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text())
def test_no_character_is_left_that_does_something(text: str) -> None:
    assert not {unicodedata.category(c) for c in printable(text) if c != "\u200d"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _printed(*renderables: object) -> str:
    stream = io.StringIO()
    SafeConsole(file=stream, width=200).print(*renderables)
    return stream.getvalue()


@CASES
def test_tables_and_lines_of_commands_show_it(given_text: str, shown: str) -> None:
    made = table("name", "status")
    made.add_row(given_text, "running")
    row = _printed(made).splitlines()[1]
    assert row.split() == [*shown.split(), "running"]
    for line in (given_text, styled("bold", given_text)):
        assert _printed(line) == f"{shown}\n"


MARKUP = ["[red]x[/]", "[/x]", "[/]", "[link=https://evil.example]x[/link]", "[@click=x]y[/]", "\\[red]", ":warning:"]


@pytest.mark.parametrize("text", [*HARMLESS, *MARKUP])
def test_names_are_printed_as_they_are(text: str) -> None:
    assert _printed(text) == f"{text}\n"
    assert _printed(styled("bold", text), text) == f"{text} {text}\n"
    made = table("name", title=text)
    made.add_row(text)
    made.add_row(styled("red", text))
    # On a terminal as well, where a link or a style would be written.
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=200, force_terminal=True, no_color=True)
    console.print(made)
    console.rule(text)
    with progress(console) as line:
        line.add_task(text)
        line.refresh()
    assert stream.getvalue().count(text) >= 5
    assert "\x1b]8" not in stream.getvalue(), "no link"


def test_a_cell_is_nothing_but_text() -> None:
    with pytest.raises(TypeError, match="a cell must be"):
        table("name").add_row(table("other"))


def test_no_call_can_ask_for_markup() -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=200, markup=True)
    console.print("[red]x[/]", "[/y]", markup=True)
    assert stream.getvalue() == "[red]x[/] [/y]\n"


PRINTING = ("api", "cli", "domain", "lab/chaos", "lab/demo", "panel", "reconcile", "runtime", "sources", "tracing",
            "worker")  # fmt: skip


def test_nothing_else_hands_text_to_rich() -> None:
    """Whoever prints goes through panel.terminal; a literal with markup would be printed as it is."""
    root = Path(__file__).resolve().parents[3]
    found = []
    for path in (file for package in PRINTING for file in sorted((root / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                if any(name.split(".")[0] == "rich" for name in named):
                    found.append(f"{path}:{node.lineno} imports rich")
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "[/]" in node.value:
                found.append(f"{path}:{node.lineno} has markup, which is printed as it is")
    assert [line for line in found if "panel/terminal.py" not in line] == []


def test_what_a_stream_cannot_encode_is_an_escape() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    encodable(stream)
    SafeConsole(file=stream, width=200).print("сервер — 👩", styled("red", "é"))
    stream.flush()
    assert raw.getvalue() == rb"\u0441\u0435\u0440\u0432\u0435\u0440 \u2014 \U0001f469 \xe9" + b"\n"


@CASES
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_one_event_is_one_line(log_format: str, given_text: str, shown: str) -> None:
    stream = io.StringIO()
    configure_logging(log_format, stream)
    structlog.get_logger("test").info("http_request", path=given_text)
    logging.getLogger("some.library").warning("asked for %s", given_text)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    if log_format == "json":
        assert all(line.isascii() and line.isprintable() for line in lines)
        assert (json.loads(lines[0])["path"], json.loads(lines[1])["event"]) == (given_text, f"asked for {given_text}")
    else:
        assert all(shown in line for line in lines)


def test_a_traceback_keeps_its_lines_on_the_console() -> None:
    stream = io.StringIO()
    configure_logging("console", stream)

    def fail() -> None:
        raise ValueError("a\x1b[31mb")

    try:
        fail()
    except ValueError:
        structlog.get_logger("test").exception("failed")
    assert len(stream.getvalue().splitlines()) > 3
    assert "\x1b" not in stream.getvalue()
