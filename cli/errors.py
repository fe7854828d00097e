"""The error that ends a command."""

from __future__ import annotations


class CommandError(Exception):
    """One sentence for the operator: what is wrong and how to repair it. Ends the command with exit code 2."""
