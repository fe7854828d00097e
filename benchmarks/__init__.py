"""Benchmarks: each shows a ratio against a named yardstick measured in the same run."""
