"""What a batch writes: only the parts that have rows, in one statement."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from panel.journal.accepting.batch_writes import PARTS, BatchWrites

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROW: dict[str, Any] = {"vps_id": 1}


def test_nothing_to_write_is_no_statement() -> None:
    assert BatchWrites().statement() is None


@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_rows_is_written_and_no_other(part: str) -> None:
    writes = BatchWrites()
    setattr(writes, part, [ROW])
    statement = writes.statement() or ""
    assert [name for name in PARTS if f"%({name})s" in statement] == [part]
    assert json.loads(writes.values(NOW, "bell")[part]) == [ROW]


@pytest.mark.parametrize(
    ("writes", "wakes"),
    [
        (BatchWrites(operations=[ROW]), True),
        (BatchWrites(imports_users=True), True),
        (BatchWrites(idempotency_keys=[ROW]), False),
    ],
    ids=["an operation", "an import of users", "a key alone: its operation was journaled before"],
)
def test_the_relay_is_woken_for_what_it_is_to_send(writes: BatchWrites, wakes: bool) -> None:
    assert ("pg_notify" in (writes.statement() or "")) is wakes
