"""Faults on purpose against the real panel: API, workers, beats, Redis and PostgreSQL. An audit then proves from the
journal that nothing was lost, doubled or given to a stranger."""
