"""The table, as Markdown for a page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measure import Ratio

HEAD = ("what", "ours", "yardstick", "ratio", "aim", "met", "CPU, ours / yardstick's", "CPU ratio")
BEGIN, END = "<!-- table of make bench -->", "<!-- end of the table -->"


def cells(row: Ratio) -> tuple[str, ...]:
    """The texts of one row."""
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    aim = "" if row.aim is None else str(row.aim)
    return row.what, row.ours, row.yardstick, _ratio(row.ratio), aim, met, row.cpu, _ratio(row.cpu_ratio)


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}" if ratio < 100 else f"{ratio:,.0f}"


def markdown(rows: Iterable[Ratio]) -> str:
    """The table of a page."""
    lines = [HEAD, ("---",) * len(HEAD), *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines) + "\n"


def summary(rows: Sequence[Ratio]) -> str:
    """How many aims are met."""
    aimed = [row for row in rows if row.aim is not None]
    return f"{sum(row.met is True for row in aimed)} of {len(aimed)} aims are met."


def into_page(page: str, table: str) -> str:
    """The page with the table between its two marks. Raises ValueError if they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"
