"""CSV that every reader takes back as it was, and that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import gc
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.operators.reports.csv_lines import FORMULA, as_text, cell, write_csv

# A NUL ends a text in Python's reader before 3.13, and PostgreSQL can store none; a lone surrogate is no UTF-8.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")', id="a formula"),
        pytest.param("+7 900", "'+7 900", id="plus"),
        pytest.param("-2+3", "'-2+3", id="minus"),
        pytest.param("@SUM(A1)", "'@SUM(A1)", id="at"),
        pytest.param("\t=1", "'\t=1", id="a tab before it"),
        pytest.param("\r=1", "'\r=1", id="a carriage return before it"),
        pytest.param("\n=1", "'\n=1", id="a line feed before it"),
        pytest.param("web-01", "web-01", id="a sign inside a text starts no formula"),
        pytest.param("", "", id="nothing in it"),
        pytest.param(-5, "-5", id="a number of the panel's own stays a number"),
        pytest.param(2.0, "2", id="whole cores"),
        pytest.param(0.5, "0.5", id="a part of a core"),
        pytest.param(None, "", id="not known"),
        pytest.param(datetime(2026, 11, 30, 12, 0, tzinfo=UTC), "2026-11-30T12:00:00+00:00", id="a time"),
    ],
)
def test_a_cell(value: object, expected: str) -> None:
    assert cell(value) == expected


@given(st.lists(st.fixed_dictionaries({"a": TEXTS, "b": TEXTS})))
def test_what_is_written_is_read_again(rows: list[dict[str, str]]) -> None:
    out = io.StringIO(newline="")
    write_csv(out, ("a", "b"), rows)
    written = out.getvalue()
    assert written.startswith("a,b\r\n")
    header, *read = list(csv.reader(io.StringIO(written, newline=""), strict=True))
    assert header == ["a", "b"]
    assert read == [[cell(row["a"]), cell(row["b"])] for row in rows]
    assert not any(text.startswith(FORMULA) for line in read for text in line)


def test_the_file_stays_open_whatever_happens() -> None:
    file = io.BytesIO()
    with as_text(file) as text:
        text.write("Анна\r\n")
    with pytest.raises(UnicodeEncodeError), as_text(file) as text:
        text.write("\ud800")
    gc.collect()
    assert file.getvalue().decode() == "Анна\r\n"
