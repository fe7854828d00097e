"""Faults on purpose in the real panel: API, workers, beats, Redis and PostgreSQL. Afterwards an audit proves from the
journal that no call was lost or doubled, and from the records that no VPS was given to a stranger."""
