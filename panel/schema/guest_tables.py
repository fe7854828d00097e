"""Tables about guests: what their own configurations say (:mod:`panel.observations.guest_configs`), and which
ones operators want to hear no more of (:mod:`panel.operators.findings`)."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, Table, Text

from panel.schema.tables import Time, metadata, now_column

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

ignored_guests = Table(
    "ignored_guests",
    metadata,
    # Without end, and bound to the machine: whoever is given its VMID is told of again.
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("fingerprint", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ignored_by", Text, nullable=False),
    now_column("ignored_at"),
    PrimaryKeyConstraint("cluster", "vmid"),
)
