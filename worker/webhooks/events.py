"""Sends the main site its events, by the Standard Webhooks specification: one POST each, at least once, in the order of
each VPS.

The signature covers the message id, the time of the try and the body, to the byte. While a secret is being changed, it
is made with both, so the main site may verify with either.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Engine
from standardwebhooks import Webhook

from panel.monitoring.instruments import webhook_tried
from panel.setting_conflicts import LOOPBACK_NAMES
from panel.settings import Settings
from panel.webhooks import deliveries, endpoint
from panel.webhooks.deliveries import Taken
from sources.outgoing.receiver import Receiver, Reply, Verdict
from sources.outgoing.sockets import Limits

log = structlog.get_logger(__name__)

LIMITS = Limits(connect_s=5.0, read_s=15.0, answer_s=15.0, body_bytes=0)

PASS_S = 20.0
"""No request begins later than this in one pass. The relay asks for the next pass."""

LEAST_S = 0.05
"""From one request to the next, so a backlog arrives at 20 events a second at most."""

GONE = 410
HINT = "; if the main site is on a private network, set MAIN_SITE_WEBHOOK_PRIVATE=true"


@dataclass(slots=True)
class Passed:
    """What one pass did. ``problem``: why it ended early, or why the last event was not taken."""

    taken: int = 0
    refused: int = 0
    problem: str | None = None

    @property
    def summary(self) -> str:
        return f"{self.taken} sent, {self.refused} not taken" + (f"; {self.problem}" if self.problem else "")


def send_events(engine: Engine, settings: Settings, *, sleep: Callable[[float], None] = time.sleep) -> Passed:
    """Send what is due, for ``PASS_S`` seconds at most. A main site that is away ends the pass."""
    passed = Passed()
    try:
        receiver, signers = receiver_of(settings), signers_of(settings)
    except ValueError as error:
        passed.problem = f"the settings of the webhook are wrong: {error}"
        log.warning("webhook_failed", problem=passed.problem)
        return passed  # the relay asks again after a while
    until = time.monotonic() + PASS_S
    with contextlib.closing(receiver):
        while time.monotonic() < until:
            with engine.begin() as connection:
                taken = deliveries.take(connection)
            if taken is None or not _sent(engine, receiver, signers, taken, passed):
                break
            sleep(LEAST_S)
    with engine.begin() as connection:
        endpoint.rest(connection)
    return passed


def receiver_of(settings: Settings) -> Receiver:
    """The main site's endpoint. Raises ``ValueError`` without an address, or for an unusable authority or proxy."""
    url = settings.main_site_webhook_url
    if not url:
        raise ValueError("MAIN_SITE_WEBHOOK_URL is not set")
    here = urlsplit(url).hostname in LOOPBACK_NAMES
    return Receiver(
        url,
        limits=LIMITS,
        ca_file=settings.main_site_ca_file,
        proxy=settings.main_site_proxy.get_secret_value() or None,
        public_only=not (here or settings.main_site_webhook_private),
    )


def signers_of(settings: Settings) -> list[Webhook]:
    """One for each secret, the current one first. Raises ``ValueError`` if there is none."""
    secrets = (settings.main_site_webhook_secret, settings.main_site_webhook_secret_previous)
    signers = [Webhook(given) for secret in secrets if (given := secret.get_secret_value())]
    if not signers:
        raise ValueError("MAIN_SITE_WEBHOOK_SECRET is not set")
    return signers


def signed(signers: list[Webhook], message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The headers of the specification."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signer.sign(message_id, at, body) for signer in signers),
    }


def _sent(engine: Engine, receiver: Receiver, signers: list[Webhook], taken: Taken, passed: Passed) -> bool:
    """Send one event and note what came of it. Returns whether the pass goes on."""
    headers = signed(signers, taken.message_id, datetime.now(UTC), taken.body)
    reply = receiver.post(taken.body.encode(), headers)
    if reply.verdict is Verdict.TAKEN:
        passed.taken += 1
    else:
        passed.refused += 1
        passed.problem = _problem(reply)
    outcome = _note(engine, taken, reply, passed.problem or "")
    if outcome != "delivered":
        values = {"event_id": taken.id, "vps_id": taken.vps_id, "attempt": taken.attempts}
        log.warning("webhook_failed", **values, outcome=outcome, problem=passed.problem)
    webhook_tried(outcome)
    return outcome in ("delivered", "refused")


def _note(engine: Engine, taken: Taken, reply: Reply, problem: str) -> str:
    if reply.verdict is Verdict.TAKEN:
        with engine.begin() as connection:
            more = deliveries.note_delivered(connection, taken, reply.status or 0)
        while more:
            with engine.begin() as connection:
                more = deliveries.wake(connection)
        return "delivered"
    with engine.begin() as connection:
        if reply.status == GONE:
            deliveries.note_gone(connection, taken, GONE, problem)
            return "gone"
        if reply.verdict is Verdict.REFUSED:
            deliveries.note_refused(connection, taken, reply.status, problem)
            return "refused"
        deliveries.note_away(connection, taken, reply.status, problem, reply.retry_after_s)
        return "away"


def _problem(reply: Reply) -> str:
    problem = reply.problem or ""
    return problem + HINT if reply.private else problem
