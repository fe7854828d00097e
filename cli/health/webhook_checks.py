"""Checks of the webhook to the main site."""

from __future__ import annotations

from cli.connect import opened
from cli.health.checks import Check, Verdict
from panel.records.told import moment, span
from panel.settings import Settings
from panel.webhooks.views import EndpointView, endpoint
from worker.webhooks.events import receiver_of, signers_of

SUBJECT = "webhook"
OLD_S = 3600.0
"""An event that waits for longer is worth a look."""


def check_webhook(settings: Settings) -> list[Check]:
    """Whether events can be sent, and whether the main site takes them. Sends nothing. Raises ValueError for wrong
    settings, CommandError if the database is away."""
    signers_of(settings)
    receiver_of(settings).close()
    if not settings.database_url:
        return []
    with opened(settings.session_url) as engine, engine.connect() as connection:
        return endpoint_checks(endpoint(connection))


def endpoint_checks(told: EndpointView) -> list[Check]:
    """Judge how the main site takes events."""
    if not told.wanted:
        return [Check(SUBJECT, Verdict.WARNING, "the relay notes no events", "start the API or the relay anew")]
    if told.disabled_at is not None:
        seen = f"the main site answered 410 Gone on {moment(told.disabled_at)}: nothing is sent"
        return [Check(SUBJECT, Verdict.PROBLEM, seen, "ask the main site, then: panel-sync webhooks enable")]
    if told.failing_since is not None and (told.oldest_waiting_s or 0.0) > OLD_S:
        seen = f"the main site has taken nothing since {moment(told.failing_since)}; {told.waiting} events wait"
        return [Check(SUBJECT, Verdict.PROBLEM, seen, "see why: panel-sync webhooks list --state waiting")]
    checks = []
    if told.oldest_waiting_s is not None and told.oldest_waiting_s > OLD_S:
        seen = f"an event has waited for {span(told.oldest_waiting_s)}"
        checks.append(Check(SUBJECT, Verdict.WARNING, seen, "see why: panel-sync webhooks list --state waiting"))
    if told.dead:
        seen = f"{told.dead} events were given up"
        checks.append(Check(SUBJECT, Verdict.WARNING, seen, "send them again: panel-sync webhooks replay --dead"))
    return checks or [Check(SUBJECT, Verdict.OK, "the main site takes events")]
