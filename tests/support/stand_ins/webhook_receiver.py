"""A main site that takes events: what it was sent, and the statuses with which it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, text
from standardwebhooks import Webhook

from panel.settings import Settings
from panel.webhooks.events import NOTE

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The secret of the specification's own example."""

OLD_SECRET = "whsec_" + "c2VjcmV0cy1hcmUtbm90LWZvci1ldmVyLW9sZA=="


@dataclass(slots=True)
class Got:
    """One request."""

    headers: dict[str, str]
    body: str

    @property
    def event(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified_by(self, secret: str = SECRET) -> bool:
        """Whether the specification's own library takes it. It raises if not."""
        Webhook(secret).verify(self.body, self.headers)
        return True


@dataclass(slots=True)
class WebhookReceiver:
    """``answers``: the status and headers of the next answers; then it takes everything. ``refuses``: by VPS id."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    refuses: dict[int, int] = field(default_factory=dict)
    on_request: Callable[[], None] | None = None

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.got]

    def settings(self, **more: Any) -> Settings:
        given: dict[str, Any] = {"main_site_webhook_url": self.url, "main_site_webhook_secret": SecretStr(SECRET)}
        return Settings(_env_file=None, **given | more)

    def answer(self, got: Got) -> tuple[int, dict[str, str]]:
        if self.on_request is not None:
            self.on_request()
        if (status := self.refuses.get(got.event["data"]["vps"]["id"])) is not None:
            return status, {}
        return self.answers.pop(0) if self.answers else (204, {})


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """It listens on a free port of loopback."""
    receiver = WebhookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got = Got({name.lower(): value for name, value in self.headers.items()}, body)
            receiver.got.append(got)
            status, headers = receiver.answer(got)
            self.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/panel/events"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def want_events(engine: Engine) -> None:
    """The relay of a panel with a webhook has run."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_endpoint SET wanted = true"))


def note_event(engine: Engine, vps_id: int = 1, number: int = 1) -> int:
    """An event as the journal notes it; its id."""
    data = {"sequence": number, "vps": {"id": vps_id}, "cause": {"reason": "a test says so"}}
    body = json.dumps({"type": "vps.updated", "timestamp": "2026-03-01T12:00:00+00:00", "data": data})
    with engine.begin() as connection:
        connection.execute(NOTE, {"vps_id": [vps_id], "type": ["vps.updated"], "body": [body]})
        return int(connection.execute(text("SELECT max(id) FROM webhook_events")).scalar_one())


def all_due(engine: Engine) -> None:
    """The time until the next tries has passed."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_events SET due_at = clock_timestamp() WHERE state = 'waiting'"))
        connection.execute(text("UPDATE webhook_endpoint SET not_before = NULL"))


def events(engine: Engine) -> list[dict[str, Any]]:
    """Every event as stored, in order."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT * FROM webhook_events ORDER BY id"))
        return [dict(row._mapping) for row in found]
