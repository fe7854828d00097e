"""Sends alarms to a configured HTTPS address: one POST per finding, at least once, no personal data, no redirects."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Engine

from panel.operators.findings import FindingView, note_told, untold_findings
from panel.settings import Settings
from sources.outgoing.client import Client
from sources.outgoing.faults import SourceFault
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities

log = structlog.get_logger(__name__)

LIMITS = Limits(connect_s=5.0, read_s=5.0, answer_s=10.0, body_bytes=0)


@dataclass(slots=True)
class Told:
    """How many alarms the receiver took, and why it did not take the rest (never the address: it may hold a key)."""

    taken: int = 0
    problem: str | None = None

    @property
    def summary(self) -> str:
        return f"{self.taken} told" + (f"; {self.problem}" if self.problem else "")


def tell_alarms(engine: Engine, settings: Settings) -> Told:
    """Send every open alarm that was not sent yet, the oldest first. Stop at the first that is not taken."""
    told, url = Told(), settings.finding_webhook_url.get_secret_value()
    if not url:
        return told
    with engine.begin() as connection:
        waiting = untold_findings(connection)
    if not waiting:
        return told
    try:
        client = _client(settings)
    except ValueError as error:
        told.problem = f"cannot be told: {error}"
        log.warning("webhook_failed", problem=told.problem)
        return told
    with contextlib.closing(client):
        for finding in waiting:
            told.problem = _offer(client, finding)
            if told.problem is not None:
                log.warning("webhook_failed", finding_id=finding.id, problem=told.problem)
                break
            with engine.begin() as connection:
                note_told(connection, finding.id)
            told.taken += 1
    return told


def _client(settings: Settings) -> Client:
    """Raises ``ValueError`` for an unusable authority or proxy."""
    return Client(
        settings.finding_webhook_url.get_secret_value(),
        tls=trusting_authorities(settings.finding_webhook_ca_file),
        limits=LIMITS,
        headers={"Content-Type": "application/json"},
        proxy=settings.finding_webhook_proxy.get_secret_value() or None,
    )


def _offer(client: Client, finding: FindingView) -> str | None:
    """Why the receiver did not take the finding, or None. Only the answer's status is read."""
    content = json.dumps(message_of(finding)).encode("ascii")
    try:
        answer = client.exchange(
            "POST", headers={"Idempotency-Key": f"finding-{finding.id}"}, content=content, status_only=True
        )
    except SourceFault as fault:
        return str(fault)
    return None if 200 <= answer.status < 300 else f"answered {answer.status}"


def message_of(finding: FindingView) -> dict[str, Any]:
    """The message. ``text`` is for receivers that show one line; a receiver recognises repetitions by ``id``."""
    return {
        "text": f"{finding.severity} {finding.class_} {finding.subject}: {finding.reason}",
        "event": "finding",
        "id": finding.id,
        "class": finding.class_,
        "severity": finding.severity,
        "subject": finding.subject,
        "reason": finding.reason,
        "vps_id": finding.vps_id,
        "order_id": finding.order_id,
        "cluster": finding.cluster,
        "vmid": finding.vmid,
        "first_seen_at": finding.first_seen_at.isoformat(),
    }
