"""Embedded PostgreSQL and Redis, and child processes that live no longer than their parent."""
