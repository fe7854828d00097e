"""docs/reliability.md says of every table how long its rows are kept."""

from __future__ import annotations

import re
from pathlib import Path

from panel.schema import (
    adoption_tables,
    audit_tables,
    client_tables,
    duty_tables,
    guest_tables,
    operator_tables,
    pause_tables,
    power_tables,
    prune_tables,
    service_level_tables,
    source_tables,
    statistics_tables,
    tables,
    webhook_tables,
    what_if_tables,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
MODULES = (
    adoption_tables,
    audit_tables,
    client_tables,
    duty_tables,
    guest_tables,
    operator_tables,
    pause_tables,
    power_tables,
    prune_tables,
    service_level_tables,
    source_tables,
    statistics_tables,
    tables,
    what_if_tables,
    webhook_tables,
)


def test_every_table_has_its_line() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Retention\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(named) == sorted(tables.metadata.tables)


def test_all_modules_of_tables_are_looked_at() -> None:
    there = {path.stem for path in (PAGE.parents[1] / "panel" / "schema").glob("*tables.py")}
    assert there == {module.__name__.rpartition(".")[2] for module in MODULES}
