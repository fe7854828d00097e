"""The decision table as a document: ``python -m reconcile.decision.table_document > docs/decision-table.md``. Pure."""

from __future__ import annotations

import sys

from reconcile.decision.cases import GuestView, OrderView, RecordView
from reconcile.decision.table import Cell, Verdict, cell

INTRODUCTION = """\
# The decision table

Generated from `reconcile/decision/table.py` by `python -m reconcile.decision.table_document`. A test keeps it equal.
Do not edit.

Each cell says what *may* be done for one order (rows) and one guest (columns). It does not say that it is due: grace
times, freshness, the proof of absence, the look-ups just before a write and the limits come after it. While a sync call
for the record is accepted but not applied yet, every cell is **wait**.

* *order* is what the main site sold, *guest* what exists on Proxmox, *record* what the client sees here.
* *none-proven*: it was absent from enough complete reads over enough time. For a guest without a record: no order of
  the last complete sweep names it.
* *none-unproven*: it was not seen, which proves nothing.
* *transitional*: Proxmox has a lock on the guest, so nothing of it is written, nor its link.
* *template*: the guest was turned into one. It cannot run, so of the guest only the link may be written.
* *unobservable*: nothing that the panel reads could show it.
* **create** and **delete** make or remove the record; *repair* writes facts of it; *hold* neither
  makes nor removes it, since too little is known or a person must decide.
* `order` and `power` name the facts that may be written. A finding is in italics.
"""

HEADINGS = {
    RecordView.NONE: "There is no record",
    RecordView.LIVE: "There is a live record",
    RecordView.TOMBSTONE: "The record was deleted here",
}


def document() -> str:
    """The whole document, ending in a newline."""
    return "\n".join([INTRODUCTION, *(_section(record) for record in RecordView)])


def _section(record: RecordView) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    lines = [f"## {HEADINGS[record]}", "", _line("order \\ guest", [guest.value for guest in GuestView])]
    lines.append("|---" * (len(GuestView) + 1) + "|")
    for order in OrderView:
        cells = [cell(order, guest, record, in_flight=False) for guest in GuestView]
        for guest, verdict in zip(GuestView, cells, strict=True):
            reasons.setdefault((order.value, verdict.reason), []).append(guest.value)
        lines.append(_line(f"**{order.value}**", [_short(verdict) for verdict in cells]))
    why = [f"* **{order}**, guest {_guests(guests)}: {reason}" for (order, reason), guests in reasons.items()]
    return "\n".join([*lines, "", *why, ""])


def _guests(guests: list[str]) -> str:
    return "any" if len(guests) == len(GuestView) else " or ".join(guests)


def _short(verdict: Cell) -> str:
    word = verdict.verdict.value
    if verdict.verdict in {Verdict.CREATE, Verdict.DELETE}:
        word = f"**{word}**"
    facts = " ".join(f"`{fact}`" for fact in sorted(verdict.facts))
    finding = f"*{verdict.finding}*" if verdict.finding else ""
    return " ".join(part for part in (word, facts, finding) if part)


def _line(head: str, cells: list[str]) -> str:
    return "| " + " | ".join([head, *cells]) + " |"


if __name__ == "__main__":
    sys.stdout.write(document())
