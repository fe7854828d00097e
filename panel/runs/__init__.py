"""Who runs, and what came of it: the lease, the run log, the state of the sources."""
