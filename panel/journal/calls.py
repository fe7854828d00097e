"""A sync call after validation, and its three possible outcomes. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from domain.record_columns import ValueSource, given_by

Action = Literal["create", "update", "delete"]

PAYLOAD_FIELDS = tuple(column.json_name for column in given_by(ValueSource.CALL))
"""The fields of a call's ``vps`` object that the journal keeps, an allow-list, in the contract's words and units."""


@dataclass(frozen=True, slots=True)
class Call:
    """One validated sync call.

    ``payload`` holds only PAYLOAD_FIELDS, validated. For a create it holds all required ones and the defaults.
    ``vps_id``: the id that an update or delete names. ``api_key_label``: the label of the key that was used, never the
    key itself. ``body_hash``: SHA-256 over action, id and payload. It tells a reused idempotency key from a retry.
    ``traceparent``: the trace that the call belongs to, a valid header of :mod:`tracing.traceparent`.
    """

    action: Action
    payload: Mapping[str, Any]
    api_key_label: str
    vps_id: int | None = None
    order_id: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    body_hash: str = ""
    address: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Committed to the journal for a worker to apply, or there was nothing left to do.

    ``record`` is the public record as it will be once applied, with its final ``id``. ``operation_id`` is the operation
    to follow. If there was nothing to do (already deleted, order already created), it is the earlier operation that did
    it, and ``created`` is False.
    """

    operation_id: int
    vps_id: int
    state: str
    record: dict[str, Any]
    message: str
    created: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """A retry with a known idempotency key. It gets the first answer again."""

    operation_id: int
    vps_id: int
    status_code: int
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not journaled. Only an audit row is written."""

    status_code: int
    code: str
    message: str
    extra: dict[str, Any] = field(default_factory=dict)


Outcome = Accepted | Replayed | Refused


class DatabaseAwayError(Exception):
    """PostgreSQL cannot be reached or did not answer in time; nothing was accepted."""


class NotTriedError(Exception):
    """A call of a batch that never reached the database: the calls before it took all the time, or the outcome of one
    of them is unknown, and a later call must not overtake it. It was not accepted."""


class OutcomeUnknownError(Exception):
    """The connection broke during COMMIT, and the journal could not be read: the call may or may not be accepted."""

    def __init__(self, operation_id: int | None) -> None:
        super().__init__("the outcome of the commit is unknown")
        self.operation_id = operation_id


class OverloadedError(Exception):
    """Too many calls wait already. A quick refusal is better than a late answer."""
