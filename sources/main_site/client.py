"""The main site's HTTP interface: one page with bounded retries, the look-up of one order, the self-check.

Only JSON with an expected status counts as an answer. Anything else is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from domain.orders import Order
from domain.source_protocols import Found, Gone, Health, Lookup, Unclear
from sources.clock import Clock, http_date, rfc3339, staleness_s
from sources.config import MainSiteConfig
from sources.json_client import Answer, JsonClient
from sources.main_site.parse import RowRefused
from sources.outgoing.client import Transport
from sources.outgoing.faults import Malformed, SourceFault, TlsRefused, Unreachable
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities

_TRANSIENT = frozenset({429, 502, 503, 504})
_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 8.0
_RETRY_AFTER_MAX_S = 30.0  # if the site asks for more, give up: the next run is the retry
# A look-up confirms a change just before its write, so an old copy is worth no more than the list.
LOOK_UP_AGE_MAX_S = 30.0
KEY_REFUSED = "MAIN_SITE_API_KEY is refused"

GetOrder = Callable[[str], Order | None]


class RefusedStatus(SourceFault):
    """An HTTP status other than the expected ones. ``retry_after_s``: what the server asked for."""

    def __init__(self, sentence: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class CredentialRefused(RefusedStatus):
    """401 or 403: the server does not accept the panel's credential."""


