"""Applying many journaled calls in one transaction."""
