"""Sends alarms to a configured HTTPS address: one POST per alarm, at least once, without personal data."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Engine

from panel.operators.findings import FindingView, note_refused, note_sent, unsent_alarms
from panel.settings import Settings
from sources.outgoing.receiver import Receiver, Reply, Verdict
from sources.outgoing.sockets import Limits

log = structlog.get_logger(__name__)

LIMITS = Limits(connect_s=5.0, read_s=5.0, answer_s=10.0, body_bytes=0)


@dataclass(slots=True)
class Delivery:
    """How many alarms the receiver took, and why it did not take the rest, or one of them.

    ``problem`` never quotes the address, which may hold a key.
    """

    taken: int = 0
    problem: str | None = None

    @property
    def summary(self) -> str:
        return f"{self.taken} sent" + (f"; {self.problem}" if self.problem else "")


def send_alarms(engine: Engine, settings: Settings) -> Delivery:
    """Send open alarms that were not sent yet, the oldest first, as many as ``unsent_alarms`` gives. An alarm
    that the receiver refuses stops no other; where the receiver is away or takes nothing, the rest waits, too."""
    delivery, url = Delivery(), settings.finding_webhook_url.get_secret_value()
    if not url:
        return delivery
    with engine.begin() as connection:
        alarms = unsent_alarms(connection)
    if not alarms:
        return delivery
    try:
        receiver = _receiver(settings)
    except ValueError as error:
        delivery.problem = f"the settings of the webhook are wrong: {error}"
        log.warning("webhook_failed", problem=delivery.problem)
        return delivery
    with contextlib.closing(receiver):
        for finding, occurrence in alarms:
            reply = _send(receiver, finding, occurrence)
            if reply.verdict is not Verdict.TAKEN:
                delivery.problem = reply.problem
                log.warning("webhook_failed", finding_id=finding.id, problem=reply.problem)
                if reply.verdict is not Verdict.REFUSED:
                    break
                with engine.begin() as connection:
                    note_refused(connection, finding.id)
                continue
            with engine.begin() as connection:
                note_sent(connection, finding.id, occurrence)
            delivery.taken += 1
    return delivery


def _receiver(settings: Settings) -> Receiver:
    """Raises ``ValueError`` for an unusable authority or proxy."""
    return Receiver(
        settings.finding_webhook_url.get_secret_value(),
        limits=LIMITS,
        ca_file=settings.finding_webhook_ca_file,
        proxy=settings.finding_webhook_proxy.get_secret_value() or None,
    )


def _send(receiver: Receiver, finding: FindingView, occurrence: int) -> Reply:
    content = json.dumps(message_of(finding, occurrence)).encode("ascii")
    key = f"finding-{finding.id}" if occurrence == 1 else f"finding-{finding.id}-{occurrence}"
    return receiver.post(content, {"Idempotency-Key": key})


def message_of(finding: FindingView, occurrence: int) -> dict[str, Any]:
    """The message of one finding. ``text`` is for receivers that show one line. By ``id`` and ``occurrence`` a receiver
    recognises an alarm that was sent twice: a finding that becomes an alarm again is a new one."""
    return {
        "text": f"{finding.severity} {finding.class_} {finding.subject}: {finding.reason}",
        "event": "finding",
        "id": finding.id,
        "occurrence": occurrence,
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
