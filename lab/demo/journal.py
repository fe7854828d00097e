"""The panel's journal, absences and runs, read from its PostgreSQL. It writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select, text

from panel.schema import tables


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the journal. `reason` and `evidence` say why a repair was made."""

    id: int
    kind: str
    action: str
    vps_id: int
    state: str
    result: str | None
    reason: str | None
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of the reconciler. `problems` are the problems of its sources."""

    id: int
    kind: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """How often in a row a guest was missing from complete reads, and for how many seconds."""

    times: int
    seconds: float


class Journal:
    """Answers questions about one panel's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def last_id(self) -> int:
        """The newest operation's id; 0 in an empty journal."""
        return self._number(select(func.coalesce(func.max(tables.operations.c.id), 0)))

    def last_run(self) -> int:
        """The newest run's id; 0 if there was none."""
        return self._number(select(func.coalesce(func.max(tables.runs.c.id), 0)))

    def since(self, operation_id: int, *, kind: str | None = None) -> list[Operation]:
        """The operations that were journaled after `operation_id`, oldest first."""
        listed = tables.operations.c
        wanted = select(*(listed[name] for name in Operation.__slots__)).where(listed.id > operation_id)
        if kind is not None:
            wanted = wanted.where(listed.kind == kind)
        with self._engine.connect() as connection:
            return [Operation(**row._mapping) for row in connection.execute(wanted.order_by(listed.id))]

    def queued_operations(self) -> int:
        """How many operations wait to be applied."""
        return self._number(select(func.count()).where(tables.operations.c.state == "queued"))

    def deletes(self) -> int:
        """How many deletes were applied, from calls and from repairs."""
        listed = tables.operations.c
        return self._number(select(func.count()).where(listed.action == "delete", listed.state == "applied"))

    def runs_since(self, run_id: int, kind: str = "full") -> list[Run]:
        """The runs of that kind that began after `run_id` and are done, oldest first."""
        listed = tables.runs.c
        wanted = select(listed.id, listed.kind, listed.problems).where(
            listed.id > run_id, listed.kind == kind, listed.state == "done"
        )
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(listed.id))
            return [Run(row.id, row.kind, tuple(row.problems)) for row in rows]

    def absence(self, cluster: str, vmid: int) -> Absent | None:
        """What is known of a guest's absence; None while it is there."""
        with self._engine.connect() as connection:
            row = connection.execute(ABSENCE, {"subject": f"{cluster}/{vmid}"}).one_or_none()
        return None if row is None else Absent(row.consecutive, float(row.seconds))

    def column(self, vps_id: int, name: str) -> Any:  # noqa: ANN401 - a column of any type
        """One column of a record as it is stored; None without a record."""
        with self._engine.connect() as connection:
            return connection.scalar(select(tables.vps.c[name]).where(tables.vps.c.id == vps_id))

    def known_users(self) -> dict[int, str | None]:
        """The panel's users and the main site's id of each."""
        users = tables.users.c
        with self._engine.connect() as connection:
            return {
                row.id: row.main_site_user_id for row in connection.execute(select(users.id, users.main_site_user_id))
            }

    def unlinked(self) -> int:
        """How many live records have no verified guest or no order yet."""
        vps = tables.vps.c
        linked = (vps.link_state == "verified") & vps.order_id.is_not(None)
        return self._number(select(func.count()).where(vps.deleted_at.is_(None), ~linked))

    def _number(self, statement: Any) -> int:  # noqa: ANN401 - a select of one number
        with self._engine.connect() as connection:
            return int(connection.scalar(statement) or 0)


ABSENCE = text(
    "SELECT consecutive, extract(epoch FROM last_absent_at - absent_since) AS seconds"
    " FROM absences WHERE kind = 'guest' AND subject = :subject"
)
