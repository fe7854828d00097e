from __future__ import annotations

from pathlib import Path

from reconcile.table_doc import document

DOCUMENT = Path(__file__).parents[3] / "docs" / "decision-table.md"


def test_the_committed_table_is_the_codes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "run: python -m reconcile.table_doc > docs/decision-table.md"
    )
