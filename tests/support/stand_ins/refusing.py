"""A database that refuses certain rows with a SQLSTATE of the test's choice."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql


def refuse(
    owner: psycopg.Connection, table: str, what: LiteralString, sqlstate: str, when: LiteralString = "true",
    *, deferred: bool = False,
) -> None:  # fmt: skip
    """From now on ``what`` (INSERT or UPDATE) of rows of ``table`` that are ``when`` fails so, until ``allow``.

    ``deferred``: not before the COMMIT.
    """
    raising = f"BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{sqlstate}'; END"
    making = (
        "CREATE CONSTRAINT TRIGGER refuse AFTER {} ON {} DEFERRABLE INITIALLY DEFERRED"
        if deferred
        else "CREATE TRIGGER refuse BEFORE {} ON {}"
    )
    owner.execute(
        sql.SQL("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {}").format(
            sql.Literal(raising)
        )
    )
    owner.execute(
        sql.SQL(making + " FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()").format(
            sql.SQL(what), sql.Identifier(table), sql.SQL(when)
        )
    )


def allow(owner: psycopg.Connection, table: str) -> None:
    """Take ``refuse`` back."""
    owner.execute(sql.SQL("DROP TRIGGER refuse ON {}").format(sql.Identifier(table)))
