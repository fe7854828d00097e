"""The proofs: what must be true after the faults, and a sentence for everything that is not."""
