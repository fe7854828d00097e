"""Runs and their results: the lease, the run log, the state of the sources."""
