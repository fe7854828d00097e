"""Alembic migrations. Applied by the owner's role; each sets lock and statement timeouts."""
