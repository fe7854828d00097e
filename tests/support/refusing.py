"""A database that refuses certain rows with a SQLSTATE of the test's choice."""

from __future__ import annotations

import psycopg
from psycopg import sql


def refuse(owner: psycopg.Connection, table: str, what: str, sqlstate: str, when: str = "true") -> None:
    """From now on ``what`` (INSERT or UPDATE) of rows of ``table`` that are ``when`` fails so, until ``allow``."""
    raising = f"BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{sqlstate}'; END"
    owner.execute(
        sql.SQL("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {}").format(
            sql.Literal(raising)
        )
    )
    owner.execute(
        sql.SQL("CREATE TRIGGER refuse BEFORE {} ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()").format(
            sql.SQL(what), sql.Identifier(table), sql.SQL(when)
        )
    )


def allow(owner: psycopg.Connection, table: str) -> None:
    """Take ``refuse`` back."""
    owner.execute(sql.SQL("DROP TRIGGER refuse ON {}").format(sql.Identifier(table)))
