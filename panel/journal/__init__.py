"""Accepted means applied: sync calls and repairs are journaled here, and only here are records written."""
