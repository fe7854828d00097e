"""Lists of many entries: a summary first; the entries by filter, by page, all of them, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from cli.errors import CommandError
from cli.output.console import out
from panel.terminal import Piece, styled, table

FITS = 30
"""Up to this many entries are listed; more are summed up."""
MATTER, OF_A_CLASS = 10, 3
"""How many entries a summary shows, and how many of one class while there are others."""
TOP = 5
"""How many clusters and customers a summary names."""

OfClass = Annotated[str | None, typer.Option("--class", help="Only this class: missed-create, owner-unknown, ...")]
OfCluster = Annotated[str | None, typer.Option("--cluster", help="Only of this cluster.")]
OfUser = Annotated[int | None, typer.Option("--user", min=1, help="Only of this customer (the panel's user id).")]
Page = Annotated[int, typer.Option("--page", min=1, help="Which page of the list.")]
PerPage = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Entries a page.")]
All = Annotated[bool, typer.Option("--all", help="All entries, however many.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``column``: the column of the summary that counts it. ``rank``: the smallest matters most. ``lines``:
    as printed. ``head``: printed before the first line in a list of several kinds. ``plain``: the entry as JSON."""

    column: str
    class_: str
    rank: int
    lines: tuple[tuple[Piece, ...], ...]
    clusters: frozenset[str] = frozenset()
    user_id: int | None = None
    plain: dict[str, Any] = field(default_factory=dict)
    head: Piece | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Which entries the operator asked for."""

    class_: str | None = None
    cluster: str | None = None
    user: int | None = None
    page: int = 1
    limit: int = 50
    everything: bool = False

    def whole(self, entries: Sequence[Entry]) -> bool:
        """Whether all entries are listed, instead of a summary or a page."""
        return self.everything or (not self.filtered and self.page == 1 and len(entries) <= FITS)

    @property
    def filtered(self) -> bool:
        return any(option is not None for option in (self.class_, self.cluster, self.user))

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that pass the filter."""
        return [
            entry
            for entry in entries
            if self.class_ in (None, entry.class_)
            and (self.cluster is None or self.cluster in entry.clusters)
            and self.user in (None, entry.user_id)
        ]


def show(entries: Sequence[Entry], view: View, columns: Sequence[str], again: str) -> None:
    """Print what the view asks for. ``columns``: the counts of a summary. ``again``: the command for the rest."""
    wanted = view.of(entries)
    if view.whole(wanted):
        _print(wanted)
        return
    if not view.filtered and view.page == 1:
        summarise(wanted, columns)
        out.print(f"All of it: {again} --class CLASS | --cluster NAME | --user ID [--page N], or --all, or --json")
        return
    first = (view.page - 1) * view.limit
    shown = wanted[first : first + view.limit]
    if not shown and wanted:
        raise CommandError(f"there are {len(wanted)} entries: page {view.page} does not exist")
    _print(shown)
    out.print(f"{first + 1 if shown else 0} to {first + len(shown)} of {len(wanted)}")


def summarise(entries: Sequence[Entry], columns: Sequence[str]) -> None:
    """Counts by class and by cluster, the customers with most entries, and the ten entries that matter most."""
    shown = table("class", *columns)
    counts = Counter((entry.class_, entry.column) for entry in entries)
    totals = Counter(entry.class_ for entry in entries)
    for class_ in sorted(totals, key=lambda c: (-totals[c], c)):
        shown.add_row(class_, *(str(counts[class_, column] or "") for column in columns))
    out.print(shown)
    _most("clusters", (cluster for entry in entries for cluster in entry.clusters), str)
    customers = (entry.user_id for entry in entries if entry.user_id is not None)
    _most("customers with most", customers, lambda user_id: f"user {user_id}")
    out.print(styled("bold", "What matters most:"))
    _print(_most_important(entries), lines=1)


def _most_important(entries: Sequence[Entry]) -> list[Entry]:
    """The ten entries of the smallest rank, at most three of a class while there are others."""
    ranked = sorted(entries, key=lambda entry: entry.rank)
    taken: Counter[str] = Counter()
    first: list[Entry] = []
    for entry in ranked:
        taken[entry.class_] += 1
        if taken[entry.class_] <= OF_A_CLASS:
            first.append(entry)
    kept = {id(entry) for entry in first}
    more = [entry for entry in ranked if id(entry) not in kept][: max(0, MATTER - len(first))]
    return sorted(first[:MATTER] + more, key=lambda entry: entry.rank)


def _most(title: str, values: Iterable[Any], label: Callable[[Any], str]) -> None:
    counts = Counter(values)
    if counts:
        more = f", and {len(counts) - TOP} more" if len(counts) > TOP else ""
        out.print(f"{title}: " + ", ".join(f"{label(v)}: {n}" for v, n in counts.most_common(TOP)) + more)


def _print(entries: Iterable[Entry], lines: int | None = None) -> None:
    for entry in entries:
        for number, line in enumerate(entry.lines[:lines]):
            out.print(*((entry.head,) if entry.head is not None and number == 0 else ()), *line)
