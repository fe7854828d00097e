"""Tables and columns say what they hold: queues of VPSes, claims of orders, requests for tasks.

Stop the processes of the version before first, as docs/operations.md says: they ask by the old names.

PostgreSQL renames in the catalogue only: no row is written, and views, rights and policies follow. What stands in the
text of a function does not, so the one function that names these tables is made anew.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TABLES = {"lanes": "vps_queues", "claims": "order_claims", "nudges": "task_requests"}

# Table (by its new name), column, its new name.
COLUMNS = (
    ("vps_queues", "head", "queue_state"),
    ("source_states", "circuit", "backoff_state"),
    ("vps", "unconfirmed_since", "power_unconfirmed_since"),
)

FUNCTION = "public.prune_tombstones(integer, bigint, integer)"

NAMES = """
SELECT 'CONSTRAINT' AS kind, c.conname AS name, c.conrelid::regclass::text AS "table" FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = 'public' AND c.conrelid <> 0
UNION ALL
SELECT 'INDEX', i.relname, x.indrelid::regclass::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE n.nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.oid)
"""


def upgrade() -> None:
    for old, new in TABLES.items():
        op.rename_table(old, new)
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    _rename(TABLES | {"head": "queue_state"})


def downgrade() -> None:
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)
    for old, new in TABLES.items():
        op.rename_table(new, old)
    _rename({new: old for old, new in (TABLES | {"head": "queue_state"}).items()})


def _rename(words: dict[str, str]) -> None:
    """The names of constraints and indexes, which are made of tables' names, and the text of the function."""
    connection = op.get_bind()
    for kind, name, table in connection.execute(sa.text(NAMES)).all():
        if (called := _with(words, name, "_")) != name:
            of = f"TABLE {table} RENAME CONSTRAINT {name}" if kind == "CONSTRAINT" else f"INDEX {name} RENAME"
            op.execute(f"ALTER {of} TO {called}")
    body = connection.scalar(sa.text("SELECT pg_get_functiondef(CAST(:name AS regprocedure))"), {"name": FUNCTION})
    # Two names only: the tables', and the column's as `l.head`.
    tables = {f"public.{old}": f"public.{new}" for old, new in words.items()}
    for old, new in (tables | {f"l.{old}": f"l.{new}" for old, new in words.items()}).items():
        body = re.sub(rf"\b{re.escape(old)}\b", new, body)
    connection.exec_driver_sql(body.replace("%", "%%"))


def _with(words: dict[str, str], name: str, mark: str) -> str:
    """``name`` with each of its parts between two marks that is one of these words replaced."""
    for old, new in words.items():
        name = re.sub(rf"(?<={mark}){old}(?={mark}|$)", new, name)
    return name
