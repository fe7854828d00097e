"""Faults on purpose against the real thing: API, workers, beats, Redis and PostgreSQL, and an audit that proves
from the journal that nothing was lost, doubled or given to a stranger."""
