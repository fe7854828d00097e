"""A dry run observes on copies, so that nothing it saw counts for a later run.

If an operator asks for a plan ten times, that must not count as ten reads in the proof that something is gone.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

COPIED = ("guests", "guest_configs", "orders_seen", "absences", "scopes", "source_states")
EMPTY = ("snapshots",)
"""With COPIED, the tables into which a run writes its observations. A run reads no old snapshots and there are many, so
the copy of that table begins empty."""


def observe_on_copies(connection: Connection) -> None:
    """From now on this connection reads and writes temporary copies in place of the tables of what was observed.

    PostgreSQL looks for a table's name among the temporary ones first, so no statement of the run differs. A login
    whose ``search_path`` says otherwise is refused. The copies end with the run's turn. 100,000 guests and orders take
    a few seconds.
    """
    for table in (*COPIED, *EMPTY):
        # The copy has another name at first: under its final name it would hide the real table, which is read here.
        connection.execute(text(f"CREATE TEMP TABLE copy_of_{table} (LIKE {table} INCLUDING ALL)"))
        if table in COPIED:
            connection.execute(text(f"INSERT INTO copy_of_{table} SELECT * FROM {table}"))  # noqa: S608 - own names
        connection.execute(text(f"ALTER TABLE copy_of_{table} RENAME TO {table}"))
        connection.execute(text(f"ANALYZE {table}"))
        if connection.scalar(text(OTHERS), {"table": table}):
            raise RuntimeError(f"search_path finds another {table} before the copy: a dry run must not write to it")
    connection.commit()


OTHERS = "SELECT relnamespace <> pg_my_temp_schema() FROM pg_class WHERE oid = CAST(:table AS regclass)"
