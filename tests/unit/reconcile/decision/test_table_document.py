from __future__ import annotations

from pathlib import Path

from reconcile.decision.table_document import document

DOCUMENT = Path(__file__).parents[4] / "docs" / "decision-table.md"


def test_the_committed_table_is_the_codes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "run: python -m reconcile.decision.table_document > docs/decision-table.md"
    )
