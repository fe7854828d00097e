"""The decision table as a document: ``python -m reconcile.decision.table_document > docs/decision-table.md``. Pure."""

from __future__ import annotations

import sys

from reconcile.decision.cases import GuestView, OrderView, RecordView
from reconcile.decision.table import Cell, Verdict, cell

INTRODUCTION = """\
# The decision table

Generated from `reconcile/decision/table.py` by `python -m reconcile.decision.table_document`. A test keeps it equal.
Do not edit.

Each cell says what *may* be done for one order (rows) and one guest (columns), never whether it is due: grace
times, freshness, the proof of absence, the look-ups just before a write and the budgets come after it. While a
sync call for the record is accepted but not applied yet, every cell is **wait**.

* *order*, *guest*, *record*: what the main site sold, what exists on Proxmox, what the client sees here.
* *none-proven*: absent from enough complete reads over enough time; *none-unproven*: not seen, which proves nothing.
* *transitional*: under a lock, so that nothing of the guest is written, its link neither.
* *template*: the guest was turned into one. It cannot run, so only where it is may be written.
* *unobservable*: nothing the panel reads could show it.
* `order` and `power` name the facts that may be written; a finding is set in italics.
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
    reasons: dict[str, None] = {}
    lines = [f"## {HEADINGS[record]}", "", _line("order \\ guest", [guest.value for guest in GuestView])]
    lines.append("|---" * (len(GuestView) + 1) + "|")
    for order in OrderView:
        cells = [cell(order, guest, record, in_flight=False) for guest in GuestView]
        reasons |= dict.fromkeys(f"* **{order.value}**: {verdict.reason}" for verdict in cells)
        lines.append(_line(f"**{order.value}**", [_short(verdict) for verdict in cells]))
    return "\n".join([*lines, "", *reasons, ""])


def _short(verdict: Cell) -> str:
    said = verdict.verdict.value
    if verdict.verdict in {Verdict.CREATE, Verdict.DELETE}:
        said = f"**{said}**"
    facts = " ".join(f"`{fact}`" for fact in sorted(verdict.facts))
    finding = f"*{verdict.finding}*" if verdict.finding else ""
    return " ".join(part for part in (said, facts, finding) if part)


def _line(head: str, cells: list[str]) -> str:
    return "| " + " | ".join([head, *cells]) + " |"


if __name__ == "__main__":
    sys.stdout.write(document())
