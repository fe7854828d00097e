"""Tell a configured HTTPS address of alarms: one POST a finding, at least once, no personal data, no redirects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from sqlalchemy import Engine

from panel.findings import FindingRow, note_told, untold_findings
from panel.settings import Settings
from sources.tls import trusting_authorities

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0


@dataclass(slots=True)
class Told:
    """How many alarms were taken, and why the rest was not (never the address: it may hold a key)."""

    taken: int = 0
    problem: str | None = None

    @property
    def summary(self) -> str:
        return f"{self.taken} told" + (f"; {self.problem}" if self.problem else "")


def tell_alarms(engine: Engine, settings: Settings) -> Told:
    """Offer every alarm that is open and untold, the oldest first; stop at the first that is not taken."""
    told, url = Told(), settings.finding_webhook_url.get_secret_value()
    if not url:
        return told
    with engine.begin() as connection:
        waiting = untold_findings(connection)
    if not waiting:
        return told
    tls = trusting_authorities(settings.finding_webhook_ca_file)
    with httpx.Client(verify=tls, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
        for finding in waiting:
            try:
                answer = client.post(
                    url, json=message_of(finding), headers={"Idempotency-Key": f"finding-{finding.id}"}
                )
            except httpx.HTTPError as error:
                told.problem = type(error).__name__
            else:
                told.problem = None if answer.is_success else f"answered {answer.status_code}"
            if told.problem is not None:
                log.warning("webhook_failed", finding_id=finding.id, problem=told.problem)
                break
            with engine.begin() as connection:
                note_told(connection, finding.id)
            told.taken += 1
    return told


def message_of(finding: FindingRow) -> dict[str, Any]:
    """What is sent. ``text`` is for receivers that show one line; ``id`` tells repetitions apart."""
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
