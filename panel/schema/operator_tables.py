"""The table of operators who are signed in to the pages.

:mod:`panel.operators.pages.operator_sessions` writes and reads it.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from panel.schema.tables import Time, metadata, now_column

operator_sessions = Table(
    "operator_sessions",
    metadata,
    # A hash of the token with the operator's key. The token is only in the operator's cookie, the key only in settings.
    Column("token_hash", Text, primary_key=True),
    Column("operator", Text, nullable=False),  # the name of the operator whose key it began with
    now_column("created_at"),
    Column("expires_at", Time, nullable=False),
    Column("notice", Text),  # what an action answered, until a page has shown it
    Index("ix_operator_sessions_expires_at", "expires_at"),
)
