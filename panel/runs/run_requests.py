"""Asks the workers for a run: stores a row that the relay sends on at once."""

from __future__ import annotations

from sqlalchemy import Connection, text

from panel.journal.accept_batch import JOURNAL_CHANNEL

OPERATOR_TRIGGER = "operator"
"""The trigger of runs that an operator asked for. A subject may follow: ``operator vps:17``."""


def request_run(connection: Connection, subject: str = "") -> None:
    """Ask the workers for a full run soon. ``subject`` (``vps:17``) limits what it repairs. A second request before the
    relay has sent the first one changes nothing."""
    ask_for_run(connection, f"{OPERATOR_TRIGGER} {subject}".strip())


def ask_for_run(connection: Connection, trigger: str) -> None:
    """Ask the workers for a full run soon. ``trigger`` is kept with the run and says why. A second request with this
    trigger, before the relay has sent the first one, changes nothing."""
    connection.execute(REQUEST_TASK, {"trigger": trigger})
    connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": JOURNAL_CHANNEL})


REQUEST_TASK = text(
    "INSERT INTO task_requests (task, subject) VALUES ('reconcile.run', :trigger) ON CONFLICT DO NOTHING"
)