class MainSiteClient:
    """GETs below ``/api/panel`` with the panel's key."""

    def __init__(self, config: MainSiteConfig, clock: Clock, transport: Transport | None = None) -> None:
        self._attempts = max(1, config.attempts)
        self._clock = clock
        self._http = JsonClient(
            config.api_url,
            headers={"X-API-Key": config.api_key.get_secret_value()},
            tls=trusting_authorities(config.ca_file),
            limits=Limits(
                config.connect_timeout_s,
                config.read_timeout_s,
                config.answer_timeout_s,
                config.max_body_bytes,
            ),
            clock=clock,
            proxy=config.proxy,
            transport=transport,
            source=config.feed.value,
        )

    def get(self, path: str, params: dict[str, str] | None = None) -> Answer:
        """A 200 with JSON. Retries what may pass; raises a ``SourceFault`` for anything else."""
        answer = self._with_retries(path, params)
        if answer.status != 200:
            raise RefusedStatus(f"answered {answer.status}", answer.status)
        return _json(answer)

    def find(self, path: str) -> Answer | None:
        """A 200 with JSON, or ``None`` for the interface's own 404. Raises a ``SourceFault`` otherwise.

        A 404 that is not JSON comes from something in front of the interface and says nothing of the row. An answer
        that calls itself a copy older than ``LOOK_UP_AGE_MAX_S`` is a fault, whatever it says.
        """
        answer = self._with_retries(path, None)
        if answer.status not in (200, 404):
            raise RefusedStatus(f"answered {answer.status}", answer.status)
        _must_be_of_now(_json(answer))
        return answer if answer.status == 200 else None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _with_retries(self, path: str, params: dict[str, str] | None) -> Answer:
        attempt = 1
        while True:
            try:
                return self._once(path, params)
            except SourceFault as fault:
                pause = self._pause_after(fault, attempt)
                if pause is None:
                    raise
            self._clock.sleep(pause)
            attempt += 1

    def _once(self, path: str, params: dict[str, str] | None) -> Answer:
        answer = self._http.get(path, params)
        if answer.status in (401, 403):
            raise CredentialRefused(KEY_REFUSED, answer.status)
        if answer.status in _TRANSIENT:
            asked = _retry_after_s(answer.retry_after, self._clock.wall())
            raise RefusedStatus(f"answered {answer.status}", answer.status, asked)
        return answer

    def _pause_after(self, fault: SourceFault, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; ``None`` if there is none."""
        transient = isinstance(fault, RefusedStatus) and fault.status in _TRANSIENT
        if attempt >= self._attempts or not (transient or isinstance(fault, Unreachable)):
            return None
        backoff = min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0 ** (attempt - 1)) * (0.5 + self._clock.chance() / 2)
        asked = fault.retry_after_s if isinstance(fault, RefusedStatus) else None
        if asked is None:
            return backoff
        return None if asked > _RETRY_AFTER_MAX_S else max(asked, backoff)


def _json(answer: Answer) -> Answer:
    if not answer.is_json:
        kind = (
            answer.media_type
            if answer.media_type.isascii() and answer.media_type.isprintable() and len(answer.media_type) <= 50
            else "unreadable"
        )
        raise Malformed(f"answered {answer.status} with something that is not JSON ({kind or 'no content type'})")
    return answer


def _must_be_of_now(answer: Answer) -> None:
    """Refuse an answer whose own ``as_of`` is long past. Most look-ups have no ``as_of`` and count as fresh."""
    as_of = answer.document.get("as_of") if isinstance(answer.document, dict) else None
    age = staleness_s(answer.date, rfc3339(as_of)) if isinstance(as_of, str) else None
    if age is not None and age > LOOK_UP_AGE_MAX_S:
        raise Malformed(f"the answer is a copy {age:.0f} s old (its as_of, at most {LOOK_UP_AGE_MAX_S:.0f} s)")


def _retry_after_s(text: str | None, now: datetime) -> float | None:
    """The seconds that ``Retry-After`` asks for. It is a number or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def look_up(get: GetOrder, order_id: str, control_id: str | None) -> Lookup[Order]:
    """Look one order up, so that "not found" differs from "not answering".

    ``get`` returns an order, or ``None`` for a 404, and raises for everything else.

    A 404 alone proves nothing: a misrouted or half-started site answers 404 to everything. So an order that is known to
    exist must be found in between, and the 404 must repeat.
    """
    try:
        return _concluded(get, order_id, control_id)
    except SourceFault as fault:
        return Unclear(f"order {order_id}: the main site {fault}")
    except RowRefused as refused:
        return Unclear(f"order {order_id}: the main site's row cannot be read ({refused})")


def _concluded(get: GetOrder, order_id: str, control_id: str | None) -> Lookup[Order]:
    found = get(order_id)
    if found is not None:
        return _checked(found, order_id)
    if control_id is None or control_id == order_id:
        return Unclear(f"order {order_id} is answered 404, and no other order is known to check the site by")
    control = get(control_id)
    if control is None or control.order_id != control_id:
        return Unclear(f"order {order_id} is answered 404, but order {control_id}, which exists, is not found")
    again = get(order_id)
    if again is not None:
        return _checked(again, order_id)
    return Gone(f"404 twice while order {control_id} was answered in between")


def _checked(order: Order, order_id: str) -> Lookup[Order]:
    if order.order_id != order_id:
        return Unclear(f"order {order_id} was asked for and order {order.order_id} answered")
    return Found(order)


def health_of(feed: str, probe: Callable[[], float | None]) -> Health:
    """The feed's self-check: run ``probe`` (returns the clock skew in seconds, raises a ``SourceFault``) and report.

    Problems are sentences with the remedy.
    """
    try:
        skew_s = probe()
    except SourceFault as fault:
        sentence = _remedy(feed, fault)
        return Health(ok=False, detail=f"{feed}: not usable", problems=(sentence,))
    return Health(ok=True, detail=f"{feed}: answers", clock_skew_s=skew_s)


def _remedy(feed: str, fault: SourceFault) -> str:
    if isinstance(fault, CredentialRefused):
        return f"{fault} ({fault.status}): set it to the key that the main site expects from the panel"
    if isinstance(fault, TlsRefused):
        return f"MAIN_SITE_URL: {fault}; check the address, or name the authority that signed it"
    if isinstance(fault, Unreachable):
        return f"MAIN_SITE_URL: {fault}; check the address, the port and the firewall"
    return f"the main site's {feed} interface: {fault}; check MAIN_SITE_URL and MAIN_SITE_FEED"
