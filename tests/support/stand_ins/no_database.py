"""An engine for code that asks its database nothing that matters."""

from __future__ import annotations

from sqlalchemy import NullPool, create_engine

# Without a pool: one would keep a connection that nobody closes.
NO_DATABASE = create_engine("sqlite://", poolclass=NullPool)
