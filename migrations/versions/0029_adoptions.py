"""Guests that an operator gives to an order, and the look-ups of orders that may be a guest's.

Stop the processes of the version before first, as docs/operations.md says: the indexes keep three large tables from
being written until all of them are built.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ASKED = "cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason, evidence, adopted_by"
PROGRESS = "why, outcome, ended_at, ended_by, vps_id"


def upgrade() -> None:
    op.create_table(
        "adoptions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("vmid", sa.Integer(), nullable=False),
        sa.Column("guest_type", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("adopted_by", sa.Text(), nullable=False),
        sa.Column("adopted_at", MOMENT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("vps_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adoptions")),
        sa.CheckConstraint("guest_type IN ('qemu', 'lxc')", name=op.f("ck_adoptions_guest_type")),
        sa.CheckConstraint("outcome IN ('linked', 'withdrawn', 'lapsed')", name=op.f("ck_adoptions_outcome")),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_adoptions_ended_has_outcome")),
        sa.CheckConstraint(
            "(outcome = 'linked') IS TRUE = (vps_id IS NOT NULL)", name=op.f("ck_adoptions_linked_has_record")
        ),
    )
    still_open = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_adoptions_open_guest", "adoptions", ["cluster", "vmid"], unique=True, postgresql_where=still_open
    )
    op.create_index("uq_adoptions_open_order", "adoptions", ["order_id"], unique=True, postgresql_where=still_open)
    op.create_index("ix_adoptions_guest", "adoptions", ["cluster", "vmid", "id"])
    over = sa.text("ended_at IS NOT NULL")
    op.create_index("ix_adoptions_ended_at", "adoptions", ["ended_at"], postgresql_where=over)
    op.execute("GRANT SELECT, DELETE ON adoptions TO panel_app")
    op.execute(f"GRANT INSERT ({ASKED}) ON adoptions TO panel_app")
    op.execute(f"GRANT UPDATE ({PROGRESS}) ON adoptions TO panel_app")

    # Orders that may be a guest's: by name, by address, by VMID, and by size and time.
    going = sa.text("state IN ('active', 'pending', 'suspended')")
    op.create_index("ix_orders_seen_name", "orders_seen", ["name"], postgresql_where=going)
    op.create_index("ix_orders_seen_ip_address", "orders_seen", ["ip_address"], postgresql_where=going)
    op.create_index("ix_orders_seen_vmid", "orders_seen", ["vmid"], postgresql_where=going)
    op.create_index(
        "ix_orders_seen_size", "orders_seen", ["ram_mb", "cpu", "disk_gb", "created_at"], postgresql_where=going
    )
    alone = sa.text("deleted_at IS NULL AND vmid IS NULL")
    op.create_index("ix_vps_guestless_name", "vps", ["name"], postgresql_where=alone)
    op.create_index("ix_vps_guestless_ip_address", "vps", ["ip_address"], postgresql_where=alone)
    guestless = sa.text("state IN ('active', 'suspended') AND (cluster IS NULL OR vmid IS NULL)")
    op.create_index("ix_orders_seen_guestless", "orders_seen", ["order_id"], postgresql_where=guestless)
    listed = sa.text("unlisted_since IS NULL AND NOT template")
    op.create_index("ix_guests_name", "guests", ["name"], postgresql_where=listed)


def downgrade() -> None:
    # The version before does not know the word "adopted". This one has the same effect: the guest is read again first.
    op.execute("UPDATE guests SET doubt = 'restored' WHERE doubt = 'adopted'")
    op.drop_index("ix_guests_name", "guests")
    op.drop_index("ix_vps_guestless_ip_address", "vps")
    op.drop_index("ix_vps_guestless_name", "vps")
    for name in ("guestless", "size", "vmid", "ip_address", "name"):
        op.drop_index(f"ix_orders_seen_{name}", "orders_seen")
    op.drop_table("adoptions")
