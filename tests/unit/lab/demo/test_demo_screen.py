"""What is printed where there is no terminal."""

from __future__ import annotations

import io

from lab.demo.screen import Screen, Sight
from panel.terminal import SafeConsole


def printed(width: int = 100) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(SafeConsole(file=out, width=width)), out


def test_plain_text_has_no_control_codes() -> None:
    screen, out = printed()
    screen.heading("1. A title")
    with screen.waiting("something happens") as waiting:
        waiting.show("1/3")
    screen.table([Sight("scene", "fault", "broken", "1 s", "reason")])
    assert "\x1b" not in out.getvalue()
    assert "something happens" in out.getvalue()


def test_news_is_told_once() -> None:
    screen, out = printed()
    with screen.waiting("a proof") as waiting:
        for news in ("1/3", "1/3", "2/3", "2/3"):
            waiting.show(news)
    assert (out.getvalue().count("1/3"), out.getvalue().count("2/3")) == (1, 1)


def test_every_cell_stands_under_its_heading() -> None:
    screen, out = printed()
    screen.table([Sight("S", "F", "B", "H", "J")])
    heading, row = (line for line in out.getvalue().splitlines() if line.strip() and "What was seen" not in line)
    starts = [heading.index(name) for name in ("scene", "fault", "seen broken", "healed in", "journal's reason")]
    assert [row[start] for start in starts] == ["S", "F", "B", "H", "J"]


def test_what_others_wrote_is_no_markup() -> None:
    screen, out = printed()
    screen.say("a [bold]name[/] with brackets [/]")
    screen.table([Sight("[red]", "[/]", "b", "1 s", "[x]")])
    screen.failure("[/]", "[seen]", [("a.log", ["[info] a line"])])
    for text in ("a [bold]name[/] with brackets [/]", "[red]", "[x]", "[seen]", "[info] a line"):
        assert text in out.getvalue()
