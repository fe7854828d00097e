"""Many entries on one screen: a summary first, the rest by filter, by page, in full, or as JSON."""

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
TOP = 5

OfClass = Annotated[str | None, typer.Option("--class", help="Only this class: missed-create, owner-unknown, ...")]
OfCluster = Annotated[str | None, typer.Option("--cluster", help="Only of this cluster.")]
OfUser = Annotated[int | None, typer.Option("--user", min=1, help="Only of this customer (the panel's user id).")]
Page = Annotated[int, typer.Option("--page", min=1, help="Which page, with a filter.")]
PerPage = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Entries a page.")]
All = Annotated[bool, typer.Option("--all", help="All entries, however many.")]
Json = Annotated[bool, typer.Option("--json", help="All entries that the filter leaves, as JSON.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``column``: where it is counted. ``rank``: the smallest matters most. ``lines``: as printed. ``head``:
    printed before the first line if other kinds of entries stand beside it."""

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
        """Whether everything is listed in its order, without a summary."""
        return self.everything or (not self.filtered and self.page == 1 and len(entries) <= FITS)

    @property
    def filtered(self) -> bool:
        return any(one is not None for one in (self.class_, self.cluster, self.user))

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that pass the filter."""
        return [
            one
            for one in entries
            if self.class_ in (None, one.class_)
            and (self.cluster is None or self.cluster in one.clusters)
            and self.user in (None, one.user_id)
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
    counts = Counter((one.class_, one.column) for one in entries)
    for class_ in sorted({class_ for class_, _ in counts}, key=lambda c: (-_total(entries, c), c)):
        shown.add_row(class_, *(str(counts[class_, column] or "") for column in columns))
    out.print(shown)
    _most("clusters", (cluster for one in entries for cluster in one.clusters), str)
    _most("customers with most", (one.user_id for one in entries if one.user_id is not None), lambda u: f"user {u}")
    out.print(styled("bold", "What matters most:"))
    _print(_matter(entries), lines=1)


def _matter(entries: Sequence[Entry]) -> list[Entry]:
    """The ten of the smallest rank, at most three of a class while there are others."""
    ranked = sorted(entries, key=lambda one: one.rank)
    taken: Counter[str] = Counter()
    first: list[Entry] = []
    for one in ranked:
        taken[one.class_] += 1
        if taken[one.class_] <= OF_A_CLASS:
            first.append(one)
    kept = {id(one) for one in first}
    more = [one for one in ranked if id(one) not in kept][: max(0, MATTER - len(first))]
    return sorted(first[:MATTER] + more, key=lambda one: one.rank)


def _total(entries: Sequence[Entry], class_: str) -> int:
    return sum(one.class_ == class_ for one in entries)


def _most(title: str, values: Iterable[Any], said: Callable[[Any], str]) -> None:
    counts = Counter(values)
    if counts:
        more = f", and {len(counts) - TOP} more" if len(counts) > TOP else ""
        out.print(f"{title}: " + ", ".join(f"{said(v)}: {n}" for v, n in counts.most_common(TOP)) + more)


def _print(entries: Iterable[Entry], lines: int | None = None) -> None:
    for one in entries:
        for number, line in enumerate(one.lines[:lines]):
            out.print(*((one.head,) if one.head is not None and number == 0 else ()), *line)
