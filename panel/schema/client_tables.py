"""The tables of customers who are signed in to the pages; :mod:`panel.clients` writes and reads them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text

from panel.schema.tables import Time, metadata, now_column

client_sessions = Table(
    "client_sessions",
    metadata,
    # The SHA-256 of the token in hex. The token itself is only in the customer's cookie.
    Column("token_hash", Text, primary_key=True),
    # No foreign key: a token may name a user that the panel does not know, and no user is made from a token.
    Column("user_id", BigInteger, nullable=False),
    # The fingerprint of the key or secret that verified the sign-in. Without that key the session counts no more.
    Column("credential", Text, nullable=False),
    now_column("created_at"),
    Column("expires_at", Time, nullable=False),
    now_column("seen_at"),
    CheckConstraint("user_id > 0", name="user_id_positive"),
    Index("ix_client_sessions_expires_at", "expires_at"),
    Index("ix_client_sessions_user_id", "user_id"),
)

used_sign_in_links = Table(
    "used_sign_in_links",
    metadata,
    # The signature of each link that was used, until the link would have expired anyway.
    Column("signature", Text, primary_key=True),
    Column("expires_at", Time, nullable=False),
    Index("ix_used_sign_in_links_expires_at", "expires_at"),
)
