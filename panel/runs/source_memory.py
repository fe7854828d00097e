"""What runs remember of their sources between runs, also over a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from panel.journal import rows
from panel.operator_error import OperatorError
from panel.schema.source_tables import source_states


def source_state(connection: Connection, source: str) -> dict[str, Any]:
    """What is stored for a source; an empty mapping for a new one."""
    row = connection.execute(select(source_states).where(source_states.c.source == source)).one_or_none()
    return dict(row._mapping) if row is not None else {}


def users_imported(connection: Connection) -> bool:
    """Whether the main site's users were ever read completely."""
    return connection.scalar(text("SELECT max(last_users_at) FROM source_states")) is not None


def remember_source(connection: Connection, source: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Store columns for a source."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO source_states (source, {names}) VALUES (:source, {marks}) "  # noqa: S608 - own column names
            f"ON CONFLICT (source) DO UPDATE SET {changes}"
        ),
        {"source": source, **values},
    )


def acknowledge_source(connection: Connection, source: str) -> str:
    """An operator confirms that a source which lost much at once is right: for what is missing now, and no more.
    Returns the confirmed sentence. Raises OperatorError."""
    state = source_state(connection, source)
    if state.get("degraded_since") is None:
        raise OperatorError("conflict", f"{source} is not degraded; `panel-sync sources` lists what is")
    remember_source(connection, source, acknowledged_at=rows.database_now(connection))
    return str(state["degraded_reason"])


def acknowledged_in_words(source: str, confirmed: str) -> str:
    """What an acknowledgement means, for the operator who gave it. ``confirmed``: from ``acknowledge_source``."""
    return (
        f"{source} is believed again. You said that this is right: {confirmed.partition(';')[0]}. They count as "
        "missing from the next read on. A record is deleted only after the whole proof of absence, and within the "
        "limits. If much more goes missing, you are asked again."
    )


def remember_circuit(connection: Connection, source: str, circuit: Mapping[str, Any]) -> None:
    """Store these keys of a source's circuit breaker for the next process; other keys stay."""
    states = source_states
    upsert = pg_insert(states).values(source=source, backoff_state=dict(circuit))
    kept = func.coalesce(states.c.backoff_state, text("'{}'::jsonb")).op("||")(upsert.excluded.backoff_state)
    connection.execute(upsert.on_conflict_do_update(index_elements=["source"], set_={"backoff_state": kept}))
