"""Rows that a test starts from, and short looks at what became of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, insert, select

from panel.schema import tables


def add_user(
    engine: Engine, user_id: int = 5, *, main_site_user_id: str | None = None, username: str | None = None
) -> int:
    """A user of the panel, mapped to the main site's where its id is given."""
    row = {
        "id": user_id,
        "username": username or f"user{user_id}",
        "main_site_user_id": main_site_user_id,
        "map_source": None if main_site_user_id is None else "operator",
    }
    with engine.begin() as connection:
        connection.execute(insert(tables.users), [row])
    return user_id


def vps_row(engine: Engine, vps_id: int) -> dict[str, Any] | None:
    """The record as stored, tombstones included."""
    with engine.connect() as connection:
        found = connection.execute(select(tables.vps).where(tables.vps.c.id == vps_id)).one_or_none()
    return dict(found._mapping) if found else None


def operation(engine: Engine, operation_id: int) -> dict[str, Any]:
    """One row of the journal."""
    with engine.connect() as connection:
        found = connection.execute(select(tables.operations).where(tables.operations.c.id == operation_id)).one()
    return dict(found._mapping)


def journal(engine: Engine, vps_id: int) -> list[dict[str, Any]]:
    """A VPS's operations in the order of their journaling."""
    operations = tables.operations
    with engine.connect() as connection:
        found = connection.execute(select(operations).where(operations.c.vps_id == vps_id).order_by(operations.c.seq))
        return [dict(row._mapping) for row in found]


def open_findings(engine: Engine) -> list[tuple[str, str]]:
    """(class, subject) of every open finding, sorted."""
    findings = tables.findings
    with engine.connect() as connection:
        found = connection.execute(
            select(findings.c["class"], findings.c.subject).where(findings.c.resolved_at.is_(None))
        )
        return sorted((row[0], row[1]) for row in found)
