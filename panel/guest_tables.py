"""The table of what guests' own configurations say; :mod:`panel.guest_configs` writes and reads it."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, Table, Text

from panel.tables import Time, metadata

guest_configs = Table(
    "guest_configs",
    metadata,
    # As last read. Bound to the fingerprint of that very read: a VMID may be another machine's by now.
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("fingerprint", Text, nullable=False),
    Column("cores", Double),
    Column("memory_mb", Integer),
    Column("disk_gb", Integer),  # all volumes together
    Column("since", Time, nullable=False),  # since which read it says this
    Column("read_at", Time, nullable=False),
    PrimaryKeyConstraint("cluster", "vmid"),
    ForeignKeyConstraint(["cluster", "vmid"], ["guests.cluster", "guests.vmid"], ondelete="CASCADE"),
)
