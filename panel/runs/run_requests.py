"""Asks the workers for a run or another task: stores a row that the relay sends on at once."""

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
    request_task(connection, "reconcile.run", trigger)


def request_task(connection: Connection, task: str, subject: str) -> None:
    """Ask the workers for a task. ``subject``: its argument, without personal data."""
    connection.execute(REQUEST_TASK, {"task": task, "subject": subject})
    connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": JOURNAL_CHANNEL})


REQUEST_TASK = text("INSERT INTO task_requests (task, subject) VALUES (:task, :subject) ON CONFLICT DO NOTHING")
