"""Tables about guests: their sizes by their own configurations (:mod:`panel.observations.guest_configs`), and the
guests that operators ignore for good (:mod:`panel.operators.findings`)."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, Table, Text

from panel.schema.tables import Time, metadata, now_column

guest_configs = Table(
    "guest_configs",
    metadata,
    # The sizes as last read, with the fingerprint of that very read: the VMID may belong to another machine by now.
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("fingerprint", Text, nullable=False),
    Column("cores", Double),
    Column("memory_mb", Integer),
    Column("disk_gb", Integer),  # all volumes together
    Column("since", Time, nullable=False),  # the first read that gave these values
    Column("read_at", Time, nullable=False),
    PrimaryKeyConstraint("cluster", "vmid"),
    ForeignKeyConstraint(["cluster", "vmid"], ["guests.cluster", "guests.vmid"], ondelete="CASCADE"),
)

ignored_guests = Table(
    "ignored_guests",
    metadata,
    # A row has no end. It is bound to the machine: another guest that gets the VMID is reported again.
    Column("cluster", Text),
    Column("vmid", Integer),
    Column("fingerprint", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ignored_by", Text, nullable=False),
    now_column("ignored_at"),
    PrimaryKeyConstraint("cluster", "vmid"),
)
