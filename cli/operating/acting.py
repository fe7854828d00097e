"""Who gives a command, and the audit of what they decide by it."""

from __future__ import annotations

import os

from sqlalchemy import Connection

from panel.operators.audit import Actor, note_action


def operator() -> str:
    """Who gives the command, as far as the machine knows."""
    return f"cli:{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'operator'}"


def note(connection: Connection, action: str, subject: str) -> None:
    """Note a decision in its own transaction; ``action`` is what the command is called."""
    note_action(connection, Actor(operator()), action, subject)
