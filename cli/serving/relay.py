"""``panel-sync relay`` runs a relay alone."""

from __future__ import annotations

import signal
from types import FrameType

from cli.environment import command_settings
from panel.journal.publish import CeleryPublisher, producer_app
from panel.journal.relay import Relay
from panel.logging import configure_logging
from panel.redaction import secrets_of
from sources.outgoing.trace_collector import export_traces


def relay() -> None:
    """Run a relay alone. The API runs one already; several relays may run at the same time.

    Example: panel-sync relay

    Ends with 0 after SIGTERM or Ctrl-C; with 2, and why, if a setting is missing or wrong.
    """
    settings = command_settings("database_url", "redis_url")
    configure_logging(settings.log_format, secrets=secrets_of(settings))
    export_traces(settings.traces_url, "relay")
    publisher = CeleryPublisher(producer_app(settings.redis_url))
    running = Relay(settings.session_url, publisher, webhook=bool(settings.main_site_webhook_url))

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        running.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    running.run()
