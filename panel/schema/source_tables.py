"""The table of what runs remember of their sources; :mod:`panel.runs.source_states` writes and reads it."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from panel.schema.tables import Time, metadata

source_states = Table(
    "source_states",
    metadata,
    # For each source, what the next run must know of earlier runs.
    Column("source", Text, primary_key=True),
    Column("last_good_count", Integer),
    Column("last_good_at", Time),
    Column("last_sweep_at", Time),
    Column("delta_since", Time),
    Column("rolled_to", Text),  # the user id at which the last read that goes user by user stopped
    Column("last_users_at", Time),
    Column("degraded_since", Time),
    Column("degraded_reason", Text),
    # Since when it is not believed, and why (:mod:`panel.runs.source_states`); NULL while it has no trouble.
    Column("unwell_since", Time),
    Column("unwell_cause", Text),
    Column("unwell_reason", Text),
    Column("filling_since", Time),  # of "panel": since when an operator's word for the first filling counts
    Column("degraded_missing", ARRAY(Text)),  # what was missing then: order ids, or "cluster/vmid"
    Column("backoff_state", JSONB),
    Column("acknowledged_at", Time),  # if later than degraded_since, it covers what degraded_missing lists
)
