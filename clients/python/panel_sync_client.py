"""A client of panel-sync for a main site in Python: one module, nothing but the standard library, Python 3.11 or newer.

Every call has an idempotency key, so a retry does nothing twice. A client may be used by several threads at once.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal, NotRequired, Required, TypedDict, cast
from urllib.parse import urlencode, urlsplit

__version__ = "0.1.0"

Action = Literal["create", "update", "delete"]
Status = Literal["creating", "running", "stopped", "suspended", "error"]
Hypervisor = Literal["proxmox", "vmware", "hyperv", "kvm", "xen"]

MAX_ITEMS, MAX_BYTES = 1000, 1024 * 1024  # of one batch request, as the panel limits it
SYNC = "/api/vps/sync"


class _Plan(TypedDict):
    user_id: int  # the panel's id of the customer
    name: str
    cpu: int  # cores
    ram: int  # MB
    disk: int  # GB
    os: str


class _Optional(TypedDict, total=False):
    hypervisor: Hypervisor
    order_id: str | int
    cluster: str  # together with vmid
    vmid: int
    node: str
    guest_type: Literal["qemu", "lxc"]
    ip_address: str
    ip6_address: str


class NewVps(_Plan, _Optional):
    """What a create needs, and what it may say."""

    status: NotRequired[Status]


class NamedVps(TypedDict, total=False):
    """What a delete needs: ``id`` or ``order_id``."""

    id: int
    order_id: str | int


class ChangedVps(_Optional, total=False):
    """What an update needs: ``status``, and ``id`` or ``order_id``. The other fields are changed if they are given."""

    status: Required[Status]
    id: int
    user_id: int
    name: str
    cpu: int
    ram: int
    disk: int
    os: str


class Item(TypedDict):
    """One call of a batch. Without ``idempotency_key`` the client gives it one."""

    action: Action
    vps: NewVps | ChangedVps | NamedVps
    idempotency_key: NotRequired[str]


class Vps(_Plan):
    """A VPS as the panel records it. Times are as in RFC 3339."""

    id: int
    status: Status
    hypervisor: Hypervisor
    ip_address: str | None
    ip6_address: str | None
    order_id: str | None
    order_state: str
    power_state: str
    created_at: str
    updated_at: str


class OperationRef(TypedDict):
    """The operation of an accepted call."""

    id: int
    state: Literal["queued", "applied", "superseded", "rejected", "dead"]
    url: str


class Operation(OperationRef):
    """An operation, looked up."""

    action: str
    vps_id: int
    attempts: int
    result: str | None
    why: str | None
    accepted_at: str
    applied_at: str | None


class Answer(TypedDict):
    """A call that was accepted. ``vps["id"]`` is final."""

    status: Literal["success"]
    message: str
    vps: Vps
    operation: OperationRef


class OperationAnswer(TypedDict):
    """An operation and its record, None while it is not written."""

    operation: Operation
    vps: Vps | None


class ItemResult(TypedDict):
    """What became of an item: ``vps`` and ``operation`` if it was accepted (``http_status`` < 300), else ``code``."""

    http_status: int
    message: str
    idempotency_key: str
    vps: NotRequired[Vps]
    operation: NotRequired[OperationRef]
    idempotent_replayed: NotRequired[bool]
    code: NotRequired[str]
    field: NotRequired[str]
    missing: NotRequired[list[str]]
    request_id: NotRequired[str | None]
    retry_after: NotRequired[int]


class PanelError(Exception):
    """The panel did not do what was asked. No text of it holds the API key.

    ``code`` is for programs: the panel's own, or ``network``, ``no_answer``, ``still_queued`` or ``not_panel`` of this
    client. ``idempotency_key``: pass it to the same method to try the same call again. ``outcome_unknown``: whether the
    call may have been accepted all the same.
    """

    def __init__(self, message: str, code: str, status: int | None = None, body: Mapping[str, Any] = {}) -> None:
        super().__init__(f"{message} (code {code}, request {body.get('request_id')})")
        self.message, self.code, self.status = message, code, status
        self.field: str | None = body.get("field")
        self.missing: list[str] = body.get("missing") or []
        self.operation: Mapping[str, Any] | None = body.get("operation")
        self.request_id: str | None = body.get("request_id")
        self.idempotency_key: str | None = None
        self.outcome_unknown = False


class InvalidCallError(PanelError):
    """The call is wrong (400, 413, 415, 422): ``field`` or ``missing`` says where. It changed nothing."""


class InvalidKeyError(PanelError):
    """The API key is wrong (401, 403)."""


class NotFoundError(PanelError):
    """The VPS or operation does not exist, or the VPS is deleted (404)."""


class NotAppliedError(PanelError):
    """The call was accepted but could not be applied (409): ``operation`` says why. Only with ``wait_s``."""


class UnavailableError(PanelError):
    """The panel could not be reached or could not answer (429, 5xx), and the time for retries is over."""


class BadAnswerError(PanelError):
    """What answered is not the panel: a redirect, a page of a proxy, another service."""


ERRORS: Mapping[int, type[PanelError]] = {
    400: InvalidCallError, 401: InvalidKeyError, 403: InvalidKeyError, 404: NotFoundError, 409: NotAppliedError,
    413: InvalidCallError, 415: InvalidCallError, 422: InvalidCallError,
}  # fmt: skip
RETRIED = frozenset({0, 429, 502, 503, 504})  # 0: no answer
NOT_SENT = {"http_status": 503, "code": "not_sent", "message": "Not sent: an item before it could not be taken"}


@dataclass(frozen=True, slots=True)
class _Reply:
    """What one attempt got. ``status`` 0: no answer, and ``body`` says why. ``unknown``: the call may be accepted."""

    status: int
    body: Mapping[str, Any]  # empty if it was no JSON object
    retry_after_s: float = 0.0
    unknown: bool = False

    @property
    def may_be_retried(self) -> bool:
        return self.status in RETRIED or self.body.get("code") == "idempotency_key_in_flight"  # of an earlier attempt


class PanelClient:
    """The panel, as the main site calls it.

    ``url``: the panel's address, with a path if it stands behind one. ``timeout_s``: how long one attempt waits for the
    panel to connect or to send something; longer than the panel's ANSWER_WITHIN_S (2 s). ``retry_for_s``: how long one
    call is retried, from its beginning. Proxies of the environment are not used, and redirects are not followed.
    """

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 10.0, retry_for_s: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
            raise ValueError("url must be http://host or https://host, with a port and a path if needed, without a key")
        if not re.fullmatch(r"[\x21-\x7e]+", api_key):  # the library's own error would quote it
            raise ValueError("api_key must be visible ASCII without spaces and line breaks")
        self._host, self._port, self._root = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._key, self._timeout_s, self._retry_for_s = api_key, timeout_s, retry_for_s

    def create(self, vps: NewVps, *, idempotency_key: str | None = None, wait_s: int = 0) -> Answer:
        """Announce a new VPS. The id in the answer is final. ``wait_s``: how long to wait until it is applied."""
        return self._call("create", vps, idempotency_key, wait_s)

    def update(self, vps: ChangedVps, *, idempotency_key: str | None = None, wait_s: int = 0) -> Answer:
        """Change a VPS."""
        return self._call("update", vps, idempotency_key, wait_s)

    def delete(self, vps: NamedVps, *, idempotency_key: str | None = None, wait_s: int = 0) -> Answer:
        """End a VPS. To delete one that is deleted already succeeds."""
        return self._call("delete", vps, idempotency_key, wait_s)

    def batch(self, items: Iterable[Item]) -> list[ItemResult]:
        """Send any number of calls, in their order, 1,000 a request. Returns a result for each, in the same order.

        A refused item stops no other. Items that could not be taken yet are sent again, for ``retry_for_s`` a request.
        If that fails, nothing after them is sent, as their results say. PanelError: nothing can have been accepted.
        """
        calls = [{**item, "idempotency_key": item.get("idempotency_key") or uuid.uuid4().hex} for item in items]
        bodies = [_json(call) for call in calls]
        results, left = list[ItemResult](), NOT_SENT
        for start, end in _parts(bodies):
            try:
                part = self._batch_part(bodies[start:end])
            except PanelError as error:
                if not results and not error.outcome_unknown:
                    raise
                code = "outcome_unknown" if error.outcome_unknown else error.code
                left = {"http_status": error.status or 503, "code": code, "message": error.message}
                break
            results += part
            if any(result["http_status"] in RETRIED for result in part):
                break
        results += [cast("ItemResult", left)] * (len(calls) - len(results))
        keys = [{"idempotency_key": call["idempotency_key"]} for call in calls]
        return [cast("ItemResult", {**result, **key}) for result, key in zip(results, keys, strict=True)]

    def operation(self, operation_id: int) -> OperationAnswer:
        """Look an operation up."""
        return cast("OperationAnswer", self._send("GET", f"{SYNC}/operations/{int(operation_id)}"))

    def wait_for_operation(self, operation_id: int, timeout_s: float = 30.0) -> OperationAnswer:
        """Look an operation up until it is no longer queued. Raises UnavailableError (``still_queued``)."""
        until, pause_s = time.monotonic() + timeout_s, 0.2
        while (found := self.operation(operation_id))["operation"]["state"] == "queued":
            if time.monotonic() + pause_s > until:
                raise UnavailableError(f"Operation {operation_id} is still queued", "still_queued")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 2.0)
        return found

    def find_by_order(self, order_id: str | int) -> Vps | None:
        """The live record of an order, for a main site that kept no id of the panel."""
        found = self._send("GET", f"{SYNC}/records?{urlencode({'order_id': order_id})}")["data"]
        return cast("Vps", found[0]) if found else None

    def _call(self, action: Action, vps: Mapping[str, Any], key: str | None, wait_s: int) -> Answer:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex, **({"Prefer": f"wait={int(wait_s)}"} if wait_s else {})}
        return cast("Answer", self._send("POST", SYNC, _json({"action": action, "vps": vps}), headers, wait_s))

    def _batch_part(self, bodies: Sequence[bytes]) -> list[ItemResult]:
        """One request's results, after sending those items again that were not taken."""
        until, attempt = time.monotonic() + self._retry_for_s, 0
        waiting, results = list(range(len(bodies))), dict[int, ItemResult]()
        while True:
            body = b'{"items":[' + b",".join(bodies[index] for index in waiting) + b"]}"
            try:
                answered = self._send("POST", f"{SYNC}/batch", body, until=until)["items"]
            except PanelError as error:
                if not results:
                    raise
                if error.outcome_unknown:  # what was told of these items may be untrue by now
                    lost = {"http_status": 503, "code": "outcome_unknown", "message": error.message}
                    results.update(dict.fromkeys(waiting, cast("ItemResult", lost)))
                return list(results.values())
            results.update(zip(waiting, answered, strict=True))
            waiting = [index for index in waiting if results[index]["http_status"] in RETRIED]
            asked_s = max((results[index].get("retry_after", 0) for index in waiting), default=0)
            if not waiting or not _paused(attempt, asked_s, until):
                return list(results.values())
            attempt += 1

    def _send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {},
              wait_s: float = 0.0, until: float | None = None) -> dict[str, Any]:  # fmt: skip
        """The JSON of a successful answer, after as many attempts as it takes until then. Raises PanelError."""
        until = time.monotonic() + self._retry_for_s + wait_s if until is None else until
        request_id, attempt, unknown = uuid.uuid4().hex, 0, False
        while True:
            reply = self._attempt(method, path, body, {**headers, "X-Request-Id": request_id}, wait_s)
            if 200 <= reply.status < 300 and reply.body:
                return dict(reply.body)
            unknown = body is not None and (unknown or reply.unknown)
            if not reply.may_be_retried or not _paused(attempt, reply.retry_after_s, until):
                raise _error(reply, request_id, headers.get("Idempotency-Key"), unknown=unknown)
            attempt += 1

    def _attempt(self, method: str, path: str, body: bytes | None, headers: dict[str, str], wait_s: float) -> _Reply:
        sent = {**headers, "X-API-Key": self._key, "User-Agent": f"panel-sync-client-python/{__version__}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        to, timeout_s, connected = (self._host, self._port), self._timeout_s + wait_s, False
        connection = HTTPConnection(*to, timeout=timeout_s)
        if self._tls is not None:
            connection = HTTPSConnection(*to, timeout=timeout_s, context=self._tls)
        try:
            connection.connect()
            connected = True
            connection.request(method, self._root + path, body, sent)
            response = connection.getresponse()
            return _reply(response.status, response.headers.get("Retry-After", ""), response.read())
        except ssl.SSLCertVerificationError as error:  # the next attempt would find the same certificate
            raise UnavailableError(f"{self._host}: {error.verify_message}", "network") from error
        except (OSError, HTTPException) as error:
            why = {"code": "network", "message": f"{self._host} gave no answer: {type(error).__name__}"}
            return _Reply(0, why, unknown=connected)
        finally:
            connection.close()


def _json(value: object) -> bytes:
    """Raises ValueError for what JSON cannot say, such as NaN, before anything is sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _parts(bodies: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where each request's items begin and end: as many as it may hold."""
    start, size = 0, 0
    for index, body in enumerate(bodies):
        if index > start and (index - start == MAX_ITEMS or size + len(body) + 1 > MAX_BYTES - 64):
            yield start, index
            start, size = index, 0
        size += len(body) + 1
    if bodies:
        yield start, len(bodies)


def _paused(attempt: int, asked_s: float, until: float) -> bool:
    """Wait before the next attempt: twice as long each time, and as long as the panel asks. With jitter, so that
    callers do not come back all at once. False: no time is left."""
    pause_s = max(asked_s * random.uniform(1.0, 1.25), random.uniform(0.5, 1.0) * min(0.5 * 2.0**attempt, 20.0))
    if time.monotonic() + pause_s >= until:
        return False
    time.sleep(pause_s)
    return True


def _reply(status: int, after: str, content: bytes) -> _Reply:
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    body = parsed if isinstance(parsed, dict) else {}
    unknown = status in {500, 502, 504} or body.get("code") == "outcome_unknown" or (status < 300 and not body)
    return _Reply(status, body, float(after) if after.isdecimal() else 0.0, unknown=unknown)


def _error(reply: _Reply, request_id: str, key: str | None, *, unknown: bool) -> PanelError:
    """What a failed reply raises. A refusal by the panel says that an earlier attempt was not accepted either."""
    later = reply.may_be_retried or reply.status >= 500
    kind = UnavailableError if later else ERRORS.get(reply.status, BadAnswerError)
    code, message = reply.body.get("code"), reply.body.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        kind, code = (kind, "no_answer") if later else (BadAnswerError, "not_panel")
        message = f"HTTP {reply.status} without an answer of the panel"
    error = kind(message, code, reply.status or None, {"request_id": request_id, **reply.body})
    error.idempotency_key, error.outcome_unknown = key, unknown and kind in {UnavailableError, BadAnswerError}
    return error
