"""Traces go to their collector by the one HTTP client: verified TLS, no proxy or setting of the environment."""

from __future__ import annotations

from sources.outgoing.client import Client
from sources.outgoing.faults import SourceFault
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities
from tracing.spans import switch_on

LIMITS = Limits(connect_s=1.0, read_s=2.0, answer_s=2.0, body_bytes=64 * 1024)
"""Short, because the end of a process waits for a request that is under way."""


def export_traces(url: str, service: str) -> None:
    """Note spans in this process and send them to an OTLP/HTTP collector (``TRACES_URL``). Call it after fork. An empty
    ``url``: do nothing. ``service``: the part's name."""
    if not url:
        return
    client = Client(
        url, tls=trusting_authorities(None), limits=LIMITS, headers={"Content-Type": "application/x-protobuf"}
    )

    def send(spans: bytes) -> str | None:
        try:
            answer = client.exchange("POST", content=spans, status_only=True)
        except SourceFault as fault:
            return str(fault)
        return None if 200 <= answer.status < 300 else f"answered {answer.status}"

    switch_on(service, send)
