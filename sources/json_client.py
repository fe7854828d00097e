"""Requests that are answered by JSON documents. ``sources.outgoing`` bounds time and size; this module reads the
answer."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlencode

from pydantic import SecretStr
from pydantic_core import from_json

from sources.clock import DATE_RESOLUTION_S, Clock, http_date
from sources.outgoing.client import Answer as WholeAnswer
from sources.outgoing.client import Client, Transport
from sources.outgoing.faults import Malformed
from sources.outgoing.sockets import Limits


def segment(text: str) -> str:
    """The text as one path segment. Raises Malformed for "." and "..", which would lead elsewhere."""
    if text in {".", ".."}:
        raise Malformed(f"cannot be asked for {text!r}: as part of a path it would name something else")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that arrived whole.

    ``began`` is on the clock's monotonic scale. ``document`` is the parsed body if ``is_json``. It is kept out of repr,
    because a source's rows may hold secrets and personal data.
    """

    status: int
    reason: str
    began: float
    date: datetime | None
    skew_s: float | None
    retry_after: str | None
    media_type: str
    is_json: bool
    document: object = field(repr=False)


class JsonClient:
    """Requests to one server, with this source's credential."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext,
        limits: Limits,
        clock: Clock,
        proxy: SecretStr | None = None,
        transport: Transport | None = None,
        source: str | None = None,
    ) -> None:
        self._clock = clock
        self._client = Client(
            base_url.rstrip("/"),
            headers={"Accept": "application/json", **headers},
            tls=tls,
            limits=limits,
            proxy=None if proxy is None else proxy.get_secret_value(),
            transport=transport,
            monotonic=clock.monotonic,
            source=source,
        )

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """GET ``path``. Returns an answer of any status; raises a ``SourceFault`` if none arrived whole."""
        return self._read(lambda: self._client.exchange("GET", path, params=params))

    def post(self, path: str, form: Mapping[str, str]) -> Answer:
        """POST a form to ``path``, once. After a ``SourceFault`` other than ``Unreachable`` nobody knows whether it
        arrived."""
        content, headers = urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        return self._read(lambda: self._client.exchange("POST", path, headers=headers, content=content))

    def _read(self, exchange: Callable[[], WholeAnswer]) -> Answer:
        began = self._clock.monotonic()
        wall = self._clock.wall()
        answer = exchange()
        date = http_date(answer.headers.get("Date"))
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_json, document = _parsed(answer.body) if _says_json(media_type) else (False, None)
        # The server dated the answer between the request and the head; half the trip is the best guess.
        early = (DATE_RESOLUTION_S - answer.trip_s) / 2
        return Answer(
            status=answer.status,
            reason=answer.reason,
            began=began,
            date=date,
            skew_s=None if date is None else (date - wall).total_seconds() + early,
            retry_after=answer.headers.get("Retry-After"),
            media_type=media_type,
            is_json=is_json,
            document=document,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _says_json(media_type: str) -> bool:
    return re.fullmatch(r"application/(?:[\w.-]+\+)?json", media_type) is not None


def _parsed(body: bytes) -> tuple[bool, object]:
    try:
        return True, from_json(body.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False)
    except ValueError:
        return False, None
