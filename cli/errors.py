"""Why a command can't go on."""

from __future__ import annotations


class CommandError(Exception):
    """One sentence for the operator: what is wrong and how to mend it. Ends the command with exit code 2."""
