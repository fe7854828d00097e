"""Embedded PostgreSQL and Redis, and child processes that end with their parent."""
