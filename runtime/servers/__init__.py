"""Embedded PostgreSQL and Redis for `run`, the demo and the tests."""
